/* Sizes, memory and mappings of a ring; ring.h describes the parts. */
#include "rings/ring.h"

#include <errno.h>
#include <sys/mman.h>
#include <time.h>

#include "rings/mem.h"
#include "rings/shared.h"
#include "rings/sys.h"
#include "rings/user.h"

/* Backlog slots that are reserved, not touched: 8 MiB of address space, or what fits a tight
 * RLIMIT_AS. */
#define OVF_ENTRIES_MAX (1U << 18)
#define OVF_ENTRIES_MIN (1U << 11)

/* The kernel's rules on which setup flags go together, in its order. */
static int check_flags(u32 flags)
{
	if (flags & ~FU_SETUP_FLAGS)
		return -EINVAL;
	if ((flags & IORING_SETUP_REGISTERED_FD_ONLY) && !(flags & IORING_SETUP_NO_MMAP))
		return -EINVAL;
	if (flags & IORING_SETUP_SQPOLL) {
		if (flags & (IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG |
		             IORING_SETUP_DEFER_TASKRUN))
			return -EINVAL;
	}
	if ((flags & IORING_SETUP_TASKRUN_FLAG) &&
	    !(flags & (IORING_SETUP_COOP_TASKRUN | IORING_SETUP_DEFER_TASKRUN)))
		return -EINVAL;
	if ((flags & IORING_SETUP_HYBRID_IOPOLL) && !(flags & IORING_SETUP_IOPOLL))
		return -EINVAL;
	if ((flags & IORING_SETUP_DEFER_TASKRUN) && !(flags & IORING_SETUP_SINGLE_ISSUER))
		return -EINVAL;
	if ((flags & IORING_SETUP_CQE32) && (flags & IORING_SETUP_CQE_MIXED))
		return -EINVAL;
	return 0;
}

static u32 round_pow2(u32 v)
{
	return v <= 1 ? 1 : 1U << (32 - __builtin_clz(v - 1));
}

static u32 cqe_shift_of(u32 flags)
{
	return flags & IORING_SETUP_CQE32 ? 5 : 4;
}

static u32 sq_array_offset(const struct fu_params *p)
{
	/* With big CQEs all of the ring's head counts twice: so does the kernel have it. */
	u64 end = (FU_OFF_CQES + (u64)p->cq_entries * sizeof(struct fu_cqe))
	          << (cqe_shift_of(p->flags) - 4);

	return (u32)fu_align_up(end, FU_CACHELINE);
}

static void fill_offsets(struct fu_params *p)
{
	u64 sq_addr = p->cq_off.user_addr, sqe_addr = p->sq_off.user_addr;

	p->sq_off = (struct fu_sqring_offsets){
		.head = FU_OFF_SQ_HEAD,
		.tail = FU_OFF_SQ_TAIL,
		.ring_mask = FU_OFF_SQ_MASK,
		.ring_entries = FU_OFF_SQ_ENTRIES,
		.flags = FU_OFF_SQ_FLAGS,
		.dropped = FU_OFF_SQ_DROPPED,
		.array = p->flags & IORING_SETUP_NO_SQARRAY ? 0 : sq_array_offset(p),
	};
	p->cq_off = (struct fu_cqring_offsets){
		.head = FU_OFF_CQ_HEAD,
		.tail = FU_OFF_CQ_TAIL,
		.ring_mask = FU_OFF_CQ_MASK,
		.ring_entries = FU_OFF_CQ_ENTRIES,
		.overflow = FU_OFF_CQ_OVERFLOW,
		.cqes = FU_OFF_CQES,
		.flags = FU_OFF_CQ_FLAGS,
	};
	if (p->flags & IORING_SETUP_NO_MMAP) {
		p->cq_off.user_addr = sq_addr;
		p->sq_off.user_addr = sqe_addr;
	}
}

