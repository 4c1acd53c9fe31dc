/*
 * Cancellation: finding requests by what the caller named and taking them from
 * wherever they wait. A request that was taken completes with -ECANCELED; one that
 * an event handler has in hand at the moment is marked and ends the same way; one
 * that a worker is running is interrupted and reports -EALREADY here.
 */
#include "engine/cancel.h"

#include <errno.h>
#include <time.h>

#include "engine/peers.h"
#include "rings/sys.h"
#include "rings/user.h"

#define CANCEL_FLAGS                                                                  \
	(IORING_ASYNC_CANCEL_ALL | IORING_ASYNC_CANCEL_FD | IORING_ASYNC_CANCEL_ANY | \
	 IORING_ASYNC_CANCEL_FD_FIXED | IORING_ASYNC_CANCEL_USERDATA | IORING_ASYNC_CANCEL_OP)

static bool matches(const struct fu_req *req, const struct fu_cancel *cd)
{
	bool by_user_data = cd->flags & IORING_ASYNC_CANCEL_USERDATA;

	if (req == cd->self)
		return false;
	if (cd->flags & IORING_ASYNC_CANCEL_ANY)
		return true;
	if (!(cd->flags & (IORING_ASYNC_CANCEL_FD | IORING_ASYNC_CANCEL_OP)))
		by_user_data = true;
	if (cd->flags & IORING_ASYNC_CANCEL_FD) {
		bool fixed = cd->flags & IORING_ASYNC_CANCEL_FD_FIXED;

		if (!req->op->needs_file || fixed != !!(req->flags & FU_REQ_FIXED_FILE) ||
		    req->sqe_fd != (u32)cd->fd)
			return false;
	}
	if ((cd->flags & IORING_ASYNC_CANCEL_OP) && req->opcode != cd->opcode)
		return false;
	return !by_user_data || req->user_data == cd->user_data;
}

int fu_req_take(struct fu_req *req)
{
	switch (req->where) {
	case FU_AT_POLLER:
		return fu_poller_take(req, true);
	case FU_AT_WORKER:
		return fu_pool_take(req);
	case FU_AT_OP:
		return req->op->cancel && req->op->cancel(req) ? FU_TAKE_OK : FU_TAKE_GONE;
	default:
		return FU_TAKE_GONE;
	}
}

/*
 * The order in which the kernel looks through what it has, and what is found there ends: workers
 * and what waits for a file, newest first, what waits for a child or a futex, likewise, timeouts as
 * they came.
 */
enum { AT_WORKERS, AT_FILES, AT_CHILDREN, AT_FUTEXES, AT_TIMEOUTS, PLACES };

/* Requests taken, through `next`. */
struct found {
	struct fu_req *first, *last;
	u32 count;
};

/* Of more than these that no file tells of the order is not looked at. */
#define SORTED_MAX 64U

struct sweep {
	struct found found[PLACES];
	u32 count;
	u32 groups; /* bits: op->cancel_group of those counted */
	bool already;
	bool drain_too;
	bool all; /* IORING_ASYNC_CANCEL_ALL */
};

static void count(struct sweep *s, const struct fu_req *req)
{
	u32 group = req->op->cancel_group ? 1U << req->op->cancel_group : 0;

	/* Without ALL they are looked for one by one. */
	if (!s->all || !(s->groups & group))
		s->count++;
	s->groups |= group;
}

static u32 place_of(const struct fu_req *req, u8 where)
{
	if (where == FU_AT_POLLER)
		return AT_FILES;
	if (where != FU_AT_OP)
		return AT_WORKERS;
	switch (req->opcode) {
	case IORING_OP_WAITID:
		return AT_CHILDREN;
	case IORING_OP_FUTEX_WAIT:
	case IORING_OP_FUTEX_WAITV:
		return AT_FUTEXES;
	case IORING_OP_TIMEOUT:
		return AT_TIMEOUTS;
	default:
		return AT_WORKERS;
	}
}

/* Whether `a` ends before `b`, which has been found before it. */
static bool ends_before(const struct fu_req *a, const struct fu_req *b, u32 place)
{
	if (place == AT_FILES)
		return false;
	if (place == AT_TIMEOUTS)
		return (s32)(a->seen_events - b->seen_events) < 0;
	return place == AT_WORKERS || (s32)(a->seen_events - b->seen_events) > 0;
}

