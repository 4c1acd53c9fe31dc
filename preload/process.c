/*
 * fork is seen through libc's own fork handlers, which also run for daemon() and
 * forkpty(); only _Fork, which skips them by its definition, is interposed. The
 * handlers are registered before anybody else's, so that the engine is the last
 * to be stopped before a fork and the first to run after it, and the program's own
 * handlers may use rings. exec and the exits that run no destructors are where the
 * statistics get their last update; exec also hands the signal mask on.
 *
 * SIGSYS's disposition needs no care at exec: the kernel resets handlers.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "engine/entry.h"
#include "engine/stats.h"
#include "preload/export.h"
#include "preload/handlers.h"
#include "preload/init.h"
#include "preload/next.h"
#include "preload/process.h"
#include "preload/signals.h"
#include "rings/sys.h"
#include "seccomp/notify.h"

extern char **environ;

/* What pthread_atfork is made of; unlike it, in libc.so itself on every glibc. */
int __register_atfork(void (*prepare)(void), void (*parent)(void), void (*child)(void),
                      void *dso_handle) __attribute__((weak));

static void before_fork(void)
{
	if (fu_have_rings()) {
		fu_fork_prepare();
	}
}

static void begin_fork(void)
{
	if (fu_have_rings()) {
		fu_fork_begin();
	}
}

static void parent_after_fork(void)
{
	if (fu_have_rings()) {
		fu_fork_parent();
	}
}

static void child_after_fork(void)
{
	fu_init_fork_child();
	fu_stats_fork_child();
	fu_notify_fork_child();
	if (fu_have_rings()) {
		fu_fork_child();
	}
	fu_sigsys_fork_child();
	fu_handlers_fork_child();
}

void fu_process_init(void)
{
	__register_atfork(before_fork, parent_after_fork, child_after_fork, NULL);
}

void fu_process_before_ring(void)
{
	static bool done;

	if (!__atomic_exchange_n(&done, true, __ATOMIC_RELAXED)) {
		__register_atfork(begin_fork, NULL, NULL, NULL);
	}
}

FU_EXPORT pid_t _Fork(void)
{
	pid_t pid;

	fu_init();
	if (!fu_next._Fork) {
		errno = ENOSYS;
		return -1;
	}
	before_fork();
	pid = fu_next._Fork();
	if (pid == 0) {
		child_after_fork();
	} else {
		int saved = errno;

		parent_after_fork();
		errno = saved;
	}
	return pid;
}

/*
 * What libc does for one thread only. setuid and its like it does for all, the engine's among
 * them.
 */
int fu_process_unshares(int flags)
{
	fu_threads_differ();
	return (flags & CLONE_FILES) && fu_threads_are_ours() ? flags & ~CLONE_FILES : flags;
}

FU_EXPORT int unshare(int flags)
{
	fu_init();
	return fu_next.unshare(fu_process_unshares(flags));
}

FU_EXPORT int setns(int fd, int type)
{
	fu_init();
	fu_threads_differ();
	return fu_next.setns(fd, type);
}

FU_EXPORT int capset(void *header, const void *data)
{
	fu_init();
	fu_threads_differ();
	return fu_next.capset(header, data);
}

static void before_exec(void)
{
	fu_init();
	fu_stats_end();
	fu_signals_before_exec();
}

static bool executable(int dirfd, const char *path)
{
	struct stat st;

	return fu_sys(SYS_faccessat, dirfd, path, X_OK) == 0 &&
	       fu_sys(SYS_newfstatat, dirfd, path, &st, 0) == 0 && S_ISREG(st.st_mode);
}

/* As execvp looks for `file`. */
static bool executable_in_path(const char *file)
{
	const char *dirs = getenv("PATH");
	size_t file_len = strlen(file);
	char path[PATH_MAX];

	if (strchr(file, '/')) {
		return executable(AT_FDCWD, file);
	}
	for (const char *dir = dirs ? dirs : "/bin:/usr/bin";; dir++) {
		size_t len = strcspn(dir, ":");

		if (len + file_len + 2 <= sizeof(path)) {
			memcpy(path, dir, len);
			path[len] = '/';
			memcpy(path + len + (len > 0), file, file_len + 1);
			if (executable(AT_FDCWD, path)) {
				return true;
			}
		}
		dir += len;
		if (!*dir) {
			return false;
		}
	}
}

