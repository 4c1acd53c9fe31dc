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
 * A thread that enters for completions which are there already waits for nothing, but has looked
 * into the set: if that goes on so, it leads as one does that is about to come back.
 *
 * The parked thread also finds a leader that will not come back: a signal handler has jumped out
 * of its wait, or the thread has ended. While a leader runs a handler it counts as away, and is
 * replaced if that takes longer than a moment; and one that lives moves `epoch` twice a second.
 * A handler may come when the kernel has already filled in events: they lie in the leader's
 * seat, not on its stack, and are handled by the thread itself when it comes here next, or by the
 * parked one.
 *
 * All this holds for each of the poller's sets. The first is the poller's thread's own, and it
 * waits on it while nobody leads there; the others it attaches to the first then.
 */
#include "engine/leader.h"

#include <errno.h>
#include <sys/epoll.h>
#include <time.h>

#include "engine/entry.h"
#include "engine/peers.h"
#include "engine/poller.h"
#include "engine/registry.h"
#include "rings/mem.h"
#include "rings/sys.h"

#define TICK_NS  1000000LL
#define SLICE_NS 500000000LL  /* a leader's longest sleep */
#define LEASE_NS 3000000000LL /* after this without a sign a leader is gone */

/* Waits without a wait in a row, after which the next is likely to be one too. */
#define PASSES 4

#define SEATS FU_POLLER_SETS

/*
 * Where a leader fetches events. A thread that has left by a jump, or seems to have, may come back
 * while another looks into its seat: whoever is at the events marks it.
 */
static struct seat {
	u32 set;   /* whose events these are */
	u32 forks; /* when they were fetched */
	struct epoll_event events[FU_POLLER_EVENTS];
} seats[SEATS];
/* How many forks lie between the first process and this one. */
static u32 forks;
/* Of each a tid, perhaps with BUSY, or SEIZED, or 0. Side by side, for they are searched. */
static u32 owners[SEATS];

#define BUSY   (1U << 30) /* its owner handles the events */
#define SEIZED (1U << 31) /* the parked thread does */

static struct lead {
	u64 leader;    /* its tid, above it a number of its own; 0 for nobody at the moment */
	u32 sittings;  /* how many leaders there have been */
	u32 epoch;     /* moves whenever somebody leads */
	u32 followers; /* threads that wait for completions otherwise */
	u32 drowsy;    /* the parked thread relies on the leader to wake it */
	u32 away;      /* the leader runs a signal handler of the program */
	/* The parked thread's own. */
	u32 seen;  /* epoch when it last looked */
	u64 since; /* when it was first seen, monotonic ns */
} leads[FU_POLLER_SETS];

/* The first set is a leader's, not the thread's. */
static u32 first_led;

static struct {
	u32 seq;   /* futex */
	u32 polls; /* it sleeps in a wait on the first set instead */
} parked;

static bool is_led(u32 set)
{
	return set ? !fu_poller_attached(set) : fu_load_acquire(&first_led);
}

static u32 *owner_of(const struct seat *seat)
{
	return &owners[seat - seats];
}

/* The seat that `tid` has, or NULL. */
static struct seat *seat_of(u32 tid)
{
	for (u32 i = 0; i < SEATS; i++) {
		if (fu_load_relaxed(&owners[i]) == tid)
			return &seats[i];
	}
	return NULL;
}

/* A free seat, now the calling thread's, or NULL. */
static struct seat *take_seat(u32 me)
{
	for (u32 i = 0; i < SEATS; i++) {
		u32 none = 0;

		if (!fu_load_relaxed(&owners[i]) &&
		    __atomic_compare_exchange_n(&owners[i], &none, me, false, __ATOMIC_ACQUIRE,
		                                __ATOMIC_RELAXED)) {
			if (fu_unlikely(seats[i].forks != forks))
				fu_memset(&seats[i], 0, sizeof(seats[i]));
			seats[i].forks = forks;
			return &seats[i];
		}
	}
	return NULL;
}

void fu_leader_unpark(void)
{
	__atomic_fetch_add(&parked.seq, 1, __ATOMIC_SEQ_CST);
	if (__atomic_load_n(&parked.polls, __ATOMIC_SEQ_CST))
		fu_poller_kick(0);
	else
		fu_futex_wake(&parked.seq, 1);
}

/* The leader's tid, or 0. */
static u32 leader(u32 set)
{
	return (u32)fu_load_relaxed(&leads[set].leader);
}

