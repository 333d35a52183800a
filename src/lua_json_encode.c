/* Lua to JSON. cJSON's tree can hold neither a NUL in a string nor a 64-bit integer, so the text is written directly.
 *
 * The bytes grow in a userdata at a fixed stack slot: the collector owns them, so any call may raise. A luaL_Buffer
 * would not do, as it wants its box on top of the stack, where the walk keeps keys and values. */
#include "lua_json.h"

#include "fault.h"
#include "json_text.h"

#include <ctype.h>
#include <lauxlib.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define INDENT_MAX 16
#define NUMBER_MAX 40  /* "-2.2250738585072014e-308" and then some */
#define NEEDED_SLOTS 8 /* stack slots that a table's level uses at most */

struct encoder {
    lua_State *L;
    int slot; /* where the stack keeps the userdata that `bytes` points into, once `first` is full */
    char *bytes;
    size_t used, size;
    int depth_limit;
    int indent; /* 0 for all on one line */
    bool sort_keys;
    bool empty_is_array;
    char first[1024];
};

/* Where in the value the walk is: what error messages name. `up` is NULL only for the whole value. */
struct place {
    const struct place *up;
    int table;         /* stack index of the table that `key` or `index` belongs to */
    int key;           /* stack index of an object's key; 0 in an array */
    lua_Integer index; /* in an array */
    int depth;         /* tables around this place */
};

struct key {
    const char *bytes; /* owned by the key table, see sorted_object */
    size_t length;
    lua_Integer position;
};

static bool encode_value(struct encoder *encoder, int index, const struct place *place);

static void reserve(struct encoder *encoder, size_t length)
{
    if (encoder->size - encoder->used >= length)
        return;
    size_t least = encoder->used + length;
    size_t size = encoder->size * 2 > least ? encoder->size * 2 : least;
    char *grown = lua_newuserdatauv(encoder->L, size, 0);
    memcpy(grown, encoder->bytes, encoder->used);
    lua_replace(encoder->L, encoder->slot);
    encoder->bytes = grown;
    encoder->size = size;
}

static void put(struct encoder *encoder, const char *bytes, size_t length)
{
    reserve(encoder, length);
    memcpy(encoder->bytes + encoder->used, bytes, length);
    encoder->used += length;
}

static void put_text(struct encoder *encoder, const char *text)
{
    put(encoder, text, strlen(text));
}

static void put_path(struct encoder *encoder, const struct place *place)
{
    if (!place->up)
        return;
    put_path(encoder, place->up);
    if (!place->key) {
        char index[NUMBER_MAX];
        int length = snprintf(index, sizeof index, "[" LUA_INTEGER_FMT "]", (LUAI_UACINT)place->index);
        put(encoder, index, (size_t)length);
        return;
    }
    const char *key = lua_tostring(encoder->L, place->key);
    bool is_name = isalpha((unsigned char)*key) || *key == '_';
    for (const char *at = key; *at; at++)
        is_name = is_name && (isalnum((unsigned char)*at) || *at == '_');
    put_text(encoder, !is_name ? "[\"" : place->up->up ? "." : "");
    put_text(encoder, key);
    put_text(encoder, is_name ? "" : "\"]");
}

/* Pushes nil and the error object. The text so far is worthless now, so the path is written over it. Returns false. */
static bool fail(struct encoder *encoder, const struct place *place, const char *what)
{
    encoder->used = 0;
    put_path(encoder, place);
    put(encoder, "", 1);
    luaL_checkstack(encoder->L, LUA_MINSTACK, NULL);
    fault_push_code(encoder->L, "EJSON", "cannot encode %s: %s", place->up ? encoder->bytes : "the value", what);
    return false;
}

static void put_escape(struct encoder *encoder, unsigned char c)
{
    static const char names[] = "\"\"\\\\\bb\ff\nn\rr\tt";
    for (const char *name = names; *name; name += 2) {
        if ((unsigned char)*name == c) {
            put(encoder, (const char[]){'\\', name[1]}, 2);
            return;
        }
    }
    char escape[8];
    snprintf(escape, sizeof escape, "\\u%04x", c);
    put(encoder, escape, 6);
}

