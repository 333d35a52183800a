/* The module `survivor`: a shell script that outlives this process, and notices its end. */
#include "core.h"
#include "fault.h"

#include <errno.h>
#include <fcntl.h>
#include <lauxlib.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

enum { NOTICE = 3 }; /* the script's descriptor that ends with this process */

/* Nothing of this process but its end: a session, standard streams and signals of its own. Returns 0 or an errno. */
static int prepare(posix_spawnattr_t *attributes, posix_spawn_file_actions_t *actions, int notice)
{
    sigset_t all, none;
    sigfillset(&all);
    sigemptyset(&none);
    posix_spawnattr_setsigdefault(attributes, &all);
    posix_spawnattr_setsigmask(attributes, &none);
    posix_spawnattr_setflags(attributes, POSIX_SPAWN_SETSID | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK);
    int error = posix_spawn_file_actions_adddup2(actions, notice, NOTICE);
    for (int stream = STDIN_FILENO; stream <= STDERR_FILENO && !error; stream++)
        error = posix_spawn_file_actions_addopen(actions, stream, "/dev/null", O_RDWR, 0);
    return error ? error : posix_spawn_file_actions_addclosefrom_np(actions, NOTICE + 1);
}

/* Runs `argv` with `env` to its end. Returns 0 or a negative errno. */
static int run(char *const *argv, char *const *env, int notice)
{
    posix_spawnattr_t attributes;
    posix_spawn_file_actions_t actions;
    pid_t pid;
    int error = posix_spawnattr_init(&attributes);
    if (error)
        return -error;
    error = posix_spawn_file_actions_init(&actions);
    if (!error) {
        error = prepare(&attributes, &actions, notice);
        if (!error)
            error = posix_spawn(&pid, argv[0], &actions, &attributes, argv, env);
        posix_spawn_file_actions_destroy(&actions);
    }
    posix_spawnattr_destroy(&attributes);
    if (error)
        return -error;
    while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
        continue;
    return 0;
}

static int start(lua_State *L)
{
    const char *path = getenv("PATH");
    char *argv[] = {"/bin/sh", "-c", (char *)luaL_checkstring(L, 1), "sh", (char *)luaL_optstring(L, 2, NULL), NULL};
    char *env[] = {(char *)lua_pushfstring(L, "PATH=%s", path ? path : "/bin:/usr/bin"), NULL};
    int ends[2];
    if (pipe2(ends, O_CLOEXEC))
        return fault_push(L, -errno, "cannot make a pipe");
    int error = run(argv, env, ends[0]);
    close(ends[0]);
    if (error) {
        close(ends[1]);
        return fault_push(L, error, "cannot run '%s'", argv[0]);
    }
    lua_pushinteger(L, ends[1]);
    return 1;
}

static const luaL_Reg functions[] = {{"start", start}, {NULL, NULL}};

int luaopen_parley_survivor(lua_State *L)
{
    luaL_newlib(L, functions);
    return 1;
}