/* The set that the calling thread leads, or -1. */
static s32 led_by_me(void)
{
	u32 set = fu_self.leads;

	return set && leader(set - 1) == fu_tid() ? (s32)set - 1 : -1;
}

static bool resign(u32 set, u64 token)
{
	return __atomic_compare_exchange_n(&leads[set].leader, &token, 0, false, __ATOMIC_SEQ_CST,
	                                   __ATOMIC_RELAXED);
}

/* Wakes the parked thread if it relies on that. */
static void rouse(struct lead *lead)
{
	if (fu_load_relaxed(&lead->drowsy) &&
	    __atomic_exchange_n(&lead->drowsy, 0, __ATOMIC_SEQ_CST))
		fu_leader_unpark();
}

/* Handles the first n events in the seat if it is `from`'s; it is `to`'s then. */
static void work_off(struct seat *seat, u32 n, u32 from, u32 mark, u32 to)
{
	/* Nobody jumps out of this. */
	fu_critical_enter();
	if (__atomic_compare_exchange_n(owner_of(seat), &from, mark, false, __ATOMIC_ACQUIRE,
	                                __ATOMIC_RELAXED)) {
		fu_poller_handle(seat->set, seat->events, n);
		fu_store_release(owner_of(seat), to);
	}
	fu_critical_leave();
}

/* The set is the thread's again. */
static void hand_back(u32 set)
{
	if (set)
		fu_poller_attach(set);
	else if (__atomic_exchange_n(&first_led, 0, __ATOMIC_SEQ_CST))
		fu_leader_unpark();
}

/*
 * The calling thread may be marked as a leader, and is not waiting: a signal handler has jumped out
 * of its wait, or this is one that has interrupted it.
 */
static void stand_up(u32 me)
{
	struct seat *seat = seat_of(me);
	s32 set = led_by_me();

	if (seat)
		work_off(seat, FU_POLLER_EVENTS, me, me | BUSY, 0);
	if (set >= 0)
		resign((u32)set, fu_load_relaxed(&leads[set].leader));
	fu_self.leads = 0;
}

void fu_leader_hand_back(void)
{
	u32 mine = fu_self.leads;

	fu_self.passes = 0;
	if (fu_unlikely(led_by_me() >= 0))
		stand_up(fu_tid());
	if (mine > 1 && !leader(mine - 1) && is_led(mine - 1))
		hand_back(mine - 1);
	if (fu_unlikely(fu_load_relaxed(&first_led)) && !leader(0))
		hand_back(0);
}

/* The set is nobody's but those' who look into it as they come, and not the poller's thread's. */
static void claim(u32 set)
{
	struct lead *lead = &leads[set];

	fu_store_relaxed(&lead->epoch, fu_load_relaxed(&lead->epoch) + 1);
	if (!set) {
		if (fu_unlikely(!fu_load_relaxed(&first_led)))
			__atomic_store_n(&first_led, 1, __ATOMIC_SEQ_CST);
	} else if (fu_unlikely(fu_poller_attached(set))) {
		fu_poller_detach(set);
		/* It has to look whether somebody leads, from now on. */
		fu_leader_unpark();
	}
}

/* Becomes the leader if nobody is. */
static bool sit_down(u32 set, u32 me)
{
	struct lead *lead = &leads[set];
	struct seat *seat;
	u64 none = 0, token;

	if (fu_unlikely(seat_of(me) || led_by_me() >= 0))
		stand_up(me);
	seat = take_seat(me);
	if (!seat)
		return false;
	seat->set = set;
	/* Before it is so: a signal handler is to find it. */
	fu_self.leads = (u8)(set + 1);
	token = (u64)__atomic_add_fetch(&lead->sittings, 1, __ATOMIC_RELAXED) << 32 | me;
	if (!__atomic_compare_exchange_n(&lead->leader, &none, token, false, __ATOMIC_SEQ_CST,
	                                 __ATOMIC_RELAXED)) {
		fu_store_release(owner_of(seat), 0);
		return false;
	}
	fu_store_relaxed(&lead->away, 0);
	claim(set);
	return true;
}

void fu_leader_not_waiting(void)
{
	if (!fu_self.follows)
		return;
	fu_critical_enter();
	__atomic_fetch_sub(&leads[fu_self.follows - 1].followers, 1, __ATOMIC_SEQ_CST);
	fu_self.follows = 0;
	fu_critical_leave();
}

