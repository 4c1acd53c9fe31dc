/*
 * Requests whose process has died. Nobody works on them any more, but the ring is still there
 * and somebody may be waiting for them. So each request of a shared ring leaves a record of its
 * user_data, from before its SQE is taken until its CQE counts; who waits for completions looks now
 * and then whether the owners of records still live, and posts for the dead.
 *
 * The kernel cancels such a request when its file becomes ready, and lets timeouts expire; here
 * all but timeouts are cancelled as soon as somebody looks. A record has one owner at a time,
 * named by a thread: the process's poller, or the process itself. Whoever changes that name to
 * nobody's posts.
 *
 * Both ends of a record lie within a lock: the SQE is taken under submit_lock, the CQE is posted
 * under cq_lock. Who takes such a lock over from the dead knows by `from` and `closing` whether
 * that has happened (rings/record.c).
 */
#include "engine/peers.h"

#include <errno.h>
#include <time.h>

#include "rings/sys.h"

#define LOOK_NS 100000000LL
/* Whoever posts may die before it wakes those that wait: they look themselves now and then. */
#define NAP_NS 1000000000LL

/* In a record's owner: the rest is not written yet. */
#define WRITING (1U << 31)

/* Who is to be found dead when this process's requests are nobody's. */
static u32 owner_of(const struct fu_ctx *ctx)
{
	u32 joined = fu_load_relaxed(&ctx->joined), tid = 0;

	if (joined)
		tid = fu_load_relaxed(&ctx->ring.ctrl->peers[joined - 1].tid);
	return tid ? tid : fu_tid_of(fu_load_relaxed(&fu_wipe->gen));
}

/* One more is in use: raises the mark above all of them. */
static void raise_top(struct fu_ctrl *ctrl, u32 to)
{
	for (u32 top = fu_load_relaxed(&ctrl->records_top); top < to;) {
		if (__atomic_compare_exchange_n(&ctrl->records_top, &top, to, true,
		                                __ATOMIC_RELEASE, __ATOMIC_RELAXED))
			break;
	}
}

/* A free record, now the owner's but still to be written, or NULL if there is none. */
static struct fu_record *take_record(struct fu_ctrl *ctrl, u32 owner)
{
	u32 first = fu_load_relaxed(&ctrl->records_next);

	if (first >= FU_RECORDS)
		return NULL;
	for (u32 n = 0; n < FU_RECORDS; n++) {
		u32 i = (first + n) % FU_RECORDS, none = 0;
		struct fu_record *r = &ctrl->records[i];

		if (fu_load_relaxed(&r->owner) ||
		    !__atomic_compare_exchange_n(&r->owner, &none, owner | WRITING, false,
		                                 __ATOMIC_ACQUIRE, __ATOMIC_RELAXED))
			continue;
		raise_top(ctrl, i + 1);
		fu_store_relaxed(&ctrl->records_next, (i + 1) % FU_RECORDS);
		return r;
	}
	fu_store_relaxed(&ctrl->records_next, FU_RECORDS);
	return NULL;
}

static void free_record(struct fu_ctrl *ctrl, const struct fu_record *r)
{
	/* The lowest are used again first: there are fewer to look at. */
	fu_store_relaxed(&ctrl->records_next, (u32)(r - ctrl->records));
}

static void record(struct fu_req *req, u64 user_data, bool silent, u32 from)
{
	struct fu_ctrl *ctrl = req->ctx->ring.ctrl;
	u32 owner = owner_of(req->ctx);
	struct fu_record *r = take_record(ctrl, owner);

	if (!r)
		return;
	r->user_data = user_data;
	r->silent = silent;
	r->from = from;
	fu_store_relaxed(&r->closing, 0);
	fu_store_relaxed(&r->due_ns, 0);
	fu_store_release(&r->owner, owner);
	req->record = (u16)(r - ctrl->records + 1);
}

void fu_orphans_record(struct fu_req *req)
{
	for (; req; req = req->link) {
		if (!req->record)
			record(req, req->user_data, req->flags & FU_REQ_CQE_SKIP, 0);
	}
}

