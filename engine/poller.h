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
/* Makes the thread look around, and leave if the last ring has gone. */
void fu_poller_wake(void);

#endif
