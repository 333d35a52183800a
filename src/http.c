/* Reading HTTP requests. */
#include "http.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <uv.h>

/* What may stand around chunks, beyond as much as a head may have: "00000001\r\nx\r\n" is the dearest honest byte. */
enum { FRAME_SHARE = 16 };

static int refuse(struct http *http, int status, const char *problem)
{
    if (!http->error) {
        http->error = UV_EPROTO;
        http->status = status;
        http->problem = problem;
    }
    return -1;
}

static int append(struct http *http, struct http_text *text, const char *bytes, size_t length)
{
    if (length > text->room - text->length) {
        size_t room = (text->length + length) * 2;
        char *grown = realloc(text->bytes, room);
        if (!grown) {
            http->error = UV_ENOMEM;
            return -1;
        }
        text->bytes = grown;
        text->room = room;
    }
    memcpy(text->bytes + text->length, bytes, length);
    text->length += length;
    return 0;
}

/* --- the lines --- */

static const char *check_request_line(struct http_lines *lines, char byte)
{
    if (byte == ' ') {
        if (lines->column == 0 || lines->last == ' ')
            return "a request line with white space in a wrong place";
        lines->spaces++;
    } else if (lines->spaces == 2 && lines->last == ' ' && byte != 'H') {
        return "a protocol that is not HTTP"; /* llhttp reads RTSP/1.0 and ICE/1.0, too */
    } else if (byte == '\t' || (unsigned char)byte > 0x7e) {
        return "a request line with a character that must be escaped";
    }
    return NULL;
}

static const char *check_header_line(struct http_lines *lines, char byte)
{
    bool is_white = byte == ' ' || byte == '\t';
    if (lines->column == 0 && is_white)
        return "a folded header";
    if (lines->has_colon)
        return NULL;
    if (is_white)
        return "white space in a header's name";
    if (byte == ':') {
        if (lines->column == 0)
            return "a header without a name";
        lines->has_colon = true;
    }
    return NULL;
}

/* Whether a byte may stand where it does in any line. */
static const char *check_byte(const struct http_lines *lines, char byte)
{
    if (lines->after_cr)
        return byte == '\n' ? NULL : "a carriage return without a line feed";
    if (byte == '\n')
        return "a line feed without a carriage return";
    return (((unsigned char)byte < 0x20 && byte != '\t' && byte != '\r') || byte == 0x7f) ? "a control character"
                                                                                          : NULL;
}

static void end_line(struct http_lines *lines)
{
    size_t line = lines->line + 1;
    *lines = (struct http_lines){.line = line};
}

/* Looks at the bytes of a head. Returns how many are sound, the end of the head at most. */
static size_t scan_head(struct http *http, const char *bytes, size_t length, bool *is_whole, const char **problem)
{
    struct http_lines *lines = &http->lines;
    for (size_t i = 0; i < length; i++) {
        char byte = bytes[i];
        if ((*problem = check_byte(lines, byte)))
            return i;
        if (byte == '\n') {
            if (lines->column > 0) {
                end_line(lines);
            } else if (lines->line > 0) {
                *is_whole = true;
                return i + 1;
            }
            lines->after_cr = false; /* an empty line before the request is none of it */
        } else if (byte == '\r') {
            lines->after_cr = true;
            if (lines->column > 0 && lines->line == 0 && lines->spaces != 2)
                *problem = "no request line of HTTP/1.1";
            else if (lines->column > 0 && lines->line > 0 && !lines->has_colon)
                *problem = "a header without a colon";
        } else {
            if (lines->line > http->field_limit)
                *problem = "too many headers";
            else
                *problem = lines->line ? check_header_line(lines, byte) : check_request_line(lines, byte);
            lines->column++;
            lines->last = byte;
        }
        if (*problem)
            return i;
    }
    return length;
}

static bool is_hexadecimal(char byte)
{
    return (byte >= '0' && byte <= '9') || (byte >= 'a' && byte <= 'f') || (byte >= 'A' && byte <= 'F');
}

static const char *check_frame_byte(struct http *http, char byte)
{
    struct http_lines *lines = &http->lines;
    switch (http->frame) {
    case HTTP_FRAME_SIZE:
        if (lines->has_colon) /* here a semicolon: what follows is an extension, which means nothing to us */
            return NULL;
        if (byte == ';' && lines->column > 0)
            lines->has_colon = true;
        else if (!is_hexadecimal(byte))
            return "a bad chunk size";
        else if (byte != '0')
            http->is_last_chunk = false;
        return NULL;
    case HTTP_FRAME_DATA_END:
        return "a chunk that is longer than its size";
    default:
        return check_header_line(lines, byte);
    }
}

static void end_frame_line(struct http *http)
{
    bool is_trailer = http->frame == HTTP_FRAME_TRAILER;
    if (http->frame == HTTP_FRAME_DATA_END)
        http->frame = HTTP_FRAME_SIZE;
    else if (!is_trailer)
        http->frame = http->is_last_chunk ? HTTP_FRAME_TRAILER : HTTP_FRAME_DATA_END;
    if (http->frame == HTTP_FRAME_SIZE)
        http->is_last_chunk = true;
    end_line(&http->lines);
}

