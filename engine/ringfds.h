/* Ring descriptors registered by a thread (IORING_REGISTER_RING_FDS). */
#ifndef FU_RINGFDS_H
#define FU_RINGFDS_H

#include "engine/engine.h"

/* The ring registered by this thread as `index`, with a reference; NULL and *err as the kernel's.
 */
struct fu_ctx *fu_ringfd_registered(u32 index, int *err);

#endif
