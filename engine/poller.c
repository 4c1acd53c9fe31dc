/*
 * The poller: epoll sets (sets.c) and one thread per process, started when the first
 * request has to wait for a file. A request that is armed occupies a slot (slots.c); the
 * epoll data names slot and generation, so an event that was on its way when the
 * slot changed hands is recognised as stale.
 *
 * A slot is ARMED (the poller owns the request) or BUSY (an event was taken, its
 * handler owns it and will arm again or release). One-shot registrations give one
 * event per arming. The others stay in the set, edge-triggered; an edge that comes
 * while the slot is BUSY is kept and handed over by the next arming.
 *
 * The first set also holds the peers of all rings (hang-up: the ring has ended; a byte: another
 * process asks something) and the timer descriptors.
 */
#include "engine/engine.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/epoll.h>
#include <time.h>

#include "engine/aio.h"
#include "engine/arming.h"
#include "engine/entry.h"
#include "engine/herds.h"
#include "engine/host.h"
#include "engine/leader.h"
#include "engine/peers.h"
#include "engine/poller.h"
#include "engine/registry.h"
#include "engine/sets.h"
#include "engine/slots.h"
#include "engine/thread.h"
#include "rings/fds.h"
#include "rings/mem.h"
#include "rings/sys.h"

#define NR_EPOLL_PWAIT2 441

#define HARVEST_EVENTS 16
/* For a thread that is handling an event just now, and may not have a processor: yields, naps. */
#define HARVEST_YIELDS 20
#define HARVEST_NAPS   250
#define NAP_NS         200000
#define REFUSED_NAP_NS 20000000

/* One in the high half of a set's handlers. */
#define HANDLED (1ULL << 32)

/* ---- events ---- */

/* A reference to a context that has one already. */
static bool try_hold(struct fu_ctx *ctx)
{
	u64 refs = fu_load_relaxed(&ctx->refs);

	while (refs && !__atomic_compare_exchange_n(&ctx->refs, &refs, refs + 1, true,
	                                            __ATOMIC_ACQUIRE, __ATOMIC_RELAXED)) {
	}
	return refs != 0;
}

/* Whether the request's event leads to nothing before its ring's thread comes for it. */
static bool is_stuck(const struct fu_req *req)
{
	return req->ctx->deferred &&
	       (!fu_self.inside || fu_load_relaxed(&req->ctx->ring.ctrl->submitter) != fu_tid());
}

/* Of the first n events, those of slots in a line. */
static u64 lined_events(const struct epoll_event *events, long n)
{
	u64 lined = 0;

	for (long i = 0; n > 1 && i < n; i++)
		lined |= (u64)fu_line_has(events[i].data.u64) << i;
	return lined;
}

/*
 * Who is to handle the event, or FU_SLOT_FREE if nobody is. A context comes with a reference; of a
 * set that is in the first one, which. `set` has told of it.
 */
static enum fu_slot_kind take_event(u32 set, const struct epoll_event *ev, struct fu_req **req,
                                    struct fu_ctx **ctx, u32 *inner)
{
	enum fu_slot_kind kind = FU_SLOT_FREE;
	u32 index = (u32)ev->data.u64, gen = (u32)(ev->data.u64 >> 32);
	struct fu_slot *slot;
	bool stuck = false;

