/*
 * FUTEX_WAIT, FUTEX_WAKE, FUTEX_WAITV.
 *
 * Only a thread can wait for a futex, and the wait has to be in the kernel's queue when
 * the submission returns: whoever wakes the futex next must find it there, in the order
 * of submission. So a waiter thread parks on a word of the engine's own, and the
 * submitter moves it from there to the program's futex with FUTEX_CMP_REQUEUE, which
 * tells whether it did. One waiter serves one request; one that has ended parks again
 * and costs the next request no thread switch.
 *
 * FUTEX_WAITV waits in futex_waitv(2) with a word of the engine's as its last member:
 * that one can be requeued as soon as all before it are queued.
 *
 * A thread that the kernel wakes by mistake goes on waiting at the program's futex itself,
 * behind the others, if the value is still the same, as a FUTEX_WAIT does.
 *
 * The value is compared before and after queueing. If it has changed in between, the
 * waiter is taken back as by a cancellation: interrupted, and if a wake has reached it
 * first, that is passed on to the next in the queue.
 */
#include "engine/futex.h"

#include <errno.h>
#include <linux/futex.h>
#include <time.h>

#include "engine/host.h"
#include "engine/path.h"
#include "engine/registry.h"
#include "engine/thread.h"
#include "rings/mem.h"
#include "rings/sys.h"
#include "rings/user.h"

#define NR_FUTEX_WAITV 449
#define NR_FUTEX_WAKE  454

#define SIZE_MASK  3U
#define SIZE_U32   2U
#define NUMA       4U
#define MPOL       8U
#define PRIVATE    128U
#define KNOWN      (SIZE_MASK | NUMA | MPOL | PRIVATE)
#define ANY        0xffffffffU
#define VECTOR_MAX 128U
#define IDLE_MAX   8U

/* A member of a vector, as futex_waitv(2) has it. */
struct member {
	u64 val;
	u64 uaddr;
	u32 flags;
	u32 reserved;
};

struct futex {
	u64 uaddr;
	u64 val; /* WAKE: how many */
	u64 mask;
	u32 flags; /* FUTEX2_* */
	u32 nr;    /* WAITV: members, in req->async until issued */
	struct waiter *waiter;
	bool dismissed; /* has been cancelled while it waited */
};

/* waiter.word: */
enum {
	PARKED, /* the thread waits on it, or is on its way */
	QUEUED, /* it has been moved to the program's futex */
	LEAVE,
};

struct waiter {
	struct fu_list list; /* idle or spare; lock */
	struct fu_req *req;  /* whose wait this is, NULL: nobody's any more; lock to change */
	u32 word;            /* atomic */
	u32 moved;           /* where a vector's last member is moved to: nobody wakes it */
	u32 out;             /* atomic: a dismissed waiter has left the kernel's queues */
	u8 cancel;           /* ends its system call */
	u32 tid;             /* 0 without a thread; lock to change */
	u64 uaddr, val;      /* written by the submitter before it arms the waiter, as the rest */
	u32 mask, flags;     /* of the wait */
	u32 nr;              /* members of `vector`, the engine's own excluded */
	struct member *vector;
	size_t vector_bytes;
};

static struct {
	struct fu_lock lock; /* innermost, but for the allocator's */
	bool ready;
	struct fu_list idle[2]; /* parked with any mask; by is_private() */
	struct fu_list spare;   /* without a thread */
	u32 nr_idle;
} futexes;

static bool is_private(u32 flags)
{
	return flags & PRIVATE;
}

/* ---- preparation ---- */

static bool flags_valid(u32 flags)
{
	return !(flags & ~KNOWN) && (flags & SIZE_MASK) == SIZE_U32;
}

int fu_futex_prep(struct fu_req *req, const struct fu_sqe *sqe)
{
	struct futex *f = fu_cmd(req, struct futex);

	if (sqe->len || sqe->op_flags || sqe->buf_index || sqe->file_index)
		return -EINVAL;
	*f = (struct futex){
		.uaddr = sqe->addr, .val = sqe->addr2, .mask = sqe->addr3, .flags = (u32)sqe->fd
	};
	if (!flags_valid(f->flags))
		return -EINVAL;
	return f->val >> 32 || f->mask >> 32 ? -EINVAL : 0;
}

