/*
 * The engine's threads: detached, with small stacks. All signals are blocked but
 * SIGSYS, which the engine sends to a worker to interrupt its system call, and those
 * of libc's own. They are ordinary pthreads, so libc's setuid and friends reach them
 * too.
 */
#include "engine/engine.h"

#include <cpuid.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <ucontext.h>

#include "engine/entry.h"
#include "engine/thread.h"
#include "rings/fds.h"
#include "rings/mem.h"
#include "rings/sys.h"
#include "rings/text.h"

#define STACK_BYTES (256UL * 1024)

/* 32 and 33 are libc's own: with the second, setuid and the like reach every thread and wait
 * until each has answered. */
#define LIBC_SIGNALS (1ULL << 31 | 1ULL << 32)

int (*fu_pthread_create)(pthread_t *, const pthread_attr_t *, void *(*)(void *),
                         void *) = pthread_create;

struct start {
	void *(*fn)(void *);
	void *arg;
};

struct kernel_sigaction {
	void (*handler)(int, void *, void *);
	unsigned long flags;
	void (*restorer)(void);
	u64 mask;
};

/*
 * Libc, or what stands in for it, has locks of its own when a thread begins and when it ends. The
 * child of a fork that comes just then finds them taken for good, and hangs when it starts a
 * thread itself. The kernel's io_uring starts none that a fork could meet.
 */
#define ENDING_MAX 64
#define WAIT_NAPS  5000 /* not forever: such a lock may be held by whoever forks */
#define NAP_NS     200000

static struct {
	u32 forks;              /* threads that fork; all atomic */
	u32 starting;           /* engine threads that libc has still to bring up */
	u32 alive;              /* those that run what the engine has for them */
	u32 ending[ENDING_MAX]; /* their ids: they are libc's alone by now; 0: free */
} quiet;

static void nap(void)
{
	static const u64 ts[2] = { 0, NAP_NS };

	fu_sys(SYS_nanosleep, ts, NULL);
}

/* Whether a thread that has said where it goes has to take that back, for somebody who forks. */
static bool is_in_the_way(int naps)
{
	return fu_unlikely(__atomic_load_n(&quiet.forks, __ATOMIC_SEQ_CST)) && !fu_self.quiet &&
	       naps < WAIT_NAPS;
}

static void start_begins(void)
{
	for (int naps = 0;; naps++) {
		__atomic_fetch_add(&quiet.starting, 1, __ATOMIC_SEQ_CST);
		if (!is_in_the_way(naps))
			return;
		__atomic_fetch_sub(&quiet.starting, 1, __ATOMIC_SEQ_CST);
		nap();
	}
}

static void start_ends(void)
{
	__atomic_fetch_sub(&quiet.starting, 1, __ATOMIC_SEQ_CST);
}

static bool has_ended(u32 tid)
{
	return !tid || fu_sys(SYS_tgkill, fu_sys(SYS_getpid), fu_tid_number(tid), 0) == -ESRCH;
}

/* Puts the calling thread among those that end; where, or NULL if there is no room. */
static u32 *note_ending(void)
{
	u32 me = fu_tid();

	for (u32 i = 0; i < ENDING_MAX; i++) {
		u32 tid = fu_load_relaxed(&quiet.ending[i]);

		if (has_ended(tid) &&
		    __atomic_compare_exchange_n(&quiet.ending[i], &tid, me, false, __ATOMIC_SEQ_CST,
		                                __ATOMIC_RELAXED))
			return &quiet.ending[i];
	}
	return NULL;
}

static void ends(void)
{
	for (int naps = 0;; naps++) {
		u32 *place = note_ending();

		if (!is_in_the_way(naps))
			break;
		if (place)
			__atomic_store_n(place, 0, __ATOMIC_SEQ_CST);
		nap();
	}
	/* Not before: who waits for those that end is to see all of them gone from this as well. */
	__atomic_fetch_sub(&quiet.alive, 1, __ATOMIC_SEQ_CST);
}

/* Forgets those that have ended. Whether there are others. */
static bool any_ending(void)
{
	bool any = false;

	for (u32 i = 0; i < ENDING_MAX; i++) {
		u32 tid = __atomic_load_n(&quiet.ending[i], __ATOMIC_SEQ_CST);

		if (tid && has_ended(tid))
			__atomic_compare_exchange_n(&quiet.ending[i], &tid, 0, false,
			                            __ATOMIC_RELAXED, __ATOMIC_RELAXED);
		else if (tid)
			any = true;
	}
	return any;
}

void fu_threads_quiet(void)
{
	if (!fu_self.quiet) {
		fu_self.quiet = 1;
		__atomic_fetch_add(&quiet.forks, 1, __ATOMIC_SEQ_CST);
	}
	for (int i = 0; i < WAIT_NAPS; i++) {
		if (!__atomic_load_n(&quiet.starting, __ATOMIC_SEQ_CST) && !any_ending())
			return;
		nap();
	}
	/* Ids of threads that have ended long ago may be others' now. */
	for (u32 i = 0; i < ENDING_MAX; i++)
		fu_store_relaxed(&quiet.ending[i], 0);
}