bool fu_leader_try(struct fu_ctx *ctx)
{
	u32 set = fu_poller_set(ctx);
	struct lead *lead = &leads[set];

	/* It is counted still if a signal handler has jumped out of an earlier wait. */
	fu_leader_not_waiting();
	/* Posts of other processes would not find us here. */
	if (fu_poller_has_requests(ctx) && !fu_peers_used(ctx) &&
	    !fu_load_relaxed(&lead->followers) && sit_down(set, fu_tid()))
		return true;
	/* One that waits for other threads' doing loses nothing while nobody looks at the set. */
	if (!fu_poller_has_requests(ctx) && !fu_ctx_active(ctx))
		return false;
	fu_critical_enter();
	fu_self.follows = (u8)(set + 1);
	__atomic_fetch_add(&lead->followers, 1, __ATOMIC_SEQ_CST);
	fu_critical_leave();
	fu_leader_hand_back();
	if (!leader(set) && is_led(set) && fu_poller_has_requests(ctx))
		hand_back(set);
	return false;
}

void fu_leader_pass_by(struct fu_ctx *ctx)
{
	u32 set = fu_poller_set(ctx);

	if (fu_self.passes < PASSES) {
		fu_self.passes++;
		return;
	}
	if (!fu_load_relaxed(&ctx->poll_set) || fu_load_relaxed(&leads[set].followers) ||
	    leader(set) || fu_peers_used(ctx) || fu_unlikely(led_by_me() >= 0))
		return;
	fu_self.leads = (u8)(set + 1);
	claim(set);
}

void fu_leader_leave(void)
{
	u32 me = fu_tid();
	struct seat *seat = seat_of(me);
	s32 set = led_by_me();
	struct lead *lead;

	if (seat)
		__atomic_compare_exchange_n(owner_of(seat), &(u32){ me }, 0, false,
		                            __ATOMIC_RELEASE, __ATOMIC_RELAXED);
	/* If it was away for too long somebody else may lead by now. */
	if (set < 0)
		return;
	lead = &leads[set];
	if (!resign((u32)set, fu_load_relaxed(&lead->leader)))
		return;
	if (fu_load_relaxed(&lead->followers))
		hand_back((u32)set);
	else
		rouse(lead);
}

bool fu_handler_begins(void)
{
	s32 set = led_by_me();

	if (fu_likely(set < 0) || __atomic_exchange_n(&leads[set].away, 1, __ATOMIC_SEQ_CST))
		return false;
	rouse(&leads[set]);
	return true;
}

void fu_handler_ends(void)
{
	s32 set = led_by_me();

	if (set >= 0)
		fu_store_relaxed(&leads[set].away, 0);
}

bool fu_leader_still(struct fu_ctx *ctx)
{
	s32 set = led_by_me();

	return fu_likely(set >= 0 && (u32)set == fu_poller_set(ctx)) && !fu_peers_used(ctx);
}

bool fu_leader_elsewhere(u32 set)
{
	u32 tid = leader(set);

	return tid ? tid != fu_tid() : !is_led(set);
}

bool fu_leader_holds(u32 set)
{
	u32 tid = leader(set);
	const struct seat *seat = tid && tid != fu_tid() ? seat_of(tid) : NULL;

	/* The kernel has written them before it tells another that there are none. */
	return seat && !fu_load_relaxed(&leads[set].away) &&
	       fu_load_acquire((const u32 *)(const void *)&seat->events[0]);
}

void fu_leader_listen(struct fu_ctx *ctx)
{
	__atomic_store_n(&ctx->leader_listens, 1, __ATOMIC_SEQ_CST);
}

void fu_leader_wake(struct fu_ctx *ctx)
{
	if (fu_unlikely(fu_load_relaxed(&ctx->leader_listens)) &&
	    __atomic_exchange_n(&ctx->leader_listens, 0, __ATOMIC_SEQ_CST))
		fu_poller_kick(fu_poller_set(ctx));
}

void fu_leader_pass_on(u32 set)
{
	u32 tid = leader(set);

	if (tid && tid != fu_tid()) {
		/* Should this be the poller's thread, it is not to fetch the next one too. */
		if (!set)
			fu_store_relaxed(&first_led, 1);
		else if (fu_poller_attached(set))
			fu_poller_detach(set);
		fu_poller_kick(set);
	}
}

