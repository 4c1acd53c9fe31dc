/*
 * The order of the start: switches, the real functions, the scan; and, only if
 * an object with call sites turns up, the signal handler and the filter. A
 * process without one has paid for the scan and owns nothing, but for the
 * handler once it blocks SIGSYS (signals.c).
 */
#include <errno.h>
#include <sys/auxv.h>
#include <time.h>
#include "engine/config.h"
#include "engine/entry.h"
#include "engine/stats.h"
#include "preload/handlers.h"
#include "preload/init.h"
#include "preload/loader.h"
#include "preload/next.h"
#include "preload/patch.h"
#include "preload/process.h"
#include "preload/scan.h"
#include "preload/syscall.h"
#include "rings/lock.h"
#include "rings/sys.h"
#include "rings/text.h"
#include "seccomp/dispatch.h"
#include "seccomp/filter.h"
#include "seccomp/notify.h"
#include "seccomp/trap.h"

/* How long a first ring waits for the scan lock: some seconds. */
#define LOCK_NAP_NS (100L * 1000)
#define LOCK_NAPS   20000

extern char **environ;
extern void *__libc_stack_end __attribute__((weak));

u32 fu_init_state;
u32 fu_init_threads;
static long init_tid; /* the thread that runs the start */
static long init_pid;

/*
 * Guards the scan's tables, the filter's and those of the patches: the holder's thread id. Never
 * held while the program's code runs, but for its signal handlers.
 */
static u32 scan_lock;
static struct fu_scan scan;

/* 0, or the thread that has it. */
static u32 scan_trylock(void)
{
	u32 holder = 0;

	__atomic_compare_exchange_n(&scan_lock, &holder, (u32)fu_sys(SYS_gettid), false,
	                            __ATOMIC_ACQUIRE, __ATOMIC_RELAXED);
	return holder;
}

static void scan_unlock(void)
{
	fu_store_release(&scan_lock, 0);
}

long fu_to_libc(long ret)
{
	if (fu_is_err(ret)) {
		errno = (int)-ret;
		return -1;
	}
	return ret;
}

/* The kernel would not have it, and nothing else leads here: say so, and stay out of the way. */
static void disable(const char *what, long error)
{
	char number[FU_DECIMAL_BYTES];

	fu_decimal(number, (u64)-error);
	fu_complain("cannot install the ", what, " trap (error ", number,
	            "): the program runs without the shim", NULL);
	fu_store_relaxed(&fu_shim_enabled, false);
}

/* Places whose calls are all patched: nothing has to be trapped there before there is a ring. */
static struct fu_range waiting[FU_RANGES_MAX];
static size_t n_waiting;
static bool ring_came; /* nothing waits any more */

/* After an unload what has been there for long is found again. */
static bool is_waiting(const struct fu_range *range)
{
	for (size_t i = 0; i < n_waiting; i++) {
		if (waiting[i].start == range->start && waiting[i].end == range->end) {
			return true;
		}
	}
	return false;
}

/* False if these cannot wait. */
static bool wait_for_ring(const struct fu_range *ranges, size_t n)
{
	if (ring_came) {
		return false;
	}
	for (size_t i = 0; i < n; i++) {
		if (is_waiting(&ranges[i])) {
			continue;
		}
		if (n_waiting == FU_RANGES_MAX) {
			return false;
		}
		waiting[n_waiting++] = ranges[i];
	}
	return true;
}

/* 0 or -errno. */
static long install(const struct fu_range *ranges, size_t n)
{
	if (fu_config.trap == FU_TRAP_NOTIFY) {
		return fu_notify_install(ranges, n);
	}
	return fu_filter_install(FU_FILTER_TRAP, ranges, n);
}

/* By notification calls are done by other threads: there all have to come in that way. */
static bool may_patch(void)
{
	return fu_config.patch == FU_PATCH_ON && fu_config.trap == FU_TRAP_SIGSYS &&
	       fu_load_relaxed(&fu_shim_enabled);
}

