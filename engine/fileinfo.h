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
#define FU_FILE_ZEROCOPY    32U  /* a socket of a protocol that has MSG_ZEROCOPY */
#define FU_FILE_MEMORY      64U  /* its filesystem is in memory: nothing to wait for */
#define FU_FILE_LOCAL       128U /* a filesystem on a device of this machine: waits end soon */
#define FU_FILE_SYNC        256U /* O_SYNC or O_DSYNC: every write waits */

/* The flags of the request's file (req->fd, assigned). */
u32 fu_file_info(struct fu_req *req);
/*
 * Asks the kernel whether the file really is a regular one or a block device, and forgets the
 * hint if not: before a request takes a way on which it would wait in a blocking call.
 */
bool fu_file_is_reg(struct fu_req *req);
/*
 * Which of `n` names the kernel has for the descriptor's file, one without a name of its own
 * ("[eventfd]"): its index + 1, or 0. -errno where there is no telling, without /proc.
 */
long fu_fd_called(int fd, const char *const *names, u32 n);
/* Adds what an attempt has taught. */
void fu_file_learn(struct fu_req *req, u32 flag);
/*
 * How many calls in a row that cannot be asked not to wait may be made for this file on the
 * submitter's thread. 0: none now, a worker has to. A file earns trust by calls that did not
 * wait (fu_file_waited) and loses it at once by one that did.
 */
u32 fu_file_trust(struct fu_req *req, bool write);
/* `nr` such calls for `bytes` in all have taken `ticks`; told once for each request of them. */
void fu_file_waited(struct fu_req *req, bool write, u64 ticks, u32 nr, u64 bytes);
/* The clock for that: to tell a wait from none a coarse one will do, if it costs next to nothing.
 */
static inline u64 fu_ticks(void)
{
	return __builtin_ia32_rdtsc();
}
/* The request has a duplicate of `fd` now, and with that what is known of it. */
void fu_file_inherit(struct fu_req *req, int fd);
/* `fd` has been closed or replaced. */
void fu_file_forget(int fd);
void fu_file_forget_range(u32 first, u32 last);

#endif
