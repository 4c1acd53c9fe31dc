/*
 * What the poller waits on: its epoll sets, and the slots that say what is in them. See sets.c.
 */
#ifndef FU_SETS_H
#define FU_SETS_H

#include "engine/engine.h"
#include "engine/poller.h"
#include "rings/lock.h"

enum fu_slot_kind {
	FU_SLOT_FREE,
	FU_SLOT_ARMED,
	FU_SLOT_BUSY,
	FU_SLOT_RING,
	FU_SLOT_AIO,
	FU_SLOT_SET
};

struct fu_slot {
	u32 gen;
	u8 kind;
	bool own_fd;  /* fd is a duplicate made for this slot */
	bool named;   /* fd is a name for a file that the slot does not hold (sets.c) */
	bool parked;  /* a named one without a request; slots_lock */
	bool crowded; /* of a named one: another slot waits for the same name; relaxed */
	bool added;   /* in the epoll set */
	u8 set;       /* in which */
	u32 events;   /* registered */
	u32 pending;  /* edges that came while BUSY */
	int fd;
	u32 next_free; /* index + 1 */
	union {
		struct fu_req *req;
		struct fu_ctx *ctx;
		u32 inner; /* the set that this one is */
	};
};

struct fu_set {
	struct fu_lock lock; /* guards the slots in it */
	int epfd, wakefd;    /* -1: not in use */
	u32 requests;        /* slots of requests in it; read without the lock as a hint */
	u32 slot;            /* its own in the first set, + 1 */
	bool attached;       /* read without the lock */
	/* Low half: threads with events in hand; high: how often one was done with them. Atomic. */
	u64 handlers;
} __attribute__((aligned(64)));

/* epoll data: slot index and generation, or one of these with generation 0. */
#define FU_SET_DATA(index, gen) ((u64)(gen) << 32 | (index))
#define FU_SET_SPECIAL          0U

/* Locks: `lock`, then a set's, the first's last, then `slots_lock`. */
struct fu_poller {
	struct fu_lock lock; /* guards what sets there are, and all below up to `slots_lock` */
	bool running;
	u32 tid; /* of the thread; atomic */
	struct fu_set sets[FU_POLLER_SETS];
	u32 nr_sets;  /* above all that are in use; read without the lock */
	u32 first_by; /* the thread whose rings' requests are in the first set */
	int timerfds[FU_POLLER_TIMERS];
	struct fu_lock slots_lock; /* guards all below */
	struct fu_slot **chunks;
	u32 nr_slots;        /* read without the lock */
	u32 free_head, used; /* parked ones are neither free nor used */
	u32 *names;          /* by descriptor: index + 1 of the named slot there is */
};
extern struct fu_poller fu_poller;

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
/*
 * Done with: a named one stays in the epoll set for the next request. The others leave it, and
 * close the descriptor if it is the slot's own. The set's lock held.
 */
void fu_slot_free(u32 index);
/* The set is to be closed: what requests have left there is free. */
void fu_slots_drop(u32 set);
/* Adds `fd` to `set` as `kind` of the ring. The slot's index + 1, or 0. The set's lock held. */
u32 fu_slot_watch(u32 set, struct fu_ctx *ctx, enum fu_slot_kind kind, int fd, u32 events);

/* A descriptor of the engine's that the call gives, or -errno; the program's may be used up. */
int fu_set_fd(long nr, long a, long b);
/* Adds one that is named `what` in the set (poller.h). 0 or -errno. */
int fu_set_add(const struct fu_set *set, int fd, u32 what);
/* 0 or -errno. fu_poller.lock held. */
int fu_set_open(struct fu_set *set);
/* The descriptor of one in the first set is its slot's. fu_poller.lock held. */
void fu_set_close(u32 set, void (*close_fd)(int));
/*
 * The set for what is armed for the ring, chosen the first time: `by` is the thread that uses it.
 * No lock of the poller's held.
 */
u32 fu_set_for(struct fu_ctx *ctx, u32 by);

#endif
