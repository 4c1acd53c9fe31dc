/* A library that callsites.c loads while it runs: an io_uring call site that was not there before.
 */
#include <sys/syscall.h>

long plugin_enter(long fd, long n);

__attribute__((visibility("default"))) long plugin_enter(long fd, long n)
{
	register long r10 __asm__("r10") = 0;
	register long r8 __asm__("r8") = 0;
	register long r9 __asm__("r9") = 0;
	long ret;

	__asm__ volatile("movl %[number], %%eax\n\tsyscall"
	                 : "=&a"(ret)
	                 : [number] "i"(SYS_io_uring_enter), "D"(fd), "S"(n), "d"(0L), "r"(r10),
	                   "r"(r8), "r"(r9)
	                 : "rcx", "r11", "memory");
	return ret;
}

/* The same where no thread may be running that executes it, if it is to be patched. */
__attribute__((visibility("default"))) extern const unsigned char plugin_crossing_at[];
__asm__(".text\n.globl plugin_crossing, plugin_crossing_at\n.type plugin_crossing, @function\n"
        ".p2align 6\n"
        "	.skip 10, 0x90\n"
        "plugin_crossing:\n"
        "	.cfi_startproc\n"
        "	xor %r10d, %r10d\n"
        "plugin_crossing_at:\n"
        "	mov $426, %eax\n"
        "	syscall\n"
        "	ret\n"
        "	.cfi_endproc\n"
        ".size plugin_crossing, .-plugin_crossing\n");
