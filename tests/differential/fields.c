/*
 * Requests with odd values in one field or in two, and links of such requests: what the
 * submission took, and which CQEs came.
 *
 *     fields [one|two|links] [count [seed]]
 *
 * `one` goes through all operations, files, fields and values, or through every so many of
 * them; the others are random, the same for the same seed. CQEs are printed by user_data, and those
 * of one request in the order in which they came. What has not completed when nothing more comes
 * for a while is not printed.
 */
#include "tests/ring_util.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#define OPS       63
#define FILES     6
#define MAX_CQES  16
#define LONG_MS   150
#define SHORT_MS  2
#define FIRST_FD  100 /* for some operations these are no files */
#define MAX_LINKS 3

enum {
	FLAGS,
	IOPRIO,
	OFF,
	ADDR,
	LEN,
	OP_FLAGS,
	BUF_INDEX,
	PERSONALITY,
	FILE_INDEX,
	ADDR3,
	PAD,
	FIELDS
};

static const uint64_t values[] = { 1,  2,   4,      8,       16,          32,
	                           64, 128, 0x8000, 0x10000, 0x80000000u, 0xffffffffu };
#define VALUES (sizeof(values) / sizeof(values[0]))

static char buf[8192];
static int files[FILES]; /* none, a file, a pair of sockets and a pipe */
static const int main_files[] = { 0, 1, 2, 3 };
static unsigned long long state;

static unsigned pick(unsigned n)
{
	state = state * 6364136223846793005ull + 1442695040888963407ull;
	return (unsigned)(state >> 33) % n;
}

static void open_files(void)
{
	files[0] = -1;
	files[1] = open("fields.tmp", O_RDWR | O_CREAT | O_TRUNC, 0600);
	if (files[1] < 0 || write(files[1], buf, 4096) != 4096 ||
	    socketpair(AF_UNIX, SOCK_STREAM, 0, &files[2]) || pipe(&files[4]))
		exit(2);
	for (int i = 1; i < FILES; i++) {
		if (dup2(files[i], FIRST_FD + i) < 0)
			exit(2);
		close(files[i]);
		files[i] = FIRST_FD + i;
	}
}

static void close_files(void)
{
	for (int i = 1; i < FILES; i++)
		close(files[i]);
}

static unsigned width(int field)
{
	switch (field) {
	case FLAGS:
		return 8;
	case IOPRIO:
	case BUF_INDEX:
	case PERSONALITY:
		return 9;
	default:
		return VALUES;
	}
}

static void set(struct io_uring_sqe *sqe, int field, uint64_t v)
{
	switch (field) {
	case FLAGS:
		sqe->flags |= (uint8_t)v;
		break;
	case IOPRIO:
		sqe->ioprio = (uint16_t)v;
		break;
	case OFF:
		sqe->off = v;
		break;
	case ADDR:
		sqe->addr = v;
		break;
	case LEN:
		sqe->len = (uint32_t)v;
		break;
	case OP_FLAGS:
		sqe->rw_flags = (int)v;
		break;
	case BUF_INDEX:
		sqe->buf_index = (uint16_t)v;
		break;
	case PERSONALITY:
		sqe->personality = (uint16_t)v;
		break;
	case FILE_INDEX:
		sqe->splice_fd_in = (int)v;
		break;
	case ADDR3:
		sqe->addr3 = v;
		break;
	default:
		sqe->__pad2[0] = v;
		break;
	}
}

/* Which files a request names comes out in its result. */
static int result(int op, int res)
{
	bool opens = op == IORING_OP_OPENAT || op == IORING_OP_OPENAT2 || op == IORING_OP_SOCKET ||
	             op == IORING_OP_ACCEPT;

	return opens && res > 0 ? 1 : res;
}

static struct io_uring_sqe *prepare(struct tr_ring *r, int op, int file, uint64_t user_data)
{
	struct io_uring_sqe *sqe = tr_prep(r, op, files[file], NULL, 0, 0, user_data);

	if (op == IORING_OP_READ || op == IORING_OP_WRITE || op == IORING_OP_SEND ||
	    op == IORING_OP_RECV) {
		sqe->addr = (uintptr_t)buf;
		sqe->len = 8;
	}
	printf(" %d/%d", op, file);
	return sqe;
}