	fu_lock(&fu_poller.sets[set].lock);
	if (index < fu_load_acquire(&fu_poller.nr_slots)) {
		slot = fu_slot_at(index);
		if (fu_load_relaxed(&slot->gen) != gen) {
			/* Stale: perhaps another set's by now. */
		} else if (slot->kind == FU_SLOT_ARMED) {
			kind = slot->kind;
			slot->kind = FU_SLOT_BUSY;
			fu_herd_taken(slot);
			*req = slot->req;
			if (fu_unlikely(fu_load_relaxed(&slot->place))) {
				stuck = is_stuck(slot->req);
				fu_line_taken(slot, stuck);
			}
		} else if (slot->kind == FU_SLOT_BUSY) {
			slot->pending |= ev->events;
		} else if (slot->kind == FU_SLOT_HERD) {
			kind = slot->kind;
			fu_herd_call(slot, ev->events);
		} else if (slot->kind == FU_SLOT_RING) {
			kind = slot->kind;
		} else if (slot->kind == FU_SLOT_SET) {
			kind = slot->kind;
			*inner = slot->inner;
		} else if (slot->kind == FU_SLOT_AIO && try_hold(slot->ctx)) {
			kind = slot->kind;
			*ctx = slot->ctx;
		}
	}
	fu_unlock(&fu_poller.sets[set].lock);
	if (stuck)
		fu_line_call((*req)->big, NULL);
	return kind;
}

static void special_event(u32 set, u32 what)
{
	if (what == FU_POLLER_WAKE)
		fu_leader_pass_on(set);
	else
		fu_timers_expire(what);
}

void fu_poller_begin(u32 set)
{
	__atomic_fetch_add(&fu_poller.sets[set].handlers, 1, __ATOMIC_SEQ_CST);
}

void fu_poller_end(u32 set)
{
	__atomic_fetch_add(&fu_poller.sets[set].handlers, HANDLED - 1, __ATOMIC_SEQ_CST);
}

struct herd_event {
	u32 set, gen;
	struct fu_slot *slot;
	struct fu_ctx *ctx; /* only as long as all are of this ring, unless NULL */
};

/* The next of a herd whom its file's event has called. */
static struct fu_req *next_called(void *arg, u32 *events)
{
	const struct herd_event *he = arg;
	struct fu_req *req = NULL;

	fu_lock(&fu_poller.sets[he->set].lock);
	/* The last member may have gone, with what another thread handles. */
	if (fu_load_relaxed(&he->slot->gen) == he->gen &&
	    (!he->ctx || fu_herd_ctx(he->slot) == he->ctx))
		req = fu_herd_next(he->slot, events);
	fu_unlock(&fu_poller.sets[he->set].lock);
	return req;
}

static void tell_herd(u32 set, u64 data)
{
	struct herd_event he = { .set = set,
		                 .gen = (u32)(data >> 32),
		                 .slot = fu_slot_at((u32)data) };
	struct fu_req *req;
	u32 events;

	fu_lock(&fu_poller.sets[set].lock);
	if (fu_load_relaxed(&he.slot->gen) == he.gen)
		he.ctx = fu_herd_ctx(he.slot);
	if (he.ctx && !try_hold(he.ctx))
		he.ctx = NULL;
	fu_unlock(&fu_poller.sets[set].lock);
	if (he.ctx) {
		fu_poll_events(he.ctx, next_called, &he);
		fu_ctx_put(he.ctx);
		he.ctx = NULL;
	}
	/* Those of several rings, one by one. */
	while ((req = next_called(&he, &events)))
		fu_poll_event(req, events);
}

static bool harvest_set(u32 set);

/* One of `set`'s events. Returns as handle(). */
static bool handle_one(u32 set, const struct epoll_event *event)
{
	struct fu_req *req = NULL;
	struct fu_ctx *ctx = NULL;
	u32 inner = 0;

	if (!event->events)
		return false;
	if ((u32)(event->data.u64 >> 32) == FU_SET_SPECIAL) {
		special_event(set, (u32)event->data.u64);
		return false;
	}
	switch (take_event(set, event, &req, &ctx, &inner)) {
	case FU_SLOT_ARMED:
		fu_poll_event(req, event->events);
		return false;
	case FU_SLOT_HERD:
		tell_herd(set, event->data.u64);
		return false;
	case FU_SLOT_AIO:
		fu_aio_event(ctx);
		fu_ctx_put(ctx);
		return false;
	case FU_SLOT_RING:
		return true;
	case FU_SLOT_SET:
		return harvest_set(inner);
	default:
		return false;
	}
}

