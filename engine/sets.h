/*
 * What the poller waits on: its epoll sets. See sets.c; what is in them: slots.h.
 */
#ifndef FU_SETS_H
#define FU_SETS_H

#include "engine/engine.h"
#include "engine/lines.h"
#include "engine/poller.h"
#include "rings/lock.h"

struct fu_set {
	struct fu_lock lock; /* guards the slots in it */
	int epfd, wakefd;    /* -1: not in use */
	u32 requests;        /* slots of requests in it; read without the lock as a hint */
	u32 slot;            /* its own in the first set, + 1 */
	u32 by;              /* the thread whose rings' requests it is for; relaxed */
	bool attached;       /* read without the lock */
	bool called;         /* there may be an event since it was looked at; relaxed (lines.c) */
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
	u32 nr_sets; /* above all that are in use; read without the lock */
	int timerfds[FU_POLLER_TIMERS];
	struct fu_lock slots_lock; /* guards all below */
	struct fu_slot **chunks;
	u32 nr_slots;        /* read without the lock */
	u32 free_head, used; /* parked ones are neither free nor used */
	u32 *names;          /* by descriptor: index + 1 of the named slot there is */
	struct fu_list lines[FU_LINE_BUCKETS];
};
extern struct fu_poller fu_poller;

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
