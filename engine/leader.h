/*
 * Who waits on the poller's epoll set: its own thread, or a thread of the program that has
 * nothing else to do because it waits for completions. See leader.c.
 */
#ifndef FU_LEADER_H
#define FU_LEADER_H

#include "engine/engine.h"

/*
 * The calling thread is about to wait for completions of `ctx`: whether it does so on the set
 * (then fu_leader_wait, and fu_leader_leave in the end). Otherwise it is counted as one that
 * sleeps elsewhere, until fu_leader_not_waiting.
 */
bool fu_leader_try(struct fu_ctx *ctx);
/*
 * Whether the calling thread, to which fu_leader_try has said so, still leads. It does not if it
 * was stopped for long, if a signal handler that has interrupted its wait has done one of its
 * own, or if another process has begun to use the ring.
 */
bool fu_leader_still(struct fu_ctx *ctx);
/*
 * Between this and fu_leader_wait the leader looks whether its wait is over: whoever posts
 * from now on wakes it.
 */
void fu_leader_listen(struct fu_ctx *ctx);
/*
 * Waits for events and handles them. left_ns: relative, negative for none; `mask`: signal mask
 * during the wait, or NULL. 0 after any wake-up, also one for nothing, -ETIMEDOUT, -EINTR.
 */
long fu_leader_wait(struct fu_ctx *ctx, s64 left_ns, const u64 *mask);
void fu_leader_leave(void);
/*
 * The calling thread was to wait for completions of `ctx`, and has found them, and looked into the
 * set: it takes that over as one does that has led and left, if this happens often.
 */
void fu_leader_pass_by(struct fu_ctx *ctx);
/* Nothing if the calling thread is not counted. */
void fu_leader_not_waiting(void);

/* Whether another thread may be looking into the set: one that leads there, or the poller's. */
bool fu_leader_elsewhere(u32 set);
/*
 * Whether the set's leader, another thread, has events that it has not handled yet. Not while it
 * runs a signal handler, from which it may not come back.
 */
bool fu_leader_holds(u32 set);

/* A CQE was posted in ctx: wakes the leader if that is what it waits for. */
void fu_leader_wake(struct fu_ctx *ctx);
/* The calling thread has fetched a wake-up of the set: sends it on if it was meant for the leader.
 */
void fu_leader_pass_on(u32 set);
/*
 * The program goes to sleep in a call of its own: the set is the poller thread's again, unless
 * another thread waits on it. No lock held.
 */
void fu_leader_hand_back(void);
/*
 * The poller's thread: sleeps as long as the first set is a leader's, and takes back the sets that
 * nobody leads any more. Returns whether it is to wait on the first set now, for *timeout_ns at
 * most; fu_leader_parked() after that, or instead. Returns at once if there is no ring.
 */
bool fu_leader_park(s64 *timeout_ns);
void fu_leader_parked(void);
/* Makes a parked thread look around. */
void fu_leader_unpark(void);
/* In a forked child. */
void fu_leader_reset(void);
/* The set is to be another ring's. Nobody waits on it. */
void fu_leader_forget(u32 set);

#endif
