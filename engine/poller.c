/*
 * The poller: one epoll set and one thread per process, started when the first
 * request has to wait for a file. A request that is armed occupies a slot; the
 * epoll data names slot and generation, so an event that was on its way when the
 * slot changed hands is recognised as stale.
 *
 * A slot is ARMED (the poller owns the request) or BUSY (an event was taken, its
 * handler owns it and will arm again or release). One-shot registrations give one
 * event per arming. The others stay in the set, edge-triggered; an edge that comes
 * while the slot is BUSY is kept and handed over by the next arming.
 *
 * The same set holds the peers of all rings (hang-up: the ring has ended; a byte: another
 * process asks something) and the timer descriptors.
 */
#include "engine/engine.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <time.h>

#include "engine/aio.h"
#include "engine/leader.h"
#include "engine/peers.h"
#include "engine/poller.h"
#include "engine/registry.h"
#include "engine/thread.h"
#include "rings/fds.h"
#include "rings/mem.h"
#include "rings/sys.h"

#define NR_EPOLL_PWAIT2 441

#define CHUNK_SLOTS 256U
#define MAX_CHUNKS  4096U

#define HARVEST_EVENTS 16
/* For a thread that is handling an event just now, and may not have a processor: yields, naps. */
#define HARVEST_YIELDS 20
#define HARVEST_NAPS   250
#define NAP_NS         200000

/* One in the high half of poller.handlers. */
#define HANDLED (1ULL << 32)

enum slot_kind { SLOT_FREE, SLOT_ARMED, SLOT_BUSY, SLOT_RING, SLOT_AIO };

struct slot {
	u32 gen;
	u8 kind;
	bool own_fd; /* fd is a duplicate made for this slot */
	bool added;  /* in the epoll set */
	u32 events;  /* registered */
	u32 pending; /* edges that came while BUSY */
	int fd;
	u32 next_free; /* index + 1 */
	union {
		struct fu_req *req;
		struct fu_ctx *ctx;
	};
};

/* epoll data: slot index and generation, or one of these with generation 0. */
#define DATA(index, gen) ((u64)(gen) << 32 | (index))
#define GEN_SPECIAL      0U

static struct {
	struct fu_lock lock; /* guards all below */
	bool running;
	u32 tid; /* of the thread; atomic */
	int epfd, wakefd;
	struct slot **chunks;
	u32 nr_slots, free_head, used;
	u32 requests; /* slots of requests; read without the lock as a hint */
	/* Low half: threads with events in hand; high: how often one was done with them. Atomic. */
	u64 handlers;
	int timerfds[FU_POLLER_TIMERS];
} poller = { .epfd = -1, .wakefd = -1 };

static struct slot *slot_at(u32 index)
{
	return &poller.chunks[index / CHUNK_SLOTS][index % CHUNK_SLOTS];
}

/* A free slot's index, or -ENOMEM. */
static long slot_alloc(void)
{
	u32 index;

	if (!poller.free_head) {
		struct slot *chunk;

		if (!poller.chunks)
			poller.chunks = fu_pages_alloc(MAX_CHUNKS * sizeof(*poller.chunks));
		if (!poller.chunks || poller.nr_slots / CHUNK_SLOTS >= MAX_CHUNKS)
			return -ENOMEM;
		chunk = fu_zalloc(CHUNK_SLOTS * sizeof(*chunk));
		if (!chunk)
			return -ENOMEM;
		poller.chunks[poller.nr_slots / CHUNK_SLOTS] = chunk;
		for (u32 i = CHUNK_SLOTS; i-- > 0;) {
			chunk[i].gen = 1;
			chunk[i].next_free = poller.free_head;
			poller.free_head = poller.nr_slots + i + 1;
		}
		poller.nr_slots += CHUNK_SLOTS;
	}
	index = poller.free_head - 1;
	poller.free_head = slot_at(index)->next_free;
	poller.used++;
	return index;
}

static void slot_free(u32 index)
{
	struct slot *slot = slot_at(index);

	if (slot->added)
		fu_sys(SYS_epoll_ctl, poller.epfd, EPOLL_CTL_DEL, slot->fd, 0);
	if (slot->own_fd)
		fu_fd_close(slot->fd);
	slot->added = slot->own_fd = false;
	slot->pending = 0;
	slot->kind = SLOT_FREE;
	if (++slot->gen == GEN_SPECIAL)
		slot->gen = 1;
	slot->next_free = poller.free_head;
	poller.free_head = index + 1;
	poller.used--;
}

/* ---- the thread ---- */

