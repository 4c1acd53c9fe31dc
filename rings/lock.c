/* Locks, futexes and thread ids; the rules are in lock.h. */
#include "rings/lock.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

#include "rings/sys.h"
#include "rings/text.h"

#ifndef MADV_WIPEONFORK
#define MADV_WIPEONFORK 18
#endif

#define FU_LOCK_WAITERS 0x80000000U
#define FU_LOCK_SPINS   60
/* How long a sleeper trusts the owner before it looks whether that still lives. */
#define FU_LOCK_CHECK_NS 50000000L

__thread struct fu_thread fu_self __attribute__((tls_model("initial-exec")));

static struct fu_wipe fu_wipe_static;
struct fu_wipe *fu_wipe = &fu_wipe_static;
bool fu_wipe_works;

static void no_signals(void)
{
}

void (*fu_signals_release)(void) = no_signals;

void fu_wipe_init(void)
{
	void *page;

	if (fu_wipe != &fu_wipe_static)
		return;
	page = fu_ptr((u64)fu_sys(SYS_mmap, 0, FU_PAGE, PROT_READ | PROT_WRITE,
	                          MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
	if (fu_ptr_is_err(page))
		return;
	/* Before Linux 4.14 there is no such advice: then the fork handler zeroes gen. */
	fu_wipe_works = fu_sys(SYS_madvise, page, FU_PAGE, MADV_WIPEONFORK) == 0;
	fu_wipe = page;
}

/* This process's namespace in an id. */
static u32 space;

u32 fu_tid_of(u32 number)
{
	return number | space;
}

void fu_tid_reset(void)
{
	struct stat st;
	u32 n = 0;

	fu_self.gen = 0;
	/* Only the first processes in a namespace have a parent that they cannot name. */
	if (fu_sys(SYS_getppid) != 0)
		return;
	if (fu_sys(SYS_stat, "/proc/self/ns/pid", &st) == 0)
		n = (u32)st.st_ino;
	else
		fu_sys(SYS_getrandom, &n, sizeof(n), 0);
	n = 1 + n % ((1U << FU_SPACE_BITS) - 1);
	/* It is another one than the parent's. */
	if (n << FU_TID_BITS == space)
		n = n == 1 ? 2 : n - 1;
	space = n << FU_TID_BITS;
}

u32 fu_tid_slow(void)
{
	u32 tid = fu_tid_of((u32)fu_sys(SYS_gettid));

	fu_self.tid = tid;
	fu_self.task = 0;
	fu_self.gen = fu_load_relaxed(&fu_wipe->gen);
	return tid;
}

long fu_futex_wait(u32 *word, u32 val, s64 timeout_ns)
{
	struct timespec ts;

	/* Without an end the call would restart under SA_RESTART: a year is as good as none. */
	if (timeout_ns < 0)
		timeout_ns = 365LL * 86400 * 1000000000LL;
	ts.tv_sec = timeout_ns / 1000000000LL;
	ts.tv_nsec = timeout_ns % 1000000000LL;
	return fu_sys(SYS_futex, word, FUTEX_WAIT, val, &ts, 0, 0);
}

long fu_futex_wake(u32 *word, int count)
{
	return fu_sys(SYS_futex, word, FUTEX_WAKE, count, 0, 0, 0);
}

/* What /proc says of a thread; `state` is 0 if there is no telling. */
struct thread_stat {
	char state;
	u32 threads; /* of its process */
};

/* Which of the fields behind the state tells how many threads there are. */
#define FIELD_THREADS 17

static struct thread_stat thread_stat(u32 tid)
{
	char path[16 + FU_DECIMAL_BYTES] = "/proc/", text[512];
	struct thread_stat stat = { 0 };
	size_t at = sizeof("/proc/") - 1;
	long fd, bytes, name_end = 0;
	int field = 0;

	at += fu_decimal(path + at, tid);
	for (const char *p = "/stat"; *p; p++)
		path[at++] = *p;
	path[at] = 0;
	fd = fu_sys(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return stat;
	bytes = fu_sys(SYS_read, fd, text, sizeof(text));
	fu_sys(SYS_close, fd);
	/* The state is behind the name in parentheses, which may hold some itself. */
	for (long i = 0; i < bytes; i++) {
		if (text[i] == ')')
			name_end = i;
	}
	for (long i = name_end + 2; name_end && i < bytes && field <= FIELD_THREADS; i++) {
		if (text[i] == ' ')
			field++;
		else if (field == 0)
			stat.state = text[i];
		else if (field == FIELD_THREADS)
			stat.threads = stat.threads * 10 + (u32)(text[i] - '0');
	}
	return stat;
}

static bool has_ended(char state)
{
	return state == 'Z' || state == 'X';
}

/* Is it a child of ours that has ended as a whole? One that nobody has waited for yet can still be
 * sent a signal. */
static bool is_dead_child(u32 pid)
{
	siginfo_t info = { .si_pid = 0 };

	return fu_sys(SYS_waitid, P_PID, pid, &info, WEXITED | WNOHANG | WNOWAIT, NULL) == 0 &&
	       info.si_pid == (pid_t)pid;
}

static bool is_elsewhere(u32 id)
{
	return (id & ~FU_TID_MASK) != space;
}

bool fu_tid_is_dead(u32 id)
{
	u32 tid = fu_tid_number(id);

	if (is_elsewhere(id))
		return false;
	return fu_sys(SYS_tkill, tid, 0) == -ESRCH || is_dead_child(tid) ||
	       has_ended(thread_stat(tid).state);
}

bool fu_process_is_dead(u32 id)
{
	struct thread_stat stat;
	u32 pid = fu_tid_number(id);

	if (is_elsewhere(id))
		return false;
	if (fu_sys(SYS_kill, pid, 0) == -ESRCH || is_dead_child(pid))
		return true;
	/* The first thread may have left the others behind. */
	stat = thread_stat(pid);
	return has_ended(stat.state) && stat.threads <= 1;
}

u32 fu_threads_left(void)
{
	struct thread_stat stat = thread_stat((u32)fu_sys(SYS_getpid));

	return has_ended(stat.state) && stat.threads ? stat.threads - 1 : 0;
}

static bool owner_is_dead(u32 word)
{
	u32 tid = word & ~FU_LOCK_WAITERS;

	return tid && fu_tid_is_dead(tid);
}

/*
 * The word goes through 0 -> tid -> tid|WAITERS -> 0. A thread that has slept
 * takes the lock with the waiters bit set, since it cannot know that it was the
 * only sleeper; the price is one wake-up too many at the end.
 */
void fu_lock_slow(struct fu_lock *lock, u32 me)
{
	u32 word, mine = me;

	for (int spin = 0; spin < FU_LOCK_SPINS; spin++) {
		word = 0;
		if (__atomic_compare_exchange_n(&lock->word, &word, mine, true, __ATOMIC_ACQUIRE,
		                                __ATOMIC_RELAXED))
			return;
		__builtin_ia32_pause();
	}
	mine = me | FU_LOCK_WAITERS;
	for (;;) {
		word = fu_load_relaxed(&lock->word);
		if (!word) {
			if (__atomic_compare_exchange_n(&lock->word, &word, mine, false,
			                                __ATOMIC_ACQUIRE, __ATOMIC_RELAXED))
				return;
			continue;
		}
		if (!(word & FU_LOCK_WAITERS) &&
		    !__atomic_compare_exchange_n(&lock->word, &word, word | FU_LOCK_WAITERS, false,
		                                 __ATOMIC_RELAXED, __ATOMIC_RELAXED))
			continue;
		word |= FU_LOCK_WAITERS;
		if (fu_futex_wait(&lock->word, word, FU_LOCK_CHECK_NS) != -ETIMEDOUT)
			continue;
		if (owner_is_dead(word) &&
		    __atomic_compare_exchange_n(&lock->word, &word, mine, false, __ATOMIC_ACQUIRE,
		                                __ATOMIC_RELAXED)) {
			if (lock->kind)
				fu_lock_inherited(lock);
			return;
		}
	}
}

void fu_unlock_slow(struct fu_lock *lock)
{
	u32 word = __atomic_exchange_n(&lock->word, 0, __ATOMIC_RELEASE);

	if (word & FU_LOCK_WAITERS)
		fu_futex_wake(&lock->word, 1);
}
