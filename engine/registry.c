/* Rings by descriptor, their references and their end; see registry.h. */
#include "engine/registry.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "engine/entry.h"
#include "engine/fileinfo.h"
#include "engine/futex.h"
#include "engine/leader.h"
#include "engine/peers.h"
#include "engine/poller.h"
#include "engine/stats.h"
#include "rings/fds.h"
#include "rings/keep.h"
#include "rings/mem.h"
#include "rings/sys.h"

#define FDMAP_ENTRIES (1U << 20)
#define SLOTS_MAX     (1U << 16)

static struct {
	struct fu_lock lock;
	struct fu_ctx **slots; /* guarded by lock to grow; entries never change */
	u32 nr_slots;
	u32 live;    /* rings; lock to change */
	bool polled; /* somebody here polls, or has polled, a ring's descriptor; relaxed */
	u32 fd_end;  /* above every descriptor that was ever entered into fdmap */
	u32 *fdmap;  /* fd -> slot + 1, or 0; relaxed, a hint that is verified */
	bool used;
} reg;

u32 fu_fds_renamed;

static void *reserve(size_t bytes)
{
	void *p = fu_ptr((u64)fu_sys(SYS_mmap, 0, bytes, PROT_READ | PROT_WRITE,
	                             MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));

	return fu_ptr_is_err(p) ? NULL : p;
}

static bool reg_init(void)
{
	if (!reg.slots)
		reg.slots = reserve(SLOTS_MAX * sizeof(*reg.slots));
	if (!reg.fdmap)
		reg.fdmap = reserve(FDMAP_ENTRIES * sizeof(*reg.fdmap));
	fu_fds_init();
	return reg.slots && reg.fdmap;
}

bool fu_have_rings(void)
{
	return fu_load_relaxed(&reg.used);
}

u32 fu_registry_live(void)
{
	return fu_load_relaxed(&reg.live);
}

/* ---- descriptors of rings ---- */

static u32 map_get(int fd)
{
	u32 *map = fu_load_acquire(&reg.fdmap);

	return map && (u32)fd < FDMAP_ENTRIES ? fu_load_acquire(&map[fd]) : 0;
}

static void map_set(int fd, u32 slot)
{
	if (!reg.fdmap || (u32)fd >= FDMAP_ENTRIES)
		return;
	fu_store_release(&reg.fdmap[fd], slot);
	if (slot) {
		fu_store_relaxed(&reg.slots[slot - 1]->prog_fd, fd);
		if ((u32)fd >= fu_load_relaxed(&reg.fd_end))
			fu_store_relaxed(&reg.fd_end, (u32)fd + 1);
	}
}

bool fu_fd_is_ring(int fd)
{
	return map_get(fd) != 0;
}

/* Nobody holds it any more, and it has ended: frees it. */
static void free_if_ended(struct fu_ctx *ctx)
{
	u32 ended = FU_CTX_ENDED;

	/* Several may see 0, after a late look at the slot; one of them frees. */
	if (fu_load_acquire(&ctx->live) != FU_CTX_ENDED)
		return;
	fu_lock(&reg.lock);
	if (!fu_load_acquire(&ctx->refs) &&
	    __atomic_compare_exchange_n(&ctx->live, &ended, FU_CTX_FREEING, false, __ATOMIC_ACQ_REL,
	                                __ATOMIC_RELAXED)) {
		fu_unlock(&reg.lock);
		fu_ctx_free(ctx);
		fu_store_release(&ctx->live, FU_CTX_FREE);
		return;
	}
	fu_unlock(&reg.lock);
}

static inline void put(struct fu_ctx *ctx, u64 refs)
{
	if (fu_unlikely(!__atomic_sub_fetch(&ctx->refs, refs, __ATOMIC_SEQ_CST)))
		free_if_ended(ctx);
}

/* `refs` to the slot's context if it is a live ring, else NULL. */
static inline struct fu_ctx *hold_slot_by(u32 slot, u64 refs)
{
	struct fu_ctx *ctx = reg.slots[slot - 1];

	__atomic_fetch_add(&ctx->refs, refs, __ATOMIC_ACQUIRE);
	if (fu_likely(fu_load_acquire(&ctx->live) == FU_CTX_LIVE))
		return ctx;
	put(ctx, refs);
	return NULL;
}

