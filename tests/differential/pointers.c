/*
 * Requests with pointers that lead nowhere, each followed by a NOP. Prints how much the
 * submission took and which CQEs came: a pointer that is read when the request is prepared
 * ends the submission there, one that is used later does not.
 */
#include "tests/ring_util.h"
#include "tests/newer_ops.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

enum field { ADDR = 1, ADDR2 = 2, ADDR3 = 4 };

struct target {
	int op;
	int fd; /* FILE_FD... */
	unsigned fields;
	unsigned len;
	unsigned flags;  /* op_flags */
	uint64_t off;    /* where off is no pointer */
	unsigned ioprio; /* of sends and receives */
};

enum { NO_FD, FILE_FD, SOCK_FD, FRESH_FD, PIPE_FD };

static const struct target targets[] = {
	{ IORING_OP_READ, FILE_FD, ADDR, 8, 0, 0, 0 },
	{ IORING_OP_WRITE, SOCK_FD, ADDR, 8, 0, 0, 0 },
	{ IORING_OP_READ_FIXED, FILE_FD, ADDR, 8, 0, 0, 0 },
	{ IORING_OP_WRITE_FIXED, FILE_FD, ADDR, 8, 0, 0, 0 },
	{ IORING_OP_READV, FILE_FD, ADDR, 1, 0, 0, 0 },
	{ IORING_OP_READV, FILE_FD, ADDR, 3, 0, 0, 0 },
	{ IORING_OP_READV, PIPE_FD, ADDR, 2, 0, 0, 0 },
	{ IORING_OP_WRITEV, FILE_FD, ADDR, 1, 0, 0, 0 },
	{ IORING_OP_WRITEV, SOCK_FD, ADDR, 2, 0, 0, 0 },
	{ IORING_OP_SENDMSG, SOCK_FD, ADDR, 1, 0, 0, 0 },
	{ IORING_OP_SENDMSG, SOCK_FD, ADDR, 1, MSG_WAITALL, 0, 0 },
	{ IORING_OP_RECVMSG, SOCK_FD, ADDR, 1, 0, 0, 0 },
	{ IORING_OP_RECVMSG, SOCK_FD, ADDR, 1, MSG_DONTWAIT, 0, 0 },
	{ IORING_OP_SEND, SOCK_FD, ADDR, 8, 0, 0, 0 },
	{ IORING_OP_SEND, SOCK_FD, ADDR2, 8, 0, 0, 0 },
	{ IORING_OP_RECV, SOCK_FD, ADDR, 8, MSG_DONTWAIT, 0, 0 },
	{ IORING_OP_SEND_ZC, SOCK_FD, ADDR2, 8, 0, 0, 0 },
	{ IORING_OP_SENDMSG_ZC, SOCK_FD, ADDR, 1, 0, 0, 0 },
	{ IORING_OP_CONNECT, FRESH_FD, ADDR, 0, 0, 16, 0 },
	{ IORING_OP_CONNECT, FRESH_FD, ADDR, 0, 0, 1000, 0 },
	{ OP_BIND, FRESH_FD, ADDR, 0, 0, 16, 0 },
	{ OP_BIND, FRESH_FD, ADDR, 0, 0, 1000, 0 },
	{ IORING_OP_OPENAT, NO_FD, ADDR, 0, O_RDONLY, 0, 0 },
	{ IORING_OP_OPENAT2, NO_FD, ADDR, 24, 0, 0, 0 },
	{ IORING_OP_OPENAT2, NO_FD, ADDR2, 24, 0, 0, 0 },
	{ IORING_OP_STATX, NO_FD, ADDR, 0xfff, 0, 0, 0 },
	{ IORING_OP_STATX, NO_FD, ADDR2, 0xfff, 0, 0, 0 },
	{ IORING_OP_UNLINKAT, NO_FD, ADDR, 0, 0, 0, 0 },
	{ IORING_OP_MKDIRAT, NO_FD, ADDR, 0700, 0, 0, 0 },
	{ IORING_OP_RENAMEAT, NO_FD, ADDR, (unsigned)AT_FDCWD, 0, 0, 0 },
	{ IORING_OP_RENAMEAT, NO_FD, ADDR2, (unsigned)AT_FDCWD, 0, 0, 0 },
	{ IORING_OP_SYMLINKAT, NO_FD, ADDR, 0, 0, 0, 0 },
	{ IORING_OP_SYMLINKAT, NO_FD, ADDR2, 0, 0, 0, 0 },
	{ IORING_OP_LINKAT, NO_FD, ADDR, (unsigned)AT_FDCWD, 0, 0, 0 },
	{ IORING_OP_LINKAT, NO_FD, ADDR2, (unsigned)AT_FDCWD, 0, 0, 0 },
	{ IORING_OP_GETXATTR, NO_FD, ADDR, 8, 0, 0, 0 },
	{ IORING_OP_GETXATTR, NO_FD, ADDR3, 8, 0, 0, 0 },
	{ IORING_OP_FGETXATTR, FILE_FD, ADDR, 8, 0, 0, 0 },
	{ IORING_OP_SETXATTR, NO_FD, ADDR, 8, 0, 0, 0 },
	{ IORING_OP_SETXATTR, NO_FD, ADDR3, 8, 0, 0, 0 },
	{ IORING_OP_FSETXATTR, FILE_FD, ADDR, 8, 0, 0, 0 },
	{ IORING_OP_TIMEOUT, NO_FD, ADDR, 1, 0, 0, 0 },
	{ IORING_OP_LINK_TIMEOUT, NO_FD, ADDR, 1, 0, 0, 0 },
	{ IORING_OP_TIMEOUT_REMOVE, NO_FD, ADDR2, 0, IORING_TIMEOUT_UPDATE, 0, 0 },
	{ IORING_OP_EPOLL_CTL, FILE_FD, ADDR, 1, 0, 0, 0 },
	{ IORING_OP_FILES_UPDATE, NO_FD, ADDR, 1, 0, 0, 0 },
	{ OP_FUTEX_WAITV, NO_FD, ADDR, 1, 0, 0, 0 },
	{ OP_FUTEX_WAITV, NO_FD, ADDR, 3, 0, 0, 0 },
	{ OP_PIPE, NO_FD, ADDR, 0, 0, 0, 0 },
};

