/* FUTEX_WAIT, FUTEX_WAKE, FUTEX_WAITV. */
#ifndef FU_FUTEX_H
#define FU_FUTEX_H

#include "engine/engine.h"

int fu_futex_prep(struct fu_req *req, const struct fu_sqe *sqe);
int fu_futexv_prep(struct fu_req *req, const struct fu_sqe *sqe);
int fu_futex_wait_issue(struct fu_req *req, u32 issue_flags);
int fu_futex_wake_issue(struct fu_req *req, u32 issue_flags);
int fu_futexv_issue(struct fu_req *req, u32 issue_flags);
bool fu_futex_cancel(struct fu_req *req);
/* To cancel a wait is no failure: the link goes on. */
void fu_futex_fail(struct fu_req *req);

/* The last ring of the process has gone: idle waiters leave. */
void fu_futex_idle(void);
/* A forked child: the waiters are the parent's. */
void fu_futex_reset(void);

#endif
