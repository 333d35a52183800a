/* The module `digest`: BLAKE2b from libsodium, at once or piece by piece. */
#include "core.h"

#include <lauxlib.h>
#include <sodium.h>
#include <stdbool.h>
#include <stdint.h>

#define DIGEST_METATABLE "parley.digest"

struct digest {
    size_t size; /* of the result, in bytes */
    bool is_final;
    unsigned char room[sizeof(crypto_generichash_state) + 63]; /* see state_of */
};

/* The state must stand at a multiple of 64, and Lua promises 16 at most. A userdata never moves. */
static crypto_generichash_state *state_of(struct digest *digest)
{
    return (crypto_generichash_state *)(((uintptr_t)digest->room + 63) & ~(uintptr_t)63);
}

static struct digest *check_digest(lua_State *L, int index)
{
    struct digest *digest = luaL_checkudata(L, index, DIGEST_METATABLE);
    luaL_argcheck(L, !digest->is_final, index, "the digest is final");
    return digest;
}

static size_t check_size(lua_State *L, int index)
{
    lua_Integer size = luaL_optinteger(L, index, crypto_generichash_BYTES);
    luaL_argcheck(
        L, size >= (lua_Integer)crypto_generichash_BYTES_MIN && size <= (lua_Integer)crypto_generichash_BYTES_MAX,
        index, "a digest has 16 to 64 bytes");
    return (size_t)size;
}

static int blake2b(lua_State *L)
{
    size_t length;
    const char *bytes = luaL_checklstring(L, 1, &length);
    size_t size = check_size(L, 2);
    unsigned char result[crypto_generichash_BYTES_MAX];
    crypto_generichash(result, size, (const unsigned char *)bytes, length, NULL, 0);
    lua_pushlstring(L, (const char *)result, size);
    return 1;
}

static int new_digest(lua_State *L)
{
    size_t size = check_size(L, 1);
    struct digest *digest = lua_newuserdatauv(L, sizeof *digest, 0);
    luaL_setmetatable(L, DIGEST_METATABLE);
    digest->size = size;
    digest->is_final = false;
    crypto_generichash_init(state_of(digest), NULL, 0, size);
    return 1;
}

static int update(lua_State *L)
{
    struct digest *digest = check_digest(L, 1);
    size_t length;
    const char *bytes = luaL_checklstring(L, 2, &length);
    crypto_generichash_update(state_of(digest), (const unsigned char *)bytes, length);
    lua_settop(L, 1);
    return 1;
}

static int final(lua_State *L)
{
    struct digest *digest = check_digest(L, 1);
    unsigned char result[crypto_generichash_BYTES_MAX];
    digest->is_final = true;
    crypto_generichash_final(state_of(digest), result, digest->size);
    lua_pushlstring(L, (const char *)result, digest->size);
    return 1;
}

static int digest_tostring(lua_State *L)
{
    const struct digest *digest = luaL_checkudata(L, 1, DIGEST_METATABLE);
    lua_pushfstring(L, "%s (%s, %d bytes)", DIGEST_METATABLE, digest->is_final ? "final" : "open", (int)digest->size);
    return 1;
}

static int hex(lua_State *L)
{
    size_t length;
    const char *bytes = luaL_checklstring(L, 1, &length);
    luaL_Buffer buffer;
    char *text = luaL_buffinitsize(L, &buffer, length * 2 + 1);
    sodium_bin2hex(text, length * 2 + 1, (const unsigned char *)bytes, length);
    luaL_pushresultsize(&buffer, length * 2);
    return 1;
}

static const luaL_Reg metamethods[] = {
    {"__tostring", digest_tostring},
    {NULL, NULL},
};

static const luaL_Reg methods[] = {
    {"final", final},
    {"update", update},
    {NULL, NULL},
};

static const luaL_Reg functions[] = {
    {"blake2b", blake2b},
    {"hex", hex},
    {"new", new_digest},
    {NULL, NULL},
};

int luaopen_parley_digest(lua_State *L)
{
    if (sodium_init() < 0)
        return luaL_error(L, "libsodium cannot be used here");
    core_class(L, DIGEST_METATABLE, metamethods, methods);
    luaL_newlib(L, functions);
    return 1;
}
