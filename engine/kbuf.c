/*
 * Provided buffers: legacy groups (a list of buffers that PROVIDE_BUFFERS fills) and
 * buffer rings (an array in memory shared with the program, whose tail the program
 * moves). kbuf.h describes the life of a selection.
 *
 * A ring made with IOU_PBUF_RING_MMAP lies in a shared mapping of ours, which the
 * program sees through an alias: it is read and written in place. Any other ring is
 * the program's memory, which may be unmapped or truncated at any time, so it is
 * read by copying: the tail, then a window of entries from the head up to that tail.
 * What lies below a published tail is not the program's to change, so the window
 * stays good until the head has passed it, and a copy is made once for up to
 * WINDOW selections. What an incremental ring consumes is written through.
 */
#include "engine/kbuf.h"

#include <errno.h>
#include <limits.h>

#include "rings/mem.h"
#include "rings/shared.h"
#include "rings/sys.h"
#include "rings/user.h"

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

#define WINDOW       64U
#define MAX_IDS      (1U << 16)
#define MAX_RW_BYTES 0x7ffff000U

struct legacy_buf {
	struct fu_list list;
	u64 addr;
	u32 len;
	u16 bid;
	u16 bgid;
};

struct fu_pbuf_group {
	struct fu_list list; /* ctx->pbufs, last used first */
	u16 bgid;
	bool ring, inc;
	u32 min_left; /* incremental: with less than that a buffer counts as used up */
	/* Legacy. */
	u32 nbufs;
	struct fu_list bufs;
	/* Ring. */
	u16 head; /* free running */
	u16 mask;
	u32 entries;
	struct fu_buf *own; /* IOU_PBUF_RING_MMAP: our mapping */
	u64 user;           /* else: where it is in the program's memory */
	u16 seen_tail;
	u16 win_start; /* index of window[0] */
	u16 win_nr;
	struct fu_buf window[WINDOW];
};

static struct fu_pbuf_group *group_find(struct fu_ctx *ctx, u16 bgid)
{
	fu_list_for_each(node, &ctx->pbufs)
	{
		struct fu_pbuf_group *g = fu_list_entry(node, struct fu_pbuf_group, list);

		if (g->bgid != bgid)
			continue;
		if (ctx->pbufs.next != node) {
			fu_list_del(node);
			fu_list_add_head(&ctx->pbufs, node);
		}
		return g;
	}
	return NULL;
}

static struct fu_pbuf_group *group_add(struct fu_ctx *ctx, u16 bgid)
{
	struct fu_pbuf_group *g = fu_zalloc(sizeof(*g));

	if (!g)
		return NULL;
	g->bgid = bgid;
	fu_list_init(&g->bufs);
	fu_list_add_head(&ctx->pbufs, &g->list);
	return g;
}

static size_t ring_bytes(const struct fu_pbuf_group *g)
{
	return fu_align_up(g->entries * sizeof(struct fu_buf), FU_PAGE);
}

static void group_free(struct fu_pbuf_group *g)
{
	struct fu_list *node;

	while ((node = fu_list_pop(&g->bufs)))
		fu_free(fu_list_entry(node, struct legacy_buf, list), sizeof(struct legacy_buf));
	if (g->own)
		fu_shared_unmap(g->own, ring_bytes(g));
	fu_list_del(&g->list);
	fu_free(g, sizeof(*g));
}

void fu_pbufs_free(struct fu_ctx *ctx)
{
	while (!fu_list_empty(&ctx->pbufs))
		group_free(fu_list_entry(ctx->pbufs.next, struct fu_pbuf_group, list));
}

/* ---- a ring's memory ---- */

/* How many buffers there are from the head on; `fresh`: the newest answer. */
static u16 ring_ready(struct fu_pbuf_group *g, bool fresh)
{
	if (g->own)
		return (u16)(fu_load_acquire(&g->own[0].resv) - g->head);
	if (fresh || g->seen_tail == g->head) {
		u64 tail = g->user + offsetof(struct fu_buf, resv);

		if (fu_copy_from_user(&g->seen_tail, fu_ptr(tail), sizeof(g->seen_tail)))
			g->seen_tail = g->head;
	}
	return (u16)(g->seen_tail - g->head);
}

