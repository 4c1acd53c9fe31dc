/*
 * A shared mapping without a file is doubled by mremap, and costs no descriptor. Where
 * that call is not the kernel's own (valgrind knows no such use of it), each mapping is one of
 * a memfd instead.
 */
#include "rings/shared.h"

#include <errno.h>
#include <sys/mman.h>

#include "rings/fds.h"
#include "rings/lock.h"
#include "rings/mem.h"
#include "rings/sys.h"

struct backing {
	struct backing *next;
	u8 *at;
	size_t bytes;
	int fd;
};

static struct {
	struct fu_lock lock; /* guards the list */
	struct backing *list;
	u32 how; /* HOW_*; atomic */
} shared;

enum { HOW_UNKNOWN, HOW_REMAP, HOW_FILE };

static void *map(size_t bytes, int fd)
{
	int flags = fd < 0 ? MAP_SHARED | MAP_ANONYMOUS : MAP_SHARED;

	return fu_ptr((u64)fu_sys(SYS_mmap, 0, bytes, PROT_READ | PROT_WRITE, flags | MAP_NORESERVE,
	                          fd, 0));
}

static void *map_file(size_t bytes)
{
	struct backing *b = fu_alloc(sizeof(*b));
	long ret;

	if (!b)
		return fu_ptr((u64)-ENOMEM);
	ret = fu_sys(SYS_memfd_create, "io_uring", MFD_CLOEXEC);
	if (fu_is_err(ret)) {
		fu_free(b, sizeof(*b));
		return fu_ptr((u64)ret);
	}
	b->fd = fu_fd_high((int)ret);
	b->bytes = bytes;
	ret = fu_sys(SYS_ftruncate, b->fd, bytes);
	b->at = fu_is_err(ret) ? fu_ptr((u64)ret) : map(bytes, b->fd);
	if (fu_ptr_is_err(b->at)) {
		void *error = b->at;

		fu_fd_close(b->fd);
		fu_free(b, sizeof(*b));
		return error;
	}
	fu_lock(&shared.lock);
	b->next = shared.list;
	shared.list = b;
	fu_unlock(&shared.lock);
	return b->at;
}

/* Whether mremap doubles the page at `mem`. */
static bool doubles(void *mem)
{
	long alias = fu_sys(SYS_mremap, mem, 0, FU_PAGE, MREMAP_MAYMOVE);

	if (alias == -EINVAL)
		return false;
	if (!fu_is_err(alias))
		fu_sys(SYS_munmap, alias, FU_PAGE);
	return true;
}

void *fu_shared_map(size_t bytes)
{
	u32 how = fu_load_relaxed(&shared.how);
	void *mem;

	if (how == HOW_FILE)
		return map_file(bytes);
	mem = map(bytes, -1);
	if (how == HOW_REMAP || fu_ptr_is_err(mem))
		return mem;
	how = doubles(mem) ? HOW_REMAP : HOW_FILE;
	fu_store_relaxed(&shared.how, how);
	if (how == HOW_REMAP)
		return mem;
	fu_sys(SYS_munmap, mem, bytes);
	return map_file(bytes);
}

/* Takes the backing of what lies at `mem` off the list, or NULL. */
static struct backing *take_backing(const void *mem)
{
	struct backing **link, *b;

	fu_lock(&shared.lock);
	for (link = &shared.list; *link && (*link)->at != mem; link = &(*link)->next) {
	}
	b = *link;
	if (b)
		*link = b->next;
	fu_unlock(&shared.lock);
	return b;
}

void fu_shared_unmap(void *mem, size_t bytes)
{
	struct backing *b = NULL;

	/* Before its place can be another one's. */
	if (fu_shared_by_file())
		b = take_backing(mem);
	fu_sys(SYS_munmap, mem, bytes);
	if (b) {
		fu_fd_close(b->fd);
		fu_free(b, sizeof(*b));
	}
}

static long alias_file(u8 *src, size_t bytes, void *at)
{
	long ret = -EINVAL;

	fu_lock(&shared.lock);
	for (struct backing *b = shared.list; b; b = b->next) {
		if (src >= b->at && src < b->at + b->bytes) {
			ret = fu_sys(SYS_mmap, at, bytes, PROT_READ | PROT_WRITE,
			             MAP_SHARED | MAP_FIXED, b->fd, src - b->at);
			break;
		}
	}
	fu_unlock(&shared.lock);
	return ret;
}

bool fu_shared_by_file(void)
{
	return fu_load_relaxed(&shared.how) == HOW_FILE;
}

void fu_shared_reset(void)
{
	/* The list is whole at any moment. */
	shared.lock.word = 0;
}

long fu_shared_alias(void *src, size_t bytes, void *at)
{
	if (fu_shared_by_file())
		return alias_file(src, bytes, at);
	return fu_sys(SYS_mremap, src, 0, bytes, MREMAP_MAYMOVE | MREMAP_FIXED, at);
}
