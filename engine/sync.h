/* FSYNC, SYNC_FILE_RANGE and FALLOCATE. */
#ifndef FU_SYNC_H
#define FU_SYNC_H

#include "engine/engine.h"

int fu_fsync_prep(struct fu_req *req, const struct fu_sqe *sqe);
int fu_fsync_issue(struct fu_req *req, u32 issue_flags);
int fu_sync_file_range_prep(struct fu_req *req, const struct fu_sqe *sqe);
int fu_sync_file_range_issue(struct fu_req *req, u32 issue_flags);
int fu_fallocate_prep(struct fu_req *req, const struct fu_sqe *sqe);
int fu_fallocate_issue(struct fu_req *req, u32 issue_flags);

#endif
