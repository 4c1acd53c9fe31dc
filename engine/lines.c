/*
 * Lines: who waits for a file exclusively.
 *
 * One connection is of use to one ACCEPT only. So the kernel wakes the first of them that came, and
 * no other: it passes over those that it has woken before, unless they go on for ever. Polls that
 * ask for EPOLLEXCLUSIVE are woken likewise. An epoll set could only tell all of them. Here they
 * stand in a line for their file instead, in the order in which they came, whatever ring and set
 * they belong to; only the first has its file watched, the others sleep. Whoever is done with the
 * first calls the next one.
 *
 * One whose event is there, but whose ring's thread would have to come for it first, is stuck: what
 * comes meanwhile is for others, but for those that wait for the same thread.
 *
 * A line is told by the inode. Files that share theirs have none, and their requests are all woken.
 */
#include "engine/lines.h"

#include <sys/stat.h>

#include "engine/sets.h"
#include "rings/sys.h"

/* Threads that somebody is stuck for, in one line: those beyond wait for these. */
#define STUCK_FOR 8U

/* slots_lock held. */
static struct fu_list *bucket_of(const u64 *file)
{
	struct fu_list *bucket = &fu_poller.lines[(file[1] ^ file[1] >> 6) % FU_LINE_BUCKETS];

	if (!bucket->next)
		fu_list_init(bucket);
	return bucket;
}

static struct fu_slot *slot_of(struct fu_list *node)
{
	return fu_list_entry(node, struct fu_slot, line);
}

static bool in_line(const struct fu_slot *slot, const u64 *file)
{
	return slot->req->big[0] == file[0] && slot->req->big[1] == file[1];
}

static void set_place(struct fu_slot *slot, enum fu_place place)
{
	fu_store_relaxed(&slot->place, (u8)place);
}

void fu_line_for(struct fu_req *req)
{
	struct stat st;

	if (req->lined || fu_sys(SYS_fstat, req->fd, &st) ||
	    (!S_ISSOCK(st.st_mode) && !S_ISFIFO(st.st_mode)))
		return;
	req->big[0] = st.st_dev;
	req->big[1] = st.st_ino;
	req->lined = 1;
}

bool fu_line_join(u32 index)
{
	struct fu_slot *slot = fu_slot_at(index);
	enum fu_place place = FU_PLACE_AWAKE;

	fu_lock(&fu_poller.slots_lock);
	if (slot->place == FU_PLACE_NONE) {
		struct fu_list *bucket = bucket_of(slot->req->big);

		fu_list_for_each(node, bucket)
		{
			if (!in_line(slot_of(node), slot->req->big))
				continue;
			place = FU_PLACE_ASLEEP;
			break;
		}
		slot->index = index;
		fu_list_add_tail(bucket, &slot->line);
	}
	set_place(slot, place);
	fu_unlock(&fu_poller.slots_lock);
	return place == FU_PLACE_AWAKE;
}

void fu_line_taken(struct fu_slot *slot, bool stuck)
{
	if (fu_load_relaxed(&slot->place) == FU_PLACE_NONE)
		return;
	fu_lock(&fu_poller.slots_lock);
	set_place(slot, stuck ? FU_PLACE_STUCK : FU_PLACE_BUSY);
	fu_unlock(&fu_poller.slots_lock);
}

void fu_line_leave(struct fu_slot *slot)
{
	if (fu_load_relaxed(&slot->place) == FU_PLACE_NONE)
		return;
	fu_lock(&fu_poller.slots_lock);
	fu_list_del(&slot->line);
	set_place(slot, FU_PLACE_NONE);
	fu_unlock(&fu_poller.slots_lock);
}

/* Whether it, too, would have to wait for one of the threads. */
static bool waits_for(const struct fu_ctx *ctx, const u32 *threads, u32 n)
{
	for (u32 i = 0; ctx->deferred && i < n; i++) {
		if (threads[i] == fu_load_relaxed(&ctx->ring.ctrl->submitter))
			return true;
	}
	return false;
}

long fu_line_next(const u64 *file, u32 *set, u32 *gen)
{
	u32 stuck[STUCK_FOR];
	struct fu_list *bucket;
	u32 n = 0;
	long index = -1;

	fu_lock(&fu_poller.slots_lock);
	bucket = bucket_of(file);
	fu_list_for_each(node, bucket)
	{
		struct fu_slot *slot = slot_of(node);

		if (!in_line(slot, file))
			continue;
		if (slot->place == FU_PLACE_STUCK && n < STUCK_FOR) {
			stuck[n++] = fu_load_relaxed(&slot->req->ctx->ring.ctrl->submitter);
			continue;
		}
		if (slot->place != FU_PLACE_ASLEEP)
			break;
		if (waits_for(slot->req->ctx, stuck, n))
			continue;
		set_place(slot, FU_PLACE_AWAKE);
		*set = slot->set;
		*gen = fu_load_relaxed(&slot->gen);
		index = (long)slot->index;
		break;
	}
	fu_unlock(&fu_poller.slots_lock);
	return index;
}

bool fu_line_has(u64 data)
{
	u32 index = (u32)data;

	return (u32)(data >> 32) != FU_SET_SPECIAL &&
	       index < fu_load_acquire(&fu_poller.nr_slots) &&
	       fu_load_relaxed(&fu_slot_at(index)->place) != FU_PLACE_NONE;
}
