/*
 * Several processes at one ring. Each one's requests are its own, but a cancellation means
 * whatever is in the ring, and the kernel ends a process's requests when it execs.
 *
 * A process that has requests waiting in a shared ring has an entry in the control block, and
 * its poller watches the ring. Who does not find what it is to cancel puts a question there and
 * sends a byte through the program's end of the descriptor: every poller wakes, the one that is
 * meant answers. The question's state says its number and how far it is, so that neither an
 * answer that comes too late nor the death of either side can be mistaken for something else.
 *
 * Questions are asked without any lock of the ring: the one who is asked may be waiting for it.
 * What the answer found ends after the answer has been given.
 */
#include "engine/peers.h"

#include <errno.h>
#include <sys/socket.h>

#include "engine/entry.h"
#include "engine/leader.h"
#include "engine/poller.h"
#include "engine/registry.h"
#include "rings/sys.h"

/* The low bits of a question's state. */
#define PHASE    3U
#define ASKED    1U
#define TAKEN    2U
#define ANSWERED 3U
#define STEP     4U

#define LOOK_NS   20000000LL /* how long to trust that the other one lives */
#define MAX_LOOKS 100
/* exec: how long what runs on workers may take to end. */
#define EXEC_ROUNDS 100

/* A process that has exec'ed has lost its poller, one that has died everything. */
static bool is_gone(const struct fu_peer *peer)
{
	u32 tid = fu_load_acquire(&peer->tid);

	return fu_process_is_dead(tid ? tid : fu_load_relaxed(&peer->pid));
}

/* ---- being there ---- */

void fu_peer_listens(struct fu_ctx *ctx)
{
	u32 joined = __atomic_load_n(&ctx->joined, __ATOMIC_SEQ_CST);

	if (joined)
		fu_store_release(&ctx->ring.ctrl->peers[joined - 1].tid, fu_poller_tid());
}

static void join(struct fu_ctx *ctx)
{
	struct fu_peer *peers = ctx->ring.ctrl->peers;
	u32 me = fu_tid_of(fu_load_relaxed(&fu_wipe->gen));

	if (fu_poller_start())
		return;
	for (u32 i = 0; i < FU_PEERS; i++) {
		u32 pid = fu_load_relaxed(&peers[i].pid);

		if (pid && pid != me && !is_gone(&peers[i]))
			continue;
		if (!__atomic_compare_exchange_n(&peers[i].pid, &pid, me, false, __ATOMIC_SEQ_CST,
		                                 __ATOMIC_RELAXED))
			continue;
		fu_store_release(&peers[i].tid, 0);
		__atomic_store_n(&ctx->joined, i + 1, __ATOMIC_SEQ_CST);
		fu_peer_listens(ctx);
		return;
	}
}

void fu_peer_track(struct fu_req *req)
{
	struct fu_ctx *ctx = req->ctx;

	if (!ctx->joined)
		join(ctx);
	if (ctx->joined && !req->record)
		fu_orphans_record(req);
}

void fu_peer_share(struct fu_ctx *ctx)
{
	if (fu_load_relaxed(&ctx->ring.ctrl->shared))
		return;
	fu_lock(&ctx->lock);
	fu_store_relaxed(&ctx->ring.ctrl->shared, FU_SHARED_FORKED);
	if (ctx->hash_count) {
		for (u32 i = 0; i < ctx->hash_size; i++) {
			fu_list_for_each(node, &ctx->hash[i])
			        fu_peer_track(fu_list_entry(node, struct fu_req, hash));
		}
	}
	fu_unlock(&ctx->lock);
}

void fu_peers_begin(struct fu_ctx *ctx)
{
	int fd = fu_ctx_prog_fd(ctx);

	if (__atomic_exchange_n(&ctx->ring.ctrl->shared, FU_SHARED_USED, __ATOMIC_SEQ_CST) ==
	            FU_SHARED_USED ||
	    fd < 0)
		return;
	/* One that leads there would not be found by what is posted here. */
	fu_sys(SYS_sendto, fd, "", 1, MSG_DONTWAIT | MSG_NOSIGNAL, 0, 0);
}

/* ---- answering ---- */

void fu_peer_answer(struct fu_ctx *ctx)
{
	struct fu_question *q = &ctx->ring.ctrl->question;
	u32 state = fu_load_acquire(&q->state), taken_state = (state & ~PHASE) | TAKEN;
	struct fu_cancel cd = { .ctx = ctx,
		                .user_data = q->user_data,
		                .flags = q->flags,
		                .fd = q->fd,
		                .opcode = (u8)q->opcode };
	struct fu_req *taken;

	if (fu_peers_used(ctx))
		fu_leader_wake(ctx);
	if (!ctx->joined || (state & PHASE) != ASKED || q->to != ctx->joined - 1)
		return;
	if (!__atomic_compare_exchange_n(&q->state, &state, taken_state, false, __ATOMIC_ACQ_REL,
	                                 __ATOMIC_RELAXED))
		return;
	q->answer = fu_cancel_take(&cd, &taken);
	__atomic_compare_exchange_n(&q->state, &taken_state, state | ANSWERED, false,
	                            __ATOMIC_RELEASE, __ATOMIC_RELAXED);
	fu_futex_wake(&q->state, INT32_MAX);
	if (!taken)
		return;
	fu_submit_lock(ctx);
	fu_cancel_end(taken);
	fu_submit_unlock(ctx);
}