/* The kernel ends the process's requests when nothing can keep exec from succeeding any more. */
static void leave_rings(bool succeeds)
{
	if (succeeds) {
		fu_exec_prepare();
	}
}

/* exec has failed. */
static int after_exec(int ret)
{
	int saved = errno;

	fu_signals_after_exec();
	errno = saved;
	return ret;
}

FU_EXPORT int execve(const char *path, char *const argv[], char *const env[])
{
	before_exec();
	leave_rings(fu_have_rings() && executable(AT_FDCWD, path));
	return after_exec(fu_next.execve(path, argv, env));
}

FU_EXPORT int execv(const char *path, char *const argv[])
{
	before_exec();
	leave_rings(fu_have_rings() && executable(AT_FDCWD, path));
	return after_exec(fu_next.execve(path, argv, environ));
}

FU_EXPORT int execvpe(const char *file, char *const argv[], char *const env[])
{
	before_exec();
	leave_rings(fu_have_rings() && executable_in_path(file));
	return after_exec(fu_next.execvpe(file, argv, env));
}

FU_EXPORT int execvp(const char *file, char *const argv[])
{
	before_exec();
	leave_rings(fu_have_rings() && executable_in_path(file));
	return after_exec(fu_next.execvpe(file, argv, environ));
}

FU_EXPORT int fexecve(int fd, char *const argv[], char *const env[])
{
	before_exec();
	leave_rings(fu_have_rings());
	return after_exec(fu_next.fexecve(fd, argv, env));
}

FU_EXPORT int execveat(int dirfd, const char *path, char *const argv[], char *const env[],
                       int flags)
{
	before_exec();
	leave_rings(fu_have_rings() && ((flags & AT_EMPTY_PATH) || executable(dirfd, path)));
	return after_exec((int)fu_to_libc(fu_sys(SYS_execveat, dirfd, path, argv, env, flags)));
}

static size_t count_args(va_list args)
{
	size_t n = 1;

	while (va_arg(args, char *)) {
		n++;
	}
	return n;
}

/* The list forms: `argv` becomes the `n` arguments from `arg` on, and their NULL. */
static void collect(char **argv, size_t n, const char *arg, va_list args)
{
	argv[0] = (char *)(uintptr_t)arg;
	for (size_t i = 1; i <= n; i++) {
		argv[i] = va_arg(args, char *);
	}
}

#define LIST_TO_VECTOR(arg)   \
	va_list args;         \
	size_t n;             \
	va_start(args, arg);  \
	n = count_args(args); \
	va_end(args);         \
	char *argv[n + 1];    \
	va_start(args, arg);  \
	collect(argv, n, arg, args)

FU_EXPORT int execl(const char *path, const char *arg, ...)
{
	LIST_TO_VECTOR(arg);
	va_end(args);
	return execv(path, argv);
}

FU_EXPORT int execlp(const char *file, const char *arg, ...)
{
	LIST_TO_VECTOR(arg);
	va_end(args);
	return execvp(file, argv);
}

FU_EXPORT int execle(const char *path, const char *arg, ...)
{
	char **env;

	LIST_TO_VECTOR(arg);
	env = va_arg(args, char **);
	va_end(args);
	return execve(path, argv, env);
}

FU_EXPORT void _exit(int status)
{
	fu_stats_end();
	for (;;) {
		fu_sys(SYS_exit_group, status);
	}
}

FU_EXPORT void _Exit(int status) __attribute__((alias("_exit")));

FU_EXPORT void quick_exit(int status)
{
	fu_init();
	fu_stats_end();
	fu_next.quick_exit(status);
	__builtin_unreachable();
}

__attribute__((destructor)) static void at_exit(void)
{
	fu_stats_end();
}
