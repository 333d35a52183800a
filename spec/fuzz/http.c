/* The HTTP parser: bytes give the same requests, or the same refusal, wherever they are cut. And what it lets pass
 * keeps to the grammar that all readers agree on. An input: how to cut, then the bytes, folded. */
#include "http.h"
#include "fuzz.h"

#include <uv.h>

enum { HEAD_LIMIT = 600, FIELD_LIMIT = 12, INPUT_MAX = 1 << 14, TRACE_MAX = 1 << 17 };

/* What was seen: requests, one after the other, then how it ended. */
struct trace {
    size_t length;
    size_t open; /* where the body begins that is not over */
    char bytes[TRACE_MAX];
};

static void note(struct trace *trace, const char *bytes, size_t length)
{
    fuzz_require(length <= sizeof trace->bytes - trace->length, "no more comes out than went in");
    if (length > 0)
        memcpy(trace->bytes + trace->length, bytes, length);
    trace->length += length;
}

static void note_text(struct trace *trace, const char *text)
{
    note(trace, text, strlen(text) + 1);
}

static bool has_byte(const char *bytes, size_t length, const char *which)
{
    for (size_t i = 0; i < length; i++)
        if (!bytes[i] || strchr(which, bytes[i]))
            return true;
    return false;
}

static void check_head(struct trace *trace, const struct http *http)
{
    const char *bytes = http->head.bytes;
    fuzz_require(http->target_length > 0 && !has_byte(bytes, http->target_length, " \t\r\n"), "a target is a word");
    fuzz_require(http->field_count <= FIELD_LIMIT && http->head.length <= HEAD_LIMIT, "a head keeps to its limits");
    note(trace, bytes, http->target_length);
    int hosts = 0;
    for (size_t i = 0; i < http->field_count; i++) {
        const struct http_field *field = &http->fields[i];
        const char *name = bytes + field->name, *value = bytes + field->value;
        fuzz_require(field->name_length > 0 && !has_byte(name, field->name_length, " \t\r\n:ABCXYZ"),
                     "a name is a token");
        fuzz_require(!has_byte(value, field->value_length, "\r\n"), "a value is a line");
        fuzz_require(!field->value_length || !has_byte(value + field->value_length - 1, 1, " \t"),
                     "a value is trimmed");
        hosts += field->name_length == 4 && !memcmp(name, "host", 4);
        note(trace, name, field->name_length);
        note_text(trace, ":");
        note(trace, value, field->value_length);
    }
    fuzz_require(hosts == 1 || (hosts == 0 && http->parser.http_minor == 0), "a request has one host");
    note_text(trace, http->is_chunked ? "chunked" : "");
    trace->open = trace->length;
}

/* Feeds one piece. False when nothing more can be read. */
static bool feed(struct trace *trace, struct http *http, const char *bytes, size_t length)
{
    for (;;) {
        size_t used;
        int event = http_feed(http, bytes, length, &used);
        fuzz_require(used <= length, "no byte is used that is not there");
        bytes += used;
        length -= used;
        if (event < 0) {
            fuzz_require(event == UV_EPROTO && http->problem && http->status >= 400, "a refusal says why");
            trace->length = trace->open; /* how much of a body came before it depends on the cuts */
            note_text(trace, http->problem);
            return false;
        }
        note(trace, http->body.bytes, http->body.length);
        if (event == HTTP_READ_MORE) {
            fuzz_require(length == 0, "all is used before more is wanted");
            return true;
        }
        if (event == HTTP_READ_HEAD)
            check_head(trace, http);
        else
            note_text(trace, "end");
        if (event == HTTP_READ_END)
            trace->open = trace->length;
    }
}

static void read_all(struct trace *trace, const char *bytes, size_t length, uint32_t chance)
{
    struct http http;
    http_init(&http, HEAD_LIMIT, FIELD_LIMIT);
    trace->length = trace->open = 0;
    bool goes_on = true;
    for (size_t at = 0, piece; goes_on && at < length; at += piece) {
        piece = fuzz_piece(&chance, length - at);
        char *copy = malloc(piece); /* so that a byte too far is seen */
        fuzz_require(copy != NULL, "there is memory");
        memcpy(copy, bytes + at, piece);
        goes_on = feed(trace, &http, copy, piece);
        free(copy);
    }
    http_free(&http);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static char bytes[INPUT_MAX];
    static struct trace whole, cut;
    if (size < 2)
        return 0;
    size_t length = fuzz_unfold(data + 2, size - 2, 8, bytes, sizeof bytes);
    read_all(&whole, bytes, length, 0);
    read_all(&cut, bytes, length, 1u + data[0] + 256u * data[1]);
    fuzz_require(whole.length == cut.length && !memcmp(whole.bytes, cut.bytes, whole.length),
                 "where the bytes are cut changes nothing");
    return 0;
}
