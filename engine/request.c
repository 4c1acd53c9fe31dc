/*
 * The end of a request's life, and its memory. Completions under submit_lock are
 * collected in ctx->done; fu_submit_unlock posts them with one tail store, then
 * looks at what each one sets free: the next request of its link, its file and
 * buffers, requests that a drain held back. What follows from a completion (task
 * work) runs after the CQEs of its batch are posted, which is also the order in
 * which the kernel lets a program see them.
 */
#include "engine/engine.h"

#include <errno.h>
#include <poll.h>

#include "engine/host.h"
#include "engine/kbuf.h"
#include "engine/leader.h"
#include "engine/leaving.h"
#include "engine/notes.h"
#include "engine/peers.h"
#include "engine/personality.h"
#include "rings/fds.h"
#include "rings/keep.h"
#include "rings/mem.h"
#include "rings/sys.h"

#define CHUNK_REQS 16
/* Requests waiting from which on finding one matters more than their order. */
#define HASH_CROWD 64U

struct fu_chunk {
	struct fu_chunk *next;
	struct fu_req reqs[CHUNK_REQS];
};

/* ---- memory: submit_lock held ---- */

static void cache_push(struct fu_ctx *ctx, struct fu_req *req)
{
	req->next = ctx->cache;
	ctx->cache = req;
}

bool fu_req_refill(struct fu_ctx *ctx)
{
	struct fu_chunk *chunk;

	ctx->cache = __atomic_exchange_n(&ctx->freed, NULL, __ATOMIC_ACQUIRE);
	if (ctx->cache)
		return true;
	chunk = fu_zalloc(sizeof(*chunk));
	if (!chunk)
		return false;
	chunk->next = ctx->chunks;
	ctx->chunks = chunk;
	for (int i = CHUNK_REQS; i-- > 0;) {
		struct fu_req *req = &chunk->reqs[i];

		req->ctx = ctx;
		fu_list_init(&req->hash);
		fu_list_init(&req->queue);
		cache_push(ctx, req);
	}
	return true;
}

/* What a request that others have touched leaves behind (struct fu_req). */
static void clear_rest(struct fu_req *req)
{
	_Static_assert(offsetof(struct fu_req, record) % sizeof(u64) == 0 &&
	                       offsetof(struct fu_req, user_data) % sizeof(u64) == 0,
	               "cleared by words");

	fu_clear_words(&req->record,
	               offsetof(struct fu_req, user_data) - offsetof(struct fu_req, record));
}

void fu_req_free_all(struct fu_ctx *ctx)
{
	struct fu_chunk *chunk = ctx->chunks;

	while (chunk) {
		struct fu_chunk *next = chunk->next;

		fu_free(chunk, sizeof(*chunk));
		chunk = next;
	}
	ctx->chunks = NULL;
	ctx->cache = ctx->freed = NULL;
}

static void freed_push(struct fu_ctx *ctx, struct fu_req *req)
{
	struct fu_req *head = fu_load_relaxed(&ctx->freed);

	clear_rest(req);
	do {
		req->next = head;
	} while (!__atomic_compare_exchange_n(&ctx->freed, &head, req, true, __ATOMIC_RELEASE,
	                                      __ATOMIC_RELAXED));
}

/* ---- tracking: ctx->lock held ---- */

u32 fu_track_bucket(const struct fu_ctx *ctx, u64 user_data)
{
	return (u32)(user_data * 0x61C8864680B583EBULL >> (64 - __builtin_ctz(ctx->hash_size)));
}

static struct fu_list *bucket_of(struct fu_ctx *ctx, u64 user_data)
{
	return &ctx->hash[fu_track_bucket(ctx, user_data)];
}

/*
 * As many buckets as the kernel has, by the same hash: what cancels many requests ends them in
 * the order in which they lie there. Only a crowd gets more.
 */
static u32 first_hash_size(const struct fu_ctx *ctx)
{
	u32 entries = ctx->ring.cq_entries >> 5;

	return entries < 2 ? 2 : entries > 256 ? 256 : entries;
}

