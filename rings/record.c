/*
 * What a process that died with one of a ring's locks leaves half done in the records of its
 * requests (engine/orphans.c): whoever takes the lock over settles it before anything else changes.
 */
#include "rings/lock.h"
#include "rings/ring.h"

#define ctrl_of(lock, member) \
	((struct fu_ctrl *)(void *)((u8 *)(lock)-offsetof(struct fu_ctrl, member)))

static void drop(struct fu_record *r, u32 owner)
{
	__atomic_compare_exchange_n(&r->owner, &owner, 0, false, __ATOMIC_ACQ_REL,
	                            __ATOMIC_RELAXED);
}

/* The record comes before the SQE is taken: if that never was, it is still there for others. */
static void settle_submission(struct fu_ctrl *ctrl)
{
	u32 next = ctrl->cached_sq_head + 1;

	for (u32 i = 0; i < fu_load_acquire(&ctrl->records_top); i++) {
		struct fu_record *r = &ctrl->records[i];
		u32 owner = fu_load_acquire(&r->owner);

		if (owner && r->from && r->from == next)
			drop(r, owner);
	}
}

/* Whether the CQE that was being posted has come to count. */
static void settle_completion(struct fu_ctrl *ctrl)
{
	u32 posted = fu_cq_posted(ctrl);

	for (u32 i = 0; i < fu_load_acquire(&ctrl->records_top); i++) {
		struct fu_record *r = &ctrl->records[i];
		u32 owner = fu_load_acquire(&r->owner), closing = fu_load_relaxed(&r->closing);

		if (!owner || !closing)
			continue;
		if ((s32)(posted - closing) >= 0)
			drop(r, owner);
		else
			fu_store_relaxed(&r->closing, 0);
	}
}

void fu_lock_inherited(struct fu_lock *lock)
{
	if (lock->kind == FU_LOCK_SUBMIT)
		settle_submission(ctrl_of(lock, submit_lock));
	else if (lock->kind == FU_LOCK_CQ)
		settle_completion(ctrl_of(lock, cq_lock));
}
