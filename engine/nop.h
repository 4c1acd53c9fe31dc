/* NOP. */
#ifndef FU_NOP_H
#define FU_NOP_H

#include "engine/engine.h"

int fu_nop_prep(struct fu_req *req, const struct fu_sqe *sqe);
int fu_nop_issue(struct fu_req *req, u32 issue_flags);

#endif
