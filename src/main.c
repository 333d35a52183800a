/* The host: a Lua 5.4 state with luv on a loop of its own and the whole Lua library inside.
 *
 * It opens those, hands over to lua/parley/command/host.lua, and takes everything down in an order that leaves nothing
 * open. What a command line means, how the main task runs and what a signal does is decided there. */
#include "core.h"
#include "fault.h"

#include <errno.h>
#include <fcntl.h>
#include <lauxlib.h>
#include <lualib.h>
#include <luv/luv.h>
#include <malloc.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>
#include <uv.h>

#define UNCAUGHT "parley.uncaught" /* registry: the first error that a libuv callback raised */

struct bundled_file {
    const char *name, *start, *end;
};

extern const struct bundled_file parley_bundle[]; /* made by src/bundle.sh: in the order of their names */
extern const size_t parley_bundle_length;

/* SIGTERM or SIGHUP so soon after another is the same request: timeout(1) signals the process and its group, and a
 * terminal that goes away hangs up twice. A person presses Ctrl-C again and means it. */
enum { SAME_REQUEST_MS = 1000 };

/* A signal handler reaches only what has static storage. */
static int signal_pipe[2] = {-1, -1};
static struct timespec caught[NSIG]; /* when each kind came first */

/* The second signal of a kind ends the process at once, even when Lua never returns to the loop. */
static void on_signal(int number)
{
    int saved = errno;
    unsigned char byte = (unsigned char)number;
    struct timespec now, *first = &caught[number];
    clock_gettime(CLOCK_MONOTONIC, &now);
    if (!first->tv_sec && !first->tv_nsec) {
        *first = now;
        ssize_t ignored = write(signal_pipe[1], &byte, 1);
        (void)ignored;
    } else if (number == SIGINT ||
               (now.tv_sec - first->tv_sec) * 1000 + (now.tv_nsec - first->tv_nsec) / 1000000 >= SAME_REQUEST_MS) {
        signal(number, SIG_DFL);
        raise(number);
    }
    errno = saved;
}

/* Whoever started the host may have ignored or blocked what it lives by. */
static void restore_signals(void)
{
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    signal(SIGCHLD, SIG_DFL);
}

static const int requests[] = {SIGINT, SIGTERM, SIGHUP};
enum { REQUEST_COUNT = sizeof requests / sizeof *requests };

static int catch_signals(void)
{
    if (pipe2(signal_pipe, O_CLOEXEC | O_NONBLOCK))
        return -errno;
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
    sigemptyset(&action.sa_mask);
    for (size_t i = 0; i < REQUEST_COUNT; i++) {
        struct sigaction old;
        sigaction(requests[i], NULL, &old);
        if (old.sa_handler != SIG_IGN) /* nohup and background shells mean it */
            sigaction(requests[i], &action, NULL);
    }
    signal(SIGPIPE, SIG_IGN); /* a reader that went away is an error result of write */
    signal(SIGXFSZ, SIG_IGN); /* and so is a file that may not grow */
    return 0;
}

/* Nobody reads the pipe any more: the first signal of a kind ends the process, too, whatever it still waits for. */
static void release_signals(void)
{
    for (size_t i = 0; i < REQUEST_COUNT; i++) {
        struct sigaction now;
        sigaction(requests[i], NULL, &now);
        if (now.sa_handler == on_signal && !caught[requests[i]].tv_sec)
            signal(requests[i], SIG_DFL);
    }
}

/* A closed descriptor from 0 to 2 would become that of the next thing opened. What stands in for an output cannot be
 * written, so that a lost result is an error. */
static int open_standard_descriptors(void)
{
    for (int descriptor = 0; descriptor <= 2; descriptor++)
        if (fcntl(descriptor, F_GETFD) == -1 && open("/dev/null", O_RDONLY) != descriptor)
            return -errno;
    return 0;
}

static int add_traceback(lua_State *L)
{
    if (lua_isnil(L, 1)) /* or an uncaught error(nil) would look like none */
        luaL_traceback(L, L, "nil", 1);
    else if (lua_type(L, 1) == LUA_TSTRING)
        luaL_traceback(L, L, lua_tostring(L, 1), 1);
    return 1;
}

