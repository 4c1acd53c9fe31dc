/* A ring's context from its set-up to its end, and across fork. */
#include "engine/engine.h"

#include "engine/aio.h"
#include "engine/kbuf.h"
#include "engine/personality.h"
#include "engine/poller.h"
#include "engine/region.h"
#include "engine/register.h"
#include "rings/fds.h"
#include "rings/mem.h"
#include "rings/sys.h"

void fu_ctx_reset(struct fu_ctx *ctx)
{
	/* refs and live may be read by a late look at this slot: not ours to write. */
	fu_memset((char *)ctx + offsetof(struct fu_ctx, ino), 0,
	          sizeof(*ctx) - offsetof(struct fu_ctx, ino));
	fu_memset(&ctx->ring, 0, sizeof(ctx->ring));
	fu_store_relaxed(&ctx->hung, false);
	ctx->peer = ctx->prog_fd = ctx->evfd = -1;
	ctx->gen = fu_load_relaxed(&fu_wipe->gen);
	ctx->last_task = FU_TASKS;
	fu_batch_init(&ctx->done);
	fu_batch_init(&ctx->work);
	fu_batch_init(&ctx->outside);
	fu_list_init(&ctx->drain);
	fu_list_init(&ctx->counted);
	fu_list_init(&ctx->pbufs);
}

bool fu_ctx_has_events(struct fu_ctx *ctx)
{
	return fu_cq_ready(&ctx->ring) || fu_cq_overflown(&ctx->ring) ||
	       (ctx->deferred && !ctx->iopoll && (fu_deferred_pending(ctx) || fu_aio_ready(ctx)));
}

void fu_ctx_teardown(struct fu_ctx *ctx)
{
	fu_store_release(&ctx->ring.ctrl->ended, 1);
	if (ctx->sq)
		fu_sqpoll_stop(ctx);
	if (ctx->peer_slot)
		fu_poller_unwatch_ring(ctx);
	fu_fence();
	fu_wake_waiters(ctx);
	fu_cancel_everything(ctx);
}

void fu_ctx_free(struct fu_ctx *ctx)
{
	fu_resources_free(ctx);
	fu_personalities_free(ctx);
	fu_napi_free(ctx);
	fu_region_free(ctx);
	fu_pbufs_free(ctx);
	if (ctx->evfd >= 0)
		fu_fd_close(ctx->evfd);
	fu_aio_release(ctx);
	fu_poller_free_set(ctx);
	fu_req_free_all(ctx);
	FU_COUNT(sqes, ctx->tally.sqes);
	FU_COUNT(cqes, ctx->tally.cqes);
	FU_COUNT(inlined, ctx->tally.inlined);
	fu_memset(&ctx->tally, 0, sizeof(ctx->tally));
	fu_free(ctx->hash, ctx->hash_size * sizeof(*ctx->hash));
	ctx->hash = NULL;
	ctx->hash_size = 0;
	fu_ring_destroy(&ctx->ring);
	if (ctx->peer >= 0)
		fu_fd_close(ctx->peer);
	ctx->peer = -1;
}

/* Nodes that the parent's requests held are held by nobody here. */
static void adopt_table(struct fu_table *table)
{
	for (u32 i = 0; i < table->nr; i++) {
		u32 *refs = table->slots[i];

		if (refs)
			*refs = 1;
	}
}

void fu_ctx_adopt(struct fu_ctx *ctx, u32 gen)
{
	ctx->gen = gen;
	ctx->refs = 1;
	ctx->hung = false;
	ctx->peer_slot = ctx->poll_set = 0;
	ctx->joined = 0;
	ctx->inherited = true;
	if (!fu_load_relaxed(&ctx->ring.ctrl->shared))
		fu_store_relaxed(&ctx->ring.ctrl->shared, FU_SHARED_FORKED);
	ctx->sq = NULL;
	ctx->link_head = ctx->link_last = NULL;
	ctx->drain_active = ctx->drain_next = ctx->submitting = false;
	fu_batch_init(&ctx->done);
	fu_batch_init(&ctx->work);
	fu_batch_init(&ctx->outside);
	ctx->notes.n = 0;
	ctx->notes.busy = 0;
	ctx->cache = ctx->freed = ctx->tw = NULL;
	ctx->chunks = NULL;
	ctx->started = ctx->ended = ctx->drained = 0;
	ctx->lock.word = 0;
	ctx->hash = NULL;
	ctx->hash_size = ctx->hash_count = 0;
	fu_memset(ctx->tasks, 0, sizeof(ctx->tasks));
	ctx->sq_task = 0;
	ctx->last_task = FU_TASKS;
	fu_list_init(&ctx->drain);
	fu_list_init(&ctx->counted);
	ctx->nr_counted = 0;
	ctx->leader_listens = 0;
	fu_aio_adopt(ctx);
	adopt_table(&ctx->files);
	adopt_table(&ctx->bufs);
}