int fu_ring_layout(u32 entries, struct fu_params *p)
{
	int ret = check_flags(p->flags);

	if (ret)
		return ret;
	if (!entries)
		return -EINVAL;
	if (entries > IORING_MAX_ENTRIES) {
		if (!(p->flags & IORING_SETUP_CLAMP))
			return -EINVAL;
		entries = IORING_MAX_ENTRIES;
	}
	p->sq_entries = round_pow2(entries);
	if (p->flags & IORING_SETUP_CQSIZE) {
		if (!p->cq_entries)
			return -EINVAL;
		if (p->cq_entries > IORING_MAX_CQ_ENTRIES) {
			if (!(p->flags & IORING_SETUP_CLAMP))
				return -EINVAL;
			p->cq_entries = IORING_MAX_CQ_ENTRIES;
		}
		p->cq_entries = round_pow2(p->cq_entries);
		if (p->cq_entries < p->sq_entries)
			return -EINVAL;
	} else {
		p->cq_entries = 2 * p->sq_entries;
	}
	/* A mixed ring needs two slots for one big CQE. */
	if ((p->flags & IORING_SETUP_CQE_MIXED) && p->cq_entries < 2)
		return -EOVERFLOW;
	fill_offsets(p);
	return 0;
}

static void set_pointers(struct fu_ring *ring, const struct fu_params *p)
{
	u8 *r = ring->rings;

	ring->sq_head = (void *)(r + FU_OFF_SQ_HEAD);
	ring->sq_tail = (void *)(r + FU_OFF_SQ_TAIL);
	ring->sq_flags = (void *)(r + FU_OFF_SQ_FLAGS);
	ring->sq_dropped = (void *)(r + FU_OFF_SQ_DROPPED);
	ring->cq_head = (void *)(r + FU_OFF_CQ_HEAD);
	ring->cq_tail = (void *)(r + FU_OFF_CQ_TAIL);
	ring->cq_flags = (void *)(r + FU_OFF_CQ_FLAGS);
	ring->cq_overflow = (void *)(r + FU_OFF_CQ_OVERFLOW);
	ring->cqes = r + FU_OFF_CQES;
	ring->sq_array = NULL;
	if (!(p->flags & IORING_SETUP_NO_SQARRAY))
		ring->sq_array = (void *)(r + sq_array_offset(p));
}

static void set_constants(u8 *rings, const struct fu_params *p)
{
	*(u32 *)(void *)(rings + FU_OFF_SQ_MASK) = p->sq_entries - 1;
	*(u32 *)(void *)(rings + FU_OFF_CQ_MASK) = p->cq_entries - 1;
	*(u32 *)(void *)(rings + FU_OFF_SQ_ENTRIES) = p->sq_entries;
	*(u32 *)(void *)(rings + FU_OFF_CQ_ENTRIES) = p->cq_entries;
}

/* Bytes of the program's two regions, in whole pages. */
static size_t rings_size(const struct fu_params *p)
{
	size_t array_bytes = p->flags & IORING_SETUP_NO_SQARRAY ? 0 : 4UL * p->sq_entries;

	return fu_align_up(sq_array_offset(p) + array_bytes, FU_PAGE);
}

static size_t sqes_size(const struct fu_params *p)
{
	return fu_align_up((u64)p->sq_entries << (p->flags & IORING_SETUP_SQE128 ? 7 : 6), FU_PAGE);
}

/* Puts the program's own memory in the place of both regions. */
static int take_user_regions(u8 *rings, size_t rings_bytes, void *sqes, size_t sqes_bytes,
                             const struct fu_params *p)
{
	int ret = fu_ring_take_memory(rings, rings_bytes, p->cq_off.user_addr);

	if (!ret)
		ret = fu_ring_take_memory(sqes, sqes_bytes, p->sq_off.user_addr);
	if (!ret)
		fu_memset(rings, 0, FU_OFF_CQES);
	return ret;
}

int fu_ring_take_memory(void *view, size_t bytes, u64 user)
{
	void *addr = fu_ptr(user);
	long ret;

	if (user & (FU_PAGE - 1))
		return -EINVAL;
	if (fu_copy_from_user(view, addr, bytes))
		return -EFAULT;
	ret = fu_sys(SYS_mremap, addr, 0, bytes, MREMAP_MAYMOVE | MREMAP_FIXED, view);
	if (!fu_is_err(ret))
		return 0;
	ret = fu_sys(SYS_mremap, view, 0, bytes, MREMAP_MAYMOVE | MREMAP_FIXED, addr);
	return fu_is_err(ret) ? (int)ret : 0;
}

