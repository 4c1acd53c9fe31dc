/*
 * Events that come and go within one submission. In the kernel a poll is woken when something is
 * written, whatever happens to it then; an epoll set tells only what is still true when somebody
 * asks. So before a request takes something out of a file that is polled, the events there are
 * fetched. They are handled once the submission is over: what follows from them may need the lock
 * of another ring. A poll that goes on and has had two of them looks at the file again, as the
 * kernel's does when it comes to telling.
 */
#include "engine/notes.h"

#include <sys/epoll.h>

#include "engine/herds.h"
#include "engine/poller.h"
#include "engine/sets.h"
#include "engine/slots.h"
#include "rings/sys.h"

static bool is_noted(const struct fu_notes *notes, u64 data)
{
	for (u32 i = 0; i < notes->n; i++) {
		if (notes->data[i] == data)
			return true;
	}
	return false;
}

/* Whether the event is another one for a slot that has one already, noted or with another thread,
 * which is to see that. */
static bool is_another(const struct fu_notes *notes, u32 set, const struct epoll_event *event)
{
	u32 index = (u32)event->data.u64, gen = (u32)(event->data.u64 >> 32);
	bool another = is_noted(notes, event->data.u64);

	fu_lock(&fu_poller.sets[set].lock);
	if (gen != FU_SET_SPECIAL && index < fu_load_acquire(&fu_poller.nr_slots)) {
		struct fu_slot *slot = fu_slot_at(index);

		if (fu_load_relaxed(&slot->gen) == gen) {
			another |= slot->kind == FU_SLOT_BUSY;
			slot->pending |= another ? event->events : 0;
		}
	}
	fu_unlock(&fu_poller.sets[set].lock);
	return another;
}

/* Of one set; what finds no room stays there. */
static void take_from(struct fu_notes *notes, u32 set)
{
	struct epoll_event events[FU_NOTES];
	long n, room = (long)(FU_NOTES - notes->n);

	if (!room)
		return;
	/* Whoever looks there meanwhile waits until they are handled. */
	fu_poller_begin(set);
	n = fu_sys(SYS_epoll_wait, fu_load_relaxed(&fu_poller.sets[set].epfd), events, room, 0);
	for (long i = 0; i < n; i++) {
		if (is_another(notes, set, &events[i]))
			continue;
		notes->data[notes->n] = events[i].data.u64;
		notes->events[notes->n] = events[i].events;
		notes->sets[notes->n++] = (u8)set;
	}
	if (n > 0 && !(notes->busy >> set & 1))
		notes->busy |= 1ULL << set;
	else
		fu_poller_end(set);
}

void fu_notes_take(struct fu_ctx *ctx)
{
	for (u32 set = 0; set < fu_poller_sets(); set++) {
		if (fu_load_acquire(&fu_poller.sets[set].requests))
			take_from(&ctx->notes, set);
	}
}

/* Whether the event is of a request of the ring. */
static bool is_own(const struct fu_ctx *ctx, u32 set, u64 data)
{
	u32 index = (u32)data;
	bool own = false;

	fu_lock(&fu_poller.sets[set].lock);
	if (index < fu_load_acquire(&fu_poller.nr_slots)) {
		const struct fu_slot *slot = fu_slot_at(index);

		if (fu_load_relaxed(&slot->gen) != (u32)(data >> 32))
			own = false;
		else if (slot->kind == FU_SLOT_HERD)
			own = fu_herd_ctx(slot) == ctx;
		else
			own = slot->kind == FU_SLOT_ARMED && slot->req->ctx == ctx;
	}
	fu_unlock(&fu_poller.sets[set].lock);
	return own;
}

bool fu_notes_own(struct fu_ctx *ctx)
{
	struct fu_notes *notes = &ctx->notes;
	u32 n = notes->n, left = 0;

	for (u32 i = 0; i < n; i++) {
		struct epoll_event event = { .events = notes->events[i],
			                     .data.u64 = notes->data[i] };
		u8 set = notes->sets[i];

		if (is_own(ctx, set, event.data.u64)) {
			fu_poller_handle(set, &event, 1);
			continue;
		}
		notes->events[left] = event.events;
		notes->data[left] = event.data.u64;
		notes->sets[left++] = set;
	}
	notes->n = left;
	return left != n;
}

void fu_notes_handle(struct fu_notes *notes)
{
	for (u32 i = 0; i < notes->n; i++) {
		struct epoll_event event = { .events = notes->events[i],
			                     .data.u64 = notes->data[i] };

		fu_poller_handle(notes->sets[i], &event, 1);
	}
	for (u64 busy = notes->busy; busy; busy &= busy - 1)
		fu_poller_end((u32)__builtin_ctzll(busy));
}