/* Entry `index`, which lies below the tail. False if its memory is gone. */
static bool ring_entry(struct fu_pbuf_group *g, u16 index, struct fu_buf *out)
{
	u16 at = (u16)(index - g->win_start);

	if (g->own) {
		*out = *(volatile struct fu_buf *)&g->own[index & g->mask];
		return true;
	}
	if (at >= g->win_nr) {
		u32 slot = index & g->mask;
		u32 nr = (u16)(g->seen_tail - index);

		nr = nr > WINDOW ? WINDOW : nr;
		nr = nr > g->entries - slot ? g->entries - slot : nr;
		g->win_nr = 0;
		if (!nr || fu_copy_from_user(g->window, fu_ptr(g->user + slot * sizeof(*out)),
		                             nr * sizeof(*out)))
			return false;
		g->win_start = index;
		g->win_nr = (u16)nr;
		at = 0;
	}
	*out = g->window[at];
	return true;
}

/* Writes back an entry's address and length. */
static void ring_update(struct fu_pbuf_group *g, u16 index, const struct fu_buf *buf)
{
	size_t bytes = offsetof(struct fu_buf, bid);
	u16 at = (u16)(index - g->win_start);

	if (g->own) {
		volatile struct fu_buf *entry = &g->own[index & g->mask];

		entry->addr = buf->addr;
		entry->len = buf->len;
		return;
	}
	if (at < g->win_nr)
		g->window[at] = *buf;
	fu_copy_to_user(fu_ptr(g->user + (index & g->mask) * sizeof(*buf)), buf, bytes);
}

/* Consumes `len` bytes of an incremental ring. Whether the last buffer is used up. */
static bool ring_consume(struct fu_pbuf_group *g, u64 len)
{
	while (len) {
		struct fu_buf buf;
		u32 part;

		if (!ring_entry(g, g->head, &buf))
			return true;
		part = len < buf.len ? (u32)len : buf.len;
		buf.len -= part;
		if (buf.len >= g->min_left || !part) {
			buf.addr += part;
			ring_update(g, g->head, &buf);
			return false;
		}
		buf.len = 0;
		ring_update(g, g->head, &buf);
		g->head++;
		len -= part;
	}
	return true;
}

/* ---- selection ---- */

static int legacy_select(struct fu_req *req, struct fu_pbuf_group *g, u64 *addr, u32 *len)
{
	struct fu_list *node = fu_list_pop(&g->bufs);
	struct legacy_buf *buf;

	if (!node)
		return -ENOBUFS;
	g->nbufs--;
	buf = fu_list_entry(node, struct legacy_buf, list);
	if (!*len || *len > buf->len)
		*len = buf->len;
	*addr = buf->addr;
	req->kbuf = buf;
	req->buf_index = buf->bid;
	req->flags |= FU_REQ_BUFFER_LEGACY;
	return 0;
}

int fu_kbuf_select(struct fu_req *req, u64 *addr, u32 *len, bool commit)
{
	struct fu_pbuf_group *g = group_find(req->ctx, req->buf_group);
	struct fu_buf buf;

	if (!g)
		return -ENOBUFS;
	if (!g->ring)
		return legacy_select(req, g, addr, len);
	if (!ring_ready(g, false) || !ring_entry(g, g->head, &buf) || !buf.addr)
		return -ENOBUFS;
	if (!*len || *len > buf.len)
		*len = buf.len;
	*addr = buf.addr;
	req->buf_index = buf.bid;
	req->flags |= FU_REQ_BUFFER_RING | FU_REQ_BUFFERS_COMMIT;
	if (commit)
		fu_kbuf_commit(req, *len, 1);
	return 0;
}

/* A first guess at how many buffers hold what is wanted: as if all were like the first. */
static u32 bundle_needs(u64 max_len, u32 first_len, u32 ready)
{
	u64 needed = FU_KBUF_BUNDLE_MAX;

	if (max_len && (max_len + first_len - 1) / first_len < needed)
		needed = (max_len + first_len - 1) / first_len;
	return needed < ready ? (u32)needed : ready;
}

static int ring_peek(struct fu_req *req, struct fu_pbuf_group *g, struct fu_kbuf_bundle *b)
{
	u64 left = b->max_len ? b->max_len : INT_MAX;
	u32 ready = ring_ready(g, true), nr_max = b->nr_max;
	u16 index = g->head;
	struct fu_buf buf;

	if (!ready || !ring_entry(g, index, &buf) || (b->max_len && !buf.len))
		return -ENOBUFS;
	if (b->max_len)
		ready = bundle_needs(b->max_len, buf.len, ready);
	nr_max = nr_max < ready ? nr_max : ready;
	req->buf_index = buf.bid;
	for (;;) {
		u32 len = buf.len;

		if (len > left) {
			len = (u32)left;
			if (!g->inc) {
				b->truncated = true;
				if (b->nr)
					break;
			}
		}
		b->iov[b->nr++] = (struct iovec){ fu_ptr(buf.addr), len };
		b->out_len += len;
		left -= len;
		/* A bundle that has all it wants does not count as the end of the group. */
		if (!left)
			break;
		index++;
		if (b->nr == nr_max || !ring_entry(g, index, &buf))
			break;
	}
	b->empty = (u16)(g->head + ring_ready(g, false)) == index;
	req->flags |= FU_REQ_BUFFER_RING | FU_REQ_BUFFERS_COMMIT;
	return 0;
}

