/*
 * Lines: requests that wait for a file exclusively. See lines.c.
 */
#ifndef FU_LINES_H
#define FU_LINES_H

#include "engine/slots.h"

#define FU_LINE_BUCKETS 64U

/*
 * Has an owned request wait in the line for its file, if that is of a kind that has one, from its
 * next arming on. req->lined tells.
 */
void fu_line_for(struct fu_req *req);
/*
 * The slot of a request with req->lined is armed: it is in the line now, unless it was. Returns
 * whether its file is to be watched at once; else it sleeps. The set's lock held.
 */
bool fu_line_join(u32 index);
/* The request of an armed slot has been taken; `stuck`: nobody is about to go on with it. The set's
 * lock held. */
void fu_line_taken(struct fu_slot *slot, bool stuck);
/* The slot's request is done with. The set's lock held. */
void fu_line_leave(struct fu_slot *slot);
/*
 * Whose turn it is in the line for `file` (as in a request's `big`), if that one sleeps, and which
 * set it is in: it counts as watched from here on. Its index, or -1; another's, once the generation
 * has moved on. No set's lock held.
 */
long fu_line_next(const u64 *file, u32 *set, u32 *gen);
/* Whether the event is of a slot in a line. A hint. */
bool fu_line_has(u64 data);

#endif
