/*
 * Random calls of io_uring_register on three rings, and requests that use what is registered:
 * what each answers, and which CQEs come.
 *
 *     registers [count [seed]]
 *
 * Each of `count` rounds begins with new rings and is a child of its own, so that the numbers of
 * descriptors are the same.
 */
#include "tests/ring_util.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#define RINGS     3
#define STEPS     60
#define FIRST_FD  100 /* of files; rings come behind them */
#define FILES     5
#define MAX       8
#define LONG_MS   500
#define SHORT_MS  2
#define BYTES     8192
#define BY_INDEX  (1U << 31) /* IORING_REGISTER_USE_REGISTERED_RING */
#define CLONE     30U
#define STATUS    26U
#define PBUF_RING 22U

/* Newer than the header that the tests are built with. */
struct clone {
	uint32_t src_fd, flags, src_off, dst_off, nr, pad[3];
};

struct buf_reg {
	uint64_t ring_addr;
	uint32_t ring_entries;
	uint16_t bgid, flags;
	uint32_t resv[6];
};

static struct tr_ring rings[RINGS];
static char memory[4 * BYTES] __attribute__((aligned(4096)));
static struct iovec iovs[MAX];
static uint64_t tags[MAX];
static int fds[MAX];
static uint64_t next_tag;
static unsigned long long state;

static unsigned pick(unsigned n)
{
	state = state * 6364136223846793005ull + 1442695040888963407ull;
	return (unsigned)(state >> 33) % n;
}

static bool rarely(void)
{
	return pick(12) == 0;
}

static unsigned number(void)
{
	static const unsigned odd[] = { 15, 16, 17, 1024, 1U << 14, 1U << 31, ~1U, ~0U };

	return pick(3) ? pick(MAX) : odd[pick(sizeof(odd) / sizeof(odd[0]))];
}

static void fill_arrays(void)
{
	for (unsigned i = 0; i < MAX; i++) {
		iovs[i] = (struct iovec){ memory + pick(16) * 512, pick(9) * 512 };
		if (!pick(4))
			iovs[i] = (struct iovec){ NULL, rarely() };
		tags[i] = pick(3) ? 0 : ++next_tag;
		fds[i] = pick(4) ? FIRST_FD + (int)pick(FILES) : -1;
		if (rarely())
			fds[i] = pick(2) ? -2 : rings[0].fd;
	}
}

/* What comes within so long for `ring`, and what is there for the others. */
static void reap(int ring, unsigned ms)
{
	struct io_uring_cqe cqe;

	for (int i = 0; i < RINGS; i++) {
		for (unsigned wait = i == ring ? ms : 0; !tr_wait_ms(&rings[i], &cqe, wait);
		     wait = 0)
			printf("   %d: %llx %d %x\n", i, (unsigned long long)cqe.user_data, cqe.res,
			       cqe.flags);
	}
}

/* The call itself, at a ring's descriptor or, now and then, by a registered number. */
static void call(int ring, unsigned op, const void *arg, unsigned nr)
{
	bool by_index = rarely();
	int fd = by_index ? (int)number() : rings[ring].fd;

	if (rarely())
		nr = number();
	printf("%d op %u nr %u: %d\n", ring, op, nr,
	       tr_sys_register(fd, op | (by_index ? BY_INDEX : 0), rarely() ? NULL : arg,
	                       nr > MAX && op < IORING_REGISTER_EVENTFD ? MAX : nr));
}

static void call_tables(int ring, unsigned op)
{
	bool files = op == IORING_REGISTER_FILES2 || op == IORING_REGISTER_FILES_UPDATE2;
	uint64_t data = files ? (uintptr_t)fds : (uintptr_t)iovs;

	if (op == IORING_REGISTER_FILES2 || op == IORING_REGISTER_BUFFERS2) {
		struct io_uring_rsrc_register r = { .nr = pick(MAX),
			                            .data = data,
			                            .flags = pick(2) };

		if (r.flags && !rarely())
			r.data = 0;
		if (pick(2))
			r.tags = (uintptr_t)tags;
		r.resv2 = rarely();
		call(ring, op, &r, sizeof(r));
	} else {
		struct io_uring_rsrc_update2 up = { .offset = number(),
			                            .nr = pick(4),
			                            .data = data };

		if (pick(2))
			up.tags = (uintptr_t)tags;
		up.resv2 = rarely();
		call(ring, op, &up, sizeof(up));
	}
}

