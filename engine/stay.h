/*
 * What a thread holds while it is inside io_uring_enter: a reference to the ring's context, and a
 * place among those who wait. A signal handler may leave by siglongjmp and never come back for it;
 * so it is written down here, apart from the stack, and given back by whoever learns of the jump.
 */
#ifndef FU_STAY_H
#define FU_STAY_H

#include "engine/engine.h"

/* A handler may itself enter, and be interrupted: beyond so many the outermost is forgotten. */
#define FU_STAYS 4U

struct fu_stay {
	struct fu_ctx *ctx;
	uintptr_t frame;   /* of io_uring_enter */
	uintptr_t handler; /* of the outermost handler that has interrupted it, or 0 */
	bool waits;        /* counts in ctrl->waiters */
};

/* Written by its thread, and by its signal handlers while that is not critical. */
struct fu_stays {
	u32 gen; /* the process that they are of */
	u32 n;
	struct fu_stay at[FU_STAYS];
};
extern __thread struct fu_stays fu_stays __attribute__((tls_model("initial-exec")));

void fu_stays_full(void);

/* Around the time that a reference to `ctx` is held, with critical above 0. */
static inline void fu_stay_begin(struct fu_ctx *ctx, const void *frame)
{
	struct fu_stays *s = &fu_stays;
	struct fu_stay *stay;

	if (fu_unlikely(s->gen != fu_load_relaxed(&fu_wipe->gen) || s->n == FU_STAYS))
		fu_stays_full();
	stay = &s->at[s->n++];
	stay->ctx = ctx;
	stay->frame = (uintptr_t)frame;
	stay->handler = 0;
	stay->waits = false;
}

static inline void fu_stay_end(void)
{
	if (fu_likely(fu_stays.n))
		fu_stays.n--;
}

/* Counts the thread among those that wait for its ring, and out again. */
void fu_stay_waits(struct fu_ctx *ctx);
void fu_stay_waited(struct fu_ctx *ctx);

/* The thread exits: gives back all that is left. */
void fu_stays_leave(void);

#endif