static void add_found(struct sweep *s, struct fu_req *req, u8 where)
{
	u32 place = place_of(req, where);
	struct found *f = &s->found[place];
	struct fu_req **at = &f->first;

	/* The last one is the right neighbour of most. */
	if (f->last && (f->count >= SORTED_MAX || !ends_before(req, f->last, place)))
		at = &f->last->next;
	while (*at && !ends_before(req, *at, place))
		at = &(*at)->next;
	req->next = *at;
	*at = req;
	if (!req->next)
		f->last = req;
	f->count++;
}

/* All of them. */
static struct fu_req *all_found(const struct sweep *s)
{
	struct fu_req *first = NULL;

	for (u32 place = PLACES; place-- > 0;) {
		if (!s->found[place].first)
			continue;
		s->found[place].last->next = first;
		first = s->found[place].first;
	}
	return first;
}

static void try_take(struct fu_req *req, struct sweep *s)
{
	u8 where = req->where;
	bool again = fu_load_relaxed(&req->cancelled);
	int got;

	if (where == FU_AT_END) {
		count(s, req);
		return;
	}
	if (where == FU_AT_DRAIN) {
		if (!s->drain_too)
			return;
		fu_list_del(&req->queue);
		got = FU_TAKE_OK;
	} else {
		got = fu_req_take(req);
	}
	if (got == FU_TAKE_OK) {
		if (where == FU_AT_POLLER && !s->drain_too)
			req->where = FU_AT_END;
		else
			fu_untrack(req);
		add_found(s, req, where);
		count(s, req);
	} else if (got == FU_TAKE_BUSY) {
		if (where == FU_AT_WORKER && !req->op->cancel_group)
			s->already = true;
		else if (where != FU_AT_WORKER || !again)
			count(s, req);
	}
}

/* ctx->lock held. Stops after one unless told otherwise. */
static void sweep(struct fu_cancel *cd, struct sweep *s)
{
	struct fu_ctx *ctx = cd->ctx;
	bool all = cd->flags & (IORING_ASYNC_CANCEL_ALL | IORING_ASYNC_CANCEL_ANY);
	bool one_bucket = !(cd->flags & (IORING_ASYNC_CANCEL_ANY | IORING_ASYNC_CANCEL_FD |
	                                 IORING_ASYNC_CANCEL_OP));
	u32 first = 0, last = ctx->hash_size;

	if (!last)
		return;
	if (one_bucket) {
		first = fu_track_bucket(ctx, cd->user_data);
		last = first + 1;
	}
	for (u32 i = first; i < last; i++) {
		fu_list_for_each_safe(node, next, &ctx->hash[i])
		{
			struct fu_req *req = fu_list_entry(node, struct fu_req, hash);

			if (!matches(req, cd))
				continue;
			try_take(req, s);
			if (!all && (s->count || s->already))
				return;
		}
	}
}

static void fail_cancelled(struct fu_req *req)
{
	fu_req_fail(req, -ECANCELED);
}

void fu_req_cancelled(struct fu_req *req)
{
	fu_req_task_work(req, fail_cancelled);
}

static void end_taken(struct fu_req *req, void (*end)(struct fu_req *req))
{
	while (req) {
		struct fu_req *next = req->next;

		end(req);
		req = next;
	}
}

long fu_cancel_take(struct fu_cancel *cd, struct fu_req **taken)
{
	struct sweep s = { .all = cd->flags & IORING_ASYNC_CANCEL_ALL };

	fu_lock(&cd->ctx->lock);
	sweep(cd, &s);
	fu_unlock(&cd->ctx->lock);
	*taken = all_found(&s);
	if (cd->flags & (IORING_ASYNC_CANCEL_ALL | IORING_ASYNC_CANCEL_ANY))
		return s.count;
	if (s.count)
		return s.groups ? 1 : 0;
	return s.already ? -EALREADY : -ENOENT;
}

void fu_cancel_end(struct fu_req *taken)
{
	end_taken(taken, fu_req_cancelled);
}

long fu_cancel(struct fu_cancel *cd)
{
	struct fu_req *taken;
	long ret = fu_cancel_take(cd, &taken);

	fu_cancel_end(taken);
	return ret;
}

/*
 * The ring is going: nobody submits any more, and what a worker or a handler has in
 * hand completes in its own time, holding its reference to the context.
 */
