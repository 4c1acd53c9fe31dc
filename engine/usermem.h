/* Checks of the program's memory beyond a copy. */
#ifndef FU_USERMEM_H
#define FU_USERMEM_H

#include "rings/types.h"

/* 0 if all of [addr, addr + len) is there, writable, and not a mapped file; else -EFAULT. */
int fu_check_pinnable(u64 addr, u64 len);

#endif
