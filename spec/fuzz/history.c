/* The canonical form: what is canonically equal has one fingerprint, what is not has another (history.lua). */
#include "fuzz_lua.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static lua_State *L;
    if (!L)
        L = fuzz_lua_open("spec/fuzz/history.lua");
    fuzz_lua_call(L, data, size);
    return 0;
}
