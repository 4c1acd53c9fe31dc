/*
 * Reads and writes through Linux AIO.
 *
 * A submission's requests are collected as control blocks and given to the kernel by one
 * io_submit, so that the price of a system call is paid once for all of them. Three kinds:
 * with RWF_NOWAIT the page cache answers at once or says -EAGAIN; where that flag is refused
 * the call may wait for a device, and a file gets only as many of those as it has shown not
 * to wait for (fileinfo.c); O_DIRECT goes on in the kernel and signals an eventfd that the
 * poller watches. Results are read from the completion ring that the kernel maps into the
 * process, without a system call.
 *
 * Requests that read on where the one before them in the batch ends need not go that way: they are
 * one preadv2, which looks the file's pages up once for all and makes no control blocks.
 *
 * Linux AIO tells inotify and fanotify nothing of what it has read or written. So buffered
 * writes, which other processes follow as they grow, are never given to it, and in a process
 * that watches files itself (fu_files_watched) nothing is.
 *
 * All of a ring's AIO state is guarded by its submit_lock. The kernel's contexts are few
 * (fs.aio-max-nr counts them all), slow to destroy and bound to the process: they are kept
 * for the next ring. A ring that finds none goes on without.
 */
#include "engine/aio.h"

#include <errno.h>
#include <sys/eventfd.h>
#include <sys/uio.h>
#include <time.h>

#include "engine/entry.h"
#include "engine/fileinfo.h"
#include "engine/poller.h"
#include "rings/fds.h"
#include "rings/mem.h"
#include "rings/shared.h"
#include "rings/sys.h"

#define BATCH        64U
#define CONTEXTS_MAX 32U
#define RING_EVENTS  128U
/*
 * A context makes the process's end take some tens of milliseconds: not for a few requests, though
 * they come together, nor for O_DIRECT ones that come one at a time.
 */
#define WORTH_TOTAL 64U
#define RING_MAGIC  0xa10a10a1U

/* The head of the kernel's completion ring; its events follow at header_length. */
struct ring_head {
	u32 id;
	u32 nr; /* slots */
	u32 head, tail;
	u32 magic;
	u32 compat_features, incompat_features;
	u32 header_length;
};

struct fu_aio {
	struct ring_head *ring;
	struct fu_aio *next; /* in the pool */
	int efd;
	u32 queued;   /* in the batch */
	u32 blocking; /* of these */
	u32 pending;  /* given to the kernel, to end before io_submit returns */
	u32 room;     /* blocking ones that may still join */
	s32 verified; /* a descriptor known to be a regular file in this batch, or -1 */
	struct iocb *ptrs[BATCH];
	struct iocb iocbs[BATCH];
	struct iovec iov[BATCH];
};

static struct {
	struct fu_lock lock; /* guards all below */
	struct fu_aio *free; /* read without it as a hint */
	u32 made;
	bool refused; /* io_setup is not to be had: old, denied */
} pool;

/* The process watches files. Set once, read without a lock. */
static bool watched;

/* ---- contexts ---- */

void fu_files_watched(void)
{
	fu_store_relaxed(&watched, true);
}

static struct fu_aio *make(void)
{
	struct fu_aio *aio;
	aio_context_t id = 0;
	long ret, efd = -1;

	/* valgrind takes the completion ring for smaller than it is. */
	pool.refused = fu_shared_by_file();
	if (pool.refused)
		return NULL;
	aio = fu_zalloc(sizeof(*aio));
	if (!aio)
		return NULL;
	ret = fu_sys(SYS_io_setup, RING_EVENTS, &id);
	if (ret == 0) {
		aio->ring = fu_ptr(id);
		efd = fu_sys(SYS_eventfd2, 0, EFD_CLOEXEC | EFD_NONBLOCK);
		/* A ring of another shape than ours: leave it alone. */
		if (efd < 0 || aio->ring->magic != RING_MAGIC || aio->ring->incompat_features) {
			if (efd >= 0)
				fu_sys(SYS_close, efd);
			fu_sys(SYS_io_destroy, id);
			ret = -ENOSYS;
		}
	}
	if (ret) {
		pool.refused = ret != -EAGAIN && ret != -ENOMEM;
		fu_free(aio, sizeof(*aio));
		return NULL;
	}
	aio->efd = fu_fd_high((int)efd);
	aio->verified = -1;
	return aio;
}

