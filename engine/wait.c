/*
 * Waiting for completions. If there are events to wait for, and nobody else does, the
 * thread waits for those (leader.c). Other sleepers sleep on a futex in the ring's shared
 * control block, so whoever posts, in whatever process, can wake them; with a signal mask
 * in ppoll on the ring's descriptor instead, which is the call that swaps the mask
 * atomically. All of these return -EINTR after any signal handler.
 */
#include "engine/engine.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <time.h>

#include "engine/aio.h"
#include "engine/leader.h"
#include "engine/peers.h"
#include "engine/poller.h"
#include "engine/stay.h"
#include "rings/sys.h"
#include "rings/user.h"

#define KERNEL_SIGSET_BYTES 8

struct waiter {
	struct fu_ctx *ctx;
	const struct fu_wait_arg *arg;
	u32 target;   /* CQ tail at which the wait is over */
	u32 timeouts; /* cq_timeouts at the start */
	u32 start_tail;
	u64 min_until_ns; /* monotonic; 0: no minimum wait or it is over */
	u64 sigmask;
	bool has_mask;
	bool leads;
};

u64 fu_now_ns(u32 clock)
{
	struct timespec ts;

	/* The vDSO, through libc: async-signal-safe and without errno on success. */
	clock_gettime((clockid_t)clock, &ts);
	return (u64)ts.tv_sec * 1000000000ULL + (u64)ts.tv_nsec;
}

static bool satisfied(const struct waiter *w)
{
	const struct fu_ring *ring = &w->ctx->ring;

	return (s32)(fu_load_acquire(ring->cq_tail) - w->target) >= 0 ||
	       fu_load_relaxed(&ring->ctrl->cq_timeouts) != w->timeouts;
}

static s64 until(u32 clock, u64 deadline_ns)
{
	u64 now = fu_now_ns(clock);

	return now >= deadline_ns ? 0 : (s64)(deadline_ns - now);
}

/*
 * Relative time to the next deadline, -1 for none, 0 if one has passed. The minimum wait
 * comes first, even where the limit is shorter: so does the kernel have it.
 */
static s64 time_left(const struct waiter *w)
{
	if (w->min_until_ns)
		return until(CLOCK_MONOTONIC, w->min_until_ns);
	return w->arg->has_deadline ? until(w->arg->clock, w->arg->deadline_ns) : -1;
}

static long sleep_masked(struct waiter *w, s64 left)
{
	struct pollfd pfd = { .fd = (int)w->arg->fd, .events = POLLIN };
	struct timespec ts = { left / 1000000000LL, left % 1000000000LL };
	long ret;

	ret = fu_sys(SYS_ppoll, &pfd, 1, left < 0 ? NULL : &ts, &w->sigmask, KERNEL_SIGSET_BYTES);
	return ret < 0 ? ret : ret == 0 ? -ETIMEDOUT : 0;
}

/* Runs what other threads have left for this one, and makes room for the backlog. */
static void run_pending(struct fu_ctx *ctx)
{
	do {
		fu_store_relaxed(&ctx->passed_on, false);
		if (fu_deferred_pending(ctx) || fu_aio_ready(ctx)) {
			fu_submit_lock(ctx);
			fu_aio_reap(ctx);
			fu_run_deferred(ctx);
			fu_submit_release(ctx);
		}
	} while (fu_load_relaxed(&ctx->passed_on));
	if (fu_cq_overflown(&ctx->ring)) {
		bool moved;

		fu_lock(&ctx->ring.ctrl->cq_lock);
		fu_cq_flush_overflow(&ctx->ring);
		moved = fu_cq_commit(&ctx->ring);
		fu_unlock(&ctx->ring.ctrl->cq_lock);
		/* Only now do they count as completed, for timeouts and for who polls the ring. */
		if (moved)
			fu_cq_notify(ctx);
	}
}

/*
 * The minimum wait has passed: any completion is enough now, and without one the first
 * to come, if there is a longer limit to wait for it.
 */
static long min_wait_over(struct waiter *w)
{
	const struct fu_ring *ring = &w->ctx->ring;

	w->min_until_ns = 0;
	w->target = w->start_tail + 1;
	if (!w->arg->has_deadline)
		return -ETIME;
	return (s32)(fu_load_acquire(ring->cq_tail) - w->start_tail) > 0 || fu_cq_ready(ring) > 0;
}

static long wait_once(struct waiter *w)
{
	struct fu_ctrl *ctrl = w->ctx->ring.ctrl;
	u32 seq = __atomic_load_n(&ctrl->wake_seq, __ATOMIC_SEQ_CST);
	s64 left, slice;
	long ret;

	if (w->leads)
		fu_leader_listen(w->ctx);
	else if (!w->has_mask && !w->min_until_ns)
		fu_waiter_patient(ctrl, w->target);
	run_pending(w->ctx);
	if (satisfied(w) || fu_load_relaxed(&ctrl->ended))
		return 1;
	/* Another process may have called before we listened. */
	if (w->leads && fu_peers_used(w->ctx))
		return 0;
	left = slice = time_left(w);
	if (fu_unlikely(fu_load_relaxed(&ctrl->shared)))
		slice = fu_orphans_look(w->ctx, left);
	if (left == 0)
		ret = -ETIMEDOUT;
	else if (w->leads)
		ret = fu_leader_wait(w->ctx, slice, w->has_mask ? &w->sigmask : NULL);
	else if (w->has_mask)
		ret = sleep_masked(w, slice);
	else
		ret = fu_sleep_until_woken(ctrl, seq, slice);
	if (ret == -ETIMEDOUT && slice != left)
		return 0;
	if (ret == -ETIMEDOUT)
		return w->min_until_ns ? min_wait_over(w) : -ETIME;
	return ret == -EINTR ? -EINTR : 0;
}

