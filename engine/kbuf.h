/*
 * Provided buffers: groups from which a request picks its buffer when it runs.
 *
 * The life of a selection: fu_kbuf_select (or _peek for several) at the moment of the
 * attempt; then either fu_kbuf_put with what was transferred, which gives the CQE's
 * flags, or fu_kbuf_recycle when nothing was and the request waits for its file. All
 * of it under submit_lock: a worker takes the lock around it. A selection that has to
 * outlive the lock is committed by selecting it (FU_KBUF_COMMIT): its buffers are gone from
 * the ring whatever happens. What a failing request still has in hand is put by
 * fu_req_fail.
 *
 * req->buf_group names the group; req->buf_index is the buffer's id once one is in
 * hand, which FU_REQ_BUFFER_RING or FU_REQ_BUFFER_LEGACY say.
 */
#ifndef FU_KBUF_H
#define FU_KBUF_H

#include <sys/uio.h>

#include "engine/engine.h"

/* Most buffers that one bundle takes. */
#define FU_KBUF_BUNDLE_MAX 256U

/* The request is to select a buffer and has none in hand. */
static inline bool fu_kbuf_wanted(const struct fu_req *req)
{
	return (req->flags & (FU_REQ_BUFFER_SELECT | FU_REQ_BUFFER_RING | FU_REQ_BUFFER_LEGACY)) ==
	       FU_REQ_BUFFER_SELECT;
}

/*
 * Selects one buffer. *len: the most that is wanted, 0 for all of it; becomes what the
 * buffer holds of that. With `commit` the buffer is consumed (by *len bytes, in an
 * incremental ring) at once. 0 or -ENOBUFS. submit_lock held.
 */
int fu_kbuf_select(struct fu_req *req, u64 *addr, u32 *len, bool commit);

struct fu_kbuf_bundle {
	struct iovec *iov; /* where the buffers go, room for nr_max */
	u32 nr_max;
	u64 max_len;    /* most bytes wanted in all, 0: as much as there is */
	u32 nr;         /* out: buffers selected */
	u64 out_len;    /* out: their bytes */
	bool empty;     /* out: they are the last of the group */
	bool truncated; /* out: the last one is cut to max_len */
};
/*
 * Selects several buffers of a ring; one of a legacy group. With `commit` they are
 * consumed at once (sends: the order of the data is settled by it), and not given
 * back by recycling. 0, -ENOBUFS, or -ENOENT for a group that does not exist.
 * submit_lock held.
 */
int fu_kbuf_peek(struct fu_req *req, struct fu_kbuf_bundle *b, bool commit);

/*
 * Consumes the buffers in hand for a transfer of `len` bytes that began in the first of
 * `nr`, and goes on: they stay in hand. submit_lock held if they are not yet committed.
 */
void fu_kbuf_commit(struct fu_req *req, s64 len, u32 nr);

/*
 * Ends a selection: consumes what has not been committed and returns IORING_CQE_F_BUFFER
 * with the (first) buffer's id and IORING_CQE_F_BUF_MORE; 0 without a buffer in hand.
 * submit_lock held if they are not yet committed.
 */
u32 fu_kbuf_put(struct fu_req *req, s64 len, u32 nr);

/*
 * Gives back what is in hand as if it had never been selected; a ring's committed
 * buffers only leave the hand. submit_lock held.
 */
void fu_kbuf_recycle(struct fu_req *req);

/* How many of the bundle's buffers `len` bytes have touched. */
u32 fu_kbuf_touched(const struct iovec *iov, u32 nr, u64 len);

/* PROVIDE_BUFFERS and REMOVE_BUFFERS. */
int fu_provide_buffers_prep(struct fu_req *req, const struct fu_sqe *sqe);
int fu_remove_buffers_prep(struct fu_req *req, const struct fu_sqe *sqe);
int fu_buffers_issue(struct fu_req *req, u32 issue_flags);

/* io_uring_register; submit_lock held. */
long fu_reg_pbuf_ring(struct fu_ctx *ctx, void *arg, u32 nr);
long fu_unreg_pbuf_ring(struct fu_ctx *ctx, void *arg, u32 nr);
long fu_reg_pbuf_status(struct fu_ctx *ctx, void *arg, u32 nr);

/*
 * mmap of the buffer ring that the offset names: the address or -errno, -ENOMEM if there
 * is none. Takes submit_lock.
 */
long fu_pbuf_map(struct fu_ctx *ctx, void *addr, size_t len, int prot, int flags, u64 off);

/* Frees all groups of a ring that has ended. */
void fu_pbufs_free(struct fu_ctx *ctx);

#endif
