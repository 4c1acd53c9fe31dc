/*
 * Where io_uring calls come from: call sites of every shape that compilers and
 * people write, whose registers, stack and flags have to be as the kernel leaves
 * them; the same code in a library that is loaded later; children that exec
 * something without any of it.
 */
#include "tests/ring_util.h"

#include <dlfcn.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

TR_ONE_RING(8);

/* io_uring_enter(fd, n, 0, 0, NULL, 0), the number as an immediate right before the call. */
static long enter_near(long fd, long n)
{
	register long r10 __asm__("r10") = 0;
	register long r8 __asm__("r8") = 0;
	register long r9 __asm__("r9") = 0;
	long ret;

	__asm__ volatile("movl $426, %%eax\n\tsyscall"
	                 : "=&a"(ret)
	                 : "D"(fd), "S"(n), "d"(0L), "r"(r10), "r"(r8), "r"(r9)
	                 : "rcx", "r11", "memory");
	return ret;
}

/* The immediate first, other instructions in between. */
static long enter_apart(long fd, long n)
{
	register long r10 __asm__("r10");
	register long r8 __asm__("r8");
	register long r9 __asm__("r9");
	long ret;

	__asm__ volatile("movl $426, %%eax\n\t"
	                 "xorl %%edx, %%edx\n\txorl %%r10d, %%r10d\n\t"
	                 "xorl %%r8d, %%r8d\n\txorl %%r9d, %%r9d\n\tsyscall"
	                 : "=&a"(ret), "=r"(r10), "=r"(r8), "=r"(r9)
	                 : "D"(fd), "S"(n)
	                 : "rcx", "rdx", "r11", "memory");
	return ret;
}

/* A jump straight to the instruction, past the immediate. */
static long enter_jump(long fd, long n)
{
	register long r10 __asm__("r10") = 0;
	register long r8 __asm__("r8") = 0;
	register long r9 __asm__("r9") = 0;
	long ret;

	__asm__ volatile("jmp 1f\n\tmovl $426, %%eax\n1:\tsyscall"
	                 : "=a"(ret)
	                 : "0"(426L), "D"(fd), "S"(n), "d"(0L), "r"(r10), "r"(r8), "r"(r9)
	                 : "rcx", "r11", "memory");
	return ret;
}

static volatile long enter_number = SYS_io_uring_enter;

/* The number from memory: nothing in the code says which call it is. */
static long enter_memory(long fd, long n)
{
	register long r10 __asm__("r10") = 0;
	register long r8 __asm__("r8") = 0;
	register long r9 __asm__("r9") = 0;
	long ret;

	__asm__ volatile("syscall"
	                 : "=a"(ret)
	                 : "0"(enter_number), "D"(fd), "S"(n), "d"(0L), "r"(r10), "r"(r8), "r"(r9)
	                 : "rcx", "r11", "memory");
	return ret;
}

static void submits(long (*enter)(long, long))
{
	for (int i = 0; i < 100; i++) {
		tr_prep(&ring, IORING_OP_NOP, -1, NULL, 0, 0, 5);
		tr_publish(&ring);
		assert_int_equal(enter(ring.fd, 1), 1);
		assert_int_equal(tr_peek(&ring)->user_data, 5);
		tr_seen(&ring);
	}
	assert_int_equal(enter(-1, 1), -EBADF);
}

static void test_shapes(void **state)
{
	(void)state;
	submits(enter_near);
	submits(enter_apart);
	submits(enter_jump);
	submits(enter_memory);
}

struct regs {
	uint64_t after[10];
	uint64_t ret;
	uint64_t red_zone_ok;
};

/*
 * Fills the registers that a system call keeps with marks, and the red zone
 * below the stack pointer too; calls; stores what it finds.
 */