static char *page, *gone; /* readable; nothing behind it */
static int fds[5];
static int peer;

/* Structures whose own pointers are bad, at the start of `page`. */
static void fill_page(unsigned kind)
{
	struct iovec *iov = (void *)page;
	struct msghdr *msg = (void *)page;
	struct iovec *msg_iov = (void *)(page + 1024);

	memset(page, 0, 4096);
	switch (kind) {
	case 0: /* iovecs: an address that is not there */
		iov[0] = (struct iovec){ gone, 8 };
		break;
	case 1: /* ... that cannot be */
		iov[0] = (struct iovec){ (void *)(~0UL - 4095), 8 };
		break;
	case 2: /* ... a length that cannot be */
		iov[0] = (struct iovec){ page + 2048, ~0UL };
		break;
	case 3: /* msghdr: iovec not there */
		*msg = (struct msghdr){ .msg_iov = (void *)gone, .msg_iovlen = 1 };
		break;
	case 4: /* too many */
		*msg = (struct msghdr){ .msg_iov = msg_iov, .msg_iovlen = 2000 };
		break;
	case 5: /* name not there */
		*msg = (struct msghdr){
			.msg_iov = msg_iov, .msg_iovlen = 1, .msg_name = gone, .msg_namelen = 16
		};
		break;
	case 6: /* negative name length */
		*msg = (struct msghdr){ .msg_iov = msg_iov,
			                .msg_iovlen = 1,
			                .msg_name = page,
			                .msg_namelen = 1U << 31 };
		break;
	case 7: /* control data not there */
		*msg = (struct msghdr){ .msg_iov = msg_iov,
			                .msg_iovlen = 1,
			                .msg_control = gone,
			                .msg_controllen = 64 };
		break;
	case 8: /* data not there */
		msg_iov[0] = (struct iovec){ gone, 8 };
		*msg = (struct msghdr){ .msg_iov = msg_iov, .msg_iovlen = 1 };
		break;
	case 9: /* a length that cannot be */
		msg_iov[0] = (struct iovec){ page, 1UL << 63 };
		*msg = (struct msghdr){ .msg_iov = msg_iov, .msg_iovlen = 1 };
		break;
	default:
		break;
	}
}

#define STRUCT_KINDS 10U

static void *bad_pointer(unsigned kind)
{
	switch (kind) {
	case 0:
		return (void *)8;
	case 1:
		return gone;
	case 2:
		return (void *)(~0UL - 4095);
	case 3: /* half of it is there, if it is longer than 4 bytes */
		memset(gone - 4, 0x41, 4);
		return gone - 4;
	default:
		fill_page(kind - 4);
		return page;
	}
}

static int by_user_data(const void *a, const void *b)
{
	const struct io_uring_cqe *x = a, *y = b;

	if (x->user_data == y->user_data)
		return x->flags < y->flags ? 1 : -1;
	return x->user_data < y->user_data ? -1 : 1;
}

