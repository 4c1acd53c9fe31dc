/*
 * libc's syscall(). The numbers that matter to the shim are served here, with no
 * trap; all others go on to libc's own with registers and stack untouched, since
 * some of them (clone, vfork) return in ways that no C function in between would
 * survive. A table of bytes tells the two apart.
 */
#include <errno.h>
#include "engine/entry.h"
#include "engine/stats.h"
#include "preload/fds.h"
#include "preload/init.h"
#include "preload/messages.h"
#include "preload/next.h"
#include "preload/poll.h"
#include "preload/process.h"
#include "preload/signals.h"
#include "preload/sigwait.h"
#include "preload/syscall.h"
#include "rings/sys.h"
#include "rings/user.h"
#include "seccomp/dispatch.h"
#include "seccomp/filter.h"
#include "seccomp/notify.h"
#include "seccomp/sent.h"

#define FU_NR_TABLE  448
#define STRING_OF(x) #x
#define FU_STRING(x) STRING_OF(x)

#define NR_CLOSE_RANGE  436
#define NR_EPOLL_PWAIT2 441

/* Nonzero for each number that fu_syscall_slow handles. Read by the assembly below. */
__attribute__((visibility("hidden"))) const u8 fu_syscall_is_ours[FU_NR_TABLE] = {
	[FU_NR_SETUP] = 1,       [FU_NR_ENTER] = 1,
	[FU_NR_REGISTER] = 1,    [SYS_mmap] = 1,
	[SYS_close] = 1,         [SYS_dup] = 1,
	[SYS_dup2] = 1,          [SYS_dup3] = 1,
	[SYS_fcntl] = 1,         [NR_CLOSE_RANGE] = 1,
	[SYS_poll] = 1,          [SYS_ppoll] = 1,
	[SYS_select] = 1,        [SYS_pselect6] = 1,
	[SYS_epoll_wait] = 1,    [SYS_epoll_pwait] = 1,
	[NR_EPOLL_PWAIT2] = 1,   [SYS_epoll_ctl] = 1,
	[SYS_rt_sigaction] = 1,  [SYS_rt_sigprocmask] = 1,
	[SYS_exit_group] = 1,    [SYS_execve] = 1,
	[SYS_execveat] = 1,      [SYS_rt_sigsuspend] = 1,
	[SYS_sendmsg] = 1,       [SYS_sendmmsg] = 1,
	[SYS_setuid] = 1,        [SYS_setgid] = 1,
	[SYS_setreuid] = 1,      [SYS_setregid] = 1,
	[SYS_setresuid] = 1,     [SYS_setresgid] = 1,
	[SYS_setgroups] = 1,     [SYS_capset] = 1,
	[SYS_unshare] = 1,       [SYS_setns] = 1,
	[SYS_rt_sigpending] = 1, [SYS_rt_sigtimedwait] = 1,
	[SYS_read] = 1,          [SYS_readv] = 1,
	[SYS_recvfrom] = 1,      [SYS_recvmsg] = 1,
	[SYS_recvmmsg] = 1,      [SYS_accept] = 1,
	[SYS_accept4] = 1,       [SYS_preadv2] = 1,
	[SYS_write] = 1,         [SYS_writev] = 1,
	[SYS_sendto] = 1,        [SYS_connect] = 1,
	[SYS_shutdown] = 1,      [SYS_pwritev2] = 1,
	[SYS_splice] = 1,        [SYS_tee] = 1,
	[SYS_vmsplice] = 1,      [SYS_sendfile] = 1,
};

/* Until fu_init has run, libc's function is not known and everything takes the slow way. */
__asm__(".text\n"
        ".globl syscall\n"
        ".type syscall, @function\n"
        ".p2align 4\n"
        "syscall:\n"
        "	.cfi_startproc\n"
        "	endbr64\n"
        "	cmpq $" FU_STRING(
                FU_NR_TABLE) ", %rdi\n"
                             "	jae 1f\n"
                             "	leaq fu_syscall_is_ours(%rip), %rax\n"
                             "	cmpb $0, (%rax,%rdi)\n"
                             "	jne fu_syscall_slow\n"
                             "1:	movq fu_next(%rip), %rax\n" /* its first member is syscall
                                                                     */
                             "	testq %rax, %rax\n"
                             "	je fu_syscall_slow\n"
                             "	jmp *%rax\n"
                             "	.cfi_endproc\n"
                             ".size syscall, .-syscall\n");
