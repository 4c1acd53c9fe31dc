/*
 * Short names for fixed-width integers, and the few helpers that every file
 * of the project uses. Nothing here has state.
 */
#ifndef FU_TYPES_H
#define FU_TYPES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;
typedef int32_t s32;
typedef int64_t s64;

#define FU_ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))
#define FU_CACHELINE     64
#define FU_PAGE          4096UL

#define fu_always_inline inline __attribute__((always_inline))
#define fu_likely(x)     __builtin_expect(!!(x), 1)
#define fu_unlikely(x)   __builtin_expect(!!(x), 0)

/* The object of type `type` whose member `member` is at `ptr`. */
#define fu_container_of(ptr, type, member) ((type *)(void *)((char *)(ptr)-offsetof(type, member)))

#define fu_load_relaxed(p)     __atomic_load_n((p), __ATOMIC_RELAXED)
#define fu_load_acquire(p)     __atomic_load_n((p), __ATOMIC_ACQUIRE)
#define fu_store_relaxed(p, v) __atomic_store_n((p), (v), __ATOMIC_RELAXED)
#define fu_store_release(p, v) __atomic_store_n((p), (v), __ATOMIC_RELEASE)

#if defined(__SANITIZE_THREAD__)
#define FU_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define FU_TSAN 1
#endif
#endif

/* A sequentially consistent fence. ThreadSanitizer does not know fences: an update of one word
 * serves it. */
static inline void fu_fence(void)
{
#ifdef FU_TSAN
	static u32 word;

	(void)__atomic_fetch_add(&word, 1, __ATOMIC_SEQ_CST);
#else
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
#endif
}

/*
 * The same where a locked instruction lies between the stores before it and here: on x86 that
 * is a full fence already.
 */
static inline void fu_fence_after_rmw(void)
{
#ifdef FU_TSAN
	fu_fence();
#else
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
#endif
}

static inline u64 fu_align_up(u64 v, u64 to)
{
	return (v + to - 1) & ~(to - 1);
}

static inline void *fu_ptr(u64 user)
{
	return (void *)(uintptr_t)user;
}

#endif
