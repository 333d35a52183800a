/* A child on a pseudo-terminal. Until it runs its program it shares the host's memory, so that a host of a gigabyte
 * starts it as quickly as a small one: what it does until then is async-signal-safe, changes nothing but what stands on
 * its own stack, and every path out is execve or _exit. */
#include "pty.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>
#include <uv.h>

enum { STACK_SIZE = 65536, DESCRIPTORS_MAX = 65536 };

/* What runs in the child. A sanitizer would remember its stack as the parent's. */
#define IN_CHILD __attribute__((no_sanitize("address", "undefined")))

/* What the child needs, made before it starts. */
struct plan {
    const struct pty_options *options;
    char *const *env;
    char *candidates; /* the files to try, each NUL-ended, an empty one last; owned */
    int slave, report;
    pid_t parent;
};

/* What the child writes into the close-on-exec pipe; end of file there means that it runs the program. */
struct failure {
    enum pty_step step;
    int error;
};

static void close_descriptor(int *descriptor)
{
    if (*descriptor >= 0)
        close(*descriptor);
    *descriptor = -1;
}

static const char *find_path(char *const *env)
{
    for (; *env; env++)
        if (!strncmp(*env, "PATH=", 5))
            return *env + 5;
    return "/bin:/usr/bin"; /* as execvp does */
}

/* NULL when there is no memory. An empty name has no candidates, an empty PATH element is the working directory. */
static char *list_candidates(const char *name, const char *path)
{
    size_t elements = 1;
    for (const char *c = path; *c; c++)
        elements += *c == ':';
    char *list = calloc(strlen(path) + elements * (strlen(name) + sizeof "./") + 1, 1);
    char *end = list;
    if (!list)
        return NULL;
    if (!*name || strchr(name, '/'))
        return strcpy(list, name);
    for (const char *element = path;; element++) {
        size_t length = strcspn(element, ":");
        end = length ? mempcpy(end, element, length) : stpcpy(end, ".");
        *end++ = '/';
        end = stpcpy(end, name) + 1;
        element += length;
        if (!*element)
            return list;
    }
}

static int open_terminal(int *master, int *slave, const struct pty_options *options)
{
    struct winsize size = {.ws_row = options->rows, .ws_col = options->columns};
    struct termios modes;

    *master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC | O_NONBLOCK);
    if (*master < 0 || grantpt(*master) || unlockpt(*master))
        return -errno;
    *slave = ioctl(*master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC); /* needs no path, so no mounted devpts */
    if (*slave < 0 || ioctl(*slave, TIOCSWINSZ, &size) || tcgetattr(*slave, &modes))
        return -errno;
    modes.c_iflag |= IUTF8; /* the kernel's defaults otherwise: echo, line editing, signals */
    return tcsetattr(*slave, TCSANOW, &modes) ? -errno : 0;
}

IN_CHILD static _Noreturn void give_up(int report, enum pty_step step, int error)
{
    struct failure failure = {.step = step, .error = error};
    ssize_t ignored = write(report, &failure, sizeof failure);
    (void)ignored;
    _exit(127);
}

