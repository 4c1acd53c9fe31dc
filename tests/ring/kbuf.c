/*
 * Provided buffers: legacy groups and buffer rings, incremental rings, bundles, and
 * what multishot requests do with them.
 */
#include "tests/ring_util.h"

#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

/* Newer than the header that the tests are built with. */
struct buf_reg {
	uint64_t ring_addr;
	uint32_t ring_entries;
	uint16_t bgid;
	uint16_t flags;
	uint32_t min_left;
	uint32_t resv[5];
};

struct buf_status {
	uint32_t buf_group;
	uint32_t head;
	uint32_t resv[8];
};

#define RING_MMAP       1U
#define RING_INC        2U
#define REGISTER_STATUS 26U
#define READ_MULTISHOT  49
#define RECV_BUNDLE     (1U << 4)
#define F_BUF_MORE      (1U << 4)
#define OFF_PBUF_RING   0x80000000ULL
#define OFF_PBUF_SHIFT  16

#define GROUP   3
#define ENTRIES 8U
#define BYTES   32U

static struct tr_ring ring;
static struct io_uring_buf_ring *bufs;
static char memory[ENTRIES * BYTES];
static int sock[2];

static int setup(void **state)
{
	(void)state;
	if (socketpair(AF_UNIX, SOCK_STREAM, 0, sock))
		return -1;
	bufs = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	return bufs == MAP_FAILED ? -1 : tr_init(&ring, 64, 0);
}

static int teardown(void **state)
{
	(void)state;
	tr_exit(&ring);
	munmap(bufs, 4096);
	close(sock[0]);
	close(sock[1]);
	return 0;
}

static int register_ring_left(unsigned flags, unsigned min_left)
{
	struct buf_reg reg = { .ring_addr = (uintptr_t)bufs,
		               .ring_entries = ENTRIES,
		               .bgid = GROUP,
		               .flags = (uint16_t)flags,
		               .min_left = min_left };

	if (flags & RING_MMAP)
		reg.ring_addr = 0;
	return tr_sys_register(ring.fd, IORING_REGISTER_PBUF_RING, &reg, 1);
}

static int register_ring(unsigned flags)
{
	return register_ring_left(flags, 0);
}

/* Puts `n` buffers into the ring, ids 10 and up. */
static void fill(struct io_uring_buf_ring *br, unsigned n)
{
	uint16_t tail = br->tail;

	for (unsigned i = 0; i < n; i++) {
		struct io_uring_buf *buf = &br->bufs[(tail + i) & (ENTRIES - 1)];

		buf->addr = (uintptr_t)&memory[i * BYTES];
		buf->len = BYTES;
		buf->bid = (uint16_t)(10 + i);
	}
	__atomic_store_n(&br->tail, (uint16_t)(tail + n), __ATOMIC_RELEASE);
}

static unsigned head(void)
{
	struct buf_status status = { .buf_group = GROUP };

	assert_int_equal(tr_sys_register(ring.fd, REGISTER_STATUS, &status, 1), 0);
	return status.head;
}

static struct io_uring_sqe *prep(int op, int fd, unsigned len, unsigned ioprio)
{
	struct io_uring_sqe *sqe = tr_prep(&ring, op, fd, NULL, len, 0, 1);

	sqe->flags |= IOSQE_BUFFER_SELECT;
	sqe->buf_group = GROUP;
	sqe->ioprio = (uint16_t)ioprio;
	return sqe;
}

static void expect(int res, unsigned flags)
{
	struct io_uring_cqe cqe;

	assert_int_equal(tr_wait_ms(&ring, &cqe, 2000), 0);
	assert_int_equal(cqe.res, res);
	assert_int_equal(cqe.flags, flags);
}

static void send_bytes(size_t n)
{
	char data[256];

	memset(data, 'x', sizeof(data));
	assert_int_equal(send(sock[1], data, n, 0), n);
}

#define BUF(id) (IORING_CQE_F_BUFFER | (unsigned)(id) << IORING_CQE_BUFFER_SHIFT)
#define MORE    IORING_CQE_F_MORE
#define REST    IORING_CQE_F_SOCK_NONEMPTY

