/* Messages that carry descriptors, for syscall(). */
#ifndef FU_PRELOAD_MESSAGES_H
#define FU_PRELOAD_MESSAGES_H

#include "rings/types.h"

struct mmsghdr;

/* How many of the `n` messages may be sent before one that carries a ring. */
u32 fu_messages_allowed(int fd, const struct mmsghdr *msgs, u32 n);

#endif