static void hash_resize(struct fu_ctx *ctx, u32 size)
{
	struct fu_list *old = ctx->hash;
	u32 old_size = ctx->hash_size;
	struct fu_list *table = fu_alloc(size * sizeof(*table));

	if (!table)
		return;
	for (u32 i = 0; i < size; i++)
		fu_list_init(&table[i]);
	ctx->hash = table;
	ctx->hash_size = size;
	for (u32 i = 0; i < old_size; i++) {
		struct fu_list *node;

		while ((node = fu_list_pop(&old[i]))) {
			struct fu_req *req = fu_list_entry(node, struct fu_req, hash);

			fu_list_add_tail(bucket_of(ctx, req->user_data), node);
		}
	}
	fu_free(old, old_size * sizeof(*old));
}

void fu_req_keep(struct fu_req *req)
{
	if (req->flags & FU_REQ_HOLDS_CTX)
		return;
	req->flags |= FU_REQ_HOLDS_CTX;
	fu_ctx_hold(req->ctx);
	fu_req_hold_nodes(req);
}

void fu_track(struct fu_req *req, enum fu_where where)
{
	struct fu_ctx *ctx = req->ctx;

	req->where = (u8)where;
	if (where == FU_AT_OP)
		req->seen_events = ++ctx->tracked;
	if (!(req->flags & FU_REQ_HOLDS_CTX)) {
		fu_req_keep(req);
		if (!req->owner)
			fu_req_own(req);
	}
	if (fu_unlikely(fu_load_relaxed(&ctx->ring.ctrl->shared)))
		fu_peer_track(req);
	if (!fu_list_empty(&req->hash)) {
		if (where != FU_AT_POLLER)
			return;
		fu_list_del(&req->hash);
		fu_store_relaxed(&ctx->hash_count, ctx->hash_count - 1);
	}
	if (!ctx->hash_size)
		hash_resize(ctx, first_hash_size(ctx));
	else if (ctx->hash_count >= HASH_CROWD && ctx->hash_count >= 2 * ctx->hash_size)
		hash_resize(ctx, 4 * ctx->hash_size);
	if (!ctx->hash_size)
		return;
	/* Of several armed requests that match, cancellation means the newest. */
	if (where == FU_AT_POLLER)
		fu_list_add_head(bucket_of(ctx, req->user_data), &req->hash);
	else
		fu_list_add_tail(bucket_of(ctx, req->user_data), &req->hash);
	fu_store_relaxed(&ctx->hash_count, ctx->hash_count + 1);
}

int fu_req_arm(struct fu_req *req, u32 events, struct fu_name name)
{
	u8 before = req->where;
	int ret;

	fu_track(req, FU_AT_POLLER);
	ret = fu_poller_arm(req, events, name);
	/* A worker that could not arm it may go on to do it, and can be interrupted in that. */
	if (ret && before == FU_AT_WORKER)
		req->where = before;
	else if (ret)
		fu_untrack(req);
	return ret;
}

void fu_untrack(struct fu_req *req)
{
	req->where = FU_AT_NONE;
	if (fu_list_empty(&req->hash))
		return;
	fu_list_del(&req->hash);
	fu_store_relaxed(&req->ctx->hash_count, req->ctx->hash_count - 1);
}

/* ---- posting ---- */

/* The caller counts it. */
static void post_locked(struct fu_req *req)
{
	struct fu_ring *ring = &req->ctx->ring;
	bool in_ring;

	if (fu_unlikely(req->record))
		fu_orphans_closing(req);
	in_ring = fu_cq_post(ring, req->user_data, req->res, req->cflags,
	                     req->flags & FU_REQ_BIG_CQE ? req->big : NULL);
	if (fu_unlikely(req->record))
		fu_orphans_forget(req);
	if (!in_ring)
		FU_COUNT(overflowed, 1);
}

static void eventfd_signal(struct fu_ctx *ctx)
{
	u64 one = 1;
	int fd = fu_load_relaxed(&ctx->evfd);

	if (fd < 0 || (fu_load_relaxed(ctx->ring.cq_flags) & IORING_CQ_EVENTFD_DISABLED))
		return;
	if (fu_load_relaxed(&ctx->evfd_async) && !fu_self.in_worker)
		return;
	/* Before the write: who handles the event sees it. */
	__atomic_fetch_add(&ctx->evfd_signals, 1, __ATOMIC_SEQ_CST);
	fu_sys(SYS_write, fd, &one, sizeof(one));
}

