/*
 * What a system call leaves alone: every register but three, flags, the red zone, vector and
 * x87 state, however little stack there is and whoever calls, a signal handler too. On the
 * kernel this is so by itself; under the shim the calls below are jumps into the library,
 * and the run fails if they were trapped (tests/CMakeLists.txt).
 */
#include "tests/ring_util.h"

#include <cpuid.h>
#include <execinfo.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <ucontext.h>
#include <unistd.h>

#define STACK_BYTES (16 * 1024)
#define CALLS       2000
/* Of each thread, when the site may not have been patched yet. */
#define TRAPPED_CALLS 100

TR_ONE_RING(8);

/* io_uring_enter(fd, n, min, flags, NULL, 0) */
static long enter(long fd, long n, long min, long flags)
{
	register long r10 __asm__("r10") = flags;
	register long r8 __asm__("r8") = 0;
	register long r9 __asm__("r9") = 0;
	long ret;

	__asm__ volatile("movl $426, %%eax\n\tsyscall"
	                 : "=&a"(ret)
	                 : "D"(fd), "S"(n), "d"(min), "r"(r10), "r"(r8), "r"(r9)
	                 : "rcx", "r11", "memory");
	return ret;
}

/* ---- registers ---- */

enum { RAX, RBX, RCX, RDX, RSI, RDI, RBP, RSP, R8, R9, R10, R11, R12, R13, R14, R15, FLAGS, NREGS };

/* Two ways to write the same call: the number right before it, and far in front of it. */
void marked_near(void);
void marked_apart(void);
void marked_register(void);
extern const char marked_near_after[], marked_apart_after[], marked_register_after[];
extern const unsigned char marked_near_at[], marked_apart_at[], marked_register_at[];
uint64_t marked_in[NREGS], marked_out[NREGS], marked_red[16];

#define MARKED(name, call)                                                                \
	__asm__(".text\n.globl " name ", " name "_after, " name "_at\n.type " name        \
	        ", @function\n" name ":\n"                                                \
	        "	.cfi_startproc\n"                                                       \
	        "	push %rbx\n	push %rbp\n	push %r12\n	push %r13\n	push "                  \
	        "%r14\n	push %r15\n"                                                      \
	        "	.cfi_adjust_cfa_offset 48\n"                                            \
	        "	lea -128(%rsp), %rdi\n	mov $16, %ecx\n	mov $0x7777777777777777, %rax\n" \
	        "	rep stosq\n"                                                            \
	        "	mov marked_in+8*1(%rip), %rbx\n	mov marked_in+8*3(%rip), %rdx\n"        \
	        "	mov marked_in+8*4(%rip), %rsi\n	mov marked_in+8*5(%rip), %rdi\n"        \
	        "	mov marked_in+8*6(%rip), %rbp\n	mov marked_in+8*8(%rip), %r8\n"         \
	        "	mov marked_in+8*9(%rip), %r9\n	mov marked_in+8*10(%rip), %r10\n"        \
	        "	mov marked_in+8*12(%rip), %r12\n	mov marked_in+8*13(%rip), %r13\n"      \
	        "	mov marked_in+8*14(%rip), %r14\n	mov marked_in+8*15(%rip), %r15\n"      \
	        "	mov %rsp, marked_in+8*7(%rip)\n"                                        \
	        "	lea -128(%rsp), %rsp\n	push marked_in+8*16(%rip)\n	popfq\n"             \
	        "	lea 128(%rsp), %rsp\n" call "	syscall\n" name "_after:\n"       \
	        "	mov %rax, marked_out+8*0(%rip)\n	mov %rbx, marked_out+8*1(%rip)\n"      \
	        "	mov %rcx, marked_out+8*2(%rip)\n	mov %rdx, marked_out+8*3(%rip)\n"      \
	        "	mov %rsi, marked_out+8*4(%rip)\n	mov %rdi, marked_out+8*5(%rip)\n"      \
	        "	mov %rbp, marked_out+8*6(%rip)\n	mov %rsp, marked_out+8*7(%rip)\n"      \
	        "	mov %r8, marked_out+8*8(%rip)\n	mov %r9, marked_out+8*9(%rip)\n"        \
	        "	mov %r10, marked_out+8*10(%rip)\n	mov %r11, marked_out+8*11(%rip)\n"    \
	        "	mov %r12, marked_out+8*12(%rip)\n	mov %r13, marked_out+8*13(%rip)\n"    \
	        "	mov %r14, marked_out+8*14(%rip)\n	mov %r15, marked_out+8*15(%rip)\n"    \
	        "	lea -136(%rsp), %rsp\n	pushfq\n	pop marked_out+8*16(%rip)\n	"           \
	        "cld\n"                                                                   \
	        "	lea 8(%rsp), %rsi\n	lea marked_red(%rip), %rdi\n	mov $16, %ecx\n"       \
	        "	rep movsq\n"                                                            \
	        "	lea 136(%rsp), %rsp\n"                                                  \
	        "	pop %r15\n	pop %r14\n	pop %r13\n	pop %r12\n	pop "                       \
	        "%rbp\n	pop %rbx\n"                                                       \
	        "	.cfi_adjust_cfa_offset -48\n"                                           \
	        "	ret\n	.cfi_endproc\n.size " name ", .-" name "\n")

