/*
 * Herds: requests that wait for one file together. See herds.c.
 */
#ifndef FU_HERDS_H
#define FU_HERDS_H

#include "engine/slots.h"

/*
 * Has a request without a slot wait for `events` in the herd for the file it knows by `name`, or
 * found one with the request that waits by that name. 0: it is armed; -ECANCELED, with a slot; or
 * -EBUSY, without one: it has to be watched by itself, also because it is ready. The set's lock
 * held.
 */
int fu_herd_join(u32 set, struct fu_req *req, u32 events, int name);
/* Arms a member, which is BUSY, again. Returns the same; with -EBUSY it is to leave. The set's lock
 * held. */
int fu_herd_rearm(struct fu_slot *slot, u32 events);
/* An armed member is taken. Nothing if it is in no herd. The set's lock held. */
void fu_herd_taken(struct fu_slot *slot);
/* The slot's request is done with, the slot being free next: likewise. */
void fu_herd_leave(struct fu_slot *slot);
/* The herd's file has told of `events`: calls those that wait for them. The set's lock held. */
void fu_herd_call(struct fu_slot *slot, u32 events);
/*
 * The next of those called, BUSY from here on, or NULL; *events is what the file has told. Those
 * that would find nothing any more wait on. The set's lock held.
 */
struct fu_req *fu_herd_next(struct fu_slot *slot, u32 *events);
/* Whether what the member waits for has not come since somebody found nothing. The set's lock held.
 */
bool fu_herd_is_dry(const struct fu_slot *slot);
/* The ring that all of the herd's requests have been of, or NULL. The set's lock held. */
struct fu_ctx *fu_herd_ctx(const struct fu_slot *slot);

#endif
