/* A thread that waits for deadlines where there are no timer descriptors. */
#ifndef FU_TICKER_H
#define FU_TICKER_H

#include "rings/types.h"

/* Starts it if it is not there. 0 or -errno. No lock of the timers' held. */
int fu_ticker_start(void);
/* The first deadline comes sooner than it did. Any lock may be held. */
void fu_ticker_kick(void);
/* In a forked child. */
void fu_ticker_reset(void);

/* timer.c, called by the thread: fires what is due. The time in ns until it has to be called again,
 * or -1: until it is kicked. */
s64 fu_timers_tick(void);

#endif
