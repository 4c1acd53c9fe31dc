/*
 * From an SQE to a request that is done, armed, or on its way to a worker.
 *
 * The order of checks and what a failed one does to its link, to the drain and to
 * the rest of the submission are the kernel's (io_init_req, io_submit_sqe and what
 * they call): a bad SQE ends the submission, having been counted, unless the ring
 * is SUBMIT_ALL; inside a link it only marks the link as failed.
 */
#include "engine/engine.h"

#include <errno.h>
#include <sys/epoll.h>

#include "engine/aio.h"
#include "engine/entry.h"
#include "engine/fileinfo.h"
#include "engine/leaving.h"
#include "engine/notes.h"
#include "engine/peers.h"
#include "engine/personality.h"
#include "engine/poll.h"
#include "engine/restrict.h"
#include "rings/fds.h"
#include "rings/keep.h"
#include "rings/mem.h"

static void begin_on_worker(struct fu_req *req);
static void issued(struct fu_ctx *ctx, struct fu_req *req, int ret, u32 issue_flags, bool guarded);
static int attempt(struct fu_req *req, u32 issue_flags);

/* ---- preparation ---- */

static void init_drain(struct fu_ctx *ctx)
{
	ctx->drain_active = true;
	if (ctx->link_head) {
		/* In the middle of a link: the head waits, and so does what follows the link. */
		ctx->link_head->flags |= FU_REQ_DRAIN | FU_REQ_SLOW;
		ctx->drain_next = true;
	}
}

/* The rarer flags of an SQE. */
static int init_flags(struct fu_ctx *ctx, struct fu_req *req, const struct fu_op *op,
                      const struct fu_sqe *sqe)
{
	u32 flags = req->flags;

	if (flags & ~FU_SQE_FLAGS)
		return -EINVAL;
	if (flags & IOSQE_BUFFER_SELECT) {
		if (!op->buffer_select)
			return -EOPNOTSUPP;
		req->buf_group = sqe->buf_index;
	}
	if (flags & IOSQE_CQE_SKIP_SUCCESS)
		ctx->drain_disabled = true;
	if (flags & IOSQE_IO_DRAIN) {
		if (ctx->drain_disabled)
			return -EOPNOTSUPP;
		init_drain(ctx);
	}
	return 0;
}

static int init_slow(struct fu_ctx *ctx, struct fu_req *req)
{
	if (ctx->restricted && !fu_restriction_allows(ctx, req))
		return -EACCES;
	if (ctx->drain_active)
		req->flags |= FU_REQ_SLOW;
	if (ctx->drain_next && !ctx->link_head) {
		ctx->drain_next = false;
		ctx->drain_active = true;
		req->flags |= FU_REQ_DRAIN | FU_REQ_SLOW;
	}
	return ctx->iopoll && !req->op->iopoll ? -EINVAL : 0;
}

static inline int init_req(struct fu_ctx *ctx, struct fu_req *req, const struct fu_sqe *sqe)
{
	bool known = sqe->opcode < IORING_OP_LAST;
	const struct fu_op *op = &fu_ops[fu_likely(known) ? sqe->opcode : IORING_OP_NOP];
	int ret;

	/* Computed once, not wherever it is used. */
	__asm__("" : "+r"(op));
	req->op = op;
	req->flags = sqe->flags;
	req->user_data = sqe->user_data;
	req->opcode = known ? sqe->opcode : IORING_OP_NOP;
	if (fu_unlikely(!known))
		return -EINVAL;
	if (fu_unlikely(sqe->flags & ~(u32)(IOSQE_FIXED_FILE | IOSQE_IO_LINK | IOSQE_IO_HARDLINK |
	                                    IOSQE_ASYNC))) {
		ret = init_flags(ctx, req, op, sqe);
		if (ret)
			return ret;
	}
	if (fu_unlikely(ctx->iopoll || ctx->drain_active || ctx->drain_next || ctx->restricted)) {
		ret = init_slow(ctx, req);
		if (ret)
			return ret;
	}
	if (fu_unlikely(sqe->ioprio) && !op->ioprio)
		return -EINVAL;
	req->fd = sqe->fd;
	req->sqe_fd = (u32)sqe->fd;
	if (sqe->personality) {
		ret = fu_personality_get(ctx, req, sqe->personality);
		if (ret)
			return ret;
	}
	return op->prep(req, sqe);
}

