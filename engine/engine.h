/*
 * The engine's inner vocabulary: a ring's context, a request, an opcode, and the
 * services that one engine file offers to the others.
 *
 * A request belongs to exactly one party at a time: the thread that submits or
 * retries it, the poller (armed), the timer heap, a worker's queue, or the drain
 * list. Ownership passes by taking it out of that party's structure under that
 * party's lock; whoever took it out completes it. Cancellation is nothing else
 * than one more party trying to take it.
 *
 * submit_lock (in the ring's control block) serialises everything that reads or
 * changes what a submission depends on: the SQ, links, drain, registered files and
 * buffers, buffer groups. A request is issued with it held unless FU_ISSUE_WORKER
 * is set. Completions made under it are collected and posted together by
 * fu_submit_unlock.
 */
#ifndef FU_ENGINE_H
#define FU_ENGINE_H

#include "engine/counters.h"
#include "rings/abi.h"
#include "rings/list.h"
#include "rings/lock.h"
#include "rings/mem.h"
#include "rings/ring.h"
#include "rings/rsrc.h"
#include "rings/types.h"

struct fu_ctx;
struct fu_req;
struct fu_aio;
struct fu_pbuf_group;
struct iocb;

/* What this io_uring has and honours. */
#define FU_FEATURES                                                                     \
	(IORING_FEAT_SINGLE_MMAP | IORING_FEAT_NODROP | IORING_FEAT_SUBMIT_STABLE |     \
	 IORING_FEAT_RW_CUR_POS | IORING_FEAT_CUR_PERSONALITY | IORING_FEAT_FAST_POLL | \
	 IORING_FEAT_POLL_32BITS | IORING_FEAT_SQPOLL_NONFIXED | IORING_FEAT_EXT_ARG |  \
	 IORING_FEAT_NATIVE_WORKERS | IORING_FEAT_RSRC_TAGS | IORING_FEAT_CQE_SKIP |    \
	 IORING_FEAT_LINKED_FILE | IORING_FEAT_REG_REG_RING | IORING_FEAT_MIN_TIMEOUT | \
	 IORING_FEAT_NO_IOWAIT | IORING_FEAT_RECVSEND_BUNDLE | IORING_FEAT_RW_ATTR)

/* ---- opcodes ---- */

/* issue() results besides -errno: */
enum {
	FU_DONE = 0,  /* complete with req->res and req->cflags */
	FU_TAKEN = 1, /* the operation has put the request somewhere; the caller forgets it */
};
/* -EAGAIN from issue() means: would block; the core arms the poller or punts to a worker. */

#define FU_ISSUE_NONBLOCK 1U /* must not block */
#define FU_ISSUE_WORKER   2U /* on a worker: submit_lock is not held */
#define FU_ISSUE_RETRY    4U /* the poller saw the file ready */
#define FU_ISSUE_UNPOLLED 8U /* what asks to be polled first is not to be: -EAGAIN ends it */

struct fu_op {
	const char *name;
	u8 needs_file : 1;
	u8 blocks : 1;        /* issue() cannot be asked not to block: straight to a worker */
	u8 ioprio : 1;        /* the ioprio field is used */
	u8 iopoll : 1;        /* allowed on an IOPOLL ring */
	u8 pollin : 1;        /* -EAGAIN: wait until readable */
	u8 pollout : 1;       /* -EAGAIN: wait until writable */
	u8 buffer_select : 1; /* IOSQE_BUFFER_SELECT allowed */
	u8 hash_reg : 1;      /* serialise on one regular file */
	u8 unbounded : 1;     /* may block without bound: not on the bounded workers */
	/* Not 0: all of this group that one cancellation ends count as one, and the result of
	 * cancelling a single one is that 1 instead of 0. */
	u8 cancel_group : 2;
	u8 ends_with_thread : 1; /* waits no longer than the thread that submitted it lives */
	u8 big_cqe : 1;          /* fills req->big */
	u8 brief : 1;            /* never waits: workers do these in the order of submission */
	u8 exclusive : 1;        /* each event of its file is for one of them alone */
	u16 since;               /* kernel that introduced it: major * 100 + minor */
	/* Checks the SQE and copies out what issue needs. Returns 0 or -errno. submit_lock held. */
	int (*prep)(struct fu_req *req, const struct fu_sqe *sqe);
	/* Does it. Returns FU_DONE, FU_TAKEN or -errno. */
	int (*issue)(struct fu_req *req, u32 issue_flags);
	/* Frees what prep and issue have taken; called once, if FU_REQ_CLEANUP is set. */
	void (*cleanup)(struct fu_req *req);
	/* Copies out what prep has left in the program's memory, before the submission returns.
	 * NULL: prep has copied everything. Errors count as prep's. */
	int (*stable)(struct fu_req *req);
	/* The request fails: adjust res (NULL: nothing to do). */
	void (*fail)(struct fu_req *req);
	/* Describes a prepared request with its file as an AIO control block and says how it would
	 * run: FU_IOCB_*, of aio.h. NULL: never that way. submit_lock held. */
	int (*iocb)(struct fu_req *req, struct iocb *iocb);
	/* ... and what came of it, as issue() would say. */
	int (*iocb_done)(struct fu_req *req, long res);
	/* An armed request's file has `events` (EPOLL*); NULL: issue it again. As task work. */
	void (*event)(struct fu_req *req);
	/* Cancels a request that issue() has TAKEN into a structure of its own (FU_AT_OP).
	 * Returns true if the request now belongs to the caller. ctx->lock held. */
	bool (*cancel)(struct fu_req *req);
};

