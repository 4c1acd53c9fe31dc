/* Sizes, memory and mappings of a ring; ring.h describes the parts. */
#include "rings/ring.h"

#include <errno.h>
#include <sys/mman.h>

#include "rings/mem.h"
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
	u64 end = FU_OFF_CQES + ((u64)p->cq_entries << cqe_shift_of(p->flags));

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

static void set_pointers(struct fu_ring *ring)
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
		void *seg = fu_ptr((u64)fu_sys(SYS_mmap, 0, bytes, PROT_READ | PROT_WRITE,
		                               MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));

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
	size_t array_bytes = p->flags & IORING_SETUP_NO_SQARRAY ? 0 : 4UL * p->sq_entries;
	size_t rings_bytes = sq_array_offset(p) + array_bytes;
	int ret;

	fu_memset(ring, 0, sizeof(*ring));
	ring->setup_flags = p->flags;
	ring->sq_entries = p->sq_entries;
	ring->cq_entries = p->cq_entries;
	ring->sqe_shift = p->flags & IORING_SETUP_SQE128 ? 7 : 6;
	ring->cqe_shift = cqe_shift_of(p->flags);
	ring->rings_off = fu_align_up(sizeof(struct fu_ctrl), FU_PAGE);
	ring->rings_bytes = fu_align_up(rings_bytes, FU_PAGE);
	ring->sqes_off = ring->rings_off + ring->rings_bytes;
	ring->sqes_bytes = fu_align_up((u64)p->sq_entries << ring->sqe_shift, FU_PAGE);
	ret = map_segment(ring, ring->sqes_off + ring->sqes_bytes);
	if (ret)
		return ret;
	ring->ctrl = ring->seg;
	ring->rings = (u8 *)ring->seg + ring->rings_off;
	ring->sqes = (void *)((u8 *)ring->seg + ring->sqes_off);
	if (p->flags & IORING_SETUP_NO_MMAP) {
		ring->user_memory = true;
		ret = fu_ring_take_memory(ring->rings, ring->rings_bytes, p->cq_off.user_addr);
		if (!ret)
			ret = fu_ring_take_memory(ring->sqes, ring->sqes_bytes,
			                          p->sq_off.user_addr);
		if (ret) {
			fu_ring_destroy(ring);
			return ret;
		}
		fu_memset(ring->rings, 0, FU_OFF_CQES);
	}
	set_pointers(ring);
	if (array_bytes)
		ring->sq_array = (void *)(ring->rings + sq_array_offset(p));
	ring->ctrl->setup_flags = p->flags;
	ring->ctrl->disabled = !!(p->flags & IORING_SETUP_R_DISABLED);
	*(u32 *)(void *)(ring->rings + FU_OFF_SQ_MASK) = p->sq_entries - 1;
	*(u32 *)(void *)(ring->rings + FU_OFF_CQ_MASK) = p->cq_entries - 1;
	*(u32 *)(void *)(ring->rings + FU_OFF_SQ_ENTRIES) = p->sq_entries;
	*(u32 *)(void *)(ring->rings + FU_OFF_CQ_ENTRIES) = p->cq_entries;
	return 0;
}

void fu_ring_adopt(struct fu_ring *ring, const struct fu_ring *parent)
{
	if (ring != parent)
		*ring = *parent;
}

void fu_ring_destroy(struct fu_ring *ring)
{
	if (ring->seg)
		fu_sys(SYS_munmap, ring->seg, ring->seg_bytes);
	ring->seg = NULL;
}

/* An alias at `addr` exactly. */
static long alias_at(void *src, size_t bytes, void *addr, int prot)
{
	long ret = fu_sys(SYS_mremap, src, 0, bytes, MREMAP_MAYMOVE | MREMAP_FIXED, addr);

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

long fu_ring_map(struct fu_ring *ring, void *addr, size_t len, int prot, int flags, u64 off)
{
	size_t region;
	u8 *base;

	if (ring->user_memory)
		return -EINVAL;
	if (off & (FU_PAGE - 1))
		return -EINVAL;
	switch (off & IORING_OFF_MMAP_MASK) {
	case IORING_OFF_SQ_RING:
	case IORING_OFF_CQ_RING:
		base = ring->rings;
		region = ring->rings_bytes;
		break;
	case IORING_OFF_SQES:
		base = (void *)ring->sqes;
		region = ring->sqes_bytes;
		break;
	default:
		return -ENOMEM;
	}
	len = fu_align_up(len, FU_PAGE);
	if (!len)
		return -EINVAL;
	return fu_map_alias(base, region, len, addr, prot, flags);
}

const struct fu_sqe *fu_sq_next(struct fu_ring *ring)
{
	u32 mask = ring->sq_entries - 1;
	u32 index = ring->ctrl->cached_sq_head++ & mask;

	if (ring->sq_array) {
		index = fu_load_relaxed(&ring->sq_array[index]);
		if (fu_unlikely(index >= ring->sq_entries)) {
			fu_store_relaxed(ring->sq_dropped, fu_load_relaxed(ring->sq_dropped) + 1);
			return NULL;
		}
	}
	return (const void *)((const u8 *)ring->sqes + ((size_t)index << ring->sqe_shift));
}
