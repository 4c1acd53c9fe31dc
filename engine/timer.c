/*
 * Timers: one binary heap per clock, and one timer descriptor per clock in the
 * poller's set, programmed to the earliest deadline. Arming and taking a timer cost
 * no system call unless the earliest deadline moves forward; a deadline that is
 * taken out leaves the descriptor as it is, and the early expiry finds nothing due.
 * Where there are no timer descriptors a thread waits for all three heaps (ticker.c).
 */
#include "engine/engine.h"

#include <errno.h>
#include <sys/timerfd.h>
#include <time.h>

#include "engine/poller.h"
#include "engine/ticker.h"
#include "rings/mem.h"
#include "rings/sys.h"

struct heap {
	struct fu_timer **v;
	u32 nr, room;
	u64 programmed_ns; /* what the descriptor is set to; 0: nothing */
};

/* Guards the heaps and every timer's pos. */
static struct fu_lock lock;
static struct heap heaps[FU_POLLER_TIMERS];
static bool ticks; /* the ticker sees to them, once for all. Guarded by lock, to set. */

/* How late the ticker may be to learn that somebody has set the clock. */
#define CLOCK_SET_NS 1000000000LL

static u32 heap_of(u32 clock)
{
	return clock == CLOCK_REALTIME ? 1 : clock == CLOCK_BOOTTIME ? 2 : 0;
}

static u32 clock_of(u32 heap)
{
	static const u8 clocks[] = { CLOCK_MONOTONIC, CLOCK_REALTIME, CLOCK_BOOTTIME };

	return clocks[heap];
}

static void place(struct heap *h, u32 at, struct fu_timer *t)
{
	h->v[at] = t;
	t->pos = at + 1;
}

static void sift_up(struct heap *h, u32 at, struct fu_timer *t)
{
	while (at && h->v[(at - 1) / 2]->deadline_ns > t->deadline_ns) {
		place(h, at, h->v[(at - 1) / 2]);
		at = (at - 1) / 2;
	}
	place(h, at, t);
}

static void sift_down(struct heap *h, u32 at, struct fu_timer *t)
{
	for (;;) {
		u32 kid = 2 * at + 1;

		if (kid >= h->nr)
			break;
		if (kid + 1 < h->nr && h->v[kid + 1]->deadline_ns < h->v[kid]->deadline_ns)
			kid++;
		if (h->v[kid]->deadline_ns >= t->deadline_ns)
			break;
		place(h, at, h->v[kid]);
		at = kid;
	}
	place(h, at, t);
}

static void take_out(struct heap *h, struct fu_timer *t)
{
	u32 at = t->pos - 1;
	struct fu_timer *last = h->v[--h->nr];

	t->pos = 0;
	if (last == t)
		return;
	if (at && h->v[(at - 1) / 2]->deadline_ns > last->deadline_ns)
		sift_up(h, at, last);
	else
		sift_down(h, at, last);
}

static int grow(struct heap *h)
{
	u32 room = h->room ? 2 * h->room : 64;
	struct fu_timer **v = fu_alloc(room * sizeof(struct fu_timer *));

	if (!v)
		return -ENOMEM;
	for (u32 i = 0; i < h->nr; i++)
		v[i] = h->v[i];
	fu_free(h->v, h->room * sizeof(struct fu_timer *));
	h->v = v;
	h->room = room;
	return 0;
}

/* Sees to the earliest deadline, if that comes sooner than what was. `fd`: -1 where there is no
 * descriptor. lock held. */
static void program(u32 which, int fd)
{
	struct heap *h = &heaps[which];
	struct itimerspec its = { 0 };
	u64 first;

	if (!h->nr)
		return;
	first = h->v[0]->deadline_ns ? h->v[0]->deadline_ns : 1;
	if (h->programmed_ns && h->programmed_ns <= first)
		return;
	its.it_value.tv_sec = (time_t)(first / 1000000000ULL);
	its.it_value.tv_nsec = (long)(first % 1000000000ULL);
	if (!ticks && (fd < 0 || fu_sys(SYS_timerfd_settime, fd, TFD_TIMER_ABSTIME, &its, 0)))
		ticks = true;
	h->programmed_ns = first;
	if (ticks)
		fu_ticker_kick();
}

/* Takes it out again unless it has fired, or been taken: then that was in time. */
static int start_ticker(struct fu_timer *timer)
{
	int ret = fu_ticker_start();

	return ret && fu_timer_take(timer) ? ret : 0;
}

int fu_timer_arm(struct fu_timer *timer, u32 clock, u64 deadline_ns)
{
	u32 which = heap_of(clock);
	struct heap *h = &heaps[which];
	int fd = fu_load_relaxed(&ticks) ? -1 : fu_poller_timerfd(which, clock_of(which)), ret = 0;
	bool by_ticker;

	fu_lock(&lock);
	if (h->nr == h->room)
		ret = grow(h);
	if (!ret) {
		timer->clock = (u8)which;
		timer->deadline_ns = deadline_ns;
		h->nr++;
		sift_up(h, h->nr - 1, timer);
		program(which, fd);
	}
	by_ticker = ticks;
	fu_unlock(&lock);
	return ret || fu_likely(!by_ticker) ? ret : start_ticker(timer);
}

bool fu_timer_take(struct fu_timer *timer)
{
	bool was_in;

	fu_lock(&lock);
	was_in = timer->pos != 0;
	if (was_in)
		take_out(&heaps[timer->clock], timer);
	fu_unlock(&lock);
	return was_in;
}

static void expire(u32 which, int fd)
{
	struct heap *h = &heaps[which];

	for (;;) {
		struct fu_timer *due = NULL;

		fu_lock(&lock);
		h->programmed_ns = 0;
		if (h->nr && h->v[0]->deadline_ns <= fu_now_ns(clock_of(which))) {
			due = h->v[0];
			take_out(h, due);
		} else {
			program(which, fd);
		}
		fu_unlock(&lock);
		if (!due)
			return;
		fu_timer_fired(due);
	}
}

void fu_timers_expire(u32 which)
{
	int fd = fu_poller_timerfd(which, clock_of(which));
	bool before = fu_load_relaxed(&ticks);
	u64 ticked;

	fu_sys(SYS_read, fd, &ticked, sizeof(ticked));
	expire(which, fd);
	/* The descriptor has refused the next deadline. */
	if (fu_unlikely(fu_load_relaxed(&ticks) && !before))
		fu_ticker_start();
}

s64 fu_timers_tick(void)
{
	s64 next = -1;

	for (u32 i = 0; i < FU_POLLER_TIMERS; i++) {
		u64 now;
		s64 left = -1;

		expire(i, -1);
		now = fu_now_ns(clock_of(i));
		fu_lock(&lock);
		if (heaps[i].nr)
			left = heaps[i].v[0]->deadline_ns > now
			               ? (s64)(heaps[i].v[0]->deadline_ns - now)
			               : 0;
		fu_unlock(&lock);
		if (i && left > CLOCK_SET_NS)
			left = CLOCK_SET_NS;
		if (left >= 0 && (next < 0 || left < next))
			next = left;
	}
	return next;
}

void fu_timers_unprogram(void)
{
	fu_lock(&lock);
	for (u32 i = 0; i < FU_POLLER_TIMERS; i++)
		heaps[i].programmed_ns = 0;
	fu_unlock(&lock);
}

void fu_timers_reset(void)
{
	lock.word = 0;
	fu_memset(heaps, 0, sizeof(heaps));
	fu_ticker_reset();
}
