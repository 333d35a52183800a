/* The module `lock`: a file that one holder at a time has, by flock(2). The kernel ends it with its holder, whatever
 * ends that, and knows of holders in other containers. */
#include "core.h"
#include "fault.h"

#include <errno.h>
#include <fcntl.h>
#include <lauxlib.h>
#include <stdbool.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define LOCK_METATABLE "parley.lock"

/* The path, NUL-terminated, is the user value. */
struct lock {
    int fd; /* -1: released */
};

/* Whether the open file still stands at the path: a holder removes it when it lets go. */
static bool stands(int fd, const char *path)
{
    struct stat here, there;
    return fstat(fd, &here) == 0 && stat(path, &there) == 0 && here.st_ino == there.st_ino &&
           here.st_dev == there.st_dev;
}

/* Returns a descriptor, the caller's and close-on-exec, or a negative errno: -EWOULDBLOCK when another has it. */
static int take_file(const char *path)
{
    for (;;) {
        int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
        if (fd < 0)
            return -errno;
        while (flock(fd, LOCK_EX | LOCK_NB)) {
            int error = errno;
            if (error == EINTR)
                continue;
            close(fd);
            return -error;
        }
        if (stands(fd, path))
            return fd;
        close(fd);
    }
}

static int take(lua_State *L)
{
    size_t length;
    const char *path = luaL_checklstring(L, 1, &length);
    luaL_argcheck(L, length > 0 && length == strlen(path), 1, "a path without NUL bytes expected");
    struct lock *lock = lua_newuserdatauv(L, sizeof *lock, 1);
    lock->fd = -1;
    luaL_setmetatable(L, LOCK_METATABLE);
    lua_pushvalue(L, 1);
    lua_setiuservalue(L, -2, 1);
    int fd = take_file(path);
    if (fd < 0)
        return fault_push(L, fd, "cannot lock '%s'", path);
    lock->fd = fd;
    return 1;
}

/* A child between fork and exec has the descriptor, too, so that closing it alone would not let go. */
static int release(lua_State *L)
{
    struct lock *lock = luaL_checkudata(L, 1, LOCK_METATABLE);
    if (lock->fd < 0)
        return 0;
    lua_getiuservalue(L, 1, 1);
    const char *path = lua_tostring(L, -1);
    if (path && stands(lock->fd, path))
        unlink(path);
    flock(lock->fd, LOCK_UN);
    close(lock->fd);
    lock->fd = -1;
    return 0;
}

static int lock_tostring(lua_State *L)
{
    const struct lock *lock = luaL_checkudata(L, 1, LOCK_METATABLE);
    lua_getiuservalue(L, 1, 1);
    lua_pushfstring(L, "%s (%s)", LOCK_METATABLE, lock->fd < 0 ? "released" : lua_tostring(L, -1));
    return 1;
}

static const luaL_Reg methods[] = {{"release", release}, {NULL, NULL}};

static const luaL_Reg metamethods[] = {
    {"__close", release},
    {"__gc", release},
    {"__tostring", lock_tostring},
    {NULL, NULL},
};

static const luaL_Reg functions[] = {{"take", take}, {NULL, NULL}};

int luaopen_parley_lock(lua_State *L)
{
    core_class(L, LOCK_METATABLE, metamethods, methods);
    luaL_newlib(L, functions);
    return 1;
}
