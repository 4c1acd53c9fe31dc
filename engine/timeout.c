/*
 * TIMEOUT, its removal and update, and LINK_TIMEOUT.
 *
 * A linked timeout hangs in its request's chain. While that request is pending the
 * chain is its own: whoever ends it (completion, or the timer that cancels it) does
 * so under submit_lock, so the two never miss each other.
 */
#include "engine/timeout.h"

#include <errno.h>
#include <time.h>

#include "engine/peers.h"
#include "rings/user.h"

/* What the kernel's timers find to be due when they are set. */
#define AT_ONCE_NS 1000U

struct timeout {
	struct fu_timer timer;
	u64 ns;                 /* as given: relative, or absolute with IORING_TIMEOUT_ABS */
	struct fu_list counted; /* ctx->counted; ctx->lock */
	struct fu_req *head;    /* LINK_TIMEOUT: what it guards; submit_lock */
	u32 flags;
	u32 count;  /* completions that end it, or repetitions if multishot */
	u32 target; /* completion number that ends it */
	u32 repeats;
};

struct timeout_update {
	u64 user_data;
	u64 ns;
	u32 flags;
};

static u32 clock_of(u32 flags)
{
	return flags & IORING_TIMEOUT_BOOTTIME   ? CLOCK_BOOTTIME
	       : flags & IORING_TIMEOUT_REALTIME ? CLOCK_REALTIME
	                                         : CLOCK_MONOTONIC;
}

/*
 * Copies a timespec in: 0 or -EFAULT. Programs that arm many timeouts at once have their times
 * side by side: what follows one on its page is copied along with it, and serves the SQEs
 * directly behind this one, before which no request has run that could have changed it.
 */
static int copy_time(struct fu_ctx *ctx, u64 user, struct fu_timespec *ts)
{
	struct fu_peek *peek = &ctx->peek;
	u32 at = ctx->ring.ctrl->cached_sq_head;
	bool follows = at == peek->at + 1 && !ctx->link_head;
	u64 bytes = FU_PAGE - (user & (FU_PAGE - 1));

	peek->at = ctx->link_head ? at - 1 : at;
	if (follows && peek->bytes && user >= peek->user &&
	    user - peek->user <= peek->bytes - sizeof(*ts)) {
		__builtin_memcpy(ts, peek->data + (user - peek->user), sizeof(*ts));
		return 0;
	}
	peek->bytes = 0;
	if (bytes > sizeof(peek->data))
		bytes = sizeof(peek->data);
	/* One by itself, or one that lies across two pages. */
	if (!follows || bytes < sizeof(*ts))
		return fu_copy_from_user(ts, fu_ptr(user), sizeof(*ts));
	if (fu_copy_from_user(peek->data, fu_ptr(user), bytes))
		return -EFAULT;
	peek->user = user;
	peek->bytes = (u32)bytes;
	__builtin_memcpy(ts, peek->data, sizeof(*ts));
	return 0;
}

/* Reads a timespec: 0, -EFAULT, or -EINVAL for a negative one. Saturates. submit_lock held. */
static int read_time(struct fu_ctx *ctx, u64 user, u64 *ns)
{
	struct fu_timespec ts;

	if (copy_time(ctx, user, &ts))
		return -EFAULT;
	if (ts.tv_sec < 0 || ts.tv_nsec < 0)
		return -EINVAL;
	if (ts.tv_sec >= INT64_MAX / 1000000000LL - 1)
		*ns = INT64_MAX;
	else
		*ns = (u64)ts.tv_sec * 1000000000ULL + (u64)ts.tv_nsec;
	return 0;
}

static u64 deadline(u64 ns, u32 flags)
{
	u64 now;

	if (flags & IORING_TIMEOUT_ABS)
		return ns;
	now = fu_now_ns(clock_of(flags));
	return ns > INT64_MAX - now ? INT64_MAX : now + ns;
}

