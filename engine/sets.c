/*
 * The poller's epoll sets, and the slots of what is in them.
 *
 * Where several threads wait for rings of their own, one set would make each handle the events of
 * the others, and wake them. So the first set takes the requests of the rings that one thread uses,
 * and a ring that another thread arms requests of gets a set for these. Such a set is in the first
 * one itself, which tells of it only while it is attached, that is while no thread waits on it.
 *
 * A slot's registration is made with a duplicate of the descriptor, since the program may close
 * its own while the request waits. But a duplicate in the set keeps the file open, and to make one,
 * add it, take it out and close it costs four system calls for each request that waits once. So
 * such a request holds its duplicate, and is registered by the descriptor that the program gave, or
 * by the one of the registered file. That registration does not keep the file open: it stays there,
 * disarmed, when the request is done, and the next one by that name only has to arm it. When the
 * name is another file's by then, or the file has gone, the kernel does not find it (-ENOENT), and
 * it is made anew. There is one for each name: whoever comes while that is in use makes a
 * duplicate. One that has been lost sight of does no harm: it is found when it is to be made
 * (-EEXIST).
 */
#include "engine/sets.h"

#include <errno.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>

#include "engine/leader.h"
#include "rings/fds.h"
#include "rings/mem.h"
#include "rings/sys.h"

#define CHUNK_SLOTS 256U
#define MAX_CHUNKS  4096U
/* Descriptors that are told apart; of two with the same place one makes way. */
#define NAMES 16384U

struct fu_poller fu_poller = { .sets[0] = { .epfd = -1, .wakefd = -1 } };

struct fu_slot *fu_slot_at(u32 index)
{
	return &fu_poller.chunks[index / CHUNK_SLOTS][index % CHUNK_SLOTS];
}

void fu_slot_renew(struct fu_slot *slot)
{
	u32 gen = slot->gen + 1;

	/* An event of another set, from when the slot was there, may be looked at just now. */
	fu_store_relaxed(&slot->gen, gen == FU_SET_SPECIAL ? 1 : gen);
}

/* slots_lock held. */
static long slot_take(void)
{
	u32 index;

	if (!fu_poller.free_head) {
		struct fu_slot *chunk;

		if (!fu_poller.chunks)
			fu_poller.chunks = fu_pages_alloc(MAX_CHUNKS * sizeof(*fu_poller.chunks));
		if (!fu_poller.chunks || fu_poller.nr_slots / CHUNK_SLOTS >= MAX_CHUNKS)
			return -ENOMEM;
		chunk = fu_zalloc(CHUNK_SLOTS * sizeof(*chunk));
		if (!chunk)
			return -ENOMEM;
		fu_poller.chunks[fu_poller.nr_slots / CHUNK_SLOTS] = chunk;
		for (u32 i = CHUNK_SLOTS; i-- > 0;) {
			chunk[i].gen = 1;
			chunk[i].next_free = fu_poller.free_head;
			fu_poller.free_head = fu_poller.nr_slots + i + 1;
		}
		fu_store_release(&fu_poller.nr_slots, fu_poller.nr_slots + CHUNK_SLOTS);
	}
	index = fu_poller.free_head - 1;
	fu_poller.free_head = fu_slot_at(index)->next_free;
	fu_store_relaxed(&fu_poller.used, fu_poller.used + 1);
	return index;
}

/* slots_lock held. */
static void slot_give(u32 index)
{
	fu_slot_at(index)->next_free = fu_poller.free_head;
	fu_poller.free_head = index + 1;
}

static u32 *place_of(int name)
{
	return &fu_poller.names[(u32)name % NAMES];
}

/* The named slot in the place where `name` would be, or NULL. slots_lock held. */
static struct fu_slot *named_at(int name)
{
	return name >= 0 && fu_poller.names && *place_of(name) ? fu_slot_at(*place_of(name) - 1)
	                                                       : NULL;
}

long fu_slot_alloc(u32 set, int name)
{
	struct fu_slot *named;
	long index;

	fu_lock(&fu_poller.slots_lock);
	index = slot_take();
	named = named_at(name);
	if (named && named->fd == name)
		fu_store_relaxed(&named->crowded, true);
	fu_unlock(&fu_poller.slots_lock);
	if (index >= 0)
		fu_slot_at((u32)index)->set = (u8)set;
	return index;
}

void fu_slot_leave_set(struct fu_slot *slot)
{
	fu_sys(SYS_epoll_ctl, fu_poller.sets[slot->set].epfd, EPOLL_CTL_DEL, slot->fd, 0);
	slot->added = false;
	fu_store_relaxed(&slot->crowded, false);
}

