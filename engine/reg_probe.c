/* What this io_uring can do: IORING_REGISTER_PROBE and IORING_REGISTER_QUERY. */
#include "engine/register.h"

#include <errno.h>

#include "engine/host.h"
#include "rings/mem.h"
#include "rings/user.h"

#define PROBE_MAX 256U

long fu_reg_probe(struct fu_ctx *ctx, void *arg, u32 nr)
{
	size_t bytes = sizeof(struct fu_probe) + nr * sizeof(struct fu_probe_op);
	struct fu_probe *probe;
	long ret = 0;

	(void)ctx;
	if (!arg || nr > PROBE_MAX)
		return -EINVAL;
	probe = fu_alloc(bytes);
	if (!probe)
		return -ENOMEM;
	if (fu_copy_from_user(probe, arg, bytes))
		ret = -EFAULT;
	for (size_t i = 0; i < bytes && !ret; i++) {
		if (((u8 *)probe)[i])
			ret = -EINVAL;
	}
	if (!ret) {
		if (nr > IORING_OP_LAST)
			nr = IORING_OP_LAST;
		for (u32 op = 0; op < nr; op++) {
			probe->ops[op].op = (u8)op;
			if (!fu_host_lacks((u8)op))
				probe->ops[op].flags = IO_URING_OP_SUPPORTED;
		}
		probe->last_op = IORING_OP_LAST - 1;
		probe->ops_len = (u8)nr;
		if (fu_copy_to_user(arg, probe, bytes))
			ret = -EFAULT;
	}
	fu_free(probe, bytes);
	return ret;
}

/* ---- QUERY ---- */

#define QUERY_ENTRIES_MAX 1000

static void answer(struct fu_query_opcode *data)
{
	*data = (struct fu_query_opcode){
		.nr_request_opcodes = IORING_OP_LAST,
		.nr_register_opcodes = IORING_REGISTER_LAST,
		.feature_flags = FU_FEATURES,
		.ring_setup_flags = FU_SETUP_FLAGS,
		.enter_flags = FU_ENTER_FLAGS,
		.sqe_flags = FU_SQE_FLAGS,
		.nr_query_opcodes = IO_URING_QUERY_LAST,
	};
}

/* Zeroes what the program's structure has beyond what we know. */
static int clear_user(u64 addr, u64 bytes)
{
	static const u8 zeroes[256];

	while (bytes) {
		u64 step = bytes < sizeof(zeroes) ? bytes : sizeof(zeroes);

		if (fu_copy_to_user(fu_ptr(addr), zeroes, step))
			return -EFAULT;
		addr += step;
		bytes -= step;
	}
	return 0;
}

/* Answers one entry of the chain in its own result field. 0 or -EFAULT. */
static int query_one(u64 user, u64 *next)
{
	struct fu_query_opcode data = { 0 };
	struct fu_query_hdr hdr;
	u32 user_bytes, bytes = 0;

	if (fu_copy_from_user(&hdr, fu_ptr(user), sizeof(hdr)))
		return -EFAULT;
	user_bytes = hdr.size;
	if (hdr.query_op >= IO_URING_QUERY_LAST) {
		hdr.result = -EOPNOTSUPP;
	} else if (hdr.resv[0] || hdr.resv[1] || hdr.resv[2] || hdr.result || !hdr.size) {
		hdr.result = -EINVAL;
	} else {
		bytes = hdr.size < sizeof(data) ? hdr.size : (u32)sizeof(data);
		if (fu_copy_from_user(&data, fu_ptr(hdr.query_data), bytes))
			return -EFAULT;
		answer(&data);
	}
	hdr.size = bytes;
	if (fu_copy_to_user(fu_ptr(hdr.query_data), &data, bytes) ||
	    clear_user(hdr.query_data + bytes, user_bytes - bytes) ||
	    fu_copy_to_user(fu_ptr(user), &hdr, sizeof(hdr)))
		return -EFAULT;
	*next = hdr.next_entry;
	return 0;
}

long fu_reg_query(struct fu_ctx *ctx, void *arg, u32 nr)
{
	u64 user = (u64)(uintptr_t)arg;

	(void)ctx;
	if (nr)
		return -EINVAL;
	for (int n = 0; user;) {
		int ret = query_one(user, &user);

		if (ret)
			return ret;
		/* The chain may bite its tail. */
		if (++n >= QUERY_ENTRIES_MAX)
			return -ERANGE;
	}
	return 0;
}