MARKED("marked_near", "marked_near_at: mov $426, %eax\n");
MARKED("marked_apart", "marked_apart_at: mov $426, %eax\n"
                       "	mov %r12, %r12\n	lea (%r13), %r13\n");
/* The load of an argument has room for the jump; the number comes from a register. */
MARKED("marked_register", "	mov $426, %ecx\n	nop\n"
                          "	mov %r14, %r14\n"
                          "marked_register_at: mov marked_in+8*9(%rip), %r9\n"
                          "	mov %ecx, %eax\n");

static void check_marked(void (*call)(void), const char *after, uint64_t flags)
{
	for (int i = 0; i < NREGS; i++)
		marked_in[i] = 0x0101010101010101u * (unsigned)(i + 1);
	marked_in[RDI] = (uint64_t)(unsigned)ring.fd;
	marked_in[RSI] = 1;
	marked_in[RDX] = 0;
	marked_in[R10] = 0;
	marked_in[FLAGS] = flags;
	memset(marked_out, 0, sizeof(marked_out));
	tr_prep(&ring, IORING_OP_NOP, -1, NULL, 0, 0, 5);
	tr_publish(&ring);
	call();
	assert_int_equal(marked_out[RAX], 1);
	assert_int_equal(tr_peek(&ring)->user_data, 5);
	tr_seen(&ring);
	for (int i = RBX; i < FLAGS; i++) {
		if (i != RCX && i != R11)
			assert_int_equal(marked_out[i], marked_in[i]);
	}
	assert_int_equal(marked_out[RCX], (uint64_t)(uintptr_t)after);
	assert_int_equal(marked_out[R11], flags);
	assert_int_equal(marked_out[FLAGS], flags);
	for (int i = 0; i < 16; i++)
		assert_int_equal(marked_red[i], 0x7777777777777777u);
}

static void test_registers(void **state)
{
	/* none, all arithmetic ones, carry, overflow, and the direction flag */
	static const uint64_t flags[] = { 0x202, 0xad7, 0x203, 0xa02, 0x602, 0xed7 };

	(void)state;
	for (size_t i = 0; i < sizeof(flags) / sizeof(flags[0]); i++) {
		check_marked(marked_near, marked_near_after, flags[i]);
		check_marked(marked_apart, marked_apart_after, flags[i]);
		check_marked(marked_register, marked_register_after, flags[i]);
	}
}

static bool is_patched(void)
{
	return tr_under_shim() && !getenv("FU_TEST_UNPATCHED");
}

/* The sites above hold a jump by now, and only there. */
static void test_sites(void **state)
{
	bool patched = is_patched();

	(void)state;
	assert_int_equal(*marked_near_at == 0xe9, patched);
	assert_int_equal(*marked_apart_at == 0xe9, patched);
	assert_int_equal(*marked_register_at == 0xe9, patched);
	assert_memory_equal(marked_near_after - 2, "\x0f\x05", 2);
	assert_memory_equal(marked_apart_after - 2, "\x0f\x05", 2);
	assert_memory_equal(marked_register_after - 2, "\x0f\x05", 2);
}

