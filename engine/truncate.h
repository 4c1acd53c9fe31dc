/* FTRUNCATE. */
#ifndef FU_TRUNCATE_H
#define FU_TRUNCATE_H

#include "engine/engine.h"

int fu_ftruncate_prep(struct fu_req *req, const struct fu_sqe *sqe);
int fu_ftruncate_issue(struct fu_req *req, u32 issue_flags);

#endif
