/*
 * A ring as a test sees it: raw io_uring, without liburing between the test and
 * the interface. Every call returns what the kernel would, a value or -errno.
 *
 * Each of the system calls goes one of two ways, which a test program runs
 * through in turn: libc's functions (syscall(), mmap(), close()...), or inline
 * `syscall` instructions, as liburing and fio have them.
 */
#ifndef FU_TESTS_RING_UTIL_H
#define FU_TESTS_RING_UTIL_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <sys/types.h>
#include <cmocka.h>
#include <linux/time_types.h>
#include <liburing/io_uring.h>

enum tr_entry { TR_LIBC, TR_INLINE };

/* The way that all calls below take. */
extern enum tr_entry tr_entry;

/* How the ring is mapped: one mapping for SQ and CQ ring, or one for each. */
enum tr_maps { TR_ONE_MMAP, TR_THREE_MMAPS };

struct tr_ring {
	int fd;
	struct io_uring_params p;
	char *sq; /* SQ ring */
	char *cq; /* CQ ring; with one mapping the same as sq */
	size_t sq_bytes;
	size_t cq_bytes; /* 0 if the CQ ring has no mapping of its own */
	struct io_uring_sqe *sqes;
	size_t sqes_bytes;
	unsigned *sq_head, *sq_tail, *sq_mask, *sq_entries, *sq_flags, *sq_dropped, *sq_array;
	unsigned *cq_head, *cq_tail, *cq_mask, *cq_entries, *cq_flags, *cq_overflow;
	struct io_uring_cqe *cqes;
	unsigned sqe_tail; /* SQEs handed out by tr_sqe, not yet shown to the kernel */
};

/* The system calls. */
int tr_sys_setup(unsigned entries, struct io_uring_params *p);
int tr_sys_enter(int fd, unsigned to_submit, unsigned min_complete, unsigned flags, const void *arg,
                 size_t argsz);
int tr_sys_register(int fd, unsigned opcode, const void *arg, unsigned nr_args);
void *tr_sys_mmap(size_t bytes, int prot, int flags, int fd, uint64_t offset);
int tr_sys_munmap(void *addr, size_t bytes);
int tr_sys_close(int fd);

/* Makes and maps a ring. Returns 0 or -errno; on error nothing is left. */
int tr_init_params(struct tr_ring *r, unsigned entries, struct io_uring_params *p,
                   enum tr_maps maps);
int tr_init(struct tr_ring *r, unsigned entries, unsigned flags);
/* Only maps a ring that exists (r->fd, r->p). */
int tr_map(struct tr_ring *r, enum tr_maps maps);
void tr_unmap(struct tr_ring *r);
void tr_exit(struct tr_ring *r);

/* The next free SQE, zeroed, or NULL when the SQ is full. */
struct io_uring_sqe *tr_sqe(struct tr_ring *r);
/* The same, filled in; fails the test when the SQ is full. */
struct io_uring_sqe *tr_prep(struct tr_ring *r, int op, int fd, const void *addr, unsigned len,
                             uint64_t off, uint64_t user_data);
/* Shows all new SQEs to the kernel without entering it; returns how many are now unconsumed. */
unsigned tr_publish(struct tr_ring *r);
int tr_submit(struct tr_ring *r);
int tr_submit_wait(struct tr_ring *r, unsigned min_complete);

/* The first CQE in the ring or NULL, without entering. */
struct io_uring_cqe *tr_peek(struct tr_ring *r);
void tr_seen(struct tr_ring *r);
unsigned tr_ready(struct tr_ring *r);
/* Waits until there is a CQE, takes it off the ring and stores it. Returns 0 or -errno. */
int tr_wait(struct tr_ring *r, struct io_uring_cqe *cqe);
/* The same, no longer than `ms`: -ETIME. */
int tr_wait_ms(struct tr_ring *r, struct io_uring_cqe *cqe, unsigned ms);
/* Waits for a CQE and takes it; fails the test unless it is this one. */
void tr_expect(struct tr_ring *r, uint64_t user_data, int res, unsigned flags);
/* Submits what is prepared and takes one CQE; fails the test unless it carries user_data. */
int tr_run(struct tr_ring *r, uint64_t user_data);
/* Submits one request and returns its CQE's res. The ring must be idle. */
int tr_do(struct tr_ring *r, int op, int fd, const void *addr, unsigned len, uint64_t off);

