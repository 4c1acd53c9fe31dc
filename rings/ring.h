/*
 * One ring's memory: what the program sees (SQ ring, CQ ring, SQEs) and the
 * control block that coordinates it (locks, cached indices, overflow backlog,
 * waiters). All of it lies in one shared mapping, so that a forked child works
 * on the same ring; struct fu_ring is this process's view of it.
 *
 * The program may write anything into its part at any time. The engine keeps
 * its own copy of every size, mask and of its own index (cached_sq_head,
 * cached_cq_tail), and masks whatever it reads, so a corrupted ring yields
 * wrong completions but never an access outside the mapping.
 */
#ifndef FU_RING_H
#define FU_RING_H

#include "rings/abi.h"
#include "rings/lock.h"
#include "rings/types.h"

/* A CQE that waits for room in the CQ ring. */
struct fu_overflow {
	struct fu_cqe cqe;
	u64 big[2];
};

/* A process with requests in the ring. */
struct fu_peer {
	u32 pid; /* 0: free */
	u32 tid; /* of the thread that answers for it; 0: not there yet */
};

/* What one process asks another: to cancel requests (engine/peers.c). */
struct fu_question {
	struct fu_lock lock; /* one asks at a time; guards what follows until it is asked */
	u32 state;           /* futex: number of the question, and how far it is */
	u32 to;              /* index in peers */
	u32 flags;           /* IORING_ASYNC_CANCEL_* */
	s32 fd;
	u32 opcode;
	u64 user_data;
	s64 answer; /* written by the one who is asked */
};

/* A request of a shared ring (engine/orphans.c). */
struct fu_record {
	u32 owner;   /* a thread's id, 0: free */
	u32 silent;  /* a cancellation of it is not reported */
	u32 from;    /* the SQ head behind its SQE, if it was made when that was taken */
	u32 closing; /* its CQE is being posted: what fu_cq_posted will be then, else 0 */
	u64 user_data;
	u64 due_ns; /* a timeout's end on CLOCK_MONOTONIC, else 0 */
};

#define FU_PEERS   256U
#define FU_RECORDS 512U

/* What may be submitted and registered (engine/restrict.c). */
struct fu_restrictions {
	u64 register_ops; /* bit n: IORING_REGISTER_n is allowed */
	u64 sqe_ops[4];
	u8 sqe_flags_allowed, sqe_flags_required;
	u8 registered;
};

/* The shared control block, first in the mapping. */
struct fu_ctrl {
	/* Constant after creation. */
	u32 setup_flags;
	u32 creator; /* the process's id, as fu_tid_of has it */
	u64 ino;     /* of the program's end of the ring descriptor */

	/* Submission: written under submit_lock. */
	__attribute__((aligned(FU_CACHELINE))) struct fu_lock submit_lock;
	u32 cached_sq_head;
	u32 disabled;   /* IORING_SETUP_R_DISABLED and not yet enabled */
	u32 submitter;  /* tid that alone may submit (SINGLE_ISSUER), 0 if not yet known */
	u32 restricted; /* `restrictions` are in force */
	u32 clock_id;   /* of waits */
	struct fu_restrictions restrictions;

	/* Completion: written under cq_lock, cached_cq_tail read by waiters. */
	__attribute__((aligned(FU_CACHELINE))) struct fu_lock cq_lock;
	u32 cached_cq_tail;     /* next index to fill; the shared tail follows at commit */
	u32 ovf_head, ovf_tail; /* backlog, free running */
	u32 cq_timeouts;        /* timeouts that fired: a waiter returns early on a change */

