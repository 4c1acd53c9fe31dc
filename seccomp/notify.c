/*
 * User notification. A trapped thread is stopped in the kernel until somebody who
 * holds the listener answers. The work has to be done in its process, with its
 * memory and descriptors, so threads of our own in the same process do it:
 *
 *   - one dispatcher receives notifications and hands each to
 *   - the proxy of the stopped thread, one for each thread that ever trapped, so
 *     that the engine sees a consistent identity (SINGLE_ISSUER, registered ring
 *     descriptors), and a call that blocks holds up nobody else;
 *   - while proxies are at work the dispatcher looks now and then at their callers.
 *     From Linux 5.19 on a stopped thread takes no signal before it has its answer,
 *     so one that is pending for it interrupts its proxy's call like any other wait
 *     (EINTR), and is taken then. Before, the kernel itself ends the call with EINTR,
 *     even one that only submits; the proxy of a caller that has gone is interrupted.
 *
 * A task can have one listener for life, and a forked child shares its parent's:
 * in the child we install the SIGSYS trap over the same addresses, which wins over
 * a notification. What another filter denies never becomes a notification at all;
 * a throw-away child process finds out before we commit ourselves.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include "engine/counters.h"
#include "engine/engine.h"
#include "engine/entry.h"
#include "engine/thread.h"
#include "rings/fds.h"
#include "rings/lock.h"
#include "rings/sys.h"
#include "rings/text.h"
#include "seccomp/dispatch.h"
#include "seccomp/notify.h"

#define IOCTL_NOTIF_RECV     0xc0502100UL
#define IOCTL_NOTIF_SEND     0xc0182101UL
#define IOCTL_NOTIF_ID_VALID 0x40082102UL

#define PROXIES_MAX   256
#define LOOK_MS       10   /* how long a caller's signal may go unnoticed */
#define PROBE_MS      2000 /* for the throw-away child; it takes well under one */
#define ANSWER_SERVED 0

enum proxy_state {
	PROXY_FREE,    /* no caller: may be given to a new thread */
	PROXY_IDLE,    /* waits on the state word for its caller's next call */
	PROXY_WORKING, /* does a call; the dispatcher watches */
};

static struct proxy {
	u32 state;                /* enum proxy_state; futex */
	u32 caller;               /* tid it stands for; written by the dispatcher */
	u32 self;                 /* its own tid, written once by itself */
	struct seccomp_notif req; /* written by the dispatcher while idle, read by the proxy */
} proxies[PROXIES_MAX];

static int listener = -1;
static bool forked;   /* the filters' listener is the parent's, and there can be no other */
static u32 n_working; /* proxies at work */

static long answer(u64 id, long ret)
{
	struct seccomp_notif_resp resp = { .id = id };

	if (fu_is_err(ret)) {
		resp.error = (s32)ret;
	} else {
		resp.val = ret;
	}
	return fu_sys(SYS_ioctl, listener, IOCTL_NOTIF_SEND, &resp);
}

/* Does what the stopped thread asked for, in its place. Returns the answer. */
static long serve(const struct seccomp_notif *req)
{
	long args[6], ret;

	for (int i = 0; i < 6; i++) {
		args[i] = (long)req->data.args[i];
	}
	FU_COUNT(traps, 1);
	if (!fu_dispatch(req->data.nr, args, &ret)) {
		ret = fu_sys(req->data.nr, args[0], args[1], args[2], args[3], args[4], args[5]);
	}
	return ret;
}

/* Sleeps until the dispatcher has a call for it. False: the program has no thread any more. */
static bool await_call(struct proxy *p)
{
	s64 patience = FU_ALONE_NS;

	while (fu_load_acquire(&p->state) != PROXY_WORKING) {
		if (fu_futex_wait(&p->state, PROXY_IDLE, patience) != -ETIMEDOUT) {
			continue;
		}
		if (fu_threads_alone()) {
			return false;
		}
		patience = fu_alone_next(patience);
	}
	return true;
}

static void *proxy_main(void *arg)
{
	struct proxy *p = arg;

	/* To the engine this is a thread of the program: the one it stands for. */
	fu_store_relaxed(&p->self, fu_tid_number(fu_tid()));
	while (await_call(p)) {
		u64 id = p->req.id;
		long ret = serve(&p->req);

		/*
		 * Idle before the answer: with it the caller goes on, and its next call has to
		 * find this proxy and no other. From here on p->req is the dispatcher's.
		 */
		__atomic_fetch_sub(&n_working, 1, __ATOMIC_RELEASE);
		fu_store_release(&p->state, PROXY_IDLE);
		answer(id, ret);
	}
	return NULL;
}

