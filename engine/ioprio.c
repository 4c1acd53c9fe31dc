/* Which I/O priorities a request may ask for: the rules of ioprio_set(2). */
#include <errno.h>

#include "engine/rw.h"
#include "rings/sys.h"

#define IOPRIO_CLASS_SHIFT 13
#define CAP_SYS_NICE       23
#define CAP_SYS_ADMIN      21

enum { CLASS_NONE, CLASS_RT, CLASS_BE, CLASS_IDLE };

static bool has_capability(void)
{
	struct {
		u32 version;
		s32 pid;
	} head = { 0x20080522, 0 };
	struct {
		u32 effective, permitted, inheritable;
	} data[2];

	if (fu_sys(SYS_capget, &head, data) < 0)
		return false;
	return data[0].effective & (1U << CAP_SYS_ADMIN | 1U << CAP_SYS_NICE);
}

int fu_ioprio_check(u16 ioprio)
{
	u32 level = ioprio & 7;

	switch (ioprio >> IOPRIO_CLASS_SHIFT) {
	case CLASS_RT:
		return has_capability() ? 0 : -EPERM;
	case CLASS_BE:
	case CLASS_IDLE:
		return 0;
	case CLASS_NONE:
		return level ? -EINVAL : 0;
	default:
		return -EINVAL;
	}
}
