/*
 * A program that the dynamic linker starts, with what is preloaded, but that needs no library: it
 * has a runtime of its own and sets its thread pointer itself, as a Go program without cgo does
 * that is position-independent. Nobody may take what it points at for libc's. It is to run as it
 * would without the shim.
 */
#include <asm/prctl.h>
#include <linux/io_uring.h>
#include <sys/syscall.h>

enum { BYTES = 64 << 10 };

/* Thread-local variables would lie below the middle. */
static unsigned char area[BYTES];

static long call(long nr, long a, long b, long c, long d)
{
	register long r10 __asm__("r10") = d;
	register long r8 __asm__("r8") = 0;
	long ret;

	__asm__ volatile("syscall"
	                 : "=a"(ret)
	                 : "a"(nr), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8)
	                 : "rcx", "r11", "memory");
	return ret;
}

/* 0, or what was wrong. */
static int run(void)
{
	struct io_uring_params p = { .flags = 0 };
	long fd;

	for (int i = 0; i < BYTES; i++)
		area[i] = 0xa5;
	if (call(SYS_arch_prctl, ARCH_SET_FS, (long)(area + BYTES / 2), 0, 0) != 0)
		return 1;
	fd = call(__NR_io_uring_setup, 4, (long)&p, 0, 0);
	if (fd >= 0) {
		if (call(__NR_io_uring_enter, fd, 0, 0, IORING_ENTER_GETEVENTS) != 0)
			return 2;
		if (call(SYS_close, fd, 0, 0, 0) != 0)
			return 3;
	} else if (fd != -1 && fd != -38) {
		/* Denied: EPERM or ENOSYS. */
		return 4;
	}
	for (int i = 0; i < BYTES; i++)
		if (area[i] != 0xa5)
			return 5;
	return 0;
}

__attribute__((force_align_arg_pointer, noreturn)) void _start(void)
{
	int status = run();

	for (;;)
		call(SYS_exit_group, status, 0, 0, 0);
}
