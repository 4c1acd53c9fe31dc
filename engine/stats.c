/*
 * The statistics line; see stats.h. No descriptor is kept between updates: the
 * program may close, count or limit them. A process that finds another pid than
 * the one that reserved the line is a child and reserves its own.
 */
#include "engine/stats.h"

#include <errno.h>
#include <fcntl.h>
#include <time.h>

#include "engine/config.h"
#include "engine/counters.h"
#include "engine/registry.h"
#include "rings/fds.h"
#include "rings/lock.h"
#include "rings/sys.h"
#include "rings/text.h"

#define LINE_BYTES 640
#define NAME_BYTES 160
/* About a quarter of a second on today's processors. */
#define UPDATE_TICKS (1ULL << 29)
/* How long the last update waits for one that another thread is writing: some seconds. */
#define PATIENCE_NAPS 2000
#define NAP_NS        1000000
/* A pipe or a terminal gets its line when the process ends. */
#define STREAM (-1)
/* Whoever reads a pipe may be gone, or not there yet: the program does not wait for him. */
#define OPEN_FLAGS (O_WRONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK)

bool fu_stats_on;

static struct {
	char path[4096];
	char execfn[256]; /* what was executed, as the kernel was told, without directories */
	int busy;         /* try-lock over what follows: pid of the holder */
	bool again;       /* atomic: who holds it is to write once more before he goes */
	bool broken;      /* the file could not be written; said so once */
	int pid;          /* owner of the line, 0 before there is one; set when the rest is */
	s64 offset;       /* of the line in the file; STREAM: there is no writing it again */
	u64 last_tick;    /* read without the lock, to skip cheaply */
	u32 touches;      /* so often it was used, or nearly: threads may miss each other's */
} stats;

struct text {
	char *buf;
	size_t len;
	size_t size;
};

static void put(struct text *t, const char *s)
{
	while (*s && t->len < t->size) {
		t->buf[t->len++] = *s++;
	}
}

static void put_number(struct text *t, u64 v)
{
	char digits[FU_DECIMAL_BYTES];

	fu_decimal(digits, v);
	put(t, digits);
}

static void put_field(struct text *t, const char *name, u64 v)
{
	put(t, ",\"");
	put(t, name);
	put(t, "\":");
	put_number(t, v);
}

/* `s` as the inside of a JSON string, cut at NAME_BYTES. */
static void put_escaped(struct text *t, const char *s)
{
	static const char hex[] = "0123456789abcdef";
	size_t end = t->len + NAME_BYTES;

	for (; *s && t->len + 6 <= end; s++) {
		u8 c = (u8)*s;

		if (c == '"' || c == '\\') {
			put(t, (char[]){ '\\', (char)c, '\0' });
		} else if (c < 0x20 || c >= 0x7f) {
			put(t, "\\u00");
			put(t, (char[]){ hex[c >> 4], hex[c & 15], '\0' });
		} else {
			put(t, (char[]){ (char)c, '\0' });
		}
	}
}

static const char *last_part(const char *path)
{
	const char *name = path;

	for (const char *s = path; *s; s++) {
		if (*s == '/' && s[1]) {
			name = s + 1;
		}
	}
	return name;
}

/* The name the process was started by, without its directories; where there is no /proc, that of
 * its file. */
static void put_program(struct text *t)
{
	char arg0[1024];
	long fd = fu_sys(SYS_openat, AT_FDCWD, "/proc/self/cmdline", O_RDONLY | O_CLOEXEC);
	long n = fu_is_err(fd) ? fd : fu_sys(SYS_read, fd, arg0, sizeof(arg0) - 1);

	if (!fu_is_err(fd)) {
		fu_sys(SYS_close, fd);
	}
	arg0[n > 0 ? n : 0] = '\0';
	put_escaped(t, last_part(n > 0 ? arg0 : stats.execfn));
}

/* Returns the length without the blanks that fill the line up. */
static size_t format(char line[LINE_BYTES], int pid)
{
	struct text t = { line, 0, LINE_BYTES - 1 };
	struct fu_counters *c = &fu_counters;
	struct fu_tally rings = { 0 };
	size_t length;

	fu_registry_tally(&rings);
	put(&t, "{\"pid\":");
	put_number(&t, (u64)pid);
	put(&t, ",\"program\":\"");
	put_program(&t);
	put(&t, "\"");
	put_field(&t, "rings", fu_load_relaxed(&c->rings));
	put_field(&t, "sqes", fu_load_relaxed(&c->sqes) + rings.sqes);
	put_field(&t, "cqes", fu_load_relaxed(&c->cqes) + rings.cqes);
	put_field(&t, "inline", fu_load_relaxed(&c->inlined) + rings.inlined);
	put_field(&t, "aio", fu_load_relaxed(&c->aio));
	put_field(&t, "armed", fu_load_relaxed(&c->armed));
	put_field(&t, "worker", fu_load_relaxed(&c->worker));
	put_field(&t, "sqpoll", fu_load_relaxed(&c->sqpoll));
	put_field(&t, "traps", fu_load_relaxed(&c->traps));
	put_field(&t, "patched", fu_load_relaxed(&c->patched));
	put_field(&t, "overflowed", fu_load_relaxed(&c->overflowed));
	put(&t, "}");
	length = t.len;
	while (t.len < LINE_BYTES - 1) {
		t.buf[t.len++] = ' ';
	}
	line[LINE_BYTES - 1] = '\n';
	return length;
}

static void give_up(void)
{
	if (!stats.broken) {
		fu_complain("FAKEURING_STATS: cannot write ", stats.path, NULL);
	}
	stats.broken = true;
}