/* ---- queueing ---- */

static u32 chain_length(const struct fu_req *req)
{
	u32 n = 0;

	for (; req; req = req->link)
		n++;
	return n;
}

static void drain_add(struct fu_req *req)
{
	struct fu_ctx *ctx = req->ctx;
	bool drain = req->flags & FU_REQ_DRAIN;

	ctx->drained += chain_length(req);
	fu_lock(&ctx->lock);
	fu_track(req, FU_AT_DRAIN);
	fu_list_add_tail(&ctx->drain, &req->queue);
	fu_unlock(&ctx->lock);
	fu_drain_run(ctx);
	if (!drain && fu_list_empty(&ctx->drain))
		ctx->drain_active = false;
}

/*
 * The first on the list may go when every request outside the list has completed;
 * those behind it go along until the next one that asked for a drain itself.
 */
bool fu_drain_run(struct fu_ctx *ctx)
{
	bool drain_seen = false, first = true;

	/* Completed but unposted requests are still active: they are, to the program. */
	while (!fu_list_empty(&ctx->drain)) {
		struct fu_req *req = fu_list_entry(ctx->drain.next, struct fu_req, queue);

		drain_seen |= !!(req->flags & FU_REQ_DRAIN);
		if ((drain_seen || first) && fu_ctx_active(ctx) != ctx->drained)
			break;
		fu_lock(&ctx->lock);
		fu_list_del(&req->queue);
		fu_untrack(req);
		fu_unlock(&ctx->lock);
		ctx->drained -= chain_length(req);
		fu_req_task_work(req, fu_req_tw_issue);
		first = false;
	}
	return !first;
}

/* What reads for ever is armed before it is tried, where the kernel has a worker begin it. */
static bool begins_on_worker(const struct fu_req *req)
{
	return (req->flags & FU_REQ_ASYNC) ||
	       ((req->flags & FU_REQ_SLOW) && (req->flags & FU_REQ_MULTISHOT) &&
	        req->op->buffer_select);
}

/*
 * A request that does not take the straight way: failed, drained, forced to a worker, or left
 * alone in a link that was not closed (the kernel has a worker run that, which polls nothing).
 */
static void queue_fallback(struct fu_req *req, u32 issue_flags)
{
	if (req->flags & FU_REQ_FAIL) {
		/* All of the link fails with it. */
		req->flags = (req->flags & ~FU_REQ_HARDLINK) | FU_REQ_LINK;
		if (req->op->fail)
			req->op->fail(req);
		fu_req_done(req);
	} else if (req->ctx->drain_active) {
		drain_add(req);
	} else if (begins_on_worker(req)) {
		begin_on_worker(req);
	} else {
		fu_req_issue(req, FU_ISSUE_NONBLOCK | issue_flags);
	}
}

static void fail_node(struct fu_req *req, int res)
{
	fu_req_set_fail(req);
	fu_req_result(req, res, 0);
}

/* Returns the error if the submission ends here. */
static int submit_failed(struct fu_ctx *ctx, struct fu_req *req, int err)
{
	struct fu_req *head = ctx->link_head;

	/* It may have got nowhere: what the last user of its memory left is not for op->fail. */
	if (!(req->flags & FU_REQ_CLEANUP))
		fu_memset(req->cmd, 0, sizeof(req->cmd));
	fail_node(req, err);
	if (head && !(head->flags & FU_REQ_FAIL))
		fail_node(head, -ECANCELED);
	if (!(req->flags & FU_REQ_LINK_FLAGS)) {
		if (head) {
			ctx->link_last->link = req;
			ctx->link_head = NULL;
			req = head;
		}
		queue_fallback(req, 0);
		return err;
	}
	if (head)
		ctx->link_last->link = req;
	else
		ctx->link_head = req;
	ctx->link_last = req;
	return 0;
}