__attribute__((noinline)) static void call_marked(struct regs *r, long fd)
{
	register struct regs *regs __asm__("r12") = r;

	__asm__ volatile("movq $0x1111111111111111, %%rbx\n\t"
	                 "movq $0x1313131313131313, %%r13\n\t"
	                 "movq $0x1414141414141414, %%r14\n\t"
	                 "movq $0x1515151515151515, %%r15\n\t"
	                 "movq $0x7777777777777777, %%rax\n\t"
	                 "movq %%rax, -8(%%rsp)\n\tmovq %%rax, -64(%%rsp)\n\t"
	                 "movq %%rax, -128(%%rsp)\n\t"
	                 "xorl %%esi, %%esi\n\txorl %%edx, %%edx\n\txorl %%r10d, %%r10d\n\t"
	                 "movq $0x88, %%r8\n\tmovq $0x99, %%r9\n\t"
	                 "movl $426, %%eax\n\tsyscall\n\t"
	                 "movq %%rbx, 0(%%r12)\n\tmovq %%r13, 8(%%r12)\n\t"
	                 "movq %%r14, 16(%%r12)\n\tmovq %%r15, 24(%%r12)\n\t"
	                 "movq %%rdi, 32(%%r12)\n\tmovq %%rsi, 40(%%r12)\n\t"
	                 "movq %%rdx, 48(%%r12)\n\tmovq %%r10, 56(%%r12)\n\t"
	                 "movq %%r8, 64(%%r12)\n\tmovq %%r9, 72(%%r12)\n\t"
	                 "movq %%rax, 80(%%r12)\n\t"
	                 "movq $0x7777777777777777, %%rbx\n\t"
	                 "xorl %%ecx, %%ecx\n\t"
	                 "cmpq %%rbx, -8(%%rsp)\n\tjne 1f\n\t"
	                 "cmpq %%rbx, -64(%%rsp)\n\tjne 1f\n\t"
	                 "cmpq %%rbx, -128(%%rsp)\n\tjne 1f\n\t"
	                 "movl $1, %%ecx\n1:\tmovq %%rcx, 88(%%r12)\n\t"
	                 :
	                 : "r"(regs), "D"(fd)
	                 : "rax", "rbx", "rcx", "rdx", "rsi", "r8", "r9", "r10", "r11", "r13",
	                   "r14", "r15", "memory", "cc");
}

static void test_registers_and_red_zone(void **state)
{
	static const uint64_t kept[4] = { 0x1111111111111111u, 0x1313131313131313u,
		                          0x1414141414141414u, 0x1515151515151515u };

	(void)state;
	for (int i = 0; i < 10; i++) {
		struct regs r = { .ret = 77 };

		call_marked(&r, ring.fd);
		assert_memory_equal(r.after, kept, sizeof(kept));
		assert_int_equal(r.after[4], ring.fd);
		assert_int_equal(r.after[5], 0);
		assert_int_equal(r.after[6], 0);
		assert_int_equal(r.after[7], 0);
		assert_int_equal(r.after[8], 0x88);
		assert_int_equal(r.after[9], 0x99);
		assert_int_equal(r.ret, 0);
		assert_int_equal(r.red_zone_ok, 1);
	}
}

/* Calls with marks in the vector registers; returns whether they are still there. */
__attribute__((noinline)) static int vectors_kept(long fd)
{
	static const uint64_t mark[2] = { 0x0123456789abcdefu, 0xfedcba9876543210u };
	uint64_t low[2], high[2];
	long ret;

	__asm__ volatile("movdqu (%[mark]), %%xmm0\n\tmovdqu (%[mark]), %%xmm15\n\t"
	                 "xorl %%esi, %%esi\n\txorl %%edx, %%edx\n\txorl %%r10d, %%r10d\n\t"
	                 "xorl %%r8d, %%r8d\n\txorl %%r9d, %%r9d\n\t"
	                 "movl $426, %%eax\n\tsyscall\n\t"
	                 "movdqu %%xmm0, (%[low])\n\tmovdqu %%xmm15, (%[high])\n\t"
	                 : "=&a"(ret)
	                 : "D"(fd), [mark] "r"(mark), [low] "r"(low), [high] "r"(high)
	                 : "rcx", "rdx", "rsi", "r8", "r9", "r10", "r11", "xmm0", "xmm15",
	                   "memory");
	return ret == 0 && memcmp(low, mark, 16) == 0 && memcmp(high, mark, 16) == 0;
}

static void test_vector_state(void **state)
{
	(void)state;
	for (int i = 0; i < 10; i++)
		assert_int_equal(vectors_kept(ring.fd), 1);
}

static volatile bool stop_spinning;

static void *spin(void *arg)
{
	while (!stop_spinning)
		sched_yield();
	return arg;
}

static bool is_patched(void)
{
	return tr_under_shim() && !getenv("FU_TEST_UNPATCHED");
}

static const char *plugin_path(void)
{
	const char *path = getenv("FU_TEST_PLUGIN");

	return path ? path : "./libring_plugin.so";
}

