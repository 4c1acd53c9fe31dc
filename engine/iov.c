/* What reads, writes and messages do with their segments; see iov.h. */
#include "engine/iov.h"

#include <errno.h>

#include "rings/user.h"

int fu_iov_copy(struct iovec *iov, const void *user, u32 nr, u64 *bytes)
{
	*bytes = 0;
	if (fu_copy_from_user(iov, user, nr * sizeof(*iov)))
		return -EFAULT;
	for (u32 i = 0; i < nr; i++) {
		if ((s64)iov[i].iov_len < 0)
			return -EINVAL;
		*bytes += iov[i].iov_len;
	}
	return fu_user_segments_ok(iov, nr) ? 0 : -EFAULT;
}

void fu_iov_advance(struct iovec **iov, u32 *nr, u64 n)
{
	struct iovec *at = *iov;

	while (*nr && n >= at->iov_len) {
		n -= at->iov_len;
		at++;
		--*nr;
	}
	if (n) {
		at->iov_base = (char *)at->iov_base + n;
		at->iov_len -= n;
	}
	*iov = at;
}