long fu_leader_wait(struct fu_ctx *ctx, s64 left_ns, const u64 *mask)
{
	s64 slice = left_ns < 0 || left_ns > SLICE_NS ? SLICE_NS : left_ns;
	u32 me = fu_tid();
	struct seat *seat = seat_of(me);
	struct lead *lead;
	long ret;

	/* Dismissed just now. */
	if (fu_unlikely(!seat))
		return 0;
	lead = &leads[seat->set];
	ret = fu_poller_fetch(seat->set, seat->events, slice, mask);
	/* Awake: what we post ourselves needs no wake-up. */
	fu_store_relaxed(&ctx->leader_listens, 0);
	if (ret > 0)
		work_off(seat, (u32)ret, me, me | BUSY, me);
	/* Whoever finds that no later one has come may look into the seat. */
	fu_store_release(&lead->epoch, fu_load_relaxed(&lead->epoch) + 1);
	if (ret == -ETIMEDOUT && slice != left_ns)
		return 0;
	return ret < 0 ? ret : 0;
}

/*
 * The leader has given no sign for long: it has left by a jump, or has ended. One that is not away
 * may be stopped, with the kernel still to fill its seat: that stays its own.
 */
static void dismiss(u32 set, u64 token, bool away)
{
	u32 tid = (u32)token;
	struct seat *seat = seat_of(tid);

	if (resign(set, token) && seat)
		work_off(seat, FU_POLLER_EVENTS, tid, SEIZED, away ? 0 : tid);
}

/* The thread sees to the set from now on. */
static void take_back(u32 set)
{
	if (set)
		fu_poller_attach(set);
	else
		__atomic_store_n(&first_led, 0, __ATOMIC_SEQ_CST);
}

/*
 * The thread's look at a set: takes it back if nobody has led since a tick. When to look again, in
 * ns from `now`, or INT64_MAX: not before it is called.
 */
static s64 look_at(u32 set, u64 now)
{
	struct lead *lead = &leads[set];
	u32 epoch;
	u64 token, asleep;

	if (!is_led(set)) {
		lead->since = 0;
		return INT64_MAX;
	}
	epoch = fu_load_acquire(&lead->epoch);
	if (epoch != lead->seen || !lead->since) {
		lead->seen = epoch;
		lead->since = now;
		return TICK_NS;
	}
	asleep = now - lead->since;
	if (asleep < TICK_NS)
		return TICK_NS - (s64)asleep;
	token = __atomic_load_n(&lead->leader, __ATOMIC_SEQ_CST);
	if (token && __atomic_load_n(&lead->away, __ATOMIC_SEQ_CST)) {
		dismiss(set, token, true);
	} else if (token && asleep < LEASE_NS) {
		/* It sleeps, and so can we. */
		__atomic_store_n(&lead->drowsy, 1, __ATOMIC_SEQ_CST);
		if (__atomic_load_n(&lead->leader, __ATOMIC_SEQ_CST) == token &&
		    !__atomic_load_n(&lead->away, __ATOMIC_SEQ_CST))
			return LEASE_NS - (s64)asleep;
		return TICK_NS;
	} else if (token) {
		dismiss(set, token, false);
	}
	lead->since = 0;
	take_back(set);
	return INT64_MAX;
}

/* The shortest of what look_at() says of all sets. */
static s64 look(void)
{
	u64 now = fu_now_ns(CLOCK_MONOTONIC);
	s64 next = INT64_MAX;

	for (u32 set = 0; set < fu_poller_sets(); set++) {
		s64 again = look_at(set, now);

		if (again < next)
			next = again;
	}
	return next;
}

bool fu_leader_park(s64 *timeout_ns)
{
	while (fu_registry_live()) {
		u32 seq = __atomic_load_n(&parked.seq, __ATOMIC_SEQ_CST);

		*timeout_ns = look();
		if (!fu_load_acquire(&first_led)) {
			__atomic_store_n(&parked.polls, 1, __ATOMIC_SEQ_CST);
			return __atomic_load_n(&parked.seq, __ATOMIC_SEQ_CST) == seq;
		}
		fu_futex_wait(&parked.seq, seq, *timeout_ns);
	}
	return false;
}

void fu_leader_parked(void)
{
	fu_store_relaxed(&parked.polls, 0);
}

void fu_leader_reset(void)
{
	fu_self.follows = fu_self.leads = 0;
	fu_self.sets = 0;
	first_led = 0;
	fu_memset(&parked, 0, sizeof(parked));
	fu_memset(leads, 0, sizeof(leads));
	fu_memset(owners, 0, sizeof(owners));
	/* The parent's events are in the seats: many pages, cleared when they are taken. */
	forks++;
}

void fu_leader_forget(u32 set)
{
	struct lead *lead = &leads[set];

	fu_store_relaxed(&lead->leader, 0);
	fu_store_relaxed(&lead->away, 0);
	fu_store_relaxed(&lead->drowsy, 0);
}