/* Returns false, having pushed nothing, if the string at `index` is not valid UTF-8. */
static bool put_string(struct encoder *encoder, int index)
{
    size_t length;
    const char *at = lua_tolstring(encoder->L, index, &length);
    const char *end = at + length;
    const char *pending = at; /* seen and not yet put */
    reserve(encoder, length + 2);
    put(encoder, "\"", 1);
    for (;;) {
        at += json_plain_run(at, end);
        if (at == end)
            break;
        if ((unsigned char)*at >= 0x80) {
            size_t sequence = json_utf8_length(at, end);
            if (sequence == 0)
                return false;
            at += sequence;
            continue;
        }
        put(encoder, pending, (size_t)(at - pending));
        put_escape(encoder, (unsigned char)*at);
        pending = ++at;
    }
    put(encoder, pending, (size_t)(at - pending));
    put(encoder, "\"", 1);
    return true;
}

/* The fewest of 15 to 17 digits that read back as the same float. A float keeps a mark of what it is: 1.0, not 1. */
static bool put_float(struct encoder *encoder, int index, const struct place *place)
{
    double number = lua_tonumber(encoder->L, index);
    if (!isfinite(number))
        return fail(encoder, place, "a number that is not finite");
    char digits[NUMBER_MAX];
    int length = 0;
    for (int precision = 15; precision <= 17; precision++) {
        length = snprintf(digits, sizeof digits, "%.*g", precision, number);
        if (strtod(digits, NULL) == number)
            break;
    }
    bool is_marked = false;
    for (char *at = digits; *at; at++) {
        if (*at == 'e') {
            is_marked = true;
        } else if (*at != '-' && *at != '+' && !isdigit((unsigned char)*at)) {
            *at = '.'; /* whatever the locale puts there */
            is_marked = true;
        }
    }
    put(encoder, digits, (size_t)length);
    if (!is_marked)
        put_text(encoder, ".0");
    return true;
}

static bool put_number(struct encoder *encoder, int index, const struct place *place)
{
    if (!lua_isinteger(encoder->L, index))
        return put_float(encoder, index, place);
    char digits[NUMBER_MAX];
    lua_Integer number = lua_tointeger(encoder->L, index);
    put(encoder, digits, (size_t)snprintf(digits, sizeof digits, LUA_INTEGER_FMT, (LUAI_UACINT)number));
    return true;
}

static void put_line_break(struct encoder *encoder, int depth)
{
    if (!encoder->indent)
        return;
    put(encoder, "\n", 1);
    for (int i = 0; i < depth * encoder->indent; i++)
        put(encoder, " ", 1);
}

/* Whether the table at `index` has the keys 1..length and no others; pushes the error if not. As many distinct keys as
 * `length`, all in that range, are the whole range. */
static bool check_sequence(struct encoder *encoder, int index, lua_Integer length, const struct place *place)
{
    lua_State *L = encoder->L;
    lua_Integer count = 0;
    for (lua_pushnil(L); lua_next(L, index); lua_pop(L, 1)) {
        if (!lua_isinteger(L, -2))
            return fail(encoder, place, "a table with both a sequence and other keys");
        lua_Integer key = lua_tointeger(L, -2);
        if (key < 1 || key > length)
            return fail(encoder, place, "a sparse array");
        count++;
    }
    return count == length || fail(encoder, place, "a sparse array");
}

static bool encode_array(struct encoder *encoder, int index, const struct place *place)
{
    lua_State *L = encoder->L;
    lua_Integer length = (lua_Integer)lua_rawlen(L, index);
    if (!check_sequence(encoder, index, length, place))
        return false;
    struct place inner = {place, index, 0, 0, place->depth + 1};
    put(encoder, "[", 1);
    for (inner.index = 1; inner.index <= length; inner.index++) {
        if (inner.index > 1)
            put(encoder, ",", 1);
        put_line_break(encoder, inner.depth);
        lua_rawgeti(L, index, inner.index);
        if (!encode_value(encoder, lua_gettop(L), &inner))
            return false;
        lua_pop(L, 1);
    }
    if (length > 0)
        put_line_break(encoder, place->depth);
    put(encoder, "]", 1);
    return true;
}

