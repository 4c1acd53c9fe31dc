/*
 * Arming: how a request comes to wait in one of the poller's sets, and is taken back from there;
 * and whom a line for a file (lines.c) has watch it next. What is told then is handled in poller.c.
 */
#include "engine/arming.h"

#include <errno.h>
#include <poll.h>
#include <sys/epoll.h>

#include "engine/entry.h"
#include "engine/herds.h"
#include "engine/host.h"
#include "engine/sets.h"
#include "engine/slots.h"
#include "rings/fds.h"
#include "rings/sys.h"

/* Has the epoll set tell of the slot's events, once armed. Its lock held. 0 or -errno. */
static int watch(const struct fu_set *set, struct fu_slot *slot, u32 index)
{
	struct epoll_event ev = { .events = slot->events | EPOLLET,
		                  .data.u64 = FU_SET_DATA(index, slot->gen) };
	int op = slot->added ? EPOLL_CTL_MOD : EPOLL_CTL_ADD;
	int ret = (int)fu_sys(SYS_epoll_ctl, set->epfd, op, slot->fd, &ev);

	/* The file of a named one may have gone, and its registration with it; or it has left one.
	 */
	if (ret == -ENOENT && slot->named)
		ret = (int)fu_sys(SYS_epoll_ctl, set->epfd, EPOLL_CTL_ADD, slot->fd, &ev);
	else if (ret == -EEXIST)
		ret = (int)fu_sys(SYS_epoll_ctl, set->epfd, EPOLL_CTL_MOD, slot->fd, &ev);
	slot->added = !ret || (slot->added && !slot->named);
	return ret;
}

/* ---- lines ---- */

/* What the request's file is ready for now, of what it waits for. */
static u32 ready_now(const struct fu_req *req, u32 events)
{
	struct pollfd pfd = { .fd = req->fd, .events = (short)events };

	return fu_poll_now(&pfd) > 0 ? (u32)pfd.revents & ~(u32)POLLNVAL : 0;
}

void fu_line_call(const u64 *file, struct fu_ctx *ctx)
{
	struct fu_req *next = NULL;
	struct fu_slot *slot;
	u32 set, gen, events = 0;
	long index = fu_line_next(file, &set, &gen);

	if (index < 0)
		return;
	slot = fu_slot_at((u32)index);
	fu_lock(&fu_poller.sets[set].lock);
	/* Or somebody has taken it, and passes it on. */
	if (fu_load_relaxed(&slot->gen) == gen && slot->kind == FU_SLOT_ARMED &&
	    fu_load_relaxed(&slot->place) == FU_PLACE_AWAKE) {
		bool same = slot->req->ctx == ctx && !fu_load_relaxed(&ctx->ring.ctrl->ended);

		if (same)
			events = ready_now(slot->req, slot->events & 0xffffU);
		/* One that cannot be watched finds out by itself. */
		if (!events && watch(&fu_poller.sets[set], slot, (u32)index) && same)
			events = slot->events & 0xffffU;
		if (events) {
			next = slot->req;
			slot->kind = FU_SLOT_BUSY;
			fu_line_taken(slot, false);
		}
		fu_store_relaxed(&fu_poller.sets[set].called, true);
	}
	fu_unlock(&fu_poller.sets[set].lock);
	if (next) {
		fu_store_relaxed(&ctx->passed_on, true);
		fu_poll_event(next, events);
	}
}

void fu_poller_pass_on(struct fu_req *req)
{
	fu_line_call(req->big, req->ctx);
	req->lined = 0;
}

/* ---- requests ---- */

/* One more (1) or less (-1) in the set. Its lock held. */
static void count(u32 set, s32 n)
{
	fu_store_relaxed(&fu_poller.sets[set].requests, fu_poller.sets[set].requests + (u32)n);
}

/* The slot for `req` in the set, whose lock is held, if it is to wait by a name. */
static int attach_named(u32 set, struct fu_req *req, int name)
{
	long index = fu_slot_named(set, name);

	if (index < 0)
		return (int)index;
	fu_slot_at((u32)index)->req = req;
	req->poll_slot = (u32)index + 1;
	count(set, 1);
	return 0;
}

