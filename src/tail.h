/* A growing file of lines: what is new since the last look, in whole lines, byte for byte. Nothing here waits: the
 * owner hears from the kernel (or a timer) that something may have changed, and asks for the next event until there is
 * none. */
#ifndef PARLEY_TAIL_H
#define PARLEY_TAIL_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

enum tail_event {
    TAIL_NOTHING,   /* no more now */
    TAIL_LINE,      /* one whole line that is not blank */
    TAIL_TRUNCATED, /* the file is shorter than what was read of it: reading starts again at 0 */
    TAIL_REPLACED,  /* another file stands at the path: reading goes on at its 0. The old one was read to its end */
};

struct tail {
    char *path;
    int fd;            /* -1 while there is no file */
    off_t read_offset; /* in the file: the end of the bytes held */
    char *buffer;      /* holds bytes [start, end) that were read and not yet delivered */
    size_t capacity, start, end;
    size_t searched; /* no line feed in [start, searched) */
};

/* One line without its line feed or CRLF. */
struct tail_line {
    const char *bytes; /* owned by the tail, until the next call for it; not NUL-terminated */
    size_t length;
    off_t offset; /* in the file, after the line feed */
};

/* The empty value: tail_close takes it. */
#define TAIL_INITIALIZER                                                                                               \
    {                                                                                                                  \
        .fd = -1                                                                                                       \
    }

/* Makes *tail ready to read `path`, copied, from `offset` on. The file need not exist. Returns 0 or UV_ENOMEM. */
int tail_open(struct tail *tail, const char *path, off_t offset);

/* Returns a tail_event, with *line filled for TAIL_LINE, or a negative UV_E*: the next call tries again. Half
 * lines are kept until the rest comes, and dropped at truncation or replacement. Blank lines (spaces and tabs) are
 * skipped. A file rewritten to the length it had, or longer, between two looks cannot be told from one that grew. */
int tail_next(struct tail *tail, struct tail_line *line);

/* The offset after the last line that was delivered or skipped. */
off_t tail_offset(const struct tail *tail);

/* How many bytes are held that were not delivered: of a line without an end, once tail_next has said TAIL_NOTHING. */
size_t tail_held(const struct tail *tail);

/* Whether something stands at the path now. */
bool tail_exists(const struct tail *tail);

/* Releases everything and leaves the empty value. */
void tail_close(struct tail *tail);

#endif