/* Gives legacy buffers, from 7 on. */
static void provide(int count)
{
	tr_prep(&ring, IORING_OP_PROVIDE_BUFFERS, count, memory, BYTES, 7, 1)->buf_group = GROUP;
	assert_int_equal(tr_run(&ring, 1), 0);
}

static void test_legacy(void **state)
{
	struct io_uring_sqe *sqe;

	(void)state;
	provide(2);
	/* What waits gives its buffer back: the later one gets it first. */
	prep(IORING_OP_RECV, sock[0], 0, 0);
	assert_int_equal(tr_submit(&ring), 1);
	send_bytes(5);
	expect(5, BUF(7));
	send_bytes(5);
	prep(IORING_OP_RECV, sock[0], 2, 0);
	assert_int_equal(tr_submit(&ring), 1);
	expect(2, BUF(8) | REST);
	prep(IORING_OP_RECV, sock[0], 2, 0);
	assert_int_equal(tr_submit(&ring), 1);
	expect(-ENOBUFS, 0);
	sqe = tr_prep(&ring, IORING_OP_REMOVE_BUFFERS, 1, NULL, 0, 0, 1);
	sqe->buf_group = GROUP;
	assert_int_equal(tr_run(&ring, 1), 0);
	/* An empty group makes way for a ring, which does not for another. */
	assert_int_equal(register_ring(0), 0);
	assert_int_equal(register_ring(0), -EEXIST);
	sqe = tr_prep(&ring, IORING_OP_PROVIDE_BUFFERS, 2, memory, BYTES, 7, 1);
	sqe->buf_group = GROUP;
	assert_int_equal(tr_run(&ring, 1), -EINVAL);
}

/* A send takes all of a legacy buffer, and of a ring's what it asks for. */
static void test_send_selected(void **state)
{
	struct io_uring_buf_ring *br = bufs;
	struct io_uring_sqe *sqe;

	(void)state;
	provide(1);
	prep(IORING_OP_SEND, sock[0], 5, 0);
	assert_int_equal(tr_submit(&ring), 1);
	expect((int)BYTES, BUF(7));
	assert_int_equal(register_ring(0), 0);
	fill(br, 1);
	/* A bad address is found before there is a buffer. */
	sqe = prep(IORING_OP_SEND, sock[0], 5, 0);
	sqe->addr2 = 8;
	sqe->addr_len = 16;
	assert_int_equal(tr_submit(&ring), 1);
	expect(-EFAULT, 0);
	prep(IORING_OP_SEND, sock[0], 5, 0);
	assert_int_equal(tr_submit(&ring), 1);
	expect(5, BUF(10));
}

/* A read that waits keeps its legacy buffer, and has it when it is cancelled. */
static void test_legacy_kept(void **state)
{
	struct io_uring_sqe *sqe;
	struct io_uring_cqe cqe;

	(void)state;
	sqe = tr_prep(&ring, IORING_OP_PROVIDE_BUFFERS, 3, memory, BYTES, 7, 1);
	sqe->buf_group = GROUP;
	assert_int_equal(tr_run(&ring, 1), 0);
	prep(IORING_OP_READ, sock[0], 0, 0)->user_data = 20;
	prep(IORING_OP_READ, sock[0], 0, 0)->user_data = 21;
	assert_int_equal(tr_submit(&ring), 2);
	sqe = tr_prep(&ring, IORING_OP_REMOVE_BUFFERS, 100, NULL, 0, 0, 2);
	sqe->buf_group = GROUP;
	assert_int_equal(tr_run(&ring, 2), 1);
	sqe = tr_prep(&ring, IORING_OP_ASYNC_CANCEL, -1, NULL, 0, 0, 3);
	sqe->cancel_flags = IORING_ASYNC_CANCEL_ANY;
	assert_int_equal(tr_run(&ring, 3), 2);
	/* The newest first. */
	for (unsigned i = 0; i < 2; i++) {
		assert_int_equal(tr_wait_ms(&ring, &cqe, 2000), 0);
		assert_int_equal(cqe.user_data, 21 - i);
		assert_int_equal(cqe.res, -ECANCELED);
		assert_int_equal(cqe.flags, BUF(8 - i));
	}
}

