/* The screen: output that comes whole and output that is cut anywhere leave the same screen, a row that is not told of
 * as damaged is as it was, and nothing crashes. An input: rows, columns, how to cut, then the output. 0xFE, rows,
 * columns in the output change the size. */
#include "screen.h"
#include "fuzz.h"

#include <string.h>

enum { ROWS_MAX = 12, COLUMNS_MAX = 21, RESIZE = 0xFE, LOOK_MAX = 1 << 20, ROW_MAX = LOOK_MAX / ROWS_MAX };

struct look {
    size_t length;
    char bytes[LOOK_MAX];
};

static void look_at_row(struct screen *screen, int row, struct look *look)
{
    look->length += screen_text(screen, row, 0, screen_end(screen, row, false), look->bytes + look->length);
    look->bytes[look->length++] = '\n';
    int end = screen_end(screen, row, true);
    for (int from = 0; from < end;) {
        struct screen_run run = screen_run(screen, row, from, end);
        fuzz_require(run.from == from && run.end > from && run.end <= screen->columns,
                     "runs of style follow each other");
        look->length +=
            (size_t)sprintf(look->bytes + look->length, "%d-%d:%d%d ", run.from, run.end, run.style.bold, run.is_dim);
        from = run.end;
    }
}

static void look_at(struct screen *screen, struct look *look)
{
    int row, column;
    screen_cursor(screen, &row, &column);
    fuzz_require(row >= 0 && row < screen->rows && column >= 0 && column < screen->columns, "the cursor is within");
    look->length =
        (size_t)sprintf(look->bytes, "%d %d %d %d %d %d %d %d %llu %s\n", row, column, screen->rows, screen->columns,
                        screen->is_cursor_visible, screen->is_alternate, screen->is_bracketed_paste, screen->mouse,
                        (unsigned long long)screen->scrolled, screen->title ? screen->title : "");
    for (int i = 0; i < screen->rows; i++)
        look_at_row(screen, i, look);
    fuzz_require(!memchr(look->bytes, 0, look->length), "a row has no NUL");
    fuzz_require(look->length + screen->reply_length < LOOK_MAX, "replies are few");
    if (screen->reply_length)
        memcpy(look->bytes + look->length, screen->replies, screen->reply_length);
    look->length += screen->reply_length;
}

/* Takes in the rows that are damaged, as whoever reads rows does, and holds the others against what they were. */
static void check_damage(struct screen *screen, char seen[ROWS_MAX][ROW_MAX])
{
    char now[ROW_MAX];
    for (int row = 0; row < screen->rows; row++) {
        now[screen_text(screen, row, 0, screen_end(screen, row, false), now)] = '\0';
        fuzz_require(screen->is_row_damaged[row] || !strcmp(now, seen[row]), "a row that has changed is damaged");
        strcpy(seen[row], now);
        screen->is_row_damaged[row] = false;
    }
}

/* The length of the output before the next change of size, at most `length`. */
static size_t output_length(const uint8_t *data, size_t length)
{
    const uint8_t *resize = memchr(data, RESIZE, length);
    return resize ? (size_t)(resize - data) : length;
}

static void run(const uint8_t *data, size_t size, int rows, int columns, uint32_t chance, struct look *look)
{
    struct screen screen = {0};
    static char seen[ROWS_MAX][ROW_MAX];
    screen_open(&screen, rows, columns);
    for (size_t at = 0; at < size;) {
        if (data[at] == RESIZE && size - at > 2) {
            screen_resize(&screen, 1 + data[at + 1] % ROWS_MAX, SCREEN_COLUMNS_MIN + data[at + 2] % (COLUMNS_MAX - 1));
            at += 3;
            continue;
        }
        size_t length = 1 + output_length(data + at + 1, size - at - 1);
        length = fuzz_piece(&chance, length);
        screen_feed(&screen, (const char *)data + at, length);
        at += length;
        check_damage(&screen, seen);
    }
    look_at(&screen, look);
    screen_close(&screen);
    fuzz_require(screen.memory == 0, "a closed screen holds nothing");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct look whole, cut;
    if (size < 3)
        return 0;
    int rows = 1 + data[0] % 8, columns = SCREEN_COLUMNS_MIN + data[1] % 16;
    run(data + 3, size - 3, rows, columns, 0, &whole);
    run(data + 3, size - 3, rows, columns, 1 + data[2], &cut);
    fuzz_require(whole.length == cut.length && !memcmp(whole.bytes, cut.bytes, cut.length),
                 "output that is cut leaves the same screen");
    return 0;
}