/* Returns where to report from now on. */
IN_CHILD static int take_terminal(const struct plan *plan)
{
    /* A host without standard streams may have been given 0, 1 or 2 for these. */
    int report = fcntl(plan->report, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
    if (report < 0)
        give_up(plan->report, PTY_TERMINAL, errno);
    int slave = fcntl(plan->slave, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
    if (slave < 0 || setsid() < 0 || ioctl(slave, TIOCSCTTY, 0))
        give_up(report, PTY_TERMINAL, errno);
    for (int stream = STDIN_FILENO; stream <= STDERR_FILENO; stream++)
        if (dup2(slave, stream) < 0)
            give_up(report, PTY_TERMINAL, errno);
    /* Libraries open descriptors without close-on-exec; kernels before 5.11 need the long way. */
    if (syscall(SYS_close_range, STDERR_FILENO + 1, ~0U, CLOSE_RANGE_CLOEXEC))
        for (int descriptor = STDERR_FILENO + 1; descriptor < DESCRIPTORS_MAX; descriptor++)
            fcntl(descriptor, F_SETFD, FD_CLOEXEC);
    return report;
}

IN_CHILD static void reset_signals(void)
{
    struct sigaction action = {.sa_handler = SIG_DFL};
    sigset_t none;

    for (int signal = 1; signal < NSIG; signal++)
        sigaction(signal, &action, NULL); /* fails for SIGKILL, SIGSTOP and glibc's own, which have no handler */
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

IN_CHILD static int run_child(void *argument)
{
    const struct plan *plan = argument;
    bool is_named = strchr(plan->options->argv[0], '/') != NULL;
    int error = ENOENT;

    if (prctl(PR_SET_PDEATHSIG, SIGKILL))
        give_up(plan->report, PTY_FORK, errno);
    if (getppid() != plan->parent) /* it died before prctl: nobody is left to be reported to */
        _exit(127);
    int report = take_terminal(plan);
    if (plan->options->cwd && chdir(plan->options->cwd))
        give_up(report, PTY_CHDIR, errno);
    reset_signals();
    for (const char *file = plan->candidates; *file; file += strlen(file) + 1) {
        execve(file, plan->options->argv, plan->env);
        int problem = errno;
        /* A folder of PATH that may not be looked into is passed over, too. */
        bool is_there = is_named || access(file, F_OK) == 0;
        if (problem != ENOENT && problem != ENOTDIR && is_there)
            error = problem; /* says more, unless a later element of PATH has one that can be executed */
    }
    give_up(report, PTY_EXEC, error);
}

/* As vfork does, with a stack of the child's own: this thread stands still until the child has left its memory. Every
 * signal is blocked, so that no handler of the host runs in the child. */
static pid_t start_child(struct plan *plan)
{
    _Alignas(16) char stack[STACK_SIZE];
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    pid_t pid = clone(run_child, stack + sizeof stack, CLONE_VM | CLONE_VFORK | SIGCHLD, plan);
    int error = errno;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    errno = error;
    return pid;
}

static pid_t wait_for(pid_t pid, int *status, int flags)
{
    pid_t got;
    do
        got = waitpid(pid, status, flags);
    while (got < 0 && errno == EINTR);
    return got;
}

/* Blocks until the child runs its program (0) or has said why not (a negative value). */
static int read_report(int report, enum pty_step *step)
{
    struct failure failure;
    ssize_t got;
    do
        got = read(report, &failure, sizeof failure);
    while (got < 0 && errno == EINTR);
    if (got < 0)
        return -errno;
    if (got != (ssize_t)sizeof failure)
        return 0;
    *step = failure.step;
    return -failure.error;
}

int pty_spawn(struct pty *pty, const struct pty_options *options, enum pty_step *step)
{
    struct plan plan = {.options = options, .env = options->env ? options->env : environ, .slave = -1};
    int master = -1, report[2] = {-1, -1}, error;
    pid_t pid = -1;

    plan.parent = getpid();
    *step = PTY_OPEN;
    error = open_terminal(&master, &plan.slave, options);
    if (error)
        goto fail;
    *step = PTY_FORK;
    plan.candidates = list_candidates(options->argv[0], find_path(plan.env));
    if (plan.candidates && !pipe2(report, O_CLOEXEC)) {
        plan.report = report[1];
        pid = start_child(&plan);
    }
    if (pid < 0) {
        error = -errno;
        goto fail;
    }
    close_descriptor(&report[1]); /* or the pipe never ends */
    error = read_report(report[0], step);
    if (!error) {
        *pty = (struct pty){.master = master, .pid = pid, .state = PTY_RUNNING};
        master = pid = -1;
    }
fail:
    if (pid > 0)
        wait_for(pid, NULL, 0);
    free(plan.candidates);
    close_descriptor(&report[0]);
    close_descriptor(&report[1]);
    close_descriptor(&plan.slave);
    close_descriptor(&master);
    return error;
}

int pty_duplicate(const struct pty *pty)
{
    int copy = fcntl(pty->master, F_DUPFD_CLOEXEC, 0);
    return copy < 0 ? -errno : copy;
}

int pty_resize(const struct pty *pty, unsigned short rows, unsigned short columns)
{
    struct winsize size = {.ws_row = rows, .ws_col = columns};
    return ioctl(pty->master, TIOCSWINSZ, &size) ? -errno : 0;
}

int pty_size(const struct pty *pty, unsigned short *rows, unsigned short *columns)
{
    struct winsize size;
    if (ioctl(pty->master, TIOCGWINSZ, &size))
        return -errno;
    *rows = size.ws_row;
    *columns = size.ws_col;
    return 0;
}

ssize_t pty_read(const struct pty *pty, void *buffer, size_t size)
{
    ssize_t got = read(pty->master, buffer, size);
    if (got < 0)
        return -errno;
    return got == 0 && size > 0 ? UV_EIO : got; /* Linux says EIO at the end; elsewhere it is end of file */
}

ssize_t pty_write(const struct pty *pty, const void *bytes, size_t length)
{
    ssize_t put = write(pty->master, bytes, length);
    return put < 0 ? -errno : put;
}

int pty_signal(struct pty *pty, int signal)
{
    if (pty_poll(pty) != PTY_RUNNING)
        return UV_ESRCH;
    return kill(-pty->pid, signal) ? -errno : 0;
}

enum pty_state pty_poll(struct pty *pty)
{
    if (pty->state == PTY_RUNNING) {
        pid_t got = wait_for(pty->pid, &pty->status, WNOHANG);
        if (got)
            pty->state = got > 0 ? PTY_EXITED : PTY_LOST;
    }
    return pty->state;
}

void pty_hang_up(struct pty *pty)
{
    close_descriptor(&pty->master);
}

int pty_close(struct pty *pty)
{
    siginfo_t info;

    /* Before it is reaped the number is the child's own, so what it left behind in its group can be killed too. Killed
     * before the terminal hangs up, it always ends by the same signal. */
    if (pty->state == PTY_RUNNING && !waitid(P_PID, (id_t)pty->pid, &info, WEXITED | WNOHANG | WNOWAIT))
        kill(-pty->pid, SIGKILL);
    close_descriptor(&pty->master);
    return pty_poll(pty) == PTY_RUNNING ? UV_EAGAIN : 0;
}