/* Gives the ring an AIO context if there is one to be had. submit_lock held. */
static struct fu_aio *get(struct fu_ctx *ctx)
{
	struct fu_aio *aio;

	fu_lock(&pool.lock);
	aio = pool.free;
	if (aio) {
		fu_store_relaxed(&pool.free, aio->next);
	} else if (pool.made < CONTEXTS_MAX && !pool.refused) {
		aio = make();
		pool.made += aio != NULL;
	}
	fu_unlock(&pool.lock);
	ctx->no_aio = !aio;
	fu_store_release(&ctx->aio, aio);
	return aio;
}

void fu_aio_release(struct fu_ctx *ctx)
{
	struct fu_aio *aio = ctx->aio;

	if (!aio)
		return;
	fu_poller_unwatch_aio(ctx);
	ctx->aio = NULL;
	fu_lock(&pool.lock);
	aio->next = pool.free;
	fu_store_relaxed(&pool.free, aio);
	fu_unlock(&pool.lock);
}

void fu_aio_reset(void)
{
	fu_memset(&pool, 0, sizeof(pool));
}

void fu_aio_adopt(struct fu_ctx *ctx)
{
	ctx->aio = NULL;
	ctx->no_aio = false;
	ctx->aio_slot = 0;
	ctx->aio_inflight = 0;
}

/* ---- results ---- */

bool fu_aio_ready(const struct fu_ctx *ctx)
{
	const struct fu_aio *aio = fu_load_acquire(&ctx->aio);

	return aio && fu_load_relaxed(&aio->ring->head) != fu_load_acquire(&aio->ring->tail);
}

static void no_longer_inflight(struct fu_req *req)
{
	struct fu_ctx *ctx = req->ctx;

	fu_lock(&ctx->lock);
	fu_untrack(req);
	fu_unlock(&ctx->lock);
	__atomic_fetch_sub(&ctx->aio_inflight, 1, __ATOMIC_RELAXED);
}

/* Task work: what an asynchronous one has left in req->res. */
static void tw_done(struct fu_req *req)
{
	fu_req_issued(req, req->op->iocb_done(req, req->res));
}

/* `submitting`: then a DEFER_TASKRUN ring's thread has not asked for events yet. */
static void reap(struct fu_ctx *ctx, struct fu_aio *aio, bool submitting)
{
	struct ring_head *ring = aio->ring;
	const struct io_event *events = (void *)((char *)ring + ring->header_length);
	u32 head = fu_load_relaxed(&ring->head), nr = ring->nr;

	while (head != fu_load_acquire(&ring->tail)) {
		const struct io_event *ev = &events[head];
		struct fu_req *req = fu_ptr(ev->data);
		long res = (long)ev->res;

		head = head + 1 < nr ? head + 1 : 0;
		fu_store_release(&ring->head, head);
		if (req->where == FU_AT_OP) {
			no_longer_inflight(req);
			if (submitting && ctx->deferred) {
				req->res = (s32)res;
				fu_req_task_work(req, tw_done);
				continue;
			}
		} else {
			aio->pending--;
		}
		fu_req_issued(req, req->op->iocb_done(req, res));
	}
}

void fu_aio_reap(struct fu_ctx *ctx)
{
	if (ctx->aio)
		reap(ctx, ctx->aio, false);
}

void fu_aio_event(struct fu_ctx *ctx)
{
	if (!fu_aio_ready(ctx))
		return;
	if (ctx->deferred || ctx->iopoll) {
		fu_deferred_notify(ctx);
		return;
	}
	fu_submit_lock(ctx);
	fu_aio_reap(ctx);
	fu_submit_unlock(ctx);
}

/* ---- the batch ---- */

/* What the kernel does not take as a control block goes the way of a single request. */
static void issue_alone(struct fu_ctx *ctx, struct fu_req *req, long err)
{
	if (req->where == FU_AT_OP)
		no_longer_inflight(req);
	if (err == -ENOSYS || err == -EPERM || err == -EACCES)
		ctx->no_aio = true;
	if (err == -EOPNOTSUPP)
		fu_req_issued(req, req->op->iocb_done(req, err));
	else
		fu_req_issue(req, FU_ISSUE_NONBLOCK);
}

