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
