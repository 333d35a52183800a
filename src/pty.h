/* A child on a pseudo-terminal of its own: spawn, size, signal, reap. Linux; nothing here waits but pty_spawn.
 * Functions return 0 (or what they say) and on failure a negative UV_E* value, which on Linux is -errno. */
#ifndef PARLEY_PTY_H
#define PARLEY_PTY_H

#include <stddef.h>
#include <sys/types.h>

enum pty_state {
    PTY_NONE,    /* nothing was spawned */
    PTY_RUNNING, /* ours to signal and to reap */
    PTY_EXITED,  /* reaped: `status` is waitpid's, and `pid` may be anybody's by now */
    PTY_LOST,    /* reaped by somebody else: how it ended is not known */
};

/* Empty: the master is -1, the rest zero. */
struct pty {
    int master; /* owned; -1 when closed */
    pid_t pid;  /* also the child's session and process group */
    enum pty_state state;
    int status;
};

/* Everything here is borrowed until pty_spawn returns. */
struct pty_options {
    char *const *argv; /* NULL-ended, at least one; argv[0] without a slash is looked up on the PATH of `env` */
    char *const *env;  /* NULL-ended, the child's whole environment; NULL: the caller's */
    const char *cwd;   /* NULL: the caller's; a relative argv[0] counts from here */
    unsigned short rows, columns;
};

/* Where pty_spawn failed. */
enum pty_step { PTY_OPEN, PTY_FORK, PTY_TERMINAL, PTY_CHDIR, PTY_EXEC };

/* Starts the child as the leader of a new session with the terminal as its standard streams, and returns when it runs
 * the program. The child dies by SIGKILL when the calling *thread* ends. On failure `*pty` stays as it was, `*step`
 * says where, and neither a descriptor nor a child is left. `pty` must be empty. */
int pty_spawn(struct pty *pty, const struct pty_options *options, enum pty_step *step);

/* A copy of the master that the caller owns, close-on-exec. */
int pty_duplicate(const struct pty *pty);

int pty_resize(const struct pty *pty, unsigned short rows, unsigned short columns);
int pty_size(const struct pty *pty, unsigned short *rows, unsigned short *columns);

/* The number of bytes, UV_EAGAIN when that would block, UV_EIO when the child has closed the terminal. */
ssize_t pty_read(const struct pty *pty, void *buffer, size_t size);
ssize_t pty_write(const struct pty *pty, const void *bytes, size_t length);

/* Signals the child's process group: UV_ESRCH once the child has been reaped. Legal on a closed pty. */
int pty_signal(struct pty *pty, int signal);

/* Reaps the child if it has ended, and returns the state. Legal on a closed pty. */
enum pty_state pty_poll(struct pty *pty);

/* Closes the master and leaves the child to that: the kernel tells it by SIGHUP. Idempotent. */
void pty_hang_up(struct pty *pty);

/* Kills the process group of a child that nobody has reaped, and closes the master. UV_EAGAIN when the kernel still
 * ends the child: the state stays PTY_RUNNING, SIGCHLD tells when a later pty_poll will reap it. Idempotent. */
int pty_close(struct pty *pty);

#endif