/* Encodes the key and the value on top of the stack. */
static bool encode_member(struct encoder *encoder, struct place *inner, bool is_first)
{
    int top = lua_gettop(encoder->L);
    if (lua_type(encoder->L, top - 1) != LUA_TSTRING)
        return fail(encoder, inner->up, "a table with keys that are not strings");
    if (!is_first)
        put(encoder, ",", 1);
    put_line_break(encoder, inner->depth);
    inner->key = top - 1;
    if (!put_string(encoder, top - 1))
        return fail(encoder, inner, "a key that is not valid UTF-8");
    put(encoder, ": ", encoder->indent ? 2 : 1);
    return encode_value(encoder, top, inner);
}

static int compare_keys(const void *left, const void *right)
{
    const struct key *a = left;
    const struct key *b = right;
    int order = memcmp(a->bytes, b->bytes, a->length < b->length ? a->length : b->length);
    return order ? order : (a->length > b->length) - (a->length < b->length);
}

static bool encode_members(struct encoder *encoder, int index, struct place *inner)
{
    lua_State *L = encoder->L;
    bool is_first = true;
    for (lua_pushnil(L); lua_next(L, index); lua_pop(L, 1)) {
        if (!encode_member(encoder, inner, is_first))
            return false;
        is_first = false;
    }
    return true;
}

/* Pushes a table of the keys, which keeps them alive, and a userdata of them in order. Returns the latter, or NULL.
 * Only the former is counted and read again: a finalizer may change any other table when memory is asked for. */
static struct key *push_sorted_keys(struct encoder *encoder, int index, const struct place *place, size_t *count)
{
    lua_State *L = encoder->L;
    *count = 0;
    lua_newtable(L);
    int names = lua_gettop(L);
    for (lua_pushnil(L); lua_next(L, index); lua_pop(L, 1)) {
        if (lua_type(L, -2) != LUA_TSTRING) {
            fail(encoder, place, "a table with keys that are not strings");
            return NULL;
        }
        lua_pushvalue(L, -2);
        *count += 1;
        lua_rawseti(L, names, (lua_Integer)*count);
    }
    struct key *keys = lua_newuserdatauv(L, *count * sizeof *keys, 0);
    for (size_t i = 0; i < *count; i++) {
        keys[i].position = (lua_Integer)i + 1;
        lua_rawgeti(L, names, keys[i].position);
        keys[i].bytes = lua_tolstring(L, -1, &keys[i].length);
        lua_pop(L, 1);
    }
    qsort(keys, *count, sizeof *keys, compare_keys);
    return keys;
}

static bool encode_sorted_members(struct encoder *encoder, int index, struct place *inner)
{
    lua_State *L = encoder->L;
    size_t count;
    const struct key *keys = push_sorted_keys(encoder, index, inner->up, &count);
    if (!keys)
        return false;
    int names = lua_gettop(L) - 1;
    for (size_t i = 0; i < count; i++) {
        lua_rawgeti(L, names, keys[i].position);
        lua_pushvalue(L, -1);
        lua_rawget(L, index);
        if (!encode_member(encoder, inner, i == 0))
            return false;
        lua_pop(L, 2);
    }
    lua_pop(L, 2);
    return true;
}

static bool encode_object(struct encoder *encoder, int index, const struct place *place)
{
    struct place inner = {place, index, 0, 0, place->depth + 1};
    put(encoder, "{", 1);
    if (!(encoder->sort_keys ? encode_sorted_members : encode_members)(encoder, index, &inner))
        return false;
    put_line_break(encoder, place->depth);
    put(encoder, "}", 1);
    return true;
}

