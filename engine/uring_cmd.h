/*
 * URING_CMD: commands of a file's own. What the file is decides who executes it.
 */
#ifndef FU_URING_CMD_H
#define FU_URING_CMD_H

#include "engine/engine.h"

#define IORING_URING_CMD_MULTISHOT (1U << 1)

/* The SQE's fields, as each kind of file interprets them; fu_cmd(req, struct fu_uring_cmd). */
struct fu_uring_cmd {
	u32 op;
	u32 flags; /* IORING_URING_CMD_* */
	union {
		u64 addr;
		struct {
			u32 level;
			u32 optname;
		};
	};
	u64 addr3; /* optval */
	u32 len;
	u32 file_index; /* optlen */
	u16 ioprio;
};

int fu_uring_cmd_prep(struct fu_req *req, const struct fu_sqe *sqe);
int fu_uring_cmd_issue(struct fu_req *req, u32 issue_flags);

/* net_cmd.c: the commands of sockets. As issue. */
int fu_socket_cmd(struct fu_req *req, u32 issue_flags);

#endif