static int find_file(struct fu_req *req)
{
	if (req->flags & FU_REQ_FIXED_FILE) {
		if (!req->node) {
			struct fu_file_node *node = fu_table_get(&req->ctx->files, req->sqe_fd);

			if (!node)
				return -EBADF;
			fu_req_use_file(req, node);
		}
		req->fd = req->node->fd;
	} else if (req->fd < 0 || fu_fd_is_engine(req->fd)) {
		return -EBADF;
	}
	req->flags |= FU_REQ_FILE_READY;
	return 0;
}

static inline int assign_file(struct fu_req *req)
{
	if (!req->op->needs_file || (req->flags & FU_REQ_FILE_READY))
		return 0;
	return find_file(req);
}

/* What has to do with other requests, or does not begin here. */
#define TIES (FU_REQ_LINK_FLAGS | FU_REQ_ASYNC | FU_REQ_SLOW | FU_REQ_FAIL)

/* The first attempt at a request without ties, which may join the batch. */
static inline void issue_first(struct fu_ctx *ctx, struct fu_req *req, u32 left)
{
	if (req->op->iocb && !req->creds && !(req->flags & FU_REQ_BUFFER_SELECT) &&
	    !assign_file(req) && fu_aio_add(req, left))
		return;
	/* Inline work completes in the order of submission. */
	if (fu_unlikely(ctx->aio_queued)) {
		fu_aio_flush(ctx);
		ctx->prep_error = 0;
	}
	issued(ctx, req, attempt(req, FU_ISSUE_NONBLOCK), FU_ISSUE_NONBLOCK, false);
}

/*
 * A request that belongs to a link, does not take the straight way, or whose preparation has
 * failed with `err`. Returns the error if the submission ends here.
 */
static int submit_tied(struct fu_ctx *ctx, struct fu_req *req, int err)
{
	/* What does not run before this submission returns must own what it reads. */
	if (!err && req->op->stable) {
		req->flags |= FU_REQ_STABLE;
		err = req->op->stable(req);
	}
	if (err) {
		fu_aio_flush(ctx);
		return submit_failed(ctx, req, err);
	}
	if (!ctx->link_head) {
		if (req->flags & FU_REQ_LINK_FLAGS)
			ctx->link_head = ctx->link_last = req;
		else
			queue_fallback(req, 0);
		return 0;
	}
	fu_req_own(req);
	ctx->link_last->link = req;
	ctx->link_last = req;
	if (req->flags & FU_REQ_LINK_FLAGS)
		return 0;
	req = ctx->link_head;
	ctx->link_head = NULL;
	fu_aio_flush(ctx);
	if (req->flags & (FU_REQ_ASYNC | FU_REQ_SLOW | FU_REQ_FAIL))
		queue_fallback(req, 0);
	else
		fu_req_issue(req, FU_ISSUE_NONBLOCK);
	return 0;
}

/* `left`: how many of its submission are still to come. */
static inline int submit_one(struct fu_ctx *ctx, struct fu_req *req, const struct fu_sqe *sqe,
                             u32 left)
{
	struct fu_sqe copy = *(const volatile struct fu_sqe *)sqe;
	int ret;

	/* What the batch reads may be what this one's preparation looks at. */
	if (ctx->aio_queued && (copy.opcode >= IORING_OP_LAST || !fu_ops[copy.opcode].iocb))
		fu_aio_flush(ctx);
	ret = init_req(ctx, req, &copy);
	if (fu_unlikely(ctx->shared)) {
		fu_req_keep(req);
		fu_req_own(req);
	}
	if (fu_unlikely(ret || (req->flags & TIES) || ctx->link_head))
		return submit_tied(ctx, req, ret);
	ctx->prep_error = 0;
	issue_first(ctx, req, left);
	return ctx->prep_error;
}

