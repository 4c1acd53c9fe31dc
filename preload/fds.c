/*
 * mmap, close, dup and their relatives. The call itself is the kernel's; the
 * engine hears what became of a ring's descriptor. Descriptors of the engine's
 * own do not exist for the program: using one is EBADF, closing all of them (the
 * loop that every daemon begins with) passes over them.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>
#include "engine/entry.h"
#include "preload/export.h"
#include "preload/fds.h"
#include "preload/init.h"
#include "preload/next.h"
#include "rings/fds.h"
#include "rings/sys.h"
#include "seccomp/dispatch.h"

#define NR_CLOSE_RANGE      436
#define CLOSE_RANGE_UNSHARE (1U << 1)
#define CLOSE_RANGE_CLOEXEC (1U << 2)
/* fs.nr_open by default; where the engine puts its descriptors is below it. */
#define FD_LIMIT (1U << 20)

FU_EXPORT void *mmap(void *addr, size_t len, int prot, int flags, int fd, off_t off)
{
	const long args[6] = { (long)addr, (long)len, prot, flags, fd, off };
	long ret;

	if (!fu_have_rings() || !fu_dispatch(SYS_mmap, args, &ret)) {
		ret = fu_sys(SYS_mmap, addr, len, prot, flags, fd, off);
	}
	return (void *)fu_to_libc(ret);
}

FU_EXPORT void *mmap64(void *addr, size_t len, int prot, int flags, int fd, off_t off)
        __attribute__((alias("mmap")));

FU_EXPORT int close(int fd)
{
	int ret;

	fu_init();
	if (!fu_have_rings()) {
		return fu_next.close(fd);
	}
	if (fu_fd_is_engine(fd)) {
		errno = EBADF;
		return -1;
	}
	fu_fd_closing();
	ret = fu_next.close(fd);
	if (ret == 0 || errno != EBADF) {
		int saved = errno;

		fu_fd_closed(fd);
		/* To whoever has the other end that is an event. */
		fu_fd_written();
		errno = saved;
	}
	return ret;
}

FU_EXPORT int inotify_init(void)
{
	fu_init();
	fu_files_watched();
	return fu_next.inotify_init();
}

FU_EXPORT int inotify_init1(int flags)
{
	fu_init();
	fu_files_watched();
	return fu_next.inotify_init1(flags);
}

FU_EXPORT int fanotify_init(unsigned flags, unsigned event_flags)
{
	fu_init();
	fu_files_watched();
	return fu_next.fanotify_init(flags, event_flags);
}

static void duped(int oldfd, int newfd)
{
	fu_fd_aliased(oldfd, newfd);
	if (fu_have_rings()) {
		fu_fd_duped(oldfd, newfd);
	}
}

long fu_dup(int fd)
{
	long ret;

	if (fu_have_rings() && fu_fd_is_engine(fd)) {
		return -EBADF;
	}
	ret = fu_sys(SYS_dup, fd);
	if (!fu_is_err(ret)) {
		duped(fd, (int)ret);
	}
	return ret;
}

long fu_dup_to(long nr, int oldfd, int newfd, int flags)
{
	long ret;

	if (fu_have_rings() && (fu_fd_is_engine(oldfd) || fu_fd_is_engine(newfd))) {
		return -EBADF;
	}
	fu_fd_closing();
	ret = fu_sys(nr, oldfd, newfd, flags);
	if (!fu_is_err(ret) && oldfd != newfd) {
		if (fu_have_rings()) {
			fu_fd_closed(newfd);
		}
		duped(oldfd, newfd);
	}
	return ret;
}

FU_EXPORT int dup(int fd)
{
	return (int)fu_to_libc(fu_dup(fd));
}

FU_EXPORT int dup2(int oldfd, int newfd)
{
	return (int)fu_to_libc(fu_dup_to(SYS_dup2, oldfd, newfd, 0));
}

FU_EXPORT int dup3(int oldfd, int newfd, int flags)
{
	return (int)fu_to_libc(fu_dup_to(SYS_dup3, oldfd, newfd, flags));
}

static bool is_dup_cmd(int cmd)
{
	return cmd == F_DUPFD || cmd == F_DUPFD_CLOEXEC;
}

long fu_fcntl(int fd, int cmd, long arg)
{
	long ret;

	if (fu_have_rings() && fu_fd_is_engine(fd)) {
		return -EBADF;
	}
	ret = fu_sys(SYS_fcntl, fd, cmd, arg);
	if (is_dup_cmd(cmd) && !fu_is_err(ret)) {
		duped(fd, (int)ret);
	}
	return ret;
}

/*
 * libc's own does the rest: F_SETLKW is a cancellation point, and F_GETOWN is not
 * what it seems. One word covers every kind of argument on this architecture.
 */
FU_EXPORT int fcntl(int fd, int cmd, ...)
{
	va_list args;
	long arg;

	va_start(args, cmd);
	arg = va_arg(args, long);
	va_end(args);
	fu_init();
	if (is_dup_cmd(cmd) || (fu_have_rings() && fu_fd_is_engine(fd))) {
		return (int)fu_to_libc(fu_fcntl(fd, cmd, arg));
	}
	return fu_next.fcntl(fd, cmd, arg);
}

FU_EXPORT int fcntl64(int fd, int cmd, ...) __attribute__((alias("fcntl")));

long fu_close_range(u32 first, u32 last, u32 flags)
{
	u64 from = first;
	long ret = 0;

	if (!fu_have_rings() || first > last) {
		return fu_sys(NR_CLOSE_RANGE, first, last, flags);
	}
	/* The engine's threads have to see what the program opens from now on. */
	if ((flags & CLOSE_RANGE_UNSHARE) && fu_threads_are_ours()) {
		flags &= ~CLOSE_RANGE_UNSHARE;
	}
	fu_fd_closing();
	while (ret == 0 && from <= last) {
		u32 next = fu_fd_next_engine((u32)from, last);
		u64 gap = next == ~0U ? (u64)last + 1 : next;

		if (gap > from) {
			ret = fu_sys(NR_CLOSE_RANGE, from, gap - 1, flags);
			if (ret == 0 && !(flags & CLOSE_RANGE_CLOEXEC)) {
				fu_fd_range_closed((u32)from, (u32)(gap - 1));
			}
		}
		from = gap + 1;
	}
	return ret;
}

FU_EXPORT int close_range(unsigned first, unsigned last, int flags)
{
	return (int)fu_to_libc(fu_close_range(first, last, (u32)flags));
}

/* Cannot fail, by its definition: where close_range is missing, one by one. */
FU_EXPORT void closefrom(int low)
{
	struct rlimit limit = { 0 };
	u32 first = low > 0 ? (u32)low : 0;

	if (fu_close_range(first, ~0U, 0) == 0) {
		return;
	}
	fu_sys(SYS_getrlimit, RLIMIT_NOFILE, &limit);
	for (u64 fd = first; fd < limit.rlim_cur && fd < FD_LIMIT; fd++) {
		fu_dispatch_close((int)fd);
	}
}