static bool eventfd_pending(struct fu_ctx *ctx)
{
	struct pollfd pfd = { .fd = fu_load_relaxed(&ctx->evfd), .events = POLLIN };

	return pfd.fd >= 0 && fu_poll_now(&pfd) > 0;
}

void fu_waiter_counted(struct fu_ctrl *ctrl)
{
	__atomic_fetch_add(&ctrl->waiters, 1, __ATOMIC_SEQ_CST);
	/* From now on there may be two, who wait for different things. */
	__atomic_store_n(&ctrl->patience, 0, __ATOMIC_SEQ_CST);
}

void fu_waiter_patient(struct fu_ctrl *ctrl, u32 target)
{
	__atomic_store_n(&ctrl->patience, FU_PATIENT | target, __ATOMIC_SEQ_CST);
	if (__atomic_load_n(&ctrl->waiters, __ATOMIC_SEQ_CST) != 1)
		__atomic_store_n(&ctrl->patience, 0, __ATOMIC_SEQ_CST);
}

/* The only waiter waits for more than there is. */
static bool is_too_early(const struct fu_ring *ring)
{
	u64 patience = fu_load_relaxed(&ring->ctrl->patience);

	return patience && !fu_cq_overflown(ring) &&
	       (s32)(fu_load_relaxed(&ring->ctrl->cached_cq_tail) - (u32)patience) < 0;
}

/* `posted`: CQEs have come, and nothing else has happened. */
static void wake_waiters(struct fu_ctx *ctx, bool posted)
{
	struct fu_ctrl *ctrl = ctx->ring.ctrl;

	/* Pairs with the waiter's increment before it reads the tail, which our caller has moved
	 * before it let go of a lock. */
	fu_fence_after_rmw();
	fu_peers_use(ctx);
	fu_leader_wake(ctx);
	if (!fu_load_relaxed(&ctrl->waiters) || (posted && is_too_early(&ctx->ring)))
		return;
	/* No handler of the program may jump away with what is to wake them. */
	fu_critical_enter();
	__atomic_fetch_add(&ctrl->wake_seq, 1, __ATOMIC_SEQ_CST);
	/* Another process may have been killed at that point. */
	if (__atomic_exchange_n(&ctrl->sleeps, 0, __ATOMIC_SEQ_CST) || fu_peers_used(ctx)) {
		/* Nor does one sleep that has said so after the first step, and is not there yet:
		 * what it said is gone. */
		__atomic_fetch_add(&ctrl->wake_seq, 1, __ATOMIC_SEQ_CST);
		fu_futex_wake(&ctrl->wake_seq, INT32_MAX);
	}
	fu_critical_leave();
}

void fu_wake_waiters(struct fu_ctx *ctx)
{
	wake_waiters(ctx, false);
}

long fu_sleep_until_woken(struct fu_ctrl *ctrl, u32 seq, s64 timeout_ns)
{
	/* Who posts moves wake_seq before he looks whether anybody sleeps. */
	__atomic_store_n(&ctrl->sleeps, 1, __ATOMIC_SEQ_CST);
	return fu_futex_wait(&ctrl->wake_seq, seq, timeout_ns);
}

/* Tells everybody outside the ring's own requests. */
static void notify_outside(struct fu_ctx *ctx)
{
	struct fu_ctrl *ctrl = ctx->ring.ctrl;

	eventfd_signal(ctx);
	if (!fu_ringfd_is_raised(ctrl) || (fu_load_relaxed(&ctrl->polled) & FU_POLLED_EDGE))
		fu_ctx_raise(ctx);
}

void fu_cq_notify(struct fu_ctx *ctx)
{
	wake_waiters(ctx, true);
	if (fu_unlikely(fu_load_relaxed(&ctx->nr_counted)))
		fu_timeouts_counted(ctx);
	notify_outside(ctx);
}

static void post_alone(struct fu_ctx *ctx, u64 user_data, s32 res, u32 cflags)
{
	struct fu_ctrl *ctrl = ctx->ring.ctrl;

	FU_COUNT(cqes, 1);
	fu_lock(&ctrl->cq_lock);
	if (!fu_cq_post(&ctx->ring, user_data, res, cflags, NULL))
		FU_COUNT(overflowed, 1);
	fu_cq_commit(&ctx->ring);
	fu_unlock(&ctrl->cq_lock);
}