void fu_orphans_take(struct fu_req *req)
{
	u32 head = req->ctx->ring.ctrl->cached_sq_head;
	const struct fu_sqe *sqe = fu_sq_at(&req->ctx->ring, head);

	if (sqe)
		record(req, sqe->user_data, sqe->flags & IOSQE_CQE_SKIP_SUCCESS, head + 1);
	/* In this order for who dies in between. */
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
}

void fu_orphans_closing(struct fu_req *req)
{
	struct fu_ctrl *ctrl = req->ctx->ring.ctrl;

	fu_store_relaxed(&ctrl->records[req->record - 1].closing, fu_cq_posted(ctrl) + 1);
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
}

void fu_orphans_due(struct fu_req *req, u32 clock, u64 deadline_ns)
{
	struct fu_record *r = &req->ctx->ring.ctrl->records[req->record - 1];
	u64 now = fu_now_ns(clock), left = deadline_ns > now ? deadline_ns - now : 0;

	fu_store_release(&r->due_ns, fu_now_ns(CLOCK_MONOTONIC) + left);
}

void fu_orphans_forget(struct fu_req *req)
{
	struct fu_ctrl *ctrl = req->ctx->ring.ctrl;
	struct fu_record *r = &ctrl->records[req->record - 1];

	fu_store_release(&r->owner, 0);
	free_record(ctrl, r);
	req->record = 0;
}

/* What the dead have posted without showing it. */
static void commit(struct fu_ctx *ctx)
{
	struct fu_ring *ring = &ctx->ring;
	bool moved;

	if (fu_load_relaxed(&ring->ctrl->cached_cq_tail) == fu_load_relaxed(ring->cq_tail))
		return;
	fu_lock(&ring->ctrl->cq_lock);
	moved = fu_cq_commit(ring);
	fu_unlock(&ring->ctrl->cq_lock);
	if (moved)
		fu_cq_notify(ctx);
}

/* Takes over what a dead owner of `r` may have held. */
static void inherit(struct fu_ctx *ctx, const struct fu_record *r)
{
	struct fu_ctrl *ctrl = ctx->ring.ctrl;

	if (r->from == fu_load_relaxed(&ctrl->cached_sq_head) + 1) {
		fu_submit_lock(ctx);
		fu_submit_unlock(ctx);
	}
	if (fu_load_relaxed(&r->closing)) {
		fu_lock(&ctrl->cq_lock);
		fu_unlock(&ctrl->cq_lock);
	}
}

/* Completes what `owner`, who has been found dead, has left. */
static void complete(struct fu_ctx *ctx, struct fu_record *r, u32 owner)
{
	u64 user_data = r->user_data, due = fu_load_acquire(&r->due_ns);
	bool silent = r->silent;

	inherit(ctx, r);
	if (!__atomic_compare_exchange_n(&r->owner, &owner, 0, false, __ATOMIC_ACQ_REL,
	                                 __ATOMIC_RELAXED))
		return;
	free_record(ctx->ring.ctrl, r);
	/* One that is half written tells of no request. */
	if (!(owner & WRITING) && (due || !silent))
		fu_post_aux(ctx, user_data, due ? -ETIME : -ECANCELED, 0);
}

s64 fu_orphans_look(struct fu_ctx *ctx, s64 left_ns)
{
	struct fu_ctrl *ctrl = ctx->ring.ctrl;
	u32 self = owner_of(ctx), pid = fu_tid_of(fu_load_relaxed(&fu_wipe->gen));
	u64 now = fu_now_ns(CLOCK_MONOTONIC);
	u32 alive = 0;
	s64 nap = NAP_NS;

	/* From now on what the others have here is of interest. */
	fu_peers_use(ctx);
	commit(ctx);
	for (u32 i = 0; i < fu_load_acquire(&ctrl->records_top); i++) {
		struct fu_record *r = &ctrl->records[i];
		u32 owner = fu_load_acquire(&r->owner), id = owner & ~WRITING;

		if (!owner || id == self || id == pid)
			continue;
		nap = LOOK_NS;
		if (id == alive || fu_load_acquire(&r->due_ns) > now)
			continue;
		if (fu_process_is_dead(id))
			complete(ctx, r, owner);
		else
			alive = id;
	}
	return left_ns < 0 || left_ns > nap ? nap : left_ns;
}
