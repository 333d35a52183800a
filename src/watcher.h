/* A growing file of lines: what is new since the last look, in whole lines, byte for byte. Nothing here waits: the
 * owner hears from the kernel (or a timer) that something may have changed, and asks for the next event until there is
 * none. */
#ifndef PARLEY_WATCHER_H
#define PARLEY_WATCHER_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

enum watcher_event {
    WATCHER_NOTHING,   /* no more now */
    WATCHER_LINE,      /* one whole line that is not blank */
    WATCHER_TRUNCATED, /* the file is shorter than what was read of it: reading starts again at 0 */
    WATCHER_REPLACED,  /* another file stands at the path: reading goes on at its 0. The old one was read to its end */
};

struct watcher {
    char *path;
    int fd;            /* -1 while there is no file */
    off_t read_offset; /* in the file: the end of the bytes held */
    char *buffer;      /* holds bytes [start, end) that were read and not yet delivered */
    size_t capacity, start, end;
    size_t searched; /* no line feed in [start, searched) */
};

/* One line without its line feed or CRLF. */
struct watcher_line {
    const char *bytes; /* owned by the watcher, until the next call for it; not NUL-terminated */
    size_t length;
    off_t offset; /* in the file, after the line feed */
};

/* The empty value: watcher_close takes it. */
#define WATCHER_INITIALIZER                                                                                            \
    {                                                                                                                  \
        .fd = -1                                                                                                       \
    }

/* Makes *watcher ready to read `path`, copied, from `offset` on. The file need not exist. Returns 0 or UV_ENOMEM. */
int watcher_open(struct watcher *watcher, const char *path, off_t offset);

/* Returns a watcher_event, with *line filled for WATCHER_LINE, or a negative UV_E*: the next call tries again. Half
 * lines are kept until the rest comes, and dropped at truncation or replacement. Blank lines (spaces and tabs) are
 * skipped. A file rewritten to the length it had, or longer, between two looks cannot be told from one that grew. */
int watcher_next(struct watcher *watcher, struct watcher_line *line);

/* The offset after the last line that was delivered or skipped. */
off_t watcher_offset(const struct watcher *watcher);

/* Whether something stands at the path now. */
bool watcher_exists(const struct watcher *watcher);

/* Releases everything and leaves the empty value. */
void watcher_close(struct watcher *watcher);

#endif
