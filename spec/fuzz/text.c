/* NFC: the same as utf8proc_map's, which is slow where marks are many, for text and for what is none. */
#include "core.h"
#include "fuzz.h"

#include <lauxlib.h>
#include <string.h>
#include <utf8proc.h>

enum { TEXT_MAX = 4096 };

/* Each pair of bytes is a code point of a block where much composes, so that marks are common. */
static size_t spell(const uint8_t *data, size_t size, uint8_t *text)
{
    static const uint32_t blocks[] = {0,      0x280,  0x1D00,  0x300,   0x590,  0x900,  0x1100, 0xAC00,
                                      0x1E00, 0x3040, 0x1D100, 0x11080, 0x0B00, 0x1F00, 0xFB00, 0x2F800};
    size_t length = 0;
    for (size_t i = 0; i + 1 < size && length + 4 <= TEXT_MAX; i += 2) {
        uint32_t point = blocks[data[i] & 15] + ((data[i] >> 4) & 3) * 256u + data[i + 1];
        length += (size_t)utf8proc_encode_char((utf8proc_int32_t)point, text + length);
    }
    return length;
}

/* An input that begins with 0xFF is a text as it stands. */
static size_t make_text(const uint8_t *data, size_t size, uint8_t *text)
{
    if (size == 0 || data[0] != 0xFF)
        return spell(data, size, text);
    size_t length = size - 1 < TEXT_MAX ? size - 1 : TEXT_MAX;
    memcpy(text, data + 1, length);
    return length;
}

static lua_State *open_text(void)
{
    lua_State *L = luaL_newstate();
    luaL_requiref(L, "text", luaopen_parley_text, 0);
    lua_getfield(L, 1, "nfc");
    return L;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static lua_State *L;
    uint8_t text[TEXT_MAX], *expected = NULL;
    size_t length = make_text(data, size, text), actual_length;
    if (!L)
        L = open_text();

    utf8proc_ssize_t expected_length =
        utf8proc_map(text, (utf8proc_ssize_t)length, &expected, UTF8PROC_STABLE | UTF8PROC_COMPOSE);
    lua_pushvalue(L, 2);
    lua_pushlstring(L, (const char *)text, length);
    fuzz_require(lua_pcall(L, 1, 1, 0) == LUA_OK, "nfc raises nothing");
    const char *actual = lua_tolstring(L, -1, &actual_length);
    fuzz_require((expected_length < 0) == (actual == NULL), "nfc takes what utf8proc_map takes");
    if (actual)
        fuzz_require((size_t)expected_length == actual_length && !memcmp(actual, expected, actual_length),
                     "nfc gives what utf8proc_map gives");
    free(expected);
    lua_settop(L, 2);
    return 0;
}