int fu_kbuf_peek(struct fu_req *req, struct fu_kbuf_bundle *b, bool commit)
{
	struct fu_pbuf_group *g = group_find(req->ctx, req->buf_group);
	/* A send takes all of a legacy buffer, whatever it asks for. */
	u32 len = commit ? 0 : b->max_len > UINT_MAX ? UINT_MAX : (u32)b->max_len;
	u64 addr;
	int ret;

	b->nr = 0;
	b->out_len = 0;
	b->empty = b->truncated = false;
	if (!g)
		return -ENOENT;
	if (g->ring) {
		ret = ring_peek(req, g, b);
		if (!ret && commit)
			fu_kbuf_commit(req, (s64)b->out_len, b->nr);
		return ret;
	}
	ret = legacy_select(req, g, &addr, &len);
	if (!ret) {
		b->iov[0] = (struct iovec){ fu_ptr(addr), len };
		b->nr = 1;
		b->out_len = len;
		b->empty = fu_list_empty(&g->bufs);
	}
	return ret;
}

void fu_kbuf_commit(struct fu_req *req, s64 len, u32 nr)
{
	struct fu_pbuf_group *g;

	if (!(req->flags & FU_REQ_BUFFERS_COMMIT))
		return;
	req->flags &= ~FU_REQ_BUFFERS_COMMIT;
	g = group_find(req->ctx, req->buf_group);
	if (len < 0 || !g || !g->ring)
		return;
	if (!g->inc)
		g->head = (u16)(g->head + nr);
	else if (!len || !ring_consume(g, (u64)len))
		req->flags |= FU_REQ_BUF_MORE;
}

u32 fu_kbuf_put(struct fu_req *req, s64 len, u32 nr)
{
	u32 cflags = IORING_CQE_F_BUFFER | (u32)req->buf_index << IORING_CQE_BUFFER_SHIFT;

	if (req->flags & FU_REQ_BUFFER_LEGACY) {
		req->flags &= ~FU_REQ_BUFFER_LEGACY;
		fu_free(req->kbuf, sizeof(struct legacy_buf));
		req->kbuf = NULL;
		return cflags;
	}
	if (!(req->flags & FU_REQ_BUFFER_RING))
		return 0;
	fu_kbuf_commit(req, len, nr);
	if (req->flags & FU_REQ_BUF_MORE)
		cflags |= IORING_CQE_F_BUF_MORE;
	req->flags &= ~(FU_REQ_BUFFER_RING | FU_REQ_BUF_MORE);
	return cflags;
}

void fu_kbuf_recycle(struct fu_req *req)
{
	if (req->flags & FU_REQ_BUFFER_LEGACY) {
		struct legacy_buf *buf = req->kbuf;
		struct fu_pbuf_group *g = group_find(req->ctx, buf->bgid);

		req->kbuf = NULL;
		if (g && !g->ring) {
			fu_list_add_head(&g->bufs, &buf->list);
			g->nbufs++;
		} else {
			fu_free(buf, sizeof(*buf));
		}
	}
	req->flags &= ~(FU_REQ_BUFFER_RING | FU_REQ_BUFFER_LEGACY | FU_REQ_BUFFERS_COMMIT |
	                FU_REQ_BUF_MORE);
}

u32 fu_kbuf_touched(const struct iovec *iov, u32 nr, u64 len)
{
	u32 touched = 0;

	while (touched < nr && len) {
		u64 part = iov[touched++].iov_len;

		len -= len < part ? len : part;
	}
	return touched;
}

/* ---- PROVIDE_BUFFERS, REMOVE_BUFFERS ---- */

struct provide {
	u64 addr;
	u32 len;
	u32 nr;
	u16 bgid;
	u16 bid;
};

