/* A ring as a test sees it; see ring_util.h. */
#include "tests/ring_util.h"

#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum tr_entry tr_entry = TR_LIBC;

/*
 * An inline system call with its number as an immediate directly before the
 * instruction: what compilers make of liburing's and fio's own wrappers.
 */
#define TR_INLINE_CALL(nr, a, b, c, d, e, f)                                                       \
	({                                                                                         \
		long tr_ret;                                                                       \
		register long tr_d __asm__("r10") = (d);                                           \
		register long tr_e __asm__("r8") = (e);                                            \
		register long tr_f __asm__("r9") = (f);                                            \
		__asm__ volatile("movl %[number], %%eax\n\tsyscall"                                \
		                 : "=&a"(tr_ret)                                                   \
		                 : [number] "i"(nr), "D"(a), "S"(b), "d"(c), "r"(tr_d), "r"(tr_e), \
		                   "r"(tr_f)                                                       \
		                 : "rcx", "r11", "memory");                                        \
		tr_ret;                                                                            \
	})

static int libc_result(long ret)
{
	return ret == -1 ? -errno : (int)ret;
}

#ifdef TR_DIRECT
/* Linked with the engine itself, for ThreadSanitizer, which no preloaded library may precede. */
#include "engine/entry.h"

int tr_sys_setup(unsigned entries, struct io_uring_params *p)
{
	return (int)fu_io_uring_setup(entries, p);
}

int tr_sys_enter(int fd, unsigned to_submit, unsigned min_complete, unsigned flags, const void *arg,
                 size_t argsz)
{
	return (int)fu_io_uring_enter((unsigned)fd, to_submit, min_complete, flags, arg, argsz);
}

int tr_sys_register(int fd, unsigned opcode, const void *arg, unsigned nr_args)
{
	return (int)fu_io_uring_register((unsigned)fd, opcode, (void *)(uintptr_t)arg, nr_args);
}

void *tr_sys_mmap(size_t bytes, int prot, int flags, int fd, uint64_t offset)
{
	long ret;
	void *p;

	if (fu_ring_mmap(NULL, bytes, prot, flags, fd, offset, &ret))
		return (void *)ret;
	p = mmap(NULL, bytes, prot, flags, fd, (off_t)offset);
	return p == MAP_FAILED ? (void *)(long)-errno : p;
}

int tr_sys_munmap(void *addr, size_t bytes)
{
	return libc_result(munmap(addr, bytes));
}

int tr_sys_close(int fd)
{
	int ret = libc_result(close(fd));

	if (!ret)
		fu_fd_closed(fd);
	return ret;
}
#else

int tr_sys_setup(unsigned entries, struct io_uring_params *p)
{
	if (tr_entry == TR_INLINE)
		return (int)TR_INLINE_CALL(__NR_io_uring_setup, (long)entries, (long)p, 0L, 0L, 0L,
		                           0L);
	return libc_result(syscall(__NR_io_uring_setup, entries, p));
}

int tr_sys_enter(int fd, unsigned to_submit, unsigned min_complete, unsigned flags, const void *arg,
                 size_t argsz)
{
	if (tr_entry == TR_INLINE)
		return (int)TR_INLINE_CALL(__NR_io_uring_enter, (long)fd, (long)to_submit,
		                           (long)min_complete, (long)flags, (long)arg, (long)argsz);
	return libc_result(
	        syscall(__NR_io_uring_enter, fd, to_submit, min_complete, flags, arg, argsz));
}

int tr_sys_register(int fd, unsigned opcode, const void *arg, unsigned nr_args)
{
	if (tr_entry == TR_INLINE)
		return (int)TR_INLINE_CALL(__NR_io_uring_register, (long)fd, (long)opcode,
		                           (long)arg, (long)nr_args, 0L, 0L);
	return libc_result(syscall(__NR_io_uring_register, fd, opcode, arg, nr_args));
}

void *tr_sys_mmap(size_t bytes, int prot, int flags, int fd, uint64_t offset)
{
	void *p;

	if (tr_entry == TR_INLINE)
		return (void *)TR_INLINE_CALL(__NR_mmap, 0L, (long)bytes, (long)prot, (long)flags,
		                              (long)fd, (long)offset);
	p = mmap(NULL, bytes, prot, flags, fd, (off_t)offset);
	return p == MAP_FAILED ? (void *)(long)-errno : p;
}