long fu_submit_sqes(struct fu_ctx *ctx, u32 count)
{
	u32 pending = fu_sq_pending(&ctx->ring);
	u32 left = count < pending ? count : pending;
	u32 total = left;
	long ret;

	if (!total) {
		/* Who died between taking SQEs and saying so has left that to us. */
		fu_sq_commit(&ctx->ring);
		return 0;
	}
	ctx->submitting = true;
	/* Another process may have enabled the ring. */
	ctx->restricted = ctx->ring.ctrl->restricted;
	ctx->shared = fu_peers_use(ctx);
	ctx->peek.at = ctx->ring.ctrl->cached_sq_head - 1;
	while (left) {
		struct fu_req *req = fu_req_alloc(ctx);
		const struct fu_sqe *sqe;

		if (!req)
			break;
		if (fu_unlikely(ctx->shared))
			fu_orphans_take(req);
		sqe = fu_sq_next(&ctx->ring);
		if (!sqe) {
			if (req->record)
				fu_orphans_forget(req);
			req->next = ctx->cache;
			ctx->cache = req;
			fu_store_relaxed(&ctx->started, ctx->started - 1);
			break;
		}
		left--;
		if (submit_one(ctx, req, sqe, left) &&
		    !(ctx->ring.setup_flags & IORING_SETUP_SUBMIT_ALL))
			break;
	}
	fu_aio_flush(ctx);
	ret = (long)(total - left);
	if (ctx->link_head) {
		struct fu_req *head = ctx->link_head;

		/* A link that the submission left open ends here. */
		ctx->link_head = NULL;
		head->flags |= FU_REQ_SLOW;
		queue_fallback(head, FU_ISSUE_UNPOLLED);
	}
	ctx->submitting = false;
	fu_sq_commit(&ctx->ring);
	FU_TALLY(ctx, sqes, ret);
	if (!ret && left && !ctx->cache)
		ret = -EAGAIN;
	return ret;
}

/* ---- issuing ---- */

int fu_req_hold_file(struct fu_req *req)
{
	int ret = assign_file(req);

	fu_req_hold_nodes(req);
	if (ret || !req->op->needs_file || req->node || (req->flags & FU_REQ_OWN_FD))
		return ret;
	ret = fu_fd_hold(req->fd);
	if (ret < 0)
		return ret;
	fu_file_inherit(req, req->fd);
	req->fd = ret;
	req->flags |= FU_REQ_OWN_FD;
	return 0;
}

/*
 * The first attempt has failed with `res`. What the program's memory should have told before,
 * had it been copied, comes first and ends the submission. Returns the result that counts.
 */
static s32 first_error(struct fu_req *req, s32 res)
{
	struct fu_ctx *ctx = req->ctx;

	if (!ctx->submitting || !req->op->stable || (req->flags & FU_REQ_STABLE) || res == -EAGAIN)
		return res;
	ctx->prep_error = req->op->stable(req);
	return ctx->prep_error ? ctx->prep_error : res;
}

/* Makes a request independent of the submitter: its file and what it points to. */
static int make_stable(struct fu_req *req)
{
	if (req->op->stable && !(req->flags & FU_REQ_STABLE)) {
		int ret = req->op->stable(req);

		req->flags |= FU_REQ_STABLE;
		if (ret) {
			req->ctx->prep_error = ret;
			return ret;
		}
	}
	return fu_req_hold_file(req);
}

static bool can_arm(const struct fu_req *req)
{
	return (req->op->pollin || req->op->pollout) && !(req->flags & FU_REQ_NO_ARM);
}

static u32 arm_events(const struct fu_req *req)
{
	if (req->poll_events)
		return req->poll_events;
	return EPOLLPRI | EPOLLERR | (req->op->exclusive ? (u32)EPOLLEXCLUSIVE : 0) |
	       (req->op->pollin ? EPOLLIN | EPOLLRDNORM | EPOLLRDHUP : 0) |
	       (req->op->pollout ? EPOLLOUT | EPOLLWRNORM : 0);
}

struct fu_name fu_req_name(const struct fu_req *req)
{
	struct fu_name name = { .fd = -1, .since = fu_load_acquire(&fu_fds_renamed) };

	if (req->node)
		name.fd = req->node->fd;
	else if (!(req->flags & FU_REQ_OWN_FD))
		name.fd = req->fd;
	return name;
}

/* Arms the poller. Returns 0 or -errno; -EPERM marks the file as not pollable. */
static int arm(struct fu_req *req, struct fu_name name)
{
	struct fu_ctx *ctx = req->ctx;
	int ret;

	fu_lock(&ctx->lock);
	ret = fu_req_arm(req, arm_events(req) | EPOLLONESHOT, name);
	fu_unlock(&ctx->lock);
	if (ret == -EPERM)
		req->flags |= FU_REQ_NO_ARM;
	if (!ret)
		FU_COUNT(armed, 1);
	return ret;
}

