/* Writes text so that libvterm 0.1 to 0.3 shows it right, marks in the last column too. */
#include "screen.h"

#include <stdio.h>
#include <string.h>

/* One that means nothing: it takes no column. */
#define VARIATION_SELECTOR "\ufe00"

enum { FIRST_MARK_BYTE = 0xcc, CHARACTER_MAX = 4 }; /* U+0300 begins with it; the bytes of one character at most */

static VTermPos cursor_of(const struct screen *screen)
{
    VTermPos place;
    vterm_state_get_cursorpos(vterm_obtain_state(screen->terminal), &place);
    return place;
}

int screen_width_of(struct screen *screen, const char *bytes, size_t length)
{
    if ((unsigned char)*bytes < FIRST_MARK_BYTE)
        return 1;
    struct screen_width *known = &screen->widths[(unsigned char)bytes[length - 1] % SCREEN_WIDTHS];
    char key[CHARACTERS_BYTES_MAX] = {0};
    memcpy(key, bytes, length);
    if (memcmp(known->bytes, key, sizeof key) != 0) {
        VTermPos place;
        vterm_input_write(screen->measure, "\ra", 2);
        vterm_input_write(screen->measure, bytes, length);
        vterm_state_get_cursorpos(vterm_obtain_state(screen->measure), &place);
        memcpy(known->bytes, key, sizeof key);
        known->width = place.col - 1;
    }
    return known->width;
}

/* libvterm joins a mark only where the character before it has moved the cursor, and would put it into the next row. So
 * both are put again, at once. What comes first takes no column and is overwritten; it is there because libvterm reads
 * as UTF-8 what begins beyond ASCII, and by the program's character set what does not. */
static void join_at_edge(struct screen *screen, const char *mark, size_t length)
{
    VTermPos place = cursor_of(screen);
    VTermScreenCell cell = {.chars = {0}};
    char text[sizeof "\033[1000G" VARIATION_SELECTOR + SCREEN_CELL_BYTES];

    vterm_screen_get_cell(screen->cells, place, &cell);
    char *end = text + sprintf(text, "\033[%dG" VARIATION_SELECTOR, place.col + 1);
    for (int i = 0; i < VTERM_MAX_CHARS_PER_CELL - 1 && cell.chars[i]; i++)
        end = characters_put_utf8(end, cell.chars[i]);
    memcpy(end, mark, length);
    vterm_input_write(screen->terminal, text, (size_t)(end - text) + length);
}

/* libvterm takes these for two columns wide in what is put at once. */
static bool is_wide_mark(const char *bytes, size_t length)
{
    return length == 3 && (!memcmp(bytes, "\u3099", 3) || !memcmp(bytes, "\u309a", 3) ||
                           (memcmp(bytes, "\u302a", 3) >= 0 && memcmp(bytes, "\u302f", 3) <= 0));
}

/* A mark that joins nothing is not shown, nor one for which the cell has no room. */
static void write_mark(struct screen *screen, const char *bytes, size_t length)
{
    if (!screen->is_joinable || ++screen->marks >= VTERM_MAX_CHARS_PER_CELL)
        return;
    if (!screen->is_at_edge)
        vterm_input_write(screen->terminal, bytes, length);
    else if (!is_wide_mark(bytes, length))
        join_at_edge(screen, bytes, length);
}

static bool is_empty(const struct screen *screen, VTermPos place)
{
    VTermScreenCell cell = {.chars = {0}};
    vterm_screen_get_cell(screen->cells, place, &cell);
    return cell.chars[0] == 0;
}

/* The last character is written alone: when the cursor stays, it filled the row. (Or it began a new last row, as wide
 * as the old one was full; then nothing stands at the cursor.) */
void screen_write_text(struct screen *screen, const char *bytes, size_t length)
{
    bool is_run = (unsigned char)*bytes < 0x80 || length > CHARACTER_MAX;
    size_t head = is_run ? length - 1 : 0;

    while (head && ((unsigned char)bytes[head] & 0xc0) == 0x80)
        head--;
    if (!is_run && screen_width_of(screen, bytes, length) == 0) {
        write_mark(screen, bytes, length);
        return;
    }
    vterm_input_write(screen->terminal, bytes, head);
    VTermPos before = cursor_of(screen);
    vterm_input_write(screen->terminal, bytes + head, length - head);
    VTermPos after = cursor_of(screen);
    screen->is_joinable = bytes[head] != '\x7f' && (unsigned char)bytes[head] >= ' ';
    screen->is_at_edge = vterm_pos_cmp(before, after) == 0 && !is_empty(screen, after);
    screen->marks = 0;
}
