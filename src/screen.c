/* A screen in memory, on libvterm 0.1 to 0.3. */
#include "screen.h"

#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#define COUNT(array) (sizeof(array) / sizeof *(array))

enum { REPLIES_MAX = 65536 };

static void *allocate(size_t size, void *user)
{
    struct screen *screen = user;
    void *block = calloc(1, size);
    if (!block)
        abort(); /* libvterm would use it all the same */
    screen->memory += malloc_usable_size(block);
    return block;
}

static void release(void *block, void *user)
{
    struct screen *screen = user;
    screen->memory -= malloc_usable_size(block);
    free(block);
}

/* A program that asks without end and is not answered loses the newest replies. */
static void on_reply(const char *bytes, size_t length, void *user)
{
    struct screen *screen = user;
    if (screen->is_probing) {
        screen->is_bracketed_paste = true;
        return;
    }
    size_t needed = screen->reply_length + length;
    if (needed > REPLIES_MAX)
        return;
    if (needed > screen->reply_size) {
        char *grown = realloc(screen->replies, needed * 2);
        if (!grown)
            return;
        screen->replies = grown;
        screen->reply_size = needed * 2;
    }
    memcpy(screen->replies + screen->reply_length, bytes, length);
    screen->reply_length = needed;
}

static int on_damage(VTermRect rect, void *user)
{
    struct screen *screen = user;
    screen->is_damaged = true;
    for (int row = rect.start_row; row < rect.end_row && row < SCREEN_SIZE_MAX; row++)
        screen->is_row_damaged[row] = true;
    return 1;
}

static int on_cursor(VTermPos to, VTermPos from, int visible, void *user)
{
    (void)to, (void)from, (void)visible;
    ((struct screen *)user)->is_damaged = true;
    return 1;
}

/* Owned by the caller; NULL when there is no memory. */
static char *copy_title(const VTermValue *value)
{
#if VTERM_VERSION_MAJOR == 0 && VTERM_VERSION_MINOR < 2
    return strdup(value->string);
#else
    return strndup(value->string.str, value->string.len); /* all of it: escape.c passes on whole sequences */
#endif
}

static int on_property(VTermProp property, VTermValue *value, void *user)
{
    struct screen *screen = user;
    screen->is_damaged = true;
    if (property == VTERM_PROP_CURSORVISIBLE)
        screen->is_cursor_visible = value->boolean;
    else if (property == VTERM_PROP_MOUSE)
        screen->mouse = value->number;
    else if (property == VTERM_PROP_TITLE) {
        free(screen->title);
        screen->title = copy_title(value);
    }
    return 1;
}

static int on_scrolled_line(int columns, const VTermScreenCell *cells, void *user)
{
    (void)columns, (void)cells;
    struct screen *screen = user;
    screen->scrolled += !screen->is_alternate;
    return 1;
}

static const VTermScreenCallbacks callbacks = {
    .damage = on_damage,
    .movecursor = on_cursor,
    .settermprop = on_property,
    .sb_pushline = on_scrolled_line,
};

size_t screen_memory(const struct screen *screen)
{
    size_t primary = screen->primary ? strlen(screen->primary) + 1 : 0;
    size_t title = screen->title ? strlen(screen->title) + 1 : 0;
    return sizeof *screen + screen->memory + screen->reply_size + primary + title;
}

static void write_string(struct screen *screen, const char *bytes)
{
    vterm_input_write(screen->terminal, bytes, strlen(bytes));
}

/* Every row, each with a line feed at its end; owned by the caller. NULL when there is no memory. */
static char *copy_rows(const struct screen *screen)
{
    char *text = malloc((size_t)screen->rows * ((size_t)screen->columns * SCREEN_CELL_BYTES + 1) + 1), *end = text;
    for (int row = 0; text && row < screen->rows; row++) {
        end += screen_raw_text(screen, row, 0, screen_end(screen, row, false), end);
        end = stpcpy(end, "\n");
    }
    char *fitted = text ? realloc(text, (size_t)(end - text) + 1) : NULL;
    return fitted ? fitted : text;
}

