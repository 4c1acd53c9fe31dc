/* What the timers need of the poller's epoll set. */
#ifndef FU_POLLER_H
#define FU_POLLER_H

#include "rings/types.h"

struct fu_ctx;
struct epoll_event;

/* One timer descriptor per clock: monotonic, realtime, boottime. */
#define FU_POLLER_TIMERS 3
/* The wake-up event's name in the set, after the timers'. */
#define FU_POLLER_WAKE FU_POLLER_TIMERS

/* The timer descriptor of `timer`, made on first use for `clock`; -errno. Starts the poller. */
int fu_poller_timerfd(u32 timer, u32 clock);
/* Sets, at most: the first, and those of rings. */
#define FU_POLLER_SETS 64U
/* How many there are; some of them may not be in use. */
u32 fu_poller_sets(void);
/* Where the ring's requests are. */
u32 fu_poller_set(const struct fu_ctx *ctx);
/*
 * A set other than the first: whether that one tells of its events. Attaching and detaching it
 * takes a lock; of one that is no longer in use they do nothing.
 */
bool fu_poller_attached(u32 set);
void fu_poller_attach(u32 set);
void fu_poller_detach(u32 set);
/* The ring is being freed: nothing is armed. */
void fu_poller_free_set(struct fu_ctx *ctx);
/*
 * Handles what is ready now on the calling thread. In the kernel an event that precedes a
 * system call has been dealt with when the call returns; a program may rely on that, and
 * the poller's thread may not have been scheduled yet. Of one ring's set, or all (NULL). Returns
 * whether anything may have come of it. No lock held.
 */
bool fu_poller_harvest(const struct fu_ctx *ctx);
/* The same for the sets of the calling thread's own requests: others' complete for others. */
void fu_poller_harvest_own(void);
/* Whether there is anything in the ring's set, or of it in the kernel's AIO, to wait for. A hint.
 */
bool fu_poller_has_requests(const struct fu_ctx *ctx);
/* Events that are fetched at once. */
#define FU_POLLER_EVENTS 64U
/*
 * Waits for events and fetches them, up to FU_POLLER_EVENTS. timeout_ns: relative; `mask`: signal
 * mask during the wait, or NULL. Returns how many, or -ETIMEDOUT, -EINTR. No lock held.
 */
long fu_poller_fetch(u32 set, struct epoll_event *events, s64 timeout_ns, const u64 *mask);
/* The calling thread is to fetch events of the set, and has handled them. */
void fu_poller_begin(u32 set);
void fu_poller_end(u32 set);
/* Handles the first n events and clears them; those without bits do nothing. */
void fu_poller_handle(u32 set, struct epoll_event *events, u32 n);
/* Makes whoever waits on the set look around. Any lock may be held. */
void fu_poller_kick(u32 set);
/* Makes the thread look around, and leave if the last ring has gone. */
void fu_poller_wake(void);

#endif
