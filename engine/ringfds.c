/* Registered ring descriptors; see ringfds.h. */
#include "engine/ringfds.h"

#include <errno.h>

#include "engine/leaving.h"
#include "rings/fds.h"
#include "rings/mem.h"
#include "rings/sys.h"
#include "rings/user.h"

struct slots {
	struct fu_list all; /* in `threads`; guarded by `lock` */
	u32 gen;            /* the process they were registered in */
	struct {
		struct fu_ctx *ctx; /* holds a reference, NULL for a free slot */
		int fd;             /* a duplicate that keeps the ring open */
	} ring[IO_RINGFD_REG_MAX];
};

/* Only its thread reads and writes the slots, but for a forked child's clearing up. */
static __thread struct slots *mine __attribute__((tls_model("initial-exec")));

static struct fu_lock lock;
static struct fu_list threads = { &threads, &threads };

static void release(struct slots *s, u32 i)
{
	struct fu_ctx *ctx = s->ring[i].ctx;

	if (!ctx)
		return;
	s->ring[i].ctx = NULL;
	fu_fd_close(s->ring[i].fd);
	fu_ctx_look(ctx);
	fu_ctx_put(ctx);
}

void fu_ringfds_leave(void)
{
	struct slots *s = mine;

	mine = NULL;
	if (!s || s->gen != fu_load_relaxed(&fu_wipe->gen))
		return;
	fu_lock(&lock);
	fu_list_del(&s->all);
	fu_unlock(&lock);
	for (u32 i = 0; i < IO_RINGFD_REG_MAX; i++)
		release(s, i);
	fu_free(s, sizeof(*s));
}

void fu_ringfds_reset(void)
{
	struct fu_list *node;

	lock.word = 0;
	while ((node = fu_list_pop(&threads))) {
		struct slots *s = fu_list_entry(node, struct slots, all);

		for (u32 i = 0; i < IO_RINGFD_REG_MAX; i++) {
			if (s->ring[i].ctx)
				fu_fd_close_inherited(s->ring[i].fd);
		}
	}
	mine = NULL;
}

static struct slots *my_slots(void)
{
	struct slots *s = mine;

	return s && s->gen == fu_load_relaxed(&fu_wipe->gen) ? s : NULL;
}

static struct slots *make_slots(void)
{
	struct slots *s = my_slots();

	if (s)
		return s;
	s = fu_zalloc(sizeof(*s));
	if (!s)
		return NULL;
	s->gen = fu_load_relaxed(&fu_wipe->gen);
	fu_lock(&lock);
	fu_list_add_tail(&threads, &s->all);
	fu_unlock(&lock);
	mine = s;
	fu_leaving_watch();
	return s;
}

/* The ring registered as `index`; the slot holds it. */
static struct fu_ctx *registered(u32 index, int *err)
{
	struct slots *s = my_slots();

	*err = index < IO_RINGFD_REG_MAX ? -EBADF : -EINVAL;
	return s && index < IO_RINGFD_REG_MAX ? s->ring[index].ctx : NULL;
}

struct fu_ctx *fu_ringfd_registered(u32 index, int *err)
{
	struct fu_ctx *ctx = registered(index, err);

	if (ctx)
		fu_ctx_hold(ctx);
	return ctx;
}

struct fu_ctx *fu_ringfd_enter(u32 index, int *err)
{
	struct fu_ctx *ctx = registered(index, err);

	if (ctx)
		fu_ctx_go_inside(ctx);
	return ctx;
}

int fu_ringfd_number(u32 index)
{
	struct slots *s = my_slots();

	return s && index < IO_RINGFD_REG_MAX && s->ring[index].ctx ? s->ring[index].fd : -1;
}

/* The first free slot in [first, end), or -EBUSY. */
static int free_slot(const struct slots *s, u32 first, u32 end)
{
	for (u32 i = first; i < end; i++) {
		if (!s->ring[i].ctx)
			return (int)i;
	}
	return -EBUSY;
}

long fu_ringfd_adopt(struct fu_ctx *ctx, int fd)
{
	struct slots *s = make_slots();
	int i;

	if (!s)
		return -ENOMEM;
	i = free_slot(s, 0, IO_RINGFD_REG_MAX);
	if (i < 0)
		return i;
	fu_ctx_hold(ctx);
	s->ring[i].ctx = ctx;
	s->ring[i].fd = fd;
	return i;
}

/* Registers what one entry names; the slot, or -errno. */
static int add(struct slots *s, const struct fu_rsrc_update *up)
{
	bool any = up->offset == ~0U;
	struct fu_ctx *ctx;
	int i, fd, err = 0;

	if (up->resv || (!any && up->offset >= IO_RINGFD_REG_MAX))
		return -EINVAL;
	ctx = fu_ctx_get((u32)up->data, &err);
	if (!ctx)
		return err;
	i = free_slot(s, any ? 0 : up->offset, any ? IO_RINGFD_REG_MAX : up->offset + 1);
	fd = i < 0 ? i : fu_fd_dup_high((int)up->data);
	if (fd < 0) {
		fu_ctx_put(ctx);
		return fd;
	}
	s->ring[i].ctx = ctx;
	s->ring[i].fd = fd;
	return i;
}

/* The program's address may be anything: no pointer to count from. */
static void *entry_of(void *arg, u32 i)
{
	return fu_ptr((u64)(uintptr_t)arg + i * sizeof(struct fu_rsrc_update));
}

long fu_reg_ring_fds(struct fu_ctx *ctx, void *arg, u32 nr)
{
	struct slots *s;
	u32 done;
	int ret = 0;

	(void)ctx;
	if (!nr || nr > IO_RINGFD_REG_MAX)
		return -EINVAL;
	s = make_slots();
	if (!s)
		return -ENOMEM;
	for (done = 0; done < nr; done++) {
		void *user = entry_of(arg, done);
		struct fu_rsrc_update up;

		ret = fu_copy_from_user(&up, user, sizeof(up));
		if (!ret)
			ret = add(s, &up);
		if (ret < 0)
			break;
		up.offset = (u32)ret;
		if (fu_copy_to_user(user, &up, sizeof(up))) {
			release(s, up.offset);
			ret = -EFAULT;
			break;
		}
	}
	return done ? (long)done : ret;
}

long fu_unreg_ring_fds(struct fu_ctx *ctx, void *arg, u32 nr)
{
	struct slots *s = my_slots();
	u32 done;
	int ret = 0;

	if (!nr || nr > IO_RINGFD_REG_MAX)
		return -EINVAL;
	/* The last descriptor of a ring may go, of this one too. */
	fu_submit_unlock(ctx);
	for (done = 0; done < nr; done++) {
		struct fu_rsrc_update up;

		ret = fu_copy_from_user(&up, entry_of(arg, done), sizeof(up));
		if (!ret && (up.resv || up.data || up.offset >= IO_RINGFD_REG_MAX))
			ret = -EINVAL;
		if (ret)
			break;
		if (s)
			release(s, up.offset);
	}
	fu_submit_lock(ctx);
	return done ? (long)done : ret;
}