static long open_with(void *flags, u64 old_limit)
{
	(void)old_limit;
	return fu_sys(SYS_openat, AT_FDCWD, stats.path, *(int *)flags, 0666);
}

/* The program may have used up its descriptors. */
static long open_file(int flags)
{
	long fd = open_with(&flags, 0);

	return fd == -EMFILE ? fu_fds_lifted(open_with, &flags) : fd;
}

/* Appends this process's line and notes where it begins. */
static void reserve(int pid)
{
	char line[LINE_BYTES];
	long fd = open_file(OPEN_FLAGS | O_APPEND | O_CREAT);

	if (fu_is_err(fd)) {
		give_up();
		return;
	}
	stats.offset = STREAM;
	if (fu_sys(SYS_lseek, fd, 0, SEEK_CUR) == 0) {
		format(line, pid);
		if (fu_sys(SYS_write, fd, line, LINE_BYTES) == LINE_BYTES) {
			/* After an appending write the position is the end of what was written. */
			stats.offset = fu_sys(SYS_lseek, fd, 0, SEEK_CUR) - LINE_BYTES;
		} else {
			give_up();
		}
	}
	fu_sys(SYS_close, fd);
	fu_store_release(&stats.pid, pid);
}

static void rewrite(bool at_end)
{
	char line[LINE_BYTES];
	size_t length;
	long fd;

	if (stats.offset == STREAM && !at_end) {
		return;
	}
	fd = open_file(OPEN_FLAGS);
	if (fu_is_err(fd)) {
		return;
	}
	length = format(line, stats.pid);
	if (stats.offset == STREAM) {
		line[length] = '\n';
		fu_sys(SYS_write, fd, line, length + 1);
	} else {
		fu_sys(SYS_pwrite64, fd, line, LINE_BYTES, stats.offset);
	}
	fu_sys(SYS_close, fd);
}

void fu_stats_init(const char *path, const char *execfn)
{
	const char *name;
	size_t len = 0;

	if (!path) {
		return;
	}
	name = last_part(execfn);
	for (size_t i = 0; name[i] && i < sizeof(stats.execfn) - 1; i++) {
		stats.execfn[i] = name[i];
	}
	if (path[0] != '/') {
		long n = fu_sys(SYS_getcwd, stats.path, sizeof(stats.path) - 1);

		if (n > 1) {
			len = (size_t)n - 1;
			stats.path[len++] = '/';
		}
	}
	while (*path && len < sizeof(stats.path) - 1) {
		stats.path[len++] = *path++;
	}
	stats.path[len] = '\0';
	fu_stats_on = true;
}

void fu_stats_fork_child(void)
{
	stats.pid = 0;
	stats.busy = 0;
	stats.touches = 0;
}

/*
 * Takes the writer's place, with the program's signal handlers held back: one that came in between
 * would find its own thread there. What another process holds was held across fork by a thread that
 * is not here.
 */
static bool take_turn(int pid)
{
	int holder = 0;

	if (__atomic_compare_exchange_n(&stats.busy, &holder, pid, false, __ATOMIC_SEQ_CST,
	                                __ATOMIC_SEQ_CST))
		return true;
	return holder != pid && __atomic_compare_exchange_n(&stats.busy, &holder, pid, false,
	                                                    __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
}

static void end_turn(void)
{
	__atomic_store_n(&stats.busy, 0, __ATOMIC_SEQ_CST);
}

/* Who does not get a turn and has something to say leaves that to the holder. */
static void update(int pid, bool force)
{
	do {
		if (force)
			__atomic_store_n(&stats.again, true, __ATOMIC_SEQ_CST);
		if (!take_turn(pid))
			return;
		__atomic_store_n(&stats.again, false, __ATOMIC_SEQ_CST);
		if (stats.pid == pid)
			rewrite(false);
		else
			reserve(pid);
		end_turn();
	} while (__atomic_load_n(&stats.again, __ATOMIC_SEQ_CST));
}

/*
 * The holder will not live to write what he has. If he does not come to an end the line is written
 * beside him, in the same place.
 */
static void update_at_end(int pid)
{
	static const struct timespec nap = { 0, NAP_NS };
	bool turn = take_turn(pid);

	for (int i = 0; !turn && i < PATIENCE_NAPS; i++) {
		fu_sys(SYS_nanosleep, &nap, NULL);
		turn = take_turn(pid);
	}
	rewrite(true);
	if (turn)
		end_turn();
}

/*
 * Is it time to write again? At the first, second, fourth, eighth use and so on: a process that
 * ends by a system call of its own leaves what there was after half of its calls or later.
 */
static bool is_due(u64 now)
{
	u32 n = fu_load_relaxed(&stats.touches) + 1;

	fu_store_relaxed(&stats.touches, n);
	return (n & (n - 1)) == 0 || now - fu_load_relaxed(&stats.last_tick) >= UPDATE_TICKS;
}

void fu_stats_update(enum fu_stats_when when)
{
	bool force = when != FU_STATS_USED;
	u64 now = __builtin_ia32_rdtsc();
	int owner = fu_load_acquire(&stats.pid);
	int pid;

	if (!force && !is_due(now) && owner) {
		return;
	}
	if (stats.broken || (force && !owner)) {
		return;
	}
	pid = (int)fu_sys(SYS_getpid);
	/* A vfork child at its exec or _exit shares this memory with the parent, whose line it is.
	 */
	if (force && pid != owner) {
		return;
	}
	fu_store_relaxed(&stats.last_tick, now);
	fu_critical_enter();
	if (when == FU_STATS_PROCESS_ENDS) {
		update_at_end(pid);
	} else {
		update(pid, force);
	}
	fu_critical_leave();
}
