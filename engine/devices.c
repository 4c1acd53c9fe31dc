/*
 * A small table of devices. A word says all there is about one, so that it is read and written
 * without a lock; two places for each number keep two devices in use from displacing each other.
 */
#include "engine/devices.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include "engine/fileinfo.h"
#include "rings/sys.h"

#define PLACES 64U

/* A word: the device's number, whether it is local, and when that was learnt. Never 0. */
#define MINOR_BITS  20U
#define DEVICE_BITS 32U
#define LOCAL_BIT   (1ULL << DEVICE_BITS)
#define STAMP_SHIFT 33U
/* The processor's clock moves on by one such step in 50 to 300 ms. */
#define STEP_SHIFT 28U
#define STEPS_MAX  8U

/* Relaxed: an older word than the last is as good as one that was not replaced. */
static u64 table[PLACES];

/* f_type of statfs. They keep the inodes in use in memory, and ask nobody about them. */
static const u32 local[] = {
	0xef53U /* ext2 to ext4 */, 0x58465342U /* xfs */,       0x9123683eU /* btrfs */,
	0xf2f52010U /* f2fs */,     0xca451a4eU /* bcachefs */,  0x01021994U /* tmpfs, devtmpfs */,
	0x858458f6U /* ramfs */,    0x958458f6U /* hugetlbfs */, 0x794c7630U /* overlayfs */,
	0x73717368U /* squashfs */, 0xe0f5e1e2U /* erofs */,     0x9660U /* iso9660 */,
	0x15013346U /* udf */,      0x4d44U /* vfat */,          0x2011bab0U /* exfat */,
	0x50495045U /* pipes */,    0x534f434bU /* sockets */,   0x09041934U /* eventfd, ... */,
};

static u64 stamp_now(void)
{
	return (fu_ticks() >> STEP_SHIFT) << STAMP_SHIFT >> STAMP_SHIFT;
}

static u32 device_of(u32 major, u32 minor)
{
	return major << MINOR_BITS | minor;
}

static u64 *place_of(u32 device)
{
	return &table[device * 0x9e3779b1U / (UINT32_MAX / PLACES + 1) & ~1U];
}

static bool is_fresh(u64 word)
{
	u64 age = (stamp_now() - (word >> STAMP_SHIFT)) << STAMP_SHIFT >> STAMP_SHIFT;

	return word && age <= STEPS_MAX;
}

enum fu_device fu_device_kind(u32 major, u32 minor)
{
	u32 device = device_of(major, minor);
	const u64 *place = place_of(device);

	for (int i = 0; i < 2; i++) {
		u64 word = fu_load_relaxed(&place[i]);

		if ((u32)word == device && is_fresh(word))
			return word & LOCAL_BIT ? FU_DEVICE_LOCAL : FU_DEVICE_FOREIGN;
	}
	return FU_DEVICE_UNKNOWN;
}

static bool ask(int fd, u32 *device)
{
	struct statx st;

	if (fu_sys(SYS_statx, fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, 0, &st) < 0)
		return false;
	*device = device_of(st.stx_dev_major, st.stx_dev_minor);
	return true;
}

void fu_device_learn(int fd)
{
	struct statfs fs;
	u64 *place, word;
	u32 device, after;
	bool second;

	/* The program may put another file there meanwhile. */
	if (!ask(fd, &device) || fu_sys(SYS_fstatfs, fd, &fs) < 0 || !ask(fd, &after) ||
	    after != device)
		return;
	word = device | stamp_now() << STAMP_SHIFT;
	for (size_t i = 0; i < FU_ARRAY_SIZE(local); i++) {
		if ((u32)fs.f_type == local[i])
			word |= LOCAL_BIT;
	}
	place = place_of(device);
	second = (u32)fu_load_relaxed(&place[0]) != device && is_fresh(fu_load_relaxed(&place[0]));
	fu_store_relaxed(&place[second], word);
}