static int map_segment(struct fu_ring *ring, size_t fixed_bytes)
{
	for (u32 entries = OVF_ENTRIES_MAX; entries >= OVF_ENTRIES_MIN; entries >>= 1) {
		size_t bytes = fixed_bytes + entries * sizeof(struct fu_overflow);
		void *seg = fu_shared_map(bytes);

		if (fu_ptr_is_err(seg))
			continue;
		ring->seg = seg;
		ring->seg_bytes = bytes;
		ring->ovf_mask = entries - 1;
		ring->ovf_off = fixed_bytes;
		ring->ovf = (void *)((u8 *)seg + fixed_bytes);
		return 0;
	}
	return -ENOMEM;
}

int fu_ring_create(struct fu_ring *ring, const struct fu_params *p)
{
	int ret;

	fu_memset(ring, 0, sizeof(*ring));
	ring->setup_flags = p->flags;
	ring->sq_entries = p->sq_entries;
	ring->cq_entries = p->cq_entries;
	ring->sqe_shift = p->flags & IORING_SETUP_SQE128 ? 7 : 6;
	ring->cqe_shift = cqe_shift_of(p->flags);
	ring->rings_off = fu_align_up(sizeof(struct fu_ctrl), FU_PAGE);
	ring->rings_bytes = rings_size(p);
	ring->sqes_off = ring->rings_off + ring->rings_bytes;
	ring->sqes_bytes = sqes_size(p);
	ret = map_segment(ring, ring->sqes_off + ring->sqes_bytes);
	if (ret)
		return ret;
	ring->ctrl = ring->seg;
	ring->rings = (u8 *)ring->seg + ring->rings_off;
	ring->sqes = (void *)((u8 *)ring->seg + ring->sqes_off);
	if (p->flags & IORING_SETUP_NO_MMAP) {
		ring->user_memory = true;
		ret = take_user_regions(ring->rings, ring->rings_bytes, ring->sqes,
		                        ring->sqes_bytes, p);
		if (ret) {
			fu_ring_destroy(ring);
			return ret;
		}
	}
	set_pointers(ring, p);
	set_constants(ring->rings, p);
	ring->ctrl->setup_flags = p->flags;
	ring->ctrl->submit_lock.kind = FU_LOCK_SUBMIT;
	ring->ctrl->cq_lock.kind = FU_LOCK_CQ;
	ring->ctrl->disabled = !!(p->flags & IORING_SETUP_R_DISABLED);
	ring->ctrl->clock_id = CLOCK_MONOTONIC;
	return 0;
}

/* ---- resizing ---- */

struct fu_view {
	struct fu_view *next; /* older */
	u8 *at;
	size_t bytes;
};

static void drop_view(struct fu_view *view)
{
	fu_shared_unmap(view->at, view->bytes);
	fu_free(view, sizeof(*view));
}

static struct fu_view *make_view(const struct fu_params *p)
{
	struct fu_view *view = fu_alloc(sizeof(*view));

	if (!view)
		return NULL;
	view->bytes = rings_size(p) + sqes_size(p);
	view->at = fu_shared_map(view->bytes);
	if (fu_ptr_is_err(view->at)) {
		fu_free(view, sizeof(*view));
		return NULL;
	}
	return view;
}

/*
 * The memory before the last may be let go: its addresses stay, with nothing behind them,
 * for a thread that has held a pointer all that time.
 */
