/*
 * io_uring_enter: submission, then waiting. As in the kernel, an error of the wait
 * is reported only if nothing was submitted by the same call.
 */
#include "engine/engine.h"

#include <errno.h>
#include <time.h>

#include "engine/entry.h"
#include "engine/poll.h"
#include "engine/poller.h"
#include "engine/register.h"
#include "engine/ringfds.h"
#include "engine/stats.h"
#include "engine/stay.h"
#include "rings/sys.h"
#include "rings/user.h"

static void set_deadline(struct fu_ctx *ctx, struct fu_wait_arg *w, u32 flags,
                         const struct fu_timespec *ts)
{
	u64 ns;

	if (ts->tv_sec < 0 || ts->tv_nsec < 0)
		ns = 0;
	else if (ts->tv_sec >= INT64_MAX / 1000000000LL)
		ns = INT64_MAX;
	else
		ns = (u64)ts->tv_sec * 1000000000ULL + (u64)ts->tv_nsec;
	w->has_deadline = true;
	w->clock = fu_load_relaxed(&ctx->ring.ctrl->clock_id);
	w->deadline_ns = ns;
	if (!(flags & IORING_ENTER_ABS_TIMER)) {
		w->deadline_ns += fu_now_ns(w->clock);
		if (w->deadline_ns > INT64_MAX)
			w->deadline_ns = INT64_MAX;
	}
}

/* A wait described in registered memory: `offset` names the entry. */
static int registered_wait_arg(struct fu_ctx *ctx, struct fu_wait_arg *w, u32 flags, u64 offset)
{
	struct fu_reg_wait rw;
	u64 end;

	if (offset % sizeof(u64) || __builtin_add_overflow(offset, sizeof(rw), &end) ||
	    end > ctx->wait_arg_bytes)
		return -EFAULT;
	rw = *(struct fu_reg_wait *)(void *)((u8 *)ctx->region + offset);
	if (rw.flags & ~IORING_REG_WAIT_TS)
		return -EINVAL;
	w->min_wait_ns = (u64)rw.min_wait_usec * 1000;
	w->sigmask = fu_ptr(rw.sigmask);
	w->sigmask_bytes = rw.sigmask_sz;
	if (rw.flags & IORING_REG_WAIT_TS)
		set_deadline(ctx, w, flags, &rw.ts);
	return 0;
}

static int wait_arg(struct fu_ctx *ctx, struct fu_wait_arg *w, u32 flags, const void *arg,
                    size_t argsz)
{
	struct fu_getevents_arg ga;
	struct fu_timespec ts;

	/* Without EXT_ARG the argument is a signal mask, or NULL and its size is ignored. */
	if (!(flags & IORING_ENTER_EXT_ARG)) {
		w->sigmask = arg;
		w->sigmask_bytes = argsz;
		return 0;
	}
	if (flags & IORING_ENTER_EXT_ARG_REG) {
		if (argsz != sizeof(struct fu_reg_wait))
			return -EINVAL;
		return registered_wait_arg(ctx, w, flags, (u64)(uintptr_t)arg);
	}
	if (argsz != sizeof(ga))
		return -EINVAL;
	if (fu_copy_from_user(&ga, arg, sizeof(ga)))
		return -EFAULT;
	w->min_wait_ns = (u64)ga.min_wait_usec * 1000;
	w->sigmask = fu_ptr(ga.sigmask);
	w->sigmask_bytes = ga.sigmask_sz;
	if (!ga.ts)
		return 0;
	if (fu_copy_from_user(&ts, fu_ptr(ga.ts), sizeof(ts)))
		return -EFAULT;
	set_deadline(ctx, w, flags, &ts);
	return 0;
}

/* A ring that is polled for completions does not sleep: its argument is only looked at. */
static int check_unused_arg(u32 flags, const void *arg, size_t argsz)
{
	struct fu_getevents_arg ga;

	if (!(flags & IORING_ENTER_EXT_ARG))
		return 0;
	if (flags & IORING_ENTER_EXT_ARG_REG || argsz != sizeof(ga))
		return -EINVAL;
	return fu_copy_from_user(&ga, arg, sizeof(ga));
}

