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
/*
 * Handles what is ready now on the calling thread. In the kernel an event that precedes a
 * system call has been dealt with when the call returns; a program may rely on that, and
 * the poller's thread may not have been scheduled yet. No lock held.
 */
void fu_poller_harvest(void);
/* Whether there is anything in the set, or of the ring in the kernel's AIO, to wait for. A hint. */
bool fu_poller_has_requests(const struct fu_ctx *ctx);
/* Events that are fetched at once. */
#define FU_POLLER_EVENTS 64U
/*
 * Waits for events and fetches them, up to FU_POLLER_EVENTS. timeout_ns: relative; `mask`: signal
 * mask during the wait, or NULL. Returns how many, or -ETIMEDOUT, -EINTR. No lock held.
 */
long fu_poller_fetch(struct epoll_event *events, s64 timeout_ns, const u64 *mask);
/* Handles the first n events and clears them; those without bits do nothing. */
void fu_poller_handle(struct epoll_event *events, u32 n);
/* Makes whoever waits on the set look around. Any lock may be held. */
void fu_poller_kick(void);
/* Makes the thread look around, and leave if the last ring has gone. */
void fu_poller_wake(void);

#endif
