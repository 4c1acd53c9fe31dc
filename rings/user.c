/*
 * Copies to and from the program's memory through process_vm_readv and
 * process_vm_writev on ourselves. Where a sandbox forbids those, a pipe does it:
 * write(2) reads the bad pointer for us, read(2) writes it. Where there is no pipe
 * to be had either, the kernel is asked whether each page can be read or written,
 * and then it is: that is safe unless another thread unmaps it in between.
 */
#include "rings/user.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <sys/stat.h>
#include <sys/uio.h>

#include "rings/fds.h"
#include "rings/lock.h"
#include "rings/mem.h"
#include "rings/sys.h"

#define PIPE_STEP 4096UL

/* Set once process_vm_* turned out to be missing or denied; a relaxed hint. */
static bool vm_denied;

/*
 * The pipe, made when first needed and kept: the program's limit of descriptors may be used up
 * later, and a number that comes and goes can hit one that the program believes to be free. It is
 * empty whenever the lock is. Inside it there is only the lock of the limit (fds.c).
 */
static struct fu_lock pipe_lock;
static int pipe_fds[2] = { -1, -1 };
static u64 pipe_ino;

static long new_pipe(void *fds, u64 old_limit)
{
	(void)old_limit;
	return fu_sys(SYS_pipe2, fds, O_CLOEXEC | O_NONBLOCK);
}

/* Both ends have the pipe's inode, unless the program has closed them unseen. */
static bool is_pipe(int fd, u64 ino)
{
	struct stat st;

	return fd >= 0 && fu_sys(SYS_fstat, fd, &st) == 0 && S_ISFIFO(st.st_mode) &&
	       st.st_ino == ino;
}

/* pipe_lock held */
static bool have_pipe(void)
{
	struct stat st;
	int fds[2];
	long ret;

	if (is_pipe(pipe_fds[0], pipe_ino) && is_pipe(pipe_fds[1], pipe_ino))
		return true;
	ret = new_pipe(fds, 0);
	if (ret == -EMFILE)
		ret = fu_fds_lifted(new_pipe, fds);
	if (ret < 0)
		return false;
	pipe_fds[0] = fu_fd_high(fds[0]);
	pipe_fds[1] = fu_fd_high(fds[1]);
	pipe_ino = fu_sys(SYS_fstat, pipe_fds[0], &st) == 0 ? st.st_ino : 0;
	return true;
}

/* pipe_lock held */
static void empty_pipe(void)
{
	u8 rest[256];

	while (fu_sys(SYS_read, pipe_fds[0], rest, sizeof(rest)) > 0)
		;
}

/* 0, -EFAULT, or -EPERM if there is no pipe. */
static int copy_by_pipe(void *dst, const void *src, size_t n)
{
	int ret = 0;

	fu_lock(&pipe_lock);
	if (!have_pipe())
		ret = -EPERM;
	while (n && !ret) {
		size_t step = n < PIPE_STEP ? n : PIPE_STEP;
		long done = fu_sys(SYS_write, pipe_fds[1], src, step);

		if (done <= 0 || fu_sys(SYS_read, pipe_fds[0], dst, done) != done) {
			empty_pipe();
			ret = -EFAULT;
			break;
		}
		src = (const char *)src + done;
		dst = (char *)dst + done;
		n -= (size_t)done;
	}
	fu_unlock(&pipe_lock);
	return ret;
}

void fu_user_reset(void)
{
	pipe_lock.word = 0;
	for (int i = 0; i < 2; i++) {
		if (is_pipe(pipe_fds[i], pipe_ino))
			fu_fd_close_inherited(pipe_fds[i]);
		pipe_fds[i] = -1;
	}
}

/* process_vm_readv or _writev on ourselves. */
static long copy_vm(long nr, struct iovec *local, struct iovec *user)
{
	u32 pid = fu_wipe_works ? fu_load_relaxed(&fu_wipe->gen) : 0;
	long ret = pid ? fu_sys(nr, pid, local, 1, user, 1, 0) : -ESRCH;

	/* Not known yet, or that of a first thread that has ended, which has no memory any more, or
	 * the parent's, whose memory a vfork child works in. */
	if (fu_unlikely(ret == -ESRCH || ret == -EPERM))
		ret = fu_sys(nr, fu_sys(SYS_gettid), local, 1, user, 1, 0);
	return ret;
}

