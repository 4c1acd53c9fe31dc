/* System call numbers to engine functions; see dispatch.h. */
#include <errno.h>
#include <sys/mman.h>
#include "engine/entry.h"
#include "rings/abi.h"
#include "rings/sys.h"
#include "rings/user.h"
#include "seccomp/dispatch.h"
#include "seccomp/filter.h"
#include "seccomp/sent.h"
#include "seccomp/trap.h"

bool fu_shim_enabled = true;
void (*fu_before_ring)(void);

long fu_dispatch_close(int fd)
{
	long ret;

	if (fu_have_rings() && fu_fd_is_engine(fd)) {
		return -EBADF;
	}
	fu_fd_closing();
	ret = fu_sys(SYS_close, fd);
	/* Whatever else it says, close has given the number up unless it was not open. */
	if (ret != -EBADF && fu_have_rings()) {
		fu_fd_closed(fd);
	}
	return ret;
}

static bool dispatch_mmap(const long args[6], long *ret)
{
	int flags = (int)args[3];

	if (!fu_have_rings() || (flags & MAP_ANONYMOUS)) {
		return false;
	}
	return fu_ring_mmap(fu_ptr((u64)args[0]), (size_t)args[1], (int)args[2], flags,
	                    (int)args[4], (u64)args[5], ret);
}

/* Whether a wait for completions lets SIGSYS in. */
static bool lets_in(u32 flags, const void *arg, size_t argsz)
{
	struct fu_getevents_arg ga = { .sigmask = (u64)(uintptr_t)arg, .sigmask_sz = (u32)argsz };
	u64 mask;

	if (!arg || !(flags & IORING_ENTER_GETEVENTS) || (flags & IORING_ENTER_EXT_ARG_REG)) {
		return false;
	}
	if ((flags & IORING_ENTER_EXT_ARG) &&
	    (argsz != sizeof(ga) || fu_copy_from_user(&ga, arg, sizeof(ga)))) {
		return false;
	}
	return ga.sigmask && ga.sigmask_sz == sizeof(mask) &&
	       fu_copy_from_user(&mask, fu_ptr(ga.sigmask), sizeof(mask)) == 0 &&
	       !(mask & FU_SIGSYS_BIT);
}

long fu_dispatch_enter(u32 fd, u32 to_submit, u32 min_complete, u32 flags, const void *arg,
                       size_t argsz)
{
	long ret;
	int wait;

	if (fu_likely(!fu_sigsys_blocked) || !lets_in(flags, arg, argsz)) {
		return fu_io_uring_enter(fd, to_submit, min_complete, flags, arg, argsz);
	}
	wait = fu_sigsys_wait_begin(FU_SIGSYS_LET_IN);
	ret = fu_io_uring_enter(fd, to_submit, min_complete, flags, arg, argsz);
	fu_sigsys_wait_end(wait);
	return ret;
}

bool fu_dispatch(long nr, const long args[6], long *ret)
{
	switch (nr) {
	case FU_NR_SETUP:
		/* The engine interrupts its own workers with SIGSYS: somebody must be at home. */
		fu_sigsys_own();
		if (fu_before_ring) {
			fu_before_ring();
		}
		*ret = fu_io_uring_setup((u32)args[0], fu_ptr((u64)args[1]));
		return true;
	case FU_NR_ENTER:
		*ret = fu_dispatch_enter((u32)args[0], (u32)args[1], (u32)args[2], (u32)args[3],
		                         fu_ptr((u64)args[4]), (size_t)args[5]);
		return true;
	case FU_NR_REGISTER:
		*ret = fu_io_uring_register((u32)args[0], (u32)args[1], fu_ptr((u64)args[2]),
		                            (u32)args[3]);
		return true;
	case SYS_mmap:
		return dispatch_mmap(args, ret);
	case SYS_close:
		*ret = fu_dispatch_close((int)args[0]);
		return true;
	default:
		return false;
	}
}
