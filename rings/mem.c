/* The allocator; mem.h says what it promises. */
#include "rings/mem.h"

#include <sys/mman.h>

#include "rings/lock.h"
#include "rings/sys.h"

/* AddressSanitizer knows nothing of this allocator: it is told what is not in use. */
#ifdef __has_feature
#if __has_feature(address_sanitizer)
#define MEM_POISON
#endif
#endif
#ifdef __SANITIZE_ADDRESS__
#define MEM_POISON
#endif
#ifdef MEM_POISON
#include <sanitizer/asan_interface.h>
#define poison(p, n)   __asan_poison_memory_region(p, n)
#define unpoison(p, n) __asan_unpoison_memory_region(p, n)
#else
#define poison(p, n)   ((void)(p), (void)(n))
#define unpoison(p, n) ((void)(p), (void)(n))
#endif

#define MIN_SHIFT   6  /* 64 bytes */
#define MAX_SHIFT   15 /* 32 KiB; above that, pages */
#define CHUNK_BYTES (64UL * 1024)

struct free_object {
	struct free_object *next;
};

/* Guarded by `lock`: all of it. */
static struct {
	struct fu_lock lock;
	struct free_object *free[MAX_SHIFT + 1];
	char *chunk;       /* the rest of the newest chunk */
	size_t chunk_left; /* bytes */
} heap;

void *fu_pages_alloc(size_t bytes)
{
	void *p = fu_ptr((u64)fu_sys(SYS_mmap, 0, fu_align_up(bytes, FU_PAGE),
	                             PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));

	return fu_ptr_is_err(p) ? NULL : p;
}

void fu_pages_free(void *pages, size_t bytes)
{
	if (pages)
		fu_sys(SYS_munmap, pages, fu_align_up(bytes, FU_PAGE));
}

static unsigned class_of(size_t bytes)
{
	unsigned shift = MIN_SHIFT;

	while (((size_t)1 << shift) < bytes)
		shift++;
	return shift;
}

/* Puts what is left of a chunk on the free lists, largest fitting class first. */
static void retire_chunk(void)
{
	for (unsigned shift = MAX_SHIFT; shift >= MIN_SHIFT; shift--) {
		while (heap.chunk_left >= (size_t)1 << shift) {
			struct free_object *obj = (void *)heap.chunk;

			unpoison(obj, sizeof(*obj));
			obj->next = heap.free[shift];
			poison(obj, sizeof(*obj));
			heap.free[shift] = obj;
			heap.chunk += (size_t)1 << shift;
			heap.chunk_left -= (size_t)1 << shift;
		}
	}
}

void *fu_alloc(size_t bytes)
{
	unsigned shift;
	struct free_object *obj;

	if (bytes > (size_t)1 << MAX_SHIFT)
		return fu_pages_alloc(bytes);
	shift = class_of(bytes);
	fu_lock(&heap.lock);
	obj = heap.free[shift];
	if (obj) {
		unpoison(obj, sizeof(*obj));
		heap.free[shift] = obj->next;
	} else {
		if (heap.chunk_left < (size_t)1 << shift) {
			char *chunk = fu_pages_alloc(CHUNK_BYTES);

			if (chunk) {
				retire_chunk();
				heap.chunk = chunk;
				heap.chunk_left = CHUNK_BYTES;
				poison(chunk, CHUNK_BYTES);
			}
		}
		if (heap.chunk_left >= (size_t)1 << shift) {
			obj = (void *)heap.chunk;
			heap.chunk += (size_t)1 << shift;
			heap.chunk_left -= (size_t)1 << shift;
		}
	}
	fu_unlock(&heap.lock);
	if (obj)
		unpoison(obj, bytes);
	return obj;
}

void *fu_zalloc(size_t bytes)
{
	void *p = fu_alloc(bytes);

	if (p)
		fu_memset(p, 0, bytes);
	return p;
}

void fu_free(void *object, size_t bytes)
{
	struct free_object *obj = object;
	unsigned shift;

	if (!object)
		return;
	if (bytes > (size_t)1 << MAX_SHIFT) {
		fu_pages_free(object, bytes);
		return;
	}
	shift = class_of(bytes);
	fu_lock(&heap.lock);
	obj->next = heap.free[shift];
	heap.free[shift] = obj;
	poison(obj, (size_t)1 << shift);
	fu_unlock(&heap.lock);
}

void fu_mem_fork_prepare(void)
{
	fu_lock(&heap.lock);
}

void fu_mem_fork_done(void)
{
	fu_unlock(&heap.lock);
}

void fu_mem_reset(void)
{
	fu_memset(&heap, 0, sizeof(heap));
}

void fu_memset(void *dst, int c, size_t n)
{
	__asm__ volatile("rep stosb" : "+D"(dst), "+c"(n) : "a"(c) : "memory");
}

void fu_memcpy(void *dst, const void *src, size_t n)
{
	__asm__ volatile("rep movsb" : "+D"(dst), "+S"(src), "+c"(n) : : "memory");
}
