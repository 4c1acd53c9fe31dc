/*
 * Provided buffers: groups from which a request picks its buffer when it runs.
 * Guarded by submit_lock; the worker-side calls take it themselves.
 */
#ifndef FU_KBUF_H
#define FU_KBUF_H

#include "engine/engine.h"

/* Frees all groups of a ring that has ended. */
void fu_pbufs_free(struct fu_ctx *ctx);

#endif
