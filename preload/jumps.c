/*
 * longjmp and its like. A signal handler that jumps may leave a call of ours behind, which holds
 * something: the engine is told where the jump goes (stay.h). The stack pointer to go to lies
 * in the buffer as glibc has it on x86-64: rotated, and XORed with a word of the thread's own.
 */
#include "engine/entry.h"
#include "preload/forward.h"
#include "preload/init.h"
#include "preload/next.h"

#define JB_RSP 6

static void tell(const u64 *buffer)
{
	u64 to = buffer[JB_RSP];

	fu_init();
	__asm__("ror $17, %0\n\txor %%fs:0x30, %0" : "+r"(to));
	fu_jumps((uintptr_t)__builtin_frame_address(0), to);
}

#define JUMP(name)                                                                      \
	__attribute__((used, visibility("hidden"))) void *fu_##name(const u64 *buffer); \
	__attribute__((used, visibility("hidden"))) void *fu_##name(const u64 *buffer)  \
	{                                                                               \
		tell(buffer);                                                           \
		return (void *)(uintptr_t)fu_next.name;                                 \
	}                                                                               \
	FU_FORWARD(name)

JUMP(longjmp);
JUMP(_longjmp);
JUMP(siglongjmp);
JUMP(__longjmp_chk);
