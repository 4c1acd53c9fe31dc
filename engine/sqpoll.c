/*
 * SQPOLL: a thread that consumes a ring's SQ on its own. It polls while there is
 * work and for sq_thread_idle milliseconds after; then it raises
 * IORING_SQ_NEED_WAKEUP, looks once more, and sleeps until io_uring_enter wakes it.
 */
#include "engine/engine.h"

#include <errno.h>
#include <sched.h>
#include <time.h>

#include "engine/aio.h"
#include "engine/register.h"
#include "engine/thread.h"
#include "rings/mem.h"
#include "rings/sys.h"

#define DEFAULT_IDLE_MS 1000
#define SPINS           200
#define ROOM_CHECK_NS   20000000LL

struct fu_sqpoll {
	struct fu_ctx *ctx;
	u64 idle_ns;
	s32 cpu;     /* -1: any */
	s32 started; /* futex: 1 when the thread runs, -errno if it could not be bound */
	u32 stop;    /* set by fu_sqpoll_stop */
	u32 done;    /* futex: the thread no longer touches the ring */
	u32 room_waiters;
};

static bool poll_once(struct fu_ctx *ctx, struct fu_sqpoll *sq)
{
	long n = 0;
	bool worked;

	if (fu_load_relaxed(&ctx->ring.ctrl->disabled))
		return false;
	worked = fu_load_acquire(ctx->ring.sq_tail) != ctx->ring.ctrl->cached_sq_head;
	if (worked || fu_deferred_pending(ctx) || fu_aio_ready(ctx)) {
		fu_submit_lock(ctx);
		if (worked)
			n = fu_submit_sqes(ctx, ctx->ring.sq_entries);
		fu_aio_reap(ctx);
		fu_run_deferred(ctx);
		fu_submit_release(ctx);
	}
	if (n > 0) {
		FU_COUNT(sqpoll, n);
		if (__atomic_load_n(&sq->room_waiters, __ATOMIC_SEQ_CST))
			fu_futex_wake(ctx->ring.sq_head, INT32_MAX);
	}
	return worked;
}

static void sleep_until_woken(struct fu_ctx *ctx, struct fu_sqpoll *sq)
{
	struct fu_ctrl *ctrl = ctx->ring.ctrl;
	u32 seq = __atomic_load_n(&ctrl->sq_wake, __ATOMIC_SEQ_CST);
	s64 patience = FU_ALONE_NS;

	/* Sequentially consistent: either we see the new tail, or its writer sees the flag. */
	fu_sq_flags_set(&ctx->ring, IORING_SQ_NEED_WAKEUP);
	fu_fence();
	while ((fu_load_acquire(ctx->ring.sq_tail) == ctrl->cached_sq_head || ctrl->disabled) &&
	       !fu_deferred_pending(ctx) && !fu_load_acquire(&sq->stop) &&
	       fu_futex_wait(&ctrl->sq_wake, seq, patience) == -ETIMEDOUT) {
		/* Nobody will ever stop it then. */
		if (fu_threads_alone())
			fu_store_release(&sq->stop, 1);
		patience = fu_alone_next(patience);
	}
	fu_sq_flags_clear(&ctx->ring, IORING_SQ_NEED_WAKEUP);
}

static void *sqpoll_main(void *arg)
{
	struct fu_sqpoll *sq = arg;
	struct fu_ctx *ctx = sq->ctx;
	u64 deadline;
	s32 bound = 1;

	fu_tid();
	fu_self.task = ctx->sq_task;
	fu_thread_name("iou-sqp-");
	if (sq->cpu >= 0) {
		cpu_set_t cpus;

		CPU_ZERO(&cpus);
		CPU_SET((size_t)sq->cpu, &cpus);
		if (fu_sys(SYS_sched_setaffinity, 0, sizeof(cpus), &cpus) < 0)
			bound = -EINVAL;
	}
	fu_store_release(&sq->started, bound);
	fu_futex_wake((u32 *)&sq->started, 1);
	deadline = fu_now_ns(CLOCK_MONOTONIC) + sq->idle_ns;
	while (!fu_load_acquire(&sq->stop)) {
		bool worked = false;

		for (int i = 0; i < SPINS && !worked; i++) {
			worked = poll_once(ctx, sq);
			__builtin_ia32_pause();
		}
		if (worked) {
			deadline = fu_now_ns(CLOCK_MONOTONIC) + sq->idle_ns;
			continue;
		}
		if (fu_now_ns(CLOCK_MONOTONIC) < deadline) {
			fu_sys(SYS_sched_yield);
			continue;
		}
		sleep_until_woken(ctx, sq);
		deadline = fu_now_ns(CLOCK_MONOTONIC) + sq->idle_ns;
	}
	fu_store_release(&sq->done, 1);
	fu_futex_wake(&sq->done, INT32_MAX);
	return NULL;
}