_Static_assert(offsetof(struct fu_next, syscall) == 0, "the assembly loads fu_next itself");

/* Calls that wait on descriptors: a ring among them has to tell the truth first. */
static void before_wait(long nr, const long a[6])
{
	if (!fu_have_rings()) {
		return;
	}
	switch (nr) {
	case SYS_poll:
	case SYS_ppoll:
		fu_polled_pollfds(fu_ptr((u64)a[0]), (nfds_t)a[1]);
		break;
	case SYS_select:
	case SYS_pselect6:
		fu_polled_fdsets((int)a[0], fu_ptr((u64)a[1]), fu_ptr((u64)a[2]),
		                 fu_ptr((u64)a[3]));
		break;
	default:
		break;
	}
	fu_rings_settle();
}

static long raw(long nr, const long a[6])
{
	return fu_sys(nr, a[0], a[1], a[2], a[3], a[4], a[5]);
}

static long serve_fds(long nr, const long a[6])
{
	long ret;

	switch (nr) {
	case SYS_dup:
		ret = fu_dup((int)a[0]);
		break;
	case SYS_dup2:
	case SYS_dup3:
		ret = fu_dup_to(nr, (int)a[0], (int)a[1], nr == SYS_dup3 ? (int)a[2] : 0);
		break;
	case SYS_fcntl:
		ret = fu_fcntl((int)a[0], (int)a[1], a[2]);
		break;
	default:
		ret = fu_close_range((u32)a[0], (u32)a[1], (u32)a[2]);
		break;
	}
	return ret;
}

static long serve_epoll_ctl(const long a[6])
{
	long ret;

	if (fu_have_rings() && fu_fd_is_engine((int)a[2])) {
		return -EBADF;
	}
	ret = raw(SYS_epoll_ctl, a);
	if (ret == 0 && fu_have_rings()) {
		fu_polled_epoll((int)a[1], (int)a[2], fu_ptr((u64)a[3]));
	}
	return ret;
}

/* Waits, the mask that holds meanwhile with SIGSYS open. */
static long serve_wait(long nr, const long a[6])
{
	/* What pselect6 has for its sixth argument. */
	struct {
		const u64 *mask;
		size_t bytes;
	} six;
	const u64 *mask;
	u64 copy;
	int wait = -1;
	long ret;

	before_wait(nr, a);
	switch (nr) {
	case SYS_rt_sigsuspend:
		mask = fu_raw_open_sigsys(fu_ptr((u64)a[0]), (size_t)a[1], &copy, &wait);
		ret = fu_sys(nr, mask, a[1]);
		break;
	case SYS_ppoll:
		mask = fu_raw_open_sigsys(fu_ptr((u64)a[3]), (size_t)a[4], &copy, &wait);
		ret = fu_sys(nr, a[0], a[1], a[2], mask, a[4]);
		break;
	case SYS_epoll_pwait:
	case NR_EPOLL_PWAIT2:
		mask = fu_raw_open_sigsys(fu_ptr((u64)a[4]), (size_t)a[5], &copy, &wait);
		ret = fu_sys(nr, a[0], a[1], a[2], a[3], mask, a[5]);
		break;
	case SYS_pselect6:
		if (!a[5] || fu_copy_from_user(&six, fu_ptr((u64)a[5]), sizeof(six))) {
			return raw(nr, a);
		}
		six.mask = fu_raw_open_sigsys(six.mask, six.bytes, &copy, &wait);
		ret = fu_sys(nr, a[0], a[1], a[2], a[3], a[4], &six);
		break;
	default:
		return raw(nr, a);
	}
	fu_sigsys_wait_end(wait);
	return ret;
}

static long send_many(const long a[6])
{
	u32 n = (u32)a[2], allowed = n;

	if (fu_have_rings()) {
		allowed = fu_messages_allowed((int)a[0], fu_ptr((u64)a[1]), n);
	}
	return n && !allowed ? -EINVAL : fu_sys(SYS_sendmmsg, a[0], a[1], allowed, a[3], 0, 0);
}