/* Looks at the bytes around the chunks, up to `end`, which llhttp has let pass. */
static int scan_gap(struct http *http, const char *end)
{
    struct http_lines *lines = &http->lines;
    for (; http->gap < end; http->gap++) {
        char byte = *http->gap;
        const char *problem = check_byte(lines, byte);
        if (problem)
            return refuse(http, 400, problem);
        if (++http->frame_bytes > http->head_limit + FRAME_SHARE * http->body_bytes)
            return refuse(http, 400, "too much around the chunks of a body");
        if (byte == '\n') {
            end_frame_line(http);
        } else if (byte == '\r') {
            lines->after_cr = true;
            if (http->frame == HTTP_FRAME_TRAILER && lines->column > 0 && !lines->has_colon)
                return refuse(http, 400, "a trailer without a colon");
            if (http->frame == HTTP_FRAME_SIZE && lines->column == 0)
                return refuse(http, 400, "a bad chunk size");
        } else {
            if ((problem = check_frame_byte(http, byte)))
                return refuse(http, 400, problem);
            lines->column++;
        }
    }
    return 0;
}

/* --- what llhttp calls --- */

static int on_target(llhttp_t *parser, const char *at, size_t length)
{
    struct http *http = parser->data;
    http->target_length += length;
    return append(http, &http->head, at, length);
}

static struct http_field *add_field(struct http *http)
{
    if (http->field_count == http->field_room) {
        size_t room = http->field_room ? http->field_room * 2 : 16;
        struct http_field *grown = realloc(http->fields, room * sizeof *grown);
        if (!grown) {
            http->error = UV_ENOMEM;
            return NULL;
        }
        http->fields = grown;
        http->field_room = room;
    }
    struct http_field *field = &http->fields[http->field_count++];
    *field = (struct http_field){.name = http->head.length};
    return field;
}

static int on_name(llhttp_t *parser, const char *at, size_t length)
{
    struct http *http = parser->data;
    if (http->is_in_body) /* a trailer; nobody needs it */
        return 0;
    if (!http->has_name) {
        if (!add_field(http))
            return -1;
        http->has_name = true;
    }
    size_t from = http->head.length;
    if (append(http, &http->head, at, length))
        return -1;
    for (char *byte = http->head.bytes + from; byte < http->head.bytes + http->head.length; byte++)
        if (*byte >= 'A' && *byte <= 'Z')
            *byte += 'a' - 'A';
    struct http_field *field = &http->fields[http->field_count - 1];
    field->name_length += length;
    field->value = http->head.length;
    return 0;
}

static int on_name_complete(llhttp_t *parser)
{
    ((struct http *)parser->data)->has_name = false;
    return 0;
}

static int on_value(llhttp_t *parser, const char *at, size_t length)
{
    struct http *http = parser->data;
    if (http->is_in_body)
        return 0;
    http->fields[http->field_count - 1].value_length += length;
    return append(http, &http->head, at, length);
}

static int on_headers_complete(llhttp_t *parser)
{
    struct http *http = parser->data;
    http->is_head_done = true;
    parser->upgrade = 0; /* we speak nothing else: the request is one of HTTP/1.1 */
    return HPE_PAUSED;
}

static int on_body(llhttp_t *parser, const char *at, size_t length)
{
    struct http *http = parser->data;
    if (http->is_chunked && scan_gap(http, at))
        return -1;
    http->gap = at + length;
    http->body_bytes += length;
    return append(http, &http->body, at, length);
}

static int on_message_complete(llhttp_t *parser)
{
    ((struct http *)parser->data)->is_over = true;
    return HPE_PAUSED;
}

static const llhttp_settings_t settings = {
    .on_url = on_target,
    .on_header_field = on_name,
    .on_header_field_complete = on_name_complete,
    .on_header_value = on_value,
    .on_headers_complete = on_headers_complete,
    .on_body = on_body,
    .on_message_complete = on_message_complete,
};

/* --- the request --- */

void http_init(struct http *http, size_t head_limit, size_t field_limit)
{
    *http = (struct http){.head_limit = head_limit, .field_limit = field_limit};
    llhttp_init(&http->parser, HTTP_REQUEST, &settings);
}

void http_free(struct http *http)
{
    free(http->head.bytes);
    free(http->body.bytes);
    free(http->fields);
    http->head = http->body = (struct http_text){0};
    http->fields = NULL;
    http->field_count = http->field_room = 0;
    http->error = UV_EBADF;
    http->problem = "the parser is closed";
}

static void begin(struct http *http)
{
    llhttp_reset(&http->parser);
    http->parser.data = http;
    http->has_begun = true;
    http->is_in_body = http->is_head_done = http->is_over = http->has_name = http->is_chunked = false;
    http->lines = (struct http_lines){0};
    http->head_bytes = http->head.length = http->field_count = http->target_length = 0;
    http->frame_bytes = http->body_bytes = 0;
}