extern const struct fu_op fu_ops[IORING_OP_LAST];

/* ---- requests ---- */

/* The low byte is the SQE's flags as they came. */
#define FU_REQ_FIXED_FILE    IOSQE_FIXED_FILE
#define FU_REQ_DRAIN         IOSQE_IO_DRAIN
#define FU_REQ_LINK          IOSQE_IO_LINK
#define FU_REQ_HARDLINK      IOSQE_IO_HARDLINK
#define FU_REQ_ASYNC         IOSQE_ASYNC
#define FU_REQ_BUFFER_SELECT IOSQE_BUFFER_SELECT
#define FU_REQ_CQE_SKIP      IOSQE_CQE_SKIP_SUCCESS
#define FU_REQ_FAIL          (1U << 8)  /* has failed: breaks its link */
#define FU_REQ_NOWAIT        (1U << 9)  /* -EAGAIN is a result, not a reason to wait */
#define FU_REQ_CLEANUP       (1U << 10) /* op->cleanup has work to do */
#define FU_REQ_OWN_FD        (1U << 11) /* fd is our duplicate: close it */
#define FU_REQ_FILE_READY    (1U << 12) /* the file has been looked up */
#define FU_REQ_ARM_LTIMEOUT \
	(1U << 13) /* the next in the link is a timeout for this one, not armed yet */
#define FU_REQ_LTIMEOUT       (1U << 14) /* ... and has been armed */
#define FU_REQ_SKIP_LINK_CQES (1U << 15)
#define FU_REQ_BUFFER_RING    (1U << 16) /* a buffer from a ring group is in hand */
#define FU_REQ_BUFFER_LEGACY  (1U << 17) /* a buffer from a legacy group is in hand */
#define FU_REQ_BUFFERS_COMMIT (1U << 18)
#define FU_REQ_MULTISHOT      (1U << 20) /* posts more than one CQE */
#define FU_REQ_HOLDS_CTX      (1U << 22) /* counts in ctx->refs */
#define FU_REQ_FS_IDS         (1U << 24) /* a worker runs it with fsuid and fsgid */
#define FU_REQ_BUF_MORE       (1U << 25) /* the committed incremental buffer has a rest */
#define FU_REQ_LINK_FLAGS     (FU_REQ_LINK | FU_REQ_HARDLINK)
#define FU_REQ_STABLE         (1U << 26) /* op->stable has run */
/* Takes part in a drain, or heads a link that was left open: the kernel gives these to a worker. */
#define FU_REQ_SLOW    (1U << 27)
#define FU_REQ_NO_ARM  (1U << 28) /* the file cannot be polled: punt */
#define FU_REQ_BIG_CQE (1U << 29) /* post req->big with the CQE */
/* The registered file or buffer is counted for it; else it is only good under submit_lock. */
#define FU_REQ_FILE_HELD (1U << 30)
#define FU_REQ_BUF_HELD  (1U << 31)

/* Where a request that nobody is working on waits; guarded by ctx->lock. */
enum fu_where {
	FU_AT_NONE,
	FU_AT_POLLER,
	FU_AT_WORKER, /* in a worker's queue or running there */
	FU_AT_DRAIN,
	FU_AT_OP, /* in a structure of its operation: op->cancel takes it */
	/* Was with the poller and ends, cancelled, as task work: still to be found. */
	FU_AT_END,
};

#define FU_CMD_BYTES 96

struct fu_timer {
	u64 deadline_ns; /* on `clock` */
	u32 pos;         /* index in the heap plus 1; 0: not in it. Guarded by the timer lock. */
	u8 clock;
	struct fu_req *req;
};

/*
 * A new request is zero up to `user_data`; what follows is set by who uses it, but for `ctx` and
 * the two list nodes, which are always valid. The part from `record` on stays zero in a request
 * that nothing but its submitter has touched (FU_REQ_HOLDS_CTX), and is not cleared after that.
 */
