/*
 * What needs a network device that can be polled or fed by its driver: NAPI busy
 * polling, whose settings are kept and reported and have nothing to act on here, and
 * zero-copy receive, which no device here supports.
 */
#include <errno.h>
#include <linux/capability.h>
#include <net/if.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "engine/register.h"
#include "engine/region.h"
#include "rings/mem.h"
#include "rings/sys.h"
#include "rings/user.h"

/* Smaller ids are the numbers of processors. */
#define MIN_NAPI_ID 257U

struct napi_id {
	struct napi_id *next;
	u32 id;
};

struct fu_napi_settings {
	u32 busy_poll_to;
	u8 prefer_busy_poll;
	u8 tracking;
	struct napi_id *ids;
};

/* ---- NAPI ---- */

static void forget_ids(struct fu_napi_settings *napi)
{
	while (napi->ids) {
		struct napi_id *id = napi->ids;

		napi->ids = id->next;
		fu_free(id, sizeof(*id));
	}
}

void fu_napi_free(struct fu_ctx *ctx)
{
	if (ctx->napi)
		forget_ids(ctx->napi);
	fu_free(ctx->napi, sizeof(*ctx->napi));
	ctx->napi = NULL;
}

static struct fu_napi_settings *settings(struct fu_ctx *ctx)
{
	if (!ctx->napi) {
		ctx->napi = fu_zalloc(sizeof(*ctx->napi));
		if (ctx->napi)
			ctx->napi->tracking = IO_URING_NAPI_TRACKING_INACTIVE;
	}
	return ctx->napi;
}

static long set_tracking(struct fu_napi_settings *napi, const struct fu_napi *in)
{
	if (in->op_param != IO_URING_NAPI_TRACKING_DYNAMIC &&
	    in->op_param != IO_URING_NAPI_TRACKING_STATIC)
		return -EINVAL;
	forget_ids(napi);
	napi->tracking = (u8)in->op_param;
	napi->busy_poll_to = in->busy_poll_to;
	napi->prefer_busy_poll = !!in->prefer_busy_poll;
	return 0;
}

static struct napi_id **find_id(struct fu_napi_settings *napi, u32 id)
{
	struct napi_id **at = &napi->ids;

	while (*at && (*at)->id != id)
		at = &(*at)->next;
	return at;
}

static long add_id(struct fu_napi_settings *napi, u32 id)
{
	struct napi_id **at = find_id(napi, id);

	if (id < MIN_NAPI_ID)
		return -EINVAL;
	if (*at)
		return -EEXIST;
	*at = fu_zalloc(sizeof(**at));
	if (!*at)
		return -ENOMEM;
	(*at)->id = id;
	return 0;
}

static long del_id(struct fu_napi_settings *napi, u32 id)
{
	struct napi_id **at = find_id(napi, id), *found = *at;

	if (id < MIN_NAPI_ID)
		return -EINVAL;
	if (!found)
		return -ENOENT;
	*at = found->next;
	fu_free(found, sizeof(*found));
	return 0;
}

long fu_reg_napi(struct fu_ctx *ctx, void *arg, u32 nr)
{
	struct fu_napi_settings *napi = settings(ctx);
	struct fu_napi in, old;

	if (!arg || nr != 1 || ctx->iopoll)
		return -EINVAL;
	if (!napi)
		return -ENOMEM;
	old = (struct fu_napi){ .busy_poll_to = napi->busy_poll_to,
		                .prefer_busy_poll = napi->prefer_busy_poll,
		                .op_param = napi->tracking };
	if (fu_copy_from_user(&in, arg, sizeof(in)))
		return -EFAULT;
	if (in.pad[0] || in.pad[1] || in.resv)
		return -EINVAL;
	if (fu_copy_to_user(arg, &old, sizeof(old)))
		return -EFAULT;
	if (in.opcode == IO_URING_NAPI_REGISTER_OP)
		return set_tracking(napi, &in);
	if (napi->tracking != IO_URING_NAPI_TRACKING_STATIC)
		return -EINVAL;
	switch (in.opcode) {
	case IO_URING_NAPI_STATIC_ADD_ID:
		return add_id(napi, in.op_param);
	case IO_URING_NAPI_STATIC_DEL_ID:
		return del_id(napi, in.op_param);
	default:
		return -EINVAL;
	}
}

long fu_unreg_napi(struct fu_ctx *ctx, void *arg, u32 nr)
{
	struct fu_napi old = { 0 };

	if (nr != 1)
		return -EINVAL;
	if (ctx->napi) {
		old.busy_poll_to = ctx->napi->busy_poll_to;
		old.prefer_busy_poll = ctx->napi->prefer_busy_poll;
	}
	if (arg && fu_copy_to_user(arg, &old, sizeof(old)))
		return -EFAULT;
	fu_napi_free(ctx);
	return 0;
}

/* ---- zero-copy receive ---- */

#define RQ_ENTRIES_MAX 32768U
#define RQ_HEADER      64U
#define RQ_ENTRY       16U

static bool may_configure_devices(void)
{
	struct __user_cap_header_struct header = { _LINUX_CAPABILITY_VERSION_3, 0 };
	struct __user_cap_data_struct caps[2] = { 0 };

	return fu_sys(SYS_capget, &header, caps) == 0 && (caps[0].effective >> CAP_NET_ADMIN & 1);
}

/* No device that there may be has queues for us: the answer to a request that is in order. */
static long without_device(u32 index)
{
	struct ifreq ifr = { .ifr_ifindex = (int)index };
	long ret, fd = fu_sys(SYS_socket, AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return fd;
	ret = fu_sys(SYS_ioctl, fd, SIOCGIFNAME, &ifr);
	fu_sys(SYS_close, fd);
	return ret < 0 ? -ENODEV : -EOPNOTSUPP;
}

long fu_reg_zcrx(struct fu_ctx *ctx, void *arg, u32 nr)
{
	struct fu_zcrx_ifq_reg reg;
	struct fu_zcrx_area_reg area;
	struct fu_region_desc rd;
	u32 entries = 1;
	int ret;

	if (!arg || nr != 1)
		return -EINVAL;
	if (!may_configure_devices())
		return -EPERM;
	if (!ctx->deferred ||
	    !(ctx->ring.setup_flags & (IORING_SETUP_CQE32 | IORING_SETUP_CQE_MIXED)))
		return -EINVAL;
	if (fu_copy_from_user(&reg, arg, sizeof(reg)) ||
	    fu_copy_from_user(&rd, fu_ptr(reg.region_ptr), sizeof(rd)))
		return -EFAULT;
	if (reg.resv[0] || reg.resv[1] || reg.resv[2] || reg.resv2 || reg.zcrx_id)
		return -EINVAL;
	if (reg.if_rxq == ~0U || !reg.rq_entries || reg.flags)
		return -EINVAL;
	if (reg.rq_entries > RQ_ENTRIES_MAX) {
		if (!(ctx->ring.setup_flags & IORING_SETUP_CLAMP))
			return -EINVAL;
		reg.rq_entries = RQ_ENTRIES_MAX;
	}
	while (entries < reg.rq_entries)
		entries *= 2;
	if (fu_copy_from_user(&area, fu_ptr(reg.area_ptr), sizeof(area)))
		return -EFAULT;
	if (RQ_HEADER + (u64)RQ_ENTRY * entries > rd.size)
		return -EINVAL;
	ret = fu_region_check(&rd);
	return ret ? ret : without_device(reg.if_idx);
}