/* Done on this thread as a worker would do it, once the lock is free. */
static void run_here(struct fu_req *req)
{
	fu_req_keep(req);
	fu_ctx_outside(req->ctx, req, fu_req_run_on_worker);
}

/*
 * Hands the request to a worker. With none to be had, the submitter's own thread does what
 * `ends` by itself.
 */
static void punt(struct fu_req *req, bool ends)
{
	bool guarded = req->flags & FU_REQ_ARM_LTIMEOUT;
	bool here = fu_personality_stays(req);
	int ret = make_stable(req);

	if (!ret && !here) {
		fu_personality_punt(req);
		ret = fu_pool_queue(req);
		if (ret && ends) {
			here = true;
			ret = 0;
		}
	}
	if (!ret && here)
		run_here(req);
	if (ret)
		fu_req_fail(req, ret);
	else if (guarded)
		fu_ltimeout_arm(req);
}

void fu_req_punt(struct fu_req *req)
{
	punt(req, !req->op->unbounded || can_arm(req));
}

static void would_block(struct fu_req *req)
{
	int ret = 0;

	if (can_arm(req)) {
		struct fu_name name = fu_req_name(req);

		ret = make_stable(req);
		if (!ret)
			ret = arm(req, name);
		if (!ret)
			return;
		if (ret != -EPERM && ret != -ENOMEM && ret != -ENOSPC) {
			fu_req_fail(req, ret);
			return;
		}
		req->flags |= FU_REQ_NO_ARM;
	}
	punt(req, !req->op->unbounded || ret == -EPERM);
}

/* What becomes of a request after issue() has said `ret`. A TAKEN one is somebody else's. */
static fu_always_inline void issued(struct fu_ctx *ctx, struct fu_req *req, int ret,
                                    u32 issue_flags, bool guarded)
{
	if (fu_likely(ret == FU_DONE)) {
		if (fu_unlikely(req->res < 0))
			req->res = first_error(req, req->res);
		if (!(issue_flags & FU_ISSUE_RETRY))
			FU_TALLY(ctx, inlined, 1);
		if (guarded)
			fu_ltimeout_missed(req);
		fu_ctx_done(ctx, req);
		return;
	}
	if (ret < 0) {
		if (ret != -EAGAIN || (req->flags & FU_REQ_NOWAIT)) {
			if (guarded && (!req->op->needs_file || (req->flags & FU_REQ_FILE_READY)))
				fu_ltimeout_missed(req);
			fu_req_fail(req, first_error(req, ret));
			return;
		}
		would_block(req);
	}
	/* Requests with a linked timeout complete under submit_lock only: it is still there. */
	if (guarded)
		fu_ltimeout_arm(req);
}

static fu_always_inline int attempt(struct fu_req *req, u32 issue_flags)
{
	if (req->op->needs_file || req->op->blocks) {
		int ret = assign_file(req);

		if (ret || req->op->blocks)
			return ret ? ret : -EAGAIN;
	}
	if (fu_unlikely(fu_polls_any()) && req->op->pollin && fu_polls_of(req))
		fu_notes_take(req->ctx);
	return fu_issue_as(req, issue_flags);
}

void fu_req_issue(struct fu_req *req, u32 issue_flags)
{
	bool guarded = req->flags & FU_REQ_ARM_LTIMEOUT;

	issued(req->ctx, req, attempt(req, issue_flags), issue_flags, guarded);
}

void fu_req_issued(struct fu_req *req, int ret)
{
	issued(req->ctx, req, ret, 0, false);
}

/*
 * To a worker. One that would only look at a file and have it watched, since it is no place for
 * what goes on for ever, is not waited for: that is done here.
 */
static void begin_on_worker(struct fu_req *req)
{
	bool guarded = req->flags & FU_REQ_ARM_LTIMEOUT;
	int ret;

	if (!(req->flags & FU_REQ_MULTISHOT) || !req->op->buffer_select || !can_arm(req)) {
		fu_req_punt(req);
		return;
	}
	ret = assign_file(req);
	if (!ret)
		ret = fu_issue_as(req, FU_ISSUE_WORKER | FU_ISSUE_NONBLOCK);
	issued(req->ctx, req, ret, 0, guarded);
}

