/* RENAMEAT, UNLINKAT, MKDIRAT, SYMLINKAT, LINKAT. */
#ifndef FU_FS_H
#define FU_FS_H

#include "engine/engine.h"

int fu_renameat_prep(struct fu_req *req, const struct fu_sqe *sqe);
int fu_renameat_issue(struct fu_req *req, u32 issue_flags);
int fu_unlinkat_prep(struct fu_req *req, const struct fu_sqe *sqe);
int fu_unlinkat_issue(struct fu_req *req, u32 issue_flags);
int fu_mkdirat_prep(struct fu_req *req, const struct fu_sqe *sqe);
int fu_mkdirat_issue(struct fu_req *req, u32 issue_flags);
int fu_symlinkat_prep(struct fu_req *req, const struct fu_sqe *sqe);
int fu_symlinkat_issue(struct fu_req *req, u32 issue_flags);
int fu_linkat_prep(struct fu_req *req, const struct fu_sqe *sqe);
int fu_linkat_issue(struct fu_req *req, u32 issue_flags);
void fu_fs_cleanup(struct fu_req *req);

#endif