/* Calls that put something into a file, or take it out: polls are not to miss that (io.c). */
static long serve_io(long nr, const long a[6])
{
	long ret;

	switch (nr) {
	case SYS_write:
	case SYS_writev:
	case SYS_pwritev2:
	case SYS_sendto:
	case SYS_sendmsg:
	case SYS_connect:
	case SYS_shutdown:
	case SYS_tee:
		break;
	case SYS_sendfile:
		fu_fd_reads((int)a[1]);
		break;
	default:
		fu_fd_reads((int)a[0]);
		break;
	}
	ret = raw(nr, a);
	switch (nr) {
	case SYS_read:
	case SYS_readv:
	case SYS_preadv2:
	case SYS_recvfrom:
	case SYS_recvmsg:
	case SYS_recvmmsg:
	case SYS_accept:
	case SYS_accept4:
		break;
	default:
		fu_fd_written();
		break;
	}
	return ret;
}

/* `frame`: see fu_raw_sigprocmask. */
static long serve(long nr, const long a[6], u64 *frame)
{
	long ret;

	if (fu_dispatch(nr, a, &ret)) {
		return ret;
	}
	switch (nr) {
	case SYS_dup:
	case SYS_dup2:
	case SYS_dup3:
	case SYS_fcntl:
	case NR_CLOSE_RANGE:
		return serve_fds(nr, a);
	case SYS_rt_sigaction:
		return fu_raw_sigaction((int)a[0], fu_ptr((u64)a[1]), fu_ptr((u64)a[2]),
		                        (size_t)a[3]);
	case SYS_rt_sigprocmask:
		return fu_raw_sigprocmask((int)a[0], fu_ptr((u64)a[1]), fu_ptr((u64)a[2]),
		                          (size_t)a[3], frame);
	case SYS_sendmsg:
		if (fu_msg_check((int)a[0], fu_ptr((u64)a[1]))) {
			return -EINVAL;
		}
		return serve_io(nr, a);
	case SYS_sendmmsg:
		ret = send_many(a);
		fu_fd_written();
		return ret;
	case SYS_read:
	case SYS_readv:
	case SYS_preadv2:
	case SYS_recvfrom:
	case SYS_recvmsg:
	case SYS_recvmmsg:
	case SYS_accept:
	case SYS_accept4:
	case SYS_write:
	case SYS_writev:
	case SYS_pwritev2:
	case SYS_sendto:
	case SYS_connect:
	case SYS_shutdown:
	case SYS_splice:
	case SYS_tee:
	case SYS_vmsplice:
	case SYS_sendfile:
		return serve_io(nr, a);
	case SYS_exit_group:
	case SYS_execve:
	case SYS_execveat:
		fu_stats_end();
		return raw(nr, a);
	case SYS_setuid:
	case SYS_setgid:
	case SYS_setreuid:
	case SYS_setregid:
	case SYS_setresuid:
	case SYS_setresgid:
	case SYS_setgroups:
	case SYS_capset:
	case SYS_setns:
		/* Of this thread alone, where libc's own functions see to all. */
		fu_threads_differ();
		return raw(nr, a);
	case SYS_unshare:
		return fu_sys(nr, fu_process_unshares((int)a[0]));
	case SYS_epoll_ctl:
		return serve_epoll_ctl(a);
	case SYS_poll:
	case SYS_ppoll:
	case SYS_select:
	case SYS_pselect6:
	case SYS_epoll_wait:
	case SYS_epoll_pwait:
	case NR_EPOLL_PWAIT2:
	case SYS_rt_sigsuspend:
		return serve_wait(nr, a);
	case SYS_rt_sigpending:
		return fu_raw_sigpending(fu_ptr((u64)a[0]), (size_t)a[1]);
	case SYS_rt_sigtimedwait:
		return fu_raw_sigtimedwait(a);
	default:
		return raw(nr, a);
	}
}

long fu_syscall_trapped(long nr, const long args[6], u64 *mask)
{
	return serve(nr, args, mask);
}

/* Has the signature of syscall() itself: the assembly above jumps here with its arguments. */
__attribute__((used, visibility("hidden"))) long fu_syscall_slow(long nr, long a, long b, long c,
                                                                 long d, long e, long f)
{
	const long args[6] = { a, b, c, d, e, f };

	fu_init();
	if (!fu_shim_enabled || nr < 0 || nr >= FU_NR_TABLE || !fu_syscall_is_ours[nr]) {
		return fu_to_libc(raw(nr, args));
	}
	if (fu_notify_active() && nr >= FU_NR_SETUP && nr <= FU_NR_REGISTER) {
		/* libc's instruction is one of those that are trapped. */
		return fu_next.syscall(nr, a, b, c, d, e, f);
	}
	return fu_to_libc(serve(nr, args, NULL));
}
