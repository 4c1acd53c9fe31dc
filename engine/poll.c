/*
 * POLL_ADD (one-shot, multishot) and POLL_REMOVE with its updates. IORING_POLL_ADD_LEVEL has a
 * number, but no kernel up to 6.18 takes it.
 *
 * One-shot: asked once at once, then armed. Multishot: the poller's registration
 * stays and each event posts a CQE with IORING_CQE_F_MORE, until one no longer fits
 * into the CQ or the request is cancelled.
 */
#include "engine/poll.h"

#include <errno.h>
#include <poll.h>
#include <sys/epoll.h>

#include "engine/entry.h"
#include "engine/host.h"
#include "engine/notes.h"
#include "engine/peers.h"
#include "engine/poller.h"
#include "engine/registry.h"
#include "engine/thread.h"
#include "rings/fds.h"
#include "rings/sys.h"

#define ALWAYS (EPOLLERR | EPOLLHUP | EPOLLRDHUP)

/* Descriptor numbers that are told apart below. */
#define NUMBERS 65536U
/* ... and places in the tables of registered files. */
#define PLACES 4096U

struct poll {
	u32 events; /* EPOLL* wanted */
	u8 multi;
	bool counted; /* in `multis` */
	bool of_ring; /* the file is a ring */
	bool worker;  /* it is for a worker to wait */
	bool stale;   /* more than one has looked at its event: the file tells what is true now */
	u32 signals;  /* the ring's ctx->evfd_signals when it began */
	u16 number;   /* where in `polls_at` it counts */
};

/*
 * Armed polls: all, multishot ones, those of registered files, which a program may read by any
 * number, those of each place in the tables of these, and those of each number as the program gave
 * it, or of the one that this is a duplicate of. Hints, also in a forked child, which has them from
 * its parent.
 */
u32 fu_polls;
static u32 multis;
static u32 polls_fixed;
static u16 polls_fixed_at[PLACES];
static u16 polls_at[NUMBERS];
/*
 * For each number, the one that stands for all duplicates of its file, XOR the number itself: a
 * duplicate takes it over from where it comes from. What a number keeps from a file that has been
 * closed does no harm, since the duplicates of the next one have it as well.
 */
static u16 stands_for[NUMBERS];

struct poll_update {
	u64 old_user_data;
	u64 new_user_data;
	u32 events;
	u32 flags;
};

static u32 parse_events(const struct fu_sqe *sqe)
{
	/* Only poll's own bits: epoll's flags are not a program's to give. */
	return (sqe->op_flags & 0xffffU & ~(u32)(POLLNVAL)) | (sqe->op_flags & EPOLLEXCLUSIVE);
}

int fu_poll_add_prep(struct fu_req *req, const struct fu_sqe *sqe)
{
	struct poll *poll = fu_cmd(req, struct poll);
	u32 flags = sqe->len;

	if (sqe->buf_index || sqe->off || sqe->addr)
		return -EINVAL;
	if (flags & ~(u32)IORING_POLL_ADD_MULTI)
		return -EINVAL;
	if ((flags & IORING_POLL_ADD_MULTI) && (req->flags & FU_REQ_CQE_SKIP))
		return -EINVAL;
	*poll = (struct poll){ .events = parse_events(sqe),
		               .multi = (flags & IORING_POLL_ADD_MULTI) &&
		                        !(sqe->op_flags & EPOLLONESHOT) };
	return 0;
}

static u16 stand_in(u32 fd)
{
	u16 number = (u16)(fd % NUMBERS);

	return number ^ fu_load_relaxed(&stands_for[number]);
}

void fu_fd_aliased(int oldfd, int newfd)
{
	u16 number = (u16)((u32)newfd % NUMBERS);

	fu_store_relaxed(&stands_for[number], number ^ stand_in((u32)oldfd));
}

static void count(struct fu_req *req)
{
	struct poll *poll = fu_cmd(req, struct poll);

	if (!(req->flags & FU_REQ_CLEANUP)) {
		__atomic_fetch_add(&fu_polls, 1, __ATOMIC_RELAXED);
		if (req->flags & FU_REQ_FIXED_FILE) {
			poll->number = (u16)(req->sqe_fd % PLACES);
			__atomic_fetch_add(&polls_fixed, 1, __ATOMIC_RELAXED);
			__atomic_fetch_add(&polls_fixed_at[poll->number], 1, __ATOMIC_RELAXED);
		} else {
			poll->number = stand_in(req->sqe_fd);
			__atomic_fetch_add(&polls_at[poll->number], 1, __ATOMIC_RELAXED);
		}
	}
	req->flags |= FU_REQ_CLEANUP;
	if (poll->multi && !poll->counted) {
		poll->counted = true;
		__atomic_fetch_add(&multis, 1, __ATOMIC_RELAXED);
	}
}

