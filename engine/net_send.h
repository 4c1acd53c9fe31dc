/* SEND, SENDMSG, SEND_ZC, SENDMSG_ZC. */
#ifndef FU_NET_SEND_H
#define FU_NET_SEND_H

#include "engine/engine.h"

int fu_send_prep(struct fu_req *req, const struct fu_sqe *sqe);
int fu_sendmsg_prep(struct fu_req *req, const struct fu_sqe *sqe);
int fu_send_zc_prep(struct fu_req *req, const struct fu_sqe *sqe);
int fu_sendmsg_zc_prep(struct fu_req *req, const struct fu_sqe *sqe);
int fu_send_stable(struct fu_req *req);
int fu_send_issue(struct fu_req *req, u32 issue_flags);
/* A request that ends early tells what it has sent so far. */
void fu_send_fail(struct fu_req *req);
/* Posts the notification. */
void fu_send_zc_cleanup(struct fu_req *req);

#endif
