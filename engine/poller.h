/* What the timers need of the poller's epoll set. */
#ifndef FU_POLLER_H
#define FU_POLLER_H

#include "rings/types.h"

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
/* Makes the thread look around, and leave if the last ring has gone. */
void fu_poller_wake(void);

#endif