void fu_poll_add_cleanup(struct fu_req *req)
{
	const struct poll *poll = fu_cmd(req, struct poll);

	__atomic_fetch_sub(&fu_polls, 1, __ATOMIC_RELAXED);
	if (req->flags & FU_REQ_FIXED_FILE) {
		__atomic_fetch_sub(&polls_fixed, 1, __ATOMIC_RELAXED);
		__atomic_fetch_sub(&polls_fixed_at[poll->number], 1, __ATOMIC_RELAXED);
	} else {
		__atomic_fetch_sub(&polls_at[poll->number], 1, __ATOMIC_RELAXED);
	}
	if (poll->counted)
		__atomic_fetch_sub(&multis, 1, __ATOMIC_RELAXED);
}

bool fu_polls_multi(void)
{
	return fu_load_relaxed(&multis) != 0;
}

bool fu_polls_of(const struct fu_req *req)
{
	if (req->flags & FU_REQ_FIXED_FILE)
		return fu_load_relaxed(&polls_fixed_at[req->sqe_fd % PLACES]) != 0;
	return fu_load_relaxed(&polls_at[stand_in(req->sqe_fd)]) != 0;
}

/*
 * A handler of the program may run inside the engine's locks where the program's own seccomp
 * filter traps a system call of the engine: nothing is looked at then.
 */
static void look(void)
{
	if (!fu_self.critical)
		fu_poller_harvest(NULL);
}

void fu_fd_reads(int fd)
{
	if (fu_unlikely(fu_load_relaxed(&polls_at[stand_in((u32)fd)]) ||
	                fu_load_relaxed(&polls_fixed)))
		look();
}

void fu_fd_written(void)
{
	if (fu_unlikely(fu_load_relaxed(&multis)))
		look();
	else if (fu_unlikely(fu_self.owns) && !fu_self.critical)
		fu_poller_harvest_own();
}

/* What the file is ready for now, or -errno. */
static long ready_now(struct fu_req *req, u32 events)
{
	struct pollfd pfd = { .fd = req->fd, .events = (short)(events | ALWAYS) };
	long n = fu_poll_now(&pfd);

	if (n < 0)
		return n == -EINTR ? 0 : n;
	if (pfd.revents & POLLNVAL)
		return -EBADF;
	return pfd.revents;
}

/* Arms or re-arms an owned request; true: an event is already there. submit_lock held. */
static int arm(struct fu_req *req, struct fu_name name)
{
	struct poll *poll = fu_cmd(req, struct poll);
	struct fu_ctx *ctx = req->ctx;
	u32 events = poll->events | ALWAYS;
	int ret;

	if (!poll->multi)
		events |= EPOLLONESHOT;
	fu_lock(&ctx->lock);
	ret = fu_req_arm(req, events, name);
	fu_unlock(&ctx->lock);
	return ret;
}

/*
 * The poller has not taken it. A file that cannot be polled is always ready. Any other can be
 * waited for by a worker, where nothing else is to be had; but only once.
 */
static int not_armed(struct fu_req *req, u32 issue_flags)
{
	struct poll *poll = fu_cmd(req, struct poll);
	u32 mask = poll->events & (EPOLLIN | EPOLLOUT | EPOLLRDNORM | EPOLLWRNORM);
	struct pollfd pfd = { .fd = req->fd, .events = (short)poll->events };
	long ret;

	if (!mask || ready_now(req, mask) == mask) {
		fu_req_result(req, (s32)mask, 0);
		return mask ? FU_DONE : -EINVAL;
	}
	if (poll->multi)
		return -EOPNOTSUPP;
	poll->worker = true;
	if (!(issue_flags & FU_ISSUE_WORKER))
		return -EAGAIN;
	ret = fu_poll_block(&req->cancelled, &pfd);
	if (ret < 0)
		return ret == -EINTR ? -ECANCELED : (int)ret;
	fu_req_result(req, pfd.revents, 0);
	return FU_DONE;
}