int tr_sys_munmap(void *addr, size_t bytes)
{
	if (tr_entry == TR_INLINE)
		return (int)TR_INLINE_CALL(__NR_munmap, (long)addr, (long)bytes, 0L, 0L, 0L, 0L);
	return libc_result(munmap(addr, bytes));
}

int tr_sys_close(int fd)
{
	if (tr_entry == TR_INLINE)
		return (int)TR_INLINE_CALL(__NR_close, (long)fd, 0L, 0L, 0L, 0L, 0L);
	return libc_result(close(fd));
}

#endif

static int map_error(const void *p)
{
	return (uintptr_t)p >= (uintptr_t)-4095L ? (int)(long)p : 0;
}

static unsigned *ring_field(char *base, unsigned offset)
{
	return (unsigned *)(void *)(base + offset);
}

static void set_pointers(struct tr_ring *r)
{
	const struct io_uring_params *p = &r->p;

	r->sq_head = ring_field(r->sq, p->sq_off.head);
	r->sq_tail = ring_field(r->sq, p->sq_off.tail);
	r->sq_mask = ring_field(r->sq, p->sq_off.ring_mask);
	r->sq_entries = ring_field(r->sq, p->sq_off.ring_entries);
	r->sq_flags = ring_field(r->sq, p->sq_off.flags);
	r->sq_dropped = ring_field(r->sq, p->sq_off.dropped);
	r->sq_array = ring_field(r->sq, p->sq_off.array);
	r->cq_head = ring_field(r->cq, p->cq_off.head);
	r->cq_tail = ring_field(r->cq, p->cq_off.tail);
	r->cq_mask = ring_field(r->cq, p->cq_off.ring_mask);
	r->cq_entries = ring_field(r->cq, p->cq_off.ring_entries);
	r->cq_overflow = ring_field(r->cq, p->cq_off.overflow);
	r->cq_flags = ring_field(r->cq, p->cq_off.flags);
	r->cqes = (struct io_uring_cqe *)(void *)(r->cq + p->cq_off.cqes);
}

int tr_map(struct tr_ring *r, enum tr_maps maps)
{
	const int prot = PROT_READ | PROT_WRITE;
	const int flags = MAP_SHARED | MAP_POPULATE;
	size_t cq_bytes = r->p.cq_off.cqes + r->p.cq_entries * sizeof(struct io_uring_cqe);
	void *map;

	r->sq_bytes = r->p.sq_off.array + r->p.sq_entries * sizeof(unsigned);
	r->cq_bytes = maps == TR_THREE_MMAPS ? cq_bytes : 0;
	if (maps == TR_ONE_MMAP && cq_bytes > r->sq_bytes)
		r->sq_bytes = cq_bytes;
	r->sqes_bytes = r->p.sq_entries * sizeof(struct io_uring_sqe);

	map = tr_sys_mmap(r->sqes_bytes, prot, flags, r->fd, IORING_OFF_SQES);
	if (map_error(map))
		return map_error(map);
	r->sqes = map;
	map = tr_sys_mmap(r->sq_bytes, prot, flags, r->fd, IORING_OFF_SQ_RING);
	if (map_error(map)) {
		tr_sys_munmap(r->sqes, r->sqes_bytes);
		return map_error(map);
	}
	r->sq = map;
	r->cq = map;
	if (maps == TR_THREE_MMAPS) {
		map = tr_sys_mmap(r->cq_bytes, prot, flags, r->fd, IORING_OFF_CQ_RING);
		if (map_error(map)) {
			r->cq_bytes = 0;
			tr_unmap(r);
			return map_error(map);
		}
		r->cq = map;
	}
	set_pointers(r);
	r->sqe_tail = *r->sq_tail;
	return 0;
}

void tr_unmap(struct tr_ring *r)
{
	tr_sys_munmap(r->sqes, r->sqes_bytes);
	tr_sys_munmap(r->sq, r->sq_bytes);
	if (r->cq_bytes)
		tr_sys_munmap(r->cq, r->cq_bytes);
}

int tr_init_params(struct tr_ring *r, unsigned entries, struct io_uring_params *p,
                   enum tr_maps maps)
{
	int rc;

