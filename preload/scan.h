/*
 * Finding the objects of the process that issue io_uring calls with `syscall`
 * instructions of their own.
 */
#ifndef FU_SCAN_H
#define FU_SCAN_H

#include "seccomp/filter.h"

/*
 * Looks at every object that is loaded and was not looked at before; writes the
 * places their calls come from to `out`. Returns how many, 0 if none of the new
 * objects has a call site. Callers hold the scan lock of init.c.
 */
size_t fu_scan(struct fu_range *out, size_t max);

#endif
