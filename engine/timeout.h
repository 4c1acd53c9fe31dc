/* TIMEOUT, TIMEOUT_REMOVE and LINK_TIMEOUT. */
#ifndef FU_TIMEOUT_H
#define FU_TIMEOUT_H

#include "engine/engine.h"

int fu_timeout_prep(struct fu_req *req, const struct fu_sqe *sqe);
int fu_timeout_issue(struct fu_req *req, u32 issue_flags);
void fu_timeout_event(struct fu_req *req);
bool fu_timeout_cancel(struct fu_req *req);
int fu_timeout_remove_prep(struct fu_req *req, const struct fu_sqe *sqe);
int fu_timeout_remove_issue(struct fu_req *req, u32 issue_flags);
int fu_link_timeout_prep(struct fu_req *req, const struct fu_sqe *sqe);
int fu_link_timeout_issue(struct fu_req *req, u32 issue_flags);
void fu_link_timeout_event(struct fu_req *req);

#endif
