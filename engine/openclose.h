/* OPENAT, OPENAT2, CLOSE, FIXED_FD_INSTALL, PIPE. */
#ifndef FU_OPENCLOSE_H
#define FU_OPENCLOSE_H

#include "engine/engine.h"

int fu_openat_prep(struct fu_req *req, const struct fu_sqe *sqe);
int fu_openat2_prep(struct fu_req *req, const struct fu_sqe *sqe);
int fu_openat_stable(struct fu_req *req);
int fu_openat_issue(struct fu_req *req, u32 issue_flags);
void fu_openat_cleanup(struct fu_req *req);
int fu_close_prep(struct fu_req *req, const struct fu_sqe *sqe);
int fu_close_issue(struct fu_req *req, u32 issue_flags);
int fu_fixed_fd_install_prep(struct fu_req *req, const struct fu_sqe *sqe);
int fu_fixed_fd_install_issue(struct fu_req *req, u32 issue_flags);
int fu_pipe_prep(struct fu_req *req, const struct fu_sqe *sqe);
int fu_pipe_issue(struct fu_req *req, u32 issue_flags);

#endif