void fu_post_aux(struct fu_ctx *ctx, u64 user_data, s32 res, u32 cflags)
{
	post_alone(ctx, user_data, res, cflags);
	fu_cq_notify(ctx);
}

void fu_post_other(struct fu_ctx *ctx, u64 user_data, s32 res, u32 cflags)
{
	post_alone(ctx, user_data, res, cflags);
	wake_waiters(ctx, true);
	notify_outside(ctx);
}

/* ---- what a completed request sets free ---- */

static bool post_batch(struct fu_ctx *ctx);

/* Task work: a chain that hangs on its first request by `link` completes, in order. */
static void end_links(struct fu_req *link)
{
	while (link) {
		struct fu_req *next = link->link;

		link->link = NULL;
		if (!(link->flags & FU_REQ_FAIL))
			fu_req_result(link, -ECANCELED, 0);
		/* The chain is already apart: nothing follows from this one. */
		link->flags &= ~(FU_REQ_LINK_FLAGS | FU_REQ_ARM_LTIMEOUT | FU_REQ_LTIMEOUT);
		fu_req_done(link);
		link = next;
	}
}

/* The rest of a broken link ends too, after what this batch has completed. */
static void fail_links(struct fu_req *req)
{
	bool silent = req->flags & FU_REQ_SKIP_LINK_CQES;
	struct fu_req *first = req->link;

	req->link = NULL;
	for (struct fu_req *link = first; link; link = link->link) {
		if (silent)
			link->flags |= FU_REQ_CQE_SKIP;
		else
			link->flags &= ~FU_REQ_CQE_SKIP;
	}
	if (first)
		fu_req_task_work(first, end_links);
}

static void release_link(struct fu_req *req)
{
	struct fu_req *next;

	if (req->flags & (FU_REQ_ARM_LTIMEOUT | FU_REQ_LTIMEOUT))
		fu_ltimeout_disarm(req);
	if ((req->flags & FU_REQ_FAIL) && !(req->flags & FU_REQ_HARDLINK))
		fail_links(req);
	next = req->link;
	req->link = NULL;
	if (next)
		fu_req_task_work(next, fu_req_tw_issue);
}

/*
 * Lets go of a duplicate of the program's file. Before the CQE is posted: whoever sees that
 * and closes the file expects it to be gone, its address free, its peer told.
 */
static void release_file(struct fu_req *req)
{
	if (!(req->flags & FU_REQ_OWN_FD))
		return;
	/* What can be waited for is no file that is locked. */
	if (req->poll_slot) {
		fu_poller_release(req);
		fu_fd_close(req->fd);
	} else {
		fu_fd_release(req->fd, (s32)req->sqe_fd);
	}
	req->file_info = (struct fu_file_info){ 0 };
	req->flags &= ~FU_REQ_OWN_FD;
}

/* Gives back everything else the request holds. ctx->lock not held. */
static void release_resources(struct fu_req *req)
{
	struct fu_ctx *ctx = req->ctx;
	u64 tag;

	if (!fu_list_empty(&req->hash)) {
		fu_lock(&ctx->lock);
		fu_untrack(req);
		fu_unlock(&ctx->lock);
	}
	if (req->poll_slot)
		fu_poller_release(req);
	if (fu_unlikely(req->lined))
		fu_poller_pass_on(req);
	if (fu_unlikely(req->record))
		fu_orphans_forget(req);
	if (req->flags & FU_REQ_CLEANUP)
		req->op->cleanup(req);
	if (req->async)
		fu_free(req->async, req->async_bytes);
	if (req->creds)
		fu_personality_put(req);
	if ((req->flags & FU_REQ_FILE_HELD) && (tag = fu_file_node_put(req->node)))
		fu_post_aux(ctx, tag, 0, 0);
	if ((req->flags & FU_REQ_BUF_HELD) && (tag = fu_buf_node_put(req->buf_node)))
		fu_post_aux(ctx, tag, 0, 0);
}