struct fu_req {
	u32 flags;
	u32 cflags;
	s32 fd;
	s32 res;
	u32 sqe_fd;    /* as it stood in the SQE: what cancellation by descriptor matches */
	u16 buf_index; /* registered buffer, group, or the buffer id once one is selected */
	u16 buf_group;
	u16 poll_events;              /* armed for (poll(2) bits), for the core's own arming */
	u16 task;                     /* whose limits of workers hold for it (reg_wq.c) */
	u32 owner;                    /* the thread that submitted it (leaving.c), if it waits */
	struct fu_file_node *node;    /* registered file */
	struct fu_buf_node *buf_node; /* registered buffer */

	u16 record; /* index in ctrl->records plus 1 (orphans.c) */
	u8 where;
	u8 cancelled;    /* atomic: somebody wants it gone while it is being worked on */
	u8 worker_state; /* pool lock */
	u8 bounded;
	u8 admitted;                   /* pool lock: counts against the limit of its task */
	u8 lined;                      /* waits in a line for the file that `big` names */
	u32 worker_tid;                /* pool lock */
	u32 hash_key;                  /* worker serialisation key, 0 for none */
	u32 poll_slot;                 /* poller slot + 1; poller lock */
	u32 seen_events;               /* what the poller reported last; else when it was tracked */
	struct fu_file_info file_info; /* of a duplicate that is the request's own */
	struct fu_req *link;           /* next in the chain */
	void *kbuf;                    /* legacy provided buffer in hand */
	struct fu_cred *creds;         /* registered credentials, or NULL: the submitter's */
	void *async;                   /* copied-out data of async_bytes, freed with the request */

	u64 user_data;
	const struct fu_op *op;
	struct fu_ctx *ctx;
	struct fu_req *next; /* on the batch, task work or free list */
	void (*tw)(struct fu_req *req);
	struct fu_list hash;  /* ctx tracked requests; ctx->lock */
	struct fu_list queue; /* worker queue or drain list */
	size_t async_bytes;
	u64 big[2];
	u32 fsuid, fsgid;
	u8 opcode;
	u64 cmd[FU_CMD_BYTES / 8];
};

