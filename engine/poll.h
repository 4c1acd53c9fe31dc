/* POLL_ADD and POLL_REMOVE. */
#ifndef FU_POLL_H
#define FU_POLL_H

#include "engine/engine.h"

/* Whether there are multishot polls in this process, a hint. */
bool fu_polls_multi(void);
/* Whether there are polls at all, and of the request's file; hints. */
extern u32 fu_polls;
static inline bool fu_polls_any(void)
{
	return fu_load_relaxed(&fu_polls) != 0;
}
bool fu_polls_of(const struct fu_req *req);

int fu_poll_add_prep(struct fu_req *req, const struct fu_sqe *sqe);
int fu_poll_add_issue(struct fu_req *req, u32 issue_flags);
void fu_poll_add_cleanup(struct fu_req *req);
void fu_poll_add_event(struct fu_req *req);
int fu_poll_remove_prep(struct fu_req *req, const struct fu_sqe *sqe);
int fu_poll_remove_issue(struct fu_req *req, u32 issue_flags);

#endif
