/* One strict pass over a JSON text: a state machine over its tokens, without recursion and without Lua. */
#include "json_text.h"

#include <endian.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

#define BYTE_ORDER_MARK "\xEF\xBB\xBF"
#define REPLACEMENT "\xEF\xBF\xBD" /* U+FFFD */

/* Eight bytes, each of this value. */
#define EACH(byte) (UINT64_C(0x0101010101010101) * (byte))

enum expectation { VALUE, VALUE_OR_END, KEY, KEY_OR_END, COLON, COMMA_OR_END, NOTHING };

struct pass {
    struct json_text *text;
    const char *source;
    const char *at;
    const char *end;    /* a NUL byte stands here, so looking one byte ahead is always legal */
    const char *copied; /* how much of the source has gone into text->rewritten */
    size_t room;        /* bytes allocated there */
    int depth;
    int depth_limit;
    bool strict;
    bool in_object[JSON_DEPTH_MAX + 1];
};

static int fault(struct pass *pass, const char *at, const char *what)
{
    pass->text->fault = what;
    pass->text->offset = (size_t)(at - pass->source);
    return UV_EINVAL;
}

static int append(struct pass *pass, const char *bytes, size_t length)
{
    struct json_text *text = pass->text;
    if (length == 0)
        return 0; /* memcpy takes no NULL, not even for nothing */
    if (pass->room - text->length < length) {
        /* The first allocation is as large as the source and then some: most rewritten texts never need a second. */
        size_t least = text->length + length;
        size_t usual = pass->room ? pass->room * 2 : (size_t)(pass->end - pass->source) + 64;
        pass->room = least > usual ? least : usual;
        char *grown = realloc(text->rewritten, pass->room);
        if (!grown)
            return UV_ENOMEM;
        text->rewritten = grown;
    }
    memcpy(text->rewritten + text->length, bytes, length);
    text->length += length;
    return 0;
}

