/*
 * Limits and processors of the workers. The kernel keeps them for each thread that
 * has a ring; here all rings of a process share the workers, so what is set last
 * holds for all, and what a thread reads is what it would find in the kernel.
 */
#include "engine/register.h"

#include <errno.h>
#include <sched.h>
#include <sys/resource.h>

#include "engine/thread.h"
#include "rings/mem.h"
#include "rings/sys.h"
#include "rings/user.h"

/* What this thread was told last, or would be; 0 before the first time. */
static __thread u32 limits[2] __attribute__((tls_model("initial-exec")));
static __thread u32 limits_gen __attribute__((tls_model("initial-exec")));

void fu_wq_attach(u32 sq_entries)
{
	u32 gen = fu_load_relaxed(&fu_wipe->gen);
	struct rlimit lim;
	cpu_set_t cpus;
	long bytes;
	u32 n;

	if (limits_gen == gen)
		return;
	limits_gen = gen;
	bytes = fu_sys(SYS_sched_getaffinity, 0, sizeof(cpus), &cpus);
	n = bytes > 0 ? 4 * fu_cpu_count(&cpus, (size_t)bytes) : 4;
	limits[IO_WQ_BOUND] = sq_entries < n ? sq_entries : n;
	limits[IO_WQ_UNBOUND] = INT32_MAX;
	if (fu_sys(SYS_prlimit64, 0, RLIMIT_NPROC, 0, &lim) == 0 && lim.rlim_cur < INT32_MAX)
		limits[IO_WQ_UNBOUND] = (u32)lim.rlim_cur;
}

long fu_reg_iowq_max_workers(struct fu_ctx *ctx, void *arg, u32 nr)
{
	u32 wanted[2], old[2];
	struct rlimit lim;

	if (!arg || nr != 2)
		return -EINVAL;
	if (fu_copy_from_user(wanted, arg, sizeof(wanted)))
		return -EFAULT;
	if (wanted[0] > INT32_MAX || wanted[1] > INT32_MAX)
		return -EINVAL;
	fu_wq_attach(ctx->ring.sq_entries);
	fu_memcpy(old, limits, sizeof(old));
	for (int i = 0; i < 2; i++) {
		if (fu_sys(SYS_prlimit64, 0, RLIMIT_NPROC, 0, &lim) == 0 &&
		    wanted[i] > lim.rlim_cur)
			wanted[i] = (u32)lim.rlim_cur;
		if (wanted[i])
			limits[i] = wanted[i];
	}
	fu_pool_limits(wanted);
	return fu_copy_to_user(arg, old, sizeof(old)) ? -EFAULT : 0;
}

long fu_reg_iowq_aff(struct fu_ctx *ctx, void *arg, u32 bytes)
{
	cpu_set_t cpus;

	(void)ctx;
	if (!arg || !bytes)
		return -EINVAL;
	CPU_ZERO(&cpus);
	if (fu_copy_from_user(&cpus, arg, bytes < sizeof(cpus) ? bytes : sizeof(cpus)))
		return -EFAULT;
	/* Processors that do not exist are no error; a set without any leaves the workers be. */
	fu_pool_affinity(&cpus, sizeof(cpus));
	return 0;
}

long fu_unreg_iowq_aff(struct fu_ctx *ctx, void *arg, u32 nr)
{
	(void)ctx;
	if (arg || nr)
		return -EINVAL;
	fu_pool_affinity(NULL, 0);
	return 0;
}