#define SLOW_FLAGS                                                                    \
	(FU_REQ_CLEANUP | FU_REQ_LINK_FLAGS | FU_REQ_ARM_LTIMEOUT | FU_REQ_LTIMEOUT | \
	 FU_REQ_FILE_HELD | FU_REQ_BUF_HELD | FU_REQ_HOLDS_CTX)

/* Whether nothing follows from the request's end, and it holds nothing. */
static inline bool is_plain(const struct fu_req *req)
{
	return fu_likely(!(req->flags & SLOW_FLAGS) &&
	                 !((uintptr_t)req->async | (uintptr_t)req->creds));
}

/* Requests whose CQE takes more than putting it there. */
#define ODD_CQE (FU_REQ_CQE_SKIP | FU_REQ_BIG_CQE | FU_REQ_HOLDS_CTX)

/* That nobody has touched a plain request's rest but its submitter, in builds that check. */
static inline void check_rest(const struct fu_req *req)
{
#ifndef NDEBUG
	for (const u64 *word = (const void *)&req->record; word < &req->user_data; word++) {
		if (*word)
			__builtin_trap();
	}
#else
	(void)req;
#endif
}

/* The request is gone after this; submit_lock held. */
static void finish(struct fu_req *req)
{
	struct fu_ctx *ctx = req->ctx;
	bool holds_ctx = req->flags & FU_REQ_HOLDS_CTX;

	if (req->flags & (FU_REQ_LINK_FLAGS | FU_REQ_ARM_LTIMEOUT | FU_REQ_LTIMEOUT))
		release_link(req);
	release_resources(req);
	clear_rest(req);
	cache_push(ctx, req);
	fu_store_relaxed(&ctx->started, ctx->started - 1);
	if (holds_ctx)
		fu_ctx_put(ctx);
}

/* ---- completion ---- */

void fu_req_tw_done(struct fu_req *req)
{
	fu_req_done(req);
}

/* A provided buffer that a failing request has in hand is gone, and the program is told. */
static u32 put_kbuf(struct fu_req *req)
{
	if (fu_likely(!(req->flags & (FU_REQ_BUFFER_RING | FU_REQ_BUFFER_LEGACY))))
		return 0;
	return fu_kbuf_put(req, -1, 1);
}

void fu_req_fail(struct fu_req *req, s32 res)
{
	fu_req_set_fail(req);
	fu_req_result(req, res, put_kbuf(req));
	if (req->op && req->op->fail)
		req->op->fail(req);
	fu_req_done(req);
}

void fu_req_end(struct fu_req *req, long ret)
{
	struct fu_ctx *ctx = req->ctx;

	fu_submit_lock(ctx);
	if (ret < 0) {
		fu_req_fail(req, (s32)ret);
	} else {
		fu_req_result(req, (s32)ret, 0);
		fu_req_done(req);
	}
	fu_submit_unlock(ctx);
}

void fu_req_done_async(struct fu_req *req)
{
	struct fu_ctx *ctx = req->ctx;
	struct fu_ctrl *ctrl = ctx->ring.ctrl;

	if (ctx->deferred || ctx->iopoll) {
		fu_req_task_work(req, fu_req_tw_done);
		return;
	}
	if ((req->flags & (FU_REQ_LINK_FLAGS | FU_REQ_ARM_LTIMEOUT | FU_REQ_LTIMEOUT)) ||
	    fu_load_relaxed(&ctx->drain_active)) {
		fu_submit_lock(ctx);
		fu_req_done(req);
		fu_submit_unlock(ctx);
		return;
	}
	release_file(req);
	/* Nothing follows from this one: it need not wait for a submission in progress. */
	if (!(req->flags & FU_REQ_CQE_SKIP)) {
		FU_COUNT(cqes, 1);
		fu_lock(&ctrl->cq_lock);
		post_locked(req);
		fu_cq_commit(&ctx->ring);
		fu_unlock(&ctrl->cq_lock);
		fu_cq_notify(ctx);
	}
	release_resources(req);
	bool holds_ctx = req->flags & FU_REQ_HOLDS_CTX;

	freed_push(ctx, req);
	__atomic_fetch_add(&ctx->ended, 1, __ATOMIC_SEQ_CST);
	/* A drain that began meanwhile counted this request as active. */
	if (fu_unlikely(__atomic_load_n(&ctx->drain_active, __ATOMIC_SEQ_CST))) {
		fu_submit_lock(ctx);
		fu_submit_unlock(ctx);
	}
	if (holds_ctx)
		fu_ctx_put(ctx);
}

