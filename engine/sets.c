/*
 * The poller's epoll sets.
 *
 * Where several threads wait for rings of their own, one set would make each handle the events of
 * the others, and wake them. So the first set takes the requests of the rings that one thread uses,
 * and a ring that another thread arms requests of gets a set for these. Such a set is in the first
 * one itself, which tells of it only while it is attached, that is while no thread waits on it.
 */
#include "engine/sets.h"

#include <errno.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>

#include "engine/leader.h"
#include "engine/peers.h"
#include "engine/slots.h"
#include "rings/fds.h"
#include "rings/sys.h"

struct fu_poller fu_poller = { .sets[0] = { .epfd = -1, .wakefd = -1 } };

int fu_set_add(const struct fu_set *set, int fd, u32 what)
{
	/* The wake-up's count is never read: each write is an edge. */
	struct epoll_event ev = { .events = EPOLLIN | (what == FU_POLLER_WAKE ? EPOLLET : 0),
		                  .data.u64 = FU_SET_DATA(what, FU_SET_SPECIAL) };

	return (int)fu_sys(SYS_epoll_ctl, set->epfd, EPOLL_CTL_ADD, fd, &ev);
}

static long call_maker(void *arg, u64 old_limit)
{
	const long *maker = arg;

	(void)old_limit;
	return fu_sys(maker[0], maker[1], maker[2]);
}

int fu_set_fd(long nr, long a, long b)
{
	long maker[] = { nr, a, b };
	long fd = call_maker(maker, 0);

	if (fd == -EMFILE)
		fd = fu_fds_lifted(call_maker, maker);
	return fd < 0 ? (int)fd : fu_fd_high((int)fd);
}

int fu_set_open(struct fu_set *set)
{
	int fd = fu_set_fd(SYS_epoll_create1, EPOLL_CLOEXEC, 0);

	if (fd < 0)
		return fd;
	fu_store_relaxed(&set->epfd, fd);
	fd = fu_set_fd(SYS_eventfd2, 0, EFD_CLOEXEC | EFD_NONBLOCK);
	fu_store_relaxed(&set->wakefd, fd);
	if (fd >= 0) {
		fd = fu_set_add(set, fd, FU_POLLER_WAKE);
		if (!fd)
			return 0;
		fu_fd_close(set->wakefd);
	}
	fu_fd_close(set->epfd);
	fu_store_relaxed(&set->epfd, -1);
	return fd;
}

void fu_set_close(u32 set, void (*close_fd)(int))
{
	close_fd(fu_poller.sets[set].wakefd);
	if (!set)
		close_fd(fu_poller.sets[set].epfd);
	fu_store_relaxed(&fu_poller.sets[set].epfd, -1);
	fu_store_relaxed(&fu_poller.sets[set].wakefd, -1);
}

/* A set for the ring alone, in the first one, or 0. fu_poller.lock held. */
static u32 make_set(u32 by)
{
	struct fu_set *set;
	struct fu_slot *slot;
	u32 i = 1;

	while (i < fu_poller.nr_sets && fu_poller.sets[i].slot)
		i++;
	if (i == FU_POLLER_SETS)
		return 0;
	set = &fu_poller.sets[i];
	if (fu_set_open(set))
		return 0;
	fu_lock(&fu_poller.sets[0].lock);
	set->slot = fu_slot_watch(0, NULL, FU_SLOT_SET, set->epfd, EPOLLIN);
	if (set->slot) {
		slot = fu_slot_at(set->slot - 1);
		slot->inner = i;
		slot->own_fd = true;
	}
	fu_unlock(&fu_poller.sets[0].lock);
	if (!set->slot) {
		fu_fd_close(set->epfd);
		fu_set_close(i, fu_fd_close);
		return 0;
	}
	fu_store_relaxed(&set->by, by);
	fu_leader_forget(i);
	fu_store_relaxed(&set->attached, true);
	if (i == fu_poller.nr_sets)
		fu_store_release(&fu_poller.nr_sets, i + 1);
	return i;
}

u32 fu_set_for(struct fu_ctx *ctx, u32 by)
{
	u32 set = 0;

	if (fu_likely(fu_load_acquire(&ctx->poll_set)))
		return fu_poller_set(ctx);
	fu_lock(&fu_poller.lock);
	if (!ctx->poll_set) {
		if (!fu_poller.sets[0].by)
			fu_store_relaxed(&fu_poller.sets[0].by, by);
		/* Nobody leads a set for a ring that several processes use. */
		if (fu_poller.sets[0].by != by && !fu_peers_used(ctx))
			set = make_set(by);
		fu_store_release(&ctx->poll_set, set + 1);
	}
	fu_unlock(&fu_poller.lock);
	return fu_poller_set(ctx);
}

void fu_poller_free_set(struct fu_ctx *ctx)
{
	u32 set = ctx->poll_set;

	ctx->poll_set = 0;
	if (set < 2)
		return;
	fu_lock(&fu_poller.lock);
	fu_slots_drop(set - 1);
	fu_set_close(set - 1, fu_fd_close);
	fu_lock(&fu_poller.sets[0].lock);
	fu_slot_free(fu_poller.sets[set - 1].slot - 1);
	fu_unlock(&fu_poller.sets[0].lock);
	fu_poller.sets[set - 1].slot = 0;
	/* Nobody need look after it any more. */
	fu_store_relaxed(&fu_poller.sets[set - 1].attached, true);
	fu_unlock(&fu_poller.lock);
}

u32 fu_poller_sets(void)
{
	return fu_load_acquire(&fu_poller.nr_sets);
}

u32 fu_poller_set(const struct fu_ctx *ctx)
{
	u32 set = fu_load_relaxed(&ctx->poll_set);

	return set ? set - 1 : 0;
}

bool fu_poller_attached(u32 set)
{
	return fu_load_relaxed(&fu_poller.sets[set].attached);
}

/* Has the first set tell of what happens in `set`, or not. */
static void attach_set(u32 set, bool attached)
{
	struct epoll_event ev = { .events = attached ? EPOLLIN : 0 };

	fu_lock(&fu_poller.lock);
	if (fu_poller.sets[set].slot && fu_poller.sets[set].attached != attached) {
		const struct fu_slot *slot = fu_slot_at(fu_poller.sets[set].slot - 1);

		ev.data.u64 = FU_SET_DATA(fu_poller.sets[set].slot - 1, slot->gen);
		fu_store_relaxed(&fu_poller.sets[set].attached, attached);
		fu_sys(SYS_epoll_ctl, fu_poller.sets[0].epfd, EPOLL_CTL_MOD, slot->fd, &ev);
	}
	fu_unlock(&fu_poller.lock);
}

void fu_poller_attach(u32 set)
{
	attach_set(set, true);
}

void fu_poller_detach(u32 set)
{
	attach_set(set, false);
}