	/* Waiting: waiters counts those who wait, wake_seq is what they sleep on. sleeps is set by
	 * who is about to, and taken back by who wakes them: the others have no call to make. */
	__attribute__((aligned(FU_CACHELINE))) u32 wake_seq;
	u32 waiters;
	u32 sleeps;
	u64 patience; /* what the only waiter waits for: FU_PATIENT and a CQ tail; else 0 */
	u32 raised;   /* the ring descriptor is readable: FU_RAISED, or FU_RAISING */
	u32 late;     /* perhaps it is though it was lowered: a byte came too late for that */
	u32 polled;   /* somebody polls the descriptor: FU_POLLED_* */
	u32 sq_wake;  /* what the SQPOLL thread sleeps on */
	u32 ended;    /* the last descriptor is gone */
	u32 shared;   /* others may have requests here too: FU_SHARED_*; only grows */

	/* Several processes: entries of peers are taken by compare-and-swap of the pid. */
	__attribute__((aligned(FU_CACHELINE))) struct fu_question question;
	struct fu_peer peers[FU_PEERS];
	u32 records_top;  /* no record at or above has ever been used; atomic */
	u32 records_next; /* where to look for a free one first; FU_RECORDS: there is none */
	struct fu_record records[FU_RECORDS];
};

#define FU_RAISED  1U
#define FU_RAISING 2U /* somebody is about to send its byte, or has died before that */

#define FU_PATIENT (1ULL << 32)

#define FU_SHARED_FORKED 1U /* there has been a child */
#define FU_SHARED_USED   2U /* which uses the ring */

#define FU_POLLED_LEVEL 1U
#define FU_POLLED_EDGE  2U

/* Offsets inside the program's ring region: the kernel's own. */
#define FU_OFF_SQ_HEAD     0U
#define FU_OFF_SQ_TAIL     4U
#define FU_OFF_CQ_HEAD     8U
#define FU_OFF_CQ_TAIL     12U
#define FU_OFF_SQ_MASK     16U
#define FU_OFF_CQ_MASK     20U
#define FU_OFF_SQ_ENTRIES  24U
#define FU_OFF_CQ_ENTRIES  28U
#define FU_OFF_SQ_DROPPED  32U
#define FU_OFF_SQ_FLAGS    36U
#define FU_OFF_CQ_FLAGS    40U
#define FU_OFF_CQ_OVERFLOW 44U
#define FU_OFF_CQES        64U

struct fu_ring {
	struct fu_ctrl *ctrl;
	u32 setup_flags;
	u32 sq_entries, cq_entries;
	u32 sqe_shift; /* log2 of an SQE's size */
	u32 cqe_shift; /* log2 of a CQE slot's size */
	u32 ovf_mask;

	/* The program's memory. */
	u8 *rings;
	struct fu_sqe *sqes;
	u32 *sq_head, *sq_tail, *sq_flags, *sq_dropped, *sq_array;
	u32 *cq_head, *cq_tail, *cq_flags, *cq_overflow;
	u8 *cqes;
	struct fu_overflow *ovf;

	/* The mapping behind it. */
	void *seg;
	size_t seg_bytes, rings_off, rings_bytes, sqes_off, sqes_bytes, ovf_off;
	bool user_memory; /* IORING_SETUP_NO_MMAP */

	/* After a resize: where the program's part is now, and where it was before. */
	struct fu_view *views;
};

/*
 * Checks entries and flags of io_uring_setup as the kernel does and fills in
 * p->sq_entries, p->cq_entries and the offsets. Returns 0 or -EINVAL.
 */
int fu_ring_layout(u32 entries, struct fu_params *p);

/*
 * Maps the ring described by a checked `p` and initialises it. With NO_MMAP the
 * program's own memory is taken in place. Returns 0, -ENOMEM, -EFAULT or -EINVAL.
 */
int fu_ring_create(struct fu_ring *ring, const struct fu_params *p);

void fu_ring_destroy(struct fu_ring *ring);

/*
 * Serves mmap(NULL, len, prot, flags, ringfd, off) for the offsets of the ring's own
 * regions. Returns the address or -errno, -ENOMEM for an offset that names nothing.
 */
long fu_ring_map(struct fu_ring *ring, size_t len, int prot, int flags, u64 off);

