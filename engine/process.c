/*
 * The engine in one process: first use, and what a forked child finds. A child
 * inherits every ring's shared mapping and a private copy of all contexts, but
 * none of the engine's threads; it keeps the contexts and forgets whatever the
 * parent was doing with them. fu_wipe->gen, zeroed by the kernel in each child,
 * tells that this has not been done yet, however the child was made.
 */
#include "engine/engine.h"

#include "engine/aio.h"
#include "engine/entry.h"
#include "engine/futex.h"
#include "engine/leader.h"
#include "engine/leaving.h"
#include "engine/peers.h"
#include "engine/register.h"
#include "engine/registry.h"
#include "engine/ringfds.h"
#include "engine/stay.h"
#include "engine/thread.h"
#include "rings/fds.h"
#include "rings/keep.h"
#include "rings/mem.h"
#include "rings/shared.h"
#include "rings/sys.h"
#include "rings/user.h"

static struct fu_lock init_lock;
static bool initialised; /* in this process or an ancestor */
static bool by_libc;     /* this process was made by fork, with its handlers */

static void become_this_process(void)
{
	u32 pid = (u32)fu_sys(SYS_getpid);

	if (initialised) {
		fu_tid_reset();
		fu_stays.gen = 0;
		fu_mem_reset();
		fu_fds_reset(!by_libc);
		fu_keep_reset();
		fu_shared_reset();
		fu_user_reset();
		fu_memset(&fu_counters, 0, sizeof(fu_counters));
		fu_threads_reset();
		fu_pool_reset();
		fu_wq_reset();
		fu_futex_reset();
		fu_timers_reset();
		fu_aio_reset();
		fu_leader_reset();
		fu_poller_reset();
		fu_ringfds_reset();
		fu_registry_adopt(pid);
	} else {
		fu_wipe_init();
		fu_leaving_init();
	}
	fu_store_release(&fu_wipe->gen, pid);
	/* Last: with `initialised` and without gen this would look like a forked child. */
	fu_store_release(&initialised, true);
}

void fu_process_enter(void)
{
	if (fu_likely(fu_load_acquire(&initialised) && fu_load_acquire(&fu_wipe->gen)))
		return;
	/* In a fresh child the lock may bear the mark of a thread that does not exist here. */
	if (fu_load_acquire(&initialised))
		init_lock.word = 0;
	fu_lock(&init_lock);
	if (!initialised || !fu_load_acquire(&fu_wipe->gen))
		become_this_process();
	fu_unlock(&init_lock);
}

void fu_fork_begin(void)
{
	if (!initialised)
		return;
	fu_process_enter();
	/* First: this takes locks under which threads are started. */
	fu_registry_each(fu_peer_share);
	fu_threads_quiet();
}

void fu_fork_prepare(void)
{
	if (!initialised)
		return;
	fu_fork_begin();
	fu_self.forking = 1;
	fu_registry_fork_prepare();
	fu_fds_fork_prepare();
	fu_mem_fork_prepare();
}

void fu_fork_parent(void)
{
	fu_threads_quiet_over();
	/* Another thread may have brought the engine up after we had prepared nothing. */
	if (!fu_self.forking)
		return;
	fu_self.forking = 0;
	fu_mem_fork_done();
	fu_fds_fork_done();
	fu_registry_fork_done();
}

void fu_fork_child(void)
{
	if (!initialised)
		return;
	fu_fork_parent();
	fu_wipe->gen = 0;
	fu_self.critical = 0;
	by_libc = true;
	/* Descriptors and mappings are the child's at once; threads start when needed. */
	fu_process_enter();
	by_libc = false;
}

bool fu_thread_is_engine(void)
{
	return fu_self.engine;
}
