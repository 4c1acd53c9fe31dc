/*
 * Herds: requests that wait for one file in one set, such as many receives of one socket.
 *
 * Each could have a registration of its own with the epoll set. Then each event would be fetched
 * once for each of them, each would look at the file, find nothing but for the first, and be
 * registered anew: some microseconds for every one, however little there is to be had. So the
 * second that comes by the name of the first (slots.c) founds a herd with it: one slot that is
 * watched for what any of them waits for, edge-triggered, and tells the members. These have slots
 * that nothing watches.
 *
 * What the kernel does, it does for each: an event reaches all that wait for it, the one that came
 * last first, and who finds nothing waits anew, before all others. That is kept here, but for the
 * looking: once a member has found that the file is not ready, and poll(2) says so too, it is
 * "dry", and the others need not try. An edge that comes after that is told later, to all that wait
 * by then.
 *
 * A request whose file is ready when it is to wait, or another one than the herd's, waits by
 * itself.
 */
#include "engine/herds.h"

#include <errno.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/stat.h>

#include "engine/host.h"
#include "engine/sets.h"
#include "rings/fds.h"
#include "rings/mem.h"
#include "rings/sys.h"

/* Of a registration's events, those that poll(2) knows. */
#define POLLED 0xffffU

/* Guarded by the lock of the set it is in. */
struct fu_herd {
	struct fu_ctx *ctx; /* whose all have been, or NULL */
	u32 slot;           /* the watched one's index; its descriptor is the herd's own */
	bool fixed;         /* a registered file's */
	u32 dry;            /* what the file is not ready for, unless it is about to tell */
	u32 told;           /* what those called are called for */
	u32 members;
	struct fu_list waiting; /* armed */
	struct fu_list called;  /* armed, and an event is to reach them */
};

static struct fu_slot *member_at(struct fu_list *node)
{
	return fu_list_entry(node, struct fu_slot, line);
}

/* Has the file tell of `events`. 0 or -errno. */
static int watch(const struct fu_herd *herd, u32 events)
{
	struct fu_slot *slot = fu_slot_at(herd->slot);
	struct epoll_event ev = { .events = events | EPOLLET,
		                  .data.u64 = FU_SET_DATA(herd->slot, slot->gen) };
	int op = slot->added ? EPOLL_CTL_MOD : EPOLL_CTL_ADD;
	int ret = (int)fu_sys(SYS_epoll_ctl, fu_poller.sets[slot->set].epfd, op, slot->fd, &ev);

	if (!ret) {
		slot->events = events;
		slot->added = true;
	}
	return ret;
}

/* ---- members ---- */

static void add(struct fu_herd *herd, struct fu_slot *slot)
{
	slot->herd = herd;
	herd->members++;
	fu_list_init(&slot->line);
}

static void wait_first(struct fu_slot *slot)
{
	slot->kind = FU_SLOT_ARMED;
	fu_list_add_head(&slot->herd->waiting, &slot->line);
}

void fu_herd_taken(struct fu_slot *slot)
{
	if (slot->herd)
		fu_list_del(&slot->line);
}

static void end(struct fu_herd *herd)
{
	fu_slot_unname(herd->slot);
	fu_slot_at(herd->slot)->herd = NULL;
	fu_slot_free(herd->slot);
	fu_free(herd, sizeof(*herd));
}

void fu_herd_leave(struct fu_slot *slot)
{
	struct fu_herd *herd = slot->herd;

	if (!herd)
		return;
	fu_list_del(&slot->line);
	slot->herd = NULL;
	if (!--herd->members)
		end(herd);
}

/* ---- founding ---- */

static bool is_same_socket(int a, int b)
{
	struct stat st, other;

	return !fu_sys(SYS_fstat, a, &st) && !fu_sys(SYS_fstat, b, &other) &&
	       S_ISSOCK(st.st_mode) && st.st_dev == other.st_dev && st.st_ino == other.st_ino;
}

/*
 * Whether the request's file is that of `fd`, which had the same name. A program may have closed
 * that without our seeing it.
 */
static bool is_same_file(const struct fu_req *req, bool fixed, int fd)
{
	int same;

	/* The number of a registered file is its own for as long as a request holds it. */
	if (fixed || req->node)
		return fixed && req->node;
	same = fu_fd_same(req->fd, fd);
	return same < 0 ? is_same_socket(req->fd, fd) : same;
}

/* The registration of one that has waited by a name, which the herd makes unnecessary. */
static void unwatch(const struct fu_herd *herd, struct fu_slot *slot)
{
	/* By another file's name nothing is found, or what nobody needs; but our own are needed. */
	if (slot->added && (herd->fixed || !fu_fd_is_engine(slot->fd)))
		fu_slot_leave_set(slot);
	slot->added = false;
	slot->fd = slot->req->fd;
}

/* Founds the herd for `first`, a named slot that is armed. */
static struct fu_herd *found(u32 set, struct fu_slot *first)
{
	struct fu_herd *herd = fu_zalloc(sizeof(*herd));
	long index = herd ? fu_slot_alloc(set, -1) : -ENOMEM;
	struct fu_slot *slot;