void fu_req_fail_async(struct fu_req *req, s32 res)
{
	fu_req_set_fail(req);
	fu_req_result(req, res, put_kbuf(req));
	if (req->op->fail)
		req->op->fail(req);
	fu_req_done_async(req);
}

bool fu_post_more_big(struct fu_req *req, s32 res, u32 cflags, const u64 *big)
{
	struct fu_ctx *ctx = req->ctx;
	struct fu_ctrl *ctrl = ctx->ring.ctrl;
	bool posted;

	/* What completed before in this submission comes first. */
	if (fu_lock_is_mine(&ctrl->submit_lock) && !fu_batch_empty(&ctx->done))
		post_batch(ctx);
	fu_lock(&ctrl->cq_lock);
	posted = fu_cq_post_noflow(&ctx->ring, req->user_data, res, cflags, big);
	fu_cq_commit(&ctx->ring);
	fu_unlock(&ctrl->cq_lock);
	if (!posted)
		return false;
	FU_COUNT(cqes, 1);
	fu_cq_notify(ctx);
	return true;
}

bool fu_post_more(struct fu_req *req, s32 res, u32 cflags)
{
	return fu_post_more_big(req, res, cflags, NULL);
}

/* ---- task work ---- */

void fu_deferred_notify(struct fu_ctx *ctx)
{
	struct fu_ctrl *ctrl = ctx->ring.ctrl;

	if (ctx->ring.setup_flags & IORING_SETUP_TASKRUN_FLAG)
		fu_sq_flags_set(&ctx->ring, IORING_SQ_TASKRUN);
	fu_wake_waiters(ctx);
	if (ctx->iopoll)
		return;
	/* One that has not been read yet has its owner on the way here already. */
	if (!eventfd_pending(ctx))
		eventfd_signal(ctx);
	if (fu_load_relaxed(&ctrl->polled))
		fu_ctx_raise(ctx);
}

void fu_defer(struct fu_ctx *ctx, struct fu_req *last, struct fu_req *first)
{
	struct fu_req *head = fu_load_relaxed(&ctx->tw);

	/* The list keeps the ring alive until its notification is done. */
	fu_ctx_hold(ctx);
	do {
		first->next = head;
	} while (!__atomic_compare_exchange_n(&ctx->tw, &head, last, true, __ATOMIC_RELEASE,
	                                      __ATOMIC_RELAXED));
	if (!head || fu_load_relaxed(&ctx->ring.ctrl->waiters))
		fu_deferred_notify(ctx);
	fu_ctx_put(ctx);
}

void fu_req_task_work(struct fu_req *req, void (*fn)(struct fu_req *req))
{
	struct fu_ctx *ctx = req->ctx;

	req->tw = fn;
	if (ctx->deferred || (ctx->iopoll && fn == fu_req_tw_done)) {
		fu_defer(ctx, req, req);
	} else if (fu_lock_is_mine(&ctx->ring.ctrl->submit_lock)) {
		fu_batch_add(&ctx->work, req);
	} else {
		fu_submit_lock(ctx);
		fn(req);
		fu_submit_unlock(ctx);
	}
}

void fu_run_deferred(struct fu_ctx *ctx)
{
	struct fu_req *list = __atomic_exchange_n(&ctx->tw, NULL, __ATOMIC_ACQUIRE);
	struct fu_req *fifo = NULL;

	if (ctx->ring.setup_flags & IORING_SETUP_TASKRUN_FLAG)
		fu_sq_flags_clear(&ctx->ring, IORING_SQ_TASKRUN);
	while (list) {
		struct fu_req *next = list->next;

		list->next = fifo;
		fifo = list;
		list = next;
	}
	while (fifo) {
		struct fu_req *next = fifo->next;

		fifo->tw(fifo);
		fifo = next;
	}
}

/* ---- the submission lock ---- */

