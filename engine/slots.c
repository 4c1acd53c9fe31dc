/*
 * Slots: what is in the poller's epoll sets. One says whose an event is, and whether it is still
 * waited for.
 *
 * A slot's registration is made with a duplicate of the descriptor, since the program may close
 * its own while the request waits. But a duplicate in the set keeps the file open, and to make one,
 * add it, take it out and close it costs four system calls for each request that waits once. So
 * such a request holds its duplicate, and is registered by the descriptor that the program gave, or
 * by the one of the registered file. That registration does not keep the file open: it stays there,
 * disarmed, when the request is done, and the next one by that name only has to arm it. When the
 * name is another file's by then, or the file has gone, the kernel does not find it (-ENOENT), and
 * it is made anew. There is one for each name: who comes while that is in use shares it (herds.c),
 * or makes a duplicate. One that has been lost sight of does no harm: it is found when it is to be
 * made
 * (-EEXIST).
 */
#include "engine/slots.h"

#include <errno.h>
#include <sys/epoll.h>

#include "engine/herds.h"
#include "engine/sets.h"
#include "rings/fds.h"
#include "rings/mem.h"
#include "rings/sys.h"

#define CHUNK_SLOTS 256U
#define MAX_CHUNKS  4096U
/* Descriptors that are told apart; of two with the same place one makes way. */
#define NAMES 16384U

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
	if (named && named->name == name)
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
	slot->fd = slot->name = name;
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
	slot->fd = slot->name = name;
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

long fu_slot_of_name(u32 set, int name)
{
	const struct fu_slot *slot;
	long index = -1;

	fu_lock(&fu_poller.slots_lock);
	slot = named_at(name);
	if (slot && !slot->parked && slot->set == set && slot->name == name)
		index = (long)*place_of(name) - 1;
	fu_unlock(&fu_poller.slots_lock);
	return index;
}

void fu_slot_hand_name(struct fu_slot *from, u32 to)
{
	fu_lock(&fu_poller.slots_lock);
	*place_of(from->name) = to + 1;
	fu_slot_at(to)->name = from->name;
	from->named = false;
	fu_unlock(&fu_poller.slots_lock);
}

void fu_slot_unname(u32 index)
{
	fu_lock(&fu_poller.slots_lock);
	*place_of(fu_slot_at(index)->name) = 0;
	fu_unlock(&fu_poller.slots_lock);
}

void fu_slot_free(u32 index)
{
	struct fu_slot *slot = fu_slot_at(index);
	bool parks = slot->named && slot->added;

	if (slot->added && !parks)
		fu_slot_leave_set(slot);
	if (slot->own_fd)
		fu_fd_close(slot->fd);
	fu_line_leave(slot);
	fu_herd_leave(slot);
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
