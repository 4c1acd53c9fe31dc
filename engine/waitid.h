/* WAITID. */
#ifndef FU_WAITID_H
#define FU_WAITID_H

#include "engine/engine.h"

int fu_waitid_prep(struct fu_req *req, const struct fu_sqe *sqe);
int fu_waitid_issue(struct fu_req *req, u32 issue_flags);
void fu_waitid_fail(struct fu_req *req);

#endif