int fu_futexv_prep(struct fu_req *req, const struct fu_sqe *sqe)
{
	struct futex *f = fu_cmd(req, struct futex);
	const struct member *m;

	if (fu_host_lacks(IORING_OP_FUTEX_WAITV) || sqe->fd || sqe->buf_index || sqe->file_index ||
	    sqe->addr2 || sqe->op_flags || sqe->addr3)
		return -EINVAL;
	if (!sqe->len || sqe->len > VECTOR_MAX)
		return -EINVAL;
	*f = (struct futex){ .nr = sqe->len, .flags = SIZE_U32 | PRIVATE, .mask = ANY };
	/* One more for the engine's own word. */
	req->async_bytes = (f->nr + 1) * sizeof(*m);
	req->async = fu_alloc(req->async_bytes);
	if (!req->async)
		return -ENOMEM;
	if (fu_copy_from_user(req->async, fu_ptr(sqe->addr), f->nr * sizeof(*m)))
		return -EFAULT;
	m = req->async;
	for (u32 i = 0; i < f->nr; i++) {
		if (!flags_valid(m[i].flags) || m[i].reserved || m[i].val >> 32)
			return -EINVAL;
	}
	return 0;
}

/* ---- waking ---- */

static long wake(u64 uaddr, u32 flags, u32 mask, u32 nr)
{
	long ret = fu_sys(NR_FUTEX_WAKE, uaddr, mask, nr, flags);

	if (ret != -ENOSYS)
		return ret;
	/* Before Linux 6.7, where a count of 0 wakes one. */
	if (!mask)
		return -EINVAL;
	return nr ? fu_sys(SYS_futex, uaddr, FUTEX_WAKE_BITSET | (flags & PRIVATE), nr, 0, 0, mask)
	          : 0;
}

int fu_futex_wake_issue(struct fu_req *req, u32 issue_flags)
{
	const struct futex *f = fu_cmd(req, struct futex);

	(void)issue_flags;
	return fu_sys_result(req, wake(f->uaddr, f->flags, (u32)f->mask, (u32)f->val));
}

/* ---- the thread ---- */

static u32 peek(u64 uaddr, int *err)
{
	u32 value = 0;

	*err = fu_copy_from_user(&value, fu_ptr(uaddr), sizeof(value));
	return value;
}

/*
 * One futex. A stop or a debugger restarts the call, which then finds the engine's word
 * changed: the wait goes on at the program's futex itself.
 */
static long wait_single(struct waiter *w)
{
	/* Of an idle waiter only the other flags change while it is on its way here. */
	u32 op = FUTEX_WAIT_BITSET | (fu_load_relaxed(&w->flags) & PRIVATE);
	long ret = fu_sys_block(&w->cancel, SYS_futex, (long)&w->word, op, PARKED, 0, 0, w->mask);

	while (ret == -EAGAIN && fu_load_acquire(&w->word) == QUEUED) {
		ret = fu_sys_block(&w->cancel, SYS_futex, (long)w->uaddr, op, (long)w->val, 0, 0,
		                   w->mask);
		if (ret == -EAGAIN)
			return 0;
	}
	return ret;
}

/* The first member whose value is no longer what was waited for, or `ret`. */
static long changed_member(const struct waiter *w, long ret)
{
	for (u32 i = 0; i < w->nr; i++) {
		int err;

		if (peek(w->vector[i].uaddr, &err) != w->vector[i].val && !err)
			return i;
	}
	return ret;
}