/* Writes a row of that copy as far as the screen reaches now, and returns what follows its line feed. */
static const char *write_row(struct screen *screen, const char *text)
{
    const char *end = strchr(text, '\n');
    screen->is_at_edge = false;
    while (text < end) {
        size_t length = utf8proc_utf8class[(unsigned char)*text];
        int row, column, width = screen_width_of(screen, text, length);
        screen_cursor(screen, &row, &column);
        if (width && (screen->is_at_edge || column + width > screen->columns))
            break;
        screen_write_text(screen, text, length);
        text += length;
    }
    return end + 1;
}

/* libvterm's alternate screen doubles what a session costs, and the real program lives on it. So there is one screen:
 * the primary one's text is kept while the other is shown, and its colours are not. */
static void enter_alternate(struct screen *screen)
{
    if (!screen->is_alternate)
        screen->primary = copy_rows(screen);
    screen->is_alternate = screen->is_damaged = true;
    write_string(screen, "\0337\033[2J");
}

/* libvterm brings back a place that a screen made smaller may lack, which any CSI puts inside, and whether the cursor
 * was visible, which is none of this sequence's business. */
static void restore_cursor(struct screen *screen)
{
    bool is_visible = screen->is_cursor_visible;
    write_string(screen, "\0338");
    write_string(screen, is_visible ? "\033[?25h" : "\033[?25l");
}

static void leave_alternate(struct screen *screen)
{
    const char *text = screen->primary;
    if (screen->is_alternate) {
        write_string(screen, "\033[?6l\033[s\033[r\033[4l\033[m\033(B\017\033[2J");
        screen->margins[0] = '\0';
        for (int row = 0; text && *text && row < screen->rows; row++) {
            char place[16];
            snprintf(place, sizeof place, "\033[%dH", row + 1);
            write_string(screen, place);
            text = write_row(screen, text);
        }
        free(screen->primary);
        screen->primary = NULL;
        screen->is_alternate = false;
        screen->is_damaged = true;
    }
    restore_cursor(screen);
}

static bool is_one_of(const char *const *known, const char *bytes, size_t length)
{
    while (*known && (length != strlen(*known) || memcmp(bytes, *known, length)))
        known++;
    return *known;
}

/* Answers the question for a setting that libvterm has not: it takes the question's length for a pointer then. */
static bool answer_unknown(struct screen *screen, const char *bytes, size_t length)
{
    static const char *const known[] = {"m", "r", "s", " q", "\"q", NULL};
    static const char question[] = "\033P$q", no[] = "\033P0$r\033\\";
    size_t head = strlen(question);
    if (length <= head || memcmp(bytes, question, head) || is_one_of(known, bytes + head, length - head - 1))
        return false;
    on_reply(no, strlen(no), screen);
    return true;
}

/* libvterm does not tell of its margins. escape.c writes no sequence longer than there is room for. */
static void note_margins(struct screen *screen, const char *bytes, size_t length)
{
    bool is_reset = length == 2 && bytes[1] == 'c';
    bool is_set = length > 2 && bytes[1] == '[' && bytes[length - 1] == 'r' && bytes[2] != '?';
    if (is_set && length < sizeof screen->margins)
        memcpy(screen->margins, bytes, length);
    if (is_set || is_reset)
        screen->margins[is_set && length < sizeof screen->margins && length > 3 ? length : 0] = '\0';
}

