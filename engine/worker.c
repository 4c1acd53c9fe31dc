/*
 * The workers: threads that run what cannot be done without blocking and cannot be
 * polled for. Two classes as in the kernel's io-wq: bounded work (regular files,
 * block devices: ends by itself) on few threads, unbounded work (anything that may
 * wait for somebody else) on as many as the user may have. A worker is started
 * when work arrives, none is idle and none is on the way, and leaves after some seconds
 * without work or when the process's last ring has gone.
 *
 * Requests with the same hash key (writes to one file) run one after the other, in
 * the order in which they came; and as long as there are any, no later one is done at once. So do
 * those that never wait: where the kernel has one worker do the next as long as that does not
 * sleep, the order of their completions is that of their submission.
 */
#include "engine/engine.h"

#include <errno.h>
#include <sched.h>
#include <sys/resource.h>

#include "engine/registry.h"
#include "engine/thread.h"
#include "rings/mem.h"
#include "rings/sys.h"

#define IDLE_NS       5000000000LL
#define UNBOUNDED_MAX 32768U
#define KEY_BUCKETS   64U

/* All that is brief has one key, and a bucket of its own. */
#define KEY_BRIEF    1U
#define BUCKET_BRIEF (KEY_BUCKETS - 1)

enum { STATE_NONE, STATE_QUEUED, STATE_RUNNING };

struct class
{
	struct fu_list queue;
	u32 unkeyed;            /* queued requests without a key... */
	u32 keyed[KEY_BUCKETS]; /* ... and with one */
	u64 queued_keys;        /* a bit for each of these that is not 0 */
	u32 workers, idle, max;
	u32 called;   /* idle ones that have been woken and are on their way, not in `idle` */
	u32 starting; /* new ones that are */
	u64 extra; /* the limits of tasks that have their own; their share comes on top of `max` */
	u32 wake;  /* futex: bumped to wake one idle worker */
};

/* Whose limits are their own: what is beyond them is held back here, in order. */
struct task {
	u32 max[2]; /* 0: no limit */
	u32 admitted[2];
	struct fu_list held[2];
};

static struct {
	struct fu_lock lock; /* guards all below */
	bool ready;
	struct class classes[2]; /* IO_WQ_BOUND, IO_WQ_UNBOUND */
	u64 running_keys;        /* one bit for each key that a worker is at */
	u32 keyed[KEY_BUCKETS];  /* requests queued or running, by key; read without the lock too */
	cpu_set_t affinity, all; /* where workers may run; where the process could at first */
	u32 affinity_seq;        /* changes of affinity, 0 for none */
	u32 nr_tasks;            /* above all of the following that anything was done with */
	struct task tasks[FU_TASKS];
} pool;

static void pool_init(void)
{
	struct rlimit lim;
	cpu_set_t cpus;
	long bytes = fu_sys(SYS_sched_getaffinity, 0, sizeof(cpus), &cpus);
	u32 n = bytes > 0 ? fu_cpu_count(&cpus, (size_t)bytes) : 1;

	if (bytes > 0)
		fu_memcpy(&pool.all, &cpus, (size_t)bytes);
	for (int i = 0; i < 2; i++)
		fu_list_init(&pool.classes[i].queue);
	pool.classes[IO_WQ_BOUND].max = 4 * (n ? n : 1);
	pool.classes[IO_WQ_UNBOUND].max = UNBOUNDED_MAX;
	if (fu_sys(SYS_prlimit64, 0, RLIMIT_NPROC, 0, &lim) == 0 && lim.rlim_cur < UNBOUNDED_MAX)
		pool.classes[IO_WQ_UNBOUND].max = lim.rlim_cur ? (u32)lim.rlim_cur : 1;
	fu_thread_interrupts_init();
	pool.ready = true;
}

static u32 key_of(const struct fu_req *req)
{
	return (req->sqe_fd * 2 + !!(req->flags & FU_REQ_FIXED_FILE)) | 1U << 31;
}

static u32 bucket_of(u32 key)
{
	return key == KEY_BRIEF ? BUCKET_BRIEF : key % BUCKET_BRIEF;
}

static u64 key_bit(u32 key)
{
	return key ? 1ULL << bucket_of(key) : 0;
}

/* One more (1) or less (-1) with the key. lock held. */
static void count_key(u32 key, s32 n)
{
	u32 *count = &pool.keyed[bucket_of(key)];

	if (key)
		fu_store_release(count, *count + (u32)n);
}

bool fu_pool_has_key(const struct fu_req *req)
{
	return fu_load_acquire(&pool.keyed[bucket_of(key_of(req))]) != 0;
}

/* lock held */
static void enqueue(struct class *c, struct fu_req *req)
{
	u64 bit = key_bit(req->hash_key);

	fu_list_add_tail(&c->queue, &req->queue);
	c->unkeyed += !bit;
	if (bit && !c->keyed[bucket_of(req->hash_key)]++)
		c->queued_keys |= bit;
}

