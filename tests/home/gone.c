/*
 * A program that makes a ring, uses it, and is gone at once, by a system call of its own that
 * nobody sees. Its statistics say that it was served all the same.
 */
#include <liburing.h>
#include <stdio.h>
#include <sys/syscall.h>

int main(void)
{
	struct io_uring ring;

	if (io_uring_queue_init(4, &ring, 0)) {
		fprintf(stderr, "no ring\n");
		return 1;
	}
	io_uring_prep_nop(io_uring_get_sqe(&ring));
	if (io_uring_submit_and_wait(&ring, 1) != 1) {
		fprintf(stderr, "not submitted\n");
		return 1;
	}
	for (;;)
		__asm__ volatile("syscall" ::"a"(SYS_exit_group), "D"(0) : "rcx", "r11", "memory");
}
