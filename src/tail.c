/* Reading a file that grows, is truncated, replaced, removed, or not there yet. */
#include "tail.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <uv.h>

#define CHUNK 65536

static void reset_buffer(struct tail *tail)
{
    tail->start = tail->end = tail->searched = 0;
}

/* Returns 0 with the file open or still missing (fd is -1), or a negative UV_E*. */
static int open_file(struct tail *tail)
{
    /* O_NONBLOCK: a FIFO at the path must not hold up the loop before it is refused. */
    int fd = open(tail->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return errno == ENOENT ? 0 : -errno;
    struct stat status;
    int error = fstat(fd, &status) < 0 ? -errno : 0;
    if (!error && !S_ISREG(status.st_mode))
        error = S_ISDIR(status.st_mode) ? UV_EISDIR : UV_EINVAL;
    if (error)
        close(fd);
    else
        tail->fd = fd;
    return error;
}

/* Takes the next line out of the bytes held. Returns whether there is one. */
static bool take_line(struct tail *tail, struct tail_line *line)
{
    const char *feed;
    while ((feed = memchr(tail->buffer + tail->searched, '\n', tail->end - tail->searched))) {
        line->bytes = tail->buffer + tail->start;
        line->length = (size_t)(feed - line->bytes);
        tail->start = tail->searched = (size_t)(feed - tail->buffer) + 1;
        line->offset = tail_offset(tail);
        if (line->length > 0 && line->bytes[line->length - 1] == '\r')
            line->length--;
        for (size_t i = 0; i < line->length; i++) {
            if (line->bytes[i] != ' ' && line->bytes[i] != '\t')
                return true;
        }
    }
    tail->searched = tail->end;
    return false;
}

/* Makes room for reading. What is held is half a line, so it moves once a line; the buffer doubles while that line
 * outgrows it, and falls back to one chunk after a giant has gone. Returns 0 or UV_ENOMEM. */
static int make_room(struct tail *tail)
{
    size_t held = tail->end - tail->start;
    if (tail->start > 0) {
        memmove(tail->buffer, tail->buffer + tail->start, held);
        tail->searched -= tail->start;
        tail->start = 0;
        tail->end = held;
    }
    size_t wanted = tail->capacity;
    if (wanted - held < CHUNK / 2)
        wanted = wanted < CHUNK ? CHUNK : wanted * 2;
    else if (held < CHUNK / 2)
        wanted = CHUNK;
    if (wanted == tail->capacity)
        return 0;
    char *buffer = realloc(tail->buffer, wanted);
    if (!buffer)
        return UV_ENOMEM;
    tail->buffer = buffer;
    tail->capacity = wanted;
    return 0;
}

/* Returns the number of bytes read, 0 at the end of the file, or a negative UV_E*. */
static ssize_t read_more(struct tail *tail)
{
    int error = make_room(tail);
    if (error)
        return error;
    ssize_t count;
    do {
        count = pread(tail->fd, tail->buffer + tail->end, tail->capacity - tail->end, tail->read_offset);
    } while (count < 0 && errno == EINTR);
    if (count < 0)
        return -errno;
    tail->end += (size_t)count;
    tail->read_offset += count;
    return count;
}

/* Whether the path leads to another file than the open one. The open descriptor keeps the old inode number in use, so
 * it cannot come back as a new file's. A path that leads nowhere is no replacement: whoever has the old file open may
 * go on writing it. Returns 1, 0, or a negative UV_E*. */
static int is_replaced(const struct tail *tail, const struct stat *open_status)
{
    struct stat status;
    if (stat(tail->path, &status) < 0)
        return errno == ENOENT || errno == ENOTDIR ? 0 : -errno;
    return status.st_ino != open_status->st_ino || status.st_dev != open_status->st_dev;
}

/* What the end of the file means. Returns a tail_event, or a negative UV_E*. */
static int look_around(struct tail *tail)
{
    struct stat status;
    if (fstat(tail->fd, &status) < 0)
        return -errno;
    if (status.st_size < tail->read_offset) {
        reset_buffer(tail);
        tail->read_offset = 0;
        return TAIL_TRUNCATED;
    }
    int replaced = is_replaced(tail, &status);
    if (replaced <= 0)
        return replaced;
    /* The old file may have grown between the last read and the replacement. */
    ssize_t count = read_more(tail);
    if (count != 0)
        return count < 0 ? (int)count : TAIL_LINE;
    int old = tail->fd;
    tail->fd = -1;
    int error = open_file(tail);
    if (error || tail->fd == -1) {
        tail->fd = old;
        return error;
    }
    close(old);
    reset_buffer(tail);
    tail->read_offset = 0;
    return TAIL_REPLACED;
}

int tail_open(struct tail *tail, const char *path, off_t offset)
{
    *tail = (struct tail)TAIL_INITIALIZER;
    tail->path = strdup(path);
    tail->read_offset = offset;
    return tail->path ? make_room(tail) : UV_ENOMEM;
}

int tail_next(struct tail *tail, struct tail_line *line)
{
    for (;;) {
        if (take_line(tail, line))
            return TAIL_LINE;
        if (tail->fd == -1) {
            int error = open_file(tail);
            if (error || tail->fd == -1)
                return error;
        }
        ssize_t count = read_more(tail);
        if (count < 0)
            return (int)count;
        if (count > 0)
            continue;
        int event = look_around(tail);
        if (event != TAIL_LINE)
            return event;
    }
}

size_t tail_held(const struct tail *tail)
{
    return tail->end - tail->start;
}

off_t tail_offset(const struct tail *tail)
{
    return tail->read_offset - (off_t)(tail->end - tail->start);
}

bool tail_exists(const struct tail *tail)
{
    struct stat status;
    return stat(tail->path, &status) == 0;
}

void tail_close(struct tail *tail)
{
    if (tail->fd != -1)
        close(tail->fd);
    free(tail->path);
    free(tail->buffer);
    *tail = (struct tail)TAIL_INITIALIZER;
}