static void consumes(unsigned flag)
{
	const int ops[] = { IORING_OP_READ, IORING_OP_RECV };

	assert_int_equal(register_ring(0), 0);
	fill(bufs, 4);
	for (unsigned i = 0; i < 2; i++) {
		prep(ops[i], sock[0], 0, 0)->flags |= (unsigned char)flag;
		assert_int_equal(tr_submit(&ring), 1);
		for (int ms = 0; ms < 5000 && head() == i; ms++)
			tr_sleep_ms(1);
		assert_int_equal(head(), i + 1);
		send_bytes(10);
		expect(10, BUF(10 + i));
	}
}

/* What a worker tries has consumed its buffer before. */
static void test_worker_consumes(void **state)
{
	(void)state;
	consumes(IOSQE_ASYNC);
}

/* So has what waits for others: the kernel's workers try it. */
static void test_drained_consumes(void **state)
{
	(void)state;
	consumes(IOSQE_IO_DRAIN);
}

/* A part of what MSG_WAITALL waits for does not tell that the buffer has a rest. */
static void test_part_of_all(void **state)
{
	(void)state;
	assert_int_equal(register_ring(RING_INC), 0);
	fill(bufs, 2);
	for (unsigned i = 0; i < 2; i++) {
		prep(IORING_OP_RECV, sock[0], 20, 0)->msg_flags = i ? MSG_WAITALL : 0;
		assert_int_equal(tr_submit(&ring), 1);
		send_bytes(10);
		if (i) {
			assert_int_equal(
			        tr_sys_enter(ring.fd, 0, 0, IORING_ENTER_GETEVENTS, NULL, 0), 0);
			assert_null(tr_peek(&ring));
			send_bytes(10);
		}
		expect(i ? 20 : 10, BUF(10) | (i ? 0 : F_BUF_MORE));
	}
}

static void test_file_keeps(void **state)
{
	int fd = tr_temp_file(100);

	(void)state;
	assert_int_equal(register_ring(0), 0);
	fill(bufs, 3);
	prep(IORING_OP_READ, fd, 0, 0);
	assert_int_equal(tr_submit(&ring), 1);
	expect(BYTES, BUF(10));
	prep(IORING_OP_READ, fd, 0, 0)->off = 90;
	assert_int_equal(tr_submit(&ring), 1);
	expect(10, BUF(11));
	/* The end of a file costs a buffer, the end of a stream does not. */
	prep(IORING_OP_READ, fd, 0, 0)->off = 1000;
	assert_int_equal(tr_submit(&ring), 1);
	expect(0, BUF(12));
	assert_int_equal(head(), 3);
	close(fd);
	fill(bufs, 1);
	shutdown(sock[1], SHUT_WR);
	prep(IORING_OP_RECV, sock[0], 0, 0);
	assert_int_equal(tr_submit(&ring), 1);
	expect(0, 0);
	assert_int_equal(head(), 3);
}

static void test_incremental(void **state)
{
	(void)state;
	assert_int_equal(register_ring(RING_INC), 0);
	fill(bufs, 2);
	for (int i = 0; i < 3; i++) {
		send_bytes(10);
		prep(IORING_OP_RECV, sock[0], 0, 0);
		assert_int_equal(tr_submit(&ring), 1);
		expect(10, BUF(10) | F_BUF_MORE);
		assert_int_equal(head(), 0);
	}
	assert_int_equal(bufs->bufs[0].len, 2);
	assert_ptr_equal((void *)(uintptr_t)bufs->bufs[0].addr, memory + 30);
	send_bytes(10);
	prep(IORING_OP_RECV, sock[0], 0, 0);
	assert_int_equal(tr_submit(&ring), 1);
	expect(2, BUF(10) | REST);
	assert_int_equal(head(), 1);
}

/* A rest that is shorter than min_left is not handed out any more. */
static void test_min_left(void **state)
{
	static const struct {
		int bytes;
		unsigned flags;
	} rounds[] = { { 28, BUF(10) | F_BUF_MORE }, { 2, BUF(10) }, { 29, BUF(11) } };

	(void)state;
	assert_int_equal(register_ring_left(0, 4), -EINVAL);
	assert_int_equal(register_ring_left(RING_INC, 4), 0);
	fill(bufs, 3);
	for (size_t i = 0; i < sizeof(rounds) / sizeof(rounds[0]); i++) {
		send_bytes((size_t)rounds[i].bytes);
		prep(IORING_OP_RECV, sock[0], 0, 0);
		assert_int_equal(tr_submit(&ring), 1);
		expect(rounds[i].bytes, rounds[i].flags);
	}
	assert_int_equal(bufs->bufs[1].len, 0);
	assert_int_equal(head(), 2);
}