void fu_threads_quiet_over(void)
{
	if (!fu_self.quiet)
		return;
	fu_self.quiet = 0;
	__atomic_fetch_sub(&quiet.forks, 1, __ATOMIC_SEQ_CST);
}

bool fu_threads_are_ours(void)
{
	struct stat st;
	bool ours = false;
	u32 alive;

	if (fu_load_relaxed(&fu_wipe->gen) != (u32)fu_sys(SYS_getpid))
		return false;
	fu_threads_quiet();
	alive = __atomic_load_n(&quiet.alive, __ATOMIC_SEQ_CST);
	/* A directory for each thread, one more, and its own entry above. */
	if (alive && fu_sys(SYS_stat, "/proc/self/task", &st) == 0)
		ours = st.st_nlink == alive + 3;
	fu_threads_quiet_over();
	return ours;
}

bool fu_thread_may_be_engine(void)
{
	return fu_self.engine || (__atomic_load_n(&quiet.starting, __ATOMIC_SEQ_CST) &&
	                          !fu_self.gen && fu_sys(SYS_gettid) != fu_sys(SYS_getpid));
}

bool fu_threads_alone(void)
{
	u32 alive = __atomic_load_n(&quiet.alive, __ATOMIC_SEQ_CST);

	return alive && fu_threads_left() == alive;
}

void fu_threads_reset(void)
{
	fu_self.quiet = 0;
	fu_memset(&quiet, 0, sizeof(quiet));
}

static void *thread_main(void *p)
{
	struct start start = *(struct start *)p;
	void *ret;

	fu_self.engine = 1;
	__atomic_fetch_add(&quiet.alive, 1, __ATOMIC_SEQ_CST);
	start_ends();
	fu_free(p, sizeof(struct start));
	ret = start.fn(start.arg);
	ends();
	return ret;
}

/* ---- vector registers ---- */

/* x87, SSE, AVX and AVX-512, as XSAVE numbers them; and what their standard layout takes. */
#define VECTOR_COMPONENTS 0xe7u
#define VECTOR_BYTES      2688
#define HEADER_AT         512
#define HEADER_BYTES      64

/* Has the system enabled XSAVE? Without it there is nothing wider than what FXSAVE knows. */
static bool have_xsave(void)
{
	u32 a, b, c, d;

	return __get_cpuid(1, &a, &b, &c, &d) && (c & bit_OSXSAVE);
}

void fu_call_keeping_vectors(void (*fn)(void *), void *arg)
{
	_Alignas(64) u8 area[VECTOR_BYTES];

	if (have_xsave()) {
		fu_memset(area + HEADER_AT, 0, HEADER_BYTES);
		__asm__ volatile("xsave64 %0" : "+m"(area) : "a"(VECTOR_COMPONENTS), "d"(0));
		fn(arg);
		__asm__ volatile("xrstor64 %0" : : "m"(area), "a"(VECTOR_COMPONENTS), "d"(0));
	} else {
		__asm__ volatile("fxsave64 %0" : "=m"(area));
		fn(arg);
		__asm__ volatile("fxrstor64 %0" : : "m"(area));
	}
}

u32 fu_cpu_count(const cpu_set_t *cpus, size_t bytes)
{
	u32 n = 0;

	for (size_t i = 0; i < 8 * bytes; i++)
		n += CPU_ISSET_S(i, bytes, cpus) ? 1 : 0;
	return n;
}

/* ---- starting ---- */

struct creation {
	int (*set_stack)(pthread_attr_t *, size_t);
	struct start *start;
	int ret;
};

static void create(void *p)
{
	struct creation *c = p;
	pthread_attr_t attr;
	pthread_t thread;

	pthread_attr_init(&attr);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	c->set_stack(&attr, STACK_BYTES);
	c->ret = fu_pthread_create(&thread, &attr, thread_main, c->start);
	if (c->ret == EINVAL) {
		/* Too small for a program with much thread-local data: then the default serves. */
		pthread_attr_destroy(&attr);
		pthread_attr_init(&attr);
		pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
		c->ret = fu_pthread_create(&thread, &attr, thread_main, c->start);
	}
	pthread_attr_destroy(&attr);
}