int fu_poll_add_issue(struct fu_req *req, u32 issue_flags)
{
	struct poll *poll = fu_cmd(req, struct poll);
	struct fu_name name;
	long ret;

	fu_fd_polled(req->fd, poll->multi);
	poll->signals = fu_load_relaxed(&req->ctx->evfd_signals);
	poll->of_ring = fu_fd_names_ring(req->fd);
	if (!poll->multi) {
		ret = ready_now(req, poll->events);
		if (ret) {
			fu_req_result(req, (s32)ret, 0);
			return ret < 0 ? (int)ret : FU_DONE;
		}
	}
	name = fu_req_name(req);
	ret = fu_req_hold_file(req);
	if (ret)
		return (int)ret;
	count(req);
	ret = arm(req, name);
	if (ret == -EPERM)
		return not_armed(req, issue_flags);
	if (ret < 0)
		return (int)ret;
	if (ret > 0)
		fu_req_task_work(req, fu_poll_add_event);
	else
		FU_COUNT(armed, 1);
	return FU_TAKEN;
}

/*
 * Whether it is completions that wake this poll: of a ring that it polls, or its own ring's by
 * the eventfd that tells of them, so that it would wake itself for ever. Then it ends with its
 * next event, as the kernel has it.
 */
static bool wakes_itself(struct fu_req *req)
{
	struct fu_ctx *ctx = req->ctx;
	int same, evfd = fu_load_acquire(&ctx->evfd);

	if (fu_unlikely(fu_cmd(req, struct poll)->of_ring))
		return true;
	if (fu_likely(evfd < 0) ||
	    fu_load_relaxed(&ctx->evfd_signals) == fu_cmd(req, struct poll)->signals)
		return false;
	same = fu_fd_same(req->fd, evfd);
	/* Else the numbers tell. */
	if (same < 0 && !(req->flags & FU_REQ_FIXED_FILE))
		same = stand_in(req->sqe_fd) == stand_in((u32)evfd);
	return same > 0;
}

void fu_poll_add_event(struct fu_req *req)
{
	struct poll *poll = fu_cmd(req, struct poll);
	int ret;

	/* What comes before this is told counts once. */
	if (poll->multi) {
		u32 since = fu_poller_since(req);

		req->seen_events |= since;
		poll->stale |= since != 0;
	}
	if (fu_unlikely(poll->stale)) {
		long ready = ready_now(req, poll->events);

		poll->stale = false;
		if (ready >= 0)
			req->seen_events = (u32)ready;
	}
	for (;;) {
		u32 mask = req->seen_events & (poll->events | ALWAYS);

		/* Looked at anew for what has come while the last one was told. */
		if (poll->multi)
			poll->multi = !wakes_itself(req);
		if (fu_load_acquire(&req->cancelled)) {
			fu_req_fail(req, -ECANCELED);
			return;
		}
		if (mask && !poll->multi) {
			fu_req_result(req, (s32)mask, 0);
			fu_req_done(req);
			return;
		}
		if (mask && !fu_post_more(req, (s32)mask, IORING_CQE_F_MORE)) {
			/* No room: the last CQE goes to the backlog and ends it. */
			fu_req_result(req, (s32)mask, 0);
			fu_req_done(req);
			return;
		}
		ret = arm(req, fu_req_name(req));
		if (!ret)
			return;
		if (ret < 0) {
			fu_req_fail(req, ret);
			return;
		}
	}
}

/* ---- POLL_REMOVE and updates ---- */

int fu_poll_remove_prep(struct fu_req *req, const struct fu_sqe *sqe)
{
	struct poll_update *upd = fu_cmd(req, struct poll_update);
	u32 flags = sqe->len;

	if (sqe->buf_index || sqe->splice_fd_in)
		return -EINVAL;
	if (flags & ~(u32)(IORING_POLL_UPDATE_EVENTS | IORING_POLL_UPDATE_USER_DATA |
	                   IORING_POLL_ADD_MULTI))
		return -EINVAL;
	/* An update leaves a poll one-shot or multishot; MULTI alone is refused all the same. */
	if (flags == IORING_POLL_ADD_MULTI)
		return -EINVAL;
	*upd = (struct poll_update){ .old_user_data = sqe->addr,
		                     .new_user_data = sqe->off,
		                     .flags = flags };
	if (!(flags & IORING_POLL_UPDATE_USER_DATA) && sqe->off)
		return -EINVAL;
	if (flags & IORING_POLL_UPDATE_EVENTS)
		upd->events = parse_events(sqe);
	else if (sqe->op_flags)
		return -EINVAL;
	return 0;
}

/* A poll that a worker waits for: it can be taken back, or interrupted, but not changed. ctx->lock
 * held. */
static int take_from_worker(struct fu_req *req, bool update, struct fu_req **found)
{
	if (update)
		return -EALREADY;
	if (fu_req_take(req) == FU_TAKE_OK) {
		fu_untrack(req);
		*found = req;
	}
	return 0;
}

