/*
 * A small program for tools to look at: a ring, made through libc's syscall() only, on which
 * a nop, a read that waits and a write to a file are done.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/io_uring.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

static char *rings;
static struct io_uring_params p;
static struct io_uring_sqe *sqes;
static int fd;

static unsigned *word(unsigned off)
{
	return (unsigned *)(void *)(rings + off);
}

static void push(int op, int file, void *buf, unsigned len)
{
	unsigned tail = *word(p.sq_off.tail), at = tail & *word(p.sq_off.ring_mask);

	memset(&sqes[at], 0, sizeof(sqes[at]));
	sqes[at].opcode = (uint8_t)op;
	sqes[at].fd = file;
	sqes[at].addr = (uint64_t)(uintptr_t)buf;
	sqes[at].len = len;
	word(p.sq_off.array)[at] = at;
	__atomic_store_n(word(p.sq_off.tail), tail + 1, __ATOMIC_RELEASE);
}

/* The result of the next completion. */
static int pull(void)
{
	unsigned head = *word(p.cq_off.head);
	const struct io_uring_cqe *cqes = (const void *)(rings + p.cq_off.cqes);
	int res;

	while (head == __atomic_load_n(word(p.cq_off.tail), __ATOMIC_ACQUIRE)) {
		if (syscall(SYS_io_uring_enter, fd, 0, 1, IORING_ENTER_GETEVENTS, NULL, 0) < 0 &&
		    errno != EINTR)
			return -errno;
	}
	res = cqes[head & *word(p.cq_off.ring_mask)].res;
	__atomic_store_n(word(p.cq_off.head), head + 1, __ATOMIC_RELEASE);
	return res;
}

int main(void)
{
	int pipes[2];
	char c = 0;
	size_t bytes;

	fd = (int)syscall(SYS_io_uring_setup, 8, &p);
	if (fd < 0 || pipe(pipes)) {
		perror("io_uring_setup");
		return 1;
	}
	bytes = p.cq_off.cqes + p.cq_entries * sizeof(struct io_uring_cqe);
	rings = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, IORING_OFF_SQ_RING);
	sqes = mmap(NULL, p.sq_entries * sizeof(*sqes), PROT_READ | PROT_WRITE, MAP_SHARED, fd,
	            (off_t)IORING_OFF_SQES);
	if (rings == MAP_FAILED || sqes == MAP_FAILED)
		return 2;
	for (int i = 0; i < 50; i++) {
		push(IORING_OP_NOP, -1, NULL, 0);
		push(IORING_OP_READ, pipes[0], &c, 1);
		if (syscall(SYS_io_uring_enter, fd, 2, 1, IORING_ENTER_GETEVENTS, NULL, 0) != 2 ||
		    pull() != 0)
			return 3;
		push(IORING_OP_WRITE, pipes[1], "x", 1);
		sqes[(*word(p.sq_off.tail) - 1) & *word(p.sq_off.ring_mask)].flags = IOSQE_ASYNC;
		if (syscall(SYS_io_uring_enter, fd, 1, 2, IORING_ENTER_GETEVENTS, NULL, 0) != 1 ||
		    pull() != 1 || pull() != 1 || c != 'x')
			return 4;
	}
	close(fd);
	puts("done");
	return 0;
}
