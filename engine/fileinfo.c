/*
 * One byte per descriptor number. An entry is refreshed after a number of uses,
 * since a raw close or dup2 goes unseen, and F_SETFL can change O_DIRECT.
 */
#include "engine/fileinfo.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "rings/sys.h"

#define ENTRIES      65536U
#define REFRESH_USES 512U

struct info {
	u8 flags;
	u8 pad;
	u16 uses;
};

/* Relaxed accesses throughout: an entry is a hint. */
static struct info table[ENTRIES];

static u8 ask(int fd)
{
	struct stat st;
	long fl = fu_sys(SYS_fcntl, fd, F_GETFL);
	u8 flags = FU_FILE_KNOWN;

	if (fl < 0 || fu_sys(SYS_fstat, fd, &st) < 0)
		return 0;
	if (S_ISREG(st.st_mode) || S_ISBLK(st.st_mode) || S_ISDIR(st.st_mode))
		flags |= FU_FILE_REG;
	if ((flags & FU_FILE_REG) && (fl & O_DIRECT))
		flags |= FU_FILE_DIRECT;
	return flags;
}

u8 fu_file_info(struct fu_req *req)
{
	struct info *info;
	u8 flags;

	if ((u32)req->fd >= ENTRIES)
		return ask(req->fd);
	info = &table[req->fd];
	flags = fu_load_relaxed(&info->flags);
	if (fu_likely(flags)) {
		u16 uses = fu_load_relaxed(&info->uses);

		if (fu_likely(uses < REFRESH_USES)) {
			fu_store_relaxed(&info->uses, (u16)(uses + 1));
			return flags;
		}
	}
	flags = ask(req->fd);
	fu_store_relaxed(&info->uses, 0);
	fu_store_relaxed(&info->flags, flags);
	return flags;
}

void fu_file_learn(struct fu_req *req, u8 flag)
{
	if ((u32)req->fd < ENTRIES)
		__atomic_fetch_or(&table[req->fd].flags, flag, __ATOMIC_RELAXED);
}

void fu_file_forget(int fd)
{
	if ((u32)fd < ENTRIES && fu_load_relaxed(&table[fd].flags))
		fu_store_relaxed(&table[fd].flags, 0);
}

void fu_file_forget_range(u32 first, u32 last)
{
	for (u32 fd = first; fd <= last && fd < ENTRIES; fd++)
		fu_file_forget((int)fd);
}