/* ---- vector and x87 state ---- */

#define AREA_BYTES 4096
#define COMPONENTS 0xe7u /* x87, SSE, AVX, AVX-512 */

struct area {
	_Alignas(64) unsigned char bytes[AREA_BYTES];
};

static uint32_t components(void)
{
	uint32_t a, b, c, d;

	if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & bit_OSXSAVE))
		return 0;
	__asm__ volatile("xgetbv" : "=a"(a), "=d"(d) : "c"(0));
	return a & COMPONENTS;
}

/* A state in which no two bytes of a register are alike. */
static void fill(struct area *in, uint32_t mask)
{
	uint32_t a, offset, c, d, size;
	const uint32_t mxcsr = 0x5f80; /* rounds up */
	const uint16_t fcw = 0x0b7f;   /* so does this */

	memset(in, 0, sizeof(*in));
	memcpy(in->bytes, &fcw, 2);
	in->bytes[4] = 0xff; /* all eight in use */
	memcpy(in->bytes + 24, &mxcsr, 4);
	for (int i = 0; i < 8; i++) {
		for (int k = 0; k < 8; k++)
			in->bytes[32 + 16 * i + k] = (unsigned char)(0x80 + 8 * i + k);
		in->bytes[32 + 16 * i + 9] = 0x3f;
	}
	for (int i = 160; i < 416; i++)
		in->bytes[i] = (unsigned char)(i * 7);
	for (uint32_t n = 2; n < 8; n++) {
		if (!(mask >> n & 1))
			continue;
		__cpuid_count(0xd, n, size, offset, c, d);
		for (a = 0; a < size; a++)
			in->bytes[offset + a] = (unsigned char)((offset + a) * 11);
	}
	memcpy(in->bytes + 512, &mask, 4);
}

static long enter_with_state(struct area *in, struct area *out, struct area *own, uint32_t mask,
                             long fd, long n)
{
	register void *r12 __asm__("r12") = in;
	register void *r13 __asm__("r13") = out;
	register void *r14 __asm__("r14") = own;
	register long r15 __asm__("r15") = mask;
	register long r10 __asm__("r10") = 0;
	register long r8 __asm__("r8") = 0;
	register long r9 __asm__("r9") = 0;
	long ret, a2 = 0;

	__asm__ volatile("mov %%r15d, %%eax\n\txsave64 (%%r14)\n\txrstor64 (%%r12)\n\t"
	                 "mov $426, %%eax\n\tsyscall\n\t"
	                 "mov %%rax, %%rcx\n\tmov %%r15d, %%eax\n\txorl %%edx, %%edx\n\t"
	                 "xsave64 (%%r13)\n\txrstor64 (%%r14)\n\tmov %%rcx, %%rax\n\t"
	                 : "=&a"(ret), "+d"(a2)
	                 : "D"(fd), "S"(n), "r"(r10), "r"(r8), "r"(r9), "r"(r12), "r"(r13),
	                   "r"(r14), "r"(r15)
	                 : "rcx", "r11", "memory");
	return ret;
}

static void check_state(uint32_t mask, long n)
{
	static struct area in, out, own;
	uint32_t offset, size, c, d;

	fill(&in, mask);
	memset(&out, 0, sizeof(out));
	memset(&own, 0, sizeof(own));
	assert_int_equal(enter_with_state(&in, &out, &own, mask, ring.fd, n), n);
	assert_memory_equal(out.bytes, in.bytes, 2);           /* control word */
	assert_memory_equal(out.bytes + 24, in.bytes + 24, 4); /* MXCSR */
	for (int i = 0; i < 8; i++)
		assert_memory_equal(out.bytes + 32 + 16 * i, in.bytes + 32 + 16 * i, 10);
	assert_memory_equal(out.bytes + 160, in.bytes + 160, 256);
	for (uint32_t i = 2; i < 8; i++) {
		if (!(mask >> i & 1))
			continue;
		__cpuid_count(0xd, i, size, offset, c, d);
		assert_memory_equal(out.bytes + offset, in.bytes + offset, size);
	}
}