/* Tells the files of blocking ones among control blocks [at, end) how long the lot has taken. */
static void learn(const struct fu_aio *aio, u32 at, u32 end, u64 ticks)
{
	u64 bytes = 0;

	for (u32 i = at; i < end; i++)
		bytes += aio->iocbs[i].aio_nbytes;
	for (u32 i = at; i < end; i++) {
		const struct iocb *iocb = &aio->iocbs[i];

		if (!(iocb->aio_rw_flags & RWF_NOWAIT) && !(iocb->aio_flags & IOCB_FLAG_RESFD))
			fu_file_waited(fu_ptr(iocb->aio_data), false, ticks, end - at, bytes);
	}
}

/*
 * What we knew of a file was out of date: it goes on in the kernel, and nothing will tell when it
 * has ended. It is not far from that.
 */
static void await(struct fu_ctx *ctx, struct fu_aio *aio)
{
	static const struct timespec soon = { 0, 50000 };

	for (u32 i = 0; i < aio->queued; i++)
		fu_file_forget((int)aio->iocbs[i].aio_fildes);
	while (aio->pending) {
		fu_sys(SYS_nanosleep, &soon, 0);
		reap(ctx, aio, true);
	}
}

/* Whether control block `b` reads on where `a` ends, and neither waits. */
static bool reads_on(const struct iocb *a, const struct iocb *b)
{
	return b->aio_lio_opcode == IOCB_CMD_PREAD && a->aio_lio_opcode == IOCB_CMD_PREAD &&
	       b->aio_fildes == a->aio_fildes && b->aio_rw_flags == a->aio_rw_flags &&
	       (a->aio_rw_flags & RWF_NOWAIT) &&
	       !((a->aio_flags | b->aio_flags) & IOCB_FLAG_RESFD) &&
	       b->aio_offset == a->aio_offset + (s64)a->aio_nbytes;
}

/*
 * Reads control blocks [at, end), each of which goes on where the one before it ends, as one.
 * Completes those that got all they had asked for and returns how many these were.
 */
static u32 read_run(struct fu_aio *aio, u32 at, u32 end)
{
	struct iovec *iov = aio->iov;
	const struct iocb *first = &aio->iocbs[at];
	long got;
	u32 i;

	for (i = at; i < end; i++)
		iov[i - at] =
		        (struct iovec){ fu_ptr(aio->iocbs[i].aio_buf), aio->iocbs[i].aio_nbytes };
	got = fu_sys(SYS_preadv2, (int)first->aio_fildes, iov, end - at, (long)first->aio_offset, 0,
	             first->aio_rw_flags);
	for (i = at; i < end && got >= (long)aio->iocbs[i].aio_nbytes; i++) {
		struct fu_req *req = fu_ptr(aio->iocbs[i].aio_data);
		long bytes = (long)aio->iocbs[i].aio_nbytes;

		got -= bytes;
		fu_req_issued(req, req->op->iocb_done(req, bytes));
	}
	return i - at;
}

/* The end of the run that begins at `at`. */
static u32 run_end(const struct fu_aio *aio, u32 at)
{
	u32 end = at + 1;

	while (end < aio->queued && reads_on(&aio->iocbs[end - 1], &aio->iocbs[end]))
		end++;
	return end;
}

/* Gives control blocks [at, end) to the kernel in one call, but for those before which it stops. */
static void submit_some(struct fu_ctx *ctx, struct fu_aio *aio, u32 at, u32 end)
{
	while (at < end) {
		u64 start = aio->blocking ? fu_ticks() : 0;
		long ret = ctx->no_aio ? -ENOSYS
		                       : fu_sys(SYS_io_submit, (u64)(uintptr_t)aio->ring, end - at,
		                                &aio->ptrs[at]);

		if (ret > 0) {
			FU_COUNT(aio, ret);
			for (u32 i = at; i < at + (u32)ret; i++)
				aio->pending += !(aio->iocbs[i].aio_flags & IOCB_FLAG_RESFD);
			if (start)
				learn(aio, at, at + (u32)ret, fu_ticks() - start);
			at += (u32)ret;
		} else {
			issue_alone(ctx, fu_ptr(aio->iocbs[at].aio_data), ret);
			at++;
		}
		reap(ctx, aio, true);
		if (fu_unlikely(aio->pending))
			await(ctx, aio);
	}
}

