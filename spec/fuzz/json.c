/* JSON: what was decoded and encoded again is the same; what is no JSON is an error with a readable text (json.lua). */
#include "fuzz_lua.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static lua_State *L;
    if (!L)
        L = fuzz_lua_open("spec/fuzz/json.lua");
    fuzz_lua_call(L, data, size);
    return 0;
}
