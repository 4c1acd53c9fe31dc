/*
 * System calls without libc: they return the kernel's value, -errno included,
 * and never touch errno, a cancellation point, or an interposed symbol. All of
 * the library calls the kernel this way, since it may run inside a signal
 * handler, between another thread's malloc and free, or on a coroutine's stack.
 */
#ifndef FU_SYS_H
#define FU_SYS_H

#include <sys/syscall.h>
#include "rings/types.h"

#if !defined(__x86_64__) || defined(__ILP32__)
#error "fakeuring knows the system call convention of x86-64 only"
#endif

static inline long fu_sys6(long nr, long a, long b, long c, long d, long e, long f)
{
	register long r10 __asm__("r10") = d;
	register long r8 __asm__("r8") = e;
	register long r9 __asm__("r9") = f;
	long ret;

	__asm__ volatile("syscall"
	                 : "=a"(ret)
	                 : "a"(nr), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
	                 : "rcx", "r11", "memory");
	return ret;
}

static inline long fu_sys3(long nr, long a, long b, long c)
{
	long ret;

	__asm__ volatile("syscall"
	                 : "=a"(ret)
	                 : "a"(nr), "D"(a), "S"(b), "d"(c)
	                 : "rcx", "r11", "memory");
	return ret;
}

static inline long fu_sys4(long nr, long a, long b, long c, long d)
{
	register long r10 __asm__("r10") = d;
	long ret;

	__asm__ volatile("syscall"
	                 : "=a"(ret)
	                 : "a"(nr), "D"(a), "S"(b), "d"(c), "r"(r10)
	                 : "rcx", "r11", "memory");
	return ret;
}

#define FU_SYS_ARG(x)         ((long)(x))
#define fu_sys_0(nr)          fu_sys3((nr), 0, 0, 0)
#define fu_sys_1(nr, a)       fu_sys3((nr), FU_SYS_ARG(a), 0, 0)
#define fu_sys_2(nr, a, b)    fu_sys3((nr), FU_SYS_ARG(a), FU_SYS_ARG(b), 0)
#define fu_sys_3(nr, a, b, c) fu_sys3((nr), FU_SYS_ARG(a), FU_SYS_ARG(b), FU_SYS_ARG(c))
#define fu_sys_4(nr, a, b, c, d) \
	fu_sys4((nr), FU_SYS_ARG(a), FU_SYS_ARG(b), FU_SYS_ARG(c), FU_SYS_ARG(d))
#define fu_sys_5(nr, a, b, c, d, e) \
	fu_sys6((nr), FU_SYS_ARG(a), FU_SYS_ARG(b), FU_SYS_ARG(c), FU_SYS_ARG(d), FU_SYS_ARG(e), 0)
#define fu_sys_6(nr, a, b, c, d, e, f)                                                           \
	fu_sys6((nr), FU_SYS_ARG(a), FU_SYS_ARG(b), FU_SYS_ARG(c), FU_SYS_ARG(d), FU_SYS_ARG(e), \
	        FU_SYS_ARG(f))

#define FU_SYS_PICK(_0, _1, _2, _3, _4, _5, _6, name, ...) name

/*
 * fu_sys(SYS_read, fd, buf, len): one system call with up to six arguments.
 * Returns what the kernel returned: a value, or -errno in [-4095, -1].
 */
#define fu_sys(...)                                                                          \
	FU_SYS_PICK(__VA_ARGS__, fu_sys_6, fu_sys_5, fu_sys_4, fu_sys_3, fu_sys_2, fu_sys_1, \
	            fu_sys_0)                                                                \
	(__VA_ARGS__)

static inline bool fu_is_err(long ret)
{
	return (unsigned long)ret >= (unsigned long)-4095L;
}

static inline bool fu_ptr_is_err(const void *p)
{
	return fu_is_err((long)p);
}

#endif