/* luv's way into every callback. An error is kept for task.lua's pump, which fails the main task with it. */
static int call_from_loop(lua_State *L, int nargs, int nresult, int flags)
{
    (void)flags;
    int base = lua_gettop(L) - nargs;
    lua_pushcfunction(L, add_traceback);
    lua_insert(L, base);
    int status = lua_pcall(L, nargs, nresult, base);
    lua_remove(L, base);
    if (status == LUA_OK)
        return nresult == LUA_MULTRET ? lua_gettop(L) - base + 1 : nresult;
    if (lua_getfield(L, LUA_REGISTRYINDEX, UNCAUGHT) == LUA_TNIL) {
        lua_pushvalue(L, -2);
        lua_setfield(L, LUA_REGISTRYINDEX, UNCAUGHT);
    }
    lua_pop(L, 2);
    return -status;
}

static int compare_name(const void *name, const void *file)
{
    return strcmp(name, ((const struct bundled_file *)file)->name);
}

static const struct bundled_file *find_bundled(const char *path)
{
    return bsearch(path, parley_bundle, parley_bundle_length, sizeof *parley_bundle, compare_name);
}

/* read_bundled(path) returns the file's bytes, or nil. */
static int read_bundled(lua_State *L)
{
    const struct bundled_file *file = find_bundled(luaL_checkstring(L, 1));
    if (!file)
        return 0;
    lua_pushlstring(L, file->start, (size_t)(file->end - file->start));
    return 1;
}

/* load_bundled(path) returns the chunk that a Lua file is, text or compiled, or nil. */
static int load_bundled(lua_State *L)
{
    const struct bundled_file *file = find_bundled(luaL_checkstring(L, 1));
    if (!file)
        return 0;
    const char *name = lua_pushfstring(L, "@%s", file->name);
    if (luaL_loadbuffer(L, file->start, (size_t)(file->end - file->start), name))
        return lua_error(L);
    return 1;
}

/* flush_output() writes out what stands in stdout's buffer. When that, or any write before it, has failed it returns
 * the error's name and text: `print` drops the error and what it could not write. */
static int flush_output(lua_State *L)
{
    int code = fflush(stdout) ? -errno : 0;
    if (!code && !ferror(stdout))
        return 0;
    struct pollfd output = {.fd = STDOUT_FILENO, .events = POLLOUT};
    if (!code && poll(&output, 1, 0) == 1 && output.revents & (POLLERR | POLLHUP))
        code = UV_EPIPE;
    else if (!code)
        code = (fcntl(STDOUT_FILENO, F_GETFL) & O_ACCMODE) == O_RDONLY ? UV_EBADF : UV_EIO;
    lua_pushstring(L, uv_err_name(code));
    lua_pushstring(L, code == UV_EIO ? "not all of it could be written" : uv_strerror(code));
    return 2;
}

static void push_host(lua_State *L)
{
    lua_createtable(L, 0, 6);
    lua_pushcfunction(L, read_bundled);
    lua_setfield(L, -2, "read_bundled");
    lua_pushcfunction(L, load_bundled);
    lua_setfield(L, -2, "load_bundled");
    lua_pushcfunction(L, flush_output);
    lua_setfield(L, -2, "flush_output");
    lua_newtable(L);
    for (size_t i = 0; i < parley_bundle_length; i++) {
        lua_pushstring(L, parley_bundle[i].name);
        lua_rawseti(L, -2, (lua_Integer)i + 1);
    }
    lua_setfield(L, -2, "files");
    lua_pushinteger(L, signal_pipe[0]);
    lua_setfield(L, -2, "signal_descriptor"); /* luv's from here on */
    lua_pushliteral(L, PARLEY_VERSION);
    lua_setfield(L, -2, "version");
}