	if (index < 0)
		goto no_slot;
	herd->ctx = first->req->ctx;
	herd->slot = (u32)index;
	herd->fixed = first->req->node != NULL;
	fu_list_init(&herd->waiting);
	fu_list_init(&herd->called);
	slot = fu_slot_at(herd->slot);
	slot->kind = FU_SLOT_HERD;
	slot->fd = fu_fd_dup_high(first->req->fd);
	slot->own_fd = slot->fd >= 0;
	if (slot->fd < 0 || watch(herd, first->events & POLLED))
		goto no_watch;
	slot->herd = herd;
	fu_slot_hand_name(first, herd->slot);
	unwatch(herd, first);
	add(herd, first);
	wait_first(first);
	return herd;

no_watch:
	fu_slot_free(herd->slot);
no_slot:
	if (herd)
		fu_free(herd, sizeof(*herd));
	return NULL;
}

/* The herd for the request's file, or NULL. */
static struct fu_herd *herd_for(u32 set, const struct fu_req *req, int name)
{
	long index = fu_slot_of_name(set, name);
	struct fu_slot *slot = index < 0 ? NULL : fu_slot_at((u32)index);
	struct fu_herd *herd;

	if (!slot)
		return NULL;
	if (slot->kind == FU_SLOT_HERD) {
		herd = slot->herd;
		if (is_same_file(req, herd->fixed, slot->fd))
			return herd;
	} else if (slot->kind == FU_SLOT_ARMED && slot->place == FU_PLACE_NONE &&
	           !(slot->req->flags & FU_REQ_MULTISHOT) &&
	           is_same_file(req, slot->req->node != NULL, slot->req->fd)) {
		return found(set, slot);
	}
	return NULL;
}

/* ---- waiting ---- */

/* What poll(2) tells to who asks for `events`. */
static u32 told_of(u32 events)
{
	return (events | EPOLLERR | EPOLLHUP) & POLLED;
}

/* Whether the file is ready for any of the events. */
static bool is_ready(struct fu_herd *herd, u32 events)
{
	struct pollfd pfd = { .fd = fu_slot_at(herd->slot)->fd, .events = (short)events };

	if (!(told_of(events) & ~herd->dry))
		return false;
	if (fu_poll_now(&pfd))
		return true;
	herd->dry |= told_of(events);
	return false;
}

/* Whether the herd's file tells of the events, and is not ready for any. */
static bool can_wait(struct fu_herd *herd, u32 events)
{
	const struct fu_slot *slot = fu_slot_at(herd->slot);

	if ((!slot->added || (events & POLLED & ~slot->events)) &&
	    watch(herd, slot->events | (events & POLLED)))
		return false;
	return !is_ready(herd, events);
}

int fu_herd_join(u32 set, struct fu_req *req, u32 events, int name)
{
	struct fu_herd *herd = herd_for(set, req, name);
	struct fu_slot *slot;
	long index;

	if (!herd || !can_wait(herd, events))
		return -EBUSY;
	index = fu_slot_alloc(set, -1);
	if (index < 0)
		return -EBUSY;
	slot = fu_slot_at((u32)index);
	slot->kind = FU_SLOT_BUSY;
	slot->req = req;
	slot->fd = req->fd;
	slot->events = events;
	req->poll_slot = (u32)index + 1;
	add(herd, slot);
	if (herd->ctx != req->ctx)
		herd->ctx = NULL;
	if (fu_load_relaxed(&req->cancelled))
		return -ECANCELED;
	wait_first(slot);
	return 0;
}

int fu_herd_rearm(struct fu_slot *slot, u32 events)
{
	if (fu_load_relaxed(&slot->req->cancelled))
		return -ECANCELED;
	/* The file tells the last one first: who waits anew goes before others, who have come since
	 * to wait by themselves. */
	if (fu_load_relaxed(&fu_slot_at(slot->herd->slot)->crowded))
		fu_slot_leave_set(fu_slot_at(slot->herd->slot));
	if (!can_wait(slot->herd, events))
		return -EBUSY;
	slot->events = events;
	wait_first(slot);
	return 0;
}

/* ---- events ---- */

void fu_herd_call(struct fu_slot *slot, u32 events)
{
	struct fu_herd *herd = slot->herd;

	events |= slot->pending;
	slot->pending = 0;
	herd->dry &= ~events;
	herd->told = fu_list_empty(&herd->called) ? events : herd->told | events;
	fu_list_for_each_safe(node, next, &herd->waiting)
	{
		if (!(events & told_of(member_at(node)->events)))
			continue;
		fu_list_del(node);
		fu_list_add_tail(&herd->called, node);
	}
}

bool fu_herd_is_dry(const struct fu_slot *slot)
{
	return slot->herd && !(told_of(slot->events) & ~slot->herd->dry);
}

struct fu_req *fu_herd_next(struct fu_slot *slot, u32 *events)
{
	struct fu_herd *herd = slot->herd;
	struct fu_list *node;

	*events = herd->told;
	while ((node = fu_list_pop(&herd->called))) {
		struct fu_slot *member = member_at(node);

		/* What is called for the event itself has it. */
		if (member->req->op->event || !fu_herd_is_dry(member)) {
			member->kind = FU_SLOT_BUSY;
			return member->req;
		}
		wait_first(member);
	}
	return NULL;
}

struct fu_ctx *fu_herd_ctx(const struct fu_slot *slot)
{
	return slot->herd->ctx;
}