static void on_output(void *user, const char *bytes, size_t length)
{
    static const struct {
        const char *sequence;
        void (*handle)(struct screen *screen);
    } ours[] = {{"\0338", restore_cursor}, {"\033[?1049h", enter_alternate}, {"\033[?1049l", leave_alternate}};
    struct screen *screen = user;

    if (*bytes != '\033') {
        screen_write_text(screen, bytes, length);
        return;
    }
    note_margins(screen, bytes, length);
    if (bytes[length - 1] == 'J') /* "erase above" in the first row: libvterm merges what it damages by columns only */
        screen->is_row_damaged[0] = true;
    size_t i = 0;
    while (i < COUNT(ours) && (length != strlen(ours[i].sequence) || memcmp(bytes, ours[i].sequence, length)))
        i++;
    if (i < COUNT(ours))
        ours[i].handle(screen);
    else if (!answer_unknown(screen, bytes, length))
        vterm_input_write(screen->terminal, bytes, length);
    screen->is_joinable &= bytes[length - 1] == 'm'; /* colours do not move the cursor */
}

/* libvterm keeps bracketed paste to itself, but begins a paste with a marker only when it is on. */
static void probe_paste(struct screen *screen)
{
    bool before = screen->is_bracketed_paste;
    screen->is_bracketed_paste = false;
    screen->is_probing = true;
    vterm_keyboard_start_paste(screen->terminal);
    screen->is_probing = false;
    screen->is_damaged |= before != screen->is_bracketed_paste;
}

static void settle(struct screen *screen)
{
    vterm_screen_flush_damage(screen->cells);
    probe_paste(screen);
    screen->generation += screen->is_damaged;
    screen->is_damaged = false;
}

void screen_open(struct screen *screen, int rows, int columns)
{
    static VTermAllocatorFunctions allocator = {.malloc = allocate, .free = release};

    *screen = (struct screen){.rows = rows, .columns = columns};
    memset(screen->is_row_damaged, true, sizeof screen->is_row_damaged);
    screen->escape.output = on_output;
    screen->escape.user = screen;
    screen->terminal = vterm_new_with_allocator(rows, columns, &allocator, screen);
    vterm_set_utf8(screen->terminal, true);
    vterm_output_set_callback(screen->terminal, on_reply, screen);
    screen->measure = vterm_new_with_allocator(1, 4, &allocator, screen);
    vterm_set_utf8(screen->measure, true);
    vterm_state_reset(vterm_obtain_state(screen->measure), true);
    screen->cells = vterm_obtain_screen(screen->terminal);
    vterm_screen_set_callbacks(screen->cells, &callbacks, screen);
    vterm_screen_set_damage_merge(screen->cells, VTERM_DAMAGE_ROW);
    vterm_screen_reset(screen->cells, true);
    settle(screen);
}

void screen_close(struct screen *screen)
{
    if (screen->terminal) {
        vterm_free(screen->terminal);
        vterm_free(screen->measure);
    }
    free(screen->replies);
    free(screen->title);
    free(screen->primary);
    *screen = (struct screen){0};
}

void screen_feed(struct screen *screen, const char *bytes, size_t length)
{
    escape_feed(&screen->escape, bytes, length);
    settle(screen);
}

void screen_resize(struct screen *screen, int rows, int columns)
{
    char place[32];
    int row, column;

    if (rows == screen->rows && columns == screen->columns)
        return;
    /* Margins that lie outside the new size, and a cursor that does, make libvterm write outside its memory. */
    screen_cursor(screen, &row, &column);
    snprintf(place, sizeof place, "\033[%d;%dH", row + 1, column + 1);
    write_string(screen, "\033[?6l\033[s\033[r");
    screen->margins[0] = '\0';
    write_string(screen, place);
    vterm_set_size(screen->terminal, rows, columns);
    write_string(screen, "\033[0n");
    screen->rows = rows;
    screen->columns = columns;
    memset(screen->is_row_damaged, true, sizeof screen->is_row_damaged);
    screen->is_joinable = false;
    screen->is_damaged = true;
    settle(screen);
}

void screen_cursor(const struct screen *screen, int *row, int *column)
{
    VTermPos place;
    vterm_state_get_cursorpos(vterm_obtain_state(screen->terminal), &place);
    *row = place.row;
    *column = place.col;
}
