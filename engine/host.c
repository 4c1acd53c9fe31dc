/*
 * What the kernel below has, and what a sandbox around the process leaves of it.
 *
 * Most operations are system calls that every kernel has. The three that are not are asked for
 * once, with arguments that no call accepts.
 */
#include "engine/host.h"

#include <errno.h>
#include <time.h>

#include "engine/thread.h"
#include "rings/abi.h"
#include "rings/sys.h"

#define NR_STATX       332 /* Linux 4.11 */
#define NR_OPENAT2     437 /* 5.6 */
#define NR_FUTEX_WAITV 449 /* 5.16 */

enum { UNKNOWN, THERE, LACKING };

/* Relaxed: every thread that asks gets the same answer. */
struct call {
	u16 nr;
	u8 state;
};

static struct call *call_of(u8 opcode)
{
	static struct call statx = { .nr = NR_STATX }, openat2 = { .nr = NR_OPENAT2 },
	                   futex_waitv = { .nr = NR_FUTEX_WAITV };

	switch (opcode) {
	case IORING_OP_STATX:
		return &statx;
	case IORING_OP_OPENAT2:
		return &openat2;
	case IORING_OP_FUTEX_WAITV:
		return &futex_waitv;
	default:
		return NULL;
	}
}

bool fu_host_lacks(u8 opcode)
{
	struct call *call = call_of(opcode);
	u8 state;

	if (!call)
		return false;
	state = fu_load_relaxed(&call->state);
	if (fu_unlikely(state == UNKNOWN)) {
		long ret = fu_sys(call->nr, -1, 0, 0, 0, 0, 0);

		/* No path, no structure and no futexes are none of these where there is a call. */
		state = ret == -ENOSYS || ret == -EPERM ? LACKING : THERE;
		fu_store_relaxed(&call->state, state);
	}
	return state == LACKING;
}

bool fu_host_denied(long nr, long ret)
{
	if (ret == -ENOSYS)
		return true;
	return (ret == -EPERM || ret == -EACCES) && fu_sys(nr, -1, 0, 0, 0, 0, 0) == ret;
}

long fu_poll_now(struct pollfd *pfd)
{
	static const struct timespec none = { 0 };
	long ret = fu_sys(SYS_poll, pfd, 1, 0);

	if (fu_unlikely(ret < 0) && fu_host_denied(SYS_poll, ret))
		ret = fu_sys(SYS_ppoll, pfd, 1, &none, NULL, 0);
	return ret;
}

long fu_poll_block(const u8 *cancel, struct pollfd *pfd)
{
	long ret = fu_sys_block(cancel, SYS_poll, (long)(uintptr_t)pfd, 1, -1, 0, 0, 0);

	if (fu_unlikely(ret < 0) && fu_host_denied(SYS_poll, ret))
		ret = fu_sys_block(cancel, SYS_ppoll, (long)(uintptr_t)pfd, 1, 0, 0, 0, 0);
	return ret;
}