static void call_ring_fds(int ring, unsigned op)
{
	struct io_uring_rsrc_update up[4] = { { .offset = 0 } };
	bool add = op == IORING_REGISTER_RING_FDS;

	for (unsigned i = 0; i < 4; i++) {
		up[i].offset = add && pick(2) ? ~0U : number();
		up[i].resv = rarely();
		if (add)
			up[i].data = (unsigned)(rarely() ? FIRST_FD : rings[pick(RINGS)].fd);
	}
	printf("%d op %u: %d", ring, op, tr_sys_register(rings[ring].fd, op, up, 1 + pick(4)));
	for (unsigned i = 0; i < 4; i++)
		printf(" %x", up[i].offset);
	putchar('\n');
}

static void call_clone(int ring)
{
	struct clone c = { .src_fd = (uint32_t)rings[pick(RINGS)].fd, .flags = pick(4) };

	if (c.flags & 1)
		c.src_fd = pick(4);
	if (pick(2)) {
		c.src_off = pick(4);
		c.dst_off = pick(4) ? pick(6) : number();
		c.nr = pick(4) ? pick(5) : number();
	}
	c.pad[pick(3)] = rarely();
	call(ring, CLONE, &c, 1);
}

static void call_group(int ring, unsigned op)
{
	struct buf_reg reg = { .bgid = (uint16_t)pick(3) };

	if (op == PBUF_RING) {
		reg.ring_entries = rarely() ? number() : 1U << pick(5);
		reg.ring_addr = (uintptr_t)memory + BYTES + 4096 * reg.bgid + (rarely() ? 8 : 0);
		reg.flags = (uint16_t)(pick(4) ? 0 : pick(8));
		if (reg.flags & 1)
			reg.ring_addr = rarely();
	}
	reg.resv[1 + pick(5)] = rarely();
	call(ring, op, &reg, 1);
}

static void call_status(int ring)
{
	uint32_t status[10] = { pick(4) };

	status[2 + pick(8)] = rarely();
	call(ring, STATUS, status, 1);
	printf("   head %u\n", status[1]);
}

static void call_other(int ring, unsigned op)
{
	struct io_uring_file_index_range range = { .off = number(), .len = number() };
	struct io_uring_files_update up = { .offset = number(), .fds = (uintptr_t)fds };
	int evfd = pick(4) ? FIRST_FD + FILES - 1 : FIRST_FD;

	switch (op) {
	case IORING_REGISTER_BUFFERS:
		call(ring, op, iovs, pick(MAX));
		break;
	case IORING_REGISTER_FILES:
		call(ring, op, fds, pick(MAX));
		break;
	case IORING_REGISTER_FILES_UPDATE:
		call(ring, op, &up, pick(4));
		break;
	case IORING_REGISTER_EVENTFD:
		call(ring, op, &evfd, 1);
		break;
	case IORING_REGISTER_FILE_ALLOC_RANGE:
		range.resv = rarely();
		call(ring, op, &range, 0);
		break;
	default:
		call(ring, op, rarely() ? memory : NULL, 0);
		break;
	}
}

static void call_any(int ring)
{
	static const unsigned ops[] = { 0,  1,  2,  3,  4,  5,  6,  9,  10, 13, 13, 14,
		                        15, 15, 16, 20, 21, 22, 23, 25, 26, 30, 30 };
	unsigned op = ops[pick(sizeof(ops) / sizeof(ops[0]))];

	fill_arrays();
	switch (op) {
	case IORING_REGISTER_FILES2:
	case IORING_REGISTER_FILES_UPDATE2:
	case IORING_REGISTER_BUFFERS2:
	case IORING_REGISTER_BUFFERS_UPDATE:
		call_tables(ring, op);
		break;
	case IORING_REGISTER_RING_FDS:
	case IORING_UNREGISTER_RING_FDS:
		call_ring_fds(ring, op);
		break;
	case CLONE:
		call_clone(ring);
		break;
	case PBUF_RING:
	case PBUF_RING + 1:
		call_group(ring, op);
		break;
	case STATUS:
		call_status(ring);
		break;
	default:
		call_other(ring, op);
		break;
	}
}

