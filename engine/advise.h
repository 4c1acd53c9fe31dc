/* FADVISE and MADVISE. */
#ifndef FU_ADVISE_H
#define FU_ADVISE_H

#include "engine/engine.h"

int fu_fadvise_prep(struct fu_req *req, const struct fu_sqe *sqe);
int fu_fadvise_issue(struct fu_req *req, u32 issue_flags);
int fu_madvise_prep(struct fu_req *req, const struct fu_sqe *sqe);
int fu_madvise_issue(struct fu_req *req, u32 issue_flags);

#endif