/* The number of entries in /proc/self/<dir>; -1 if it cannot be read. */
int tr_count_dir(const char *dir);
/* A new unlinked file in the working directory, with `bytes` bytes of pattern in it. */
int tr_temp_file(size_t bytes);
/* Byte `at` of that pattern. */
unsigned char tr_pattern(size_t at);
void tr_sleep_ms(unsigned ms);
/* True when the shim serves; false when the program runs on the kernel, as the oracle. */
bool tr_under_shim(void);
/* Whether there is this operation: three stand on system calls that old kernels do not have. */
bool tr_has_op(struct tr_ring *r, int op);
/* Whether preadv2 takes this flag for a file, of which it may read a byte. */
bool tr_has_rwf(int fd, int flag);
/* Runs fn(arg) in a thread of its own, to its end; what it returns. Fails the test without one. */
void *tr_in_thread(void *(*fn)(void *), void *arg);
/* Whether the kernel reads pipes without waiting (since 6.4); else a worker has to. */
bool tr_has_pipe_nowait(void);
/* Waits for a child and returns its exit status, 128 + signal if it was killed. */
int tr_wait_child(pid_t pid);

/*
 * Inside a forked child, where cmocka's own assertions would return into the
 * parent's test run: prints and exits with 1.
 */
#define TR_CHILD_CHECK(cond)                                                              \
	do {                                                                              \
		if (!(cond)) {                                                            \
			fprintf(stderr, "child: %s:%d: %s\n", __FILE__, __LINE__, #cond); \
			_exit(1);                                                         \
		}                                                                         \
	} while (0)

/*
 * For a program whose tests need one ring and nothing else: `ring`, made anew for each of them.
 * ON_RING lists a test with the setup and teardown of its file, these or others.
 */
#define TR_ONE_RING(entries)                         \
	static struct tr_ring ring;                  \
	static int setup(void **state)               \
	{                                            \
		(void)state;                         \
		return tr_init(&ring, (entries), 0); \
	}                                            \
	static int teardown(void **state)            \
	{                                            \
		(void)state;                         \
		tr_exit(&ring);                      \
		return 0;                            \
	}                                            \
	_Static_assert((entries) > 0, "a ring has entries")
#define ON_RING(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

/*
 * For a program some of whose tests are for rings with deferred task work, too: the setup that
 * DEFERRED lists a test with, and that of ON_RING, from its setup_flags().
 */
#define TR_BOTH_SETUPS                                                                       \
	static int setup(void **state)                                                       \
	{                                                                                    \
		(void)state;                                                                 \
		return setup_flags(0);                                                       \
	}                                                                                    \
	static int setup_deferred(void **state)                                              \
	{                                                                                    \
		(void)state;                                                                 \
		return setup_flags(IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN); \
	}                                                                                    \
	_Static_assert(IORING_SETUP_DEFER_TASKRUN != 0, "a flag")
#define DEFERRED(f) cmocka_unit_test_setup_teardown(f, setup_deferred, teardown)

/* The same with `ring` and the two descriptors `ends`, which `make` opens, and nothing else. */
#define TR_RING_AND_ENDS(entries, ends, make)                      \
	static struct tr_ring ring;                                \
	static int ends[2];                                        \
	static int setup_flags(unsigned flags)                     \
	{                                                          \
		return (make) || tr_init(&ring, (entries), flags); \
	}                                                          \
	static int teardown(void **state)                          \
	{                                                          \
		(void)state;                                       \
		tr_exit(&ring);                                    \
		close(ends[0]);                                    \
		close(ends[1]);                                    \
		return 0;                                          \
	}                                                          \
	TR_BOTH_SETUPS

/* Runs the group once through libc and once inline; the sum of failed tests. */
int tr_run_group(const char *name, const struct CMUnitTest *tests, size_t count);

#define TR_MAIN(name, tests)                                                        \
	int main(void)                                                              \
	{                                                                           \
		return tr_run_group(name, tests, sizeof(tests) / sizeof(tests[0])); \
	}

#endif
