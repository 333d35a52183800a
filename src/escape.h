/* Cuts output into characters and whole escape sequences, and passes on only what libvterm 0.1 to 0.3 survives.
 * That library crashes or hangs on some input that any program may print, and the host has many sessions to lose. What
 * is held back or rewritten, and why, stands in escape.c beside the code that does it. */
#ifndef PARLEY_ESCAPE_H
#define PARLEY_ESCAPE_H

#include "characters.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { ESCAPE_SEQUENCE_MAX = 1024, ESCAPE_TEXT_MAX = 1024 };

/* SGR 11, "first alternative font", stands for SGR 2, "dim", which libvterm 0.1 does not know. */
enum { ESCAPE_DIM_FONT = 1 };

/* Receives printable ASCII, or lines and blocks (U+2500 to U+259F), or one other character, or a whole sequence, which
 * alone begins with ESC; `bytes` is valid until it returns. libvterm takes a text that comes in two pieces otherwise
 * than one that comes whole, so no piece of it says where the output was cut but those of ASCII and of lines, for which
 * it is all the same. */
typedef void escape_output(void *user, const char *bytes, size_t length);

enum escape_state {
    ESCAPE_GROUND,
    ESCAPE_ESCAPE,       /* ESC was seen */
    ESCAPE_CSI,          /* ESC [ */
    ESCAPE_STRING,       /* OSC or DCS, or one that is thrown away */
    ESCAPE_STRING_ESCAPE /* ESC in a string, which ends it when a backslash follows */
};

/* Zero is its initial state. Owns nothing. */
struct escape {
    enum escape_state state;
    bool discard; /* the present sequence is too long, or malformed, or of a kind that libvterm lacks */
    struct characters characters;
    size_t sequence_length, text_length;
    char sequence[ESCAPE_SEQUENCE_MAX], text[ESCAPE_TEXT_MAX];
    escape_output *output;
    void *user;
};

/* Takes the next bytes, cut anywhere. All text is passed on before this returns. */
void escape_feed(struct escape *escape, const char *bytes, size_t length);

/* The most that is held back: a sequence without its end, or a joiner and a character without its. */
enum { ESCAPE_UNFINISHED_MAX = ESCAPE_SEQUENCE_MAX + 8 };

/* Writes what has come and is not passed on yet, as far as it is kept, and returns its length: whoever reads on from
 * here has to be told of it first. */
size_t escape_unfinished(const struct escape *escape, char out[ESCAPE_UNFINISHED_MAX]);

#endif
