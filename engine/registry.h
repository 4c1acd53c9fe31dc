/*
 * The process's rings: which descriptor is which ring, and when a ring ends.
 * Context slots are type-stable: one that is freed is only ever reused as a
 * context, so a thread may look at a slot, take a reference and then find out
 * that it was too late.
 */
#ifndef FU_REGISTRY_H
#define FU_REGISTRY_H

#include "engine/engine.h"

/* In a forked child: keep all rings, forget the parent's requests. */
void fu_registry_adopt(u32 gen);
void fu_registry_fork_prepare(void);
void fu_registry_fork_done(void);

/* Calls fn for each live ring, with a reference held. */
void fu_registry_each(void (*fn)(struct fu_ctx *ctx));
/* Whether `fd` is a ring known under that number, verified: no system call if it is not known. */
bool fu_fd_names_ring(int fd);
/* Whether a live ring's descriptor has this inode number. */
bool fu_ino_is_ring(u64 ino);
/* Adds up what the rings have counted. Takes no lock. */
void fu_registry_tally(struct fu_tally *sum);
/* Number of live rings. */
u32 fu_registry_live(void);

#endif