static void test_bundle(void **state)
{
	(void)state;
	assert_int_equal(register_ring(0), 0);
	fill(bufs, 4);
	send_bytes(70);
	prep(IORING_OP_RECV, sock[0], 0, RECV_BUNDLE);
	assert_int_equal(tr_submit(&ring), 1);
	/* A full part goes on with what is left, but not into a buffer that would be cut. */
	expect(64, BUF(10) | REST);
	assert_int_equal(head(), 2);
	prep(IORING_OP_RECV, sock[0], 0, RECV_BUNDLE)->buf_group = 77;
	assert_int_equal(tr_submit(&ring), 1);
	expect(-ENOENT, 0);
}

/* A bundle that is to be filled waits for the rest of what it has chosen. */
static void test_bundle_all(void **state)
{
	(void)state;
	assert_int_equal(register_ring(0), 0);
	fill(bufs, 4);
	send_bytes(20);
	prep(IORING_OP_RECV, sock[0], 0, RECV_BUNDLE)->msg_flags = MSG_WAITALL;
	assert_int_equal(tr_submit(&ring), 1);
	assert_null(tr_peek(&ring));
	assert_int_equal(head(), 1);
	send_bytes(BYTES - 20);
	expect(BYTES, BUF(10));
	assert_int_equal(head(), 1);
}

/* What fills the last buffer and leaves nothing is not the end; what comes then is. */
static void test_multishot_filled(void **state)
{
	char data[BYTES] = { 0 };

	(void)state;
	assert_int_equal(register_ring(0), 0);
	fill(bufs, 2);
	prep(IORING_OP_RECV, sock[0], 0, IORING_RECV_MULTISHOT);
	assert_int_equal(tr_submit(&ring), 1);
	for (unsigned i = 0; i < 2; i++) {
		assert_int_equal(send(sock[1], data, BYTES, 0), BYTES);
		expect(BYTES, BUF(10 + i) | MORE);
		assert_null(tr_peek(&ring));
	}
	send_bytes(1);
	expect(-ENOBUFS, 0);
}

static void test_multishot_limit(void **state)
{
	struct io_uring_sqe *sqe;

	(void)state;
	assert_int_equal(register_ring(0), 0);
	fill(bufs, 8);
	sqe = prep(IORING_OP_RECV, sock[0], 8, IORING_RECV_MULTISHOT);
	sqe->file_index = 20; /* optlen: bytes in all */
	send_bytes(40);
	assert_int_equal(tr_submit(&ring), 1);
	expect(8, BUF(10) | MORE | REST);
	expect(8, BUF(11) | MORE | REST);
	expect(8, BUF(12) | REST);
	assert_null(tr_peek(&ring));
}

/* A multishot request that has had what it may have at a time lets the others go first. */
static void test_multishot_fair(void **state)
{
	char data[2 * BYTES] = { 0 };
	int other[2];

	(void)state;
	assert_int_equal(register_ring(0), 0);
	fill(bufs, ENTRIES);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, other), 0);
	assert_int_equal(send(other[1], data, sizeof(data), 0), sizeof(data));
	send_bytes(sizeof(data));
	for (unsigned i = 0; i < 2; i++) {
		struct io_uring_sqe *sqe =
		        prep(IORING_OP_RECV, i ? other[0] : sock[0], BYTES, RECV_BUNDLE);

		sqe->ioprio |= IORING_RECV_MULTISHOT;
		sqe->user_data = i;
	}
	assert_int_equal(tr_submit(&ring), 2);
	for (unsigned i = 0; i < 4; i++) {
		struct io_uring_cqe cqe;

		assert_int_equal(tr_wait_ms(&ring, &cqe, 2000), 0);
		assert_int_equal(cqe.res, BYTES);
		assert_int_equal(cqe.user_data, i & 1);
	}
	close(other[0]);
	close(other[1]);
}