/* A sanitizer's run time, which an instrumented library calls, does use vector registers. */
#ifdef __SANITIZE_ADDRESS__
#define VECTORS_KEPT false
#else
#define VECTORS_KEPT true
#endif

static void test_vector_state(void **state)
{
	uint32_t mask = components();
	int fd = tr_temp_file(8192), pipe_fds[2];
	char buf[4096], byte;

	(void)state;
	if (!mask || (tr_under_shim() && !VECTORS_KEPT)) {
		close(fd);
		skip();
	}
	assert_int_equal(pipe(pipe_fds), 0);
	check_state(mask, 0);
	tr_prep(&ring, IORING_OP_NOP, -1, NULL, 0, 0, 1);
	tr_prep(&ring, IORING_OP_READ, fd, buf, sizeof(buf), 0, 2);
	/* One that waits, and one for a worker, which has to be started. */
	tr_prep(&ring, IORING_OP_READ, pipe_fds[0], &byte, 1, 0, 3);
	tr_prep(&ring, IORING_OP_READ, fd, buf, sizeof(buf), 4096, 4)->flags = IOSQE_ASYNC;
	tr_publish(&ring);
	check_state(mask, 4);
	assert_int_equal(write(pipe_fds[1], "x", 1), 1);
	for (int i = 0; i < 4; i++) {
		struct io_uring_cqe cqe;

		assert_int_equal(tr_wait(&ring, &cqe), 0);
		assert_true(cqe.res >= 0);
	}
	close(fd);
	close(pipe_fds[0]);
	close(pipe_fds[1]);
}

/* ---- wherever the code lies ---- */

/*
 * The same call at each offset into a cache line, CALL_BYTES apart. A function's fourth
 * argument is not in the register where a system call's is: that one is 0 here.
 */
#define CALL_BYTES 128
#define ZERO_BYTES 3
long call_at_each(long fd, long n);
__asm__(".text\n.type call_at_each, @function\n.p2align 7\ncall_at_each:\n"
        ".set skipped, 0\n"
        ".rept 64\n"
        "	.cfi_startproc\n"
        "	xor %r10d, %r10d\n"
        "	.rept skipped\n	nop\n	.endr\n"
        "	mov $426, %eax\n"
        "	syscall\n"
        "	ret\n"
        "	.cfi_endproc\n"
        "	.p2align 7\n"
        "	.set skipped, skipped + 1\n"
        ".endr\n"
        ".size call_at_each, .-call_at_each\n");

static long call_code(const unsigned char *code, long fd, long n)
{
	long (*fn)(long, long, long, long, long, long);

	memcpy(&fn, &code, sizeof(fn));
	return fn(fd, n, 0, 0, 0, 0);
}

static void test_alignments(void **state)
{
	const unsigned char *code;
	long (*first)(long, long) = call_at_each;

	(void)state;
	memcpy(&code, &first, sizeof(code));
	for (int i = 0; i < 64; i++) {
		const unsigned char *at = code + CALL_BYTES * i + ZERO_BYTES + i;

		tr_prep(&ring, IORING_OP_NOP, -1, NULL, 0, 0, 7);
		tr_publish(&ring);
		assert_int_equal(call_code(code + CALL_BYTES * i, ring.fd, 1), 1);
		tr_seen(&ring);
		assert_int_equal(*at == 0xe9, is_patched());
	}
}

/* ---- little stack ---- */

static ucontext_t outside, inside;