static int get_mask(struct waiter *w)
{
	if (!w->arg->sigmask)
		return 0;
	if (w->arg->sigmask_bytes != KERNEL_SIGSET_BYTES)
		return -EINVAL;
	if (fu_copy_from_user(&w->sigmask, w->arg->sigmask, KERNEL_SIGSET_BYTES))
		return -EFAULT;
	/* SIGSYS has to reach the trap whatever the program blocks. */
	w->sigmask &= ~(1ULL << (SIGSYS - 1));
	w->has_mask = true;
	return 0;
}

static long wait_following(struct waiter *w)
{
	struct fu_ctrl *ctrl = w->ctx->ring.ctrl;
	int fd = (int)w->arg->fd;
	long ret;
	u32 stay;

	if (w->has_mask) {
		/* Every post has to send its byte: one may go unseen with those we take out. */
		__atomic_fetch_or(&ctrl->polled, FU_POLLED_EDGE, __ATOMIC_SEQ_CST);
		fu_ctx_settle(w->ctx, fd);
	}
	stay = fu_stay_waits(w->ctx);
	fu_poller_harvest(w->ctx);
	do {
		ret = wait_once(w);
		/* Readable, but not enough yet: lower it, or ppoll would spin. */
		if (!ret && w->has_mask)
			fu_ringfd_lower(ctrl, fd);
	} while (!ret);
	fu_stay_waited(w->ctx, stay);
	fu_leader_not_waiting();
	return ret;
}

static long wait_leading(struct waiter *w)
{
	long ret;

	do {
		ret = wait_once(w);
	} while (!ret && fu_leader_still(w->ctx));
	fu_store_relaxed(&w->ctx->leader_listens, 0);
	fu_leader_leave();
	return ret;
}

/* Sleeps until the wait is over. */
static long wait_any(struct waiter *w)
{
	long ret;

	do {
		w->leads = fu_leader_try(w->ctx);
		ret = w->leads ? wait_leading(w) : wait_following(w);
	} while (!ret);
	return ret;
}

long fu_wait_cqes(struct fu_ctx *ctx, u32 min_complete, const struct fu_wait_arg *arg)
{
	struct fu_ring *ring = &ctx->ring;
	struct fu_ctrl *ctrl = ring->ctrl;
	struct waiter w = { .ctx = ctx, .arg = arg };
	long ret;

	if (ctx->deferred && fu_load_relaxed(&ctrl->submitter) != fu_tid())
		return -EEXIST;
	run_pending(ctx);
	if (min_complete > ring->cq_entries)
		min_complete = ring->cq_entries;
	if (fu_cq_ready(ring) >= min_complete) {
		/* What has happened before this call is part of what it shows. What has had its
		 * turn is not. */
		if (!fu_deferred_pending(ctx) && fu_poller_harvest(ctx)) {
			run_pending(ctx);
			if (min_complete)
				fu_leader_pass_by(ctx);
		}
		return 0;
	}
	ret = get_mask(&w);
	if (ret)
		return ret;
	w.timeouts = fu_load_relaxed(&ctrl->cq_timeouts);
	w.start_tail = fu_load_acquire(ring->cq_tail);
	w.target = fu_load_relaxed(ring->cq_head) + min_complete;
	if (arg->min_wait_ns)
		w.min_until_ns = fu_now_ns(CLOCK_MONOTONIC) + arg->min_wait_ns;
	ret = wait_any(&w);
	if (ret > 0)
		ret = 0;
	return fu_cq_ready(ring) ? 0 : ret;
}

long fu_iopoll_reap(struct fu_ctx *ctx, u32 min_complete)
{
	struct fu_ctrl *ctrl = ctx->ring.ctrl;
	u32 start = fu_load_acquire(ctx->ring.cq_tail), stay;
	long ret = 0;

	if (min_complete > ctx->ring.cq_entries)
		min_complete = ctx->ring.cq_entries;
	if (fu_cq_overflown(&ctx->ring))
		run_pending(ctx);
	if (fu_cq_ready(&ctx->ring))
		return 0;
	stay = fu_stay_waits(ctx);
	for (;;) {
		u32 seq = __atomic_load_n(&ctrl->wake_seq, __ATOMIC_SEQ_CST);

		run_pending(ctx);
		if (fu_load_acquire(ctx->ring.cq_tail) - start >= min_complete ||
		    !fu_ctx_active(ctx))
			break;
		ret = fu_sleep_until_woken(ctrl, seq, -1);
		if (ret == -EINTR)
			break;
		ret = 0;
	}
	fu_stay_waited(ctx, stay);
	return fu_cq_ready(&ctx->ring) ? 0 : ret;
}
