/*
 * A program that says of itself that it is Go, and does as Go does: its code runs on stacks with
 * some hundred bytes left, in functions without unwind tables, and each of its threads has a signal
 * stack. Nothing may be written below what such a stack has.
 */
#include "tests/home/home.h"

#include <pthread.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>

__asm__(".pushsection .note.go.buildid, \"a\", @note\n"
        ".balign 4\n"
        ".long 4, 4, 4\n"
        ".asciz \"Go\"\n"
        ".byte 0\n"
        ".ascii \"test\"\n"
        ".popsection\n");

/* Both do a system call with the stack pointer at `top`: any, and io_uring_enter. */
long call_at(void *top, const long args[6], long nr);
long enter_at(void *top, const long args[6]);

__asm__(".macro at_top first:vararg\n"
        "	push %rbp\n"
        "	push %rbx\n"
        "	mov %rsp, %rbp\n"
        "	mov %rdi, %rsp\n"
        "	mov %rsi, %rbx\n"
        "	mov %rdx, %rax\n"
        "	mov (%rbx), %rdi\n"
        "	mov 8(%rbx), %rsi\n"
        "	mov 16(%rbx), %rdx\n"
        "	mov 24(%rbx), %r10\n"
        "	mov 32(%rbx), %r8\n"
        "	mov 40(%rbx), %r9\n"
        "	\\first\n"
        "	syscall\n"
        "	mov %rbp, %rsp\n"
        "	pop %rbx\n"
        "	pop %rbp\n"
        "	ret\n"
        ".endm\n"
        ".text\n"
        "call_at:\n"
        "	at_top\n"
        "enter_at:\n"
        "	at_top mov $426, %eax\n");

enum { BYTES = 64 << 10, LEFT = 800, SIGNAL_STACK = 256 << 10, THREADS = 4, ROUNDS = 100 };

static void must_(bool ok, int line)
{
	if (!ok) {
		fprintf(stderr, "goroutines.c:%d\n", line);
		abort();
	}
}
#define must(ok) must_((ok), __LINE__)

/* A stack nearly full: `used` bytes are others', and as they were. */
struct stack {
	unsigned char *memory;
	size_t used;
};

static struct stack new_stack(void)
{
	struct stack s = { .used = BYTES - LEFT };

	s.memory = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	must(s.memory != MAP_FAILED);
	memset(s.memory, 0xa5, BYTES);
	return s;
}

static void is_whole(const struct stack *s)
{
	for (size_t i = 0; i < s->used; i++)
		must(s->memory[i] == 0xa5);
}

static long call(const struct stack *s, long nr, long a, long b, long c, long d)
{
	const long args[6] = { a, b, c, d, 0, 0 };

	return call_at(s->memory + BYTES - 16, args, nr);
}

/* `plain`: with the number right before the `syscall`, else from a register. */
static long enter(const struct stack *s, int fd, unsigned submit, unsigned wait, bool plain)
{
	const long args[6] = { fd, (long)submit, (long)wait, IORING_ENTER_GETEVENTS, 0, 0 };
	void *top = s->memory + BYTES - 16;

	return plain ? enter_at(top, args) : call_at(top, args, __NR_io_uring_enter);
}

/* Submits what is prepared and takes its CQE, however often signals interrupt that. */
static int run(const struct stack *s, struct tr_ring *r, uint64_t user_data, bool plain,
               unsigned *interrupted)
{
	unsigned submit = tr_publish(r);
	int res;

	while (!tr_peek(r)) {
		long ret = enter(s, r->fd, submit, 1, plain);

		must(ret >= 0 || ret == -EINTR);
		*interrupted += ret == -EINTR;
		submit = *r->sq_tail - __atomic_load_n(r->sq_head, __ATOMIC_ACQUIRE);
	}
	must(tr_peek(r)->user_data == user_data);
	res = tr_peek(r)->res;
	tr_seen(r);
	return res;
}

static void *goroutine(void *arg)
{
	static const struct __kernel_timespec ms = { 0, 3000000 };
	stack_t signal_stack = { .ss_size = SIGNAL_STACK };
	struct stack s = new_stack();
	struct tr_ring r = { .fd = -1 };
	unsigned interrupted = 0;
	int p[2];

	(void)arg;
	signal_stack.ss_sp = mmap(NULL, SIGNAL_STACK, PROT_READ | PROT_WRITE,
	                          MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	must(signal_stack.ss_sp != MAP_FAILED && sigaltstack(&signal_stack, NULL) == 0);
	must(pipe(p) == 0);
	r.fd = (int)call(&s, __NR_io_uring_setup, 4, (long)&r.p, 0, 0);
	must(r.fd >= 0 && tr_map(&r, TR_ONE_MMAP) == 0);
	for (unsigned i = 0; i < ROUNDS; i++) {
		char c = 0;

		tr_prep(&r, IORING_OP_WRITE, p[1], "g", 1, (uint64_t)-1, i);
		must(run(&s, &r, i, i % 2, &interrupted) == 1);
		tr_prep(&r, IORING_OP_READ, p[0], &c, 1, (uint64_t)-1, i);
		must(run(&s, &r, i, i % 3, &interrupted) == 1 && c == 'g');
		if (i % 5 == 0) {
			tr_prep(&r, IORING_OP_TIMEOUT, -1, &ms, 1, 0, i);
			must(run(&s, &r, i, i % 2, &interrupted) == -ETIME);
		}
	}
	is_whole(&s);
	tr_unmap(&r);
	must(call(&s, __NR_close, r.fd, 0, 0, 0) == 0);
	is_whole(&s);
	close(p[0]);
	close(p[1]);
	munmap(s.memory, BYTES);
	signal_stack.ss_flags = SS_DISABLE;
	must(sigaltstack(&signal_stack, NULL) == 0);
	return (void *)(uintptr_t)interrupted;
}

static void test_threads(void **state)
{
	pthread_t t[THREADS];

	(void)state;
	for (int i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&t[i], NULL, goroutine, NULL), 0);
	for (int i = 0; i < THREADS; i++)
		assert_int_equal(pthread_join(t[i], NULL), 0);
}

static void on_alarm(int sig)
{
	(void)sig;
}

/* Handlers come in on the signal stack as well, where a call is waiting. */
static void test_signals(void **state)
{
	struct sigaction act = { .sa_handler = on_alarm, .sa_flags = SA_ONSTACK }, old;
	struct itimerval often = { { 0, 1000 }, { 0, 1000 } }, never = { 0 };
	uintptr_t interrupted;

	(void)state;
	assert_int_equal(sigaction(SIGALRM, &act, &old), 0);
	assert_int_equal(setitimer(ITIMER_REAL, &often, NULL), 0);
	interrupted = (uintptr_t)goroutine(NULL);
	assert_int_equal(setitimer(ITIMER_REAL, &never, NULL), 0);
	assert_int_equal(sigaction(SIGALRM, &old, NULL), 0);
	assert_true(interrupted > 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_threads),
		cmocka_unit_test(test_signals),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