static long wait_vector(struct waiter *w)
{
	u32 nr = w->nr;
	long ret;

	if (nr < VECTOR_MAX)
		w->vector[nr++] = (struct member){ .val = PARKED,
			                           .uaddr = (u64)(uintptr_t)&w->word,
			                           .flags = SIZE_U32 | PRIVATE };
	ret = fu_sys_block(&w->cancel, NR_FUTEX_WAITV, (long)w->vector, nr, 0, 0, 0, 0);
	if (ret == -EAGAIN && fu_load_acquire(&w->word) == QUEUED)
		ret = changed_member(w, ret);
	return ret;
}

/* Nobody's any more: a wake that it has taken belongs to the next in the queue. */
static void dismissed(struct waiter *w, long ret)
{
	if (ret >= 0 && w->nr && ret < (long)w->nr)
		wake(w->vector[ret].uaddr, w->vector[ret].flags, ANY, 1);
	else if (ret == 0 && !w->nr)
		wake(w->uaddr, w->flags, w->mask, 1);
	fu_store_release(&w->out, 1);
	fu_futex_wake(&w->out, 1);
}

static void complete(struct fu_req *req, long ret)
{
	fu_lock(&req->ctx->lock);
	fu_untrack(req);
	fu_unlock(&req->ctx->lock);
	fu_req_result(req, (s32)ret, 0);
	if (ret < 0)
		fu_req_set_fail(req);
	/* Under submit_lock: a wake that is being submitted to the same ring completes first. */
	fu_req_task_work(req, fu_req_tw_done);
}

/* lock held */
static void to_spare(struct waiter *w)
{
	w->tid = 0;
	fu_list_add_head(&futexes.spare, &w->list);
}

/* Makes the waiter as new. False: it is one too many. */
static bool park_again(struct waiter *w)
{
	bool stay;

	if (w->vector)
		fu_free(w->vector, w->vector_bytes);
	w->vector = NULL;
	w->nr = 0;
	w->mask = ANY;
	fu_store_relaxed(&w->cancel, 0);
	fu_store_release(&w->word, PARKED);
	fu_lock(&futexes.lock);
	stay = futexes.nr_idle < IDLE_MAX && fu_registry_live();
	if (stay) {
		futexes.nr_idle++;
		/* The one that has been parked longest is used first: a late wake-up for a lock
		 * that it has had to wait for may still disturb the one parked last. */
		fu_list_add_tail(&futexes.idle[is_private(w->flags)], &w->list);
	} else {
		to_spare(w);
	}
	fu_unlock(&futexes.lock);
	return stay;
}

static void *waiter_main(void *arg)
{
	struct waiter *w = arg;

	fu_lock(&futexes.lock);
	w->tid = fu_tid();
	fu_unlock(&futexes.lock);
	for (;;) {
		long ret = w->nr ? wait_vector(w) : wait_single(w);
		struct fu_req *req;

		fu_lock(&futexes.lock);
		if (fu_load_acquire(&w->word) == LEAVE) {
			to_spare(w);
			fu_unlock(&futexes.lock);
			return NULL;
		}
		/* Taken under the lock: whoever dismissed it has sent its signal by now, and this
		 * thread's next system call gets over with it. */
		req = fu_load_acquire(&w->req);
		fu_store_release(&w->req, NULL);
		fu_unlock(&futexes.lock);
		if (req)
			complete(req, ret);
		else
			dismissed(w, ret);
		fu_sys(SYS_gettid);
		if (!park_again(w))
			return NULL;
	}
}

/* ---- arming and taking back ---- */

static void init_once(void)
{
	if (futexes.ready)
		return;
	fu_list_init(&futexes.idle[0]);
	fu_list_init(&futexes.idle[1]);
	fu_list_init(&futexes.spare);
	fu_thread_interrupts_init();
	futexes.ready = true;
}

/* A waiter that is parked as this wait has to be, or one that has no thread yet, or NULL. */
static struct waiter *find(const struct futex *f)
{
	struct fu_list *node = NULL;

	fu_lock(&futexes.lock);
	init_once();
	if (!f->nr && f->mask == ANY)
		node = fu_list_pop(&futexes.idle[is_private(f->flags)]);
	if (node)
		futexes.nr_idle--;
	else
		node = fu_list_pop(&futexes.spare);
	fu_unlock(&futexes.lock);
	return node ? fu_list_entry(node, struct waiter, list) : fu_zalloc(sizeof(struct waiter));
}

