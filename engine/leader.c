/*
 * The waiting thread as the poller.
 *
 * An event that the poller's thread handles reaches a thread blocked in io_uring_enter by way of
 * two switches between threads, which cost more than most requests. So a thread that has to
 * wait takes the epoll set over, if it is the only one that waits: it leads. It handles all
 * events, its own rings' and others', and sleeps on until its own wait is over.
 *
 * When it goes, the set is nobody's for a moment: most likely the same thread will be back,
 * and waking the poller's thread each time would cost what was saved. That thread, parked
 * meanwhile, looks every millisecond whether somebody has led since, and takes over if not. It is
 * told at once when others wait too, or when the program is about to sleep in a call of its
 * own. It does not look that often while a leader sleeps: then the leader wakes it on leaving.
 *
 * The parked thread also finds a leader that will not come back: a signal handler has jumped out
 * of its wait, or the thread has ended. While a leader runs a handler it counts as away, and is
 * replaced if that takes longer than a moment; and one that lives moves `epoch` twice a second.
 * A handler may come when the kernel has already filled in events: they lie in the leader's
 * seat, not on its stack, and are handled by the thread itself when it comes here next, or by the
 * parked one.
 */
#include "engine/leader.h"

#include <errno.h>
#include <sys/epoll.h>

#include "engine/entry.h"
#include "engine/poller.h"
#include "engine/registry.h"
#include "rings/mem.h"
#include "rings/sys.h"

#define TICK_NS  1000000LL
#define SLICE_NS 500000000LL  /* a leader's longest sleep */
#define LEASE_NS 3000000000LL /* after this without a sign a leader is gone */

#define SEATS 16U

/*
 * Where a leader fetches events. A thread that has left by a jump, or seems to have, may come back
 * while another looks into its seat: whoever is at the events marks it.
 */
static struct seat {
	u32 owner; /* a tid, perhaps with BUSY, or SEIZED, or 0 */
	struct epoll_event events[FU_POLLER_EVENTS];
} seats[SEATS];

#define BUSY   (1U << 30) /* its owner handles the events */
#define SEIZED (1U << 31) /* the parked thread does */

static struct {
	u64 leader;    /* its tid, above it a number of its own; 0 for nobody at the moment */
	u32 led;       /* the set is the leader's, not the thread's */
	u32 sittings;  /* how many leaders there have been */
	u32 epoch;     /* moves whenever somebody leads */
	u32 followers; /* threads that wait for completions otherwise */
	u32 drowsy;    /* the parked thread relies on the leader to wake it */
	u32 away;      /* the leader runs a signal handler of the program */
	u32 seq;       /* futex of the parked thread */
} lead;

/* The seat that `tid` has, or NULL. */
static struct seat *seat_of(u32 tid)
{
	for (u32 i = 0; i < SEATS; i++) {
		if (fu_load_relaxed(&seats[i].owner) == tid)
			return &seats[i];
	}
	return NULL;
}

/* A free seat, now the calling thread's, or NULL. */
static struct seat *take_seat(u32 me)
{
	for (u32 i = 0; i < SEATS; i++) {
		u32 none = 0;

		if (!fu_load_relaxed(&seats[i].owner) &&
		    __atomic_compare_exchange_n(&seats[i].owner, &none, me, false, __ATOMIC_ACQUIRE,
		                                __ATOMIC_RELAXED))
			return &seats[i];
	}
	return NULL;
}

void fu_leader_unpark(void)
{
	__atomic_fetch_add(&lead.seq, 1, __ATOMIC_SEQ_CST);
	fu_futex_wake(&lead.seq, 1);
}

/* The leader's tid, or 0. */
static u32 leader(void)
{
	return (u32)fu_load_relaxed(&lead.leader);
}

static bool resign(u64 token)
{
	return __atomic_compare_exchange_n(&lead.leader, &token, 0, false, __ATOMIC_SEQ_CST,
	                                   __ATOMIC_RELAXED);
}

/* Handles the first n events in the seat if it is `from`'s; it is `to`'s then. */
static void work_off(struct seat *seat, u32 n, u32 from, u32 mark, u32 to)
{
	/* Nobody jumps out of this. */
	fu_critical_enter();
	if (__atomic_compare_exchange_n(&seat->owner, &from, mark, false, __ATOMIC_ACQUIRE,
	                                __ATOMIC_RELAXED)) {
		fu_poller_handle(seat->events, n);
		fu_store_release(&seat->owner, to);
	}
	fu_critical_leave();
}

