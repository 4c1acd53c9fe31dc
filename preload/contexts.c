/*
 * getcontext, setcontext and swapcontext take the signal mask along, by system calls
 * inside libc that nobody can stand in front of. So a context that is about to be
 * entered loses SIGSYS from its mask, and what the program believes about SIGSYS
 * travels in a part of the structure that no one reads: sigset_t has room for 1024
 * signals, of which the kernel has 64.
 *
 * All three return more than once, or on another stack, so a wrapper that calls them
 * would return into a frame that is gone. These here look at the arguments and jump.
 */
#include <ucontext.h>
#include "engine/entry.h"
#include "preload/forward.h"
#include "preload/init.h"
#include "preload/next.h"
#include "preload/signals.h"

/* In the last word of uc_sigmask: taken while the program believed SIGSYS blocked. */
#define BELIEVED 0x66616b6575721f5fUL
#define LAST     (sizeof(sigset_t) / sizeof(unsigned long) - 1)

static void taken(ucontext_t *uc)
{
	uc->uc_sigmask.__val[LAST] = fu_sigsys_blocked ? BELIEVED : 0;
}

static void entered(ucontext_t *uc)
{
	unsigned long *mask = uc->uc_sigmask.__val;

	fu_sigsys_blocked = mask[LAST] == BELIEVED || mask[0] & FU_SIGSYS_BIT;
	if (mask[0] & FU_SIGSYS_BIT) {
		/* For the next time as well: here it can be entered, there it cannot be said. */
		mask[0] &= ~FU_SIGSYS_BIT;
		mask[LAST] = BELIEVED;
	}
}

__attribute__((used, visibility("hidden"))) void *fu_getcontext(ucontext_t *uc)
{
	fu_init();
	taken(uc);
	return (void *)(uintptr_t)fu_next.getcontext;
}

__attribute__((used, visibility("hidden"))) void *fu_setcontext(ucontext_t *uc)
{
	fu_init();
	/* As by siglongjmp; swapcontext leaves something to come back to. */
	fu_jumps((uintptr_t)__builtin_frame_address(0), (uintptr_t)uc->uc_mcontext.gregs[REG_RSP]);
	entered(uc);
	return (void *)(uintptr_t)fu_next.setcontext;
}

__attribute__((used, visibility("hidden"))) void *fu_swapcontext(ucontext_t *old, ucontext_t *uc)
{
	fu_init();
	taken(old);
	entered(uc);
	return (void *)(uintptr_t)fu_next.swapcontext;
}

FU_FORWARD(getcontext);
FU_FORWARD(setcontext);
FU_FORWARD(swapcontext);