static struct fu_ctx *hold_slot(u32 slot)
{
	return hold_slot_by(slot, 1);
}

/* The slot + 1 of the live ring with this inode number, or 0. */
static u32 slot_of_ino(u64 ino)
{
	for (u32 i = 0; i < fu_load_acquire(&reg.nr_slots); i++) {
		if (fu_load_relaxed(&reg.slots[i]->live) == FU_CTX_LIVE && reg.slots[i]->ino == ino)
			return i + 1;
	}
	return 0;
}

bool fu_ino_is_ring(u64 ino)
{
	return slot_of_ino(ino) != 0;
}

/* Finds a ring by the inode of `fd`: a duplicate that we have not seen being made. */
static struct fu_ctx *find_by_inode(int fd, u64 refs, int *err)
{
	struct stat st;
	struct fu_ctx *ctx;
	u32 slot;

	if (fu_sys(SYS_fstat, fd, &st) < 0) {
		*err = -EBADF;
		return NULL;
	}
	*err = -EOPNOTSUPP;
	if (!S_ISSOCK(st.st_mode)) {
		/* O_PATH descriptors are no open files: F_SETFL and the like refuse them. */
		if (fu_sys(SYS_fcntl, fd, F_GETOWN) == -EBADF)
			*err = -EBADF;
		return NULL;
	}
	slot = slot_of_ino(st.st_ino);
	ctx = slot ? hold_slot_by(slot, refs) : NULL;
	if (ctx && !fu_fd_is_engine(fd))
		map_set(fd, slot);
	return ctx;
}

static inline struct fu_ctx *get(u32 fd, u64 refs, int *err)
{
	u32 slot = map_get((int)fd);
	struct fu_ctx *ctx;

	if (fu_likely(slot)) {
		ctx = hold_slot_by(slot, refs);
		if (fu_likely(ctx != NULL))
			return ctx;
		map_set((int)fd, 0);
	}
	if (fu_fd_is_engine((int)fd)) {
		*err = -EBADF;
		return NULL;
	}
	return find_by_inode((int)fd, refs, err);
}

struct fu_ctx *fu_ctx_get(u32 fd, int *err)
{
	return get(fd, 1, err);
}

struct fu_ctx *fu_ctx_enter(u32 fd, int *err)
{
	return get(fd, FU_CTX_INSIDE, err);
}

bool fu_fd_names_ring(int fd)
{
	struct stat st;

	if (fu_likely(!map_get(fd)))
		return false;
	if (fu_sys(SYS_fstat, fd, &st) == 0 && S_ISSOCK(st.st_mode) && slot_of_ino(st.st_ino))
		return true;
	/* The program has closed it unseen. */
	map_set(fd, 0);
	return false;
}

struct fu_ctx *fu_ctx_get_file(int fd, int *err)
{
	return fu_fd_is_engine(fd) ? find_by_inode(fd, 1, err) : fu_ctx_get((u32)fd, err);
}

struct fu_ctx *fu_ctx_alloc(void)
{
	struct fu_ctx *ctx = NULL;

	fu_lock(&reg.lock);
	if (!reg_init())
		goto out;
	for (u32 i = 0; i < reg.nr_slots; i++) {
		if (fu_load_acquire(&reg.slots[i]->live) == FU_CTX_FREE) {
			ctx = reg.slots[i];
			break;
		}
	}
	if (!ctx && reg.nr_slots < SLOTS_MAX) {
		ctx = fu_zalloc(sizeof(*ctx));
		if (ctx) {
			reg.slots[reg.nr_slots] = ctx;
			fu_store_release(&reg.nr_slots, reg.nr_slots + 1);
		}
	}
	if (ctx) {
		fu_ctx_reset(ctx);
		fu_store_relaxed(&ctx->live,
		                 FU_CTX_ENDED); /* not found by anyone, not free either */
		__atomic_fetch_add(&ctx->refs, 2, __ATOMIC_RELEASE);
	}
out:
	fu_unlock(&reg.lock);
	return ctx;
}