static void change(struct io_uring_sqe *sqe, int field, unsigned value)
{
	printf("[%d=%llx]", field, (unsigned long long)values[value]);
	set(sqe, field, values[value]);
}

/*
 * The kernel waits for ever for a SEND_ZC in a drain, whose own notification is among what it
 * waits for.
 */
static void undrain(struct tr_ring *r, const int *ops, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		if (ops[i] == IORING_OP_SEND_ZC || ops[i] == IORING_OP_SENDMSG_ZC) {
			for (unsigned k = 0; k < n; k++)
				r->sqes[k].flags &= (uint8_t)~IOSQE_IO_DRAIN;
		}
	}
}

static void run(struct tr_ring *r, const int *ops, unsigned nr)
{
	struct io_uring_cqe cqes[MAX_CQES];
	int n = 0;

	undrain(r, ops, nr);
	printf(": %d", tr_submit(r));
	/* Those that workers do may come late on a busy machine. */
	while (n < MAX_CQES && !tr_wait_ms(r, &cqes[n], n < (int)nr ? LONG_MS : SHORT_MS))
		n++;
	for (uint64_t u = 0; u < MAX_LINKS; u++) {
		for (int i = 0; i < n; i++) {
			if (cqes[i].user_data == u)
				printf(" %d:%d/%x", (int)u, result(ops[u], cqes[i].res),
				       cqes[i].flags);
		}
	}
	putchar('\n');
}

static void begin(struct tr_ring *r)
{
	open_files();
	if (tr_init(r, 8, 0))
		exit(2);
}

static void end(struct tr_ring *r)
{
	tr_exit(r);
	close_files();
}

static void one(unsigned step)
{
	unsigned at = 0;

	for (int op = 0; op < OPS; op++) {
		for (int i = 0; i < (int)(FIELDS * VALUES * 4); i++) {
			int file = main_files[i / (int)(FIELDS * VALUES)];
			int field = i / (int)VALUES % FIELDS;
			unsigned value = (unsigned)i % VALUES;
			struct tr_ring r;

			if (value >= width(field) || at++ % step)
				continue;
			begin(&r);
			change(prepare(&r, op, file, 0), field, value);
			run(&r, &op, 1);
			end(&r);
		}
	}
}

static void two(unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		int op = (int)pick(OPS), file = (int)pick(FILES);
		struct io_uring_sqe *sqe;
		struct tr_ring r;

		begin(&r);
		sqe = prepare(&r, op, file, 0);
		for (int n = 0; n < 2; n++) {
			int field = (int)pick(FIELDS);

			change(sqe, field, pick(width(field)));
		}
		run(&r, &op, 1);
		end(&r);
	}
}

static void links(unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		unsigned n = 2 + pick(MAX_LINKS - 1);
		int ops[MAX_LINKS];
		struct tr_ring r;

		begin(&r);
		for (unsigned k = 0; k < n; k++) {
			struct io_uring_sqe *sqe;

			ops[k] = (int)pick(OPS);
			sqe = prepare(&r, ops[k], (int)pick(FILES), k);
			if (pick(2))
				change(sqe, OP_FLAGS, pick(VALUES));
			/* No FIXED_FILE: there are none. */
			sqe->flags = (uint8_t)(pick(64) << 1 & pick(128));
			if (k + 1 < n)
				sqe->flags |= pick(3) ? IOSQE_IO_LINK : IOSQE_IO_HARDLINK;
			printf("(%x)", sqe->flags);
		}
		run(&r, ops, n);
		end(&r);
	}
}

int main(int argc, char **argv)
{
	unsigned count = argc > 2 ? (unsigned)atoi(argv[2]) : 1;
	struct tr_ring r;

	if (tr_init(&r, 4, 0))
		return 77;
	tr_exit(&r);
	signal(SIGPIPE, SIG_IGN);
	state = argc > 3 ? strtoull(argv[3], NULL, 0) : 1;
	if (argc > 1 && !strcmp(argv[1], "two"))
		two(count);
	else if (argc > 1 && !strcmp(argv[1], "links"))
		links(count);
	else
		one(count);
	unlink("fields.tmp");
	return 0;
}