void fu_cancel_everything(struct fu_ctx *ctx)
{
	struct fu_cancel cd = { .ctx = ctx, .flags = IORING_ASYNC_CANCEL_ANY };

	for (int round = 0; round < 6; round++) {
		struct sweep s = { .drain_too = true };

		fu_submit_lock(ctx);
		fu_run_deferred(ctx);
		fu_lock(&ctx->lock);
		sweep(&cd, &s);
		fu_unlock(&ctx->lock);
		fu_list_init(&ctx->drain);
		ctx->drained = 0;
		end_taken(all_found(&s), fail_cancelled);
		fu_submit_unlock(ctx);
		if (!fu_load_relaxed(&ctx->hash_count) && !fu_deferred_pending(ctx))
			break;
	}
}

/* Work that ends by itself does so: the kernel cancels it too if it comes to that first. */
static void leave(struct fu_req *req, u32 left, struct sweep *s)
{
	for (struct fu_req *link = req; link; link = link->link)
		fu_store_relaxed(&link->owner, left);
	if ((req->where == FU_AT_WORKER && !req->bounded) || req->op->ends_with_thread)
		try_take(req, s);
	else if (req->where == FU_AT_POLLER)
		fu_store_release(&req->cancelled, 1);
}

void fu_cancel_left(struct fu_ctx *ctx, u32 tid, u32 left)
{
	struct sweep s = { .all = true };

	fu_submit_lock(ctx);
	fu_lock(&ctx->lock);
	for (u32 i = 0; i < ctx->hash_size; i++) {
		fu_list_for_each_safe(node, next, &ctx->hash[i])
		{
			struct fu_req *req = fu_list_entry(node, struct fu_req, hash);

			if (req->owner == tid)
				leave(req, left, &s);
		}
	}
	fu_unlock(&ctx->lock);
	fu_cancel_end(all_found(&s));
	if (ctx->deferred && fu_load_relaxed(&ctx->ring.ctrl->submitter) == tid)
		fu_run_deferred(ctx);
	fu_submit_unlock(ctx);
}

/* ---- ASYNC_CANCEL ---- */

struct cancel {
	u64 addr;
	u32 flags;
	s32 fd;
	u8 opcode;
};

int fu_async_cancel_prep(struct fu_req *req, const struct fu_sqe *sqe)
{
	struct cancel *c = fu_cmd(req, struct cancel);

	if (req->flags & FU_REQ_BUFFER_SELECT)
		return -EINVAL;
	if (sqe->off || sqe->splice_fd_in)
		return -EINVAL;
	*c = (struct cancel){ .addr = sqe->addr, .flags = sqe->op_flags };
	if (c->flags & ~CANCEL_FLAGS)
		return -EINVAL;
	if (c->flags & IORING_ASYNC_CANCEL_FD) {
		if (c->flags & IORING_ASYNC_CANCEL_ANY)
			return -EINVAL;
		c->fd = sqe->fd;
	}
	if (c->flags & IORING_ASYNC_CANCEL_OP) {
		if (c->flags & IORING_ASYNC_CANCEL_ANY)
			return -EINVAL;
		c->opcode = (u8)sqe->len;
	}
	return 0;
}

static bool names_itself(const struct fu_req *req, const struct cancel *c)
{
	return c->addr == req->user_data &&
	       !(c->flags & (IORING_ASYNC_CANCEL_FD | IORING_ASYNC_CANCEL_OP));
}

int fu_async_cancel_issue(struct fu_req *req, u32 issue_flags)
{
	struct cancel *c = fu_cmd(req, struct cancel);
	struct fu_cancel cd = { .ctx = req->ctx,
		                .user_data = c->addr,
		                .flags = c->flags,
		                .fd = c->fd,
		                .opcode = c->opcode,
		                .self = req };
	bool fixed = req->flags & FU_REQ_FIXED_FILE || c->flags & IORING_ASYNC_CANCEL_FD_FIXED;
	long ret = 0;

	if (c->flags & IORING_ASYNC_CANCEL_FD) {
		if (fixed)
			cd.flags |= IORING_ASYNC_CANCEL_FD_FIXED;
		ret = fu_cancel_check_fd(&cd);
	}
	if (!ret) {
		if (issue_flags & FU_ISSUE_WORKER)
			fu_submit_lock(req->ctx);
		ret = fu_cancel(&cd);
		if (issue_flags & FU_ISSUE_WORKER)
			fu_submit_unlock(req->ctx);
		if (fu_peers_ask(req, &cd, ret, issue_flags))
			return FU_TAKEN;
		/* A worker, or who does its work, is at what has this name: the request itself. */
		if (ret == -ENOENT && names_itself(req, c) &&
		    ((issue_flags & FU_ISSUE_WORKER) || (req->flags & FU_REQ_SLOW)))
			ret = -EALREADY;
	}
	if (ret < 0)
		fu_req_set_fail(req);
	fu_req_result(req, (s32)ret, 0);
	return FU_DONE;
}

