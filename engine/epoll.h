/* EPOLL_CTL and EPOLL_WAIT. */
#ifndef FU_EPOLL_H
#define FU_EPOLL_H

#include "engine/engine.h"

int fu_epoll_ctl_prep(struct fu_req *req, const struct fu_sqe *sqe);
int fu_epoll_ctl_issue(struct fu_req *req, u32 issue_flags);
int fu_epoll_wait_prep(struct fu_req *req, const struct fu_sqe *sqe);
int fu_epoll_wait_issue(struct fu_req *req, u32 issue_flags);

#endif