/* A change of the signal mask in an impossible way reads its argument and does nothing. */
static bool faults(const void *user)
{
	return fu_sys(SYS_rt_sigprocmask, ~0U >> 1, user, 0, sizeof(u64)) == -EFAULT;
}

/* Adding nothing to a word writes it. It may wake somebody who waits on it, for nothing. */
static bool faults_to_write(void *word)
{
	static u32 own;
	const u32 op = FUTEX_OP(FUTEX_OP_ADD, 0, FUTEX_OP_CMP_LT, 0x800);

	return fu_sys(SYS_futex, &own, FUTEX_WAKE_OP, 0, 0, word, op) == -EFAULT;
}

static int copy_by_looking(bool write, void *local, void *user, size_t n)
{
	uintptr_t at = (uintptr_t)user, end = at + n;

	if (!fu_user_range_ok(at, n))
		return -EFAULT;
	/* An aligned word of each page. */
	for (uintptr_t p = at; p < end; p = (p | (FU_PAGE - 1)) + 1) {
		if (write ? faults_to_write(fu_ptr(p & ~3ULL)) : faults(fu_ptr(p & ~7ULL)))
			return -EFAULT;
	}
	if (write)
		fu_memcpy(user, local, n);
	else
		fu_memcpy(local, user, n);
	return 0;
}

static int copy_user(long nr, void *local, void *user, size_t n)
{
	struct iovec l = { local, n }, u = { user, n };
	long ret;

	if (!n)
		return 0;
	if (!fu_load_relaxed(&vm_denied)) {
		ret = copy_vm(nr, &l, &u);
		if (ret == (long)n)
			return 0;
		if (ret != -ENOSYS && ret != -EPERM)
			return -EFAULT;
		fu_store_relaxed(&vm_denied, true);
	}
	ret = nr == SYS_process_vm_readv ? copy_by_pipe(local, user, n)
	                                 : copy_by_pipe(user, local, n);
	if (ret == -EPERM)
		ret = copy_by_looking(nr == SYS_process_vm_writev, local, user, n);
	return (int)ret;
}

int fu_copy_from_user(void *dst, const void *user_src, size_t n)
{
	return copy_user(SYS_process_vm_readv, dst, (void *)(uintptr_t)user_src, n);
}

int fu_copy_to_user(void *user_dst, const void *src, size_t n)
{
	return copy_user(SYS_process_vm_writev, (void *)(uintptr_t)src, user_dst, n);
}

bool fu_user_segments_ok(const struct iovec *iov, u32 nr)
{
	for (u32 i = 0; i < nr; i++) {
		if (!fu_user_range_ok((u64)(uintptr_t)iov[i].iov_base, iov[i].iov_len))
			return false;
	}
	return true;
}

bool fu_user_readable(const void *user, size_t n)
{
	uintptr_t at = (uintptr_t)user, last = at + n - sizeof(u64);

	if (last < at || faults(fu_ptr(last)))
		return false;
	for (; at < last; at = (at | (FU_PAGE - 1)) + 1) {
		if (faults(fu_ptr(at)))
			return false;
	}
	return true;
}

long fu_strncpy_from_user(char *dst, const char *user_src, size_t size)
{
	size_t got = 0;

	while (got < size) {
		/* Up to the end of a page: what lies behind it may not be mapped. */
		u64 from = (u64)(uintptr_t)user_src + got;
		size_t step = FU_PAGE - (from & (FU_PAGE - 1));

		if (step > size - got)
			step = size - got;
		if (fu_copy_from_user(dst + got, fu_ptr(from), step))
			return -EFAULT;
		for (size_t i = 0; i < step; i++) {
			if (!dst[got + i])
				return (long)(got + i);
		}
		got += step;
	}
	return -ENAMETOOLONG;
}
