/*
 * Reading and writing memory that the program names and that may not be there.
 * Nothing here can fault: the kernel does the access and reports -EFAULT.
 */
#ifndef FU_USER_H
#define FU_USER_H

#include "rings/types.h"

/* Above the last address that a program can have. */
#define FU_USER_END ((1ULL << 47) - FU_PAGE)

/* Copies `n` bytes; 0 or -EFAULT, then an unknown part has been copied. */
int fu_copy_from_user(void *dst, const void *user_src, size_t n);
int fu_copy_to_user(void *user_dst, const void *src, size_t n);

/*
 * Whether the `n` bytes, eight or more, can be read now: for looking at what the program is about
 * to pass to a call of its own. Cheaper than copying.
 */
bool fu_user_readable(const void *user, size_t n);

/* A NUL-terminated string of at most `size` bytes with its NUL: its length, -EFAULT or
 * -ENAMETOOLONG. */
long fu_strncpy_from_user(char *dst, const char *user_src, size_t size);

/*
 * Whether the program could have memory at [addr, addr + len) at all. The kernel asks that first
 * of any address it is given, and more only when it uses it.
 */
static inline bool fu_user_range_ok(u64 addr, u64 len)
{
	u64 end;

	return !__builtin_add_overflow(addr, len, &end) && end <= FU_USER_END;
}

struct iovec;
/* The same for each of `nr` segments. */
bool fu_user_segments_ok(const struct iovec *iov, u32 nr);

/* In a forked child: forgets what it shares with its parent. */
void fu_user_reset(void);

#endif