/* The named file has to exist. */
int fu_cancel_check_fd(const struct fu_cancel *cd)
{
	if (cd->flags & IORING_ASYNC_CANCEL_FD_FIXED)
		return fu_table_get(&cd->ctx->files, (u32)cd->fd) ? 0 : -EBADF;
	return fu_sys(SYS_fcntl, cd->fd, 1 /* F_GETFD */) < 0 ? -EBADF : 0;
}

/* ---- IORING_REGISTER_SYNC_CANCEL ---- */

/* submit_lock held, and perhaps let go of for a while. */
static long sync_cancel_once(struct fu_cancel *cd)
{
	long ret = 0;

	/* A registered file may change while the lock is let go. */
	if ((cd->flags & IORING_ASYNC_CANCEL_FD) && (cd->flags & IORING_ASYNC_CANCEL_FD_FIXED))
		ret = fu_cancel_check_fd(cd);
	if (ret)
		return ret;
	ret = fu_cancel(cd);
	if (fu_peers_may_have(cd, ret)) {
		fu_submit_unlock(cd->ctx);
		ret = fu_peers_cancel(cd, ret);
		fu_submit_lock(cd->ctx);
	}
	return ret;
}

/* Tries again at each completion until the request is gone. submit_lock held, and let go of. */
static long cancel_until_gone(struct fu_cancel *cd, u64 deadline_ns)
{
	struct fu_ctx *ctx = cd->ctx;
	struct fu_ctrl *ctrl = ctx->ring.ctrl;
	long ret;

	fu_waiter_counted(ctrl);
	for (;;) {
		u32 seq = __atomic_load_n(&ctrl->wake_seq, __ATOMIC_SEQ_CST);
		u64 now = fu_now_ns(CLOCK_MONOTONIC);

		fu_run_deferred(ctx);
		ret = sync_cancel_once(cd);
		if (ret != -EALREADY)
			break;
		ret = -ETIME;
		if (now >= deadline_ns)
			break;
		fu_submit_unlock(ctx);
		ret = fu_sleep_until_woken(
		        ctrl, seq, deadline_ns == UINT64_MAX ? -1 : (s64)(deadline_ns - now));
		fu_submit_lock(ctx);
		if (ret == -EINTR)
			break;
	}
	__atomic_fetch_sub(&ctrl->waiters, 1, __ATOMIC_SEQ_CST);
	return ret == -ENOENT || ret > 0 ? 0 : ret;
}

/* -1 for both parts of the time is no limit. */
static u64 sync_deadline(const struct fu_timespec *ts)
{
	u64 now = fu_now_ns(CLOCK_MONOTONIC);

	if (ts->tv_sec == -1 && ts->tv_nsec == -1)
		return UINT64_MAX;
	if (ts->tv_sec < 0 || ts->tv_nsec < 0)
		return now;
	if (ts->tv_sec >= INT64_MAX / 1000000000LL - 1)
		return INT64_MAX;
	return now + (u64)ts->tv_sec * 1000000000ULL + (u64)ts->tv_nsec;
}

long fu_reg_sync_cancel(struct fu_ctx *ctx, void *arg, u32 nr)
{
	struct fu_sync_cancel_reg sc;
	struct fu_cancel cd = { .ctx = ctx };
	long ret;

	if (!arg || nr != 1)
		return -EINVAL;
	if (fu_copy_from_user(&sc, arg, sizeof(sc)))
		return -EFAULT;
	if (sc.flags & ~CANCEL_FLAGS)
		return -EINVAL;
	for (size_t i = 0; i < sizeof(sc.pad); i++) {
		if (sc.pad[i])
			return -EINVAL;
	}
	if (sc.pad2[0] || sc.pad2[1] || sc.pad2[2])
		return -EINVAL;
	cd.user_data = sc.addr;
	cd.flags = sc.flags;
	cd.fd = sc.fd;
	cd.opcode = sc.opcode;
	if ((cd.flags & IORING_ASYNC_CANCEL_FD) && !(cd.flags & IORING_ASYNC_CANCEL_FD_FIXED)) {
		ret = fu_cancel_check_fd(&cd);
		if (ret)
			return ret;
	}
	ret = sync_cancel_once(&cd);
	return ret == -EALREADY ? cancel_until_gone(&cd, sync_deadline(&sc.timeout)) : ret;
}
