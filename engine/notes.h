/*
 * Events that are noted before the engine takes away what they tell of. See notes.c.
 */
#ifndef FU_NOTES_H
#define FU_NOTES_H

#include "engine/engine.h"

/* Notes what has happened so far, in all sets. The ring's submit_lock held. */
void fu_notes_take(struct fu_ctx *ctx);
/*
 * Has those handled, as task work, that are for requests of the ring itself. Whether there were
 * any. The ring's submit_lock held.
 */
bool fu_notes_own(struct fu_ctx *ctx);
/* Handles what has been noted for the ring. No lock held; no handler of the program runs. */
void fu_notes_handle(struct fu_notes *notes);

#endif