/*
 * `set`'s events, no more than 64. Those who wait exclusively come after the others. Returns
 * whether a ring has lost its last descriptor, or is asked for.
 */
static bool handle(u32 set, const struct epoll_event *events, long n)
{
	u64 lined = lined_events(events, n);
	bool reap = false;

	for (long i = 0; i < n; i++) {
		if (!(lined >> i & 1))
			reap |= handle_one(set, &events[i]);
	}
	for (; lined; lined &= lined - 1)
		reap |= handle_one(set, &events[__builtin_ctzll(lined)]);
	return reap;
}

/*
 * Fetches what there is without waiting, up to n, and handles it. It counts as handled from before
 * it is fetched: nobody misses it who looks in between. Returns how many; *reap as handle().
 */
static long take_and_handle(u32 set, struct epoll_event *events, u32 n, bool *reap)
{
	long ret;

	fu_poller_begin(set);
	ret = fu_sys(SYS_epoll_wait, fu_load_relaxed(&fu_poller.sets[set].epfd), events, n, 0);
	*reap = ret > 0 && handle(set, events, ret);
	fu_poller_end(set);
	return ret;
}

/* All that there is in the set. Returns as handle(). */
static bool harvest_set(u32 set)
{
	struct epoll_event events[HARVEST_EVENTS];
	bool reap = false;
	long n;

	do {
		bool some;

		fu_store_relaxed(&fu_poller.sets[set].called, false);
		n = take_and_handle(set, events, HARVEST_EVENTS, &some);
		reap |= some;
	} while (n == HARVEST_EVENTS || (n > 0 && fu_load_relaxed(&fu_poller.sets[set].called)));
	return reap;
}

/*
 * The same where others may be looking too. While the kernel looks through a set for one thread,
 * epoll_wait may tell another, who does not want to wait, that there is nothing; poll lets it wait
 * for that.
 */
static bool harvest_among_others(u32 set)
{
	struct pollfd pfd = { .fd = fu_load_relaxed(&fu_poller.sets[set].epfd), .events = POLLIN };
	bool reap = harvest_set(set);

	if ((fu_leader_elsewhere(set) || (u32)fu_load_acquire(&fu_poller.sets[set].handlers)) &&
	    fu_sys(SYS_poll, &pfd, 1, 0) > 0)
		reap |= harvest_set(set);
	return reap;
}

static u32 handled(u64 handlers)
{
	return (u32)(handlers / HANDLED);
}

/*
 * What others have fetched before us is to be seen as well, unless it takes them too long. A leader
 * that sleeps has fetched what lies in its seat, though it has not begun to handle it.
 */
static void await_handlers(u32 set)
{
	static const struct timespec nap = { 0, NAP_NS };
	const u64 *handlers = &fu_poller.sets[set].handlers;
	u64 now, first = fu_load_acquire(handlers);

	/* Not for those that begin later. */
	for (int i = 0; i < HARVEST_YIELDS + HARVEST_NAPS; i++) {
		now = fu_load_acquire(handlers);
		if (handled(now) - handled(first) >= (u32)first && !fu_leader_holds(set))
			break;
		if (i < HARVEST_YIELDS)
			fu_sys(SYS_sched_yield);
		else
			fu_sys(SYS_nanosleep, &nap, 0);
	}
}

/* Returns whether there was anything to look at. `own`: a ring has chosen the set. */
static bool harvest(u32 set, bool own)
{
	/* A request leaves the set before it is seen to have completed, but while that is handled.
	 */
	if (fu_likely(!fu_load_acquire(&fu_poller.sets[set].requests))) {
		if (fu_likely(!own || !(u32)fu_load_acquire(&fu_poller.sets[set].handlers)))
			return false;
		await_handlers(set);
		return true;
	}
	/* No handler of the program may jump away from events that have been fetched. */
	fu_critical_enter();
	if (harvest_among_others(set))
		fu_registry_reap();
	fu_critical_leave();
	await_handlers(set);
	return true;
}

