/*
 * Requests whose process has died. Nobody works on them any more, but the ring is still there
 * and somebody may be waiting for them. So each request that waits in a shared ring leaves a
 * record of its user_data, which goes when its completion is posted; who waits for completions
 * looks now and then whether the owners of records still live, and posts for the dead.
 *
 * The kernel cancels such a request when its file becomes ready, and lets timeouts expire; here
 * all but timeouts are cancelled as soon as somebody looks. A record has one owner at a time,
 * named by a thread: the process's poller, or the process itself. Whoever changes that name to
 * nobody's posts.
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

static void record(struct fu_req *req, u32 owner)
{
	struct fu_ctrl *ctrl = req->ctx->ring.ctrl;
	struct fu_record *records = ctrl->records;

	for (u32 i = 0; i < FU_RECORDS; i++) {
		u32 none = 0;

		if (fu_load_relaxed(&records[i].owner) ||
		    !__atomic_compare_exchange_n(&records[i].owner, &none, owner | WRITING, false,
		                                 __ATOMIC_ACQUIRE, __ATOMIC_RELAXED))
			continue;
		records[i].user_data = req->user_data;
		records[i].silent = !!(req->flags & FU_REQ_CQE_SKIP);
		fu_store_relaxed(&records[i].due_ns, 0);
		fu_store_release(&records[i].owner, owner);
		req->record = (u16)(i + 1);
		for (u32 top = fu_load_relaxed(&ctrl->records_top); top <= i;) {
			if (__atomic_compare_exchange_n(&ctrl->records_top, &top, i + 1, true,
			                                __ATOMIC_RELEASE, __ATOMIC_RELAXED))
				break;
		}
		return;
	}
}

void fu_orphans_record(struct fu_req *req)
{
	const struct fu_peer *self = &req->ctx->ring.ctrl->peers[req->ctx->joined - 1];
	u32 tid = fu_load_relaxed(&self->tid);

	for (; req; req = req->link) {
		if (!req->record)
			record(req, tid ? tid : self->pid);
	}
}

void fu_orphans_due(struct fu_req *req, u32 clock, u64 deadline_ns)
{
	struct fu_record *r = &req->ctx->ring.ctrl->records[req->record - 1];
	u64 now = fu_now_ns(clock), left = deadline_ns > now ? deadline_ns - now : 0;

	fu_store_release(&r->due_ns, fu_now_ns(CLOCK_MONOTONIC) + left);
}

void fu_orphans_forget(struct fu_req *req)
{
	fu_store_release(&req->ctx->ring.ctrl->records[req->record - 1].owner, 0);
	req->record = 0;
}

s64 fu_orphans_look(struct fu_ctx *ctx, s64 left_ns)
{
	struct fu_ctrl *ctrl = ctx->ring.ctrl;
	const struct fu_peer *self = ctx->joined ? &ctrl->peers[ctx->joined - 1] : NULL;
	u64 now = fu_now_ns(CLOCK_MONOTONIC);
	s64 nap = NAP_NS;

	for (u32 i = 0; i < fu_load_acquire(&ctrl->records_top); i++) {
		struct fu_record *r = &ctrl->records[i];
		u32 owner = fu_load_acquire(&r->owner);
		u64 user_data = r->user_data, due = fu_load_acquire(&r->due_ns);
		bool silent = r->silent;

		/* One that is half written tells of no request. */
		if (!owner || (owner & WRITING) ||
		    (self && (owner == self->tid || owner == self->pid)))
			continue;
		nap = LOOK_NS;
		if (due > now || !fu_process_is_dead(owner) ||
		    !__atomic_compare_exchange_n(&r->owner, &owner, 0, false, __ATOMIC_ACQ_REL,
		                                 __ATOMIC_RELAXED))
			continue;
		if (due || !silent)
			fu_post_aux(ctx, user_data, due ? -ETIME : -ECANCELED, 0);
	}
	return left_ns < 0 || left_ns > nap ? nap : left_ns;
}
