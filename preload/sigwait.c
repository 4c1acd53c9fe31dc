/*
 * Looking for pending signals, taking them without a handler, and waiting for any. Here
 * SIGSYS that a program has blocked may lie with us instead of the kernel (seccomp/sent.c).
 */
#include "preload/sigwait.h"
#include <errno.h>
#include <signal.h>
#include "preload/export.h"
#include "preload/init.h"
#include "preload/next.h"
#include "preload/signals.h"
#include "rings/sys.h"
#include "rings/user.h"
#include "seccomp/sent.h"

#define KERNEL_SIGSET_SIZE 8

FU_EXPORT int sigsuspend(const sigset_t *mask)
{
	sigset_t copy;
	int ret, wait;

	fu_init();
	mask = fu_wait_mask(mask, &copy, &wait);
	ret = fu_next.sigsuspend(mask);
	fu_sigsys_wait_end(wait);
	return ret;
}

FU_EXPORT int sigpending(sigset_t *set)
{
	int ret;

	fu_init();
	ret = fu_next.sigpending(set);
	if (ret == 0 && fu_sigsys_waits()) {
		set->__val[0] |= FU_SIGSYS_BIT;
	}
	return ret;
}

long fu_raw_sigpending(u64 *set, size_t size)
{
	u64 pending;
	long ret;

	if (size != KERNEL_SIGSET_SIZE || !fu_sigsys_waits()) {
		return fu_sys(SYS_rt_sigpending, set, size);
	}
	ret = fu_sys(SYS_rt_sigpending, &pending, size);
	pending |= FU_SIGSYS_BIT;
	return ret ? ret : fu_copy_to_user(set, &pending, size);
}

FU_EXPORT int sigtimedwait(const sigset_t *set, siginfo_t *info, const struct timespec *timeout)
{
	siginfo_t own;
	int ret, wait;

	fu_init();
	if (!(set->__val[0] & FU_SIGSYS_BIT)) {
		return fu_next.sigtimedwait(set, info, timeout);
	}
	wait = fu_sigsys_wait_begin(FU_SIGSYS_TAKEN);
	ret = fu_next.sigtimedwait(set, &own, timeout);
	fu_sigsys_wait_end(wait);
	if (ret == SIGSYS && !fu_sigsys_taken(&own)) {
		errno = EINTR;
		return -1;
	}
	if (ret > 0 && info) {
		*info = own;
		/* As libc has it. */
		if (own.si_code == SI_TKILL) {
			info->si_code = SI_USER;
		}
	}
	return ret;
}

FU_EXPORT int sigwaitinfo(const sigset_t *set, siginfo_t *info)
{
	return sigtimedwait(set, info, NULL);
}

FU_EXPORT int sigwait(const sigset_t *set, int *sig)
{
	int ret;

	fu_init();
	if (!(set->__val[0] & FU_SIGSYS_BIT)) {
		return fu_next.sigwait(set, sig);
	}
	do {
		ret = sigtimedwait(set, NULL, NULL);
	} while (ret < 0 && errno == EINTR);
	if (ret < 0) {
		return errno;
	}
	*sig = ret;
	return 0;
}

long fu_raw_sigtimedwait(const long args[6])
{
	siginfo_t own;
	u64 set;
	long ret;
	int wait;

	if (args[3] != KERNEL_SIGSET_SIZE ||
	    fu_copy_from_user(&set, fu_ptr((u64)args[0]), sizeof(set)) || !(set & FU_SIGSYS_BIT)) {
		return fu_sys(SYS_rt_sigtimedwait, args[0], args[1], args[2], args[3]);
	}
	wait = fu_sigsys_wait_begin(FU_SIGSYS_TAKEN);
	ret = fu_sys(SYS_rt_sigtimedwait, &set, &own, args[2], args[3]);
	fu_sigsys_wait_end(wait);
	if (ret == SIGSYS && !fu_sigsys_taken(&own)) {
		return -EINTR;
	}
	if (ret > 0 && args[1] && fu_copy_to_user(fu_ptr((u64)args[1]), &own, sizeof(own))) {
		return -EFAULT;
	}
	return ret;
}