static bool thread_is_gone(u32 tid)
{
	return fu_sys(SYS_tkill, tid, 0) == -ESRCH;
}

/* The proxy of `caller`, made or inherited from a thread that is gone; NULL if there can be none.
 */
static struct proxy *proxy_of(u32 caller)
{
	struct proxy *spare = NULL;

	for (size_t i = 0; i < PROXIES_MAX; i++) {
		struct proxy *p = &proxies[i];
		u32 state = fu_load_acquire(&p->state);

		if (state == PROXY_IDLE && p->caller == caller) {
			return p;
		}
		if (!spare &&
		    (state == PROXY_FREE || (state == PROXY_IDLE && thread_is_gone(p->caller)))) {
			spare = p;
		}
		if (state == PROXY_FREE) {
			break;
		}
	}
	if (spare && spare->state == PROXY_FREE) {
		spare->state = PROXY_IDLE;
		if (fu_thread_start(proxy_main, spare) < 0) {
			spare->state = PROXY_FREE;
			return NULL;
		}
	}
	if (spare) {
		spare->caller = caller;
	}
	return spare;
}

static void hand_over(const struct seccomp_notif *req)
{
	struct proxy *p = proxy_of(req->pid);

	if (!p) {
		answer(req->id, -EAGAIN);
		return;
	}
	p->req = *req;
	__atomic_fetch_add(&n_working, 1, __ATOMIC_RELAXED);
	fu_store_release(&p->state, PROXY_WORKING);
	fu_futex_wake(&p->state, 1);
}

/* The hexadecimal number behind `key` in the text of /proc/.../status. */
static u64 status_mask(const char *text, const char *key)
{
	for (; *text; text++) {
		size_t n = 0;
		u64 v = 0;

		while (key[n] && text[n] == key[n]) {
			n++;
		}
		if (key[n]) {
			continue;
		}
		for (text += n; *text && *text != '\n'; text++) {
			if (*text >= '0' && *text <= '9') {
				v = v << 4 | (u64)(*text - '0');
			} else if (*text >= 'a' && *text <= 'f') {
				v = v << 4 | (u64)(*text - 'a' + 10);
			}
		}
		return v;
	}
	return 0;
}

/* Does a signal wait for thread `tid` to get its answer? */
static bool has_signal(u32 tid)
{
	char path[64] = "/proc/self/task/", text[4096];
	size_t len = sizeof("/proc/self/task/") - 1;
	long fd, bytes;

	len += fu_decimal(path + len, tid);
	for (const char *s = "/status"; *s; s++) {
		path[len++] = *s;
	}
	fd = fu_sys(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC);
	if (fd < 0) {
		return false;
	}
	bytes = fu_sys(SYS_read, fd, text, sizeof(text) - 1);
	fu_sys(SYS_close, fd);
	text[bytes > 0 ? bytes : 0] = '\0';
	return (status_mask(text, "SigPnd:") | status_mask(text, "ShdPnd:")) &
	       ~status_mask(text, "SigBlk:");
}

/* Interrupts each proxy whose caller has stopped waiting, or should. */
static void look_after(void)
{
	for (size_t i = 0; i < PROXIES_MAX; i++) {
		struct proxy *p = &proxies[i];
		u64 id = p->req.id;

		if (fu_load_acquire(&p->state) != PROXY_WORKING || !fu_load_relaxed(&p->self)) {
			continue;
		}
		if (fu_sys(SYS_ioctl, listener, IOCTL_NOTIF_ID_VALID, &id) != -ENOENT &&
		    !has_signal(p->caller)) {
			continue;
		}
		/* Nobody but this thread gives it another call: still working is still that one. */
		if (fu_load_acquire(&p->state) == PROXY_WORKING) {
			fu_sys(SYS_tgkill, fu_sys(SYS_getpid), p->self, SIGSYS);
		}
	}
}