static void on_small_stack(void)
{
	int fd = tr_temp_file(4096), pipe_fds[2] = { -1, -1 };
	static char buf[4096];

	if (pipe(pipe_fds))
		abort();
	for (int i = 0; i < 50; i++) {
		tr_prep(&ring, IORING_OP_NOP, -1, NULL, 0, 0, 1);
		tr_prep(&ring, IORING_OP_READ, fd, buf, sizeof(buf), 0, 2);
		tr_prep(&ring, IORING_OP_READ, fd, buf, 1, 0, 3)->flags = IOSQE_ASYNC;
		tr_prep(&ring, IORING_OP_READ, pipe_fds[0], buf, 1, 0, 4);
		tr_publish(&ring);
		if (enter(ring.fd, 4, 3, IORING_ENTER_GETEVENTS) != 4)
			abort();
		if (write(pipe_fds[1], "x", 1) != 1)
			abort();
		for (int k = 0; k < 4; k++) {
			while (!tr_peek(&ring)) {
				if (enter(ring.fd, 0, 1, IORING_ENTER_GETEVENTS))
					abort();
			}
			if (tr_peek(&ring)->res < 0)
				abort();
			tr_seen(&ring);
		}
	}
	close(fd);
	close(pipe_fds[0]);
	close(pipe_fds[1]);
}

