/*
 * io_uring_setup: checks, memory, descriptor, SQPOLL thread. The kernel's order of
 * checks decides which errno wins when several things are wrong.
 */
#include "engine/engine.h"

#include <errno.h>
#include <sys/mman.h>

#include "engine/entry.h"
#include "engine/kbuf.h"
#include "engine/region.h"
#include "engine/register.h"
#include "engine/ringfds.h"
#include "engine/stats.h"
#include "rings/fds.h"
#include "rings/mem.h"
#include "rings/sys.h"
#include "rings/user.h"

/* wq_fd of ATTACH_WQ has to be a ring; what is shared is ours to choose, and pools are shared
 * anyway. */
static int check_attach(const struct fu_params *p)
{
	struct fu_ctx *other;
	int err;

	if (!(p->flags & IORING_SETUP_ATTACH_WQ))
		return 0;
	other = fu_ctx_get(p->wq_fd, &err);
	if (!other)
		return err == -EBADF ? -ENXIO : -EINVAL;
	if ((p->flags & IORING_SETUP_SQPOLL) && !(other->ring.setup_flags & IORING_SETUP_SQPOLL))
		err = -EINVAL;
	else
		err = 0;
	fu_ctx_put(other);
	return err;
}

static int check_params(u32 entries, struct fu_params *p)
{
	if (p->resv[0] || p->resv[1] || p->resv[2])
		return -EINVAL;
	return fu_ring_layout(entries, p);
}

static int start(struct fu_ctx *ctx, const struct fu_params *p)
{
	struct fu_ctrl *ctrl = ctx->ring.ctrl;
	int ret = check_attach(p);

	if (ret)
		return ret;
	if ((p->flags & IORING_SETUP_SQ_AFF) && !(p->flags & IORING_SETUP_SQPOLL))
		return -EINVAL;
	ctrl->creator = fu_tid_of(fu_load_relaxed(&fu_wipe->gen));
	ctx->deferred = p->flags & IORING_SETUP_DEFER_TASKRUN;
	ctx->iopoll = p->flags & IORING_SETUP_IOPOLL;
	ctx->sqpoll = p->flags & IORING_SETUP_SQPOLL;
	if ((p->flags & IORING_SETUP_SINGLE_ISSUER) && !(p->flags & IORING_SETUP_R_DISABLED))
		ctrl->submitter = fu_tid();
	if (!ctx->sqpoll)
		return 0;
	return fu_sqpoll_start(ctx, p);
}

static void undo(struct fu_ctx *ctx, int fd)
{
	if (ctx->sq)
		fu_sqpoll_stop(ctx);
	if (fd >= 0)
		fu_sys(SYS_close, fd);
	fu_ctx_discard(ctx);
}

/* The ring is ready: makes it findable, by descriptor or by this thread's index only. */
static long publish(struct fu_ctx *ctx, int fd, const struct fu_params *p)
{
	long ret = fd;

	if (p->flags & IORING_SETUP_REGISTERED_FD_ONLY) {
		fd = fu_fd_high(fd);
		ret = fu_ringfd_adopt(ctx, fd);
		if (ret < 0) {
			fu_fd_close(fd);
			undo(ctx, -1);
			return ret;
		}
	}
	FU_COUNT(rings, 1);
	fu_wq_join(ctx);
	fu_ctx_publish(ctx, fd);
	fu_poller_watch_ring(ctx);
	fu_ctx_put(ctx);
	fu_stats_touch();
	return ret;
}

long fu_io_uring_setup(u32 entries, void *params)
{
	struct fu_params p;
	struct fu_ctx *ctx;
	int fd = -1, ret;

	fu_process_enter();
	if (fu_copy_from_user(&p, params, sizeof(p)))
		return -EFAULT;
	ret = check_params(entries, &p);
	if (ret)
		return ret;
	ctx = fu_ctx_alloc();
	if (!ctx)
		return -ENOMEM;
	p.features = FU_FEATURES;
	ret = fu_ring_create(&ctx->ring, &p);
	if (!ret)
		ret = fu_ringfd_create(&fd, &ctx->peer, &ctx->ino);
	if (!ret) {
		ctx->ring.ctrl->ino = ctx->ino;
		ret = start(ctx, &p);
	}
	if (!ret && fu_copy_to_user(params, &p, sizeof(p)))
		ret = -EFAULT;
	if (ret) {
		undo(ctx, fd);
		return ret;
	}
	return publish(ctx, fd, &p);
}

static long map_ring(struct fu_ctx *ctx, size_t len, int prot, int flags, u64 off)
{
	int access = prot & ~PROT_EXEC;
	long ret;

	switch (off & IORING_OFF_MMAP_MASK) {
	case IORING_OFF_REGION:
		ret = fu_region_map(ctx, len, access, flags);
		break;
	case IORING_OFF_PBUF_RING:
		ret = fu_pbuf_map(ctx, NULL, len, access, flags, off);
		break;
	default:
		ret = fu_ring_map(&ctx->ring, len, access, flags, off);
	}
	if (!(prot & PROT_EXEC) || ret == -ENOMEM)
		return ret;
	/* What is there is still not for executing. */
	if (!fu_is_err(ret))
		fu_sys(SYS_munmap, ret, len);
	return -EPERM;
}

bool fu_ring_mmap(void *addr, size_t len, int prot, int flags, int fd, u64 off, long *ret)
{
	struct fu_ctx *ctx;
	int err;

	if (!fu_have_rings() || fd < 0)
		return false;
	fu_process_enter();
	ctx = fu_ctx_get((u32)fd, &err);
	if (!ctx)
		return false;
	/* The place is the kernel's to choose. */
	*ret = addr || !len || off & (FU_PAGE - 1) ? -EINVAL : map_ring(ctx, len, prot, flags, off);
	fu_ctx_put(ctx);
	return true;
}
