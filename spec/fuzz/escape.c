/* The parser in front of libvterm: what it passes on is well formed, and does not say where its input was cut.
 * An input: how to cut, then the output, folded. */
#include "escape.h"
#include "fuzz.h"

#include <string.h>

enum { RUN_UNIT = 17, OUTPUT_MAX = 1 << 15, PASSED_MAX = 1 << 20, PARAMETERS_MAX = 16, VALUE_MAX = 99999 };

/* A piece of printable ASCII or of lines may be cut anywhere between two characters; any other stands alone. */
enum kind { ALONE, PLAIN, LINES };

struct passed {
    enum kind last;
    size_t length;
    char bytes[PASSED_MAX];
};

static bool is_plain(const char *bytes, size_t length)
{
    for (size_t i = 0; i < length; i++)
        if (bytes[i] < ' ' || bytes[i] > '~')
            return false;
    return true;
}

/* One character of UTF-8: the length that its first byte tells, and bytes that go on with it. */
static bool is_character(const char *bytes, size_t length)
{
    unsigned char first = (unsigned char)bytes[0];
    size_t expected = first < 0x80 ? 1 : first < 0xE0 ? 2 : first < 0xF0 ? 3 : 4;
    for (size_t i = 1; i < length; i++)
        if (((unsigned char)bytes[i] & 0xC0) != 0x80)
            return false;
    return length == expected && (first & 0xC0) != 0x80 && first < 0xF8;
}

/* U+2500 to U+259F, each of which has three bytes. */
static bool are_lines(const char *bytes, size_t length)
{
    for (size_t i = 0; i < length; i += 3)
        if (length - i < 3 || !is_character(bytes + i, 3) || memcmp(bytes + i, "\xE2\x94\x80", 3) < 0 ||
            memcmp(bytes + i, "\xE2\x96\x9F", 3) > 0)
            return false;
    return true;
}

/* libvterm checks neither the number of parameters nor a value's size. */
static void check_csi(const char *bytes, size_t length)
{
    int count = 1;
    long value = 0;
    for (size_t i = 2; i < length; i++) {
        bool is_digit = bytes[i] >= '0' && bytes[i] <= '9';
        count += bytes[i] == ';' || bytes[i] == ':';
        value = is_digit ? value * 10 + bytes[i] - '0' : 0;
        fuzz_require(value <= VALUE_MAX, "a parameter is small");
        fuzz_require(bytes[i] >= ' ' && bytes[i] <= '~', "no control character in a control sequence");
        fuzz_require((i == length - 1) == (bytes[i] >= '@'), "a control sequence ends once");
    }
    fuzz_require(count <= PARAMETERS_MAX, "parameters are few");
}

static void check_sequence(const char *bytes, size_t length)
{
    fuzz_require(length >= 2 && length <= ESCAPE_SEQUENCE_MAX, "a sequence is whole, and not too long");
    fuzz_require(!memchr(bytes + 1, '\033', length - 1), "a sequence has one ESC");
    if (bytes[1] == '[')
        check_csi(bytes, length);
    else if (bytes[1] == ']' || bytes[1] == 'P')
        fuzz_require(memchr(bytes, '\a', length) == bytes + length - 1, "a string is ended");
    else
        fuzz_require(!strchr("X^_", bytes[1]), "no string of a kind that libvterm prints");
}

static void take(void *user, const char *bytes, size_t length)
{
    struct passed *passed = user;
    enum kind kind = is_plain(bytes, length) ? PLAIN : are_lines(bytes, length) ? LINES : ALONE;
    fuzz_require(length > 0, "a piece is not empty");
    if (bytes[0] == '\033')
        check_sequence(bytes, length);
    else
        fuzz_require(kind != ALONE || is_character(bytes, length), "a piece is ASCII, lines or one character");
    fuzz_require(passed->length + length + 1 < PASSED_MAX, "what is passed on is about as long as what came");
    if (kind == ALONE || kind != passed->last)
        passed->bytes[passed->length++] = '\0'; /* between pieces */
    memcpy(passed->bytes + passed->length, bytes, length);
    passed->length += length;
    passed->last = kind;
}

static void run(const char *output, size_t size, uint32_t chance, struct passed *passed)
{
    struct escape escape = {.output = take, .user = passed};
    passed->length = 0;
    passed->last = ALONE;
    for (size_t at = 0, length; at < size; at += length) {
        length = fuzz_piece(&chance, size - at);
        escape_feed(&escape, output + at, length);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct passed whole, cut;
    static char output[OUTPUT_MAX];
    if (size < 1)
        return 0;
    size_t length = fuzz_unfold(data + 1, size - 1, RUN_UNIT, output, OUTPUT_MAX);
    run(output, length, 0, &whole);
    run(output, length, 1 + data[0], &cut);
    fuzz_require(whole.length == cut.length && !memcmp(whole.bytes, cut.bytes, cut.length),
                 "output that is cut is passed on the same");
    return 0;
}