/* Whether a thread may run on `cpu`: tried on this one, unless that is known. */
static bool cpu_allowed(u32 cpu)
{
	cpu_set_t mine, one;
	bool allowed;

	if (cpu >= CPU_SETSIZE)
		return false;
	CPU_ZERO(&mine);
	CPU_ZERO(&one);
	CPU_SET(cpu, &one);
	if (fu_sys(SYS_sched_getaffinity, 0, sizeof(mine), &mine) > 0 && CPU_ISSET(cpu, &mine))
		return true;
	allowed = fu_sys(SYS_sched_setaffinity, 0, sizeof(one), &one) == 0;
	if (allowed)
		fu_sys(SYS_sched_setaffinity, 0, sizeof(mine), &mine);
	return allowed;
}

int fu_sqpoll_start(struct fu_ctx *ctx, const struct fu_params *p)
{
	struct fu_sqpoll *sq = fu_zalloc(sizeof(*sq));
	int ret;

	if (!sq)
		return -ENOMEM;
	sq->ctx = ctx;
	sq->idle_ns = (u64)(p->sq_thread_idle ? p->sq_thread_idle : DEFAULT_IDLE_MS) * 1000000ULL;
	sq->cpu = p->flags & IORING_SETUP_SQ_AFF ? (s32)p->sq_thread_cpu : -1;
	if ((p->flags & IORING_SETUP_SQ_AFF) && !cpu_allowed(p->sq_thread_cpu)) {
		fu_free(sq, sizeof(*sq));
		return -EINVAL;
	}
	fu_wq_join_sqpoll(ctx);
	ret = fu_thread_start(sqpoll_main, sq);
	if (ret) {
		fu_wq_leave_sqpoll(ctx);
		fu_free(sq, sizeof(*sq));
		return ret;
	}
	ctx->sq = sq;
	while (!fu_load_acquire(&sq->started))
		fu_futex_wait((u32 *)&sq->started, 0, -1);
	ret = fu_load_acquire(&sq->started);
	return ret < 0 ? ret : 0;
}

void fu_sqpoll_stop(struct fu_ctx *ctx)
{
	struct fu_sqpoll *sq = ctx->sq;

	fu_store_release(&sq->stop, 1);
	fu_sqpoll_wake(ctx);
	while (!fu_load_acquire(&sq->done))
		fu_futex_wait(&sq->done, 0, ROOM_CHECK_NS);
	ctx->sq = NULL;
	fu_free(sq, sizeof(*sq));
	fu_wq_leave_sqpoll(ctx);
}

void fu_sqpoll_wake(struct fu_ctx *ctx)
{
	__atomic_fetch_add(&ctx->ring.ctrl->sq_wake, 1, __ATOMIC_SEQ_CST);
	fu_futex_wake(&ctx->ring.ctrl->sq_wake, 1);
}

long fu_sqpoll_wait_room(struct fu_ctx *ctx)
{
	struct fu_ring *ring = &ctx->ring;
	struct fu_sqpoll *sq = ctx->sq;
	long ret = 0;

	if (sq)
		__atomic_fetch_add(&sq->room_waiters, 1, __ATOMIC_SEQ_CST);
	for (;;) {
		u32 head = __atomic_load_n(ring->sq_head, __ATOMIC_SEQ_CST);

		if (fu_load_acquire(ring->sq_tail) - head < ring->sq_entries ||
		    fu_load_relaxed(&ring->ctrl->ended))
			break;
		/* In a forked child the thread does not know of us: look again by the clock. */
		ret = fu_futex_wait(ring->sq_head, head, ROOM_CHECK_NS);
		if (ret == -EINTR)
			break;
		ret = 0;
		/* Nobody makes room any more. */
		if (fu_sqpoll_dead(ctx))
			break;
	}
	if (sq)
		__atomic_fetch_sub(&sq->room_waiters, 1, __ATOMIC_SEQ_CST);
	return ret;
}

bool fu_sqpoll_dead(struct fu_ctx *ctx)
{
	return !ctx->sq && fu_process_is_dead(ctx->ring.ctrl->creator);
}
