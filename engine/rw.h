/* Reads and writes. */
#ifndef FU_RW_H
#define FU_RW_H

#include "engine/engine.h"

int fu_read_prep(struct fu_req *req, const struct fu_sqe *sqe);
int fu_write_prep(struct fu_req *req, const struct fu_sqe *sqe);
int fu_readv_prep(struct fu_req *req, const struct fu_sqe *sqe);
int fu_writev_prep(struct fu_req *req, const struct fu_sqe *sqe);
int fu_read_fixed_prep(struct fu_req *req, const struct fu_sqe *sqe);
int fu_write_fixed_prep(struct fu_req *req, const struct fu_sqe *sqe);
int fu_readv_fixed_prep(struct fu_req *req, const struct fu_sqe *sqe);
int fu_writev_fixed_prep(struct fu_req *req, const struct fu_sqe *sqe);
int fu_rwv_stable(struct fu_req *req);
int fu_read_multishot_prep(struct fu_req *req, const struct fu_sqe *sqe);
int fu_read_multishot_issue(struct fu_req *req, u32 issue_flags);
int fu_rw_issue(struct fu_req *req, u32 issue_flags);

/* Whether the caller may use this I/O priority: 0, -EINVAL or -EPERM, as ioprio_set(2). */
int fu_ioprio_check(u16 ioprio);

/* fu_op.iocb and fu_op.iocb_done of all of them but READ_MULTISHOT. */
int fu_rw_iocb(struct fu_req *req, struct iocb *iocb);
int fu_rw_iocb_done(struct fu_req *req, long res);

#endif