/* A slot, and a descriptor of its own for the epoll set, whose lock is held. */
static int attach_own(u32 set, struct fu_req *req)
{
	struct fu_slot *slot;
	long index = fu_slot_alloc(set, req->node ? req->node->fd : (int)req->sqe_fd);

	if (index < 0)
		return (int)index;
	slot = fu_slot_at((u32)index);
	slot->req = req;
	slot->fd = req->fd;
	if (!(req->flags & FU_REQ_OWN_FD)) {
		slot->fd = fu_fd_dup_high(req->fd);
		slot->own_fd = slot->fd >= 0;
	}
	if (slot->fd < 0) {
		int err = slot->fd;

		fu_slot_free((u32)index);
		return err;
	}
	req->poll_slot = (u32)index + 1;
	count(set, 1);
	return 0;
}

/* The set's lock held. */
static void detach(u32 set, struct fu_req *req)
{
	count(set, -1);
	fu_slot_free(req->poll_slot - 1);
	req->poll_slot = 0;
}

/* Arms the request, which has a slot in set `n`. That lock held. Returns as fu_poller_arm. */
static int arm_slot(u32 n, struct fu_req *req, u32 events, bool once)
{
	struct fu_slot *slot = fu_slot_at(req->poll_slot - 1);
	const struct fu_set *set = &fu_poller.sets[n];
	int ret;

	if (fu_load_relaxed(&req->cancelled))
		return -ECANCELED;
	if (slot->added && !(events & EPOLLONESHOT) && slot->events == events) {
		req->seen_events = slot->pending;
		slot->pending = 0;
		if (req->seen_events)
			return 1;
		slot->kind = FU_SLOT_ARMED;
		if (req->lined)
			fu_line_join(req->poll_slot - 1);
		return 0;
	}
	/* The file tells the last one first: a request that waits anew goes before those there. */
	if (slot->added && once && !req->lined && (!slot->named || fu_load_relaxed(&slot->crowded)))
		fu_slot_leave_set(slot);
	slot->events = events;
	slot->pending = 0;
	/* The handler may run before epoll_ctl returns; it waits for our lock. */
	slot->kind = FU_SLOT_ARMED;
	if (req->lined && !fu_line_join(req->poll_slot - 1)) {
		if (!slot->named)
			return 0;
		/* The name may be another file's when its turn has come. */
		slot->kind = FU_SLOT_BUSY;
		return -EBUSY;
	}
	ret = watch(set, slot, req->poll_slot - 1);
	if (ret) {
		slot->kind = FU_SLOT_BUSY;
		if (!slot->added)
			detach(n, req);
	}
	return ret;
}

/*
 * The same by a name, which the file has to have had all the while. Its lock held. -EBUSY: not to
 * be had by that.
 */
static int arm_by_name(u32 n, struct fu_req *req, u32 events, struct fu_name name)
{
	int ret = req->poll_slot ? 0 : attach_named(n, req, name.fd);

	if (ret)
		return -EBUSY;
	ret = arm_slot(n, req, events, true);
	if (ret == -ECANCELED || ret == -EPERM)
		return ret;
	if (!ret && (req->node || fu_load_acquire(&fu_fds_renamed) == name.since))
		return 0;
	if (req->poll_slot)
		detach(n, req);
	return -EBUSY;
}

/*
 * The same together with others that wait for the file. Its lock held. -EBUSY: there are none, or
 * it is to be watched by itself.
 */
static int join_herd(u32 n, struct fu_req *req, u32 events, int name)
{
	int ret = fu_herd_join(n, req, events, name);

	if (req->poll_slot)
		count(n, 1);
	return ret;
}

/* The same of a member. It has left where that is -EBUSY. */
static int rearm_in_herd(u32 n, struct fu_req *req, u32 events)
{
	int ret = fu_herd_rearm(fu_slot_at(req->poll_slot - 1), events);

	if (ret == -EBUSY)
		detach(n, req);
	return ret;
}

static bool in_herd(const struct fu_req *req)
{
	return req->poll_slot && fu_slot_at(req->poll_slot - 1)->herd;
}

/* A sandbox that denies the calls, by whatever error: to who waits no file can be polled then. */
static int denied(int ret)
{
	return ret == -ENOSYS || ret == -EACCES ? -EPERM : ret;
}