/* The operation's own part of a request. */
#define fu_cmd(req, type)                                                                          \
	(__extension__({                                                                           \
		_Static_assert(sizeof(type) <= FU_CMD_BYTES, #type " is too large for a request"); \
		(type *)(void *)(req)->cmd;                                                        \
	}))

/* ---- contexts ---- */

/* Threads that submit and are told apart for their limits of workers, plus 1: the others are 0. */
#define FU_TASKS 1024U

/* Requests in order; the last one's `next` means nothing before they are taken. */
struct fu_batch {
	struct fu_req *head, **tail;
};

/* A piece of the program's memory as one submission has seen it (timeout.c). */
struct fu_peek {
	u64 user;
	u32 bytes; /* 0: nothing here */
	u32 at;    /* the SQ head behind the SQE that looked last */
	u8 data[512];
};

/* Events of the poller's that have been fetched (notes.c). */
#define FU_NOTES 16U
struct fu_notes {
	u32 n;
	u32 events[FU_NOTES];
	u64 data[FU_NOTES];
	u8 sets[FU_NOTES];
	u64 busy; /* sets of which it has some */
};

struct fu_ctx {
	struct fu_ring ring;

	/* Written by the registry. */
	/* Requests in flight, others that hold it, the registry's own; FU_CTX_INSIDE for each
	 * thread in io_uring_enter. */
	u64 refs;
	u32 live;       /* FU_CTX_*; registry lock to change */
	bool hung;      /* the last descriptor has gone, perhaps while threads were inside */
	bool inherited; /* made by a process that has forked this one, or its parent */
	u64 ino;
	int peer;
	int prog_fd; /* a number under which the program has it, last we knew */
	u32 gen;     /* process generation that this context belongs to */
	u32 peer_slot;
	u32 joined; /* index of this process in ctrl->peers plus 1; ctx->lock to change */

	/* Constant after setup. */
	bool deferred; /* DEFER_TASKRUN */
	bool sqpoll;
	u32 sq_idle_ms;
	struct fu_sqpoll *sq;

	/* Guarded by submit_lock. */
	struct fu_req *link_head, *link_last;
	u16 last_task; /* who submitted last, FU_TASKS for nobody; atomic */
	bool iopoll; /* constant after setup; here because a submission looks at these five at once
	              */
	bool drain_active, drain_next, restricted;
	bool shared; /* by processes that use it: all requests leave records (orphans.c) */
	bool drain_disabled, submitting;
	int prep_error;          /* the request just issued should not have been */
	struct fu_batch done;    /* completed, CQEs not yet posted */
	u32 done_files;          /* not 0: some of these own a descriptor */
	struct fu_batch work;    /* task work of this lock holder */
	struct fu_batch outside; /* to be run once the lock is free */
	struct fu_req *cache;    /* free requests */
	struct fu_list drain;    /* requests that wait for those before them */
	struct fu_table files, bufs;
	u32 file_alloc_start, file_alloc_end, file_alloc_hint;
	struct fu_list pbufs;  /* buffer groups */
	struct fu_cred *creds; /* registered personalities */
	u32 next_personality;
	struct fu_napi_settings *napi;
	void *region; /* registered memory */
	size_t region_bytes;
	size_t wait_arg_bytes; /* of the region, if it holds wait arguments */
	bool region_user;      /* it is the program's own memory */
	bool aio_queued;       /* there is a batch to flush */
	bool no_aio;           /* there is none to be had */
	bool direct_away;      /* a worker is at an O_DIRECT request, as far as is known */
	u32 aio_missed;        /* requests that an AIO context would have served better */
	u32 started;           /* requests, less those that completed under submit_lock */
	struct fu_tally tally;
	struct fu_peek peek;
	struct fu_notes notes; /* to be handled once the lock is free */

	/* Limits of workers (reg_wq.c). */
	u64 tasks[FU_TASKS / 64]; /* atomic: who has submitted to it, by fu_self.task */
	u32 wq_limits[2];         /* as registered, 0 for none; the tasks' lock */
	u16 sq_task;              /* the SQPOLL thread's */

	/* Guarded by lock. */
	struct fu_lock lock;
	struct fu_list *hash;      /* tracked requests by user_data */
	u32 hash_size, hash_count; /* the count is read without the lock as a hint */
	u32 tracked;               /* how many there have been that no file tells of */
	struct fu_list counted;    /* timeouts that end after a number of completions */
	u32 nr_counted;

	/* Atomic. */
	u32 ended;            /* of `started`: completed without submit_lock */
	u32 drained;          /* of these: on the drain list, with their links; submit_lock */
	struct fu_req *freed; /* completed elsewhere, to go back to the cache */
	struct fu_req *tw;    /* deferred task work, newest first */
	u32 tw_pending;
	u32 iopoll_inflight;
	struct fu_aio *aio; /* submit_lock to change */
	u32 aio_slot;       /* poller slot + 1 that watches it */
	u32 poll_set;       /* the poller's set + 1 for its requests; 0: not chosen yet */
	u32 aio_inflight;
	u32 leader_listens; /* a leader sleeps, waiting for this ring */
	bool passed_on; /* one that was the first in a line has called one whose event is there */
	int evfd;
	u32 evfd_async;
	u32 evfd_signals;        /* how often it was signalled */
	struct fu_chunk *chunks; /* request memory */
};

enum { FU_CTX_FREE, FU_CTX_LIVE, FU_CTX_ENDED, FU_CTX_FREEING };

/* Requests that have not completed; exact under submit_lock but for those that end meanwhile. */
static inline u32 fu_ctx_active(const struct fu_ctx *ctx)
{
	u32 ended = __atomic_load_n(&ctx->ended, __ATOMIC_SEQ_CST);

	return fu_load_relaxed(&ctx->started) - ended;
}

/* ---- process.c, registry.c ---- */

/* Brings the engine up in this process (once per process); every entry point calls it first. */
void fu_process_enter(void);

/*
 * The context behind descriptor `fd` with a reference, for fu_ctx_put. NULL with
 * *err = -EBADF or -EOPNOTSUPP (an open file that is no ring).
 */
struct fu_ctx *fu_ctx_get(u32 fd, int *err);
/*
 * The same for io_uring_enter, and for fu_ctx_leave: until then the ring does not end, as the
 * kernel has it, though its last descriptor goes.
 */
struct fu_ctx *fu_ctx_enter(u32 fd, int *err);
void fu_ctx_leave(struct fu_ctx *ctx);
#define FU_CTX_INSIDE (1ULL << 32)
/* The same for a descriptor that may be the engine's own duplicate. */
struct fu_ctx *fu_ctx_get_file(int fd, int *err);
void fu_ctx_put(struct fu_ctx *ctx);
static inline void fu_ctx_hold(struct fu_ctx *ctx)
{
	__atomic_fetch_add(&ctx->refs, 1, __ATOMIC_RELAXED);
}
/* As fu_ctx_enter does, of one that is held already. */
static inline void fu_ctx_go_inside(struct fu_ctx *ctx)
{
	__atomic_fetch_add(&ctx->refs, FU_CTX_INSIDE, __ATOMIC_RELAXED);
}
/* A fresh context slot holding two references (registry's and caller's), or NULL. */
struct fu_ctx *fu_ctx_alloc(void);
/* Makes the context findable under `fd`. */
void fu_ctx_publish(struct fu_ctx *ctx, int fd);
/* Takes an unpublished context back. */
void fu_ctx_discard(struct fu_ctx *ctx);
/* Ends the ring if its last descriptor is gone and no thread is inside. */
void fu_ctx_look(struct fu_ctx *ctx);
/* Cancels everything, frees when the last reference goes. */
void fu_ctx_end(struct fu_ctx *ctx);
/* Makes the descriptor readable, with an edge for who waits for one. Any locks may be held. */
void fu_ctx_raise(struct fu_ctx *ctx);
/* Makes the descriptor's readability true: `fd` is the program's end. */
void fu_ctx_settle(struct fu_ctx *ctx, int fd);
/* Ends every ring whose last descriptor has gone unseen. */
void fu_registry_reap(void);

/* ---- context.c ---- */

/* A slot for a new ring: everything but its reference count. */
void fu_ctx_reset(struct fu_ctx *ctx);
/* The ring has ended: cancels everything, ends its SQPOLL thread. Caller holds a reference. */
void fu_ctx_teardown(struct fu_ctx *ctx);
/* The last reference is gone. */
void fu_ctx_free(struct fu_ctx *ctx);
/* In a forked child: keeps ring and resources, forgets the parent's requests and threads. */
void fu_ctx_adopt(struct fu_ctx *ctx, u32 gen);
/* What makes the descriptor readable: CQEs, backlog, or deferred task work. */
bool fu_ctx_has_events(struct fu_ctx *ctx);

/* ---- request.c ---- */

/* Finds memory for ctx->cache, which is empty. Returns whether there is any. submit_lock held. */
bool fu_req_refill(struct fu_ctx *ctx);

/* A new request, or NULL. submit_lock held. */
static inline struct fu_req *fu_req_alloc(struct fu_ctx *ctx)
{
	struct fu_req *req;

	if (fu_unlikely(!ctx->cache) && !fu_req_refill(ctx))
		return NULL;
	req = ctx->cache;
	ctx->cache = req->next;
	fu_clear_words(req, offsetof(struct fu_req, record));
	fu_store_relaxed(&ctx->started, ctx->started + 1);
	return req;
}

/* Memory of all requests of a dead context. */
void fu_req_free_all(struct fu_ctx *ctx);

void fu_submit_lock(struct fu_ctx *ctx);
/* Posts what was completed, runs the task work that follows from it, wakes waiters, unlocks. */
void fu_submit_unlock(struct fu_ctx *ctx);
/* The same for a caller that has a reference to ctx of its own. */
void fu_submit_release(struct fu_ctx *ctx);

static inline void fu_req_set_fail(struct fu_req *req)
{
	req->flags |= FU_REQ_FAIL;
	if (req->flags & FU_REQ_CQE_SKIP) {
		req->flags &= ~FU_REQ_CQE_SKIP;
		req->flags |= FU_REQ_SKIP_LINK_CQES;
	}
}

/* For op->fail: an error that the kernel does not count as a failure of the request. */
static inline void fu_req_unset_fail(struct fu_req *req)
{
	req->flags &= ~FU_REQ_FAIL;
	if (req->flags & FU_REQ_SKIP_LINK_CQES) {
		req->flags &= ~FU_REQ_SKIP_LINK_CQES;
		req->flags |= FU_REQ_CQE_SKIP;
	}
}

static inline void fu_req_result(struct fu_req *req, s32 res, u32 cflags)
{
	req->res = res;
	req->cflags = cflags;
}

static inline void fu_batch_init(struct fu_batch *batch)
{
	batch->tail = &batch->head;
}

static inline bool fu_batch_empty(const struct fu_batch *batch)
{
	return batch->tail == &batch->head;
}

static inline void fu_batch_add(struct fu_batch *batch, struct fu_req *req)
{
	*batch->tail = req;
	batch->tail = &req->next;
}

/* The first of the batch, or NULL; it is empty then. */
static inline struct fu_req *fu_batch_take(struct fu_batch *batch)
{
	*batch->tail = NULL;
	fu_batch_init(batch);
	return batch->head;
}

/* Counts the registered file and buffer for a request that will be there when submit_lock is not
 * held any more. submit_lock held. */
static inline void fu_req_hold_nodes(struct fu_req *req)
{
	if (req->node && !(req->flags & FU_REQ_FILE_HELD)) {
		fu_file_node_hold(req->node);
		req->flags |= FU_REQ_FILE_HELD;
	}
	if (req->buf_node && !(req->flags & FU_REQ_BUF_HELD)) {
		fu_buf_node_hold(req->buf_node);
		req->flags |= FU_REQ_BUF_HELD;
	}
}

/* Gives the request its registered file or buffer. One with a tag is held at once: the tag's CQE
 * comes after the request's. submit_lock held. */
static inline void fu_req_use_file(struct fu_req *req, struct fu_file_node *node)
{
	req->node = node;
	if (fu_unlikely(node->tag || (req->flags & FU_REQ_HOLDS_CTX)))
		fu_req_hold_nodes(req);
}

static inline void fu_req_use_buf(struct fu_req *req, struct fu_buf_node *node)
{
	req->buf_node = node;
	if (fu_unlikely(node->tag || (req->flags & FU_REQ_HOLDS_CTX)))
		fu_req_hold_nodes(req);
}

/* The request will wait: it keeps the ring and what is registered there. submit_lock held, unless
 * it does so already. */
void fu_req_keep(struct fu_req *req);

/* Completes an owned request of `ctx` with req->res. submit_lock held. */
static inline void fu_ctx_done(struct fu_ctx *ctx, struct fu_req *req)
{
	ctx->done_files |= req->flags & FU_REQ_OWN_FD;
	fu_batch_add(&ctx->done, req);
}
static inline void fu_req_done(struct fu_req *req)
{
	fu_ctx_done(req->ctx, req);
}
/* The same as task work. */
void fu_req_tw_done(struct fu_req *req);
/* Completes an owned request from any thread that does not hold submit_lock. */
void fu_req_done_async(struct fu_req *req);
/* Fails an owned request with `res`; submit_lock held. */
void fu_req_fail(struct fu_req *req, s32 res);
/* The same without submit_lock. */
void fu_req_fail_async(struct fu_req *req, s32 res);
/* Ends an owned request that fu_ctx_outside has run, with `ret`. No submit_lock held. */
void fu_req_end(struct fu_req *req, long ret);
/*
 * Has `fn(req)` run under submit_lock by whoever runs the ring's task work: at once
 * on this thread if the ring is not DEFER_TASKRUN, else when its thread enters.
 * Caller may or may not hold submit_lock of req->ctx.
 */
void fu_req_task_work(struct fu_req *req, void (*fn)(struct fu_req *req));
/* Adds to the list of deferred task work at once: `last`, and by their `next` what comes before it,
 * down to `first`; each has its tw. */
void fu_defer(struct fu_ctx *ctx, struct fu_req *last, struct fu_req *first);
/*
 * Has `fn(req)` run by this thread after it has let go of ctx's submit_lock, which it holds: for
 * what takes another ring's. `req` is the caller's own, of whatever ring; fn ends it.
 */
void fu_ctx_outside(struct fu_ctx *ctx, struct fu_req *req, void (*fn)(struct fu_req *req));
/* Tells a DEFER_TASKRUN ring's thread that there is something for it to run. */
void fu_deferred_notify(struct fu_ctx *ctx);
/* Runs deferred task work; submit_lock held. */
void fu_run_deferred(struct fu_ctx *ctx);
static inline bool fu_deferred_pending(struct fu_ctx *ctx)
{
	return fu_load_relaxed(&ctx->tw) != NULL;
}

/*
 * Posts an extra CQE for a multishot request. Returns false if there was no room and it
 * was not posted (the request then has to end). Works with and without submit_lock.
 */
bool fu_post_more(struct fu_req *req, s32 res, u32 cflags);
/* The same with the second half of a 32-byte CQE; cflags has IORING_CQE_F_32 on a mixed ring. */
bool fu_post_more_big(struct fu_req *req, s32 res, u32 cflags, const u64 *big);
/* Posts a CQE that belongs to no request here (messages, tags). Always posted, backlog if need be.
 */
void fu_post_aux(struct fu_ctx *ctx, u64 user_data, s32 res, u32 cflags);
/*
 * The same into another ring than the one whose submit_lock is held. Then timeouts that counted
 * the CQE (ctx->nr_counted) are left to the caller: fu_timeouts_counted, without that lock.
 */
void fu_post_other(struct fu_ctx *ctx, u64 user_data, s32 res, u32 cflags);
/* Wakes waiters and pollers after CQEs were committed. */
void fu_cq_notify(struct fu_ctx *ctx);
/* Wakes whoever waits in enter. */
void fu_wake_waiters(struct fu_ctx *ctx);
/* Counts the calling thread as one that waits for completions. */
void fu_waiter_counted(struct fu_ctrl *ctrl);
/* It is about to look, and then to sleep until the CQ tail is at `target`: if it is the only one,
 * what is posted before that does not wake it. */
void fu_waiter_patient(struct fu_ctrl *ctrl, u32 target);
/* Sleeps until that, from wake_seq's value `seq` on; the caller counts in `waiters`. As
 * fu_futex_wait. */
long fu_sleep_until_woken(struct fu_ctrl *ctrl, u32 seq, s64 timeout_ns);

/* Requests that are waiting somewhere are tracked for cancellation. ctx->lock held. */
void fu_track(struct fu_req *req, enum fu_where where);
void fu_untrack(struct fu_req *req);
/* The bucket of ctx->hash in which requests with `user_data` are; hash_size is not 0. */
u32 fu_track_bucket(const struct fu_ctx *ctx, u64 user_data);

/* ---- submit.c ---- */

/* Consumes up to `count` SQEs. Returns how many, or -EAGAIN. submit_lock held. */
long fu_submit_sqes(struct fu_ctx *ctx, u32 count);
/* Issues an owned, prepared request without blocking and deals with -EAGAIN. submit_lock held. */
void fu_req_issue(struct fu_req *req, u32 issue_flags);
/* The same for one without ties that has been tried elsewhere, as issue() would, with `ret`. */
void fu_req_issued(struct fu_req *req, int ret);
/* Task work: issue it now. */
void fu_req_tw_issue(struct fu_req *req);
/* Runs a punted request to its end on a worker; submit_lock not held. */
void fu_req_run_on_worker(struct fu_req *req);
/* Hands an owned request to the worker pool; submit_lock held. */
void fu_req_punt(struct fu_req *req);
/* Queues what the drain list allows; whether there was any. submit_lock held. */
bool fu_drain_run(struct fu_ctx *ctx);

/*
 * The file of a request that outlives the submission: duplicates the descriptor, so that
 * a close by the program does not change what it refers to. 0 or -errno.
 */
int fu_req_hold_file(struct fu_req *req);

/* ---- arming.c, poller.c ---- */

/*
 * A descriptor that names the request's file without being the request's own: the program's, which
 * holds as long as fu_fds_renamed has not moved on from `since`, or a registered file's. fd is -1
 * where there is none.
 */
struct fu_name {
	s32 fd;
	u32 since;
};
#define FU_NO_NAME ((struct fu_name){ .fd = -1 })
/* Taken before fu_req_hold_file. */
struct fu_name fu_req_name(const struct fu_req *req);

/*
 * Waits for `events` (EPOLL*) on req->fd, whose file must be held; called again it re-arms.
 * With EPOLLEXCLUSIVE it waits in the line for its file (lines.c). With EPOLLONESHOT what is ready
 * now counts; without it, after the first time, only what becomes ready later, and 1 with
 * req->seen_events if that has happened already, the request still being the caller's. The caller
 * owns the request, has tracked it as FU_AT_POLLER and holds ctx->lock; from success on the poller
 * owns it. Returns 0, -EPERM if the file cannot be polled, or a sandbox denies what that takes,
 * -ECANCELED if req->cancelled was set meanwhile, or -errno.
 */
int fu_poller_arm(struct fu_req *req, u32 events, struct fu_name name);
/* Tracks an owned request as armed and arms it. Returns the same; after an error the request is
 * where it was, with a worker or tracked no more. ctx->lock held. */
int fu_req_arm(struct fu_req *req, u32 events, struct fu_name name);
/* What has come since, of a request whose event is being handled; the next arming forgets it. */
u32 fu_poller_since(struct fu_req *req);
enum { FU_TAKE_GONE, FU_TAKE_OK, FU_TAKE_BUSY };
/* Takes an armed request back: OK, or BUSY if an event is being handled (then, to `cancel` it,
 * req->cancelled is set and the handler ends it). ctx->lock held. */
int fu_poller_take(struct fu_req *req, bool cancel);
/* Whether a request whose event is being handled would find nothing: another of its herd (herds.c)
 * has not, and nothing has come since. */
bool fu_poller_finds_nothing(const struct fu_req *req);
/* The owner of a request that has been armed is done with the poller. */
void fu_poller_release(struct fu_req *req);
/* The same of its place in a line: calls the next one there. ctx->lock not held. */
void fu_poller_pass_on(struct fu_req *req);
/* What the poller calls when an armed request's file has `events`; the callee owns it. */
void fu_poll_event(struct fu_req *req, u32 events);
/* The same for all that next(arg) gives, until that is NULL, with their events. They are of the
 * ring, which the caller holds: nobody sees what comes of one before all have had their turn, or
 * are in the list of deferred task work. */
void fu_poll_events(struct fu_ctx *ctx, struct fu_req *(*next)(void *arg, u32 *events), void *arg);
/* Watches a ring's peer for the hang-up. */
void fu_poller_watch_ring(struct fu_ctx *ctx);
void fu_poller_unwatch_ring(struct fu_ctx *ctx);
/* Watches a ring's AIO eventfd: fu_aio_event at each completion. 0 or -errno. */
int fu_poller_watch_aio(struct fu_ctx *ctx, int efd);
void fu_poller_unwatch_aio(struct fu_ctx *ctx);
/* Starts the poller thread if there is none. 0 or -errno. */
int fu_poller_start(void);
/* The poller thread's id, 0 while there is none. */
u32 fu_poller_tid(void);
void fu_poller_reset(void);

/* ---- timer.c ---- */

/* Arms a timer: `fire(req)` runs on the poller thread once, unless taken before. 0 or -errno. */
int fu_timer_arm(struct fu_timer *timer, u32 clock, u64 deadline_ns);
/* Takes it out: true if it had not fired. */
bool fu_timer_take(struct fu_timer *timer);
/* Called by the poller. */
void fu_timers_expire(u32 clock);
/* The timer descriptors are gone: the next ones start unset. */
void fu_timers_unprogram(void);
void fu_timers_reset(void);
u64 fu_now_ns(u32 clock);
/* timeout.c: what a fired timer does; the callee owns timer->req. */
void fu_timer_fired(struct fu_timer *timer);
/* timeout.c: CQEs were committed: ends the timeouts that counted them. */
void fu_timeouts_counted(struct fu_ctx *ctx);

/* ---- worker.c ---- */

/* Queues an owned request for a worker. 0, or -errno when there can be no worker at all. */
int fu_pool_queue(struct fu_req *req);
/* Whether requests of the kind that runs in order are on workers, or on their way, for its file. */
bool fu_pool_has_key(const struct fu_req *req);
/* Takes a queued request out (OK), or interrupts the worker that runs it (BUSY). */
int fu_pool_take(struct fu_req *req);
void fu_pool_reset(void);
/* No more than `max` requests of `task` and class (IO_WQ_*) at once from now on; 0: no limit. */
void fu_pool_limit(u32 task, u32 which, u32 max);
/* Binds all workers to the processors in `mask`; NULL: lets them run anywhere again. */
void fu_pool_affinity(const void *mask, size_t bytes);
/* The last ring of the process has gone: idle workers leave. */
void fu_pool_idle(void);

/* ---- thread.c ---- */

/* Starts a detached engine thread with all signals blocked. 0 or -errno. */
int fu_thread_start(void *(*fn)(void *), void *arg);

/* ---- sqpoll.c ---- */

int fu_sqpoll_start(struct fu_ctx *ctx, const struct fu_params *p);
/* Ends the thread; returns when it no longer touches the ring. */
void fu_sqpoll_stop(struct fu_ctx *ctx);
void fu_sqpoll_wake(struct fu_ctx *ctx);
/* Waits until the SQ has room. 0 or -EINTR... */
long fu_sqpoll_wait_room(struct fu_ctx *ctx);
bool fu_sqpoll_dead(struct fu_ctx *ctx);

/* ---- wait.c ---- */

struct fu_wait_arg {
	const void *sigmask; /* user pointer or NULL */
	size_t sigmask_bytes;
	bool has_deadline;
	u64 deadline_ns; /* on `clock` */
	u32 clock;
	u64 min_wait_ns;
	u32 fd;
};
long fu_wait_cqes(struct fu_ctx *ctx, u32 min_complete, const struct fu_wait_arg *arg);
long fu_iopoll_reap(struct fu_ctx *ctx, u32 min_complete);

/* ---- cancel.c ---- */

struct fu_cancel {
	struct fu_ctx *ctx;
	u64 user_data;
	u32 flags; /* IORING_ASYNC_CANCEL_* */
	s32 fd;    /* compared with the request's SQE descriptor */
	u8 opcode;
	u32 seq;
	struct fu_req *self; /* never matches */
};
/* Cancels matching requests of this process: count, -ENOENT, or -EALREADY. submit_lock held. */
long fu_cancel(struct fu_cancel *cd);
/* The first half, for which no lock is needed: *taken are the caller's, to be ended by the second.
 */
long fu_cancel_take(struct fu_cancel *cd, struct fu_req **taken);
/* submit_lock held. */
void fu_cancel_end(struct fu_req *taken);
/* Cancels everything of a ring that goes away. submit_lock not held. */
void fu_cancel_everything(struct fu_ctx *ctx);
/* Ends an owned request with -ECANCELED, after what completes now: the cancellation itself comes
 * first. submit_lock held. */
void fu_req_cancelled(struct fu_req *req);
/* Takes one tracked request for cancellation: FU_TAKE_*. ctx->lock held. */
int fu_req_take(struct fu_req *req);

/* ---- linked timeouts (timeout.c) ---- */

/* After req has been issued and is still pending: arm the timeout that follows it. submit_lock
 * held. */
void fu_ltimeout_arm(struct fu_req *req);
/* req has been issued and is done at once. A timeout that has been due by then ends, having found
 * nothing: it began with the request. submit_lock held. */
void fu_ltimeout_missed(struct fu_req *req);
/* req has completed: take its timeout, never armed or not yet fired, out of the chain. submit_lock
 * held. */
void fu_ltimeout_disarm(struct fu_req *req);

#endif