void fu_ctx_publish(struct fu_ctx *ctx, int fd)
{
	u32 slot = 0;

	fu_lock(&reg.lock);
	while (reg.slots[slot] != ctx)
		slot++;
	fu_store_release(&ctx->live, FU_CTX_LIVE);
	map_set(fd, slot + 1);
	fu_store_relaxed(&reg.live, reg.live + 1);
	fu_store_relaxed(&reg.used, true);
	fu_unlock(&reg.lock);
}

void fu_ctx_put(struct fu_ctx *ctx)
{
	put(ctx, 1);
}

void fu_ctx_leave(struct fu_ctx *ctx)
{
	put(ctx, FU_CTX_INSIDE);
	/* Either we see that it has hung up, or who has marked it that we have gone. By now it may
	 * be free, or another ring: then there is one look too many. */
	if (fu_unlikely(fu_load_relaxed(&ctx->hung)))
		fu_registry_reap();
}

void fu_ctx_end(struct fu_ctx *ctx)
{
	u32 live = FU_CTX_LIVE;

	if (!__atomic_compare_exchange_n(&ctx->live, &live, FU_CTX_ENDED, false, __ATOMIC_ACQ_REL,
	                                 __ATOMIC_RELAXED))
		return;
	fu_lock(&reg.lock);
	live = reg.live - 1;
	fu_store_relaxed(&reg.live, live);
	fu_unlock(&reg.lock);
	fu_ctx_teardown(ctx);
	fu_ctx_put(ctx);
	if (!live) {
		fu_pool_idle();
		fu_futex_idle();
		fu_poller_wake();
		fu_leader_unpark();
	}
	fu_stats_flush();
}

void fu_ctx_discard(struct fu_ctx *ctx)
{
	fu_ctx_put(ctx);
	fu_ctx_put(ctx);
}

/* ---- descriptors that come and go ---- */

void fu_ctx_look(struct fu_ctx *ctx)
{
	if (!fu_ringfd_hung_up(ctx->peer))
		return;
	__atomic_store_n(&ctx->hung, true, __ATOMIC_SEQ_CST);
	if (__atomic_load_n(&ctx->refs, __ATOMIC_SEQ_CST) >= FU_CTX_INSIDE)
		return;
	/* What has come before is not cancelled. */
	fu_poller_harvest(ctx);
	fu_ctx_end(ctx);
}

void fu_fd_closed(int fd)
{
	u32 slot = map_get(fd);
	struct fu_ctx *ctx;

	fu_file_forget(fd);
	fu_keep_closed((u32)fd, (u32)fd);
	if (fu_likely(!slot))
		return;
	map_set(fd, 0);
	ctx = hold_slot(slot);
	if (!ctx)
		return;
	fu_ctx_look(ctx);
	fu_ctx_put(ctx);
}

void fu_fd_range_closed(u32 first, u32 last)
{
	if (!fu_have_rings())
		return;
	fu_file_forget_range(first, last);
	fu_keep_closed(first, last);
	for (u32 fd = first; fd <= last && fd < fu_load_relaxed(&reg.fd_end); fd++) {
		if (map_get((int)fd))
			fu_fd_closed((int)fd);
	}
}

void fu_fd_duped(int oldfd, int newfd)
{
	u32 slot = map_get(oldfd);

	fu_file_forget(newfd);
	if (fu_unlikely(slot))
		map_set(newfd, slot);
}

void fu_registry_each(void (*fn)(struct fu_ctx *ctx))
{
	for (u32 slot = 1; slot <= fu_load_acquire(&reg.nr_slots); slot++) {
		struct fu_ctx *ctx = hold_slot(slot);

		if (!ctx)
			continue;
		fn(ctx);
		fu_ctx_put(ctx);
	}
}

void fu_registry_tally(struct fu_tally *sum)
{
	for (u32 i = 0; i < fu_load_acquire(&reg.nr_slots); i++) {
		const struct fu_tally *tally = &reg.slots[i]->tally;

		sum->sqes += fu_load_relaxed(&tally->sqes);
		sum->cqes += fu_load_relaxed(&tally->cqes);
		sum->inlined += fu_load_relaxed(&tally->inlined);
	}
}

static void look_at(struct fu_ctx *ctx)
{
	fu_peer_answer(ctx);
	fu_ctx_look(ctx);
}

void fu_registry_reap(void)
{
	fu_registry_each(look_at);
}

