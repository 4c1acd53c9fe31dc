/*
 * Whether the kernel could pin a range of the program's memory for writing, as it
 * does for registered buffers and regions; where it could not, neither do we take it.
 */
#include "engine/usermem.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <sys/mman.h>
#include <sys/statfs.h>

#include "rings/sys.h"

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

/* Whether this kernel can populate pages for writing (Linux 5.14), tried on a page of ours. */
static bool can_populate(void)
{
	static u8 page[2 * FU_PAGE];
	u64 inside = fu_align_up((u64)(uintptr_t)page, FU_PAGE);

	return fu_sys(SYS_madvise, inside, FU_PAGE, MADV_POPULATE_WRITE) == 0;
}

/* Populates the pages for writing: 0 or -EFAULT. */
static int populate(u64 start, u64 bytes)
{
	u8 resident[FU_PAGE / 64];
	long ret = fu_sys(SYS_madvise, start, bytes, MADV_POPULATE_WRITE);

	if (ret == 0)
		return 0;
	if (ret != -EINVAL || can_populate())
		return -EFAULT;
	/* An older kernel tells only whether the range is mapped. */
	for (u64 at = start; at < start + bytes; at += sizeof(resident) * FU_PAGE) {
		u64 left = start + bytes - at;

		if (left > sizeof(resident) * FU_PAGE)
			left = sizeof(resident) * FU_PAGE;
		if (fu_sys(SYS_mincore, at, left, resident) == -ENOMEM)
			return -EFAULT;
	}
	return 0;
}

/* ---- shared mappings of files ---- */

/* A second mapping of the page can be had only if it is shared. */
static bool is_shared(u64 page)
{
	long alias = fu_sys(SYS_mremap, page, 0, FU_PAGE, MREMAP_MAYMOVE);

	if (fu_is_err(alias))
		return false;
	fu_sys(SYS_munmap, alias, FU_PAGE);
	return true;
}

/* A line of /proc/self/maps, as far as it matters. */
struct map_line {
	u64 start, end;
	u32 dev_major;
	char path[256];
};

static const char *parse_hex(const char *p, u64 *value)
{
	*value = 0;
	for (;; p++) {
		if (*p >= '0' && *p <= '9')
			*value = *value << 4 | (u64)(*p - '0');
		else if (*p >= 'a' && *p <= 'f')
			*value = *value << 4 | (u64)(*p - 'a' + 10);
		else
			return p;
	}
}

static const char *skip_field(const char *p)
{
	while (*p && *p != ' ')
		p++;
	while (*p == ' ')
		p++;
	return p;
}

static void parse_line(const char *line, struct map_line *map)
{
	u64 major;
	size_t n = 0;

	line = parse_hex(line, &map->start);
	if (*line == '-')
		line = parse_hex(line + 1, &map->end);
	line = skip_field(skip_field(skip_field(line)));
	parse_hex(line, &major);
	map->dev_major = (u32)major;
	line = skip_field(skip_field(line));
	while (line[n] && n < sizeof(map->path) - 1) {
		map->path[n] = line[n];
		n++;
	}
	map->path[n] = 0;
}

/* Finds the mapping of `addr`. */
static bool find_map(u64 addr, struct map_line *map)
{
	long fd = fu_sys(SYS_openat, AT_FDCWD, "/proc/self/maps", O_RDONLY | O_CLOEXEC, 0);
	char buf[1024], line[512];
	size_t used = 0;
	bool found = false;
	long n;

	if (fd < 0)
		return false;
	while (!found && (n = fu_sys(SYS_read, fd, buf, sizeof(buf))) > 0) {
		for (long i = 0; i < n && !found; i++) {
			if (buf[i] != '\n') {
				if (used < sizeof(line) - 1)
					line[used++] = buf[i];
				continue;
			}
			line[used] = 0;
			used = 0;
			parse_line(line, map);
			found = addr >= map->start && addr < map->end;
		}
	}
	fu_sys(SYS_close, fd);
	return found;
}

/*
 * Pages of a file that a file system writes back cannot be pinned: it would not know
 * when they change. Those that live in memory can.
 */
static bool is_written_back(u64 page)
{
	struct map_line map;
	struct statfs fs;

	if (!is_shared(page) || !find_map(page, &map) || map.path[0] != '/')
		return false;
	if (map.dev_major)
		return true;
	if (fu_sys(SYS_statfs, map.path, &fs) < 0)
		return false;
	return fs.f_type != TMPFS_MAGIC && fs.f_type != HUGETLBFS_MAGIC && fs.f_type != RAMFS_MAGIC;
}

int fu_check_pinnable(u64 addr, u64 len)
{
	u64 start = addr & ~(FU_PAGE - 1);
	int ret = populate(start, fu_align_up(addr + len, FU_PAGE) - start);

	return ret ? ret : is_written_back(start) ? -EFAULT : 0;
}