/* Runs in protected mode: (argc, argv) in, exit status out. */
static int run(lua_State *L)
{
    int argc = (int)lua_tointeger(L, 1);
    char **argv = lua_touserdata(L, 2);
    luaL_openlibs(L);
    luaL_requiref(L, "luv", luaopen_luv, 0);
    luaL_getsubtable(L, LUA_REGISTRYINDEX, LUA_PRELOAD_TABLE);
    lua_pushcfunction(L, luaopen_parley_core);
    lua_setfield(L, -2, "parley.core");

    lua_pushcfunction(L, load_bundled);
    lua_pushliteral(L, "lua/parley/command/host.lua");
    lua_call(L, 1, 1);
    push_host(L);
    lua_createtable(L, argc, 0);
    for (int i = 0; i < argc; i++) {
        lua_pushstring(L, argv[i]);
        lua_rawseti(L, -2, i);
    }
    lua_call(L, 2, 1);
    return 1;
}

/* Runs in protected mode, for an object's __tostring may raise. */
static int report(lua_State *L)
{
    fprintf(stderr, "parley: %s\n", luaL_tolstring(L, 1, NULL));
    return 0;
}

static void close_handle(uv_handle_t *handle, void *unused)
{
    (void)unused;
    if (!uv_is_closing(handle))
        uv_close(handle, NULL);
}

/* Puts the beginning of the heap into pages of two megabytes. A start writes to some 400 small ones, each for the first
 * time, and in a virtual machine that can take 15 us each: a third of the start. Where the kernel has no such pages it
 * gives small ones. */
static void use_huge_pages(void)
{
#if defined(__GLIBC__) && defined(MADV_HUGEPAGE)
    enum { HUGE = 2 << 20, ROOM = 4 * HUGE }; /* of the room only what is written to is ever taken */
    enum { REST = 144 << 10 };                /* more than a library's constructor has left of its first growth */
    enum { PAD = 128 << 10 };                 /* malloc's own */
    uintptr_t first = ((uintptr_t)sbrk(0) + REST + HUGE - 1) & -(uintptr_t)HUGE;
    if (brk((void *)(first - REST)))
        return;
    mallopt(M_TOP_PAD, ROOM);
    void *volatile more = malloc(REST - 4096); /* so the heap grows, from REST below the first page on */
    mallopt(M_TRIM_THRESHOLD, 2 * ROOM);       /* and keeps the room */
    free(more);
    mallopt(M_TOP_PAD, PAD);         /* later growth, and the heaps of threads, ask for no such room */
    mallopt(M_MMAP_THRESHOLD, HUGE); /* which malloc would learn by itself, had nothing been set */
    madvise((void *)first, ROOM - HUGE, MADV_HUGEPAGE); /* and nothing of it was written to yet */
#endif
}

int main(int argc, char **argv)
{
    static uv_loop_t loop; /* a thread of libuv's pool may tell it of its end when main has returned */
    int status = 1;
    use_huge_pages();
    restore_signals();
    argv = uv_setup_args(argc, argv);
    lua_State *L = luaL_newstate();
    if (!L || open_standard_descriptors() || catch_signals() || uv_loop_init(&loop)) {
        fprintf(stderr, "parley: cannot start: %s\n", strerror(errno));
        return 1;
    }
    luv_set_loop(L, &loop);
    luv_set_callback(L, call_from_loop);
    lua_pushcfunction(L, add_traceback);
    lua_pushcfunction(L, run);
    lua_pushinteger(L, argc);
    lua_pushlightuserdata(L, argv);
    if (lua_pcall(L, 2, 1, 1) == LUA_OK) {
        status = (int)lua_tointeger(L, -1);
    } else {
        lua_pushcfunction(L, report);
        lua_insert(L, -2);
        if (lua_pcall(L, 1, 0, 0))
            fputs("parley: an error that has no text\n", stderr);
    }

    /* luv frees a handle's memory in its close callback, which must run while the Lua state still stands, and so must
     * what a finalizer begins: that never comes back. */
    release_signals();
    do
        uv_walk(&loop, close_handle, NULL); /* a callback may have opened another */
    while (uv_run(&loop, UV_RUN_ONCE));
    lua_close(L);
    uv_loop_close(&loop);
    close(signal_pipe[1]);
    return status;
}