/* The limit of the kernel's, or of ours, for call sites has been reached: says so once. */
static void note_incomplete(void)
{
	static bool told;

	if (fu_filter_is_incomplete() && !told) {
		told = true;
		fu_complain("too many call sites to trap them all: the rest of them is not served",
		            NULL);
	}
}

/* Looks at what is new, with the scan lock. */
static void scan_objects(bool quiet)
{
	static bool patched; /* anything ever */
	bool left = true;
	long trap = 0;

	fu_scan(&scan);
	if (scan.bare && scan.n_ranges) {
		fu_complain("the program does not use libc: it runs without the shim", NULL);
		fu_store_relaxed(&fu_shim_enabled, false);
		return;
	}
	if (scan.go) {
		fu_sigsys_on_signal_stack();
	}
	if (scan.n_ranges) {
		fu_sigsys_own();
	}
	if (scan.unloaded) {
		fu_patch_unloaded();
	}
	if (scan.n_texts && may_patch()) {
		patched = fu_patch_found(&scan, quiet, &left) || patched;
	}
	/* A filter costs every system call something, and programs that are executed their rights.
	 */
	if (scan.n_ranges && (left || !wait_for_ring(scan.ranges, scan.n_ranges))) {
		trap = install(scan.ranges, scan.n_ranges);
		note_incomplete();
	}
	/* Where filters are not to be had, in a sandbox or under valgrind, the patches may do. */
	if (trap < 0 && !patched && !fu_have_rings()) {
		disable(fu_config.trap == FU_TRAP_NOTIFY ? "notify" : "sigsys", trap);
	}
}

static void rescan(bool quiet)
{
	if (!fu_load_relaxed(&fu_shim_enabled)) {
		return;
	}
	while (scan_trylock()) {
		fu_sys(SYS_sched_yield);
	}
	scan_objects(quiet);
	scan_unlock();
}

/*
 * The first ring: from now on calls other than io_uring's matter as well. The lock may be held by
 * the thread itself, if this is a signal handler; then the next ring does it. Another thread may
 * look through objects that it has loaded, which takes milliseconds; it is not waited for forever,
 * since it may need what this thread holds of the loader's.
 */
static void before_ring(void)
{
	static const struct timespec nap = { 0, LOCK_NAP_NS };

	fu_critical_enter();
	for (u32 i = 0; i < LOCK_NAPS && !fu_load_acquire(&ring_came); i++) {
		u32 holder = scan_trylock();

		if (holder == (u32)fu_sys(SYS_gettid)) {
			break;
		}
		if (holder) {
			fu_sys(SYS_nanosleep, &nap, NULL);
			continue;
		}
		if (n_waiting) {
			install(waiting, n_waiting);
		}
		n_waiting = 0;
		fu_store_release(&ring_came, true);
		scan_unlock();
	}
	fu_critical_leave();
	fu_handlers_take_over();
	fu_process_before_ring();
}

/* Loads may nest and overlap: the mark is that of the first. */
static u32 loads, threads_before;

static bool is_quiet(void)
{
	return fu_load_relaxed(&fu_init_threads) == fu_load_relaxed(&threads_before);
}

/*
 * The loader has mapped something; its lock is held. If the scan lock cannot be had for long, its
 * holder waits for the loader: then what is new is looked at when it has been loaded.
 */
static void on_loaded(void)
{
	static const struct timespec nap = { 0, LOCK_NAP_NS };

	if (!fu_load_relaxed(&loads) || !fu_load_relaxed(&fu_shim_enabled)) {
		return;
	}
	for (u32 i = 0; i < LOCK_NAPS; i++) {
		if (!scan_trylock()) {
			scan_objects(is_quiet());
			scan_unlock();
			return;
		}
		fu_sys(SYS_nanosleep, &nap, NULL);
	}
}