/* Whether `fd` is the program's end of the ring. */
static bool is_end_of(const struct fu_ctx *ctx, int fd)
{
	struct stat st;

	return fd >= 0 && fu_sys(SYS_fstat, fd, &st) == 0 && S_ISSOCK(st.st_mode) &&
	       st.st_ino == ctx->ino;
}

int fu_ctx_prog_fd(struct fu_ctx *ctx)
{
	int fd = fu_load_relaxed(&ctx->prog_fd);

	if (is_end_of(ctx, fd))
		return fd;
	for (fd = 0; (u32)fd < fu_load_relaxed(&reg.fd_end); fd++) {
		u32 slot = map_get(fd);

		if (slot && reg.slots[slot - 1] == ctx && is_end_of(ctx, fd)) {
			fu_store_relaxed(&ctx->prog_fd, fd);
			return fd;
		}
	}
	return -EBADF;
}

/* ---- readability ---- */

void fu_ctx_raise(struct fu_ctx *ctx)
{
	struct fu_ctrl *ctrl = ctx->ring.ctrl;
	int fd;

	if (fu_likely(fu_ringfd_raise(ctrl, ctx->peer)))
		return;
	/* A program that is never seen with an empty CQ has had none of its edges taken out. */
	fd = fu_ctx_prog_fd(ctx);
	if (fd < 0)
		return;
	fu_ringfd_lower(ctrl, fd);
	fu_ringfd_raise(ctrl, ctx->peer);
}

void fu_fd_polled(int fd, bool edge)
{
	struct fu_ctx *ctx;
	int err;

	if (!map_get(fd))
		return;
	ctx = fu_ctx_get((u32)fd, &err);
	if (!ctx)
		return;
	__atomic_fetch_or(&ctx->ring.ctrl->polled, edge ? FU_POLLED_EDGE : FU_POLLED_LEVEL,
	                  __ATOMIC_SEQ_CST);
	if (!fu_load_relaxed(&reg.polled))
		fu_store_relaxed(&reg.polled, true);
	fu_ctx_settle(ctx, fd);
	fu_ctx_put(ctx);
}

/*
 * Makes readability true again. A CQE that is posted while the byte is taken out
 * finds the descriptor raised and its byte may go with the others, hence the
 * second look.
 */
static void settle(struct fu_ctx *ctx, int fd)
{
	struct fu_ctrl *ctrl = ctx->ring.ctrl;

	if (!fu_ringfd_may_be_readable(ctrl) || fu_ctx_has_events(ctx) || !is_end_of(ctx, fd))
		return;
	fu_ringfd_lower(ctrl, fd);
	fu_fence();
	if (fu_ctx_has_events(ctx))
		fu_ctx_raise(ctx);
}

void fu_ctx_settle(struct fu_ctx *ctx, int fd)
{
	settle(ctx, fd);
	if (fu_ctx_has_events(ctx) && !fu_ringfd_is_raised(ctx->ring.ctrl))
		fu_ctx_raise(ctx);
}

void fu_rings_settle(void)
{
	fu_poller_harvest(NULL);
	fu_leader_hand_back();
	if (fu_likely(!fu_load_relaxed(&reg.polled)))
		return;
	for (u32 slot = 1; slot <= fu_load_acquire(&reg.nr_slots); slot++) {
		struct fu_ctx *ctx = hold_slot(slot);

		if (!ctx)
			continue;
		if (fu_load_relaxed(&ctx->ring.ctrl->polled))
			settle(ctx, fu_load_relaxed(&ctx->prog_fd));
		fu_ctx_put(ctx);
	}
}

/* ---- fork ---- */

void fu_registry_adopt(u32 gen)
{
	reg.lock.word = 0;
	for (u32 i = 0; i < reg.nr_slots; i++) {
		struct fu_ctx *ctx = reg.slots[i];

		if (ctx->live == FU_CTX_LIVE) {
			fu_ctx_adopt(ctx, gen);
		} else {
			ctx->refs = 0;
			ctx->live = FU_CTX_FREE;
		}
		fu_memset(&ctx->tally, 0, sizeof(ctx->tally));
	}
}

void fu_registry_fork_prepare(void)
{
	fu_lock(&reg.lock);
}

void fu_registry_fork_done(void)
{
	fu_unlock(&reg.lock);
}