/* Finds the armed POLL_ADD and takes it. submit_lock held. */
static int take_poll(struct fu_ctx *ctx, u64 user_data, bool update, struct fu_req **found)
{
	int ret = -ENOENT;

	*found = NULL;
	fu_lock(&ctx->lock);
	if (ctx->hash_size) {
		fu_list_for_each(node, &ctx->hash[fu_track_bucket(ctx, user_data)])
		{
			struct fu_req *req = fu_list_entry(node, struct fu_req, hash);

			if (req->opcode != IORING_OP_POLL_ADD || req->user_data != user_data)
				continue;
			if (req->where == FU_AT_WORKER && fu_cmd(req, struct poll)->worker) {
				ret = take_from_worker(req, update, found);
				break;
			}
			if (req->where == FU_AT_END) {
				ret = -EALREADY;
				break;
			}
			if (req->where != FU_AT_POLLER)
				continue;
			/* One that has an event keeps it, if that is still true, and goes on. */
			if (fu_poller_take(req, false) == FU_TAKE_OK) {
				fu_untrack(req);
				*found = req;
				ret = 0;
			} else {
				fu_cmd(req, struct poll)->stale = ctx->deferred;
				ret = -EALREADY;
			}
			break;
		}
	}
	fu_unlock(&ctx->lock);
	return ret;
}

/*
 * One whose file is ready has had its event, only nobody has looked: it ends with that (with
 * deferred task work, if it is still ready then) and *target is NULL. Of multishot ones the
 * submission has seen to it. submit_lock held.
 */
static int too_late(struct fu_req **target)
{
	struct fu_req *req = *target;
	struct poll *poll = fu_cmd(req, struct poll);
	long ready = poll->multi ? 0 : ready_now(req, poll->events);

	if (ready <= 0)
		return 0;
	*target = NULL;
	if (req->ctx->deferred) {
		fu_lock(&req->ctx->lock);
		fu_track(req, FU_AT_POLLER);
		fu_unlock(&req->ctx->lock);
		poll->stale = true;
		fu_poll_event(req, (u32)ready);
		return -EALREADY;
	}
	fu_req_result(req, (s32)ready, 0);
	fu_req_done(req);
	return -ENOENT;
}

int fu_poll_remove_issue(struct fu_req *req, u32 issue_flags)
{
	struct poll_update *upd = fu_cmd(req, struct poll_update);
	bool update = upd->flags & (IORING_POLL_UPDATE_EVENTS | IORING_POLL_UPDATE_USER_DATA);
	struct fu_req *target;
	int ret;

	if (issue_flags & FU_ISSUE_WORKER)
		fu_submit_lock(req->ctx);
	/* A multishot one may be of this submission, and its file have been ready. */
	if (fu_unlikely(fu_polls_multi()) && req->ctx->submitting) {
		fu_notes_take(req->ctx);
		fu_notes_own(req->ctx);
	}
	ret = take_poll(req->ctx, upd->old_user_data, update, &target);
	if (target)
		ret = too_late(&target);
	if (target && update) {
		struct poll *poll = fu_cmd(target, struct poll);

		if (upd->flags & IORING_POLL_UPDATE_EVENTS)
			poll->events = (poll->events & EPOLLEXCLUSIVE) | (upd->events & 0xffffU);
		if (upd->flags & IORING_POLL_UPDATE_USER_DATA)
			target->user_data = upd->new_user_data;
		fu_poller_release(target);
		if (target->lined)
			fu_poller_pass_on(target);
		ret = fu_poll_add_issue(target, 0);
		/* The update has its CQE before what it leads to. */
		if (ret == FU_DONE)
			fu_req_task_work(target, fu_req_tw_done);
		else if (ret < 0)
			fu_req_fail(target, ret);
		ret = 0;
	} else if (target) {
		fu_req_cancelled(target);
	}
	if (issue_flags & FU_ISSUE_WORKER)
		fu_submit_unlock(req->ctx);
	if (!update) {
		const struct fu_cancel cd = { .ctx = req->ctx,
			                      .user_data = upd->old_user_data,
			                      .flags = IORING_ASYNC_CANCEL_USERDATA |
			                               IORING_ASYNC_CANCEL_OP,
			                      .opcode = IORING_OP_POLL_ADD };

		if (fu_peers_ask(req, &cd, ret, issue_flags))
			return FU_TAKEN;
	}
	if (ret < 0)
		fu_req_set_fail(req);
	fu_req_result(req, ret, 0);
	return FU_DONE;
}