/*
 * Maps a second view, `len` long, of the `bytes` at `src`, a shared mapping, as mmap(addr,
 * len, prot, flags) would; what is longer than `bytes` has no access.
 */
long fu_map_alias(void *src, size_t bytes, size_t len, void *addr, int prot, int flags);

/*
 * Moves the ring into memory of the sizes in `p`, checked by fu_ring_layout, with the SQEs
 * and CQEs that are in it. Both locks held. 0, -EOVERFLOW if they do not fit, -ENOMEM,
 * -EFAULT or -EINVAL for the memory that NO_MMAP gives; nothing has changed after an error.
 * A thread that is looking at the old memory meanwhile sees what it was.
 */
int fu_ring_resize(struct fu_ring *ring, const struct fu_params *p);

/*
 * Puts the engine's own view of the program's memory at `user` into `view`, a shared
 * mapping: a second mapping if the program's is shared; if it is private, a shared copy
 * takes its place, so that the view outlives whatever the program does to its own.
 * 0, -EINVAL if it is not page-aligned, -EFAULT.
 */
int fu_ring_take_memory(void *view, size_t bytes, u64 user);

/* ---- submission queue; ctrl.submit_lock held ---- */

/* SQEs that the program has published and nobody has consumed. */
static inline u32 fu_sq_pending(const struct fu_ring *ring)
{
	u32 n = fu_load_acquire(ring->sq_tail) - ring->ctrl->cached_sq_head;

	return n < ring->sq_entries ? n : ring->sq_entries;
}

/* The SQE of a slot, in memory that the program may change under us, or NULL if the slot's index
 * is out of range. */
static inline const struct fu_sqe *fu_sq_at(const struct fu_ring *ring, u32 head)
{
	u32 index = head & (ring->sq_entries - 1);

	if (fu_likely(ring->sq_array)) {
		index = fu_load_relaxed(&ring->sq_array[index]);
		if (fu_unlikely(index >= ring->sq_entries))
			return NULL;
	}
	return (const void *)((const u8 *)ring->sqes + ((size_t)index << ring->sqe_shift));
}

/* Consumes one SQ slot. Returns as fu_sq_at; if it is NULL sq_dropped has grown. */
static inline const struct fu_sqe *fu_sq_next(struct fu_ring *ring)
{
	const struct fu_sqe *sqe = fu_sq_at(ring, ring->ctrl->cached_sq_head++);

	if (fu_unlikely(!sqe))
		fu_store_relaxed(ring->sq_dropped, fu_load_relaxed(ring->sq_dropped) + 1);
	return sqe;
}

/* Publishes the consumed head. */
static inline void fu_sq_commit(struct fu_ring *ring)
{
	fu_store_release(ring->sq_head, ring->ctrl->cached_sq_head);
}

static inline void fu_sq_flags_set(struct fu_ring *ring, u32 bits)
{
	__atomic_fetch_or(ring->sq_flags, bits, __ATOMIC_SEQ_CST);
}

static inline void fu_sq_flags_clear(struct fu_ring *ring, u32 bits)
{
	__atomic_fetch_and(ring->sq_flags, ~bits, __ATOMIC_SEQ_CST);
}

/* ---- completion queue; ctrl.cq_lock held, but for fu_cq_ready ---- */

/* CQEs in the ring that the program has not taken, capped at the ring's size. */
static inline u32 fu_cq_ready(const struct fu_ring *ring)
{
	u32 n = fu_load_acquire(ring->cq_tail) - fu_load_relaxed(ring->cq_head);

	return n < ring->cq_entries ? n : ring->cq_entries;
}

static inline bool fu_cq_overflown(const struct fu_ring *ring)
{
	return fu_load_relaxed(&ring->ctrl->ovf_head) != fu_load_relaxed(&ring->ctrl->ovf_tail);
}

/* How many CQEs there have ever been, in the ring or in the backlog. */
static inline u32 fu_cq_posted(const struct fu_ctrl *ctrl)
{
	return fu_load_relaxed(&ctrl->cached_cq_tail) + fu_load_relaxed(&ctrl->ovf_tail) -
	       fu_load_relaxed(&ctrl->ovf_head);
}