/* Whoever loads something first sees to it that we are told before constructors run. */
static void hook_loader(void)
{
	static bool tried;

	if (fu_load_acquire(&tried)) {
		return;
	}
	while (scan_trylock()) {
		fu_sys(SYS_sched_yield);
	}
	if (!tried && may_patch()) {
		fu_loader_hook(on_loaded);
	}
	fu_store_release(&tried, true);
	scan_unlock();
}

void fu_init_before_load(void)
{
	hook_loader();
	if (__atomic_fetch_add(&loads, 1, __ATOMIC_ACQ_REL) == 0) {
		fu_store_relaxed(&threads_before, fu_load_relaxed(&fu_init_threads));
	}
}

void fu_init_rescan(void)
{
	bool quiet = is_quiet();

	__atomic_fetch_sub(&loads, 1, __ATOMIC_ACQ_REL);
	rescan(quiet);
}

/*
 * A site that was trapped. The lock may be held by the thread that this handler
 * interrupts; and it must not be lost to a handler that leaves with siglongjmp.
 */
static void on_trap(long nr, u64 ip)
{
	const u8 *site = fu_ptr(ip - 2);

	if (nr < FU_NR_SETUP || nr > FU_NR_REGISTER || fu_patch_was_tried(site)) {
		return;
	}
	fu_critical_enter();
	if (!scan_trylock()) {
		if (may_patch()) {
			fu_patch_trapped(site);
		}
		scan_unlock();
	}
	fu_critical_leave();
}

bool fu_init_is_home(void)
{
	return fu_sys(SYS_getpid) == init_pid;
}

void fu_init_fork_child(void)
{
	init_pid = fu_sys(SYS_getpid);
	fu_store_relaxed(&scan_lock, 0);
}

/*
 * The environment as the kernel left it on the stack, behind argc and argv: a library that
 * is loaded before libc has run its own constructor may call us when environ is not set yet.
 */
static char *const *initial_environment(void)
{
	const long *argc = __libc_stack_end;

	return (char *const *)(argc + 1 + *argc + 1);
}

void fu_init_slow(char *const *env)
{
	long tid = fu_sys(SYS_gettid);
	u32 state = FU_INIT_NOT;

	if (!__atomic_compare_exchange_n(&fu_init_state, &state, FU_INIT_RUNNING, false,
	                                 __ATOMIC_ACQUIRE, __ATOMIC_ACQUIRE)) {
		/*
		 * Our own work below calls libc, and so what is interposed: that part is ready
		 * by then. A second thread before the first constructor ran has to wait.
		 */
		while (fu_load_acquire(&fu_init_state) == FU_INIT_RUNNING &&
		       fu_load_relaxed(&init_tid) != tid) {
			fu_sys(SYS_sched_yield);
		}
		return;
	}
	fu_store_relaxed(&init_tid, tid);
	init_pid = fu_sys(SYS_getpid);
	/* First of all: another libc has not even passed the environment. */
	if (!fu_next_resolve()) {
		fu_store_relaxed(&fu_shim_enabled, false);
		fu_store_release(&fu_init_state, FU_INIT_DONE);
		return;
	}
	/* In a process with more rights than its user the user's variables do not count. */
	if (!getauxval(AT_SECURE)) {
		fu_config_parse(env ? env : environ ? environ : initial_environment());
	}
	fu_stats_init(fu_config.stats, fu_ptr(getauxval(AT_EXECFN)));
	fu_process_init();
	fu_handlers_init();
	fu_trap_hook = on_trap;
	fu_before_ring = before_ring;
	fu_trap_call = fu_syscall_trapped;
	/* Before any constructor but ours, and so before any thread. */
	rescan(true);
	fu_store_release(&fu_init_state, FU_INIT_DONE);
}

__attribute__((constructor)) static void start(int argc, char **argv, char **env)
{
	(void)argc;
	(void)argv;
	if (fu_load_acquire(&fu_init_state) != FU_INIT_DONE) {
		fu_init_slow(env);
	}
}
