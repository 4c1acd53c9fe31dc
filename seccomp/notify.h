/*
 * FAKEURING_TRAP=notify: trapped calls arrive as seccomp user notifications and
 * are done by threads of this library on behalf of the stopped one.
 */
#ifndef FU_NOTIFY_H
#define FU_NOTIFY_H

#include "seccomp/filter.h"

/*
 * Makes calls from `ranges` arrive by notification. Returns 0; -errno if the
 * kernel cannot do it, -EPERM if another filter denies the calls before ours is
 * asked. The caller holds the scan lock and has called fu_sigsys_own().
 */
long fu_notify_install(const struct fu_range *ranges, size_t n);

/*
 * True while this process's calls are done by proxies: then all three have to be,
 * those through libc as well, or one thread would be two to the engine.
 */
bool fu_notify_active(void);

/*
 * In a forked child, which shares the listener with its parent and cannot have
 * one of its own: from here on its calls are trapped with SIGSYS, which wins.
 */
void fu_notify_fork_child(void);

#endif
