/* Unicode text: normalisation, pictographs and widths, by utf8proc; the order of strings by their bytes; base64, by
 * libsodium. */
#include "core.h"

#include "fault.h"

#include <lauxlib.h>
#include <sodium.h>
#include <stdbool.h>
#include <string.h>
#include <utf8proc.h>
#include <uv.h>

#define COMPOSITION (UTF8PROC_STABLE | UTF8PROC_COMPOSE)

enum { CLASSES = 256 };

/* Writes the canonical decomposition, its marks in the order in which they came, and returns its length. `points` is
 * NULL to count only. -1 for what is not UTF-8. */
static utf8proc_ssize_t decompose(const char *bytes, size_t length, utf8proc_int32_t *points, utf8proc_ssize_t room)
{
    const utf8proc_uint8_t *at = (const utf8proc_uint8_t *)bytes, *end = at + length;
    utf8proc_ssize_t count = 0;
    while (at < end) {
        utf8proc_int32_t point;
        utf8proc_ssize_t size = utf8proc_iterate(at, end - at, &point);
        if (size <= 0)
            return -1;
        at += size;
        int boundary = 0; /* for an option that is not set */
        count += utf8proc_decompose_char(point, points ? points + count : NULL, points ? room - count : 0, COMPOSITION,
                                         &boundary);
    }
    return count;
}

static int class_of(utf8proc_int32_t point)
{
    return utf8proc_get_property(point)->combining_class;
}

/* Puts a run of marks in the order of their classes, those of one class as they came. */
static void order_run(utf8proc_int32_t *marks, size_t count, utf8proc_int32_t *ordered)
{
    size_t places[CLASSES + 1] = {0};
    for (size_t i = 0; i < count; i++)
        places[class_of(marks[i]) + 1]++;
    for (int i = 0; i < CLASSES; i++)
        places[i + 1] += places[i];
    for (size_t i = 0; i < count; i++)
        ordered[places[class_of(marks[i])]++] = marks[i];
    memcpy(marks, ordered, count * sizeof *marks);
}

/* utf8proc's own way to this order exchanges neighbours, which takes seconds for 64 kB of marks. */
static void order_marks(utf8proc_int32_t *points, size_t count, utf8proc_int32_t *scratch)
{
    for (size_t from = 0, end; from < count; from = end + 1) {
        bool is_ordered = true;
        int previous = 0;
        for (end = from; end < count; end++) {
            int present = class_of(points[end]);
            if (present == 0)
                break;
            is_ordered = is_ordered && previous <= present;
            previous = present;
        }
        if (!is_ordered)
            order_run(points + from, end - from, scratch);
    }
}

/* text.nfc(s) returns the canonical composition of valid UTF-8, or nil and an error object (EILSEQ). */
static int text_nfc(lua_State *L)
{
    size_t length;
    const char *bytes = luaL_checklstring(L, 1, &length);
    utf8proc_ssize_t count = decompose(bytes, length, NULL, 0);
    if (count < 0)
        return fault_push(L, UV_EILSEQ, "the text cannot be normalised");
    /* Twice as much as the text, for the marks are put in order beside it; and one, for utf8proc ends it with a NUL. */
    utf8proc_int32_t *points = lua_newuserdatauv(L, ((size_t)count * 2 + 1) * sizeof *points, 0);
    decompose(bytes, length, points, count);
    order_marks(points, (size_t)count, points + count);
    utf8proc_ssize_t size = utf8proc_reencode(points, count, COMPOSITION);
    lua_pushlstring(L, (const char *)points, (size_t)size);
    return 1;
}

/* text.precedes(a, b): `<` compares by the rules of the locale, which is the process's and may change. */
static int text_precedes(lua_State *L)
{
    size_t left_length, right_length;
    const char *left = luaL_checklstring(L, 1, &left_length);
    const char *right = luaL_checklstring(L, 2, &right_length);
    int order = memcmp(left, right, left_length < right_length ? left_length : right_length);
    lua_pushboolean(L, order ? order < 0 : left_length < right_length);
    return 1;
}

/* text.is_pictograph(code) tells whether Unicode calls a character an extended pictograph: what emoji are made of. */
static int text_is_pictograph(lua_State *L)
{
    lua_Integer code = luaL_checkinteger(L, 1);
    luaL_argcheck(L, code >= 0 && code <= 0x10FFFF, 1, "no code point");
    int class = utf8proc_get_property((utf8proc_int32_t)code)->boundclass;
    lua_pushboolean(L, class == UTF8PROC_BOUNDCLASS_EXTENDED_PICTOGRAPHIC);
    return 1;
}

/* text.width(bytes) tells how many columns the characters of a text take, each for itself: up to 2.1.197 the program
 * and libvterm join none to an emoji. A byte that is no UTF-8 is shown as one column. */
static int text_width(lua_State *L)
{
    size_t length;
    const utf8proc_uint8_t *at = (const utf8proc_uint8_t *)luaL_checklstring(L, 1, &length), *end = at + length;
    lua_Integer width = 0;
    while (at < end) {
        utf8proc_int32_t point;
        utf8proc_ssize_t size = utf8proc_iterate(at, end - at, &point);
        width += size > 0 ? utf8proc_charwidth(point) : 1;
        at += size > 0 ? size : 1;
    }
    lua_pushinteger(L, width);
    return 1;
}

static int text_to_base64(lua_State *L)
{
    size_t length;
    const char *bytes = luaL_checklstring(L, 1, &length);
    size_t size = sodium_base64_encoded_len(length, sodium_base64_VARIANT_ORIGINAL);
    luaL_Buffer buffer;
    char *text = luaL_buffinitsize(L, &buffer, size);
    sodium_bin2base64(text, size, (const unsigned char *)bytes, length, sodium_base64_VARIANT_ORIGINAL);
    luaL_pushresultsize(&buffer, size - 1);
    return 1;
}

/* text.from_base64(text) gives nil for what is none. For libsodium the NUL behind the characters to be passed over is
 * one of them. */
static int text_from_base64(lua_State *L)
{
    size_t length, size;
    const char *text = luaL_checklstring(L, 1, &length), *end;
    luaL_Buffer buffer;
    char *bytes = luaL_buffinitsize(L, &buffer, length);
    int failed = sodium_base642bin((unsigned char *)bytes, length, text, length, " \t\n\v\f\r", &size, &end,
                                   sodium_base64_VARIANT_ORIGINAL);
    if (failed || end != text + length || memchr(text, '\0', length)) {
        luaL_pushfail(L);
        return 1;
    }
    luaL_pushresultsize(&buffer, size);
    return 1;
}

static const luaL_Reg functions[] = {
    {"from_base64", text_from_base64},
    {"is_pictograph", text_is_pictograph},
    {"nfc", text_nfc},
    {"precedes", text_precedes},
    {"to_base64", text_to_base64},
    {"width", text_width},
    {NULL, NULL},
};

int luaopen_parley_text(lua_State *L)
{
    luaL_newlib(L, functions);
    return 1;
}
