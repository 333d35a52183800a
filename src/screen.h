/* What a person would see: bytes in, rows of text, cursor, modes and title out, and the replies that a terminal owes
 * its program. Rows and columns count from 0 here, and from 1 in Lua. */
#ifndef PARLEY_SCREEN_H
#define PARLEY_SCREEN_H

#include "escape.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <vterm.h>

/* libvterm crashes on one column (a wide character needs two), and each cell costs 36 bytes. */
enum { SCREEN_COLUMNS_MIN = 2, SCREEN_SIZE_MAX = 1000 };

/* The most bytes that one cell's text can take. */
enum { SCREEN_CELL_BYTES = VTERM_MAX_CHARS_PER_CELL * CHARACTERS_BYTES_MAX };

/* How wide a character is for libvterm. Programs write the same few again and again. */
struct screen_width {
    char bytes[CHARACTERS_BYTES_MAX];
    int width;
};

enum { SCREEN_WIDTHS = 64 };

/* Lives at one address from screen_open to screen_close, for libvterm points back to it. Empty: zero. */
struct screen {
    VTerm *terminal; /* owned; NULL when closed */
    VTerm *measure;  /* owned: one row, which tells how wide a character is for libvterm */
    VTermScreen *cells;
    struct escape escape;
    char *replies, *title; /* owned; NULL while there are none */
    char *primary;         /* owned: the primary screen's rows while the alternate one is shown */
    size_t reply_length, reply_size;
    size_t memory;       /* bytes that libvterm holds */
    uint64_t scrolled;   /* lines pushed off the top of the primary screen */
    uint64_t generation; /* goes up when a cell, the cursor, a mode, the title or the size may have changed */
    int rows, columns;
    int mouse;                                 /* VTERM_PROP_MOUSE_* */
    int marks;                                 /* how many came for the last character */
    struct screen_width widths[SCREEN_WIDTHS]; /* of characters that were measured, by their last byte */
    bool is_joinable; /* the last character is all that came, but for marks and colours: a mark joins it */
    bool is_at_edge;  /* and it fills the row */
    bool is_cursor_visible, is_alternate, is_bracketed_paste;
    bool is_damaged, is_probing;
    bool is_row_damaged[SCREEN_SIZE_MAX];     /* the row may have changed since whoever reads rows has said otherwise */
    char margins[sizeof "\033[99999;99999r"]; /* the sequence that has set them; empty: the screen's edges */
};

/* The cells from..end-1, which look alike. */
struct screen_run {
    int from, end;
    VTermScreenCellAttrs style;
    bool is_dim;
    VTermColor foreground, background;
};

/* The size is within the limits above. Memory running out ends the process: libvterm does not survive it either. */
void screen_open(struct screen *screen, int rows, int columns);

/* Idempotent. */
void screen_close(struct screen *screen);

void screen_feed(struct screen *screen, const char *bytes, size_t length);

/* As a person does it by dragging the corner: margins are reset, text is not wrapped anew. */
void screen_resize(struct screen *screen, int rows, int columns);

/* Writes printable ASCII, lines and blocks, or one other character, where the cursor stands: what escape.h calls a
 * piece of text. */
void screen_write_text(struct screen *screen, const char *bytes, size_t length);

/* How many columns libvterm gives a character behind another: 0 for a mark, which joins that one. */
int screen_width_of(struct screen *screen, const char *bytes, size_t length);

void screen_cursor(const struct screen *screen, int *row, int *column);

/* The place of the character that a mark would join, were it to come next: the column, or -1 when there is none. */
int screen_last(const struct screen *screen, int *row);

/* The bytes that the screen holds, itself included. */
size_t screen_memory(const struct screen *screen);

/* One more than the last column that is not blank, 0 for an empty row. `with_style` counts blanks that show, as in a
 * cursor drawn by a program. */
int screen_end(const struct screen *screen, int row, bool with_style);

/* Writes the UTF-8 text of the cells from..end-1, blanks as spaces, and returns its length. `out` has room for
 * SCREEN_CELL_BYTES a cell. */
size_t screen_text(const struct screen *screen, int row, int from, int end, char *out);

/* The same as libvterm has it, with the stand-ins of characters.h. */
size_t screen_raw_text(const struct screen *screen, int row, int from, int end, char *out);

/* The run that begins at the column `from`, cut at `end`. */
struct screen_run screen_run(const struct screen *screen, int row, int from, int end);

/* How the next character will look; `from` and `end` say nothing. */
struct screen_run screen_pen(const struct screen *screen);

#endif
