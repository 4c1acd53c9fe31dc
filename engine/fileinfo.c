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

/* Relaxed accesses throughout: an entry is a hint. */
static struct fu_file_info table[ENTRIES];

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

/*
 * Where the answer for the request's file is kept: with the registered file, with the
 * request if it has a duplicate of its own, else by the program's number.
 */
static struct fu_file_info *entry_of(struct fu_req *req)
{
	if (req->node)
		return &req->node->info;
	if (req->flags & FU_REQ_OWN_FD)
		return &req->file_info;
	return (u32)req->fd < ENTRIES ? &table[req->fd] : NULL;
}

u8 fu_file_info(struct fu_req *req)
{
	struct fu_file_info *info = entry_of(req);
	u8 flags;

	if (!info)
		return ask(req->fd);
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

bool fu_file_is_reg(struct fu_req *req)
{
	struct fu_file_info *info = entry_of(req);
	struct stat st;

	if (fu_sys(SYS_fstat, req->fd, &st) == 0 &&
	    (S_ISREG(st.st_mode) || S_ISBLK(st.st_mode) || S_ISDIR(st.st_mode)))
		return true;
	if (info)
		fu_store_relaxed(&info->flags, 0);
	return false;
}

void fu_file_learn(struct fu_req *req, u8 flag)
{
	struct fu_file_info *info = entry_of(req);

	if (info)
		__atomic_fetch_or(&info->flags, flag, __ATOMIC_RELAXED);
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