bool fu_poller_harvest(const struct fu_ctx *ctx)
{
	bool looked = false;

	if (ctx)
		return harvest(fu_poller_set(ctx), fu_load_relaxed(&ctx->poll_set) != 0);
	for (u32 set = 0; set < fu_poller_sets(); set++)
		looked |= harvest(set, true);
	return looked;
}

void fu_poller_harvest_own(void)
{
	for (u32 set = 0; set < fu_poller_sets(); set++) {
		if ((fu_self.sets >> set & 1) ||
		    fu_load_relaxed(&fu_poller.sets[set].by) == fu_tid())
			harvest(set, true);
	}
}

/* fu_poller.lock held, no slot in use, no ring left. */
static void close_sets(void (*close_fd)(int))
{
	for (int i = 0; i < FU_POLLER_TIMERS; i++) {
		if (fu_poller.timerfds[i] >= 0)
			close_fd(fu_poller.timerfds[i]);
		fu_store_relaxed(&fu_poller.timerfds[i], -1);
	}
	fu_timers_unprogram();
	for (u32 set = 0; set < fu_poller.nr_sets; set++) {
		if (fu_poller.sets[set].epfd >= 0)
			fu_set_close(set, close_fd);
	}
	fu_store_relaxed(&fu_poller.nr_sets, 0);
	fu_store_relaxed(&fu_poller.sets[0].by, 0);
}

bool fu_poller_has_requests(const struct fu_ctx *ctx)
{
	u32 set = fu_load_relaxed(&ctx->poll_set);

	return set && (fu_load_relaxed(&fu_poller.sets[set - 1].requests) ||
	               fu_load_relaxed(&ctx->aio_inflight));
}

/* epoll_pwait with a timeout in ns, also where there is no epoll_pwait2 (before Linux 5.11). */
static long wait_events(int epfd, struct epoll_event *events, s64 timeout_ns, const u64 *mask)
{
	static bool no_pwait2;
	struct timespec ts = { timeout_ns / 1000000000LL, timeout_ns % 1000000000LL };
	struct pollfd pfd = { .fd = epfd, .events = POLLIN };
	long ret;

	/* Whole milliseconds, like those of a leader without a limit, need neither. */
	if (timeout_ns % 1000000 == 0)
		return fu_sys(SYS_epoll_pwait, epfd, events, FU_POLLER_EVENTS, timeout_ns / 1000000,
		              mask, sizeof(*mask));
	if (!fu_load_relaxed(&no_pwait2)) {
		ret = fu_sys(NR_EPOLL_PWAIT2, epfd, events, FU_POLLER_EVENTS, &ts, mask,
		             sizeof(*mask));
		if (ret != -ENOSYS && ret != -EPERM)
			return ret;
		fu_store_relaxed(&no_pwait2, true);
	}
	ret = fu_sys(SYS_ppoll, &pfd, 1, &ts, mask, sizeof(*mask));
	return ret > 0 ? fu_sys(SYS_epoll_wait, epfd, events, FU_POLLER_EVENTS, 0) : ret;
}

long fu_poller_fetch(u32 set, struct epoll_event *events, s64 timeout_ns, const u64 *mask)
{
	long n = wait_events(fu_load_relaxed(&fu_poller.sets[set].epfd), events, timeout_ns, mask);

	return n ? n : -ETIMEDOUT;
}

void fu_poller_handle(u32 set, struct epoll_event *events, u32 n)
{
	bool reap;

	fu_critical_enter();
	fu_poller_begin(set);
	reap = handle(set, events, n);
	fu_poller_end(set);
	for (u32 i = 1; i < n; i++)
		events[i].events = 0;
	/* The first is looked at by others (fu_leader_holds). */
	fu_store_relaxed((u32 *)(void *)&events[0], 0);
	if (reap)
		fu_registry_reap();
	fu_critical_leave();
}

