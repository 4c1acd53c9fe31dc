/*
 * One byte per descriptor number. An entry is refreshed after a number of uses,
 * since a raw close or dup2 goes unseen, and F_SETFL can change O_DIRECT.
 */
#include "engine/fileinfo.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include "rings/mem.h"
#include "rings/sys.h"
#include "rings/text.h"

#define ENTRIES      65536U
#define REFRESH_USES 512U
#define LEARNED      (FU_FILE_NO_NOWAIT_R | FU_FILE_NO_NOWAIT_W | FU_FILE_ZEROCOPY)

/* A call that waited for nothing takes less than this, in ticks of the processor's clock... */
#define PATIENCE_TICKS 100000U
#define CALL_TICKS     8000U
/* ... and this much for a byte. */
#define BYTE_TICKS 2U

#define TRUST_FIRST 2U
#define TRUST_MOST  64U
#define SKIP_FIRST  8U
#define BACKOFF_MAX 6U

/* Filesystems (statfs f_type) in memory, and on a device of this machine or layered on one. */
static const u32 in_memory[] = { 0x01021994U /* tmpfs */, 0x858458f6U /* ramfs */ };
static const u32 local[] = {
	0xef53U /* ext2 to ext4 */, 0x794c7630U /* overlayfs */, 0x58465342U /* xfs */,
	0x9123683eU /* btrfs */,    0xf2f52010U /* f2fs */,      0x2fc12fc1U /* zfs */,
};

/* Relaxed accesses throughout: an entry is a hint. */
static struct fu_file_info table[ENTRIES];

static bool among(const u32 *types, size_t n, u32 type)
{
	for (size_t i = 0; i < n; i++) {
		if (types[i] == type)
			return true;
	}
	return false;
}

static u32 ask(int fd)
{
	struct stat st;
	struct statfs fs;
	long fl = fu_sys(SYS_fcntl, fd, F_GETFL);
	u32 flags = FU_FILE_KNOWN;

	if (fl < 0 || fu_sys(SYS_fstat, fd, &st) < 0)
		return 0;
	if (S_ISREG(st.st_mode) || S_ISBLK(st.st_mode) || S_ISDIR(st.st_mode))
		flags |= FU_FILE_REG;
	if (fl & (O_SYNC | O_DSYNC))
		flags |= FU_FILE_SYNC;
	if (S_ISREG(st.st_mode) && fu_sys(SYS_fstatfs, fd, &fs) == 0) {
		if (among(in_memory, FU_ARRAY_SIZE(in_memory), (u32)fs.f_type))
			flags |= FU_FILE_MEMORY;
		else if (among(local, FU_ARRAY_SIZE(local), (u32)fs.f_type))
			flags |= FU_FILE_LOCAL;
	}
	if ((flags & FU_FILE_REG) && (fl & O_DIRECT) && !(flags & FU_FILE_MEMORY))
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

u32 fu_file_info(struct fu_req *req)
{
	struct fu_file_info *info = entry_of(req);
	u32 flags, old;

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
	old = flags;
	flags = ask(req->fd);
	/* Most likely the same file as before: what it taught stays. */
	if ((old & ~LEARNED) == flags)
		flags = old;
	else
		fu_memset(info->waits, 0, sizeof(info->waits));
	fu_store_relaxed(&info->uses, 0);
	fu_store_relaxed(&info->flags, (u16)flags);
	return flags;
}

u32 fu_file_trust(struct fu_req *req, bool write)
{
	struct fu_file_info *info = entry_of(req);
	u32 flags = fu_file_info(req);
	u16 skip;

	if (!info || (flags & FU_FILE_DIRECT) || (write && (flags & FU_FILE_SYNC)))
		return 0;
	if (flags & FU_FILE_MEMORY)
		return TRUST_MOST;
	if (!(flags & FU_FILE_LOCAL))
		return 0;
	skip = fu_load_relaxed(&info->waits[write].skip);
	if (skip) {
		fu_store_relaxed(&info->waits[write].skip, (u16)(skip - 1));
		return 0;
	}
	return fu_load_relaxed(&info->waits[write].trust) + TRUST_FIRST;
}

void fu_file_waited(struct fu_req *req, bool write, u64 ticks, u32 nr, u64 bytes)
{
	struct fu_file_info *info = entry_of(req);
	u8 trust, backoff;

	if (!info)
		return;
	backoff = fu_load_relaxed(&info->waits[write].backoff);
	trust = fu_load_relaxed(&info->waits[write].trust);
	if (ticks > PATIENCE_TICKS + (u64)nr * CALL_TICKS + bytes * BYTE_TICKS) {
		if (fu_load_relaxed(&info->waits[write].skip))
			return; /* another of the same lot has said so */
		fu_store_relaxed(&info->waits[write].trust, 0);
		fu_store_relaxed(&info->waits[write].skip, (u16)(SKIP_FIRST << backoff));
		if (backoff < BACKOFF_MAX)
			fu_store_relaxed(&info->waits[write].backoff, (u8)(backoff + 1));
		return;
	}
	if (trust < TRUST_MOST)
		fu_store_relaxed(&info->waits[write].trust, (u8)(trust + 1));
	if (backoff)
		fu_store_relaxed(&info->waits[write].backoff, 0);
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

static bool is_same(const char *a, const char *b)
{
	while (*a && *a == *b) {
		a++;
		b++;
	}
	return *a == *b;
}

long fu_fd_called(int fd, const char *const *names, u32 n)
{
	static const char before[] = "anon_inode:";
	static const char directory[] = "/proc/self/fd/";
	char path[sizeof(directory) + FU_DECIMAL_BYTES], target[64];
	long len, at;

	fu_memcpy(path, directory, sizeof(directory) - 1);
	fu_decimal(path + sizeof(directory) - 1, (u32)fd);
	len = fu_sys(SYS_readlink, path, target, sizeof(target) - 1);
	if (len < (long)sizeof(before))
		return len < 0 ? len : 0;
	target[len] = 0;
	for (at = 0; before[at]; at++) {
		if (target[at] != before[at])
			return 0;
	}
	for (u32 i = 0; i < n; i++) {
		if (is_same(target + at, names[i]))
			return i + 1;
	}
	return 0;
}

void fu_file_learn(struct fu_req *req, u32 flag)
{
	struct fu_file_info *info = entry_of(req);

	if (info)
		__atomic_fetch_or(&info->flags, (u16)flag, __ATOMIC_RELAXED);
}

void fu_file_inherit(struct fu_req *req, int fd)
{
	u16 flags = (u32)fd < ENTRIES ? fu_load_relaxed(&table[fd].flags) : 0;

	/* How often it has been waited for is not known here. */
	if (flags & FU_FILE_REG)
		flags &= (u16) ~(FU_FILE_NO_NOWAIT_R | FU_FILE_NO_NOWAIT_W);
	req->file_info.flags = flags;
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