/* A reference to a context that has one already. */
static bool try_hold(struct fu_ctx *ctx)
{
	u32 refs = fu_load_relaxed(&ctx->refs);

	while (refs && !__atomic_compare_exchange_n(&ctx->refs, &refs, refs + 1, true,
	                                            __ATOMIC_ACQUIRE, __ATOMIC_RELAXED)) {
	}
	return refs != 0;
}

/* Who is to handle the event, or SLOT_FREE if nobody is. A context comes with a reference. */
static enum slot_kind take_event(const struct epoll_event *ev, struct fu_req **req,
                                 struct fu_ctx **ctx)
{
	enum slot_kind kind = SLOT_FREE;
	u32 index = (u32)ev->data.u64, gen = (u32)(ev->data.u64 >> 32);
	struct slot *slot;

	fu_lock(&poller.lock);
	if (index < poller.nr_slots) {
		slot = slot_at(index);
		if (slot->gen == gen && slot->kind == SLOT_ARMED) {
			kind = slot->kind;
			slot->kind = SLOT_BUSY;
			*req = slot->req;
		} else if (slot->gen == gen && slot->kind == SLOT_BUSY) {
			slot->pending |= ev->events;
		} else if (slot->gen == gen && slot->kind == SLOT_RING) {
			kind = slot->kind;
		} else if (slot->gen == gen && slot->kind == SLOT_AIO && try_hold(slot->ctx)) {
			kind = slot->kind;
			*ctx = slot->ctx;
		}
	}
	fu_unlock(&poller.lock);
	return kind;
}

static void special_event(u32 what)
{
	if (what == FU_POLLER_WAKE)
		fu_leader_pass_on();
	else
		fu_timers_expire(what);
}

static void begin_handling(void)
{
	__atomic_fetch_add(&poller.handlers, 1, __ATOMIC_SEQ_CST);
}

static void end_handling(void)
{
	__atomic_fetch_add(&poller.handlers, HANDLED - 1, __ATOMIC_SEQ_CST);
}

/* Returns whether a ring has lost its last descriptor, or is asked for. */
static bool handle(const struct epoll_event *events, long n)
{
	bool reap = false;

	for (long i = 0; i < n; i++) {
		struct fu_req *req = NULL;
		struct fu_ctx *ctx = NULL;

		if (!events[i].events)
			continue;
		if ((u32)(events[i].data.u64 >> 32) == GEN_SPECIAL) {
			special_event((u32)events[i].data.u64);
			continue;
		}
		switch (take_event(&events[i], &req, &ctx)) {
		case SLOT_ARMED:
			fu_poll_event(req, events[i].events);
			break;
		case SLOT_AIO:
			fu_aio_event(ctx);
			fu_ctx_put(ctx);
			break;
		case SLOT_RING:
			reap = true;
			break;
		default:
			break;
		}
	}
	return reap;
}

/*
 * Fetches what there is without waiting, up to n, and handles it. It counts as handled from before
 * it is fetched: nobody misses it who looks in between. Returns how many; *reap as handle().
 */
static long take_and_handle(struct epoll_event *events, u32 n, bool *reap)
{
	long ret;

	begin_handling();
	ret = fu_sys(SYS_epoll_wait, fu_load_relaxed(&poller.epfd), events, n, 0);
	*reap = ret > 0 && handle(events, ret);
	end_handling();
	return ret;
}

static u32 handled(u64 handlers)
{
	return (u32)(handlers / HANDLED);
}

/* What others have fetched before us is to be seen as well, unless it takes them too long. */
static void await_handlers(void)
{
	static const struct timespec nap = { 0, NAP_NS };
	u64 now, first = fu_load_acquire(&poller.handlers);

	/* Not for those that begin later. */
	for (int i = 0; i < HARVEST_YIELDS + HARVEST_NAPS; i++) {
		now = fu_load_acquire(&poller.handlers);
		if (handled(now) - handled(first) >= (u32)first)
			break;
		if (i < HARVEST_YIELDS)
			fu_sys(SYS_sched_yield);
		else
			fu_sys(SYS_nanosleep, &nap, 0);
	}
}

void fu_poller_harvest(void)
{
	struct epoll_event events[HARVEST_EVENTS];
	long n;

	if (fu_likely(!fu_load_relaxed(&poller.requests)))
		return;
	do {
		bool reap;

		/* No handler of the program may jump away from events that have been fetched. */
		fu_critical_enter();
		n = take_and_handle(events, HARVEST_EVENTS, &reap);
		if (reap)
			fu_registry_reap();
		fu_critical_leave();
	} while (n == HARVEST_EVENTS);
	await_handlers();
}