static int prep(struct fu_req *req, const struct fu_sqe *sqe, bool linked)
{
	struct timeout *t = fu_cmd(req, struct timeout);
	u32 flags = sqe->op_flags;
	int ret;

	if (sqe->addr3 || sqe->pad2 || sqe->buf_index || sqe->len != 1 || sqe->splice_fd_in)
		return -EINVAL;
	if ((u32)sqe->off && linked)
		return -EINVAL;
	if (flags & ~(u32)(IORING_TIMEOUT_ABS | IORING_TIMEOUT_CLOCK_MASK |
	                   IORING_TIMEOUT_ETIME_SUCCESS | IORING_TIMEOUT_MULTISHOT))
		return -EINVAL;
	if ((flags & IORING_TIMEOUT_CLOCK_MASK) == IORING_TIMEOUT_CLOCK_MASK)
		return -EINVAL;
	if ((flags & IORING_TIMEOUT_MULTISHOT) && (flags & IORING_TIMEOUT_ABS))
		return -EINVAL;
	__builtin_memset(t, 0, sizeof(*t));
	fu_list_init(&t->counted);
	t->timer.req = req;
	t->flags = flags;
	t->count = (u32)sqe->off;
	if ((flags & IORING_TIMEOUT_MULTISHOT) && t->count)
		t->repeats = t->count;
	ret = read_time(req->ctx, sqe->addr, &t->ns);
	if (ret || !linked)
		return ret;
	if (!req->ctx->link_head || req->ctx->link_last->opcode == IORING_OP_LINK_TIMEOUT)
		return -EINVAL;
	t->head = req->ctx->link_last;
	t->head->flags |= FU_REQ_ARM_LTIMEOUT;
	return 0;
}

int fu_timeout_prep(struct fu_req *req, const struct fu_sqe *sqe)
{
	return prep(req, sqe, false);
}

int fu_link_timeout_prep(struct fu_req *req, const struct fu_sqe *sqe)
{
	return prep(req, sqe, true);
}

/* ---- TIMEOUT ---- */

static bool is_counted(const struct timeout *t)
{
	return t->count && !(t->flags & IORING_TIMEOUT_MULTISHOT);
}

static void uncount(struct fu_ctx *ctx, struct timeout *t)
{
	if (fu_list_empty(&t->counted))
		return;
	fu_list_del(&t->counted);
	fu_store_relaxed(&ctx->nr_counted, ctx->nr_counted - 1);
}

static u32 completions(const struct fu_ctx *ctx)
{
	const struct fu_ctrl *ctrl = ctx->ring.ctrl;

	return fu_load_relaxed(&ctrl->cached_cq_tail) - fu_load_relaxed(&ctrl->cq_timeouts);
}

/* Tracks and starts the timer of an owned request. */
static int start(struct fu_req *req)
{
	struct timeout *t = fu_cmd(req, struct timeout);
	struct fu_ctx *ctx = req->ctx;
	int ret;

	fu_lock(&ctx->lock);
	fu_track(req, FU_AT_OP);
	ret = fu_timer_arm(&t->timer, clock_of(t->flags), deadline(t->ns, t->flags));
	if (ret) {
		uncount(ctx, t);
		fu_untrack(req);
	} else if (fu_unlikely(req->record)) {
		fu_orphans_due(req, clock_of(t->flags), deadline(t->ns, t->flags));
	}
	fu_unlock(&ctx->lock);
	return ret;
}

int fu_timeout_issue(struct fu_req *req, u32 issue_flags)
{
	struct timeout *t = fu_cmd(req, struct timeout);
	struct fu_ctx *ctx = req->ctx;
	int ret;

	if (is_counted(t)) {
		/* On a worker, what the submission has completed is to be posted first. */
		if (issue_flags & FU_ISSUE_WORKER)
			fu_submit_lock(ctx);
		fu_lock(&ctx->lock);
		t->target = completions(ctx) + t->count;
		fu_list_add_tail(&ctx->counted, &t->counted);
		fu_store_relaxed(&ctx->nr_counted, ctx->nr_counted + 1);
		fu_unlock(&ctx->lock);
		if (issue_flags & FU_ISSUE_WORKER)
			fu_submit_unlock(ctx);
	}
	ret = start(req);
	return ret ? ret : FU_TAKEN;
}

bool fu_timeout_cancel(struct fu_req *req)
{
	struct timeout *t = fu_cmd(req, struct timeout);

	if (!fu_timer_take(&t->timer))
		return false;
	uncount(req->ctx, t);
	return true;
}

void fu_timer_fired(struct fu_timer *timer)
{
	struct fu_req *req = timer->req;
	struct fu_ctx *ctx = req->ctx;

	fu_lock(&ctx->lock);
	if (req->opcode == IORING_OP_TIMEOUT)
		uncount(ctx, fu_cmd(req, struct timeout));
	fu_untrack(req);
	fu_unlock(&ctx->lock);
	fu_req_task_work(req, req->op->event);
}

static void note_timeout(struct fu_ctx *ctx)
{
	__atomic_fetch_add(&ctx->ring.ctrl->cq_timeouts, 1, __ATOMIC_SEQ_CST);
	/* That ends a wait, too. */
	__atomic_store_n(&ctx->ring.ctrl->patience, 0, __ATOMIC_SEQ_CST);
}

