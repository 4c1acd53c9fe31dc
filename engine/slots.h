/*
 * Slots: what is in the poller's epoll sets. See slots.c.
 */
#ifndef FU_SLOTS_H
#define FU_SLOTS_H

#include "engine/engine.h"

enum fu_slot_kind {
	FU_SLOT_FREE,
	FU_SLOT_ARMED,
	FU_SLOT_BUSY,
	FU_SLOT_RING,
	FU_SLOT_AIO,
	FU_SLOT_SET,
	FU_SLOT_HERD /* watched for the requests of a herd (herds.c) */
};

/* Where a slot is in the line for its file (lines.c). */
enum fu_place {
	FU_PLACE_NONE,
	FU_PLACE_ASLEEP, /* nobody watches the file for it */
	FU_PLACE_AWAKE,
	FU_PLACE_BUSY,
	FU_PLACE_STUCK
};

struct fu_slot {
	u32 gen;
	u8 kind;
	bool own_fd;  /* fd is a duplicate made for this slot */
	bool named;   /* fd is a name for a file that the slot does not hold (slots.c) */
	bool parked;  /* a named one without a request; slots_lock */
	bool crowded; /* of a named one: another slot waits for the same name; relaxed */
	bool added;   /* in the epoll set */
	u8 set;       /* in which */
	u32 events;   /* registered */
	u32 pending;  /* edges that came while BUSY */
	int fd;
	int name;             /* by which it is found: slots_lock */
	u32 next_free;        /* index + 1 */
	struct fu_herd *herd; /* of which this is a member, or the watched one; the set's lock */
	/* slots_lock; the place is read without it as a hint, and by who holds the set's lock */
	u8 place;
	u32 index;
	struct fu_list line; /* while there is a place; or the herd's, and the set's lock */
	union {
		struct fu_req *req;
		struct fu_ctx *ctx;
		u32 inner; /* the set that this one is */
	};
};

/* index below fu_poller.nr_slots */
struct fu_slot *fu_slot_at(u32 index);
/* What the set still tells of the slot is stale from here on. The set's lock held. */
void fu_slot_renew(struct fu_slot *slot);
/* Takes it out of the epoll set, where it is. */
void fu_slot_leave_set(struct fu_slot *slot);
/*
 * A free slot's index, or -ENOMEM. It is in `set`, whose lock is held, and for the file that the
 * descriptor `name` names, or -1.
 */
long fu_slot_alloc(u32 set, int name);
/*
 * The slot of the name, BUSY, in `set`, whose lock is held: a new one, or one that is in the epoll
 * set still from an earlier request. Its index, -EBUSY while it waits for another, or -ENOMEM.
 */
long fu_slot_named(u32 set, int name);
/* The slot that is found by the name, in use and in `set`, whose lock is held; or -1. */
long fu_slot_of_name(u32 set, int name);
/* Has the one of index `to` be found by the name of a slot instead. The set's lock held. */
void fu_slot_hand_name(struct fu_slot *from, u32 to);
/* What has been handed over is nobody's again. The set's lock held. */
void fu_slot_unname(u32 index);
/*
 * Done with: a named one stays in the epoll set for the next request. The others leave it, and
 * close the descriptor if it is the slot's own. The set's lock held.
 */
void fu_slot_free(u32 index);
/* The set is to be closed: what requests have left there is free. */
void fu_slots_drop(u32 set);
/* Adds `fd` to `set` as `kind` of the ring. The slot's index + 1, or 0. The set's lock held. */
u32 fu_slot_watch(u32 set, struct fu_ctx *ctx, enum fu_slot_kind kind, int fd, u32 events);

#endif