	memset(r, 0, sizeof(*r));
	rc = tr_sys_setup(entries, p);
	if (rc < 0)
		return rc;
	r->fd = rc;
	r->p = *p;
	rc = tr_map(r, maps);
	if (rc < 0)
		tr_sys_close(r->fd);
	return rc;
}

int tr_init(struct tr_ring *r, unsigned entries, unsigned flags)
{
	struct io_uring_params p = { .flags = flags };

	return tr_init_params(r, entries, &p, TR_ONE_MMAP);
}

void tr_exit(struct tr_ring *r)
{
	tr_unmap(r);
	tr_sys_close(r->fd);
}

struct io_uring_sqe *tr_sqe(struct tr_ring *r)
{
	unsigned head = __atomic_load_n(r->sq_head, __ATOMIC_ACQUIRE);
	unsigned index = r->sqe_tail & *r->sq_mask;
	struct io_uring_sqe *sqe = &r->sqes[index];

	if (r->sqe_tail - head >= r->p.sq_entries)
		return NULL;
	r->sqe_tail++;
	r->sq_array[index] = index;
	memset(sqe, 0, sizeof(*sqe));
	return sqe;
}

struct io_uring_sqe *tr_prep(struct tr_ring *r, int op, int fd, const void *addr, unsigned len,
                             uint64_t off, uint64_t user_data)
{
	struct io_uring_sqe *sqe = tr_sqe(r);

	assert_non_null(sqe);
	sqe->opcode = (uint8_t)op;
	sqe->fd = fd;
	sqe->addr = (uint64_t)(uintptr_t)addr;
	sqe->len = len;
	sqe->off = off;
	sqe->user_data = user_data;
	return sqe;
}

unsigned tr_publish(struct tr_ring *r)
{
	__atomic_store_n(r->sq_tail, r->sqe_tail, __ATOMIC_RELEASE);
	return r->sqe_tail - __atomic_load_n(r->sq_head, __ATOMIC_ACQUIRE);
}

int tr_submit(struct tr_ring *r)
{
	return tr_sys_enter(r->fd, tr_publish(r), 0, 0, NULL, 0);
}

int tr_submit_wait(struct tr_ring *r, unsigned min_complete)
{
	return tr_sys_enter(r->fd, tr_publish(r), min_complete, IORING_ENTER_GETEVENTS, NULL, 0);
}

unsigned tr_ready(struct tr_ring *r)
{
	return __atomic_load_n(r->cq_tail, __ATOMIC_ACQUIRE) -
	       __atomic_load_n(r->cq_head, __ATOMIC_RELAXED);
}

struct io_uring_cqe *tr_peek(struct tr_ring *r)
{
	if (tr_ready(r) == 0)
		return NULL;
	return &r->cqes[__atomic_load_n(r->cq_head, __ATOMIC_RELAXED) & *r->cq_mask];
}

void tr_seen(struct tr_ring *r)
{
	__atomic_store_n(r->cq_head, *r->cq_head + 1, __ATOMIC_RELEASE);
}

static void take(struct tr_ring *r, struct io_uring_cqe *cqe)
{
	*cqe = *tr_peek(r);
	tr_seen(r);
}

int tr_wait(struct tr_ring *r, struct io_uring_cqe *cqe)
{
	while (!tr_peek(r)) {
		int rc = tr_sys_enter(r->fd, 0, 1, IORING_ENTER_GETEVENTS, NULL, 0);

		if (rc < 0)
			return rc;
	}
	take(r, cqe);
	return 0;
}

int tr_wait_ms(struct tr_ring *r, struct io_uring_cqe *cqe, unsigned ms)
{
	struct __kernel_timespec ts = { .tv_sec = ms / 1000,
		                        .tv_nsec = (long long)(ms % 1000) * 1000000 };
	struct io_uring_getevents_arg arg = { .ts = (uint64_t)(uintptr_t)&ts };

	while (!tr_peek(r)) {
		int rc = tr_sys_enter(r->fd, 0, 1, IORING_ENTER_GETEVENTS | IORING_ENTER_EXT_ARG,
		                      &arg, sizeof(arg));

		if (rc < 0)
			return rc;
	}
	take(r, cqe);
	return 0;
}

void tr_expect(struct tr_ring *r, uint64_t user_data, int res, unsigned flags)
{
	struct io_uring_cqe cqe;

	assert_int_equal(tr_wait(r, &cqe), 0);
	assert_int_equal(cqe.user_data, user_data);
	assert_int_equal(cqe.res, res);
	assert_int_equal(cqe.flags, flags);
}

