/* The tail: a file that grows by pieces gives each of its lines once, whether one tail reads it all or many, one
 * from where the other stopped. An input: how to cut, when to start anew, then the file, folded. */
#include "tail.h"
#include "fuzz.h"

#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { RUN_UNIT = 509, FILE_MAX = 1 << 18 };

struct file {
    int fd;
    char path[32];
    size_t length;
    char bytes[FILE_MAX];
};

static bool is_blank(const char *bytes, size_t length)
{
    for (size_t i = 0; i < length; i++)
        if (bytes[i] != ' ' && bytes[i] != '\t')
            return false;
    return true;
}

/* What the tail must give next of the first `size` bytes; `at` is where the search begins. False if nothing. */
static bool next_line(const struct file *file, size_t size, size_t at, struct tail_line *line)
{
    const char *feed;
    while ((feed = memchr(file->bytes + at, '\n', size - at))) {
        const char *bytes = file->bytes + at, *end = feed > bytes && feed[-1] == '\r' ? feed - 1 : feed;
        at = (size_t)(feed - file->bytes) + 1;
        *line = (struct tail_line){.bytes = bytes, .length = (size_t)(end - bytes), .offset = (off_t)at};
        if (!is_blank(line->bytes, line->length))
            return true;
    }
    return false;
}

/* Reads all that is there, and compares. Returns where the last line ended. */
static size_t read_lines(struct tail *tail, const struct file *file, size_t size, size_t at)
{
    struct tail_line expected, actual;
    while (next_line(file, size, at, &expected)) {
        fuzz_require(tail_next(tail, &actual) == TAIL_LINE, "each line comes");
        fuzz_require(actual.length == expected.length && !memcmp(actual.bytes, expected.bytes, actual.length),
                     "a line comes byte for byte");
        fuzz_require(actual.offset == expected.offset, "a line's offset is where it ends");
        at = (size_t)expected.offset;
    }
    fuzz_require(tail_next(tail, &actual) == TAIL_NOTHING, "nothing else comes");
    return at;
}

static void open_tail(struct tail *tail, const struct file *file, off_t offset)
{
    fuzz_require(tail_open(tail, file->path, offset) == 0, "a tail opens");
}

/* A long run is cut seldom, for each piece costs a look at the file. */
static size_t piece_of(const struct file *file, size_t at, uint32_t *chance)
{
    size_t length = fuzz_piece(chance, file->length - at);
    return length < file->length - at && length > 5 && file->length > RUN_UNIT ? file->length / 16 : length;
}

static void read_growing(struct file *file, uint32_t chance, unsigned anew)
{
    struct tail tail = TAIL_INITIALIZER;
    size_t read = 0, pieces = 0;
    open_tail(&tail, file, 0);
    for (size_t at = 0; at < file->length; pieces++) {
        size_t length = piece_of(file, at, &chance);
        if (length > file->length - at)
            length = file->length - at;
        fuzz_require(pwrite(file->fd, file->bytes + at, length, (off_t)at) == (ssize_t)length, "the file grows");
        at += length;
        read = read_lines(&tail, file, at, read);
        if (anew && pieces % anew == 0) {
            off_t offset = tail_offset(&tail);
            tail_close(&tail);
            open_tail(&tail, file, offset);
        }
    }
    tail_close(&tail);
}

static void create(struct file *file)
{
    file->fd = memfd_create("watched", MFD_CLOEXEC);
    fuzz_require(file->fd >= 0, "there is a file");
    snprintf(file->path, sizeof file->path, "/proc/self/fd/%d", file->fd);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct file file = {.fd = -1};
    if (size < 2)
        return 0;
    if (file.fd < 0)
        create(&file);
    file.length = fuzz_unfold(data + 2, size - 2, RUN_UNIT, file.bytes, FILE_MAX);
    fuzz_require(ftruncate(file.fd, 0) == 0, "the file is empty");
    read_growing(&file, data[0], data[1] % 8);
    return 0;
}
