/* Marks and numbers of the engine's own descriptors; see fds.h. */
#include "rings/fds.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/kcmp.h>
#include <sys/mman.h>
#include <sys/resource.h>

#include "rings/lock.h"
#include "rings/sys.h"

#ifndef F_DUPFD_QUERY
#define F_DUPFD_QUERY 1027 /* Linux 6.10 */
#endif

/*
 * They start here, or at half the soft limit: where no program puts descriptors of its own by
 * number. A process with threads pays ten milliseconds and more (an RCU grace period) whenever the
 * kernel has to enlarge its descriptor table, so that is done before the first one; where it
 * was not, there are 64 numbers from the start.
 */
#define HIGH_FD          960U
#define HIGH_FD_THREADED 48U
#define MARKS            (1U << 20)
#define FEW              32U

/* One bit for each number; set before the descriptor can be seen by others, cleared before it
 * closes. */
static u8 *marks;
static u32 nr_own; /* how many there are; atomic */

/* The process has been made with its parent's descriptors. */
static bool with_parent;

/* Serialises those that lift the limit: each restores what it found. */
static struct fu_lock limit_lock;

void fu_fds_init(void)
{
	void *p;

	if (marks)
		return;
	p = fu_ptr((u64)fu_sys(SYS_mmap, 0, MARKS / 8, PROT_READ | PROT_WRITE,
	                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
	if (!fu_ptr_is_err(p))
		fu_store_release(&marks, p);
}

void fu_fd_mark(int fd)
{
	u8 *map = fu_load_acquire(&marks);

	__atomic_fetch_add(&nr_own, 1, __ATOMIC_RELAXED);
	if (map && (u32)fd < MARKS)
		__atomic_fetch_or(&map[fd / 8], (u8)(1U << fd % 8), __ATOMIC_RELAXED);
}

static void unmark(int fd)
{
	u8 *map = fu_load_acquire(&marks);

	__atomic_fetch_sub(&nr_own, 1, __ATOMIC_RELAXED);
	if (map && (u32)fd < MARKS)
		__atomic_fetch_and(&map[fd / 8], (u8) ~(1U << fd % 8), __ATOMIC_RELAXED);
}

bool fu_fd_is_engine(int fd)
{
	const u8 *map = fu_load_acquire(&marks);

	return map && (u32)fd < MARKS && (fu_load_relaxed(&map[fd / 8]) >> fd % 8 & 1);
}

u32 fu_fd_next_engine(u32 first, u32 last)
{
	const u64 *map = (const u64 *)(const void *)fu_load_acquire(&marks);
	u32 end = last < MARKS ? last : MARKS - 1;

	for (u32 at = first; map && at <= end; at = (at | 63) + 1) {
		u64 word = fu_load_relaxed(&map[at / 64]) >> at % 64;

		if (word) {
			at += (u32)__builtin_ctzll(word);
			return at <= end ? at : ~0U;
		}
	}
	return ~0U;
}

bool fu_threaded;

/* The descriptor table has been enlarged; any thread writes it. */
static bool enlarged;

/* Half the soft limit as it was last looked at, 0 before that; any thread writes it. */
static u64 half_limit;

/* Where they start if the table may be enlarged. `look`: the limit may have changed. */
static u64 wide_base(bool look)
{
	u64 half = fu_load_relaxed(&half_limit);
	struct rlimit lim;

	if (!half || look) {
		half = HIGH_FD;
		if (fu_sys(SYS_prlimit64, 0, RLIMIT_NOFILE, 0, &lim) == 0)
			half = lim.rlim_cur / 2;
		fu_store_relaxed(&half_limit, half);
	}
	return half < HIGH_FD ? half : HIGH_FD;
}

static u64 high_base(bool look)
{
	u64 base = wide_base(look);

	if (base > HIGH_FD_THREADED && fu_load_relaxed(&fu_threaded) && !fu_load_relaxed(&enlarged))
		base = HIGH_FD_THREADED;
	return base;
}

/* While this is the only thread to enlarge the table takes no time. */
static void enlarge(void)
{
	long ret = -EBADF;

	for (int fd = 0; fd <= 2 && ret == -EBADF; fd++)
		ret = fu_sys(SYS_fcntl, fd, F_DUPFD_CLOEXEC, wide_base(true));
	if (ret < 0)
		return;
	fu_sys(SYS_close, ret);
	fu_store_relaxed(&enlarged, true);
}

void fu_fds_threaded(void)
{
	if (fu_likely(fu_load_relaxed(&fu_threaded)))
		return;
	if (!fu_load_relaxed(&enlarged))
		enlarge();
	fu_store_relaxed(&fu_threaded, true);
}

/*
 * The soft limit may be used up while the hard one is not: lifted for the moment of
 * the call, since a descriptor above the limit stays valid.
 */
long fu_fds_lifted(long (*fn)(void *arg, u64 old_limit), void *arg)
{
	struct rlimit lim, lifted;
	long ret = -EMFILE;

	fu_lock(&limit_lock);
	if (fu_sys(SYS_prlimit64, 0, RLIMIT_NOFILE, 0, &lim) == 0 && lim.rlim_cur < lim.rlim_max) {
		lifted = lim;
		lifted.rlim_cur = lim.rlim_max;
		if (fu_sys(SYS_prlimit64, 0, RLIMIT_NOFILE, &lifted, 0) == 0) {
			ret = fn(arg, lim.rlim_cur);
			fu_sys(SYS_prlimit64, 0, RLIMIT_NOFILE, &lim, 0);
		}
	}
	fu_unlock(&limit_lock);
	return ret;
}

void fu_fds_fork_prepare(void)
{
	fu_lock(&limit_lock);
}

void fu_fds_fork_done(void)
{
	fu_unlock(&limit_lock);
}

void fu_fds_reset(bool may_share)
{
	limit_lock.word = 0;
	with_parent = may_share && fu_sys(SYS_kcmp, fu_sys(SYS_getpid), fu_sys(SYS_getppid),
	                                  KCMP_FILES, 0, 0) == 0;
}

void fu_fd_close_inherited(int fd)
{
	if (!with_parent)
		fu_fd_close(fd);
}

int fu_fd_same(int a, int b)
{
	long pid, ret = fu_sys(SYS_fcntl, a, F_DUPFD_QUERY, b);

	if (ret >= 0)
		return (int)ret;
	pid = fu_sys(SYS_getpid);
	/* An order: 1 or 2 if they are two. */
	ret = fu_sys(SYS_kcmp, pid, pid, KCMP_FILE, a, b);
	return ret < 0 ? (int)ret : !ret;
}

static long dup_above(void *fd, u64 old_limit)
{
	return fu_sys(SYS_fcntl, *(int *)fd, F_DUPFD_CLOEXEC, old_limit);
}

int fu_fd_dup_high(int fd)
{
	long ret = fu_sys(SYS_fcntl, fd, F_DUPFD_CLOEXEC, high_base(false));

	if (ret == -EINVAL)
		ret = fu_sys(SYS_fcntl, fd, F_DUPFD_CLOEXEC, high_base(true));
	if (ret == -EMFILE || ret == -EINVAL)
		ret = fu_fds_lifted(dup_above, &fd);
	if (ret == -EMFILE || ret == -EINVAL)
		ret = fu_sys(SYS_fcntl, fd, F_DUPFD_CLOEXEC, 3);
	if (ret >= 0)
		fu_fd_mark((int)ret);
	if (!fu_load_relaxed(&enlarged) && ret >= (long)wide_base(false))
		fu_store_relaxed(&enlarged, true);
	return (int)ret;
}

/* The soft limit is the program's to use up: beyond a part of it ours lie above, if they may. */
static bool crowded(void)
{
	u32 n = fu_load_relaxed(&nr_own);
	struct rlimit lim;

	return n > FEW && fu_sys(SYS_prlimit64, 0, RLIMIT_NOFILE, 0, &lim) == 0 &&
	       n > lim.rlim_cur / 16;
}

int fu_fd_high(int fd)
{
	int high = crowded() ? (int)fu_fds_lifted(dup_above, &fd) : -EMFILE;

	if (high >= 0)
		fu_fd_mark(high);
	else
		high = fu_fd_dup_high(fd);
	if (high < 0) {
		fu_fd_mark(fd);
		return fd;
	}
	fu_sys(SYS_close, fd);
	return high;
}

void fu_fd_close(int fd)
{
	unmark(fd);
	fu_sys(SYS_close, fd);
}