int fu_provide_buffers_prep(struct fu_req *req, const struct fu_sqe *sqe)
{
	struct provide *p = fu_cmd(req, struct provide);
	u64 size, end;

	if (sqe->op_flags || sqe->splice_fd_in)
		return -EINVAL;
	if (sqe->fd <= 0 || (u32)sqe->fd > MAX_IDS)
		return -E2BIG;
	if (!sqe->len)
		return -EINVAL;
	size = (u64)sqe->len * (u32)sqe->fd;
	if (__builtin_add_overflow(sqe->addr, size, &end))
		return -EOVERFLOW;
	if (end > FU_USER_END)
		return -EFAULT;
	if (sqe->off > USHRT_MAX)
		return -E2BIG;
	if (sqe->off + (u32)sqe->fd > MAX_IDS)
		return -EINVAL;
	*p = (struct provide){ .addr = sqe->addr,
		               .len = sqe->len,
		               .nr = (u32)sqe->fd,
		               .bgid = sqe->buf_index,
		               .bid = (u16)sqe->off };
	return 0;
}

int fu_remove_buffers_prep(struct fu_req *req, const struct fu_sqe *sqe)
{
	struct provide *p = fu_cmd(req, struct provide);

	if (sqe->op_flags || sqe->addr || sqe->len || sqe->off || sqe->splice_fd_in)
		return -EINVAL;
	if (sqe->fd <= 0 || (u32)sqe->fd > MAX_IDS)
		return -EINVAL;
	*p = (struct provide){ .nr = (u32)sqe->fd, .bgid = sqe->buf_index };
	return 0;
}

static int buffers_add(struct fu_pbuf_group *g, const struct provide *p)
{
	for (u32 i = 0; i < p->nr; i++) {
		struct legacy_buf *buf;

		/* With more, ids would no longer tell them apart. */
		if (g->nbufs == USHRT_MAX)
			return i ? 0 : -EOVERFLOW;
		buf = fu_alloc(sizeof(*buf));
		if (!buf)
			return i ? 0 : -ENOMEM;
		buf->addr = p->addr + (u64)i * p->len;
		buf->len = p->len < MAX_RW_BYTES ? p->len : MAX_RW_BYTES;
		buf->bid = (u16)(p->bid + i);
		buf->bgid = g->bgid;
		fu_list_add_tail(&g->bufs, &buf->list);
		g->nbufs++;
	}
	return 0;
}

static int buffers_remove(struct fu_pbuf_group *g, u32 nr)
{
	struct fu_list *node;
	int removed = 0;

	while (nr-- && (node = fu_list_pop(&g->bufs))) {
		fu_free(fu_list_entry(node, struct legacy_buf, list), sizeof(struct legacy_buf));
		g->nbufs--;
		removed++;
	}
	return removed;
}

static int manage(struct fu_req *req)
{
	struct provide *p = fu_cmd(req, struct provide);
	struct fu_pbuf_group *g = group_find(req->ctx, p->bgid);
	bool add = req->opcode == IORING_OP_PROVIDE_BUFFERS;

	if (!g) {
		if (!add)
			return -ENOENT;
		g = group_add(req->ctx, p->bgid);
		if (!g)
			return -ENOMEM;
	}
	if (g->ring)
		return -EINVAL;
	return add ? buffers_add(g, p) : buffers_remove(g, p->nr);
}

int fu_buffers_issue(struct fu_req *req, u32 issue_flags)
{
	int ret;

	if (issue_flags & FU_ISSUE_WORKER)
		fu_submit_lock(req->ctx);
	ret = manage(req);
	if (issue_flags & FU_ISSUE_WORKER)
		fu_submit_unlock(req->ctx);
	if (ret < 0)
		fu_req_set_fail(req);
	fu_req_result(req, ret, 0);
	return FU_DONE;
}

/* ---- registration ---- */

static bool all_zero(const u32 *words, u32 nr)
{
	for (u32 i = 0; i < nr; i++) {
		if (words[i])
			return false;
	}
	return true;
}

/* The ring's pages have to be there, writable: what the kernel's pinning would ask. */
static int check_user_ring(u64 addr, u32 entries)
{
	u64 bytes = fu_align_up(entries * sizeof(struct fu_buf), FU_PAGE), end;
	long ret;

	if (!addr)
		return -EFAULT;
	if (addr & (FU_PAGE - 1))
		return -EINVAL;
	if (__builtin_add_overflow(addr, bytes, &end))
		return -EOVERFLOW;
	ret = fu_sys(SYS_madvise, addr, bytes, MADV_POPULATE_WRITE);
	/* A kernel before 5.14 knows no such advice for any memory. */
	if (ret == -EINVAL && fu_sys(SYS_madvise, addr, 0, MADV_POPULATE_WRITE) == -EINVAL)
		ret = 0;
	for (u64 page = addr; page < end && !ret; page += FU_PAGE) {
		u64 word;

		ret = fu_copy_from_user(&word, fu_ptr(page), sizeof(word));
	}
	return ret ? -EFAULT : 0;
}

