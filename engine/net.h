/* The operations on sockets, and what their files share. */
#ifndef FU_NET_H
#define FU_NET_H

#include <sys/socket.h>

#include "engine/engine.h"

/* An integer option at SOL_SOCKET, or -errno (-ENOTSOCK for another file). */
long fu_sock_option(int fd, int option);
/* Whether a short result of a MSG_WAITALL request is a part of it, and the rest is to come. */
bool fu_sock_continues(int fd);
/* Whether the file has one of `events` (poll(2) bits) or an error now, or -errno. */
long fu_sock_ready(int fd, short events);
/* What issue() says of a request that asks to be polled first: -EAGAIN, to wait or as its result.
 */
int fu_sock_poll_first(struct fu_req *req, u32 issue_flags);
/*
 * Whether the request's file is a ring: no socket to the program, whatever the engine has
 * made it of.
 */
bool fu_sock_is_ring(const struct fu_req *req);
/*
 * Copies a socket address of the program's into `name` (room for any). 0, -EINVAL for an
 * impossible length, -EFAULT.
 */
int fu_sock_addr_get(struct sockaddr_storage *name, u64 addr, s32 len);

/* net_sock.c */
int fu_accept_prep(struct fu_req *req, const struct fu_sqe *sqe);
int fu_accept_issue(struct fu_req *req, u32 issue_flags);
int fu_connect_prep(struct fu_req *req, const struct fu_sqe *sqe);
int fu_connect_stable(struct fu_req *req);
int fu_connect_issue(struct fu_req *req, u32 issue_flags);
int fu_shutdown_prep(struct fu_req *req, const struct fu_sqe *sqe);
int fu_shutdown_issue(struct fu_req *req, u32 issue_flags);
int fu_socket_prep(struct fu_req *req, const struct fu_sqe *sqe);
int fu_socket_issue(struct fu_req *req, u32 issue_flags);
int fu_bind_prep(struct fu_req *req, const struct fu_sqe *sqe);
int fu_bind_issue(struct fu_req *req, u32 issue_flags);
int fu_listen_prep(struct fu_req *req, const struct fu_sqe *sqe);
int fu_listen_issue(struct fu_req *req, u32 issue_flags);

/* net_cmd.c: zero-copy receive, for which no machine here has the hardware. */
int fu_recv_zc_prep(struct fu_req *req, const struct fu_sqe *sqe);
int fu_recv_zc_issue(struct fu_req *req, u32 issue_flags);

#endif