int fu_thread_start(void *(*fn)(void *), void *arg)
{
	u64 all = ~(1ULL << (SIGSYS - 1) | LIBC_SIGNALS), old;
	struct creation c = { .set_stack = pthread_attr_setstacksize,
		              .start = fu_alloc(sizeof(*c.start)) };

	if (!c.start)
		return -ENOMEM;
	fu_fds_threaded();
	*c.start = (struct start){ fn, arg };
	/* A program without libpthread, on a glibc that keeps threads there, has none of these. */
	if (!c.set_stack || !fu_pthread_create) {
		fu_free(c.start, sizeof(*c.start));
		return -EAGAIN;
	}
	fu_sys(SYS_rt_sigprocmask, SIG_SETMASK, &all, &old, 8);
	start_begins();
	fu_call_keeping_vectors(create, &c);
	if (c.ret)
		start_ends();
	fu_sys(SYS_rt_sigprocmask, SIG_SETMASK, &old, 0, 8);
	if (c.ret)
		fu_free(c.start, sizeof(*c.start));
	/* -EPERM, a sandbox's answer, would be taken for a file that cannot be polled. */
	return c.ret == EPERM ? -EAGAIN : -c.ret;
}

void fu_thread_name(const char *prefix)
{
	char name[16], number[FU_DECIMAL_BYTES];
	size_t at = 0;

	while (prefix[at] && at < sizeof(name) - 1) {
		name[at] = prefix[at];
		at++;
	}
	fu_decimal(number, (u32)fu_sys(SYS_getpid));
	for (size_t i = 0; number[i] && at < sizeof(name) - 1; i++)
		name[at++] = number[i];
	name[at] = 0;
	fu_sys(SYS_prctl, PR_SET_NAME, name, 0, 0, 0);
}

/* ---- interrupting a thread's system call ---- */

/*
 * The check of the flag and the system call are two instructions. An interrupt that
 * falls between them finds the program counter in the range below, and moves it to
 * the exit; one that falls into the call itself ends it with -EINTR.
 */
long fu_sys_block_once(const u8 *cancel, long nr, long a, long b, long c, long d, long e, long f);
extern const char fu_block_begin[], fu_block_end[], fu_block_cancelled[];

__asm__(".text\n"
        ".type fu_sys_block_once, @function\n"
        ".hidden fu_sys_block_once, fu_block_begin, fu_block_end, fu_block_cancelled\n"
        ".globl fu_sys_block_once, fu_block_begin, fu_block_end, fu_block_cancelled\n"
        "fu_sys_block_once:\n"
        "	mov %rdi, %r11\n"
        "	mov %rsi, %rax\n"
        "	mov %rdx, %rdi\n"
        "	mov %rcx, %rsi\n"
        "	mov %r8, %rdx\n"
        "	mov %r9, %r10\n"
        "	mov 8(%rsp), %r8\n"
        "	mov 16(%rsp), %r9\n"
        "fu_block_begin:\n"
        "	cmpb $0, (%r11)\n"
        "	jne fu_block_cancelled\n"
        "	syscall\n"
        "fu_block_end:\n"
        "	ret\n"
        "fu_block_cancelled:\n"
        "	mov $-4, %rax\n"
        "	ret\n"
        ".size fu_sys_block_once, . - fu_sys_block_once\n");

long fu_sys_block(const u8 *cancel, long nr, long a, long b, long c, long d, long e, long f)
{
	long ret;

	/* A late interrupt for the request before this one is no reason to stop. */
	do {
		ret = fu_sys_block_once(cancel, nr, a, b, c, d, e, f);
	} while (ret == -EINTR && !fu_load_acquire(cancel));
	return ret;
}

void fu_thread_interrupted(void *ucontext)
{
	greg_t *regs = ((ucontext_t *)ucontext)->uc_mcontext.gregs;

	if (regs[REG_RIP] >= (greg_t)(uintptr_t)fu_block_begin &&
	    regs[REG_RIP] < (greg_t)(uintptr_t)fu_block_end &&
	    fu_load_relaxed((const u8 *)(uintptr_t)regs[REG_R11]))
		regs[REG_RIP] = (greg_t)(uintptr_t)fu_block_cancelled;
}

static void interrupted(int sig, void *info, void *context)
{
	(void)sig;
	(void)info;
	fu_thread_interrupted(context);
}

__attribute__((naked, used)) static void restore(void)
{
	__asm__("mov $15, %eax\n\tsyscall");
}

#define FU_SA_RESTORER 0x04000000UL

void fu_thread_interrupts_init(void)
{
	struct kernel_sigaction act;

	/* The trap installs a handler of its own for SIGSYS; it knows these signals too. */
	if (fu_sys(SYS_rt_sigaction, SIGSYS, 0, &act, 8) == 0 && (uintptr_t)act.handler > 1)
		return;
	act = (struct kernel_sigaction){ .handler = interrupted,
		                         .flags = SA_SIGINFO | FU_SA_RESTORER,
		                         .restorer = restore };
	fu_sys(SYS_rt_sigaction, SIGSYS, &act, 0, 8);
}

void fu_thread_interrupt(u32 tid)
{
	fu_sys(SYS_tgkill, fu_sys(SYS_getpid), fu_tid_number(tid), SIGSYS);
}
