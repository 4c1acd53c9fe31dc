/*
 * Limits and processors of the workers. As in the kernel, limits belong to the thread that
 * submits (with SQPOLL, to that thread). A ring keeps what was registered through it: each such
 * call, also one that only reads, applies that to all who have submitted to the ring, and the
 * first ring that a thread submits to gives it its limits. The processors are one set for all
 * workers of the process.
 */
#include "engine/register.h"

#include <errno.h>
#include <sched.h>
#include <sys/resource.h>

#include "engine/leaving.h"
#include "engine/registry.h"
#include "engine/thread.h"
#include "rings/mem.h"
#include "rings/sys.h"
#include "rings/user.h"

static struct {
	struct fu_lock lock; /* before the pool's */
	u64 used[FU_TASKS / 64];
	u32 limits[FU_TASKS][2]; /* of those that are used */
} tasks;

static u32 most_processes(void)
{
	struct rlimit lim;

	if (fu_sys(SYS_prlimit64, 0, RLIMIT_NPROC, 0, &lim) == 0 && lim.rlim_cur < INT32_MAX)
		return (u32)lim.rlim_cur;
	return INT32_MAX;
}

/* A place with the limits that a thread begins with; 0 if there is none left. lock held. */
static u32 take_place(u32 sq_entries)
{
	cpu_set_t cpus;
	long bytes;
	u32 n, task = 1;

	while (task < FU_TASKS && tasks.used[task / 64] & 1ULL << (task % 64))
		task++;
	if (task == FU_TASKS)
		return 0;
	tasks.used[task / 64] |= 1ULL << (task % 64);
	bytes = fu_sys(SYS_sched_getaffinity, 0, sizeof(cpus), &cpus);
	n = bytes > 0 ? 4 * fu_cpu_count(&cpus, (size_t)bytes) : 4;
	tasks.limits[task][IO_WQ_BOUND] = sq_entries < n ? sq_entries : n;
	tasks.limits[task][IO_WQ_UNBOUND] = most_processes();
	return task;
}

static void give_back(u32 task)
{
	fu_lock(&tasks.lock);
	for (u32 i = 0; i < 2; i++)
		fu_pool_limit(task, i, 0);
	tasks.used[task / 64] &= ~(1ULL << (task % 64));
	fu_unlock(&tasks.lock);
}

/* Sets those of the limits that are not 0. lock held. */
static void apply(u32 task, const u32 wanted[2])
{
	for (u32 i = 0; i < 2; i++) {
		u32 most = wanted[i] ? most_processes() : 0;
		u32 max = wanted[i] < most ? wanted[i] : most;

		if (!max)
			continue;
		tasks.limits[task][i] = max;
		fu_pool_limit(task, i, max);
	}
}

void fu_wq_join(struct fu_ctx *ctx)
{
	u32 task;

	fu_tid();
	task = fu_self.task;
	if (task && fu_load_relaxed(&ctx->tasks[task / 64]) & 1ULL << (task % 64)) {
		fu_store_relaxed(&ctx->last_task, (u16)task);
		return;
	}
	fu_lock(&tasks.lock);
	if (!task) {
		task = take_place(ctx->ring.sq_entries);
		if (task)
			apply(task, ctx->wq_limits);
		fu_self.task = (u16)task;
	}
	if (task) {
		__atomic_fetch_or(&ctx->tasks[task / 64], 1ULL << (task % 64), __ATOMIC_RELAXED);
		fu_store_relaxed(&ctx->last_task, (u16)task);
	}
	fu_unlock(&tasks.lock);
	fu_leaving_watch();
}

void fu_wq_join_sqpoll(struct fu_ctx *ctx)
{
	fu_lock(&tasks.lock);
	ctx->sq_task = (u16)take_place(ctx->ring.sq_entries);
	fu_unlock(&tasks.lock);
}

void fu_wq_leave_sqpoll(struct fu_ctx *ctx)
{
	if (ctx->sq_task)
		give_back(ctx->sq_task);
	ctx->sq_task = 0;
}

static void leave_ring(struct fu_ctx *ctx)
{
	u32 task = fu_self.task;
	u16 last = (u16)task;

	__atomic_compare_exchange_n(&ctx->last_task, &last, FU_TASKS, false, __ATOMIC_RELAXED,
	                            __ATOMIC_RELAXED);
	__atomic_fetch_and(&ctx->tasks[task / 64], ~(1ULL << (task % 64)), __ATOMIC_RELAXED);
}

void fu_wq_leave(void)
{
	u32 task;

	fu_tid();
	task = fu_self.task;
	if (!task)
		return;
	fu_registry_each(leave_ring);
	fu_self.task = 0;
	give_back(task);
}

void fu_wq_reset(void)
{
	tasks.lock.word = 0;
	fu_memset(tasks.used, 0, sizeof(tasks.used));
}

/* Whose workers a register call of this thread means; 0: it has none. */
static u32 concerned(const struct fu_ctx *ctx)
{
	fu_tid();
	return ctx->sqpoll ? ctx->sq_task : fu_self.task;
}

long fu_reg_iowq_max_workers(struct fu_ctx *ctx, void *arg, u32 nr)
{
	u32 wanted[2], old[2] = { 0, 0 };
	u32 task = concerned(ctx);

	if (!arg || nr != 2)
		return -EINVAL;
	if (fu_copy_from_user(wanted, arg, sizeof(wanted)))
		return -EFAULT;
	if (wanted[0] > INT32_MAX || wanted[1] > INT32_MAX)
		return -EINVAL;
	fu_lock(&tasks.lock);
	for (u32 i = 0; i < 2; i++) {
		if (wanted[i])
			ctx->wq_limits[i] = wanted[i];
	}
	if (task) {
		fu_memcpy(old, tasks.limits[task], sizeof(old));
		apply(task, wanted);
	}
	fu_unlock(&tasks.lock);
	if (fu_copy_to_user(arg, old, sizeof(old)))
		return -EFAULT;
	if (ctx->sqpoll)
		return 0;
	fu_lock(&tasks.lock);
	for (task = 1; task < FU_TASKS; task++) {
		if (fu_load_relaxed(&ctx->tasks[task / 64]) & 1ULL << (task % 64))
			apply(task, ctx->wq_limits);
	}
	fu_unlock(&tasks.lock);
	return 0;
}

long fu_reg_iowq_aff(struct fu_ctx *ctx, void *arg, u32 bytes)
{
	cpu_set_t cpus;

	if (!arg || !bytes)
		return -EINVAL;
	CPU_ZERO(&cpus);
	if (fu_copy_from_user(&cpus, arg, bytes < sizeof(cpus) ? bytes : sizeof(cpus)))
		return -EFAULT;
	if (!concerned(ctx))
		return -EINVAL;
	/* Processors that do not exist are no error; a set without any leaves the workers be. */
	fu_pool_affinity(&cpus, sizeof(cpus));
	return 0;
}

long fu_unreg_iowq_aff(struct fu_ctx *ctx, void *arg, u32 nr)
{
	if (arg || nr || !concerned(ctx))
		return -EINVAL;
	fu_pool_affinity(NULL, 0);
	return 0;
}