void fu_submit_lock(struct fu_ctx *ctx)
{
	fu_lock(&ctx->ring.ctrl->submit_lock);
}

/* Posts the batch. Returns whether the program can see new CQEs. */
static bool post_batch(struct fu_ctx *ctx)
{
	struct fu_ring *ring = &ctx->ring;
	struct fu_ctrl *ctrl = ring->ctrl;
	struct fu_req *next, *req = fu_batch_take(&ctx->done);
	struct fu_batch slow;
	struct fu_cq_span span;
	u32 posts = 0, ends = 0;
	bool posted;

	fu_batch_init(&slow);
	if (ctx->done_files) {
		ctx->done_files = 0;
		for (struct fu_req *r = req; r; r = r->next)
			release_file(r);
	}
	fu_lock(&ctrl->cq_lock);
	fu_cq_open(ring, &span);
	for (; req; req = next) {
		next = req->next;
		if (fu_likely(!(req->flags & ODD_CQE) &&
		              fu_cq_put(&span, req->user_data, req->res, req->cflags))) {
			/* That was all. */
		} else if (!(req->flags & FU_REQ_CQE_SKIP)) {
			posts += fu_cq_close(ring, &span) + 1;
			post_locked(req);
			fu_cq_open(ring, &span);
		}
		if (is_plain(req)) {
			check_rest(req);
			cache_push(ctx, req);
			ends++;
		} else {
			fu_batch_add(&slow, req);
		}
	}
	posts += fu_cq_close(ring, &span);
	posted = fu_cq_commit(&ctx->ring);
	fu_unlock(&ctrl->cq_lock);
	FU_TALLY(ctx, cqes, posts);
	fu_store_relaxed(&ctx->started, ctx->started - ends);
	/* Timeouts that have counted these end before what the batch sets free. */
	if (fu_unlikely(fu_load_relaxed(&ctx->nr_counted)))
		fu_timeouts_counted(ctx);
	for (req = fu_batch_take(&slow); req; req = next) {
		next = req->next;
		finish(req);
	}
	return posted;
}

static void run_work(struct fu_ctx *ctx)
{
	struct fu_req *req = fu_batch_take(&ctx->work);

	while (req) {
		struct fu_req *next = req->next;

		req->tw(req);
		req = next;
	}
}

void fu_ctx_outside(struct fu_ctx *ctx, struct fu_req *req, void (*fn)(struct fu_req *req))
{
	req->tw = fn;
	fu_batch_add(&ctx->outside, req);
}

static void run_outside(struct fu_req *req)
{
	while (req) {
		struct fu_req *next = req->next;

		req->tw(req);
		req = next;
	}
}

/* Unlocks, tells that CQEs have been posted, and does what is to be done without the lock. */
static inline void let_go(struct fu_ctx *ctx, bool posted)
{
	struct fu_req *outside = fu_batch_take(&ctx->outside);

	/* No signal handler jumps away in between: others wait to be told. */
	fu_critical_enter();
	fu_unlock(&ctx->ring.ctrl->submit_lock);
	if (posted)
		fu_cq_notify(ctx);
	fu_critical_leave();
	if (fu_unlikely(outside != NULL))
		run_outside(outside);
}

/* The same where events have been noted meanwhile. */
static void let_go_noted(struct fu_ctx *ctx, bool posted)
{
	struct fu_notes notes = ctx->notes;

	ctx->notes.n = 0;
	ctx->notes.busy = 0;
	fu_critical_enter();
	let_go(ctx, posted);
	fu_notes_handle(&notes);
	fu_critical_leave();
}

void fu_submit_release(struct fu_ctx *ctx)
{
	bool posted = false;

	for (;;) {
		if (!fu_batch_empty(&ctx->done))
			posted |= post_batch(ctx);
		else if (!fu_batch_empty(&ctx->work))
			run_work(ctx);
		else if (!ctx->drain_active || !fu_drain_run(ctx))
			break;
	}
	if (fu_unlikely(ctx->notes.busy))
		let_go_noted(ctx, posted);
	else
		let_go(ctx, posted);
}

void fu_submit_unlock(struct fu_ctx *ctx)
{
	fu_ctx_hold(ctx);
	fu_submit_release(ctx);
	fu_ctx_put(ctx);
}
