/*
 * For tests of the host process: a system call that is issued by an instruction of the
 * test's own (nothing interposed sees it), and a child that has to end in time.
 */
#ifndef FU_TESTS_HOME_H
#define FU_TESTS_HOME_H

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>
#include "tests/ring_util.h"

/* A sanitizer's run time that wants memory and system calls for itself. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED true
#else
#define SANITIZED false
#endif

static inline long raw6(long nr, long a, long b, long c, long d, long e, long f)
{
	register long r10 __asm__("r10") = d;
	register long r8 __asm__("r8") = e;
	register long r9 __asm__("r9") = f;
	long ret = nr;

	__asm__ volatile("syscall"
	                 : "+a"(ret)
	                 : "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
	                 : "rcx", "r11", "memory");
	return ret;
}

#define RAW(nr, ...) RAW_(nr, __VA_ARGS__, 0, 0, 0, 0, 0, 0)
#define RAW_(nr, a, b, c, d, e, f, ...) \
	raw6((nr), (long)(a), (long)(b), (long)(c), (long)(d), (long)(e), (long)(f))

/* Runs fn in a child; its exit status, 128 + signal if it died of one, 142 if of time. */
static inline int in_child(void (*fn)(void), unsigned seconds)
{
	pid_t pid;

	fflush(NULL);
	pid = fork();
	if (pid == 0) {
		signal(SIGALRM, SIG_DFL);
		alarm(seconds);
		fn();
		_exit(0);
	}
	return pid < 0 ? -1 : tr_wait_child(pid);
}

#endif