/* A parked slot is to be `set`'s and by `name`. slots_lock held. */
static void unpark(struct fu_slot *slot, u32 set, int name)
{
	/* What it leaves in another set, or by another number, is disarmed; the number may be that
	 * of somebody's duplicate now, which is not to be taken out. */
	slot->added = slot->added && slot->set == set && slot->fd == name;
	slot->set = (u8)set;
	slot->fd = name;
	slot->kind = FU_SLOT_BUSY;
	slot->parked = false;
	fu_store_relaxed(&fu_poller.used, fu_poller.used + 1);
}

/* slots_lock held. */
static long new_named(u32 set, int name)
{
	long index = slot_take();
	struct fu_slot *slot;

	if (index < 0)
		return index;
	slot = fu_slot_at((u32)index);
	slot->kind = FU_SLOT_BUSY;
	slot->set = (u8)set;
	slot->fd = name;
	slot->named = true;
	*place_of(name) = (u32)index + 1;
	return index;
}

long fu_slot_named(u32 set, int name)
{
	long index = -ENOMEM;
	struct fu_slot *slot;

	fu_lock(&fu_poller.slots_lock);
	if (!fu_poller.names)
		fu_poller.names = fu_pages_alloc(NAMES * sizeof(*fu_poller.names));
	if (!fu_poller.names)
		goto out;
	slot = named_at(name);
	if (!slot) {
		index = new_named(set, name);
	} else if (slot->parked) {
		unpark(slot, set, name);
		index = (long)*place_of(name) - 1;
	} else {
		index = -EBUSY;
	}
out:
	fu_unlock(&fu_poller.slots_lock);
	return index;
}

void fu_slot_free(u32 index)
{
	struct fu_slot *slot = fu_slot_at(index);
	bool parks = slot->named && slot->added;

	if (slot->added && !parks)
		fu_slot_leave_set(slot);
	if (slot->own_fd)
		fu_fd_close(slot->fd);
	slot->own_fd = false;
	slot->pending = 0;
	slot->kind = FU_SLOT_FREE;
	fu_slot_renew(slot);
	fu_lock(&fu_poller.slots_lock);
	slot->parked = parks;
	if (!parks) {
		if (slot->named)
			*place_of(slot->fd) = 0;
		slot->named = false;
		fu_store_relaxed(&slot->crowded, false);
		slot_give(index);
	}
	fu_store_release(&fu_poller.used, fu_poller.used - 1);
	fu_unlock(&fu_poller.slots_lock);
}

void fu_slots_drop(u32 set)
{
	fu_lock(&fu_poller.slots_lock);
	for (u32 i = 0; i < fu_poller.nr_slots; i++) {
		struct fu_slot *slot = fu_slot_at(i);

		if (!slot->parked || slot->set != set)
			continue;
		*place_of(slot->fd) = 0;
		slot->parked = slot->named = slot->added = false;
		fu_store_relaxed(&slot->crowded, false);
		slot_give(i);
	}
	fu_unlock(&fu_poller.slots_lock);
}

/* ---- sets ---- */

int fu_set_add(const struct fu_set *set, int fd, u32 what)
{
	/* The wake-up's count is never read: each write is an edge. */
	struct epoll_event ev = { .events = EPOLLIN | (what == FU_POLLER_WAKE ? EPOLLET : 0),
		                  .data.u64 = FU_SET_DATA(what, FU_SET_SPECIAL) };

	return (int)fu_sys(SYS_epoll_ctl, set->epfd, EPOLL_CTL_ADD, fd, &ev);
}

static long call_maker(void *arg, u64 old_limit)
{
	const long *maker = arg;

	(void)old_limit;
	return fu_sys(maker[0], maker[1], maker[2]);
}

int fu_set_fd(long nr, long a, long b)
{
	long maker[] = { nr, a, b };
	long fd = call_maker(maker, 0);

	if (fd == -EMFILE)
		fd = fu_fds_lifted(call_maker, maker);
	return fd < 0 ? (int)fd : fu_fd_high((int)fd);
}

int fu_set_open(struct fu_set *set)
{
	int fd = fu_set_fd(SYS_epoll_create1, EPOLL_CLOEXEC, 0);

	if (fd < 0)
		return fd;
	fu_store_relaxed(&set->epfd, fd);
	fd = fu_set_fd(SYS_eventfd2, 0, EFD_CLOEXEC | EFD_NONBLOCK);
	fu_store_relaxed(&set->wakefd, fd);
	if (fd >= 0) {
		fd = fu_set_add(set, fd, FU_POLLER_WAKE);
		if (!fd)
			return 0;
		fu_fd_close(set->wakefd);
	}
	fu_fd_close(set->epfd);
	fu_store_relaxed(&set->epfd, -1);
	return fd;
}

void fu_set_close(u32 set, void (*close_fd)(int))
{
	close_fd(fu_poller.sets[set].wakefd);
	if (!set)
		close_fd(fu_poller.sets[set].epfd);
	fu_store_relaxed(&fu_poller.sets[set].epfd, -1);
	fu_store_relaxed(&fu_poller.sets[set].wakefd, -1);
}

