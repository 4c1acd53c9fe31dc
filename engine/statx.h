/* STATX. */
#ifndef FU_STATX_H
#define FU_STATX_H

#include "engine/engine.h"

int fu_statx_prep(struct fu_req *req, const struct fu_sqe *sqe);
int fu_statx_stable(struct fu_req *req);
int fu_statx_issue(struct fu_req *req, u32 issue_flags);
void fu_statx_cleanup(struct fu_req *req);

#endif
