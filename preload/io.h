/* After the program's own writes. */
#ifndef FU_PRELOAD_IO_H
#define FU_PRELOAD_IO_H

#include <sys/types.h>

/* Has polls see what a write that returned `ret` has done. Returns it; keeps errno. */
ssize_t fu_io_wrote(ssize_t ret);

#endif