static void test_coroutine(void **state)
{
	char *stack = mmap(NULL, STACK_BYTES + 4096, PROT_READ | PROT_WRITE,
	                   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	(void)state;
	assert_true(stack != MAP_FAILED);
	assert_int_equal(mprotect(stack, 4096, PROT_NONE), 0);
	assert_int_equal(getcontext(&inside), 0);
	inside.uc_stack.ss_sp = stack + 4096;
	inside.uc_stack.ss_size = STACK_BYTES;
	inside.uc_link = &outside;
	makecontext(&inside, on_small_stack, 0);
	assert_int_equal(swapcontext(&outside, &inside), 0);
	munmap(stack, STACK_BYTES + 4096);
}

/* ---- a signal handler ---- */

static volatile int handled;

static void on_usr1(int sig)
{
	(void)sig;
	tr_prep(&ring, IORING_OP_NOP, -1, NULL, 0, 0, 9);
	tr_publish(&ring);
	if (enter(ring.fd, 1, 1, IORING_ENTER_GETEVENTS) == 1)
		handled++;
	tr_seen(&ring);
}

static void test_signal_handler(void **state)
{
	struct sigaction act = { .sa_handler = on_usr1 }, old;

	(void)state;
	handled = 0;
	assert_int_equal(sigaction(SIGUSR1, &act, &old), 0);
	for (int i = 0; i < 20; i++)
		raise(SIGUSR1);
	assert_int_equal(sigaction(SIGUSR1, &old, NULL), 0);
	assert_int_equal(handled, 20);
}

/* ---- what a debugger sees ---- */

/* Waits for a completion; with a frame of its own, so that it can be told from its caller. */
long wait_in_frame(long fd);
extern const char wait_in_frame_at[], wait_in_frame_after[];
__asm__(".text\n.globl wait_in_frame, wait_in_frame_at, wait_in_frame_after\n.type wait_in_frame, "
        "@function\n"
        "wait_in_frame:\n"
        "	.cfi_startproc\n"
        "	push %rbx\n	.cfi_adjust_cfa_offset 8\n	.cfi_rel_offset %rbx, 0\n"
        "	sub $64, %rsp\n	.cfi_adjust_cfa_offset 64\n"
        "	xor %esi, %esi\n	mov $1, %edx\n	mov $1, %r10d\n"
        "	xor %r8d, %r8d\n	xor %r9d, %r9d\n"
        "	mov $426, %eax\n"
        "wait_in_frame_at: syscall\n"
        "wait_in_frame_after:\n"
        "	add $64, %rsp\n	.cfi_adjust_cfa_offset -64\n"
        "	pop %rbx\n	.cfi_adjust_cfa_offset -8\n"
        "	ret\n	.cfi_endproc\n"
        ".size wait_in_frame, .-wait_in_frame\n");

static void *trace[64];
static volatile int trace_length;

static bool in_trace(const char *from, const char *to)
{
	for (int i = 0; i < trace_length; i++) {
		if ((const char *)trace[i] >= from && (const char *)trace[i] <= to)
			return true;
	}
	return false;
}

/* Keeps the first trace from inside the call: a signal may come before or after it. */
static void on_alarm(int sig)
{
	(void)sig;
	if (!in_trace(wait_in_frame_at, wait_in_frame_after))
		trace_length = backtrace(trace, 64);
}

/* From a signal handler, through whatever serves the call, to the call site and its callers. */
static void test_backtrace(void **state)
{
	struct sigaction act = { .sa_handler = on_alarm }, old;
	struct itimerval often = { { .tv_usec = 20000 }, { .tv_usec = 20000 } }, never = { 0 };
	const char *self;

	(void)state;
	trace_length = backtrace(trace, 64); /* loads the unwinder */
	self = trace[0];
	trace_length = 0;
	assert_int_equal(sigaction(SIGALRM, &act, &old), 0);
	assert_int_equal(setitimer(ITIMER_REAL, &often, NULL), 0);
	assert_int_equal(wait_in_frame(ring.fd), -EINTR);
	assert_int_equal(setitimer(ITIMER_REAL, &never, NULL), 0);
	assert_int_equal(sigaction(SIGALRM, &old, NULL), 0);
	assert_true(trace_length > 0);
	assert_true(in_trace(wait_in_frame_at, wait_in_frame_after));
	assert_true(in_trace(self, self + 512));
}

/* ---- many calls, and other threads ---- */

/*
 * Two calls whose number comes from memory: nothing says which call it is until one
 * has been trapped. By then other threads are running, which may be in the middle of it.
 * The instruction to be replaced lies within 16 bytes, or does not.
 */
extern const unsigned char whole_at[], call_whole[], call_crossing[];
uint64_t number_in_memory = SYS_io_uring_enter;
__asm__(".text\n.type call_unknown, @function\n.p2align 6\ncall_unknown:\n"
        "	.cfi_startproc\n"
        "call_whole: xor %r10d, %r10d\n"
        "whole_at: mov number_in_memory(%rip), %rax\n"
        "	syscall\n"
        "	ret\n"
        "	.cfi_endproc\n"
        "	.p2align 6\n	.cfi_startproc\n	.skip 10, 0x90\n"
        "call_crossing: xor %r10d, %r10d\n"
        "crossing_at: mov number_in_memory(%rip), %rax\n"
        "	syscall\n"
        "	ret\n"
        "	.cfi_endproc\n"
        ".size call_unknown, .-call_unknown\n");

/*
 * The thread that was trapped first may have lost its processor in the middle of patching: how
 * often the others are trapped meanwhile would depend on that.
 */
static void await_patch(void)
{
	for (int i = 0;
	     i < 10000 && is_patched() && *(const volatile unsigned char *)whole_at != 0xe9; i++)
		tr_sleep_ms(1);
}

static void *call_many(void *arg)
{
	struct tr_ring own;

	(void)arg;
	if (tr_init(&own, 8, 0))
		abort();
	for (int i = 0; i < CALLS; i++) {
		tr_prep(&own, IORING_OP_NOP, -1, NULL, 0, 0, (unsigned)i);
		tr_publish(&own);
		if (enter(own.fd, 1, 0, 0) != 1 || tr_peek(&own)->user_data != (unsigned)i)
			abort();
		tr_seen(&own);
	}
	for (int i = 0; i < CALLS; i++) {
		if (i == TRAPPED_CALLS)
			await_patch();
		if (call_code(call_whole, own.fd, 0))
			abort();
	}
	if (call_code(call_crossing, own.fd, 0))
		abort();
	tr_exit(&own);
	return NULL;
}

static void test_many_calls(void **state)
{
	pthread_t t[3];

	(void)state;
	for (int i = 0; i < 3; i++)
		assert_int_equal(pthread_create(&t[i], NULL, call_many, NULL), 0);
	call_many(NULL);
	for (int i = 0; i < 3; i++)
		pthread_join(t[i], NULL);
	assert_int_equal(*whole_at == 0xe9, is_patched());
}

static const struct CMUnitTest tests[] = {
	ON_RING(test_registers),  ON_RING(test_sites),      ON_RING(test_vector_state),
	ON_RING(test_alignments), ON_RING(test_coroutine),  ON_RING(test_signal_handler),
	ON_RING(test_backtrace),  ON_RING(test_many_calls),
};

TR_MAIN("patched", tests)
