/* The text between JSON and cJSON. cJSON 1.7.15 is quick but lenient (it takes `01`, `1.` and raw control characters),
 * keeps every number as a double, reads at most 63 characters of one, and ends strings at NUL. So one pass over the
 * text holds it to RFC 8259 first, and rewrites the few tokens that cJSON cannot represent.
 *
 * The rewriting borrows two bytes that occur nowhere in valid UTF-8. As what comes out of the pass is valid UTF-8 but
 * for them, no text of a user can be mistaken for them. */
#ifndef PARLEY_JSON_TEXT_H
#define PARLEY_JSON_TEXT_H

#include <stdbool.h>
#include <stddef.h>

/* Stands for U+0000 inside a string. */
#define JSON_NUL_MARK '\xFF'
/* The first byte of a string that is really a number, spelled out behind it: every number with a fraction or an
 * exponent, and every integer that a double may not hold. */
#define JSON_NUMBER_MARK '\xFE'
/* The longest number that is left to cJSON: 15 digits are exact in a double. */
#define JSON_SHORT_NUMBER 15
/* cJSON's own limit, CJSON_NESTING_LIMIT. */
#define JSON_DEPTH_MAX 1000

struct json_text {
    const char *bytes; /* what cJSON is to parse: the source itself, or `rewritten` */
    size_t length;
    char *rewritten;   /* owned; NULL when the source needed no change */
    bool has_nul;      /* some string holds JSON_NUL_MARK */
    const char *fault; /* what is wrong, static, after UV_EINVAL */
    size_t offset;     /* how many bytes of the source stand before the fault */
};

/* Checks `source`, which is followed by a NUL byte that `length` does not count, and fills *text for cJSON. The source
 * must outlive *text. Invalid UTF-8 and lone surrogates become U+FFFD, or are faults if `strict`. `depth` is from 1 to
 * JSON_DEPTH_MAX. Returns 0, UV_EINVAL or UV_ENOMEM. Call json_text_release whatever it returned. */
int json_text_prepare(struct json_text *text, const char *source, size_t length, int depth, bool strict);

/* Frees what json_text_prepare allocated. */
void json_text_release(struct json_text *text);

/* How many of the bytes from `at` to `end` are plain before the first that is not. Plain bytes stand for themselves in
 * a JSON string: printable ASCII but `"` and `\`. */
size_t json_plain_run(const char *at, const char *end);

/* The length of the valid UTF-8 sequence at `at`, or 0 if there is none before `end`. */
size_t json_utf8_length(const char *at, const char *end);

#endif