static void submit(struct fu_ctx *ctx, struct fu_aio *aio)
{
	u32 at = 0, next = 0;

	/* Up to `at` it is done, and what is between that and `next` is in no run. */
	while (next < aio->queued) {
		u32 end = run_end(aio, next);

		if (fu_likely(end == next + 1)) {
			next = end;
			continue;
		}
		submit_some(ctx, aio, at, next);
		at = next + read_run(aio, next, end);
		next = end;
		/* What is not in the page cache, or behind the end of the file, is not tried again
		 * as one. */
		if (at < end)
			break;
	}
	submit_some(ctx, aio, at, aio->queued);
}

void fu_aio_flush(struct fu_ctx *ctx)
{
	struct fu_aio *aio = ctx->aio;

	if (!ctx->aio_queued)
		return;
	if (aio->queued == 1 && !(aio->iocbs[0].aio_flags & IOCB_FLAG_RESFD))
		fu_req_issue(fu_ptr(aio->iocbs[0].aio_data), FU_ISSUE_NONBLOCK);
	else
		submit(ctx, aio);
	aio->queued = aio->blocking = 0;
	aio->verified = -1;
	ctx->aio_queued = 0;
}

/* One more blocking control block, a read: as many as the file is trusted with. */
static bool blocking_allowed(struct fu_aio *aio, struct fu_req *req)
{
	u32 trust = fu_file_trust(req, false);

	if (!trust)
		return false;
	/* The kernel takes a control block for any file, pipes too, and would wait there. */
	if (aio->verified != req->fd) {
		if (!fu_file_is_reg(req))
			return false;
		aio->verified = req->fd;
	}
	aio->room = trust;
	return true;
}

/* Whether there is an AIO context, or reason enough to have one. */
static bool available(struct fu_ctx *ctx, struct fu_req *req, u32 left)
{
	bool direct;

	if (fu_likely(ctx->aio))
		return true;
	direct = fu_file_info(req) & FU_FILE_DIRECT;
	if (!left && !direct)
		return false;
	/* What an earlier ring has left costs nothing more. */
	if (ctx->aio_missed + left >= WORTH_TOTAL || fu_load_relaxed(&pool.free) ||
	    (direct && fu_load_relaxed(&ctx->direct_away)))
		return get(ctx) != NULL;
	if (direct)
		fu_store_relaxed(&ctx->direct_away, true);
	ctx->aio_missed++;
	return false;
}

bool fu_aio_add(struct fu_req *req, u32 left)
{
	struct fu_ctx *ctx = req->ctx;
	struct fu_aio *aio;
	struct iocb *iocb;
	int kind;

	if (ctx->no_aio || ctx->iopoll || fu_load_relaxed(&watched) || !available(ctx, req, left))
		return false;
	aio = ctx->aio;
	if (!left && !aio->queued && !(fu_file_info(req) & FU_FILE_DIRECT))
		return false;
	iocb = &aio->iocbs[aio->queued];
	kind = req->op->iocb(req, iocb);
	if (kind == FU_IOCB_NONE)
		return false;
	if (kind == FU_IOCB_BLOCKING && !blocking_allowed(aio, req))
		return false;
	iocb->aio_data = (u64)(uintptr_t)req;
	iocb->aio_key = 0;
	iocb->aio_flags = 0;
	if (kind == FU_IOCB_ASYNC) {
		if (!ctx->aio_slot && fu_poller_watch_aio(ctx, aio->efd))
			return false;
		iocb->aio_flags = IOCB_FLAG_RESFD;
		iocb->aio_resfd = (u32)aio->efd;
		__atomic_fetch_add(&ctx->aio_inflight, 1, __ATOMIC_RELAXED);
		fu_lock(&ctx->lock);
		fu_track(req, FU_AT_OP);
		fu_unlock(&ctx->lock);
	}
	aio->ptrs[aio->queued++] = iocb;
	ctx->aio_queued = 1;
	aio->blocking += kind == FU_IOCB_BLOCKING;
	if (aio->queued == BATCH || (kind == FU_IOCB_BLOCKING && aio->blocking >= aio->room))
		fu_aio_flush(ctx);
	return true;
}
