/* MSG_RING: CQEs and files for another ring. */
#ifndef FU_MSG_RING_H
#define FU_MSG_RING_H

#include "engine/engine.h"

int fu_msg_ring_prep(struct fu_req *req, const struct fu_sqe *sqe);
int fu_msg_ring_issue(struct fu_req *req, u32 issue_flags);
void fu_msg_ring_cleanup(struct fu_req *req);

/* IORING_REGISTER_SEND_MSG_RING, which needs no ring of one's own: `sqe` is the program's. */
long fu_msg_ring_send(const void *sqe, u32 nr);

#endif
