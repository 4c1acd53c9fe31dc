/*
 * A plugin that brings liburing with it: rings made in its constructor, rings it ends, and a
 * ring that it leaves behind when it goes.
 */
#include <errno.h>
#include <liburing.h>
#include <string.h>
#include <unistd.h>

static int early = -EAGAIN; /* what the constructor got from its own ring */

static int run(struct io_uring *ring)
{
	struct io_uring_cqe *cqe;
	struct io_uring_sqe *sqe;
	char c = 0;
	int p[2], ret;

	if (pipe(p))
		return -errno;
	sqe = io_uring_get_sqe(ring);
	io_uring_prep_read(sqe, p[0], &c, 1, 0);
	ret = io_uring_submit(ring);
	if (ret == 1 && write(p[1], "x", 1) == 1)
		ret = io_uring_wait_cqe(ring, &cqe);
	if (ret == 0) {
		ret = cqe->res == 1 && c == 'x' ? 0 : -EIO;
		io_uring_cqe_seen(ring, cqe);
	}
	close(p[0]);
	close(p[1]);
	return ret;
}

static int one(void)
{
	struct io_uring ring;
	int ret = io_uring_queue_init(8, &ring, 0);

	if (ret)
		return ret;
	ret = run(&ring);
	io_uring_queue_exit(&ring);
	return ret;
}

__attribute__((constructor)) static void begin(void)
{
	early = one();
}

__attribute__((visibility("default"))) int plugin_use(void);
int plugin_use(void)
{
	return one();
}

__attribute__((visibility("default"))) int plugin_early(void);
int plugin_early(void)
{
	return early;
}

__attribute__((visibility("default"))) int plugin_leave(int pending);
int plugin_leave(int pending)
{
	static struct io_uring ring;
	static char c;
	int p[2], ret;

	if (!pending)
		return 0;
	ret = io_uring_queue_init(8, &ring, 0);
	if (ret || pipe(p))
		return ret;
	io_uring_prep_read(io_uring_get_sqe(&ring), p[0], &c, 1, 0);
	ret = io_uring_submit(&ring);
	io_uring_queue_exit(&ring);
	close(p[0]);
	close(p[1]);
	return ret == 1 ? 0 : -EIO;
}
