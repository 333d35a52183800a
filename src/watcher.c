/* Reading a file that grows, is truncated, replaced, removed, or not there yet. */
#include "watcher.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <uv.h>

#define CHUNK 65536

static void reset_buffer(struct watcher *watcher)
{
    watcher->start = watcher->end = watcher->searched = 0;
}

/* Returns 0 with the file open or still missing (fd is -1), or a negative UV_E*. */
static int open_file(struct watcher *watcher)
{
    /* O_NONBLOCK: a FIFO at the path must not hold up the loop before it is refused. */
    int fd = open(watcher->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return errno == ENOENT ? 0 : -errno;
    struct stat status;
    int error = fstat(fd, &status) < 0 ? -errno : 0;
    if (!error && !S_ISREG(status.st_mode))
        error = S_ISDIR(status.st_mode) ? UV_EISDIR : UV_EINVAL;
    if (error)
        close(fd);
    else
        watcher->fd = fd;
    return error;
}

/* Takes the next line out of the bytes held. Returns whether there is one. */
static bool take_line(struct watcher *watcher, struct watcher_line *line)
{
    const char *feed;
    while ((feed = memchr(watcher->buffer + watcher->searched, '\n', watcher->end - watcher->searched))) {
        line->bytes = watcher->buffer + watcher->start;
        line->length = (size_t)(feed - line->bytes);
        watcher->start = watcher->searched = (size_t)(feed - watcher->buffer) + 1;
        line->offset = watcher_offset(watcher);
        if (line->length > 0 && line->bytes[line->length - 1] == '\r')
            line->length--;
        for (size_t i = 0; i < line->length; i++) {
            if (line->bytes[i] != ' ' && line->bytes[i] != '\t')
                return true;
        }
    }
    watcher->searched = watcher->end;
    return false;
}

/* Makes room for reading. What is held is half a line, so it moves once a line; the buffer doubles while that line
 * outgrows it, and falls back to one chunk after a giant has gone. Returns 0 or UV_ENOMEM. */
static int make_room(struct watcher *watcher)
{
    size_t held = watcher->end - watcher->start;
    if (watcher->start > 0) {
        memmove(watcher->buffer, watcher->buffer + watcher->start, held);
        watcher->searched -= watcher->start;
        watcher->start = 0;
        watcher->end = held;
    }
    size_t wanted = watcher->capacity;
    if (wanted - held < CHUNK / 2)
        wanted = wanted < CHUNK ? CHUNK : wanted * 2;
    else if (held < CHUNK / 2)
        wanted = CHUNK;
    if (wanted == watcher->capacity)
        return 0;
    char *buffer = realloc(watcher->buffer, wanted);
    if (!buffer)
        return UV_ENOMEM;
    watcher->buffer = buffer;
    watcher->capacity = wanted;
    return 0;
}

/* Returns the number of bytes read, 0 at the end of the file, or a negative UV_E*. */
static ssize_t read_more(struct watcher *watcher)
{
    int error = make_room(watcher);
    if (error)
        return error;
    ssize_t count;
    do {
        count =
            pread(watcher->fd, watcher->buffer + watcher->end, watcher->capacity - watcher->end, watcher->read_offset);
    } while (count < 0 && errno == EINTR);
    if (count < 0)
        return -errno;
    watcher->end += (size_t)count;
    watcher->read_offset += count;
    return count;
}

/* Whether the path leads to another file than the open one. The open descriptor keeps the old inode number in use, so
 * it cannot come back as a new file's. A path that leads nowhere is no replacement: whoever has the old file open may
 * go on writing it. Returns 1, 0, or a negative UV_E*. */
static int is_replaced(const struct watcher *watcher, const struct stat *open_status)
{
    struct stat status;
    if (stat(watcher->path, &status) < 0)
        return errno == ENOENT || errno == ENOTDIR ? 0 : -errno;
    return status.st_ino != open_status->st_ino || status.st_dev != open_status->st_dev;
}

/* What the end of the file means. Returns a watcher_event, or a negative UV_E*. */
static int look_around(struct watcher *watcher)
{
    struct stat status;
    if (fstat(watcher->fd, &status) < 0)
        return -errno;
    if (status.st_size < watcher->read_offset) {
        reset_buffer(watcher);
        watcher->read_offset = 0;
        return WATCHER_TRUNCATED;
    }
    int replaced = is_replaced(watcher, &status);
    if (replaced <= 0)
        return replaced;
    /* The old file may have grown between the last read and the replacement. */
    ssize_t count = read_more(watcher);
    if (count != 0)
        return count < 0 ? (int)count : WATCHER_LINE;
    int old = watcher->fd;
    watcher->fd = -1;
    int error = open_file(watcher);
    if (error || watcher->fd == -1) {
        watcher->fd = old;
        return error;
    }
    close(old);
    reset_buffer(watcher);
    watcher->read_offset = 0;
    return WATCHER_REPLACED;
}

int watcher_open(struct watcher *watcher, const char *path, off_t offset)
{
    *watcher = (struct watcher)WATCHER_INITIALIZER;
    watcher->path = strdup(path);
    watcher->read_offset = offset;
    return watcher->path ? make_room(watcher) : UV_ENOMEM;
}

int watcher_next(struct watcher *watcher, struct watcher_line *line)
{
    for (;;) {
        if (take_line(watcher, line))
            return WATCHER_LINE;
        if (watcher->fd == -1) {
            int error = open_file(watcher);
            if (error || watcher->fd == -1)
                return error;
        }
        ssize_t count = read_more(watcher);
        if (count < 0)
            return (int)count;
        if (count > 0)
            continue;
        int event = look_around(watcher);
        if (event != WATCHER_LINE)
            return event;
    }
}

off_t watcher_offset(const struct watcher *watcher)
{
    return watcher->read_offset - (off_t)(watcher->end - watcher->start);
}

bool watcher_exists(const struct watcher *watcher)
{
    struct stat status;
    return stat(watcher->path, &status) == 0;
}

void watcher_close(struct watcher *watcher)
{
    if (watcher->fd != -1)
        close(watcher->fd);
    free(watcher->path);
    free(watcher->buffer);
    *watcher = (struct watcher)WATCHER_INITIALIZER;
}