/* A waiter for the request: parked, or on its way there. NULL and *err. */
static struct waiter *waiter_get(struct fu_req *req, const struct futex *f, int *err)
{
	struct waiter *w = find(f);

	if (!w) {
		*err = -ENOMEM;
		return NULL;
	}
	fu_list_init(&w->list);
	w->uaddr = f->uaddr;
	w->val = f->val;
	fu_store_relaxed(&w->flags, f->flags);
	fu_store_relaxed(&w->out, 0);
	fu_store_release(&w->req, req);
	if (w->tid)
		return w;
	w->mask = (u32)f->mask;
	w->nr = f->nr;
	w->vector = f->nr ? req->async : NULL;
	w->vector_bytes = req->async_bytes;
	fu_store_relaxed(&w->cancel, 0);
	fu_store_release(&w->word, PARKED);
	*err = fu_thread_start(waiter_main, w);
	if (!*err) {
		/* The vector is the thread's now. */
		req->async = NULL;
		return w;
	}
	w->vector = NULL;
	w->req = NULL;
	fu_lock(&futexes.lock);
	to_spare(w);
	fu_unlock(&futexes.lock);
	return NULL;
}

/* Takes the waiter out of the kernel's queues; the request is the caller's. False: too late. */
static bool dismiss(struct waiter *w, const struct fu_req *req)
{
	bool mine;

	fu_lock(&futexes.lock);
	mine = fu_load_acquire(&w->req) == req;
	if (mine) {
		fu_store_release(&w->req, NULL);
		fu_store_release(&w->cancel, 1);
		/* One that has not begun yet looks at the flag first. */
		if (w->tid)
			fu_thread_interrupt(w->tid);
	}
	fu_unlock(&futexes.lock);
	/* A wake that follows this cancellation should not find it any more. */
	for (int i = 0; mine && i < 100 && !fu_load_acquire(&w->out); i++)
		fu_futex_wait(&w->out, 0, 1000000);
	return mine;
}

bool fu_futex_cancel(struct fu_req *req)
{
	struct futex *f = fu_cmd(req, struct futex);

	f->dismissed = f->waiter && dismiss(f->waiter, req);
	return f->dismissed;
}

void fu_futex_fail(struct fu_req *req)
{
	if (fu_cmd(req, struct futex)->dismissed)
		fu_req_unset_fail(req);
}

/* Gives the other thread time to get where it is expected. */
static void pause_a_little(u32 round)
{
	struct timespec ts = { .tv_nsec = 20000 };

	if (round < 8)
		fu_sys(SYS_sched_yield);
	else
		fu_sys(SYS_nanosleep, &ts, 0);
}

/* Moves one thread that waits on `word` to `uaddr`. How many it found, or -errno. */
static long requeue(u32 *word, u64 uaddr, u32 flags)
{
	return fu_sys(SYS_futex, word, FUTEX_CMP_REQUEUE | (flags & PRIVATE), 0, 1, uaddr, PARKED);
}

/*
 * Waits until the waiter is in the kernel's queue, or has come back from there. 0 or -errno:
 * then the wait is not possible.
 */
static long queue(struct waiter *w, const struct fu_req *req, const struct futex *f)
{
	u64 to = f->nr ? (u64)(uintptr_t)&w->moved : f->uaddr;
	u32 flags = f->nr ? SIZE_U32 | PRIVATE : f->flags;

	for (u32 round = 0; fu_load_acquire(&w->req) == req; round++) {
		long ret = requeue(&w->word, to, flags);

		if (ret > 0)
			break;
		if (ret < 0 && ret != -EAGAIN)
			return ret;
		/* A full vector has no place for the word: all that can be done is to wait. */
		if (f->nr == VECTOR_MAX && round == 64)
			break;
		pause_a_little(round);
	}
	fu_store_release(&w->word, QUEUED);
	return 0;
}