/* A cycle shows as too much depth: nothing is spent on looking for one before. */
static bool too_deep(struct encoder *encoder, int index, const struct place *place)
{
    const struct place *outermost = NULL; /* of the places where the table at `index` stands */
    for (const struct place *above = place; above->up; above = above->up) {
        if (lua_rawequal(encoder->L, above->table, index))
            outermost = above->up;
    }
    if (outermost)
        return fail(encoder, outermost, "a table that contains itself");
    return fail(encoder, place, "tables nested too deep");
}

static bool encode_table(struct encoder *encoder, int index, const struct place *place)
{
    lua_State *L = encoder->L;
    luaL_checkstack(L, NEEDED_SLOTS, "a value nested too deep");
    if (place->depth == encoder->depth_limit)
        return too_deep(encoder, index, place);
    if (lua_getmetatable(L, index)) {
        bool is_array = lua_rawequal(L, -1, JSON_ARRAY_INDEX);
        lua_pop(L, 1);
        if (is_array)
            return encode_array(encoder, index, place);
    }
    lua_pushnil(L);
    if (!lua_next(L, index)) {
        put_text(encoder, encoder->empty_is_array ? "[]" : "{}");
        return true;
    }
    bool is_sequence = lua_type(L, -2) == LUA_TNUMBER;
    lua_pop(L, 2);
    return is_sequence ? encode_array(encoder, index, place) : encode_object(encoder, index, place);
}

static bool encode_value(struct encoder *encoder, int index, const struct place *place)
{
    lua_State *L = encoder->L;
    switch (lua_type(L, index)) {
    case LUA_TBOOLEAN:
        put_text(encoder, lua_toboolean(L, index) ? "true" : "false");
        return true;
    case LUA_TNUMBER:
        return put_number(encoder, index, place);
    case LUA_TSTRING:
        return put_string(encoder, index) || fail(encoder, place, "a string that is not valid UTF-8");
    case LUA_TTABLE:
        return encode_table(encoder, index, place);
    default:
        if (!lua_rawequal(L, index, JSON_NULL_INDEX))
            return fail(encoder, place, luaL_typename(L, index));
        put_text(encoder, "null");
        return true;
    }
}

static void check_options(struct encoder *encoder, int options)
{
    static const char *const names[] = {"depth", "empty_table", "indent", "sort_keys", NULL};
    lua_State *L = encoder->L;
    json_check_names(L, options, names);
    encoder->depth_limit = json_check_depth(L, options);
    encoder->sort_keys = json_check_flag(L, options, "sort_keys");

    if (lua_getfield(L, options, "indent") != LUA_TNIL) {
        lua_Integer indent = lua_isinteger(L, -1) ? lua_tointeger(L, -1) : 0;
        if (indent < 1 || indent > INDENT_MAX)
            luaL_error(L, "option `indent` must be an integer from 1 to %d", INDENT_MAX);
        encoder->indent = (int)indent;
    }
    if (lua_getfield(L, options, "empty_table") != LUA_TNIL) {
        const char *kind = lua_type(L, -1) == LUA_TSTRING ? lua_tostring(L, -1) : "";
        encoder->empty_is_array = strcmp(kind, "array") == 0;
        if (!encoder->empty_is_array && strcmp(kind, "object") != 0)
            luaL_error(L, "option `empty_table` must be \"object\" or \"array\"");
    }
    lua_pop(L, 2);
}

int json_encode(lua_State *L)
{
    luaL_checkany(L, 1);
    lua_settop(L, 2);
    struct encoder encoder = {.L = L, .size = sizeof encoder.first, .depth_limit = JSON_DEPTH_DEFAULT};
    encoder.bytes = encoder.first;
    if (!lua_isnil(L, 2))
        check_options(&encoder, 2);
    lua_pushnil(L);
    encoder.slot = lua_gettop(L);

    const struct place whole = {NULL, 0, 0, 0, 0};
    if (!encode_value(&encoder, 1, &whole))
        return 2;
    lua_pushlstring(L, encoder.bytes, encoder.used);
    return 1;
}
