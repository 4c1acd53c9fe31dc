/* Rings that several processes use: cancelling what another one has submitted, exec, death. */
#ifndef FU_PEERS_H
#define FU_PEERS_H

#include "engine/engine.h"

/*
 * A request waits in a shared ring: enters this process among those that have some there, so
 * that others can reach it, and leaves a record. ctx->lock held.
 */
void fu_peer_track(struct fu_req *req);
/* The poller's thread is there: says so in the ring. */
void fu_peer_listens(struct fu_ctx *ctx);
/* Before a fork: what this process has in the ring becomes reachable for the child. */
void fu_peer_share(struct fu_ctx *ctx);
/* The first child to use the ring says so in it, and to its other processes. */
void fu_peers_begin(struct fu_ctx *ctx);
/* Whether several processes use the ring. */
static inline bool fu_peers_used(const struct fu_ctx *ctx)
{
	return fu_load_relaxed(&ctx->ring.ctrl->shared) == FU_SHARED_USED;
}
/* The same; this one is about to. Any lock may be held. */
static inline bool fu_peers_use(struct fu_ctx *ctx)
{
	if (fu_unlikely(ctx->inherited) && !fu_peers_used(ctx))
		fu_peers_begin(ctx);
	return fu_peers_used(ctx);
}
/* Answers what another process asks. No lock held. */
void fu_peer_answer(struct fu_ctx *ctx);

/* Whether other processes are to be asked, `found` being what this one's own search gave. */
bool fu_peers_may_have(const struct fu_cancel *cd, long found);
/*
 * Goes on searching in the other processes. Returns as fu_cancel, `found` included. No lock
 * held; waits for their pollers.
 */
long fu_peers_cancel(const struct fu_cancel *cd, long found);
/*
 * The same for a request whose operation cancels: true if it has been taken, to complete with
 * the result once this thread holds no lock; its fu_cmd is overwritten. False: nobody to ask.
 */
bool fu_peers_ask(struct fu_req *req, const struct fu_cancel *cd, long found, u32 issue_flags);

/* ---- orphans.c ---- */

/* A new request is about to take the next SQE of a shared ring. submit_lock held. */
void fu_orphans_take(struct fu_req *req);
/* A request from before the ring was shared, and what follows it in its link. ctx->lock held,
 * joined. */
void fu_orphans_record(struct fu_req *req);
/* It has a record and is about to be posted: under cq_lock, as fu_orphans_forget behind that. */
void fu_orphans_closing(struct fu_req *req);
/* It has a record and is a timeout: when it expires. */
void fu_orphans_due(struct fu_req *req, u32 clock, u64 deadline_ns);
/* It has a record and completes. */
void fu_orphans_forget(struct fu_req *req);
/*
 * Completes what dead processes have left in the ring. Returns how long a wait of left_ns
 * (-1: no limit) may last until somebody has to look again. No lock held.
 */
s64 fu_orphans_look(struct fu_ctx *ctx, s64 left_ns);

/* ---- helpers ---- */

/* A descriptor number of the program's end of the ring, or -EBADF. */
int fu_ctx_prog_fd(struct fu_ctx *ctx);

#endif
