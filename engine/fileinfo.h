/*
 * What is known about an open file without asking the kernel each time. The
 * answers are hints: they decide how a request is tried first, never what it
 * returns, so one that has become stale costs time and nothing else.
 */
#ifndef FU_FILEINFO_H
#define FU_FILEINFO_H

#include "engine/engine.h"

#define FU_FILE_KNOWN       1U
#define FU_FILE_REG         2U /* regular file or block device: cannot be polled, ends by itself */
#define FU_FILE_DIRECT      4U /* O_DIRECT: even a non-blocking attempt waits for the device */
#define FU_FILE_NO_NOWAIT_R 8U /* RWF_NOWAIT has been refused for reads */
#define FU_FILE_NO_NOWAIT_W 16U
#define FU_FILE_ZEROCOPY    32U /* a socket of a protocol that has MSG_ZEROCOPY */

/* The flags of the request's file (req->fd, assigned). */
u8 fu_file_info(struct fu_req *req);
/*
 * Asks the kernel whether the file really is a regular one or a block device, and forgets the
 * hint if not: before a request takes a way on which it would wait in a blocking call.
 */
bool fu_file_is_reg(struct fu_req *req);
/* Adds what an attempt has taught. */
void fu_file_learn(struct fu_req *req, u8 flag);
/* `fd` has been closed or replaced. */
void fu_file_forget(int fd);
void fu_file_forget_range(u32 first, u32 last);

#endif