static long get_events(struct fu_ctx *ctx, u32 fd, u32 min_complete, u32 flags, const void *arg,
                       size_t argsz)
{
	bool registered = flags & IORING_ENTER_REGISTERED_RING;
	struct fu_wait_arg w = { .fd = registered ? (u32)fu_ringfd_number(fd) : fd };
	int ret;

	if (ctx->iopoll && !ctx->sqpoll) {
		ret = check_unused_arg(flags, arg, argsz);
		return ret ? ret : fu_iopoll_reap(ctx, min_complete);
	}
	ret = wait_arg(ctx, &w, flags, arg, argsz);
	return ret ? ret : fu_wait_cqes(ctx, min_complete, &w);
}

/* A ring with one issuer remembers the first, and refuses the others. */
static int check_issuer(struct fu_ctx *ctx)
{
	struct fu_ctrl *ctrl = ctx->ring.ctrl;
	u32 none = 0;

	if (!(ctx->ring.setup_flags & IORING_SETUP_SINGLE_ISSUER))
		return 0;
	__atomic_compare_exchange_n(&ctrl->submitter, &none, fu_tid(), false, __ATOMIC_RELAXED,
	                            __ATOMIC_RELAXED);
	return fu_load_relaxed(&ctrl->submitter) == fu_tid() ? 0 : -EEXIST;
}

static long submit(struct fu_ctx *ctx, u32 to_submit)
{
	long ret = check_issuer(ctx);

	if (ret)
		return ret;
	/* What they take out is not to be missed by polls that wait for it. */
	if (fu_unlikely(fu_polls_multi()))
		fu_poller_harvest(NULL);
	fu_submit_lock(ctx);
	if (fu_unlikely(fu_load_relaxed(&ctx->last_task) != fu_self.task))
		fu_wq_join(ctx);
	ret = fu_submit_sqes(ctx, to_submit);
	fu_submit_release(ctx);
	return ret;
}

static long sqpoll_enter(struct fu_ctx *ctx, u32 to_submit, u32 flags)
{
	long ret = to_submit;

	if (fu_sqpoll_dead(ctx))
		return -EOWNERDEAD;
	if (flags & IORING_ENTER_SQ_WAKEUP)
		fu_sqpoll_wake(ctx);
	if (flags & IORING_ENTER_SQ_WAIT)
		fu_sqpoll_wait_room(ctx);
	return ret;
}

long fu_io_uring_enter(u32 fd, u32 to_submit, u32 min_complete, u32 flags, const void *arg,
                       size_t argsz)
{
	struct fu_ctx *ctx;
	long ret = 0, waited;
	u32 stay = 0;
	int err;

	fu_process_enter();
	if (flags & ~FU_ENTER_FLAGS)
		return -EINVAL;
	/* What is held is always written down as well. */
	fu_critical_enter();
	ctx = flags & IORING_ENTER_REGISTERED_RING ? fu_ringfd_enter(fd, &err)
	                                           : fu_ctx_enter(fd, &err);
	if (ctx)
		stay = fu_stay_begin(ctx, __builtin_frame_address(0));
	fu_critical_leave();
	if (!ctx)
		return err;
	if (fu_load_relaxed(&ctx->ring.ctrl->disabled)) {
		ret = -EBADFD;
		goto out;
	}
	fu_self.inside = 1;
	if (ctx->ring.setup_flags & IORING_SETUP_SQPOLL)
		ret = sqpoll_enter(ctx, to_submit, flags);
	else if (to_submit)
		ret = submit(ctx, to_submit);
	if (!(flags & IORING_ENTER_GETEVENTS) || ctx->iopoll)
		fu_poller_harvest(ctx);
	if (ret < 0 || (!ctx->sqpoll && ret != to_submit))
		goto out;
	if (flags & IORING_ENTER_GETEVENTS) {
		waited = get_events(ctx, fd, min_complete, flags, arg, argsz);
		if (!ret)
			ret = waited;
	}
out:
	fu_self.inside = 0;
	if (fu_load_relaxed(&ctx->ring.ctrl->polled) && !(flags & IORING_ENTER_REGISTERED_RING))
		fu_ctx_settle(ctx, (int)fd);
	fu_critical_enter();
	if (fu_stay_end(stay))
		fu_ctx_leave(ctx);
	fu_critical_leave();
	fu_stats_touch();
	return ret;
}
