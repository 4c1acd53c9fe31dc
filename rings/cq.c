/*
 * Posting CQEs. The engine's tail (ctrl.cached_cq_tail) runs ahead of the one
 * that the program sees until fu_cq_commit, so that a batch costs one store.
 *
 * Once a CQE went to the backlog all later ones follow it, whatever room there
 * is by then: order is kept until the backlog has been flushed, which only a
 * waiting io_uring_enter does, as in the kernel.
 */
#include "rings/ring.h"

/* Slots that one CQE takes: two for a 32-byte CQE on a mixed ring. */
static u32 free_slots(const struct fu_ring *ring)
{
	u32 used = ring->ctrl->cached_cq_tail - fu_load_acquire(ring->cq_head);

	return used < ring->cq_entries ? ring->cq_entries - used : 0;
}

static void write_cqe(struct fu_ring *ring, u32 at, const struct fu_cqe *cqe, const u64 *big)
{
	u8 *slot = ring->cqes + ((size_t)(at & (ring->cq_entries - 1)) << ring->cqe_shift);

	*(struct fu_cqe *)(void *)slot = *cqe;
	if (ring->setup_flags & IORING_SETUP_CQE32 || cqe->flags & IORING_CQE_F_32) {
		u64 *extra = (void *)(slot + sizeof(*cqe));

		extra[0] = big ? big[0] : 0;
		extra[1] = big ? big[1] : 0;
	}
}

/* Writes the CQE into the ring; false if there is no room. */
static bool fill(struct fu_ring *ring, struct fu_cqe *cqe, const u64 *big)
{
	struct fu_ctrl *ctrl = ring->ctrl;
	u32 need = 1;

	if ((ring->setup_flags & IORING_SETUP_CQE_MIXED) && cqe->flags & IORING_CQE_F_32) {
		need = 2;
		/* A big CQE does not wrap: a filler takes the last slot. */
		if ((ctrl->cached_cq_tail & (ring->cq_entries - 1)) == ring->cq_entries - 1) {
			struct fu_cqe skip = { .flags = IORING_CQE_F_SKIP };

			if (free_slots(ring) < 3)
				return false;
			write_cqe(ring, ctrl->cached_cq_tail, &skip, NULL);
			fu_store_relaxed(&ctrl->cached_cq_tail, ctrl->cached_cq_tail + 1);
		}
	}
	if (free_slots(ring) < need)
		return false;
	write_cqe(ring, ctrl->cached_cq_tail, cqe, big);
	/* From here on it counts, also if this process dies before it shows it. */
	fu_store_release(&ctrl->cached_cq_tail, ctrl->cached_cq_tail + need);
	return true;
}

static void backlog(struct fu_ring *ring, const struct fu_cqe *cqe, const u64 *big)
{
	struct fu_ctrl *ctrl = ring->ctrl;
	struct fu_overflow *slot;

	if (ctrl->ovf_tail - ctrl->ovf_head > ring->ovf_mask) {
		/* As when the kernel finds no memory for the backlog. */
		fu_store_relaxed(ring->cq_overflow, fu_load_relaxed(ring->cq_overflow) + 1);
		return;
	}
	slot = &ring->ovf[ctrl->ovf_tail & ring->ovf_mask];
	slot->cqe = *cqe;
	slot->big[0] = big ? big[0] : 0;
	slot->big[1] = big ? big[1] : 0;
	fu_store_release(&ctrl->ovf_tail, ctrl->ovf_tail + 1);
	fu_sq_flags_set(ring, IORING_SQ_CQ_OVERFLOW);
}

bool fu_cq_post(struct fu_ring *ring, u64 user_data, s32 res, u32 flags, const u64 *big)
{
	struct fu_cqe cqe = { user_data, res, flags };

	if (fu_likely(!fu_cq_overflown(ring)) && fill(ring, &cqe, big))
		return true;
	backlog(ring, &cqe, big);
	return false;
}

bool fu_cq_post_noflow(struct fu_ring *ring, u64 user_data, s32 res, u32 flags, const u64 *big)
{
	struct fu_cqe cqe = { user_data, res, flags };

	return !fu_cq_overflown(ring) && fill(ring, &cqe, big);
}

void fu_cq_flush_overflow(struct fu_ring *ring)
{
	struct fu_ctrl *ctrl = ring->ctrl;

	while (fu_cq_overflown(ring)) {
		struct fu_overflow *slot = &ring->ovf[ctrl->ovf_head & ring->ovf_mask];

		if (!fill(ring, &slot->cqe, slot->big))
			return;
		fu_store_relaxed(&ctrl->ovf_head, ctrl->ovf_head + 1);
	}
	fu_sq_flags_clear(ring, IORING_SQ_CQ_OVERFLOW);
}

bool fu_cq_commit(struct fu_ring *ring)
{
	if (fu_load_relaxed(ring->cq_tail) == ring->ctrl->cached_cq_tail)
		return false;
	fu_store_release(ring->cq_tail, ring->ctrl->cached_cq_tail);
	return true;
}