/* With deferred task work its turn comes once in each wait. */
static void test_multishot_turns(void **state)
{
	(void)state;
	tr_exit(&ring);
	assert_int_equal(tr_init(&ring, 8, IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN),
	                 0);
	assert_int_equal(register_ring(0), 0);
	fill(bufs, 8);
	prep(IORING_OP_RECV, sock[0], 10, RECV_BUNDLE)->ioprio |= IORING_RECV_MULTISHOT;
	assert_int_equal(tr_submit(&ring), 1);
	send_bytes(40);
	for (unsigned i = 1; i <= 3; i++) {
		assert_int_equal(tr_sys_enter(ring.fd, 0, 0, IORING_ENTER_GETEVENTS, NULL, 0), 0);
		assert_int_equal(tr_ready(&ring), i);
	}
}

/* It keeps its registered file meanwhile, if that is taken out of the table. */
static void test_multishot_keeps_file(void **state)
{
	char data[3 * BYTES] = { 0 };
	int none = -1, got = 0, updated = 0;
	struct io_uring_sqe *sqe;

	(void)state;
	assert_int_equal(register_ring(0), 0);
	fill(bufs, ENTRIES);
	assert_int_equal(tr_sys_register(ring.fd, IORING_REGISTER_FILES, sock, 1), 0);
	send_bytes(sizeof(data));
	sqe = prep(IORING_OP_RECV, 0, BYTES, RECV_BUNDLE);
	sqe->ioprio |= IORING_RECV_MULTISHOT;
	sqe->flags |= IOSQE_FIXED_FILE;
	sqe->user_data = 1;
	tr_prep(&ring, IORING_OP_FILES_UPDATE, -1, &none, 1, 0, 2);
	assert_int_equal(tr_submit(&ring), 2);
	while (got < 3 || !updated) {
		struct io_uring_cqe cqe;

		assert_int_equal(tr_wait_ms(&ring, &cqe, 2000), 0);
		assert_int_equal(cqe.res, cqe.user_data == 1 ? BYTES : 1);
		if (cqe.user_data == 1)
			got++;
		else
			updated++;
	}
}

static void test_multishot_ends(void **state)
{
	(void)state;
	assert_int_equal(register_ring(0), 0);
	fill(bufs, 2);
	prep(IORING_OP_RECV, sock[0], 0, IORING_RECV_MULTISHOT);
	assert_int_equal(tr_submit(&ring), 1);
	for (int i = 0; i < 2; i++) {
		send_bytes(3);
		expect(3, BUF(10 + i) | MORE);
	}
	/* The lack of buffers shows when there is something to put into them. */
	tr_sleep_ms(20);
	assert_null(tr_peek(&ring));
	send_bytes(3);
	expect(-ENOBUFS, 0);
}

static void test_read_multishot(void **state)
{
	int p[2], fd = tr_temp_file(10);

	(void)state;
	assert_int_equal(pipe(p), 0);
	assert_int_equal(register_ring(0), 0);
	fill(bufs, 3);
	prep(READ_MULTISHOT, fd, 0, 0);
	assert_int_equal(tr_submit(&ring), 1);
	expect(-EBADFD, 0);
	prep(READ_MULTISHOT, p[0], 0, 0);
	assert_int_equal(tr_submit(&ring), 1);
	assert_int_equal(write(p[1], "abc", 3), 3);
	expect(3, BUF(10) | MORE);
	assert_int_equal(write(p[1], "de", 2), 2);
	expect(2, BUF(11) | MORE);
	close(p[1]);
	expect(0, 0);
	close(p[0]);
	close(fd);
}

/* Whether a file can be waited for does not depend on how many descriptors there may be. */
static void test_read_multishot_crowded(void **state)
{
	int event = eventfd(0, 0), next = dup(event);
	struct rlimit old, none;

	(void)state;
	assert_int_equal(register_ring(0), 0);
	fill(bufs, 2);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
	assert_true(next > 0);
	close(next);
	none = (struct rlimit){ (rlim_t)next, old.rlim_max };
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
	prep(READ_MULTISHOT, event, 0, 0);
	assert_int_equal(tr_submit(&ring), 1);
	assert_int_equal(eventfd_write(event, 5), 0);
	expect(8, BUF(10) | MORE);
	assert_int_equal(eventfd_write(event, 6), 0);
	expect(8, BUF(11) | MORE);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
	close(event);
}

