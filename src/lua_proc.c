/* The module `proc`: who lives, as proc(5) tells. In Lua a look at all of /proc takes twice as long, and each program
 * that ends is followed by one. */
#include "core.h"

#include <ctype.h>
#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { FIELDS_BETWEEN = 17 }; /* of /proc/PID/stat: between the parent, the 4th, and the start time, the 22nd */

struct process {
    long parent;
    uintmax_t started;
};

/* Reads what stands in a process' folder of /proc, whose path is relative to another folder. False when there is none,
 * or when the process has ended and nobody has waited for it. */
static bool read_stat(int base, const char *folder, struct process *process)
{
    char path[40], text[1024]; /* the kernel cuts a name to 64 bytes; the rest are some 50 numbers */
    snprintf(path, sizeof path, "%.32s/stat", folder);
    int descriptor = openat(base, path, O_RDONLY | O_CLOEXEC);
    if (descriptor < 0)
        return false;
    ssize_t length = read(descriptor, text, sizeof text - 1);
    close(descriptor);
    text[length > 0 ? length : 0] = '\0';
    char *at = strrchr(text, ')'); /* the name before may hold anything */
    if (!at || at[1] != ' ' || !at[2] || at[2] == 'Z' || at[2] == 'X')
        return false;
    process->parent = strtol(at + 3, &at, 10);
    for (int i = 0; at && i < FIELDS_BETWEEN; i++)
        at = strchr(at + 1, ' ');
    if (!at)
        return false;
    process->started = strtoumax(at, NULL, 10);
    return true;
}

static void push_process(lua_State *L, lua_Integer pid, const struct process *process)
{
    char started[24];
    snprintf(started, sizeof started, "%" PRIuMAX, process->started);
    lua_createtable(L, 0, 3);
    lua_pushinteger(L, pid);
    lua_setfield(L, -2, "pid");
    lua_pushinteger(L, process->parent);
    lua_setfield(L, -2, "parent");
    lua_pushstring(L, started);
    lua_setfield(L, -2, "started");
}

static int close_folder(lua_State *L)
{
    DIR **folder = lua_touserdata(L, 1);
    if (*folder)
        closedir(*folder);
    *folder = NULL;
    return 0;
}

static int list(lua_State *L)
{
    DIR **folder = lua_newuserdatauv(L, sizeof *folder, 0);
    *folder = NULL;
    static const luaL_Reg closing[] = {{"__gc", close_folder}, {"__close", close_folder}, {NULL, NULL}};
    static const luaL_Reg none[] = {{NULL, NULL}};
    core_class(L, "parley.core.proc.folder", closing, none);
    luaL_setmetatable(L, "parley.core.proc.folder");
    lua_toclose(L, -1); /* memory may run out between here and the end */
    lua_newtable(L);
    *folder = opendir("/proc");
    struct dirent *entry;
    for (lua_Integer count = 0; *folder && (entry = readdir(*folder));) {
        struct process process;
        if (!isdigit((unsigned char)*entry->d_name) || !read_stat(dirfd(*folder), entry->d_name, &process))
            continue;
        push_process(L, strtol(entry->d_name, NULL, 10), &process);
        lua_rawseti(L, -2, ++count);
    }
    return 1;
}

static int get(lua_State *L)
{
    lua_Integer pid = luaL_checkinteger(L, 1);
    char path[32];
    struct process process;
    snprintf(path, sizeof path, "/proc/%" PRIdMAX, (intmax_t)pid);
    if (!read_stat(AT_FDCWD, path, &process))
        return 0;
    push_process(L, pid, &process);
    return 1;
}

static const luaL_Reg functions[] = {
    {"get", get},
    {"list", list},
    {NULL, NULL},
};

int luaopen_parley_proc(lua_State *L)
{
    luaL_newlib(L, functions);
    return 1;
}
