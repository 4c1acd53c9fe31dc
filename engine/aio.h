/*
 * The Linux AIO backend: reads and writes of one submission go to the kernel in one io_submit,
 * and O_DIRECT ones run there without any thread. An operation takes part by describing a
 * request as a control block (fu_op.iocb); see aio.c.
 */
#ifndef FU_AIO_H
#define FU_AIO_H

#include <linux/aio_abi.h>

#include "engine/engine.h"

/* What fu_op.iocb says of a request. */
enum {
	FU_IOCB_NONE,     /* not for this way */
	FU_IOCB_INLINE,   /* ends before io_submit returns, never waits */
	FU_IOCB_BLOCKING, /* a read: the same, but may wait for a device: as many as the file is
	                     trusted with */
	FU_IOCB_ASYNC,    /* goes on in the kernel */
};

/*
 * Takes an owned, assigned request into the ring's batch if it can go that way. `left`: how many
 * others follow in the same submission; alone only an asynchronous one is worth it. Returns whether
 * the request was taken. A batch that is full with it is flushed. submit_lock held.
 */
bool fu_aio_add(struct fu_req *req, u32 left);

/* Issues the batch and completes what has ended. submit_lock held. */
void fu_aio_flush(struct fu_ctx *ctx);

/* Completes what has ended meanwhile. submit_lock held; on a DEFER_TASKRUN ring its thread only. */
void fu_aio_reap(struct fu_ctx *ctx);

/* Whether there is anything to reap; no lock, no system call. */
bool fu_aio_ready(const struct fu_ctx *ctx);

/* The poller's: something has ended. Holds no lock. */
void fu_aio_event(struct fu_ctx *ctx);

/* The context is being freed: nothing is in flight. */
void fu_aio_release(struct fu_ctx *ctx);

/* In a forked child: the kernel's side stayed with the parent. */
void fu_aio_reset(void);
void fu_aio_adopt(struct fu_ctx *ctx);

#endif
