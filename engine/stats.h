/*
 * FAKEURING_STATS: one JSON line per process that made or used a ring. The line
 * is reserved at the first ring with a single appending write of fixed width,
 * then rewritten in place, so that a killed process leaves what was last known.
 * Where that cannot be, in a pipe or a terminal, it is written once, at the end.
 */
#ifndef FU_STATS_H
#define FU_STATS_H

#include "rings/types.h"

/* True once fu_stats_init was given a file. Written before any ring exists. */
extern bool fu_stats_on;

/* Remembers the file, made absolute. NULL: statistics are off. Opens nothing yet. `execfn` is the
 * file that was executed. */
void fu_stats_init(const char *path, const char *execfn);

/* In a forked child: the line is the parent's, the first ring here reserves another. */
void fu_stats_fork_child(void);

enum fu_stats_when { FU_STATS_USED, FU_STATS_RING_ENDED, FU_STATS_PROCESS_ENDS };

/* The slow half of the calls below. */
void fu_stats_update(enum fu_stats_when when);

/*
 * A ring was made or used: the first call reserves the line, later ones rewrite it, a few times a
 * second and whenever their number has doubled. Any thread, any context; one load when off.
 */
static inline void fu_stats_touch(void)
{
	if (fu_unlikely(fu_stats_on)) {
		fu_stats_update(FU_STATS_USED);
	}
}

/* A ring ended: rewrites the line now, if there is one. */
static inline void fu_stats_flush(void)
{
	if (fu_unlikely(fu_stats_on)) {
		fu_stats_update(FU_STATS_RING_ENDED);
	}
}

/* The process is about to end, or to become another program: the last word. */
static inline void fu_stats_end(void)
{
	if (fu_unlikely(fu_stats_on)) {
		fu_stats_update(FU_STATS_PROCESS_ENDS);
	}
}

#endif
