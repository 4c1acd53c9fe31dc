/*
 * Memory without malloc. Pages come straight from the kernel; small objects
 * from size classes that are carved out of pages and never given back to the
 * kernel, only reused, so the footprint is bounded by the most that was in use
 * at once. Safe in a signal handler and in a forked child.
 */
#ifndef FU_MEM_H
#define FU_MEM_H

#include "rings/types.h"

/* Whole pages, zeroed. NULL when the kernel has none. `bytes` is rounded up to pages. */
void *fu_pages_alloc(size_t bytes);
void fu_pages_free(void *pages, size_t bytes);

/*
 * An object of `bytes`, uninitialised, 16-byte aligned; NULL without memory.
 * The owner passes the same size to fu_free. Takes the allocator's lock.
 */
void *fu_alloc(size_t bytes);
void *fu_zalloc(size_t bytes);
void fu_free(void *object, size_t bytes);

/* Around fork: hold the lock across it, so that the child's copy is whole. */
void fu_mem_fork_prepare(void);
void fu_mem_fork_done(void);
/* In a child made without fork handlers: forget the free lists, which may be torn. */
void fu_mem_reset(void);

/*
 * Plain memory functions of our own: no ifunc, no vector registers, and no
 * libc symbol that a sanitizer or a profiler in the program has interposed.
 */
void fu_memset(void *dst, int c, size_t n);

/* Clears `bytes`, a small constant number of words. By plain stores: a `rep stos` takes longer to
 * start than these do to finish. */
static fu_always_inline void fu_clear_words(void *dst, size_t bytes)
{
	u64 *word = dst;

#pragma GCC unroll 16
	for (size_t i = 0; i < bytes / sizeof(u64); i++) {
		word[i] = 0;
		/* Keeps the compiler from making it one memset again. */
		__asm__ volatile("");
	}
}
void fu_memcpy(void *dst, const void *src, size_t n);

#endif
