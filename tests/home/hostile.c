/*
 * A program gone mad: system calls with random arguments, rings full of random bytes, buffers
 * unmapped and files closed while they are in use. Errors, but no crash, no hang, and nothing
 * written where nobody asked for it.
 */
#include "tests/home/home.h"

#include <fcntl.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>

static uint64_t seed;

static uint64_t next(void)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return seed;
}

static char *arena; /* what random pointers point into */
enum { ARENA = 1 << 20 };

static uint64_t value(void)
{
	switch (next() % 8) {
	case 0:
		return next();
	case 1:
		return next() % 4096;
	case 2:
		return (uint64_t)(uintptr_t)arena + next() % ARENA;
	case 3:
		return ~0ULL - next() % 4096;
	case 4:
		return 1ULL << next() % 64;
	case 5:
		return next() & 0xffffffff;
	default:
		return next() % 40;
	}
}

/* Numbers above 2 only: what is printed is to arrive. */
static int some_fd(void)
{
	return next() % 50 ? 3 + (int)(next() % 24) : (int)(next() | 4);
}

static void stir(void)
{
	for (int i = 0; i < 64; i++)
		memcpy(arena + next() % (ARENA - 8) / 8 * 8, &(uint64_t){ value() }, 8);
}

static void random_calls(void)
{
	struct rlimit lim = { 64, 64 };
	int keep;

	/* Workers of the kernel's own are not to be bound or limited for good, nor memory eaten up.
	 */
	TR_CHILD_CHECK(setrlimit(RLIMIT_NOFILE, &lim) == 0);
	arena = mmap(NULL, ARENA, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	TR_CHILD_CHECK(arena != MAP_FAILED);
	keep = open("/dev/null", O_RDWR);
	TR_CHILD_CHECK(keep > 2);
	for (int i = 0; i < 25000; i++) {
		long ret;

		if (i % 16 == 0)
			stir();
		if (i % 512 == 0)
			close_range(24, 60, 0);
		switch (next() % 8) {
		case 0: {
			struct io_uring_params *p = (void *)(arena + next() % 1000 * 8);

			if (next() % 2) {
				memset(p, 0, sizeof(*p));
				p->flags = (unsigned)(next() & next() & next() & next() & 0x7fffff);
			}
			ret = tr_sys_setup((unsigned)(next() % 8 ? next() % 64 : value()), p);
			if (ret > 20)
				tr_sys_close((int)ret);
			break;
		}
		case 1:
		case 2:
		case 3:
			tr_sys_register(some_fd(), (unsigned)(next() % 8 ? next() % 40 : value()),
			                (void *)(uintptr_t)value(), (unsigned)value());
			break;
		default: {
			unsigned flags = (unsigned)(next() % 8 ? next() % 64 & ~1U : value() & ~1U);

			/* Not for ever: without a wait, or with a limit that has passed. */
			if (next() % 4 == 0)
				flags &= ~(1U << 3 | 1U << 6);
			tr_sys_enter(some_fd(), (unsigned)(next() % 4 ? next() % 16 : value()),
			             (unsigned)value(), flags & ~4U, (void *)(uintptr_t)value(),
			             (size_t)(next() % 2 ? value() : 24));
			break;
		}
		}
	}
}

static void test_random_calls(void **state)
{
	(void)state;
	for (int i = 1; i <= 2; i++) {
		seed = 88172645463325252ULL * (unsigned)i + (tr_entry == TR_INLINE);
		assert_int_equal(in_child(random_calls, 50), 0);
	}
}

/* ---- random ring contents ---- */

static void random_rings(void)
{
	static const unsigned flags[] = { 0, IORING_SETUP_IOPOLL, 1U << 13 | 1U << 12,
		                          1U << 8 | 1U << 7, IORING_SETUP_SQPOLL };
	char *guard = mmap(NULL, 3 * 65536, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct rlimit lim = { 200, 200 };

	TR_CHILD_CHECK(setrlimit(RLIMIT_NOFILE, &lim) == 0);
	TR_CHILD_CHECK(guard != MAP_FAILED && mprotect(guard + 65536, 65536, 3) == 0);
	arena = mmap(NULL, ARENA, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	TR_CHILD_CHECK(arena != MAP_FAILED);
	for (int i = 0; i < 60; i++) {
		struct tr_ring r;

		if (tr_init(&r, 32, flags[next() % 5]))
			continue;
		for (int k = 0; k < 40; k++) {
			char *at = (char *)r.sqes;

			stir();
			for (size_t b = 0; b < r.sqes_bytes; b += 8) {
				uint64_t v = value();

				/* Operations that only touch what they are given, on descriptors of
				 * ours. */
				if (b % 64 == 0)
					v = (next() % 16 ? 0 : next() & 0xff00) |
					    (uint64_t)some_fd() << 32 |
					    (uint8_t[]){
						    0,  1,  2,  4,  5,  6,  7,  11, 12, 14,
						    15, 17, 22, 23, 31, 32, 40, 19, 20, 45
					    }[next() % 20];
				memcpy(at + b, &v, 8);
			}
			switch (next() % 8) {
			case 0:
				*r.sq_tail = (unsigned)next();
				break;
			case 1:
				*r.cq_head = (unsigned)next();
				break;
			case 2:
				*r.sq_head = (unsigned)next();
				break;
			case 3:
				*r.cq_tail = (unsigned)next();
				break;
			case 4:
				if (r.sq_array)
					r.sq_array[next() % 32] = (unsigned)next();
				break;
			default:
				*r.sq_tail = *r.sq_head + (unsigned)(next() % 33);
				*r.cq_head = *r.cq_tail;
				break;
			}
			if (next() % 4 == 0) {
				*r.sq_mask = (unsigned)next();
				*r.sq_entries = (unsigned)next();
				*r.cq_mask = (unsigned)next();
				*r.cq_entries = (unsigned)next();
			}
			tr_sys_enter(r.fd, 32, 0, IORING_ENTER_GETEVENTS, NULL, 0);
		}
		tr_exit(&r);
	}
}

static void test_random_rings(void **state)
{
	(void)state;
	for (int i = 1; i <= 2; i++) {
		seed = 6364136223846793005ULL * (unsigned)i + (tr_entry == TR_INLINE);
		assert_int_equal(in_child(random_rings, 50), 0);
	}
}

/* ---- taken away in flight ---- */

static void buffers_go(void)
{
	int file = tr_temp_file(65536);

	for (int i = 0; i < 150; i++) {
		struct tr_ring r;
		int p[2];
		char *buf = mmap(NULL, 65536, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
		                 -1, 0);
		struct iovec *iov = (void *)(buf + 32768);
		struct msghdr *msg = (void *)(buf + 40960);
		int sock[2], n = 0;

		TR_CHILD_CHECK(buf != MAP_FAILED && pipe(p) == 0);
		TR_CHILD_CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, sock) == 0);
		TR_CHILD_CHECK(tr_init(&r, 16, 0) == 0);
		iov[0] = (struct iovec){ buf, 4096 };
		*msg = (struct msghdr){ .msg_iov = iov, .msg_iovlen = 1 };
		tr_prep(&r, IORING_OP_READ, p[0], buf, 4096, 0, 1);
		tr_prep(&r, IORING_OP_READV, p[0], iov, 1, 0, 2);
		tr_prep(&r, IORING_OP_RECVMSG, sock[0], msg, 1, 0, 3);
		tr_prep(&r, IORING_OP_READ, file, buf, 4096, 0, 4)->flags = IOSQE_ASYNC;
		tr_prep(&r, IORING_OP_READV, file, iov, 1, 0, 5)->flags = IOSQE_ASYNC;
		tr_prep(&r, IORING_OP_RECV, sock[0], buf, 64, 0, 6);
		TR_CHILD_CHECK(tr_submit(&r) == 6);
		munmap(buf, 65536);
		if (i % 3 == 0) {
			close(p[0]);
			close(sock[0]);
		}
		signal(SIGPIPE, SIG_IGN);
		if (write(p[1], "0123456789", 10) < 0 || write(sock[1], "0123456789", 10) < 0)
			n = errno;
		close(p[1]);
		close(sock[1]);
		if (i % 2 == 0) {
			for (int k = 0; k < 6; k++) {
				struct io_uring_cqe cqe;

				TR_CHILD_CHECK(tr_wait_ms(&r, &cqe, 10000) == 0);
				TR_CHILD_CHECK(cqe.res <= 4096);
			}
		}
		tr_exit(&r);
		if (i % 3) {
			close(p[0]);
			close(sock[0]);
		}
		(void)n;
	}
	close(file);
}

static void test_buffers_go(void **state)
{
	(void)state;
	assert_int_equal(in_child(buffers_go, 50), 0);
}

/* The ring's own memory is taken away, and its descriptor closed by one thread in another's call.
 */
static void *enters(void *arg)
{
	struct tr_ring *r = arg;

	for (int i = 0; i < 2000; i++)
		tr_sys_enter(r->fd, 4, (unsigned)i % 2, IORING_ENTER_GETEVENTS, NULL, 0);
	return NULL;
}

static void ring_goes(void)
{
	for (int i = 0; i < 40; i++) {
		struct tr_ring r;
		pthread_t t;

		TR_CHILD_CHECK(tr_init(&r, 8, 0) == 0);
		memset(r.sqes, 0, r.sqes_bytes);
		for (int k = 0; k < 8; k++)
			tr_prep(&r, IORING_OP_NOP, -1, NULL, 0, 0, 1);
		tr_publish(&r);
		if (i % 2 == 0) {
			struct tr_ring copy = r;

			/* Enough has completed for all that wait. */
			TR_CHILD_CHECK(tr_sys_enter(r.fd, 4, 0, 0, NULL, 0) == 4);
			TR_CHILD_CHECK(pthread_create(&t, NULL, enters, &copy) == 0);
			usleep((useconds_t)(next() % 500));
			tr_unmap(&r);
			usleep((useconds_t)(next() % 500));
			tr_sys_close(copy.fd);
			pthread_join(t, NULL);
		} else {
			tr_unmap(&r);
			TR_CHILD_CHECK(tr_sys_enter(r.fd, 8, 0, 0, NULL, 0) == 8);
			TR_CHILD_CHECK(tr_sys_close(r.fd) == 0);
		}
	}
}

static void test_ring_goes(void **state)
{
	(void)state;
	seed = 12345;
	assert_int_equal(in_child(ring_goes, 50), 0);
}

static const struct CMUnitTest tests[] = {
	cmocka_unit_test(test_random_calls),
	cmocka_unit_test(test_random_rings),
	cmocka_unit_test(test_buffers_go),
	cmocka_unit_test(test_ring_goes),
};

TR_MAIN("home hostile", tests)
