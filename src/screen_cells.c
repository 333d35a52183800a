/* Reads a screen's cells: text, and what it looks like. */
#include "screen.h"

#include <utf8proc.h>

/* libvterm writes it into the cell that the right half of a wide character covers. */
static const uint32_t COVERED = (uint32_t)-1;

/* Blank where there is none, for a reader may have asked how many there are before the screen was made smaller or
 * closed: Lua runs finalizers while it makes the strings. */
static VTermScreenCell get_cell(const struct screen *screen, int row, int column)
{
    VTermScreenCell cell = {.chars = {0}};
    if (row < screen->rows && column < screen->columns)
        vterm_screen_get_cell(screen->cells, (VTermPos){.row = row, .col = column}, &cell);
    if (cell.chars[0] == COVERED)
        cell.chars[0] = 0;
    /* libvterm goes by the next cell, which may be a leftover of an older character. */
    if (utf8proc_charwidth((utf8proc_int32_t)cell.chars[0]) < 2)
        cell.width = 1;
    return cell;
}

static bool is_blank(const VTermScreenCell *cell)
{
    return cell->chars[0] == 0 || (cell->chars[0] == ' ' && cell->chars[1] == 0);
}

/* Whether a person could tell the cell from an empty one. */
static bool is_visible(const VTermScreenCell *cell)
{
    return !is_blank(cell) || cell->attrs.reverse || cell->attrs.underline || cell->attrs.strike ||
           !VTERM_COLOR_IS_DEFAULT_BG(&cell->bg);
}

/* The column from which on nothing was ever written in a row: found in halves, for libvterm looks at a whole rest of a
 * row in less time than it hands out two cells. */
static int written_end(const struct screen *screen, int row)
{
    int least = 0, most = row < screen->rows ? screen->columns : 0;
    if (most && vterm_screen_is_eol(screen->cells, (VTermPos){.row = row, .col = 0}))
        return 0;
    while (least < most) {
        int column = (least + most) / 2;
        if (vterm_screen_is_eol(screen->cells, (VTermPos){.row = row, .col = column}))
            most = column;
        else
            least = column + 1;
    }
    return most;
}

int screen_end(const struct screen *screen, int row, bool with_style)
{
    int end = with_style ? screen->columns : written_end(screen, row);
    for (; end > 0; end--) {
        VTermScreenCell cell = get_cell(screen, row, end - 1);
        if (with_style ? is_visible(&cell) : !is_blank(&cell))
            break;
    }
    return end;
}

static size_t put_cells(const struct screen *screen, int row, int from, int end, char *out, bool is_raw)
{
    char *tail = out;
    VTermScreenCell cell;

    for (int column = from; column < end; column += cell.width) {
        cell = get_cell(screen, row, column);
        if (!cell.chars[0])
            *tail++ = ' ';
        for (int i = 0; i < VTERM_MAX_CHARS_PER_CELL && cell.chars[i]; i++)
            tail = is_raw ? characters_put_utf8(tail, cell.chars[i])
                          : characters_put_text(&screen->escape.characters, tail, cell.chars[i]);
    }
    return (size_t)(tail - out);
}

size_t screen_text(const struct screen *screen, int row, int from, int end, char *out)
{
    return put_cells(screen, row, from, end, out, false);
}

size_t screen_raw_text(const struct screen *screen, int row, int from, int end, char *out)
{
    return put_cells(screen, row, from, end, out, true);
}

static bool are_alike(const VTermScreenCell *a, const VTermScreenCell *b)
{
    return a->attrs.bold == b->attrs.bold && a->attrs.underline == b->attrs.underline &&
           a->attrs.italic == b->attrs.italic && a->attrs.reverse == b->attrs.reverse &&
           a->attrs.strike == b->attrs.strike && a->attrs.font == b->attrs.font &&
           vterm_color_is_equal(&a->fg, &b->fg) && vterm_color_is_equal(&a->bg, &b->bg);
}

int screen_last(const struct screen *screen, int *row)
{
    VTermScreenCell cell = {.chars = {0}};
    int column;

    screen_cursor(screen, row, &column);
    if (!screen->is_joinable)
        return -1;
    for (column -= !screen->is_at_edge; column > 0; column--) {
        vterm_screen_get_cell(screen->cells, (VTermPos){.row = *row, .col = column}, &cell);
        if (cell.chars[0] != COVERED)
            break;
    }
    return column;
}

struct screen_run screen_run(const struct screen *screen, int row, int from, int end)
{
    VTermScreenCell first = get_cell(screen, row, from), next = first;
    int column = from;
    for (; column < end && are_alike(&first, &next); next = get_cell(screen, row, column))
        column += next.width;
    return (struct screen_run){
        .from = from,
        .end = column,
        .style = first.attrs,
        .is_dim = first.attrs.font == ESCAPE_DIM_FONT,
        .foreground = first.fg,
        .background = first.bg,
    };
}

static int pen_value(const struct screen *screen, VTermAttr attribute, VTermValue *value)
{
    vterm_state_get_penattr(vterm_obtain_state(screen->terminal), attribute, value);
    return value->boolean;
}

struct screen_run screen_pen(const struct screen *screen)
{
    VTermValue value = {0};
    struct screen_run pen = {0};
    pen.style.bold = pen_value(screen, VTERM_ATTR_BOLD, &value) != 0;
    pen.style.italic = pen_value(screen, VTERM_ATTR_ITALIC, &value) != 0;
    pen.style.reverse = pen_value(screen, VTERM_ATTR_REVERSE, &value) != 0;
    pen.style.strike = pen_value(screen, VTERM_ATTR_STRIKE, &value) != 0;
    pen_value(screen, VTERM_ATTR_UNDERLINE, &value);
    pen.style.underline = value.number != 0;
    pen_value(screen, VTERM_ATTR_FONT, &value);
    pen.is_dim = value.number == ESCAPE_DIM_FONT;
    pen_value(screen, VTERM_ATTR_FOREGROUND, &value);
    pen.foreground = value.color;
    pen_value(screen, VTERM_ATTR_BACKGROUND, &value);
    pen.background = value.color;
    return pen;
}