int tr_run(struct tr_ring *r, uint64_t user_data)
{
	struct io_uring_cqe cqe;

	assert_int_equal(tr_submit_wait(r, 1), 1);
	assert_int_equal(tr_wait(r, &cqe), 0);
	assert_int_equal(cqe.user_data, user_data);
	return cqe.res;
}

int tr_do(struct tr_ring *r, int op, int fd, const void *addr, unsigned len, uint64_t off)
{
	static uint64_t next = 0x1000;
	uint64_t user_data = next++;

	tr_prep(r, op, fd, addr, len, off, user_data);
	return tr_run(r, user_data);
}

int tr_count_dir(const char *dir)
{
	char path[64];
	DIR *d;
	int n = 0;
	const struct dirent *entry;

	snprintf(path, sizeof(path), "/proc/self/%s", dir);
	d = opendir(path);
	if (!d)
		return -1;
	while ((entry = readdir(d)) != NULL)
		n += entry->d_name[0] != '.';
	closedir(d);
	return n;
}

unsigned char tr_pattern(size_t at)
{
	return (unsigned char)((at * 31 + (at >> 8) * 7 + (at >> 16)) & 0xff);
}

int tr_temp_file(size_t bytes)
{
	char path[] = "./fakeuring-test.XXXXXX";
	int fd = mkstemp(path);
	unsigned char *buf = malloc(bytes + 1);

	assert_true(fd >= 0);
	assert_non_null(buf);
	unlink(path);
	for (size_t i = 0; i < bytes; i++)
		buf[i] = tr_pattern(i);
	assert_int_equal(write(fd, buf, bytes), bytes);
	free(buf);
	return fd;
}

void tr_sleep_ms(unsigned ms)
{
	struct timespec ts = { .tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000 };

	while (nanosleep(&ts, &ts) < 0 && errno == EINTR)
		;
}

bool tr_under_shim(void)
{
	return getenv("FU_TEST_UNDER_SHIM") != NULL;
}

bool tr_has_op(struct tr_ring *r, int op)
{
	union {
		struct io_uring_probe head;
		char bytes[sizeof(struct io_uring_probe) + 256 * sizeof(struct io_uring_probe_op)];
	} probe;

	memset(&probe, 0, sizeof(probe));
	assert_int_equal(tr_sys_register(r->fd, IORING_REGISTER_PROBE, &probe, 256), 0);
	return probe.head.ops[op].flags & IO_URING_OP_SUPPORTED;
}

bool tr_has_rwf(int fd, int flag)
{
	char byte;
	struct iovec iov = { .iov_base = &byte, .iov_len = 1 };

	return preadv2(fd, &iov, 1, -1, flag) >= 0 || errno != EOPNOTSUPP;
}

bool tr_has_pipe_nowait(void)
{
	int p[2];
	bool has;

	assert_int_equal(pipe(p), 0);
	assert_int_equal(write(p[1], "x", 1), 1);
	has = tr_has_rwf(p[0], RWF_NOWAIT);
	close(p[0]);
	close(p[1]);
	return has;
}

void *tr_in_thread(void *(*fn)(void *), void *arg)
{
	pthread_t thread;
	void *ret;

	assert_int_equal(pthread_create(&thread, NULL, fn, arg), 0);
	assert_int_equal(pthread_join(thread, &ret), 0);
	return ret;
}

int tr_wait_child(pid_t pid)
{
	int status;

	while (waitpid(pid, &status, 0) < 0) {
		if (errno != EINTR)
			return -errno;
	}
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

int tr_run_group(const char *name, const struct CMUnitTest *tests, size_t count)
{
	static const char *const ways[] = { [TR_LIBC] = "libc", [TR_INLINE] = "inline" };
	int failed = 0;

	setvbuf(stdout, NULL, _IOLBF, 0);
	for (int way = TR_LIBC; way <= TR_INLINE; way++) {
		char group[64];

		tr_entry = (enum tr_entry)way;
		snprintf(group, sizeof(group), "%s/%s", name, ways[way]);
		failed += _cmocka_run_group_tests(group, tests, count, NULL, NULL);
	}
	return failed != 0;
}