/*
 * The last ring has gone: closes the set, unless another has come meanwhile. Whoever holds a ring
 * relies on what it sees while `running` is set. fu_poller.lock held.
 */
static bool leave(void)
{
	fu_store_relaxed(&fu_poller.running, false);
	fu_fence();
	if (fu_registry_live()) {
		fu_store_relaxed(&fu_poller.running, true);
		return false;
	}
	fu_store_relaxed(&fu_poller.tid, 0);
	for (u32 set = 0; set < fu_poller.nr_sets; set++)
		fu_slots_drop(set);
	close_sets(fu_fd_close);
	return true;
}

/*
 * Waits on the first set as long as that is nobody else's, *patience at a time. False: nothing but
 * the engine's threads is left.
 */
static bool wait_on_first(s64 *patience)
{
	struct pollfd pfd = { .fd = fu_load_relaxed(&fu_poller.sets[0].epfd), .events = POLLIN };
	bool alone = false;
	s64 ns;

	if (fu_leader_park(&ns)) {
		s64 limit = ns < *patience ? ns : *patience;

		/* To wait in epoll_wait would be to fetch. */
		if (fu_sys(SYS_poll, &pfd, 1, (limit + 999999) / 1000000) > 0) {
			*patience = FU_ALONE_NS;
		} else if (ns >= *patience) {
			alone = fu_threads_alone();
			*patience = fu_alone_next(*patience);
		}
	}
	fu_leader_parked();
	return !alone;
}

/* ---- the thread ---- */

static void *poller_main(void *arg)
{
	static const struct timespec nap = { 0, REFUSED_NAP_NS };
	struct epoll_event events[FU_POLLER_EVENTS];
	s64 patience = FU_ALONE_NS;

	(void)arg;
	__atomic_store_n(&fu_poller.tid, fu_tid(), __ATOMIC_SEQ_CST);
	fu_registry_each(fu_peer_listens);
	for (;;) {
		bool reap;

		fu_lock(&fu_poller.lock);
		if (!fu_registry_live() && !fu_load_acquire(&fu_poller.used) && leave()) {
			fu_unlock(&fu_poller.lock);
			return NULL;
		}
		fu_unlock(&fu_poller.lock);
		if (!wait_on_first(&patience)) {
			/* The kernel ends what a process waits for as its threads go. */
			fu_registry_each(fu_cancel_everything);
			return NULL;
		}
		/* A sandbox may deny the call by now. */
		if (take_and_handle(0, events, FU_POLLER_EVENTS, &reap) < 0)
			fu_sys(SYS_nanosleep, &nap, 0);
		if (reap)
			fu_registry_reap();
	}
}

/* fu_poller.lock held. */
static int open_first(void)
{
	int ret;

	if (fu_poller.sets[0].epfd >= 0)
		return 0;
	ret = fu_set_open(&fu_poller.sets[0]);
	if (ret)
		return ret;
	for (int i = 0; i < FU_POLLER_TIMERS; i++)
		fu_poller.timerfds[i] = -1;
	fu_store_relaxed(&fu_poller.nr_sets, 1);
	return 0;
}

int fu_poller_start(void)
{
	int ret = 0;
	bool started = false;

	/* As long as there is a ring, which its caller holds, it stays. */
	if (fu_likely(fu_load_acquire(&fu_poller.running)))
		return 0;
	fu_lock(&fu_poller.lock);
	if (!fu_poller.running) {
		ret = open_first();
		if (!ret) {
			fu_store_release(&fu_poller.running, true);
			ret = fu_thread_start(poller_main, NULL);
			fu_store_relaxed(&fu_poller.running, !ret);
			started = !ret;
		}
	}
	fu_unlock(&fu_poller.lock);
	if (started)
		fu_registry_each(fu_poller_watch_ring);
	return ret;
}

