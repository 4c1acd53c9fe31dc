/*
 * What the benchmark programs share. Each measures one thing on liburing, knows
 * nothing of who serves its rings, and prints its results as lines of "name value".
 */
#ifndef FU_BENCH_H
#define FU_BENCH_H

#include <liburing.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

static inline uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000ULL + (uint64_t)ts.tv_nsec;
}

/* `err` is an errno, negative or not. */
static inline _Noreturn void die(const char *what, int err)
{
	fprintf(stderr, "%s: %s\n", what, strerror(err < 0 ? -err : err));
	exit(1);
}

static inline void check(const char *what, int ret)
{
	if (ret < 0)
		die(what, ret);
}

/* The n-th argument as a number above zero. */
static inline unsigned arg_number(int argc, char **argv, int n, const char *usage)
{
	long v = n < argc ? strtol(argv[n], NULL, 10) : 0;

	if (v <= 0) {
		fprintf(stderr, "usage: %s %s\n", argv[0], usage);
		exit(2);
	}
	return (unsigned)v;
}

/* Lifts the limit of descriptors to the hard one, and beyond where that is too low and may be. */
static inline void need_files(rlim_t count)
{
	struct rlimit limit;

	getrlimit(RLIMIT_NOFILE, &limit);
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_NOFILE, &limit);
	if (limit.rlim_max < count) {
		limit.rlim_cur = limit.rlim_max = count;
		setrlimit(RLIMIT_NOFILE, &limit);
	}
}

static inline struct io_uring_sqe *next_sqe(struct io_uring *ring)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(ring);

	if (!sqe)
		die("io_uring_get_sqe: the queue is full", 0);
	return sqe;
}

/* Takes every CQE that is there; fails on a result below `least`. Returns how many. */
static inline unsigned reap(struct io_uring *ring, int least)
{
	struct io_uring_cqe *cqe;
	unsigned head, n = 0;

	io_uring_for_each_cqe(ring, head, cqe)
	{
		if (cqe->res < least)
			die("request", cqe->res);
		n++;
	}
	io_uring_cq_advance(ring, n);
	return n;
}

#endif
