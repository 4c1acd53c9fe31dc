/*
 * Timers where timer descriptors or the poller are not to be had: in a sandbox that denies
 * them, or when the process may open no more. One thread sleeps on a futex until the first
 * deadline, and leaves when there has been none for a while.
 */
#include "engine/ticker.h"

#include <errno.h>

#include "engine/engine.h"
#include "engine/registry.h"
#include "engine/thread.h"

static struct {
	struct fu_lock lock; /* guards `running`; nothing of the timers' is taken with it */
	bool running;
	u32 kicks;
} ticker;

/* Whether the thread, which has found nothing to do, has left. */
static bool leave(u32 kicks)
{
	bool idle;

	fu_lock(&ticker.lock);
	idle = __atomic_load_n(&ticker.kicks, __ATOMIC_SEQ_CST) == kicks;
	if (idle)
		ticker.running = false;
	fu_unlock(&ticker.lock);
	return idle;
}

static void *ticker_main(void *arg)
{
	s64 patience = FU_ALONE_NS;

	(void)arg;
	for (;;) {
		u32 kicks = __atomic_load_n(&ticker.kicks, __ATOMIC_SEQ_CST);
		s64 left = fu_timers_tick(), nap = left < 0 || left > patience ? patience : left;

		if (fu_futex_wait(&ticker.kicks, kicks, nap) != -ETIMEDOUT || nap == left)
			continue;
		if (left < 0 && leave(kicks))
			return NULL;
		if (fu_threads_alone()) {
			/* The kernel ends what a process waits for as its threads go. */
			fu_registry_each(fu_cancel_everything);
			return NULL;
		}
		patience = fu_alone_next(patience);
	}
}

int fu_ticker_start(void)
{
	int ret = 0;

	fu_lock(&ticker.lock);
	/* It does not leave before it has looked at what has come by now. */
	fu_ticker_kick();
	if (!ticker.running) {
		ret = fu_thread_start(ticker_main, NULL);
		ticker.running = !ret;
	}
	fu_unlock(&ticker.lock);
	return ret;
}

void fu_ticker_kick(void)
{
	__atomic_fetch_add(&ticker.kicks, 1, __ATOMIC_SEQ_CST);
	fu_futex_wake(&ticker.kicks, 1);
}

void fu_ticker_reset(void)
{
	ticker.lock.word = 0;
	ticker.running = false;
}