static void run(const struct target *t, unsigned kind, bool bad_fd, unsigned flags)
{
	char other[64] = "nowhere/at/all";
	struct io_uring_cqe cqes[3];
	struct io_uring_sqe *sqe;
	void *bad = bad_pointer(kind);
	struct tr_ring r;
	int submitted, n = 0;

	if (tr_init(&r, 4, 0))
		exit(2);
	sqe = tr_prep(&r, t->op, bad_fd ? 9999 : fds[t->fd], other, t->len, t->off, 1);
	sqe->rw_flags = (int)t->flags;
	sqe->ioprio = (uint16_t)t->ioprio;
	sqe->flags = (uint8_t)flags;
	if (t->fields & ADDR)
		sqe->addr = (uintptr_t)bad;
	else if (t->op == IORING_OP_TIMEOUT_REMOVE)
		sqe->addr = 77;
	if (t->fields & ADDR2)
		sqe->addr2 = (uintptr_t)bad;
	else if (t->op == IORING_OP_RENAMEAT || t->op == IORING_OP_LINKAT ||
	         t->op == IORING_OP_SYMLINKAT || t->op == IORING_OP_STATX ||
	         t->op == IORING_OP_OPENAT2 || t->op == IORING_OP_GETXATTR ||
	         t->op == IORING_OP_SETXATTR)
		sqe->addr2 = (uintptr_t)other;
	if (t->fields & ADDR3)
		sqe->addr3 = (uintptr_t)bad;
	else if (t->op == IORING_OP_GETXATTR || t->op == IORING_OP_SETXATTR)
		sqe->addr3 = (uintptr_t)other;
	if (t->op == IORING_OP_SEND || t->op == IORING_OP_SEND_ZC)
		sqe->addr_len = t->fields & ADDR2 ? 16 : 0;
	/* Of a batch of reads or writes of files the others go on. */
	if ((t->op != IORING_OP_READV && t->op != IORING_OP_WRITEV) || t->fd != FILE_FD)
		tr_prep(&r, IORING_OP_NOP, -1, NULL, 0, 0, 2);
	submitted = tr_submit(&r);
	printf("op %d fd %d kind %u flags %u len %u: submitted %d:", t->op, bad_fd ? -1 : t->fd,
	       kind, flags, t->len, submitted);
	while (n < 3 && tr_wait_ms(&r, &cqes[n], n < submitted ? 40 : 1) == 0)
		n++;
	/* Their order is that of workers. */
	qsort(cqes, (size_t)n, sizeof(cqes[0]), by_user_data);
	/* A descriptor's number is nobody's concern. */
	for (int i = 0; i < n; i++)
		printf(" %u=%d/%x", (unsigned)cqes[i].user_data,
		       t->op == OP_PIPE && cqes[i].res > 0 ? 0 : cqes[i].res, cqes[i].flags);
	printf("\n");
	tr_exit(&r);
}

static void make_fds(void)
{
	int sv[2], p[2];

	if (socketpair(AF_UNIX, SOCK_STREAM, 0, sv) || pipe(p))
		exit(2);
	peer = sv[1];
	fds[NO_FD] = AT_FDCWD;
	fds[FILE_FD] = tr_temp_file(100);
	fds[SOCK_FD] = sv[0];
	fds[FRESH_FD] = socket(AF_INET, SOCK_STREAM, 0);
	fds[PIPE_FD] = p[0];
	if (write(p[1], "1234567890123456", 16) != 16)
		exit(2);
}

static void drop_fds(void)
{
	for (int i = FILE_FD; i <= PIPE_FD; i++)
		close(fds[i]);
	close(peer);
}

int main(void)
{
	struct tr_ring r;

	if (tr_init(&r, 4, 0))
		return 77;
	tr_exit(&r);
	/* Addresses are read as data too: they are to be the same each time. */
	page = mmap((void *)0x123450000, 8192, PROT_READ | PROT_WRITE,
	            MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
	if (page == MAP_FAILED)
		return 2;
	gone = page + 4096;
	mprotect(gone, 4096, PROT_NONE);
	setvbuf(stdout, NULL, _IOLBF, 0);
	for (size_t i = 0; i < sizeof(targets) / sizeof(targets[0]); i++) {
		for (unsigned kind = 0; kind < 4 + STRUCT_KINDS; kind++) {
			for (unsigned how = 0; how < 3; how++) {
				make_fds();
				run(&targets[i], kind, how == 1, how == 2 ? IOSQE_ASYNC : 0);
				drop_fds();
			}
		}
	}
	return 0;
}
