/* RECV and RECVMSG. */
#ifndef FU_NET_RECV_H
#define FU_NET_RECV_H

#include "engine/engine.h"

int fu_recv_prep(struct fu_req *req, const struct fu_sqe *sqe);
int fu_recv_issue(struct fu_req *req, u32 issue_flags);
int fu_recvmsg_stable(struct fu_req *req);
/* A request that ends early tells what it has received so far. */
void fu_recv_fail(struct fu_req *req);

#endif