int fu_poller_arm(struct fu_req *req, u32 events, struct fu_name name)
{
	bool once = (events & EPOLLONESHOT) && !(req->flags & FU_REQ_MULTISHOT);
	int ret = fu_poller_start();
	struct fu_set *set;
	u64 file[2];
	bool lined;
	u32 n;

	if (fu_unlikely(ret))
		return denied(ret);
	if (events & EPOLLEXCLUSIVE)
		fu_line_for(req);
	events &= ~(u32)EPOLLEXCLUSIVE;
	/* It may be somebody else's once it is armed. */
	lined = req->lined;
	file[0] = req->big[0];
	file[1] = req->big[1];
	n = fu_set_for(req->ctx, fu_self.engine && req->owner ? req->owner : fu_tid());
	set = &fu_poller.sets[n];
	fu_self.sets |= 1ULL << n;
	fu_lock(&set->lock);
	/* What the program named it by then may be another file's name by now. */
	if (req->poll_slot && fu_slot_at(req->poll_slot - 1)->named && name.fd < 0)
		detach(n, req);
	ret = -EBUSY;
	if (fu_unlikely(in_herd(req)))
		ret = rearm_in_herd(n, req, events);
	if (ret == -EBUSY && once && name.fd >= 0) {
		ret = arm_by_name(n, req, events, name);
		if (ret == -EBUSY && !req->poll_slot && !lined)
			ret = join_herd(n, req, events, name.fd);
	}
	if (ret == -EBUSY) {
		ret = req->poll_slot ? 0 : attach_own(n, req);
		if (!ret)
			ret = arm_slot(n, req, events, once);
	}
	fu_unlock(&set->lock);
	if (fu_unlikely(lined))
		fu_line_call(file, NULL);
	return denied(ret);
}

u32 fu_poller_since(struct fu_req *req)
{
	u32 events = 0;
	struct fu_set *set = &fu_poller.sets[fu_poller_set(req->ctx)];

	fu_lock(&set->lock);
	if (req->poll_slot) {
		struct fu_slot *slot = fu_slot_at(req->poll_slot - 1);

		events = slot->pending;
		slot->pending = 0;
	}
	fu_unlock(&set->lock);
	return events;
}

int fu_poller_take(struct fu_req *req, bool cancel)
{
	int ret = FU_TAKE_GONE;
	struct fu_set *set;

	/* It may be on its way, and the set chosen just now. */
	if (fu_unlikely(!fu_load_acquire(&req->ctx->poll_set))) {
		fu_lock(&fu_poller.lock);
		fu_unlock(&fu_poller.lock);
	}
	set = &fu_poller.sets[fu_poller_set(req->ctx)];
	fu_lock(&set->lock);
	if (req->poll_slot) {
		struct fu_slot *slot = fu_slot_at(req->poll_slot - 1);

		if (slot->kind == FU_SLOT_ARMED) {
			slot->kind = FU_SLOT_BUSY;
			fu_herd_taken(slot);
			/* An event already fetched is stale from here on: a new registration
			 * follows. */
			fu_slot_renew(slot);
			slot->events = 0;
			fu_line_taken(slot, false);
			ret = FU_TAKE_OK;
		} else {
			if (cancel)
				fu_store_release(&req->cancelled, 1);
			ret = FU_TAKE_BUSY;
		}
	}
	fu_unlock(&set->lock);
	return ret;
}

bool fu_poller_finds_nothing(const struct fu_req *req)
{
	struct fu_set *set = &fu_poller.sets[fu_poller_set(req->ctx)];
	bool nothing;

	if (fu_likely(!in_herd(req)))
		return false;
	fu_lock(&set->lock);
	nothing = fu_herd_is_dry(fu_slot_at(req->poll_slot - 1));
	fu_unlock(&set->lock);
	return nothing;
}

void fu_poller_release(struct fu_req *req)
{
	struct fu_set *set = &fu_poller.sets[fu_poller_set(req->ctx)];

	fu_lock(&set->lock);
	if (req->poll_slot)
		detach(fu_poller_set(req->ctx), req);
	fu_unlock(&set->lock);
}