/* A request on what there is: a buffer, a file, or a place for one. */
static void request(int ring)
{
	struct tr_ring *r = &rings[ring];
	struct io_uring_sqe *sqe;

	fill_arrays();
	switch (pick(5)) {
	case 0:
		sqe = tr_prep(r, IORING_OP_READ_FIXED, FIRST_FD, memory + pick(16) * 512,
		              pick(4) * 512, 0, 1);
		sqe->buf_index = (uint16_t)pick(MAX);
		break;
	case 1:
		sqe = tr_prep(r, IORING_OP_READ, (int)pick(MAX), memory, 16, 0, 2);
		sqe->flags = IOSQE_FIXED_FILE;
		break;
	case 2:
		sqe = tr_prep(r, IORING_OP_OPENAT, AT_FDCWD, "/dev/null", 0, 0, 3);
		sqe->file_index = pick(2) ? IORING_FILE_INDEX_ALLOC : 1 + pick(MAX);
		break;
	case 3:
		sqe = tr_prep(r, IORING_OP_CLOSE, 0, NULL, 0, 0, 4);
		sqe->file_index = 1 + pick(MAX);
		break;
	default:
		sqe = tr_prep(r, IORING_OP_FILES_UPDATE, -1, fds, 1 + pick(3),
		              pick(2) ? IORING_FILE_INDEX_ALLOC : number(), 5);
		break;
	}
	printf("%d request %u: %d\n", ring, sqe->opcode, tr_submit(r));
	/* A read may wait for ever. */
	reap(ring, sqe->opcode == IORING_OP_READ ? SHORT_MS : LONG_MS);
}

static void move(int *fd, int to)
{
	if (*fd < 0 || dup2(*fd, to) < 0)
		exit(2);
	close(*fd);
	*fd = to;
}

static void round_of(unsigned long long seed)
{
	int fd = open("registers.tmp", O_RDWR | O_CREAT | O_TRUNC, 0600), p[2];

	state = seed * 77777;
	if (fd < 0 || write(fd, memory, BYTES) != BYTES || pipe(p))
		exit(2);
	move(&fd, FIRST_FD);
	move(&p[0], FIRST_FD + 1);
	move(&p[1], FIRST_FD + 2);
	fd = open("/dev/zero", O_RDONLY);
	move(&fd, FIRST_FD + 3);
	fd = eventfd(0, EFD_NONBLOCK);
	move(&fd, FIRST_FD + 4);
	for (int i = 0; i < RINGS; i++) {
		unsigned flags =
		        i == 1 ? IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN : 0;

		if (tr_init(&rings[i], 8, flags))
			exit(2);
		move(&rings[i].fd, FIRST_FD + FILES + i);
	}
	printf("round %llu\n", seed);
	for (int i = 0; i < STEPS; i++) {
		int ring = (int)pick(RINGS);

		if (!pick(3)) {
			request(ring);
			continue;
		}
		call_any(ring);
		reap(ring, 0);
	}
	fflush(stdout);
}

int main(int argc, char **argv)
{
	unsigned count = argc > 1 ? (unsigned)atoi(argv[1]) : 25;
	unsigned long long seed = argc > 2 ? strtoull(argv[2], NULL, 0) : 1;
	struct tr_ring r;

	if (tr_init(&r, 4, 0))
		return 77;
	tr_exit(&r);
	for (unsigned i = 0; i < count; i++) {
		pid_t pid;
		int status;

		fflush(stdout);
		pid = fork();
		if (!pid) {
			round_of(seed + i);
			_exit(0);
		}
		if (pid < 0 || waitpid(pid, &status, 0) != pid || status)
			return 1;
	}
	unlink("registers.tmp");
	return 0;
}