/* ---- asking ---- */

/* Waits for the answer to the question in `state`; -ENOENT if none comes. question.lock held. */
static long await(struct fu_question *q, const struct fu_peer *peer, u32 state)
{
	u32 now;

	for (int looks = 0;; looks++) {
		now = fu_load_acquire(&q->state);
		if ((now & PHASE) == ANSWERED)
			return q->answer;
		if (fu_futex_wait(&q->state, now, LOOK_NS) != -ETIMEDOUT)
			continue;
		if (!is_gone(peer) && looks < MAX_LOOKS)
			continue;
		/* Nobody can take it up from here on. */
		now = state;
		if (__atomic_compare_exchange_n(&q->state, &now, state & ~PHASE, false,
		                                __ATOMIC_ACQ_REL, __ATOMIC_RELAXED) ||
		    is_gone(peer))
			return -ENOENT;
	}
}

static long ask(const struct fu_cancel *cd, u32 index, int fd)
{
	struct fu_question *q = &cd->ctx->ring.ctrl->question;
	u32 state = (fu_load_relaxed(&q->state) & ~PHASE) + STEP;

	q->to = index;
	q->flags = cd->flags;
	q->fd = cd->fd;
	q->opcode = cd->opcode;
	q->user_data = cd->user_data;
	state |= ASKED;
	fu_store_release(&q->state, state);
	if (fu_sys(SYS_sendto, fd, "", 1, MSG_DONTWAIT | MSG_NOSIGNAL, 0, 0) < 0)
		return -ENOENT;
	return await(q, &cd->ctx->ring.ctrl->peers[index], state);
}

bool fu_peers_may_have(const struct fu_cancel *cd, long found)
{
	struct fu_ctrl *ctrl = cd->ctx->ring.ctrl;

	if (!fu_load_relaxed(&ctrl->shared))
		return false;
	if (found != -ENOENT &&
	    !(cd->flags & (IORING_ASYNC_CANCEL_ALL | IORING_ASYNC_CANCEL_ANY) && found >= 0))
		return false;
	for (u32 i = 0; i < FU_PEERS; i++) {
		if (i + 1 != cd->ctx->joined && fu_load_relaxed(&ctrl->peers[i].pid))
			return true;
	}
	return false;
}

long fu_peers_cancel(const struct fu_cancel *cd, long found)
{
	struct fu_ctrl *ctrl = cd->ctx->ring.ctrl;
	bool all = cd->flags & (IORING_ASYNC_CANCEL_ALL | IORING_ASYNC_CANCEL_ANY);
	int fd = fu_ctx_prog_fd(cd->ctx);
	char sink[64];

	if (fd < 0)
		return found;
	fu_lock(&ctrl->question.lock);
	for (u32 i = 0; i < FU_PEERS; i++) {
		u32 pid = fu_load_relaxed(&ctrl->peers[i].pid);
		long ret;

		if (!pid || i + 1 == cd->ctx->joined)
			continue;
		if (is_gone(&ctrl->peers[i])) {
			__atomic_compare_exchange_n(&ctrl->peers[i].pid, &pid, 0, false,
			                            __ATOMIC_SEQ_CST, __ATOMIC_RELAXED);
			continue;
		}
		ret = ask(cd, i, fd);
		if (all && ret > 0) {
			found += ret;
		} else if (!all && ret != -ENOENT) {
			found = ret;
			break;
		}
	}
	fu_unlock(&ctrl->question.lock);
	/* The bytes have done what they were for. */
	while (fu_sys(SYS_recvfrom, cd->ctx->peer, sink, sizeof(sink), MSG_DONTWAIT, 0, 0) ==
	       (long)sizeof(sink))
		;
	return found;
}

/* ---- requests that cancel ---- */

struct asking {
	struct fu_cancel cd;
	long found;
};

/* No lock held. */
static void ask_outside(struct fu_req *req)
{
	struct asking *a = fu_cmd(req, struct asking);

	fu_req_end(req, fu_peers_cancel(&a->cd, a->found));
}

bool fu_peers_ask(struct fu_req *req, const struct fu_cancel *cd, long found, u32 issue_flags)
{
	struct fu_ctx *ctx = req->ctx;
	struct asking *a = fu_cmd(req, struct asking);

	if (!fu_peers_may_have(cd, found))
		return false;
	*a = (struct asking){ *cd, found };
	if (!(issue_flags & FU_ISSUE_WORKER)) {
		fu_ctx_outside(ctx, req, ask_outside);
		return true;
	}
	fu_lock(&ctx->lock);
	fu_untrack(req);
	fu_unlock(&ctx->lock);
	ask_outside(req);
	return true;
}

/* ---- exec ---- */

static void leave(struct fu_ctx *ctx)
{
	static const u64 millisecond[2] = { 0, 1000000 };

	if (!fu_load_relaxed(&ctx->ring.ctrl->shared) || !fu_ctx_active(ctx))
		return;
	fu_cancel_everything(ctx);
	for (int i = 0; i < EXEC_ROUNDS && fu_ctx_active(ctx); i++)
		fu_sys(SYS_nanosleep, millisecond, NULL);
}

void fu_exec_prepare(void)
{
	/* A vfork child works in its parent's memory; what is in there is not its own. */
	if (fu_load_relaxed(&fu_wipe->gen) == (u32)fu_sys(SYS_getpid))
		fu_registry_each(leave);
}