void fu_timeout_event(struct fu_req *req)
{
	struct timeout *t = fu_cmd(req, struct timeout);
	bool again = (t->flags & IORING_TIMEOUT_MULTISHOT) &&
	             (!t->count || (t->repeats && --t->repeats));

	note_timeout(req->ctx);
	if (again && fu_post_more(req, -ETIME, IORING_CQE_F_MORE) && !start(req))
		return;
	if (!(t->flags & IORING_TIMEOUT_ETIME_SUCCESS))
		fu_req_set_fail(req);
	fu_req_result(req, -ETIME, 0);
	fu_req_done(req);
}

void fu_timeouts_counted(struct fu_ctx *ctx)
{
	u32 seq = completions(ctx);
	struct fu_list due;

	fu_list_init(&due);
	fu_lock(&ctx->lock);
	fu_list_for_each_safe(node, next, &ctx->counted)
	{
		struct timeout *t = fu_list_entry(node, struct timeout, counted);

		if ((s32)(seq - t->target) < 0 || !fu_timer_take(&t->timer))
			continue;
		uncount(ctx, t);
		fu_untrack(t->timer.req);
		fu_list_add_tail(&due, node);
		note_timeout(ctx);
	}
	fu_unlock(&ctx->lock);
	for (struct fu_list *node; (node = fu_list_pop(&due));) {
		struct fu_req *req = fu_list_entry(node, struct timeout, counted)->timer.req;

		fu_req_result(req, 0, 0);
		fu_req_task_work(req, fu_req_tw_done);
	}
}

/* ---- TIMEOUT_REMOVE ---- */

int fu_timeout_remove_prep(struct fu_req *req, const struct fu_sqe *sqe)
{
	struct timeout_update *u = fu_cmd(req, struct timeout_update);
	u32 flags = sqe->op_flags;

	if (req->flags & (FU_REQ_FIXED_FILE | FU_REQ_BUFFER_SELECT))
		return -EINVAL;
	if (sqe->addr3 || sqe->pad2 || sqe->buf_index || sqe->len || sqe->splice_fd_in)
		return -EINVAL;
	*u = (struct timeout_update){ .user_data = sqe->addr, .flags = flags };
	if (flags & IORING_TIMEOUT_UPDATE_MASK) {
		if ((flags & IORING_TIMEOUT_CLOCK_MASK) == IORING_TIMEOUT_CLOCK_MASK)
			return -EINVAL;
		if (flags & ~(u32)(IORING_TIMEOUT_UPDATE_MASK | IORING_TIMEOUT_ABS))
			return -EINVAL;
		return read_time(req->ctx, sqe->off, &u->ns);
	}
	return flags ? -EINVAL : 0;
}

/* The pending timeout with `user_data`, taken off its timer. 0, -ENOENT or -EALREADY. */
static int take_timeout(struct fu_ctx *ctx, u64 user_data, u8 opcode, struct fu_req **found)
{
	int ret = -ENOENT;

	*found = NULL;
	fu_lock(&ctx->lock);
	if (ctx->hash_size) {
		fu_list_for_each(node, &ctx->hash[fu_track_bucket(ctx, user_data)])
		{
			struct fu_req *req = fu_list_entry(node, struct fu_req, hash);

			if (req->opcode != opcode || req->user_data != user_data ||
			    req->where != FU_AT_OP)
				continue;
			ret = -EALREADY;
			if (fu_timeout_cancel(req)) {
				fu_untrack(req);
				*found = req;
				ret = 0;
			}
			break;
		}
	}
	fu_unlock(&ctx->lock);
	return ret;
}

static int remove_or_update(struct fu_req *req, const struct timeout_update *u)
{
	bool update = u->flags & IORING_TIMEOUT_UPDATE;
	/* A link's timeout is updated only, never removed. */
	bool linked = update && (u->flags & IORING_LINK_TIMEOUT_UPDATE);
	struct fu_req *target;
	struct timeout *t;
	int ret = take_timeout(req->ctx, u->user_data,
	                       linked ? IORING_OP_LINK_TIMEOUT : IORING_OP_TIMEOUT, &target);

	if (ret)
		return ret;
	if (!update) {
		fu_req_cancelled(target);
		return 0;
	}
	t = fu_cmd(target, struct timeout);
	t->count = 0;
	t->ns = u->ns;
	t->flags = (t->flags & ~IORING_TIMEOUT_ABS) | (u->flags & IORING_TIMEOUT_ABS);
	ret = start(target);
	if (ret)
		fu_req_fail(target, ret);
	return 0;
}

