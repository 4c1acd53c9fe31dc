/* SPLICE and TEE. */
#ifndef FU_SPLICE_H
#define FU_SPLICE_H

#include "engine/engine.h"

int fu_splice_prep(struct fu_req *req, const struct fu_sqe *sqe);
int fu_splice_issue(struct fu_req *req, u32 issue_flags);
int fu_tee_prep(struct fu_req *req, const struct fu_sqe *sqe);
int fu_tee_issue(struct fu_req *req, u32 issue_flags);
void fu_splice_cleanup(struct fu_req *req);

#endif