/* lock held */
static void dequeue(struct class *c, struct fu_req *req)
{
	u64 bit = key_bit(req->hash_key);

	fu_list_del(&req->queue);
	c->unkeyed -= !bit;
	if (bit && !--c->keyed[bucket_of(req->hash_key)])
		c->queued_keys &= ~bit;
}

/* Whether a request is queued that may run now. lock held. */
static bool has_work(const struct class *c)
{
	return c->unkeyed || (c->queued_keys & ~pool.running_keys);
}

/* The next request that may run now, marked as running. lock held. */
static struct fu_req *pick(struct class *c)
{
	if (!has_work(c))
		return NULL;
	fu_list_for_each(node, &c->queue)
	{
		struct fu_req *req = fu_list_entry(node, struct fu_req, queue);

		if (pool.running_keys & key_bit(req->hash_key))
			continue;
		dequeue(c, req);
		pool.running_keys |= key_bit(req->hash_key);
		req->worker_state = STATE_RUNNING;
		req->worker_tid = fu_tid();
		return req;
	}
	return NULL;
}

/* Sleeps until there may be work. False: leave. lock held, dropped while asleep. */
static bool wait_for_work(struct class *c)
{
	u32 seq = c->wake;
	long ret = 0;

	if (!fu_registry_live())
		return false;
	c->idle++;
	fu_unlock(&pool.lock);
	for (s64 left = IDLE_NS; left > 0; left -= FU_ALONE_NS) {
		ret = fu_futex_wait(&c->wake, seq, FU_ALONE_NS);
		if (ret != -ETIMEDOUT || fu_threads_alone())
			break;
	}
	fu_lock(&pool.lock);
	/* Any of the sleepers may be the one that was meant. */
	if (c->called)
		c->called--;
	else
		c->idle--;
	return ret != -ETIMEDOUT || c->wake != seq || !fu_list_empty(&c->queue);
}

static void wake_one(struct class *c)
{
	c->idle--;
	c->called++;
	c->wake++;
	fu_futex_wake(&c->wake, 1);
}

static void *worker_main(void *arg);

/*
 * Has somebody come, if there is a request that may run. One at a time is on the way: when that one
 * has its request and there are more, it calls the next. Where requests are done faster than
 * threads wake up, few are called for many; where they wait, all that there is need for. 0, or
 * -errno if there is nobody. lock held.
 */
static int provide(struct class *c)
{
	int ret;

	if (c->called || c->starting || !has_work(c))
		return 0;
	if (c->idle) {
		wake_one(c);
		return 0;
	}
	if (c->workers >= c->max + c->extra)
		return 0;
	c->workers++;
	c->starting++;
	ret = fu_thread_start(worker_main, c);
	if (ret) {
		c->workers--;
		c->starting--;
	}
	/* Those that exist will get to it. */
	return c->workers ? 0 : ret;
}

static u32 class_of(const struct fu_req *req)
{
	return req->bounded ? IO_WQ_BOUND : IO_WQ_UNBOUND;
}

/* lock held */
static struct task *task_at(u32 task)
{
	if (task >= pool.nr_tasks)
		pool.nr_tasks = task + 1;
	return &pool.tasks[task];
}

static bool has_room(const struct task *t, u32 which)
{
	return !t->max[which] || t->admitted[which] < t->max[which];
}

static void admit(struct task *t, struct fu_req *req)
{
	u32 which = class_of(req);

	t->admitted[which]++;
	req->admitted = 1;
	enqueue(&pool.classes[which], req);
}

/* Admits what now may run. The caller provides for it. lock held. */
static void admit_held(struct task *t, u32 which)
{
	while (t->held[which].next && !fu_list_empty(&t->held[which]) && has_room(t, which)) {
		struct fu_req *req = fu_list_entry(t->held[which].next, struct fu_req, queue);

		fu_list_del(&req->queue);
		admit(t, req);
	}
}

static void *worker_main(void *arg)
{
	struct class *c = arg;
	u32 affinity_seq = 0;

	fu_self.in_worker = 1;
	fu_thread_name("iou-wrk-");
	fu_lock(&pool.lock);
	c->starting--;
	for (;;) {
		struct fu_req *req = pick(c);

		if (fu_unlikely(affinity_seq != pool.affinity_seq)) {
			affinity_seq = pool.affinity_seq;
			fu_sys(SYS_sched_setaffinity, 0, sizeof(pool.affinity), &pool.affinity);
		}

		if (req) {
			struct task *t = &pool.tasks[req->task];
			u32 key = req->hash_key, which = class_of(req);

			req->admitted = 0;
			provide(c);
			fu_unlock(&pool.lock);
			fu_req_run_on_worker(req);
			fu_lock(&pool.lock);
			pool.running_keys &= ~key_bit(key);
			count_key(key, -1);
			t->admitted[which]--;
			admit_held(t, which);
		} else if (!wait_for_work(c)) {
			break;
		}
	}
	c->workers--;
	fu_unlock(&pool.lock);
	return NULL;
}