static int ring_memory(struct fu_pbuf_group *g, const struct fu_buf_reg *reg)
{
	void *mem;

	g->entries = reg->ring_entries;
	g->mask = (u16)(reg->ring_entries - 1);
	if (!(reg->flags & IOU_PBUF_RING_MMAP)) {
		g->user = reg->ring_addr;
		return check_user_ring(reg->ring_addr, reg->ring_entries);
	}
	mem = fu_shared_map(ring_bytes(g));
	if (fu_ptr_is_err(mem))
		return -ENOMEM;
	g->own = mem;
	return 0;
}

long fu_reg_pbuf_ring(struct fu_ctx *ctx, void *arg, u32 nr)
{
	struct fu_pbuf_group *g;
	struct fu_buf_reg reg;
	int ret;

	if (!arg || nr != 1)
		return -EINVAL;
	if (fu_copy_from_user(&reg, arg, sizeof(reg)))
		return -EFAULT;
	if (!all_zero(reg.resv, sizeof(reg.resv) / sizeof(reg.resv[0])) ||
	    (reg.flags & ~(IOU_PBUF_RING_MMAP | IOU_PBUF_RING_INC)))
		return -EINVAL;
	if (reg.min_left && !(reg.flags & IOU_PBUF_RING_INC))
		return -EINVAL;
	/* As many entries as indices: full and empty would look the same. */
	if (!reg.ring_entries || (reg.ring_entries & (reg.ring_entries - 1)) ||
	    reg.ring_entries >= MAX_IDS)
		return -EINVAL;
	g = group_find(ctx, reg.bgid);
	if (g) {
		if (g->ring || !fu_list_empty(&g->bufs))
			return -EEXIST;
		group_free(g);
	}
	g = group_add(ctx, reg.bgid);
	if (!g)
		return -ENOMEM;
	g->ring = true;
	g->inc = reg.flags & IOU_PBUF_RING_INC;
	g->min_left = reg.min_left ? reg.min_left : 1;
	ret = ring_memory(g, &reg);
	if (ret)
		group_free(g);
	return ret;
}

/* The ring that `bgid` names, or NULL with *err. */
static struct fu_pbuf_group *ring_find(struct fu_ctx *ctx, u32 bgid, long *err)
{
	struct fu_pbuf_group *g = bgid > USHRT_MAX ? NULL : group_find(ctx, (u16)bgid);

	*err = g ? -EINVAL : -ENOENT;
	return g && g->ring ? g : NULL;
}

long fu_unreg_pbuf_ring(struct fu_ctx *ctx, void *arg, u32 nr)
{
	struct fu_pbuf_group *g;
	struct fu_buf_reg reg;
	long err;

	if (!arg || nr != 1)
		return -EINVAL;
	if (fu_copy_from_user(&reg, arg, sizeof(reg)))
		return -EFAULT;
	if (!all_zero(reg.resv, sizeof(reg.resv) / sizeof(reg.resv[0])) || reg.flags)
		return -EINVAL;
	g = ring_find(ctx, reg.bgid, &err);
	if (!g)
		return err;
	group_free(g);
	return 0;
}

long fu_reg_pbuf_status(struct fu_ctx *ctx, void *arg, u32 nr)
{
	struct fu_buf_status status;
	struct fu_pbuf_group *g;
	long err;

	if (!arg || nr != 1)
		return -EINVAL;
	if (fu_copy_from_user(&status, arg, sizeof(status)))
		return -EFAULT;
	for (u32 i = 0; i < sizeof(status.resv) / sizeof(status.resv[0]); i++) {
		if (status.resv[i])
			return -EINVAL;
	}
	g = ring_find(ctx, status.buf_group, &err);
	if (!g)
		return err;
	status.head = g->head;
	return fu_copy_to_user(arg, &status, sizeof(status)) ? -EFAULT : 0;
}

long fu_pbuf_map(struct fu_ctx *ctx, void *addr, size_t len, int prot, int flags, u64 off)
{
	struct fu_pbuf_group *g;
	long ret = -ENOMEM, err;
	u64 bgid = (off & ~IORING_OFF_MMAP_MASK) >> IORING_OFF_PBUF_SHIFT;

	len = fu_align_up(len, FU_PAGE);
	fu_submit_lock(ctx);
	g = ring_find(ctx, bgid > USHRT_MAX ? UINT_MAX : (u32)bgid, &err);
	if (g && g->own)
		ret = fu_map_alias(g->own, ring_bytes(g), len, addr, prot, flags);
	fu_submit_unlock(ctx);
	return ret;
}