/* Task work: one that follows in a link comes after events that came before it. */
static void issue_now(struct fu_req *req)
{
	/* The kernel's workers go on with a link themselves, and poll nothing. */
	fu_req_issue(req, FU_ISSUE_NONBLOCK | (fu_self.in_worker ? FU_ISSUE_UNPOLLED : 0));
}

static bool comes_later(struct fu_req *req)
{
	if (!req->op->pollin || !fu_polls_of(req))
		return false;
	fu_notes_take(req->ctx);
	if (!fu_notes_own(req->ctx))
		return false;
	fu_req_task_work(req, issue_now);
	return true;
}

void fu_req_tw_issue(struct fu_req *req)
{
	if (fu_load_relaxed(&req->ctx->ring.ctrl->ended))
		fu_req_fail(req, -ECANCELED);
	else if (req->flags & FU_REQ_FAIL)
		fu_req_fail(req, req->res);
	else if (fu_unlikely(fu_req_left_behind(req)))
		fu_req_fail(req, -EFAULT);
	else if (begins_on_worker(req))
		begin_on_worker(req);
	else if (fu_likely(!fu_polls_any()) || !comes_later(req))
		issue_now(req);
}

/* Task work of a request whose file has become ready. */
static void retry(struct fu_req *req)
{
	if (fu_load_acquire(&req->cancelled))
		fu_req_fail(req, -ECANCELED);
	else if (req->poll_slot && fu_poller_finds_nothing(req))
		issued(req->ctx, req, -EAGAIN, FU_ISSUE_RETRY, req->flags & FU_REQ_ARM_LTIMEOUT);
	else
		fu_req_issue(req, FU_ISSUE_NONBLOCK | FU_ISSUE_RETRY);
}

/* Up to here it can be found, and cancelled: deferred task work may be long in coming. */
static void event_work(struct fu_req *req)
{
	struct fu_ctx *ctx = req->ctx;

	fu_lock(&ctx->lock);
	fu_untrack(req);
	fu_unlock(&ctx->lock);
	if (req->op->event)
		req->op->event(req);
	else
		retry(req);
}

void fu_poll_event(struct fu_req *req, u32 events)
{
	req->seen_events = events;
	fu_req_task_work(req, event_work);
}

void fu_poll_events(struct fu_ctx *ctx, struct fu_req *(*next)(void *arg, u32 *events), void *arg)
{
	bool is_mine = fu_lock_is_mine(&ctx->ring.ctrl->submit_lock);
	struct fu_req *req, *first = NULL, *last = NULL;
	u32 events;

	if (!ctx->deferred && !is_mine)
		fu_submit_lock(ctx);
	while ((req = next(arg, &events))) {
		req->seen_events = events;
		if (ctx->deferred) {
			req->tw = event_work;
			req->next = last;
			first = first ? first : req;
			last = req;
		} else if (is_mine) {
			fu_req_task_work(req, event_work);
		} else {
			event_work(req);
		}
	}
	if (last)
		fu_defer(ctx, last, first);
	if (!ctx->deferred && !is_mine)
		fu_submit_unlock(ctx);
}

void fu_req_run_on_worker(struct fu_req *req)
{
	u32 flags = FU_ISSUE_WORKER;
	int ret;

	if (can_arm(req) && !(req->flags & FU_REQ_NOWAIT))
		flags |= FU_ISSUE_NONBLOCK;
	for (;;) {
		if (fu_load_acquire(&req->cancelled)) {
			ret = -ECANCELED;
			break;
		}
		ret = fu_issue_as(req, flags);
		if (ret != -EAGAIN || (req->flags & FU_REQ_NOWAIT) || !(flags & FU_ISSUE_NONBLOCK))
			break;
		if (can_arm(req)) {
			ret = arm(req, fu_req_name(req));
			if (!ret)
				return;
			if (ret != -EPERM)
				break;
		}
		flags &= ~FU_ISSUE_NONBLOCK;
	}
	if (ret == FU_TAKEN)
		return;
	fu_lock(&req->ctx->lock);
	fu_untrack(req);
	fu_unlock(&req->ctx->lock);
	if (ret == FU_DONE)
		fu_req_done_async(req);
	else
		fu_req_fail_async(req, ret);
}