u32 fu_poller_tid(void)
{
	return __atomic_load_n(&fu_poller.tid, __ATOMIC_SEQ_CST);
}

void fu_poller_kick(u32 set)
{
	u64 one = 1;

	fu_sys(SYS_write, fu_load_relaxed(&fu_poller.sets[set].wakefd), &one, sizeof(one));
}

void fu_poller_wake(void)
{
	fu_lock(&fu_poller.lock);
	if (fu_poller.running)
		fu_poller_kick(0);
	fu_unlock(&fu_poller.lock);
}

/* A forked child: the sets are the parent's too, so close our copies and begin anew. */
void fu_poller_reset(void)
{
	if (fu_poller.sets[0].epfd >= 0) {
		for (u32 i = 0; i < fu_poller.nr_slots; i++) {
			if (fu_slot_at(i)->own_fd)
				fu_fd_close_inherited(fu_slot_at(i)->fd);
		}
		close_sets(fu_fd_close_inherited);
	}
	fu_memset(&fu_poller, 0, sizeof(fu_poller));
	fu_poller.sets[0].epfd = fu_poller.sets[0].wakefd = -1;
}

int fu_poller_timerfd(u32 timer, u32 clock)
{
	int fd, ret = fu_load_acquire(&fu_poller.timerfds[timer]);

	/* As long as there is a ring, which its caller holds, they stay. */
	if (fu_likely(ret >= 0 && fu_load_acquire(&fu_poller.running)))
		return ret;
	ret = fu_poller_start();
	if (ret)
		return ret;
	fu_lock(&fu_poller.lock);
	ret = fu_poller.timerfds[timer];
	if (ret < 0) {
		ret = fd = fu_set_fd(SYS_timerfd_create, clock, O_CLOEXEC | O_NONBLOCK);
		if (fd >= 0) {
			ret = fu_set_add(&fu_poller.sets[0], fd, timer);
			if (ret) {
				fu_fd_close(fd);
			} else {
				ret = fd;
				fu_store_release(&fu_poller.timerfds[timer], ret);
			}
		}
	}
	fu_unlock(&fu_poller.lock);
	return ret;
}

/* ---- rings ---- */

void fu_poller_watch_ring(struct fu_ctx *ctx)
{
	struct fu_set *first = &fu_poller.sets[0];

	if (!fu_load_acquire(&fu_poller.running))
		return;
	fu_lock(&first->lock);
	if (!ctx->peer_slot && fu_load_relaxed(&fu_poller.running))
		ctx->peer_slot = fu_slot_watch(0, ctx, FU_SLOT_RING, ctx->peer,
		                               EPOLLIN | EPOLLRDHUP | EPOLLET);
	fu_unlock(&first->lock);
}

int fu_poller_watch_aio(struct fu_ctx *ctx, int efd)
{
	int ret = fu_poller_start();
	u32 set;

	if (ret)
		return ret;
	set = fu_set_for(ctx, fu_tid());
	fu_lock(&fu_poller.sets[set].lock);
	ctx->aio_slot = fu_slot_watch(set, ctx, FU_SLOT_AIO, efd, EPOLLIN | EPOLLET);
	fu_unlock(&fu_poller.sets[set].lock);
	return ctx->aio_slot ? 0 : -ENOMEM;
}

static void unwatch(u32 set, u32 *slot)
{
	fu_lock(&fu_poller.sets[set].lock);
	if (*slot)
		fu_slot_free(*slot - 1);
	*slot = 0;
	fu_unlock(&fu_poller.sets[set].lock);
}

void fu_poller_unwatch_ring(struct fu_ctx *ctx)
{
	unwatch(0, &ctx->peer_slot);
}

void fu_poller_unwatch_aio(struct fu_ctx *ctx)
{
	unwatch(fu_poller_set(ctx), &ctx->aio_slot);
}