/* Runs llhttp. A pause is where one of ours asked for it. */
static int run(struct http *http, const char *bytes, size_t length, size_t *used)
{
    enum llhttp_errno error = llhttp_execute(&http->parser, bytes, length);
    *used = length;
    if (error == HPE_OK)
        return 0;
    const char *stopped = llhttp_get_error_pos(&http->parser);
    *used = stopped >= bytes && stopped <= bytes + length ? (size_t)(stopped - bytes) : length;
    if (error == HPE_PAUSED && (http->is_head_done || http->is_over)) {
        llhttp_resume(&http->parser);
        return 0;
    }
    return -1;
}

static int refuse_for_llhttp(struct http *http)
{
    const char *reason = llhttp_get_error_reason(&http->parser);
    return refuse(http, 400, reason && *reason ? reason : "no request of HTTP/1.1");
}

static bool is_field(const struct http *http, const struct http_field *field, const char *name)
{
    return field->name_length == strlen(name) && !memcmp(http->head.bytes + field->name, name, field->name_length);
}

static void trim(const struct http *http, struct http_field *field)
{
    const char *bytes = http->head.bytes;
    while (field->value_length > 0 && strchr(" \t", bytes[field->value + field->value_length - 1]))
        field->value_length--;
    for (; field->value_length > 0 && strchr(" \t", bytes[field->value]); field->value_length--)
        field->value++;
}

/* What llhttp leaves to its user, and some of what it allows. */
static int check_head(struct http *http)
{
    const llhttp_t *parser = &http->parser;
    int hosts = 0, codings = 0, lengths = 0;
    if (parser->http_major != 1 || parser->http_minor > 1)
        return refuse(http, 505, "a version that is not HTTP/1.1");
    if (parser->method == HTTP_CONNECT)
        return refuse(http, 501, "this is no proxy");
    for (size_t i = 0; i < http->field_count; i++) {
        struct http_field *field = &http->fields[i];
        trim(http, field);
        hosts += is_field(http, field, "host");
        lengths += is_field(http, field, "content-length");
        if (is_field(http, field, "transfer-encoding")) {
            codings++;
            if (field->value_length != 7 || strncasecmp(http->head.bytes + field->value, "chunked", 7))
                return refuse(http, 501, "a transfer-encoding that is not chunked");
        }
    }
    if (hosts > 1 || (hosts == 0 && parser->http_minor == 1))
        return refuse(http, 400, hosts ? "more than one Host" : "no Host");
    if (codings + lengths > 1)
        return refuse(http, 400, "more than one length of the body");
    if (lengths && parser->content_length > INT64_MAX)
        return refuse(http, 413, "a body that is too large");
    if (codings && parser->http_minor == 0)
        return refuse(http, 400, "a transfer-encoding in HTTP/1.0");
    http->is_chunked = parser->flags & F_CHUNKED;
    if (http->is_chunked != (codings == 1))
        return refuse(http, 400, "a length of the body that is not clear");
    return 0;
}

static int feed_head(struct http *http, const char *bytes, size_t length, size_t *used)
{
    size_t left = http->head_limit - http->head_bytes;
    bool is_whole = false;
    const char *problem = NULL;
    size_t sound = scan_head(http, bytes, length < left ? length : left, &is_whole, &problem);
    if (run(http, bytes, sound, used))
        return refuse_for_llhttp(http);
    if (problem)
        return refuse(http, http->lines.line > http->field_limit ? 431 : 400, problem);
    if (http->is_head_done != is_whole || *used != sound)
        return refuse(http, 400, "a head whose end is not clear");
    http->head_bytes += sound;
    if (!is_whole)
        return http->head_bytes < http->head_limit ? HTTP_READ_MORE : refuse(http, 431, "a head that is too large");
    if (check_head(http))
        return -1;
    http->is_in_body = true;
    http->lines = (struct http_lines){0};
    http->frame = HTTP_FRAME_SIZE;
    http->is_last_chunk = true;
    return HTTP_READ_HEAD;
}

static int feed_body(struct http *http, const char *bytes, size_t length, size_t *used)
{
    http->is_head_done = false;
    http->gap = bytes;
    int failed = run(http, bytes, length, used);
    if (http->is_chunked && scan_gap(http, bytes + *used))
        return -1;
    if (failed)
        return refuse_for_llhttp(http);
    http->has_begun = !http->is_over;
    return http->is_over ? HTTP_READ_END : HTTP_READ_MORE;
}

int http_feed(struct http *http, const char *bytes, size_t length, size_t *used)
{
    *used = 0;
    http->body.length = 0;
    if (http->error)
        return http->error;
    if (!http->has_begun)
        begin(http);
    int event = http->is_in_body ? feed_body(http, bytes, length, used) : feed_head(http, bytes, length, used);
    return event < 0 ? http->error : event;
}
