/*
 * jail_check 4.9|4.14|4.19|5.0: run in the jail, finds that it looks like this kernel.
 */
#include "jail/oldkernel.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

static int failed;

/* `ret` and errno are those of a call that kernel `version` has if it is `since` or later. */
static void expect(const char *what, long ret, unsigned version, unsigned since, int error)
{
	bool refused = ret < 0 && errno == error;

	if (refused == (version < since))
		return;
	printf("%s: %s\n", what, refused ? "refused, but this kernel has it" : "not refused");
	failed = 1;
}

int main(int argc, char **argv)
{
	unsigned version = argc == 2 ? old_kernel_version(argv[1]) : 0;
	char byte;
	struct iovec iov = { .iov_base = &byte, .iov_len = 1 };
	int one = 1, sock = socket(AF_INET, SOCK_STREAM, 0), zero = -1;
	FILE *file = tmpfile();

	if (!version || sock < 0 || !file)
		return 125;
	zero = fileno(file);
	expect("statx", syscall(SYS_statx, -1, NULL, 0, 0, NULL), version, 411, ENOSYS);
	expect("io_pgetevents", syscall(333, 0, 0, 0, NULL, NULL, NULL), version, 418, ENOSYS);
	for (long nr = 424; nr < 470; nr++)
		expect("a call of 5.1 or later", syscall(nr, -1, -1, -1, -1, -1, -1), version, 501,
		       ENOSYS);
	expect("RWF_NOWAIT", preadv2(zero, &iov, 1, 0, 0x8), version, 414, EOPNOTSUPP);
	expect("RWF_NOWAIT for writes", pwritev2(zero, &iov, 1, 0, 0x8), version, 414, EOPNOTSUPP);
	if (version >= 414)
		expect("RWF_NOWAIT for buffered writes", pwritev2(zero, &iov, 1, 0, 0x8), version,
		       505, EINVAL);
	expect("RWF_APPEND", pwritev2(zero, &iov, 1, 0, 0x10), version, 416, EOPNOTSUPP);
	expect("RWF_DSYNC", pwritev2(zero, &iov, 1, 0, 0x2), version, 407, EOPNOTSUPP);
	expect("SO_ZEROCOPY", setsockopt(sock, SOL_SOCKET, 60, &one, sizeof(one)), version, 414,
	       ENOPROTOOPT);
	expect("MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED", syscall(SYS_membarrier, 1 << 4, 0),
	       version, 414, EINVAL);
	return failed;
}
