/* HTTP/1.x requests, read as bytes arrive: llhttp parses, and what it lets pass that another reader of the same bytes
 * could take for something else is refused. No I/O: bytes in, pieces out; where the bytes are cut changes nothing, but
 * that the bytes of a body are not told of where they are fed together with a fault behind them. */
#ifndef PARLEY_HTTP_H
#define PARLEY_HTTP_H

#include <llhttp.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum http_event {
    HTTP_READ_MORE, /* all bytes are used */
    HTTP_READ_HEAD, /* the head is there, until the next feed */
    HTTP_READ_END,  /* the request is over; what is fed next begins another */
};

/* Owns `bytes`, NULL while there are none. */
struct http_text {
    char *bytes;
    size_t length, room;
};

/* A header: places in the head's text. The name is in lower case, the value without white space around it. */
struct http_field {
    size_t name, name_length, value, value_length;
};

/* How the lines of a head, or those around chunks, are told apart. */
struct http_lines {
    size_t line, column; /* of the next byte, from 0 */
    int spaces;          /* of the request line */
    bool after_cr, has_colon;
    char last;
};

/* Around a chunked body. */
enum http_frame { HTTP_FRAME_SIZE, HTTP_FRAME_DATA_END, HTTP_FRAME_TRAILER };

struct http {
    llhttp_t parser;
    size_t head_limit, field_limit;
    bool has_begun, is_in_body, is_head_done, is_over, has_name, is_chunked;
    struct http_lines lines;
    enum http_frame frame;
    bool is_last_chunk;
    const char *gap;       /* the next byte of this feed that is no body yet */
    size_t head_bytes;     /* of this request's head */
    uint64_t frame_bytes;  /* around its chunks */
    uint64_t body_bytes;   /* in them */
    struct http_text head; /* the target, then names and values */
    struct http_text body; /* what the last feed found of the body */
    struct http_field *fields;
    size_t field_count, field_room, target_length;
    int error, status;   /* sticky: a UV_E* value, and the status to answer with */
    const char *problem; /* static, or llhttp's */
};

/* For requests whose head has at most so many bytes and headers. Nothing is allocated yet; http_free frees what is. */
void http_init(struct http *http, size_t head_limit, size_t field_limit);
void http_free(struct http *http);

/* Reads on. Returns an event, and in *used how many bytes led to it: feed the rest next, where it is only that no byte
 * is left, too, until it is HTTP_READ_MORE. `http->body` is then what was found of the body. Or returns UV_EPROTO with
 * `problem` and `status`, or UV_ENOMEM; no more can be read then. */
int http_feed(struct http *http, const char *bytes, size_t length, size_t *used);

#endif