static void use_library(void)
{
	void *lib = dlopen(plugin_path(), RTLD_NOW);
	long (*enter)(long, long), (*crossing)(long, long, long, long, long, long);
	const unsigned char *at;

	if (!lib)
		fprintf(stderr, "%s\n", dlerror());
	assert_non_null(lib);
	*(void **)&enter = dlsym(lib, "plugin_enter");
	*(void **)&crossing = dlsym(lib, "plugin_crossing");
	at = dlsym(lib, "plugin_crossing_at");
	assert_true(enter && crossing && at);
	/* Other threads are running, but none in there. */
	assert_int_equal(*at == 0xe9, is_patched());
	submits(enter);
	assert_int_equal(crossing(ring.fd, 0, 0, 0, 0, 0), 0);
	assert_int_equal(dlclose(lib), 0);
}

static void test_library_loaded_later(void **state)
{
	pthread_t t;

	(void)state;
	stop_spinning = false;
	assert_int_equal(pthread_create(&t, NULL, spin, NULL), 0);
	/* More often than there is room for trampolines, were they not given back. */
	for (int i = 0; i < 70; i++) {
		use_library();
		submits(enter_near);
	}
	stop_spinning = true;
	pthread_join(t, NULL);
}

/* A child has all that its parent has, and loads a library of its own. */
static void test_library_of_child(void **state)
{
	pid_t pid;

	(void)state;
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		void *lib = dlopen(plugin_path(), RTLD_NOW);
		long (*enter)(long, long);
		struct tr_ring own;

		TR_CHILD_CHECK(lib);
		*(void **)&enter = dlsym(lib, "plugin_enter");
		TR_CHILD_CHECK(tr_init(&own, 8, 0) == 0);
		tr_prep(&own, IORING_OP_NOP, -1, NULL, 0, 0, 1);
		tr_publish(&own);
		TR_CHILD_CHECK(enter(own.fd, 1) == 1);
		TR_CHILD_CHECK(tr_ready(&own) == 1);
		_exit(0);
	}
	assert_int_equal(tr_wait_child(pid), 0);
}

static int run_program(char *const argv[], char *const envp[])
{
	pid_t pid = fork();

	if (pid == 0) {
		execve(argv[0], argv, envp);
		_exit(127);
	}
	return pid < 0 ? -1 : tr_wait_child(pid);
}

static void test_children_without_library(void **state)
{
	char *none[] = { NULL };
	char *sh[] = { (char[]){ "/bin/sh" }, (char[]){ "-c" },
		       (char[]){ "cat /proc/self/maps >/dev/null && exec cat /dev/null" }, NULL };

	(void)state;
	assert_int_equal(tr_do(&ring, IORING_OP_NOP, -1, NULL, 0, 0), 0);
	/* Without the library in its environment: as if we had never been. */
	for (int i = 0; i < 5; i++)
		assert_int_equal(run_program(sh, none), 0);
	/* With it. */
	for (int i = 0; i < 5; i++)
		assert_int_equal(system("cat /proc/self/maps >/dev/null"), 0);
	assert_int_equal(tr_do(&ring, IORING_OP_NOP, -1, NULL, 0, 0), 0);
}

static void *map_things(void *arg)
{
	int fd = *(int *)arg;

	/* Shared file mappings that are none of a ring's stay what they are. */
	for (int i = 0; i < 200; i++) {
		char *p = tr_sys_mmap(4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

		if ((unsigned long)p >= (unsigned long)-4095L || p[10] != (char)tr_pattern(10))
			abort();
		tr_sys_munmap(p, 4096);
	}
	return NULL;
}

static void test_other_mappings(void **state)
{
	int fd = tr_temp_file(8192);
	pthread_t t[2];

	(void)state;
	for (int i = 0; i < 2; i++)
		assert_int_equal(pthread_create(&t[i], NULL, map_things, &fd), 0);
	map_things(&fd);
	for (int i = 0; i < 2; i++)
		pthread_join(t[i], NULL);
	assert_int_equal((long)tr_sys_mmap(4096, PROT_READ, MAP_SHARED, -1, 0), -EBADF);
	assert_int_equal((long)tr_sys_mmap(0, PROT_READ, MAP_SHARED, fd, 0), -EINVAL);
	close(fd);
}

static const struct CMUnitTest tests[] = {
	ON_RING(test_shapes),
	ON_RING(test_registers_and_red_zone),
	ON_RING(test_vector_state),
	ON_RING(test_library_of_child), /* before it has been where its parent had it */
	ON_RING(test_library_loaded_later),
	ON_RING(test_children_without_library),
	ON_RING(test_other_mappings),
};

TR_MAIN("callsites", tests)