static void test_recvmsg_layout(void **state)
{
	struct io_uring_recvmsg_out out;
	struct msghdr msg = { .msg_namelen = 0, .msg_controllen = 4 };
	struct io_uring_sqe *sqe;

	(void)state;
	assert_int_equal(register_ring(0), 0);
	fill(bufs, 2);
	sqe = prep(IORING_OP_RECVMSG, sock[0], 1, IORING_RECV_MULTISHOT);
	sqe->addr = (uintptr_t)&msg;
	assert_int_equal(tr_submit(&ring), 1);
	send_bytes(5);
	expect((int)(sizeof(out) + 4 + 5), BUF(10) | MORE);
	memcpy(&out, memory, sizeof(out));
	assert_int_equal(out.namelen, 0);
	assert_int_equal(out.controllen, 0);
	assert_int_equal(out.payloadlen, 5);
	assert_int_equal(out.flags, 0);
	assert_memory_equal(memory + sizeof(out) + 4, "xxxxx", 5);
	/* The end of the stream comes with an empty payload. */
	shutdown(sock[1], SHUT_WR);
	expect((int)(sizeof(out) + 4), BUF(11));
}

static void test_mapped_ring(void **state)
{
	struct io_uring_buf_ring *br;

	(void)state;
	assert_int_equal(register_ring(RING_MMAP), 0);
	br = tr_sys_mmap(4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, ring.fd,
	                 OFF_PBUF_RING | (uint64_t)GROUP << OFF_PBUF_SHIFT);
	assert_ptr_not_equal(br, MAP_FAILED);
	assert_int_equal(br->tail, 0);
	fill(br, 1);
	send_bytes(4);
	prep(IORING_OP_RECV, sock[0], 0, 0);
	assert_int_equal(tr_submit(&ring), 1);
	expect(4, BUF(10));
	assert_int_equal(head(), 1);
	assert_int_equal(tr_sys_munmap(br, 4096), 0);
}

/* The program's memory may go at any time; here the kernel still has it, and it was empty. */
static void test_memory_gone(void **state)
{
	struct io_uring_cqe cqe;

	(void)state;
	assert_int_equal(register_ring(0), 0);
	assert_int_equal(munmap(bufs, 4096), 0);
	send_bytes(4);
	prep(IORING_OP_RECV, sock[0], 0, 0);
	assert_int_equal(tr_submit(&ring), 1);
	assert_int_equal(tr_wait_ms(&ring, &cqe, 2000), 0);
	assert_int_equal(cqe.res, -ENOBUFS);
	bufs = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}

static void test_unregister_reserved(void **state)
{
	struct buf_reg reg = { .bgid = GROUP };

	(void)state;
	assert_int_equal(register_ring(0), 0);
	for (unsigned i = 0; i < 5; i++) {
		reg.resv[i] = 1;
		assert_int_equal(tr_sys_register(ring.fd, IORING_UNREGISTER_PBUF_RING, &reg, 1),
		                 -EINVAL);
		reg.resv[i] = 0;
	}
	assert_int_equal(tr_sys_register(ring.fd, IORING_UNREGISTER_PBUF_RING, &reg, 1), 0);
}

static const struct CMUnitTest tests[] = {
	ON_RING(test_legacy),
	ON_RING(test_send_selected),
	ON_RING(test_file_keeps),
	ON_RING(test_incremental),
	ON_RING(test_bundle),
	ON_RING(test_multishot_limit),
	ON_RING(test_multishot_ends),
	ON_RING(test_read_multishot),
	ON_RING(test_read_multishot_crowded),
	ON_RING(test_recvmsg_layout),
	ON_RING(test_mapped_ring),
	ON_RING(test_memory_gone),
	ON_RING(test_min_left),
	ON_RING(test_multishot_fair),
	ON_RING(test_multishot_keeps_file),
	ON_RING(test_multishot_filled),
	ON_RING(test_bundle_all),
	ON_RING(test_legacy_kept),
	ON_RING(test_worker_consumes),
	ON_RING(test_multishot_turns),
	ON_RING(test_drained_consumes),
	ON_RING(test_part_of_all),
	ON_RING(test_unregister_reserved),
};

TR_MAIN("kbuf", tests)
