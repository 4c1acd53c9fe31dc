/*
 * What handles the poller's events needs of arming. See arming.c.
 */
#ifndef FU_ARMING_H
#define FU_ARMING_H

#include "engine/engine.h"

/*
 * Wakes the one whose turn it is in the line for `file`, if it sleeps. What is there for one of
 * `ctx`, unless NULL, it gets at once: no lock is held then but that ring's submit_lock.
 */
void fu_line_call(const u64 *file, struct fu_ctx *ctx);

#endif
