/*
 * Jumps out of io_uring_enter; see stay.h. The preload layer tells of each longjmp where it goes.
 * One that leaves a handler which has interrupted a wait goes to a frame further out on the same
 * stack than the wait's. One within the handler goes to a frame between the two; and one to another
 * stack may come back, so nothing is given back then. Where that stack lies close above it cannot
 * be told from this one, and the wait finds on its return that it holds nothing any more.
 */
#include "engine/stay.h"

#include "engine/entry.h"
#include "engine/leader.h"
#include "rings/mem.h"

/* Frames further apart than this are taken for those of different stacks. */
#define STACK_BYTES (1UL << 20)

__thread struct fu_stays fu_stays __attribute__((tls_model("initial-exec")));

static void forget(u32 index)
{
	struct fu_stays *s = &fu_stays;

	s->n--;
	for (u32 i = index; i < s->n; i++)
		fu_memcpy(&s->at[i], &s->at[i + 1], sizeof(s->at[i]));
}

void fu_stays_full(void)
{
	struct fu_stays *s = &fu_stays;

	/* In a forked child they are the parent's. */
	if (s->gen != fu_load_relaxed(&fu_wipe->gen)) {
		s->gen = fu_load_relaxed(&fu_wipe->gen);
		s->n = 0;
		return;
	}
	forget(0);
}

static struct fu_stay *find(u32 id)
{
	struct fu_stays *s = &fu_stays;

	for (u32 i = s->n; i-- > 0;) {
		if (s->at[i].id == id)
			return &s->at[i];
	}
	return NULL;
}

bool fu_stay_end_slow(u32 id)
{
	struct fu_stay *stay = find(id);

	if (!stay)
		return false;
	forget((u32)(stay - fu_stays.at));
	return true;
}

u32 fu_stay_waits(struct fu_ctx *ctx)
{
	struct fu_stays *s = &fu_stays;
	u32 id = 0;

	fu_critical_enter();
	fu_waiter_counted(ctx->ring.ctrl);
	if (s->n && s->at[s->n - 1].ctx == ctx) {
		s->at[s->n - 1].waits = true;
		id = s->at[s->n - 1].id;
	}
	fu_critical_leave();
	return id;
}

void fu_stay_waited(struct fu_ctx *ctx, u32 id)
{
	struct fu_stay *stay;

	fu_critical_enter();
	stay = find(id);
	/* Who has been given back is counted no more. */
	if (stay || !id)
		__atomic_fetch_sub(&ctx->ring.ctrl->waiters, 1, __ATOMIC_SEQ_CST);
	if (stay)
		stay->waits = false;
	fu_critical_leave();
}

static void give_back(void)
{
	struct fu_stay stay = fu_stays.at[--fu_stays.n];

	if (stay.waits)
		__atomic_fetch_sub(&stay.ctx->ring.ctrl->waiters, 1, __ATOMIC_SEQ_CST);
	fu_leader_not_waiting();
	fu_ctx_leave(stay.ctx);
}

static bool has_any(void)
{
	return fu_unlikely(fu_stays.n) && !fu_self.critical &&
	       fu_stays.gen == fu_load_relaxed(&fu_wipe->gen);
}

void fu_stays_leave(void)
{
	if (!has_any())
		return;
	fu_critical_enter();
	while (fu_stays.n)
		give_back();
	fu_critical_leave();
}

void fu_jumps(uintptr_t from, uintptr_t to)
{
	if (!has_any())
		return;
	fu_critical_enter();
	while (fu_stays.n) {
		const struct fu_stay *stay = &fu_stays.at[fu_stays.n - 1];
		bool inside = stay->handler && to > from && to <= stay->handler;

		if (inside || to <= stay->frame || to - stay->frame > STACK_BYTES)
			break;
		give_back();
	}
	fu_critical_leave();
}

bool fu_stay_interrupted(uintptr_t frame)
{
	struct fu_stay *stay;

	if (!has_any())
		return false;
	stay = &fu_stays.at[fu_stays.n - 1];
	if (stay->handler)
		return false;
	stay->handler = frame;
	return true;
}

void fu_stay_resumed(void)
{
	if (has_any())
		fu_stays.at[fu_stays.n - 1].handler = 0;
}