static void *dispatcher_main(void *arg)
{
	s64 patience = FU_ALONE_NS;

	(void)arg;
	for (;;) {
		struct pollfd fd = { .fd = listener, .events = POLLIN };
		struct seccomp_notif req = { 0 };
		bool watches = fu_load_acquire(&n_working);
		long n = fu_sys(SYS_poll, &fd, 1, watches ? LOOK_MS : patience / 1000000);

		if (n == 0 && watches) {
			look_after();
			continue;
		}
		if (n == 0) {
			if (fu_threads_alone()) {
				return NULL;
			}
			patience = fu_alone_next(patience);
			continue;
		}
		if (fu_sys(SYS_ioctl, listener, IOCTL_NOTIF_RECV, &req) == 0) {
			hand_over(&req);
		}
	}
	return NULL;
}

/* The one `syscall` that the probe's filter covers; returns what it returns. */
long fu_notify_probe_call(void);
extern const char fu_notify_probe_ip[];
__asm__(".text\n"
        ".hidden fu_notify_probe_call, fu_notify_probe_ip\n"
        ".globl fu_notify_probe_call, fu_notify_probe_ip\n"
        ".type fu_notify_probe_call, @function\n"
        "fu_notify_probe_call:\n"
        "	movl $425, %eax\n"
        "	xorl %edi, %edi\n"
        "	xorl %esi, %esi\n"
        "	syscall\n"
        "fu_notify_probe_ip:\n"
        "	ret\n"
        ".size fu_notify_probe_call, .-fu_notify_probe_call\n");

/*
 * In the throw-away child: installs the filter, and lets a child of its own make
 * the call. Exits with an errno if the filter cannot be had, ANSWER_SERVED if the
 * notification came, and EPERM if the call came back without one.
 */
static void probe_child(void)
{
	u64 ip = (u64)(uintptr_t)fu_notify_probe_ip;
	struct fu_range range = { ip, ip + 1 };
	long fd = fu_filter_install(FU_FILTER_NOTIFY, &range, 1);
	struct pollfd wait = { .fd = (int)fd, .events = POLLIN };
	long pid;

	if (fd < 0) {
		fu_sys(SYS_exit_group, -fd);
	}
	pid = fu_sys(SYS_clone, SIGCHLD, 0, 0, 0, 0);
	if (pid == 0) {
		fu_notify_probe_call();
		fu_sys(SYS_exit_group, 0);
	}
	for (int ms = 0; ms < PROBE_MS; ms++) {
		if (fu_sys(SYS_poll, &wait, 1, 1) > 0 && (wait.revents & POLLIN)) {
			fu_sys(SYS_kill, pid, SIGKILL);
			fu_sys(SYS_exit_group, ANSWER_SERVED);
		}
		if (fu_sys(SYS_wait4, pid, NULL, WNOHANG, NULL) == pid) {
			fu_sys(SYS_exit_group, EPERM);
		}
	}
	fu_sys(SYS_kill, pid, SIGKILL);
	fu_sys(SYS_exit_group, EPERM);
}

/* 0 if notifications will arrive, else -errno. */
static long probe(void)
{
	int status = 0;
	long pid;

	/* No exit signal: the program's SIGCHLD handler hears nothing of it. */
	pid = fu_sys(SYS_clone, 0, 0, 0, 0, 0);
	if (pid < 0) {
		return pid;
	}
	if (pid == 0) {
		probe_child();
	}
	if (fu_sys(SYS_wait4, pid, &status, __WALL, NULL) != pid || !WIFEXITED(status)) {
		return -ECHILD;
	}
	return -WEXITSTATUS(status);
}

long fu_notify_install(const struct fu_range *ranges, size_t n)
{
	long ret;

	if (listener >= 0 || forked) {
		/* One listener for life: objects that come later are trapped with SIGSYS. */
		return fu_filter_install(FU_FILTER_TRAP, ranges, n);
	}
	ret = probe();
	if (ret < 0) {
		return ret;
	}
	ret = fu_filter_install(FU_FILTER_NOTIFY, ranges, n);
	if (ret < 0) {
		return ret;
	}
	fu_fds_init();
	listener = fu_fd_high((int)ret);
	return fu_thread_start(dispatcher_main, NULL);
}

bool fu_notify_active(void)
{
	return fu_load_relaxed(&listener) >= 0;
}

void fu_notify_fork_child(void)
{
	if (listener < 0) {
		return;
	}
	fu_fd_close(listener);
	listener = -1;
	forked = true;
	fu_filter_reinstall_trap();
}