/* Whether the futexes have their values: 0, -EAGAIN, -EFAULT or -EINVAL. */
static long check_values(const struct futex *f, const struct member *m)
{
	struct member one = { .uaddr = f->uaddr, .val = f->val };
	u32 nr = f->nr;

	if (!nr) {
		m = &one;
		nr = 1;
	}
	for (u32 i = 0; i < nr; i++) {
		int err;

		if (m[i].uaddr % sizeof(u32))
			return -EINVAL;
		if (peek(m[i].uaddr, &err) != m[i].val && !err)
			return -EAGAIN;
		if (err)
			return err;
	}
	return 0;
}

/* ctx->lock held, so that nobody cancels the request before it can be. */
static long arm(struct fu_req *req, struct futex *f)
{
	struct waiter *w;
	long ret = 0;
	int err;

	if (fu_load_acquire(&req->cancelled))
		return -ECANCELED;
	w = waiter_get(req, f, &err);
	if (!w)
		return err;
	f->waiter = w;
	fu_track(req, FU_AT_OP);
	ret = queue(w, req, f);
	if (!ret && !f->nr)
		ret = check_values(f, NULL);
	if (!ret)
		return 0;
	/* Woken already: then it is its waiter's to complete. */
	if (!dismiss(w, req))
		return 0;
	fu_untrack(req);
	return ret;
}

static int wait_issue(struct fu_req *req)
{
	struct futex *f = fu_cmd(req, struct futex);
	long ret = check_values(f, req->async);

	if (!ret) {
		fu_lock(&req->ctx->lock);
		ret = arm(req, f);
		fu_unlock(&req->ctx->lock);
		if (!ret)
			return FU_TAKEN;
	}
	if (ret != -EAGAIN)
		return (int)ret;
	/* The value is not the expected one: a result, not a reason to wait. */
	fu_req_set_fail(req);
	fu_req_result(req, -EAGAIN, 0);
	return FU_DONE;
}

/* A futex with a memory node cannot be requeued to: it becomes a vector of one. */
static int make_vector(struct fu_req *req, struct futex *f)
{
	struct member *m;

	/* The vector has no mask. */
	if (f->mask != ANY)
		return -EINVAL;
	req->async_bytes = 2 * sizeof(*m);
	m = req->async = fu_alloc(req->async_bytes);
	if (!m)
		return -ENOMEM;
	*m = (struct member){ .val = f->val, .uaddr = f->uaddr, .flags = f->flags };
	f->flags = SIZE_U32 | PRIVATE;
	f->nr = 1;
	return 0;
}

int fu_futex_wait_issue(struct fu_req *req, u32 issue_flags)
{
	struct futex *f = fu_cmd(req, struct futex);
	int ret = f->mask ? 0 : -EINVAL;

	(void)issue_flags;
	if (!ret && (f->flags & (NUMA | MPOL)))
		ret = make_vector(req, f);
	return ret ? ret : wait_issue(req);
}

int fu_futexv_issue(struct fu_req *req, u32 issue_flags)
{
	(void)issue_flags;
	return wait_issue(req);
}

/* ---- the process ---- */

void fu_futex_idle(void)
{
	struct fu_list *node;

	if (!fu_load_relaxed(&futexes.ready))
		return;
	fu_lock(&futexes.lock);
	for (u32 i = 0; i < 2; i++) {
		while ((node = fu_list_pop(&futexes.idle[i]))) {
			struct waiter *w = fu_list_entry(node, struct waiter, list);

			fu_list_init(&w->list);
			fu_store_release(&w->word, LEAVE);
			fu_sys(SYS_futex, &w->word, FUTEX_WAKE | (i ? PRIVATE : 0), 1, 0, 0, 0);
		}
	}
	futexes.nr_idle = 0;
	fu_unlock(&futexes.lock);
}

void fu_futex_reset(void)
{
	fu_memset(&futexes, 0, sizeof(futexes));
}
