/*
 * What the engine has done in this process: the figures of FAKEURING_STATS.
 * Written with relaxed atomic additions by whichever thread did the work, read
 * by the statistics writer when the process ends, together with every ring's tally. A forked child
 * starts at zero.
 */
#ifndef FU_COUNTERS_H
#define FU_COUNTERS_H

#include "rings/types.h"

struct fu_counters {
	u64 rings;      /* rings made by this process */
	u64 used;       /* rings made or first used by this process */
	u64 sqes;       /* SQEs consumed */
	u64 cqes;       /* CQEs posted, overflowed ones included */
	u64 inlined;    /* requests finished on the submitter's thread */
	u64 aio;        /* requests handed to Linux AIO */
	u64 armed;      /* requests that waited in the poller */
	u64 worker;     /* requests that ran on a worker */
	u64 sqpoll;     /* SQEs consumed by an SQPOLL thread */
	u64 traps;      /* system calls that arrived by SIGSYS or user-notify */
	u64 patched;    /* call sites that were rewritten to enter without a trap */
	u64 overflowed; /* CQEs that went through the overflow backlog */
};

extern struct fu_counters fu_counters;

/* What every request adds to is counted in its ring, under submit_lock and so without locked
 * instructions. */
struct fu_tally {
	u64 sqes;
	u64 cqes;
	u64 inlined;
};

#define FU_TALLY(ctx, field, n) fu_store_relaxed(&(ctx)->tally.field, (ctx)->tally.field + (u64)(n))

#define FU_COUNT(field, n) \
	((void)__atomic_fetch_add(&fu_counters.field, (u64)(n), __ATOMIC_RELAXED))

#endif
