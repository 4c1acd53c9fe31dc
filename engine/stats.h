/*
 * FAKEURING_STATS: one JSON line per process that made or used a ring. The line
 * is reserved at the first ring with a single appending write of fixed width,
 * then rewritten in place, so that a killed process leaves what was last known.
 */
#ifndef FU_STATS_H
#define FU_STATS_H

#include "rings/types.h"

/* True once fu_stats_init was given a file. Written before any ring exists. */
extern bool fu_stats_on;

/* Remembers the file, made absolute. NULL: statistics are off. Opens nothing yet. */
void fu_stats_init(const char *path);

/* In a forked child: the line is the parent's, the first ring here reserves another. */
void fu_stats_fork_child(void);

/* The slow half of the two calls below. */
void fu_stats_update(bool force);

/*
 * A ring was made or used: the first call reserves the line, later ones rewrite
 * it at most a few times a second. Any thread, any context; one load when off.
 */
static inline void fu_stats_touch(void)
{
	if (fu_unlikely(fu_stats_on)) {
		fu_stats_update(false);
	}
}

/* A ring ended, or the process is about to: rewrites the line now, if there is one. */
static inline void fu_stats_flush(void)
{
	if (fu_unlikely(fu_stats_on)) {
		fu_stats_update(true);
	}
}

#endif