/* The set is the thread's again. */
static void hand_back(void)
{
	if (__atomic_exchange_n(&lead.led, 0, __ATOMIC_SEQ_CST))
		fu_leader_unpark();
}

/*
 * The calling thread is marked as the leader and is not waiting: a signal handler has jumped out
 * of its wait, or this is one that has interrupted it.
 */
static void stand_up(u32 me)
{
	u64 token = fu_load_relaxed(&lead.leader);
	struct seat *seat = seat_of(me);

	if (seat)
		work_off(seat, FU_POLLER_EVENTS, me, me | BUSY, 0);
	if ((u32)token == me)
		resign(token);
}

void fu_leader_hand_back(void)
{
	u32 tid;

	if (fu_likely(!fu_load_relaxed(&lead.led)))
		return;
	tid = leader();
	if (tid && tid == fu_tid())
		stand_up(tid);
	if (!tid || tid == fu_tid())
		hand_back();
}

/* Becomes the leader if nobody is. */
static bool sit_down(u32 me)
{
	struct seat *seat;
	u64 none = 0, token;

	if (fu_unlikely(seat_of(me) || leader() == me))
		stand_up(me);
	seat = take_seat(me);
	if (!seat)
		return false;
	token = (u64)__atomic_add_fetch(&lead.sittings, 1, __ATOMIC_RELAXED) << 32 | me;
	if (!__atomic_compare_exchange_n(&lead.leader, &none, token, false, __ATOMIC_SEQ_CST,
	                                 __ATOMIC_RELAXED)) {
		fu_store_release(&seat->owner, 0);
		return false;
	}
	fu_store_relaxed(&lead.away, 0);
	fu_store_relaxed(&lead.epoch, fu_load_relaxed(&lead.epoch) + 1);
	__atomic_store_n(&lead.led, 1, __ATOMIC_SEQ_CST);
	return true;
}

void fu_leader_not_waiting(void)
{
	if (!fu_self.follows)
		return;
	fu_critical_enter();
	fu_self.follows = 0;
	__atomic_fetch_sub(&lead.followers, 1, __ATOMIC_SEQ_CST);
	fu_critical_leave();
}

bool fu_leader_try(struct fu_ctx *ctx)
{
	/* It is counted still if a signal handler has jumped out of an earlier wait. */
	fu_leader_not_waiting();
	/* Posts of other processes would not find us here. */
	if (fu_poller_has_requests(ctx) && !fu_load_relaxed(&ctx->ring.ctrl->shared) &&
	    !fu_load_relaxed(&lead.followers) && sit_down(fu_tid()))
		return true;
	fu_critical_enter();
	fu_self.follows = 1;
	__atomic_fetch_add(&lead.followers, 1, __ATOMIC_SEQ_CST);
	fu_critical_leave();
	fu_leader_hand_back();
	return false;
}

void fu_leader_leave(void)
{
	u64 token = fu_load_relaxed(&lead.leader);
	u32 me = fu_tid();
	struct seat *seat = seat_of(me);

	if (seat)
		__atomic_compare_exchange_n(&seat->owner, &(u32){ me }, 0, false, __ATOMIC_RELEASE,
		                            __ATOMIC_RELAXED);
	/* If it was away for too long somebody else may lead by now. */
	if ((u32)token != me || !resign(token))
		return;
	if (fu_load_relaxed(&lead.followers))
		hand_back();
	else if (fu_load_relaxed(&lead.drowsy) &&
	         __atomic_exchange_n(&lead.drowsy, 0, __ATOMIC_SEQ_CST))
		fu_leader_unpark();
}

bool fu_handler_begins(void)
{
	if (fu_likely(leader() != fu_tid()) || __atomic_exchange_n(&lead.away, 1, __ATOMIC_SEQ_CST))
		return false;
	if (fu_load_relaxed(&lead.drowsy) && __atomic_exchange_n(&lead.drowsy, 0, __ATOMIC_SEQ_CST))
		fu_leader_unpark();
	return true;
}