/* lock held */
static void unqueue(struct fu_req *req)
{
	struct task *t = &pool.tasks[req->task];
	u32 which = class_of(req);

	count_key(req->hash_key, -1);
	if (!req->admitted) {
		fu_list_del(&req->queue);
		return;
	}
	dequeue(&pool.classes[which], req);
	req->admitted = 0;
	t->admitted[which]--;
	admit_held(t, which);
	provide(&pool.classes[which]);
}

int fu_pool_queue(struct fu_req *req)
{
	struct fu_ctx *ctx = req->ctx;
	/* A file that cannot be polled ends what it began; what is no file has no such end. */
	bool bounded = !req->op->unbounded || (req->op->needs_file && (req->flags & FU_REQ_NO_ARM));
	struct task *t;
	int ret = 0;

	fu_lock(&ctx->lock);
	fu_track(req, FU_AT_WORKER);
	fu_lock(&pool.lock);
	/* Known since it is tracked. */
	t = task_at(req->task);
	if (!pool.ready)
		pool_init();
	if (req->op->hash_reg && bounded && !req->hash_key)
		req->hash_key = key_of(req);
	if (req->op->brief && bounded)
		req->hash_key = KEY_BRIEF;
	req->bounded = bounded;
	req->worker_state = STATE_QUEUED;
	count_key(req->hash_key, 1);
	if (has_room(t, class_of(req))) {
		admit(t, req);
		ret = provide(&pool.classes[class_of(req)]);
		if (ret)
			unqueue(req);
	} else {
		fu_list_add_tail(&t->held[class_of(req)], &req->queue);
	}
	fu_unlock(&pool.lock);
	if (ret)
		fu_untrack(req);
	fu_unlock(&ctx->lock);
	if (!ret)
		FU_COUNT(worker, 1);
	return ret;
}

int fu_pool_take(struct fu_req *req)
{
	int ret = FU_TAKE_OK;

	fu_lock(&pool.lock);
	if (req->worker_state == STATE_QUEUED) {
		unqueue(req);
	} else {
		fu_store_release(&req->cancelled, 1);
		fu_thread_interrupt(req->worker_tid);
		ret = FU_TAKE_BUSY;
	}
	fu_unlock(&pool.lock);
	return ret;
}

void fu_pool_idle(void)
{
	if (!fu_load_relaxed(&pool.ready))
		return;
	fu_lock(&pool.lock);
	for (int i = 0; i < 2; i++) {
		pool.classes[i].wake++;
		fu_futex_wake(&pool.classes[i].wake, INT32_MAX);
	}
	fu_unlock(&pool.lock);
}

void fu_pool_reset(void)
{
	u32 max[2] = { pool.classes[0].max, pool.classes[1].max };
	bool ready = pool.ready;

	pool.lock.word = 0;
	pool.running_keys = 0;
	fu_memset(pool.keyed, 0, sizeof(pool.keyed));
	fu_memset(pool.classes, 0, sizeof(pool.classes));
	/* Every page that a child writes to is copied for it: no more than there is need for. */
	fu_memset(pool.tasks, 0, pool.nr_tasks * sizeof(pool.tasks[0]));
	pool.nr_tasks = 0;
	for (int i = 0; i < 2; i++) {
		fu_list_init(&pool.classes[i].queue);
		pool.classes[i].max = max[i];
	}
	pool.ready = ready;
}

void fu_pool_limit(u32 task, u32 which, u32 max)
{
	struct class *c = &pool.classes[which];
	struct task *t;

	fu_lock(&pool.lock);
	t = task_at(task);
	if (t->max[which] == max) {
		fu_unlock(&pool.lock);
		return;
	}
	if (!pool.ready)
		pool_init();
	if (!t->held[which].next)
		fu_list_init(&t->held[which]);
	c->extra = c->extra - t->max[which] + max;
	t->max[which] = max;
	admit_held(t, which);
	provide(c);
	fu_unlock(&pool.lock);
}

void fu_pool_affinity(const void *mask, size_t bytes)
{
	fu_lock(&pool.lock);
	if (!pool.ready)
		pool_init();
	fu_memset(&pool.affinity, 0, sizeof(pool.affinity));
	if (bytes > sizeof(pool.affinity))
		bytes = sizeof(pool.affinity);
	fu_memcpy(&pool.affinity, mask ? mask : &pool.all, mask ? bytes : sizeof(pool.all));
	pool.affinity_seq++;
	/* Idle workers move at once. */
	for (int i = 0; i < 2; i++) {
		pool.classes[i].wake++;
		fu_futex_wake(&pool.classes[i].wake, INT32_MAX);
	}
	fu_unlock(&pool.lock);
}
