/*
 * A static program with io_uring call sites of its own, into which nothing is preloaded:
 *
 *     home_alone works|denied [EUID]     what io_uring_setup is expected to do, and as whom
 *
 * The calls that the shim traps elsewhere must be the kernel's here.
 */
#include "tests/home/home.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/syscall.h>

int main(int argc, char **argv)
{
	struct io_uring_params p = { .flags = 0 };
	uint64_t mask = 1ULL << (SIGUSR1 - 1), old;
	struct pollfd pfd = { .fd = -1 };
	int fd = open("/proc/self/exe", O_RDONLY);
	int ring, copy;
	long mapped;

	__asm__ volatile("movl $425, %%eax\n\tsyscall"
	                 : "=&a"(ring)
	                 : "D"(4L), "S"(&p)
	                 : "rcx", "r11", "memory");
	if (argc < 2 || argc > 3 || fd < 0)
		return 1;
	if (argc == 3 && geteuid() != (uid_t)atoi(argv[2]))
		return 5;
	if (!strcmp(argv[1], "works") ? ring < 0 : ring != -EPERM && ring != -ENOSYS)
		return 2;
	mapped = RAW(SYS_mmap, NULL, 4096, PROT_READ, MAP_SHARED, fd, 0);
	copy = (int)RAW(SYS_dup, fd);
	if (mapped < 0 || copy < 0 || RAW(SYS_close, copy) || RAW(SYS_poll, &pfd, 1, 0))
		return 3;
	if (RAW(SYS_rt_sigprocmask, SIG_BLOCK, &mask, &old, 8) || RAW(SYS_close, fd))
		return 4;
	return 0;
}
