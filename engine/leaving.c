/*
 * When a thread exits, the kernel ends what workers do for it and its futex waits. What waits
 * for a file goes on waiting, but once that is ready there is nobody to do it: it is cancelled.
 * Nor does a link go on, nor what a drain has held back: -EFAULT. Only timeouts run as ever. A
 * thread that serves an SQ (SQPOLL) never exits, whoever filled that.
 *
 * Libc tells of the end of a thread by the destructor of a key. One that leaves by a system call
 * of its own goes unseen, and its requests are then done like any others.
 */
#include "engine/leaving.h"

#include <pthread.h>

#include "engine/cancel.h"
#include "engine/leader.h"
#include "engine/register.h"
#include "engine/registry.h"
#include "engine/ringfds.h"
#include "engine/stay.h"
#include "engine/thread.h"

#define LEFT ~0U /* no thread has this id */

static pthread_key_t key;
static bool have_key;

static void leave_ring(struct fu_ctx *ctx)
{
	if (fu_load_relaxed(&ctx->hash_count))
		fu_cancel_left(ctx, fu_tid(), LEFT);
}

static void thread_exits(void *arg)
{
	(void)arg;
	fu_self.leaves = 0;
	fu_stays_leave();
	fu_ringfds_leave();
	fu_leader_not_waiting();
	fu_leader_hand_back();
	fu_registry_each(leave_ring);
	fu_wq_leave();
}

void fu_leaving_init(void)
{
	int (*create)(pthread_key_t *, void (*)(void *)) = pthread_key_create;

	/*
	 * Early, so that the key is one of those for which libc needs no memory. Weak: absent
	 * where an older glibc has no libpthread, and so no threads that exit.
	 */
	have_key = create && create(&key, thread_exits) == 0;
}

static void set_key(void *value)
{
	pthread_setspecific(key, value);
}

void fu_leaving_watch(void)
{
	if (fu_likely(fu_self.leaves) || !have_key)
		return;
	fu_self.leaves = 1;
	fu_call_keeping_vectors(set_key, &fu_self);
}

void fu_req_own(struct fu_req *req)
{
	req->task = fu_self.task;
	if (fu_self.engine)
		return;
	fu_self.owns = 1;
	req->owner = fu_tid();
	fu_leaving_watch();
}

bool fu_req_left_behind(const struct fu_req *req)
{
	return fu_load_relaxed(&req->owner) == LEFT;
}