static void retire(struct fu_view *last)
{
	struct fu_view *view = last ? last->next : NULL;

	if (view)
		fu_sys(SYS_mmap, view->at, view->bytes, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
}

static void carry(void *to, u32 to_entries, const void *from, u32 from_entries, u32 shift, u32 head,
                  u32 tail)
{
	for (u32 i = head; i != tail; i++)
		fu_memcpy((u8 *)to + ((size_t)(i & (to_entries - 1)) << shift),
		          (const u8 *)from + ((size_t)(i & (from_entries - 1)) << shift),
		          (size_t)1 << shift);
}

static bool carry_all(struct fu_ring *to, const struct fu_ring *from)
{
	u32 sq_head = fu_load_relaxed(from->sq_head), sq_tail = fu_load_acquire(from->sq_tail);
	u32 cq_head = fu_load_acquire(from->cq_head), cq_tail = fu_load_relaxed(from->cq_tail);

	if (sq_tail - sq_head > to->sq_entries || cq_tail - cq_head > to->cq_entries)
		return false;
	carry(to->sqes, to->sq_entries, from->sqes, from->sq_entries, to->sqe_shift, sq_head,
	      sq_tail);
	carry(to->cqes, to->cq_entries, from->cqes, from->cq_entries, to->cqe_shift, cq_head,
	      cq_tail);
	*to->sq_head = sq_head;
	*to->sq_tail = sq_tail;
	*to->cq_head = cq_head;
	*to->cq_tail = cq_tail;
	*to->sq_dropped = fu_load_relaxed(from->sq_dropped);
	*to->sq_flags = fu_load_relaxed(from->sq_flags);
	*to->cq_flags = fu_load_relaxed(from->cq_flags);
	*to->cq_overflow = fu_load_relaxed(from->cq_overflow);
	return true;
}

int fu_ring_resize(struct fu_ring *ring, const struct fu_params *p)
{
	struct fu_view *view = make_view(p);
	struct fu_ring moved = *ring;
	int ret = 0;

	if (!view)
		return -ENOMEM;
	moved.rings = view->at;
	moved.rings_bytes = rings_size(p);
	moved.sqes = (void *)(view->at + moved.rings_bytes);
	moved.sqes_bytes = sqes_size(p);
	moved.sq_entries = p->sq_entries;
	moved.cq_entries = p->cq_entries;
	if (ring->user_memory)
		ret = take_user_regions(moved.rings, moved.rings_bytes, moved.sqes,
		                        moved.sqes_bytes, p);
	if (!ret) {
		set_pointers(&moved, p);
		set_constants(moved.rings, p);
		if (!carry_all(&moved, ring))
			ret = -EOVERFLOW;
	}
	if (ret) {
		drop_view(view);
		return ret;
	}
	view->next = ring->views;
	moved.views = view;
	*ring = moved;
	retire(view->next);
	return 0;
}

void fu_ring_destroy(struct fu_ring *ring)
{
	while (ring->views) {
		struct fu_view *view = ring->views;

		ring->views = view->next;
		drop_view(view);
	}
	if (ring->seg)
		fu_shared_unmap(ring->seg, ring->seg_bytes);
	ring->seg = NULL;
}

/* An alias at `addr` exactly. */
static long alias_at(void *src, size_t bytes, void *addr, int prot)
{
	long ret = fu_shared_alias(src, bytes, addr);

	if (!fu_is_err(ret) && prot != (PROT_READ | PROT_WRITE))
		fu_sys(SYS_mprotect, ret, bytes, prot);
	return ret;
}

long fu_map_alias(void *src, size_t bytes, size_t len, void *addr, int prot, int flags)
{
	int how = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
	long at, ret;

	/* The kernel chooses or checks the place as for any mapping; what lies beyond `bytes`
	 * stays without access. */
	at = fu_sys(SYS_mmap, addr, len, PROT_NONE,
	            how | (flags & (MAP_FIXED | MAP_FIXED_NOREPLACE | MAP_32BIT)), -1, 0);
	if (fu_is_err(at))
		return at;
	ret = alias_at(src, bytes < len ? bytes : len, fu_ptr((u64)at), prot);
	if (fu_is_err(ret))
		fu_sys(SYS_munmap, at, len);
	return ret;
}

long fu_ring_map(struct fu_ring *ring, size_t len, int prot, int flags, u64 off)
{
	long ret;

	if (ring->user_memory)
		return -ENOMEM;
	len = fu_align_up(len, FU_PAGE);
	/* A resize that is going on has to be over. */
	fu_lock(&ring->ctrl->cq_lock);
	switch (off & IORING_OFF_MMAP_MASK) {
	case IORING_OFF_SQ_RING:
	case IORING_OFF_CQ_RING:
		ret = fu_map_alias(ring->rings, ring->rings_bytes, len, NULL, prot, flags);
		break;
	case IORING_OFF_SQES:
		/* These are mapped as a whole; of the rings a part will do. */
		ret = len < ring->sqes_bytes
		              ? -EFAULT
		              : fu_map_alias(ring->sqes, ring->sqes_bytes, len, NULL, prot, flags);
		break;
	default:
		ret = -ENOMEM;
	}
	fu_unlock(&ring->ctrl->cq_lock);
	return ret;
}