/*
 * Fills the next CQE, or puts it into the backlog if the CQ is full or the backlog
 * is not empty. `big` points to 16 bytes more for 32-byte CQEs, or is NULL. The
 * program sees nothing before fu_cq_commit. Returns false if it went to the backlog.
 */
bool fu_cq_post(struct fu_ring *ring, u64 user_data, s32 res, u32 flags, const u64 *big);

/*
 * Many CQEs in a row: fu_cq_open says where there is room for them, fu_cq_put fills one in line,
 * fu_cq_close counts them in, as fu_cq_post would have each. Nothing else posts in between.
 */
struct fu_cq_span {
	struct fu_cqe *cqes;
	u32 mask, first, tail, end;
};

/* No room where there is a backlog, or CQEs of other sizes. */
static inline void fu_cq_open(const struct fu_ring *ring, struct fu_cq_span *span)
{
	u32 tail = ring->ctrl->cached_cq_tail;
	u32 used = tail - fu_load_acquire(ring->cq_head);

	span->cqes = (struct fu_cqe *)(void *)ring->cqes;
	span->mask = ring->cq_entries - 1;
	span->first = span->tail = span->end = tail;
	if (fu_likely(!(ring->setup_flags & (IORING_SETUP_CQE32 | IORING_SETUP_CQE_MIXED)) &&
	              !fu_cq_overflown(ring) && used < ring->cq_entries))
		span->end = tail + (ring->cq_entries - used);
}

static inline bool fu_cq_put(struct fu_cq_span *span, u64 user_data, s32 res, u32 flags)
{
	if (fu_unlikely(span->tail == span->end))
		return false;
	span->cqes[span->tail++ & span->mask] = (struct fu_cqe){ user_data, res, flags };
	return true;
}

/* Returns how many there were. */
static inline u32 fu_cq_close(const struct fu_ring *ring, const struct fu_cq_span *span)
{
	fu_store_relaxed(&ring->ctrl->cached_cq_tail, span->tail);
	return span->tail - span->first;
}

/* As fu_cq_post, but returns false and posts nothing when there is no room. */
bool fu_cq_post_noflow(struct fu_ring *ring, u64 user_data, s32 res, u32 flags, const u64 *big);

/* Moves backlog into the CQ ring as far as it fits; clears IORING_SQ_CQ_OVERFLOW when empty. */
void fu_cq_flush_overflow(struct fu_ring *ring);

/* Publishes filled CQEs. Returns true if there were any. */
bool fu_cq_commit(struct fu_ring *ring);

/* ---- the ring's descriptor ---- */

/*
 * Makes a ring descriptor for the program (lowest free number, close-on-exec) and the
 * engine's peer of it (high number). Returns 0, -EMFILE, -ENFILE or -ENOMEM.
 */
int fu_ringfd_create(int *prog, int *peer, u64 *ino);

/* True once the last copy of the program's end has been closed, in whatever process. */
bool fu_ringfd_hung_up(int peer);

/* Makes the program's end readable, with one more edge if it is. False if it holds so many that
 * none fits: then there is none before it has been lowered. */
bool fu_ringfd_raise(struct fu_ctrl *ctrl, int peer);
/* Whether it is readable: what is about to be may never be. */
static inline bool fu_ringfd_is_raised(const struct fu_ctrl *ctrl)
{
	return fu_load_relaxed(&ctrl->raised) == FU_RAISED;
}
/* Whether there may be a byte to take out. */
static inline bool fu_ringfd_may_be_readable(const struct fu_ctrl *ctrl)
{
	return fu_load_relaxed(&ctrl->raised) || fu_load_relaxed(&ctrl->late);
}
/* Makes it unreadable; `fd` is the program's end. */
void fu_ringfd_lower(struct fu_ctrl *ctrl, int fd);

#endif
