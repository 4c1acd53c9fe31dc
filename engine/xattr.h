/* FSETXATTR, SETXATTR, FGETXATTR, GETXATTR. */
#ifndef FU_XATTR_H
#define FU_XATTR_H

#include "engine/engine.h"

int fu_fsetxattr_prep(struct fu_req *req, const struct fu_sqe *sqe);
int fu_setxattr_prep(struct fu_req *req, const struct fu_sqe *sqe);
int fu_fgetxattr_prep(struct fu_req *req, const struct fu_sqe *sqe);
int fu_getxattr_prep(struct fu_req *req, const struct fu_sqe *sqe);
int fu_fsetxattr_issue(struct fu_req *req, u32 issue_flags);
int fu_setxattr_issue(struct fu_req *req, u32 issue_flags);
int fu_fgetxattr_issue(struct fu_req *req, u32 issue_flags);
int fu_getxattr_issue(struct fu_req *req, u32 issue_flags);
void fu_xattr_cleanup(struct fu_req *req);

#endif