/* Puts `bytes` in the place of the source from `from` to `to`. */
static int substitute(struct pass *pass, const char *from, const char *to, const char *bytes)
{
    int error = append(pass, pass->copied, (size_t)(from - pass->copied));
    if (!error)
        error = append(pass, bytes, strlen(bytes));
    pass->copied = to;
    return error;
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static int digits(struct pass *pass)
{
    if (!is_digit(*pass->at))
        return fault(pass, pass->at, "expected a digit");
    while (is_digit(*pass->at))
        pass->at++;
    return 0;
}

static int number(struct pass *pass)
{
    const char *from = pass->at;
    bool is_integer = true;
    if (*pass->at == '-')
        pass->at++;
    if (*pass->at == '0' && is_digit(pass->at[1]))
        return fault(pass, pass->at, "a number with a leading zero");
    int error = digits(pass);
    if (!error && *pass->at == '.') {
        is_integer = false;
        pass->at++;
        error = digits(pass);
    }
    if (!error && (*pass->at == 'e' || *pass->at == 'E')) {
        is_integer = false;
        pass->at++;
        if (*pass->at == '+' || *pass->at == '-')
            pass->at++;
        error = digits(pass);
    }
    if (error || (is_integer && pass->at - from <= JSON_SHORT_NUMBER))
        return error;
    static const char opening[] = {'"', JSON_NUMBER_MARK, '\0'};
    error = substitute(pass, from, from, opening);
    return error ? error : substitute(pass, pass->at, pass->at, "\"");
}

/* The value of the four hexadecimal digits at `at`, or -1. Stops at the text's closing NUL like at any other byte. */
static int hexadecimal(const char *at)
{
    int unit = 0;
    for (int i = 0; i < 4; i++, at++) {
        char lower = (char)(*at | 0x20);
        if (is_digit(*at))
            unit = unit * 16 + (*at - '0');
        else if (lower >= 'a' && lower <= 'f')
            unit = unit * 16 + (lower - 'a' + 10);
        else
            return -1;
    }
    return unit;
}

static int unicode_escape(struct pass *pass)
{
    const char *from = pass->at;
    int unit = hexadecimal(from + 2);
    if (unit < 0)
        return fault(pass, from, "an escape without four hexadecimal digits");
    pass->at += 6;
    if (unit == 0) {
        static const char mark[] = {JSON_NUL_MARK, '\0'};
        pass->text->has_nul = true;
        return substitute(pass, from, pass->at, mark);
    }
    if (unit < 0xD800 || unit > 0xDFFF)
        return 0;
    int second = pass->at[0] == '\\' && pass->at[1] == 'u' ? hexadecimal(pass->at + 2) : -1;
    if (unit <= 0xDBFF && second >= 0xDC00 && second <= 0xDFFF) {
        pass->at += 6;
        return 0;
    }
    if (pass->strict)
        return fault(pass, from, "a lone surrogate");
    return substitute(pass, from, pass->at, REPLACEMENT);
}

static int escape(struct pass *pass)
{
    char c = pass->at[1];
    if (c == 'u')
        return unicode_escape(pass);
    switch (c) { /* no strchr: a listing of a file has an escape in each line */
    case '"':
    case '\\':
    case '/':
    case 'b':
    case 'f':
    case 'n':
    case 'r':
    case 't':
        pass->at += 2;
        return 0;
    default:
        return fault(pass, pass->at, "an unknown escape");
    }
}

/* What stands in a string and is neither plain, nor an escape, nor the closing quote. */
static int special(struct pass *pass)
{
    const char *at = pass->at;
    if ((unsigned char)*at < 0x80) {
        if (at == pass->end)
            return fault(pass, at, "a string without its end");
        return fault(pass, at, *at ? "a raw control character in a string" : "a NUL byte");
    }
    size_t length = json_utf8_length(at, pass->end);
    pass->at += length ? length : 1;
    if (length)
        return 0;
    if (pass->strict)
        return fault(pass, at, "invalid UTF-8");
    return substitute(pass, at, pass->at, REPLACEMENT);
}

static int string(struct pass *pass)
{
    int error = 0;
    pass->at++;
    while (!error) {
        pass->at += json_plain_run(pass->at, pass->end);
        if (*pass->at == '"')
            break;
        error = *pass->at == '\\' ? escape(pass) : special(pass);
    }
    pass->at++;
    return error;
}

static int word(struct pass *pass, const char *expected)
{
    size_t length = strlen(expected);
    if (strncmp(pass->at, expected, length) != 0)
        return fault(pass, pass->at, "expected a value");
    pass->at += length;
    return 0;
}

static int open_container(struct pass *pass, bool is_object, enum expectation *expected)
{
    if (pass->depth == pass->depth_limit)
        return fault(pass, pass->at, "nested too deep");
    pass->in_object[++pass->depth] = is_object;
    pass->at++;
    *expected = is_object ? KEY_OR_END : VALUE_OR_END;
    return 0;
}

static void after_value(const struct pass *pass, enum expectation *expected)
{
    *expected = pass->depth > 0 ? COMMA_OR_END : NOTHING;
}

static int close_container(struct pass *pass, enum expectation *expected)
{
    if (*pass->at != (pass->in_object[pass->depth] ? '}' : ']')) {
        if (*expected == COMMA_OR_END)
            return fault(pass, pass->at, pass->in_object[pass->depth] ? "expected `,` or `}`" : "expected `,` or `]`");
        return fault(pass, pass->at, "expected a string as key");
    }
    pass->at++;
    pass->depth--;
    after_value(pass, expected);
    return 0;
}

static int value(struct pass *pass, enum expectation *expected)
{
    char c = *pass->at;
    if (c == '{' || c == '[')
        return open_container(pass, c == '{', expected);
    if (c == ']' && *expected == VALUE_OR_END)
        return close_container(pass, expected);
    after_value(pass, expected);
    if (c == '"')
        return string(pass);
    if (c == '-' || is_digit(c))
        return number(pass);
    return word(pass, c == 't' ? "true" : c == 'f' ? "false" : "null");
}

/* Takes one token. A comma or colon leads to what must follow it. */
static int token(struct pass *pass, enum expectation *expected)
{
    switch (*expected) {
    case VALUE:
    case VALUE_OR_END:
        return value(pass, expected);
    case KEY:
    case KEY_OR_END:
        if (*pass->at == '"') {
            *expected = COLON;
            return string(pass);
        }
        return *expected == KEY ? fault(pass, pass->at, "expected a string as key") : close_container(pass, expected);
    case COLON:
        if (*pass->at != ':')
            return fault(pass, pass->at, "expected `:`");
        pass->at++;
        *expected = VALUE;
        return 0;
    case COMMA_OR_END:
        if (*pass->at != ',')
            return close_container(pass, expected);
        pass->at++;
        *expected = pass->in_object[pass->depth] ? KEY : VALUE;
        return 0;
    case NOTHING:
        break;
    }
    return fault(pass, pass->at, "more text after the value");
}

static int check(struct pass *pass)
{
    enum expectation expected = VALUE;
    int error = 0;
    while (!error) {
        while (*pass->at == ' ' || *pass->at == '\n' || *pass->at == '\r' || *pass->at == '\t')
            pass->at++;
        if (*pass->at != '\0')
            error = token(pass, &expected);
        else if (pass->at < pass->end)
            error = fault(pass, pass->at, "a NUL byte");
        else if (expected == NOTHING)
            break;
        else
            error = fault(pass, pass->at, expected == VALUE && !pass->depth ? "no value" : "the text ends too early");
    }
    return error;
}

int json_text_prepare(struct json_text *text, const char *source, size_t length, int depth, bool strict)
{
    struct pass pass;
    pass.text = text;
    pass.source = pass.at = pass.copied = source;
    pass.end = source + length;
    pass.room = 0;
    pass.depth = 0;
    pass.depth_limit = depth;
    pass.strict = strict;
    memset(text, 0, sizeof *text);
    if (strncmp(source, BYTE_ORDER_MARK, 3) == 0)
        pass.at += 3;

    int error = check(&pass);
    if (!error && text->rewritten)
        error = append(&pass, pass.copied, (size_t)(pass.end - pass.copied) + 1);
    text->bytes = text->rewritten ? text->rewritten : source;
    text->length = text->rewritten ? text->length - 1 : length;
    return error;
}

void json_text_release(struct json_text *text)
{
    free(text->rewritten);
    text->rewritten = NULL;
}

size_t json_plain_run(const char *at, const char *end)
{
    const char *from = at;
    /* Eight bytes at a time. (x - EACH(n)) & ~x sets the high bit of every byte below n. The borrow may set it in a
     * byte above such a one too, so only the lowest bit is to be trusted: the first byte in memory, read as
     * little-endian. */
    for (; end - at >= 8; at += 8) {
        uint64_t bytes;
        memcpy(&bytes, at, sizeof bytes);
        bytes = le64toh(bytes);
        uint64_t quote = bytes ^ EACH('"');
        uint64_t backslash = bytes ^ EACH('\\');
        uint64_t below =
            ((bytes - EACH(0x20)) & ~bytes) | ((quote - EACH(1)) & ~quote) | ((backslash - EACH(1)) & ~backslash);
        uint64_t found = (below | bytes) & EACH(0x80);
        if (found)
            return (size_t)(at - from) + (size_t)__builtin_ctzll(found) / 8;
    }
    while (at < end && (unsigned char)*at >= 0x20 && (unsigned char)*at < 0x80 && *at != '"' && *at != '\\')
        at++;
    return (size_t)(at - from);
}

size_t json_utf8_length(const char *at, const char *end)
{
    const unsigned char *byte = (const unsigned char *)at;
    size_t length = byte[0] < 0x80 ? 1 : byte[0] < 0xC2 ? 0 : byte[0] < 0xE0 ? 2 : byte[0] < 0xF0 ? 3 : 4;
    if (byte[0] > 0xF4 || length > (size_t)(end - at))
        return 0;
    for (size_t i = 1; i < length; i++) {
        if ((byte[i] & 0xC0) != 0x80)
            return 0;
    }
    /* Overlong forms, surrogates, and what lies beyond U+10FFFF show in the second byte. */
    if ((byte[0] == 0xE0 && byte[1] < 0xA0) || (byte[0] == 0xED && byte[1] > 0x9F) ||
        (byte[0] == 0xF0 && byte[1] < 0x90) || (byte[0] == 0xF4 && byte[1] > 0x8F))
        return 0;
    return length;
}