void fu_handler_ends(void)
{
	if (leader() == fu_tid())
		fu_store_relaxed(&lead.away, 0);
}

bool fu_leader_still(void)
{
	return fu_likely(leader() == fu_tid());
}

void fu_leader_listen(struct fu_ctx *ctx)
{
	__atomic_store_n(&ctx->leader_listens, 1, __ATOMIC_SEQ_CST);
}

void fu_leader_wake(struct fu_ctx *ctx)
{
	if (fu_unlikely(fu_load_relaxed(&ctx->leader_listens)) &&
	    __atomic_exchange_n(&ctx->leader_listens, 0, __ATOMIC_SEQ_CST))
		fu_poller_kick();
}

void fu_leader_pass_on(void)
{
	u32 tid = leader();

	if (tid && tid != fu_tid()) {
		/* Should this be the poller's thread, it is not to fetch the next one too. */
		fu_store_relaxed(&lead.led, 1);
		fu_poller_kick();
	}
}

long fu_leader_wait(struct fu_ctx *ctx, s64 left_ns, const u64 *mask)
{
	s64 slice = left_ns < 0 || left_ns > SLICE_NS ? SLICE_NS : left_ns;
	u32 me = fu_tid();
	struct seat *seat = seat_of(me);
	long ret;

	/* Dismissed just now. */
	if (fu_unlikely(!seat))
		return 0;
	ret = fu_poller_fetch(seat->events, slice, mask);
	/* Awake: what we post ourselves needs no wake-up. */
	fu_store_relaxed(&ctx->leader_listens, 0);
	if (ret > 0)
		work_off(seat, (u32)ret, me, me | BUSY, me);
	/* Whoever finds that no later one has come may look into the seat. */
	fu_store_release(&lead.epoch, fu_load_relaxed(&lead.epoch) + 1);
	if (ret == -ETIMEDOUT && slice != left_ns)
		return 0;
	return ret < 0 ? ret : 0;
}

/*
 * The leader has given no sign for long: it has left by a jump, or has ended. One that is not away
 * may be stopped, with the kernel still to fill its seat: that stays its own.
 */
static void dismiss(u64 token, bool away)
{
	u32 tid = (u32)token;
	struct seat *seat = seat_of(tid);

	if (resign(token) && seat)
		work_off(seat, FU_POLLER_EVENTS, tid, SEIZED, away ? 0 : tid);
}

void fu_leader_park(void)
{
	while (fu_load_acquire(&lead.led)) {
		u32 seq = __atomic_load_n(&lead.seq, __ATOMIC_SEQ_CST);
		u32 epoch = fu_load_acquire(&lead.epoch), drowsy;
		u64 token;
		long ret;

		ret = fu_futex_wait(&lead.seq, seq, TICK_NS);
		if (ret != -ETIMEDOUT || epoch != fu_load_acquire(&lead.epoch)) {
			if (!fu_registry_live())
				return;
			continue;
		}
		token = __atomic_load_n(&lead.leader, __ATOMIC_SEQ_CST);
		if (token && __atomic_load_n(&lead.away, __ATOMIC_SEQ_CST)) {
			dismiss(token, true);
		} else if (token) {
			/* It sleeps, and so can we. */
			__atomic_store_n(&lead.drowsy, 1, __ATOMIC_SEQ_CST);
			ret = 0;
			if (__atomic_load_n(&lead.leader, __ATOMIC_SEQ_CST) == token &&
			    !__atomic_load_n(&lead.away, __ATOMIC_SEQ_CST))
				ret = fu_futex_wait(&lead.seq, seq, LEASE_NS);
			drowsy = __atomic_exchange_n(&lead.drowsy, 0, __ATOMIC_SEQ_CST);
			if (!drowsy || ret != -ETIMEDOUT || epoch != fu_load_acquire(&lead.epoch))
				continue;
			dismiss(token, false);
		}
		__atomic_store_n(&lead.led, 0, __ATOMIC_SEQ_CST);
	}
}

void fu_leader_reset(void)
{
	fu_self.follows = 0;
	lead.leader = 0;
	lead.led = lead.followers = lead.drowsy = lead.away = 0;
	fu_memset(seats, 0, sizeof(seats));
}