u32 fu_slot_watch(u32 set, struct fu_ctx *ctx, enum fu_slot_kind kind, int fd, u32 events)
{
	struct epoll_event ev = { .events = events };
	long index = fu_slot_alloc(set, -1);
	struct fu_slot *slot;

	if (index < 0)
		return 0;
	slot = fu_slot_at((u32)index);
	slot->kind = (u8)kind;
	slot->ctx = ctx;
	slot->fd = fd;
	ev.data.u64 = FU_SET_DATA((u32)index, slot->gen);
	slot->added = fu_sys(SYS_epoll_ctl, fu_poller.sets[set].epfd, EPOLL_CTL_ADD, fd, &ev) == 0;
	if (slot->added)
		return (u32)index + 1;
	fu_slot_free((u32)index);
	return 0;
}

/* A set for the ring alone, in the first one, or 0. fu_poller.lock held. */
static u32 make_set(void)
{
	struct fu_set *set;
	struct fu_slot *slot;
	u32 i = 1;

	while (i < fu_poller.nr_sets && fu_poller.sets[i].slot)
		i++;
	if (i == FU_POLLER_SETS)
		return 0;
	set = &fu_poller.sets[i];
	if (fu_set_open(set))
		return 0;
	fu_lock(&fu_poller.sets[0].lock);
	set->slot = fu_slot_watch(0, NULL, FU_SLOT_SET, set->epfd, EPOLLIN);
	if (set->slot) {
		slot = fu_slot_at(set->slot - 1);
		slot->inner = i;
		slot->own_fd = true;
	}
	fu_unlock(&fu_poller.sets[0].lock);
	if (!set->slot) {
		fu_fd_close(set->epfd);
		fu_set_close(i, fu_fd_close);
		return 0;
	}
	fu_leader_forget(i);
	fu_store_relaxed(&set->attached, true);
	if (i == fu_poller.nr_sets)
		fu_store_release(&fu_poller.nr_sets, i + 1);
	return i;
}

u32 fu_set_for(struct fu_ctx *ctx, u32 by)
{
	u32 set = 0;

	if (fu_likely(fu_load_acquire(&ctx->poll_set)))
		return fu_poller_set(ctx);
	fu_lock(&fu_poller.lock);
	if (!ctx->poll_set) {
		if (!fu_poller.first_by)
			fu_poller.first_by = by;
		/* Nobody leads a set for a ring that several processes have. */
		if (fu_poller.first_by != by && !fu_load_relaxed(&ctx->ring.ctrl->shared))
			set = make_set();
		fu_store_release(&ctx->poll_set, set + 1);
	}
	fu_unlock(&fu_poller.lock);
	return fu_poller_set(ctx);
}

void fu_poller_free_set(struct fu_ctx *ctx)
{
	u32 set = ctx->poll_set;

	ctx->poll_set = 0;
	if (set < 2)
		return;
	fu_lock(&fu_poller.lock);
	fu_slots_drop(set - 1);
	fu_set_close(set - 1, fu_fd_close);
	fu_lock(&fu_poller.sets[0].lock);
	fu_slot_free(fu_poller.sets[set - 1].slot - 1);
	fu_unlock(&fu_poller.sets[0].lock);
	fu_poller.sets[set - 1].slot = 0;
	/* Nobody need look after it any more. */
	fu_store_relaxed(&fu_poller.sets[set - 1].attached, true);
	fu_unlock(&fu_poller.lock);
}

u32 fu_poller_sets(void)
{
	return fu_load_acquire(&fu_poller.nr_sets);
}

u32 fu_poller_set(const struct fu_ctx *ctx)
{
	u32 set = fu_load_relaxed(&ctx->poll_set);

	return set ? set - 1 : 0;
}

bool fu_poller_attached(u32 set)
{
	return fu_load_relaxed(&fu_poller.sets[set].attached);
}

/* Has the first set tell of what happens in `set`, or not. */
static void attach_set(u32 set, bool attached)
{
	struct epoll_event ev = { .events = attached ? EPOLLIN : 0 };

	fu_lock(&fu_poller.lock);
	if (fu_poller.sets[set].slot && fu_poller.sets[set].attached != attached) {
		const struct fu_slot *slot = fu_slot_at(fu_poller.sets[set].slot - 1);

		ev.data.u64 = FU_SET_DATA(fu_poller.sets[set].slot - 1, slot->gen);
		fu_store_relaxed(&fu_poller.sets[set].attached, attached);
		fu_sys(SYS_epoll_ctl, fu_poller.sets[0].epfd, EPOLL_CTL_MOD, slot->fd, &ev);
	}
	fu_unlock(&fu_poller.lock);
}

void fu_poller_attach(u32 set)
{
	attach_set(set, true);
}

void fu_poller_detach(u32 set)
{
	attach_set(set, false);
}