int fu_timeout_remove_issue(struct fu_req *req, u32 issue_flags)
{
	const struct timeout_update *u = fu_cmd(req, struct timeout_update);
	const struct fu_cancel cd = { .ctx = req->ctx,
		                      .user_data = u->user_data,
		                      .flags =
		                              IORING_ASYNC_CANCEL_USERDATA | IORING_ASYNC_CANCEL_OP,
		                      .opcode = IORING_OP_TIMEOUT };
	int ret;

	if (issue_flags & FU_ISSUE_WORKER)
		fu_submit_lock(req->ctx);
	ret = remove_or_update(req, u);
	if (issue_flags & FU_ISSUE_WORKER)
		fu_submit_unlock(req->ctx);
	if (!(u->flags & IORING_TIMEOUT_UPDATE) && fu_peers_ask(req, &cd, ret, issue_flags))
		return FU_TAKEN;
	if (ret < 0)
		fu_req_set_fail(req);
	fu_req_result(req, ret, 0);
	return FU_DONE;
}

/* ---- LINK_TIMEOUT ---- */

/* It is never issued by itself: that happens only to one whose request is gone already. */
int fu_link_timeout_issue(struct fu_req *req, u32 issue_flags)
{
	(void)req;
	(void)issue_flags;
	return -ECANCELED;
}

void fu_ltimeout_arm(struct fu_req *req)
{
	struct fu_req *timeout = req->link;

	if (!(req->flags & FU_REQ_ARM_LTIMEOUT) || !timeout ||
	    timeout->opcode != IORING_OP_LINK_TIMEOUT)
		return;
	req->flags = (req->flags & ~FU_REQ_ARM_LTIMEOUT) | FU_REQ_LTIMEOUT;
	start(timeout);
}

/* Takes the timeout out of the chain behind req. */
static void unlink_timeout(struct fu_req *req, struct fu_req *timeout)
{
	req->link = timeout->link;
	timeout->link = NULL;
	/* Its place in the chain was its own link flag; nothing follows from it now. */
	timeout->flags &= ~(FU_REQ_LINK_FLAGS);
	fu_cmd(timeout, struct timeout)->head = NULL;
}

void fu_ltimeout_missed(struct fu_req *req)
{
	struct fu_req *timeout = req->link;
	const struct timeout *t;

	if (!(req->flags & FU_REQ_ARM_LTIMEOUT) || !timeout ||
	    timeout->opcode != IORING_OP_LINK_TIMEOUT)
		return;
	t = fu_cmd(timeout, struct timeout);
	if (t->flags & IORING_TIMEOUT_ABS ? t->ns > fu_now_ns(clock_of(t->flags))
	                                  : t->ns > AT_ONCE_NS)
		return;
	req->flags &= ~FU_REQ_ARM_LTIMEOUT;
	unlink_timeout(req, timeout);
	fu_req_result(timeout, -ENOENT, 0);
	fu_req_task_work(timeout, fu_req_tw_done);
}

void fu_ltimeout_disarm(struct fu_req *req)
{
	struct fu_req *timeout = req->link;
	bool armed = req->flags & FU_REQ_LTIMEOUT;
	struct timeout *t;

	req->flags &= ~(FU_REQ_ARM_LTIMEOUT | FU_REQ_LTIMEOUT);
	if (!timeout || timeout->opcode != IORING_OP_LINK_TIMEOUT)
		return;
	t = fu_cmd(timeout, struct timeout);
	unlink_timeout(req, timeout);
	if (armed && !fu_timer_take(&t->timer))
		return; /* it has fired and completes on its own */
	fu_req_result(timeout, -ECANCELED, 0);
	fu_req_task_work(timeout, fu_req_tw_done);
}

void fu_link_timeout_event(struct fu_req *req)
{
	struct timeout *t = fu_cmd(req, struct timeout);
	struct fu_req *head = t->head;
	int taken = FU_TAKE_GONE, ret = -ENOENT;
	bool worker;

	if (!head) {
		ret = 0;
	} else {
		unlink_timeout(head, req);
		head->flags &= ~FU_REQ_LTIMEOUT;
		fu_lock(&req->ctx->lock);
		worker = head->where == FU_AT_WORKER && !head->op->cancel_group;
		taken = head->where == FU_AT_NONE ? FU_TAKE_GONE : fu_req_take(head);
		if (taken == FU_TAKE_BUSY && worker)
			ret = -EALREADY;
		else if (taken != FU_TAKE_GONE)
			ret = head->op->cancel_group ? 1 : 0;
		if (taken == FU_TAKE_OK)
			fu_untrack(head);
		fu_unlock(&req->ctx->lock);
	}
	fu_req_result(req, ret ? ret : -ETIME, 0);
	fu_req_done(req);
	if (taken == FU_TAKE_OK)
		fu_req_cancelled(head);
}
