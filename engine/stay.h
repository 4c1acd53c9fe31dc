/*
 * What a thread holds while it is inside io_uring_enter: a reference to the ring's context, and a
 * place among those who wait. A signal handler may leave by siglongjmp and never come back for it;
 * so it is written down here, apart from the stack, and given back by whoever learns of the jump.
 */
#ifndef FU_STAY_H
#define FU_STAY_H

#include "engine/engine.h"

/* A handler may itself enter, and be interrupted: beyond so many the outermost is forgotten, and
 * what it holds with it. */
#define FU_STAYS 8U

struct fu_stay {
	struct fu_ctx *ctx;
	uintptr_t frame;   /* of io_uring_enter */
	uintptr_t handler; /* of the outermost handler that has interrupted it, or 0 */
	u32 id;            /* tells it from those that are over */
	bool waits;        /* counts in ctrl->waiters */
};

/* Written by its thread, and by its signal handlers while that is not critical. */
struct fu_stays {
	u32 gen; /* the process that they are of */
	u32 last_id;
	u32 n;
	struct fu_stay at[FU_STAYS];
};
extern __thread struct fu_stays fu_stays __attribute__((tls_model("initial-exec")));

void fu_stays_full(void);
bool fu_stay_end_slow(u32 id);

/*
 * Around the time that a reference to `ctx` is held, with critical above 0. fu_stay_end takes what
 * fu_stay_begin has returned. False: whoever holds the reference has lost it, to a jump that looked
 * as if it left for good. So it is with coroutines that a signal handler switches.
 */
static inline u32 fu_stay_begin(struct fu_ctx *ctx, const void *frame)
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
	return stay->id = ++s->last_id;
}

static inline bool fu_stay_end(u32 id)
{
	struct fu_stays *s = &fu_stays;

	if (fu_unlikely(!s->n || s->at[s->n - 1].id != id))
		return fu_stay_end_slow(id);
	s->n--;
	return true;
}

/*
 * Counts the thread among those that wait for its ring, and out again. fu_stay_waited takes what
 * fu_stay_waits has returned.
 */
u32 fu_stay_waits(struct fu_ctx *ctx);
void fu_stay_waited(struct fu_ctx *ctx, u32 id);

/* The thread exits: gives back all that is left. */
void fu_stays_leave(void);

#endif