/* lock held, no slot in use, no ring left */
static void close_set(void (*close_fd)(int))
{
	for (int i = 0; i < FU_POLLER_TIMERS; i++) {
		if (poller.timerfds[i] >= 0)
			close_fd(poller.timerfds[i]);
		fu_store_relaxed(&poller.timerfds[i], -1);
	}
	fu_timers_unprogram();
	close_fd(poller.wakefd);
	close_fd(poller.epfd);
	fu_store_relaxed(&poller.epfd, -1);
	fu_store_relaxed(&poller.wakefd, -1);
}

bool fu_poller_has_requests(const struct fu_ctx *ctx)
{
	return fu_load_relaxed(&poller.requests) || fu_load_relaxed(&ctx->aio_inflight);
}

/* epoll_pwait with a timeout in ns, also where there is no epoll_pwait2 (before Linux 5.11). */
static long wait_events(struct epoll_event *events, s64 timeout_ns, const u64 *mask)
{
	static bool no_pwait2;
	struct timespec ts = { timeout_ns / 1000000000LL, timeout_ns % 1000000000LL };
	int epfd = fu_load_relaxed(&poller.epfd);
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

long fu_poller_fetch(struct epoll_event *events, s64 timeout_ns, const u64 *mask)
{
	long n = wait_events(events, timeout_ns, mask);

	return n ? n : -ETIMEDOUT;
}

void fu_poller_handle(struct epoll_event *events, u32 n)
{
	bool reap;

	fu_critical_enter();
	begin_handling();
	reap = handle(events, n);
	end_handling();
	for (u32 i = 0; i < n; i++)
		events[i].events = 0;
	if (reap)
		fu_registry_reap();
	fu_critical_leave();
}

/*
 * The last ring has gone: closes the set, unless another has come meanwhile. Whoever holds a ring
 * relies on what it sees while `running` is set. lock held.
 */
static bool leave(void)
{
	fu_store_relaxed(&poller.running, false);
	fu_fence();
	if (fu_registry_live()) {
		fu_store_relaxed(&poller.running, true);
		return false;
	}
	fu_store_relaxed(&poller.tid, 0);
	close_set(fu_fd_close);
	return true;
}

static void *poller_main(void *arg)
{
	struct epoll_event events[FU_POLLER_EVENTS];
	s64 patience = FU_ALONE_NS;

	(void)arg;
	__atomic_store_n(&poller.tid, fu_tid(), __ATOMIC_SEQ_CST);
	fu_registry_each(fu_peer_listens);
	for (;;) {
		struct pollfd pfd = { .events = POLLIN };
		bool reap;

		fu_leader_park();
		fu_lock(&poller.lock);
		if (!fu_registry_live() && !poller.used && leave()) {
			fu_unlock(&poller.lock);
			return NULL;
		}
		fu_unlock(&poller.lock);
		/* To wait in epoll_wait would be to fetch. */
		pfd.fd = fu_load_relaxed(&poller.epfd);
		if (fu_sys(SYS_poll, &pfd, 1, patience / 1000000) == 0) {
			patience = fu_alone_next(patience);
			if (!fu_threads_alone())
				continue;
			/* The kernel ends what a process waits for as its threads go. */
			fu_registry_each(fu_cancel_everything);
			return NULL;
		}
		patience = FU_ALONE_NS;
		take_and_handle(events, FU_POLLER_EVENTS, &reap);
		if (reap)
			fu_registry_reap();
	}
}

static int add_special(int fd, u32 what)
{
	/* The wake-up's count is never read: each write is an edge. */
	struct epoll_event ev = { .events = EPOLLIN | (what == FU_POLLER_WAKE ? EPOLLET : 0),
		                  .data.u64 = DATA(what, GEN_SPECIAL) };

	return (int)fu_sys(SYS_epoll_ctl, poller.epfd, EPOLL_CTL_ADD, fd, &ev);
}

static long call_maker(void *arg, u64 old_limit)
{
	const long *maker = arg;

	(void)old_limit;
	return fu_sys(maker[0], maker[1], maker[2]);
}

/* A descriptor of the engine's that the call gives, or -errno; the program's may be used up. */
static int new_fd(long nr, long a, long b)
{
	long maker[] = { nr, a, b };
	long fd = call_maker(maker, 0);

	if (fd == -EMFILE)
		fd = fu_fds_lifted(call_maker, maker);
	return fd < 0 ? (int)fd : fu_fd_high((int)fd);
}

/* lock held */
static int open_set(void)
{
	int fd;

	if (poller.epfd >= 0)
		return 0;
	fd = new_fd(SYS_epoll_create1, EPOLL_CLOEXEC, 0);
	if (fd < 0)
		return fd;
	poller.epfd = fd;
	fd = new_fd(SYS_eventfd2, 0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (fd < 0) {
		fu_fd_close(poller.epfd);
		poller.epfd = -1;
		return fd;
	}
	poller.wakefd = fd;
	for (int i = 0; i < FU_POLLER_TIMERS; i++)
		poller.timerfds[i] = -1;
	fd = add_special(poller.wakefd, FU_POLLER_WAKE);
	if (fd)
		close_set(fu_fd_close);
	return fd;
}

int fu_poller_start(void)
{
	int ret = 0;
	bool started = false;

	fu_lock(&poller.lock);
	if (!poller.running) {
		ret = open_set();
		if (!ret) {
			fu_store_relaxed(&poller.running, true);
			ret = fu_thread_start(poller_main, NULL);
			fu_store_relaxed(&poller.running, !ret);
			started = !ret;
		}
	}
	fu_unlock(&poller.lock);
	if (started)
		fu_registry_each(fu_poller_watch_ring);
	return ret;
}

u32 fu_poller_tid(void)
{
	return __atomic_load_n(&poller.tid, __ATOMIC_SEQ_CST);
}

void fu_poller_kick(void)
{
	u64 one = 1;

	fu_sys(SYS_write, fu_load_relaxed(&poller.wakefd), &one, sizeof(one));
}

void fu_poller_wake(void)
{
	fu_lock(&poller.lock);
	if (poller.running)
		fu_poller_kick();
	fu_unlock(&poller.lock);
}

/* A forked child: the set is the parent's too, so close our copy and begin anew. */
void fu_poller_reset(void)
{
	if (poller.epfd >= 0) {
		for (u32 i = 0; i < poller.nr_slots; i++) {
			if (slot_at(i)->own_fd)
				fu_fd_close_inherited(slot_at(i)->fd);
		}
		close_set(fu_fd_close_inherited);
	}
	fu_memset(&poller, 0, sizeof(poller));
	poller.epfd = poller.wakefd = -1;
}

int fu_poller_timerfd(u32 timer, u32 clock)
{
	int fd, ret = fu_load_acquire(&poller.timerfds[timer]);

	/* As long as there is a ring, which its caller holds, they stay. */
	if (fu_likely(ret >= 0 && fu_load_acquire(&poller.running)))
		return ret;
	ret = fu_poller_start();
	if (ret)
		return ret;
	fu_lock(&poller.lock);
	ret = poller.timerfds[timer];
	if (ret < 0) {
		ret = fd = new_fd(SYS_timerfd_create, clock, O_CLOEXEC | O_NONBLOCK);
		if (fd >= 0) {
			ret = add_special(fd, timer);
			if (ret) {
				fu_fd_close(fd);
			} else {
				ret = fd;
				fu_store_release(&poller.timerfds[timer], ret);
			}
		}
	}
	fu_unlock(&poller.lock);
	return ret;
}

/* ---- requests ---- */

/* The first arming: a slot, and a descriptor of its own for the epoll set. lock held. */
static int attach(struct fu_req *req)
{
	struct slot *slot;
	long index = slot_alloc();

	if (index < 0)
		return (int)index;
	slot = slot_at((u32)index);
	slot->req = req;
	slot->fd = req->fd;
	if (!(req->flags & FU_REQ_OWN_FD)) {
		slot->fd = fu_fd_dup_high(req->fd);
		slot->own_fd = slot->fd >= 0;
	}
	if (slot->fd < 0) {
		int err = slot->fd;

		slot_free((u32)index);
		return err;
	}
	req->poll_slot = (u32)index + 1;
	fu_store_relaxed(&poller.requests, poller.requests + 1);
	return 0;
}

int fu_poller_arm(struct fu_req *req, u32 events)
{
	struct epoll_event ev = { .events = events | EPOLLET };
	struct slot *slot;
	int ret = fu_poller_start();

	if (ret)
		return ret;
	fu_lock(&poller.lock);
	if (!req->poll_slot) {
		ret = attach(req);
		if (ret)
			goto out;
	}
	slot = slot_at(req->poll_slot - 1);
	if (fu_load_relaxed(&req->cancelled)) {
		ret = -ECANCELED;
		goto out;
	}
	if (slot->added && !(events & EPOLLONESHOT) && slot->events == events) {
		req->seen_events = slot->pending;
		slot->pending = 0;
		if (req->seen_events)
			ret = 1;
		else
			slot->kind = SLOT_ARMED;
		goto out;
	}
	/* The file tells the last one first: a request that waits anew goes before those there. */
	if (slot->added && (events & EPOLLONESHOT) && !(req->flags & FU_REQ_MULTISHOT)) {
		fu_sys(SYS_epoll_ctl, poller.epfd, EPOLL_CTL_DEL, slot->fd, 0);
		slot->added = false;
	}
	slot->events = events;
	slot->pending = 0;
	/* The handler may run before epoll_ctl returns; it waits for our lock. */
	slot->kind = SLOT_ARMED;
	ev.data.u64 = DATA(req->poll_slot - 1, slot->gen);
	ret = (int)fu_sys(SYS_epoll_ctl, poller.epfd, slot->added ? EPOLL_CTL_MOD : EPOLL_CTL_ADD,
	                  slot->fd, &ev);
	if (ret) {
		slot->kind = SLOT_BUSY;
		if (!slot->added) {
			slot_free(req->poll_slot - 1);
			fu_store_relaxed(&poller.requests, poller.requests - 1);
			req->poll_slot = 0;
		}
	} else {
		slot->added = true;
	}
out:
	fu_unlock(&poller.lock);
	return ret;
}

u32 fu_poller_since(struct fu_req *req)
{
	u32 events = 0;

	fu_lock(&poller.lock);
	if (req->poll_slot) {
		struct slot *slot = slot_at(req->poll_slot - 1);

		events = slot->pending;
		slot->pending = 0;
	}
	fu_unlock(&poller.lock);
	return events;
}

int fu_poller_take(struct fu_req *req, bool cancel)
{
	int ret = FU_TAKE_GONE;

	fu_lock(&poller.lock);
	if (req->poll_slot) {
		struct slot *slot = slot_at(req->poll_slot - 1);

		if (slot->kind == SLOT_ARMED) {
			slot->kind = SLOT_BUSY;
			/* An event already fetched is stale from here on: a new registration
			 * follows. */
			if (++slot->gen == GEN_SPECIAL)
				slot->gen = 1;
			slot->events = 0;
			ret = FU_TAKE_OK;
		} else {
			if (cancel)
				fu_store_release(&req->cancelled, 1);
			ret = FU_TAKE_BUSY;
		}
	}
	fu_unlock(&poller.lock);
	return ret;
}

void fu_poller_release(struct fu_req *req)
{
	fu_lock(&poller.lock);
	if (req->poll_slot) {
		slot_free(req->poll_slot - 1);
		fu_store_relaxed(&poller.requests, poller.requests - 1);
	}
	req->poll_slot = 0;
	fu_unlock(&poller.lock);
}

/* ---- rings ---- */

/* Adds `fd` to the set as `kind` of the ring. The slot's index + 1, or 0. lock held. */
static u32 watch(struct fu_ctx *ctx, enum slot_kind kind, int fd, u32 events)
{
	struct epoll_event ev = { .events = events };
	long index = slot_alloc();
	struct slot *slot;

	if (index < 0)
		return 0;
	slot = slot_at((u32)index);
	slot->kind = (u8)kind;
	slot->ctx = ctx;
	slot->fd = fd;
	ev.data.u64 = DATA((u32)index, slot->gen);
	slot->added = fu_sys(SYS_epoll_ctl, poller.epfd, EPOLL_CTL_ADD, fd, &ev) == 0;
	if (slot->added)
		return (u32)index + 1;
	slot_free((u32)index);
	return 0;
}

void fu_poller_watch_ring(struct fu_ctx *ctx)
{
	if (!fu_load_acquire(&poller.running))
		return;
	fu_lock(&poller.lock);
	if (!ctx->peer_slot && poller.running)
		ctx->peer_slot = watch(ctx, SLOT_RING, ctx->peer, EPOLLIN | EPOLLRDHUP | EPOLLET);
	fu_unlock(&poller.lock);
}

int fu_poller_watch_aio(struct fu_ctx *ctx, int efd)
{
	int ret = fu_poller_start();

	if (ret)
		return ret;
	fu_lock(&poller.lock);
	ctx->aio_slot = watch(ctx, SLOT_AIO, efd, EPOLLIN | EPOLLET);
	fu_unlock(&poller.lock);
	return ctx->aio_slot ? 0 : -ENOMEM;
}

static void unwatch(u32 *slot)
{
	fu_lock(&poller.lock);
	if (*slot)
		slot_free(*slot - 1);
	*slot = 0;
	fu_unlock(&poller.lock);
}

void fu_poller_unwatch_ring(struct fu_ctx *ctx)
{
	unwatch(&ctx->peer_slot);
}

void fu_poller_unwatch_aio(struct fu_ctx *ctx)
{
	unwatch(&ctx->aio_slot);
}
