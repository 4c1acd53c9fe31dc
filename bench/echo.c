/*
 * TCP echo on the loopback: a server on io_uring, the same server on epoll, and the
 * client for both, which is a process of its own so that it costs the same everywhere.
 *
 *     echo uring|epoll CONNECTIONS BYTES       says "port N", ends when all have left
 *     echo client CONNECTIONS BYTES PORT MILLISECONDS
 */
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "bench.h"

#define MAX_CONNECTIONS 1024U

/* What a server receives into: it does not know how long messages are. */
#define ROOM 16384U

static unsigned connections, bytes;
static int sockets[MAX_CONNECTIONS];
static char *buffers[MAX_CONNECTIONS];

static void no_delay(int fd)
{
	int one = 1;

	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
}

static void accept_all(void)
{
	struct sockaddr_in addr = { .sin_family = AF_INET,
		                    .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(addr);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || bind(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0 ||
	    listen(fd, (int)connections) < 0 || getsockname(fd, (struct sockaddr *)&addr, &len) < 0)
		die("listen", errno);
	printf("port %u\n", ntohs(addr.sin_port));
	fflush(stdout);
	for (unsigned i = 0; i < connections; i++) {
		sockets[i] = accept(fd, NULL, NULL);
		if (sockets[i] < 0)
			die("accept", errno);
		no_delay(sockets[i]);
	}
	close(fd);
}

/* ---- the server on io_uring ---- */

#define SEND (1ULL << 32)

static void queue(struct io_uring *ring, unsigned i, unsigned have, bool sending)
{
	struct io_uring_sqe *sqe = next_sqe(ring);

	if (sending)
		io_uring_prep_send(sqe, sockets[i], buffers[i], have, MSG_WAITALL);
	else
		io_uring_prep_recv(sqe, sockets[i], buffers[i], ROOM, 0);
	sqe->user_data = i | (sending ? SEND : 0);
}

static void serve_uring(void)
{
	struct io_uring ring;
	unsigned left = connections;

	check("io_uring_queue_init", io_uring_queue_init(2 * connections, &ring, 0));
	for (unsigned i = 0; i < connections; i++)
		queue(&ring, i, 0, false);
	while (left) {
		struct io_uring_cqe *cqe;
		unsigned head, n = 0;

		check("io_uring_submit_and_wait", io_uring_submit_and_wait(&ring, 1));
		io_uring_for_each_cqe(&ring, head, cqe)
		{
			unsigned i = (unsigned)cqe->user_data;

			n++;
			if (cqe->user_data & SEND)
				queue(&ring, i, 0, false);
			else if (cqe->res > 0)
				queue(&ring, i, (unsigned)cqe->res, true);
			else
				left--;
		}
		io_uring_cq_advance(&ring, n);
	}
	io_uring_queue_exit(&ring);
}

/* ---- the server on epoll ---- */

static void serve_epoll(void)
{
	struct epoll_event events[64];
	int ep = epoll_create1(EPOLL_CLOEXEC);
	unsigned left = connections;

	for (unsigned i = 0; i < connections; i++) {
		struct epoll_event ev = { .events = EPOLLIN, .data.u32 = i };

		if (epoll_ctl(ep, EPOLL_CTL_ADD, sockets[i], &ev) < 0)
			die("epoll_ctl", errno);
	}
	while (left) {
		int n = epoll_wait(ep, events, 64, -1);

		for (int e = 0; e < n; e++) {
			unsigned i = events[e].data.u32;
			ssize_t got = recv(sockets[i], buffers[i], ROOM, 0);

			if (got > 0) {
				if (send(sockets[i], buffers[i], (size_t)got, 0) != got)
					die("send", errno);
				continue;
			}
			left--;
			epoll_ctl(ep, EPOLL_CTL_DEL, sockets[i], NULL);
		}
	}
	close(ep);
}

/* ---- the client ---- */

static unsigned missing[MAX_CONNECTIONS];

static void post(unsigned i)
{
	missing[i] = bytes;
	if (send(sockets[i], buffers[i], bytes, 0) != (ssize_t)bytes)
		die("send", errno);
}

/* Takes what is there of the answer; true when it is complete. */
static bool take(unsigned i)
{
	ssize_t got = recv(sockets[i], buffers[i], missing[i], 0);

	if (got <= 0)
		die("recv", got ? errno : ECONNRESET);
	missing[i] -= (unsigned)got;
	return missing[i] == 0;
}

static uint64_t talk_one(uint64_t until_ns)
{
	uint64_t trips = 0;

	while (now_ns() < until_ns) {
		post(0);
		while (!take(0)) {
		}
		trips++;
	}
	return trips;
}

static uint64_t talk_many(uint64_t until_ns)
{
	struct epoll_event events[64];
	int ep = epoll_create1(EPOLL_CLOEXEC);
	uint64_t trips = 0;

	for (unsigned i = 0; i < connections; i++) {
		struct epoll_event ev = { .events = EPOLLIN, .data.u32 = i };

		if (epoll_ctl(ep, EPOLL_CTL_ADD, sockets[i], &ev) < 0)
			die("epoll_ctl", errno);
		post(i);
	}
	while (now_ns() < until_ns) {
		int n = epoll_wait(ep, events, 64, -1);

		for (int e = 0; e < n; e++) {
			if (take(events[e].data.u32)) {
				trips++;
				post(events[e].data.u32);
			}
		}
	}
	return trips;
}

static void talk(unsigned port, unsigned ms)
{
	struct sockaddr_in addr = { .sin_family = AF_INET,
		                    .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
		                    .sin_port = htons((uint16_t)port) };
	uint64_t start, trips;

	for (unsigned i = 0; i < connections; i++) {
		sockets[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
		if (sockets[i] < 0 ||
		    connect(sockets[i], (struct sockaddr *)&addr, sizeof(addr)) < 0)
			die("connect", errno);
		no_delay(sockets[i]);
	}
	start = now_ns();
	trips = connections == 1 ? talk_one(start + ms * 1000000ULL)
	                         : talk_many(start + ms * 1000000ULL);
	printf("ns_per_op %.1f\n", (double)(now_ns() - start) / (double)trips);
}

int main(int argc, char **argv)
{
	const char *usage = "uring|epoll|client CONNECTIONS BYTES [PORT MILLISECONDS]";

	connections = arg_number(argc, argv, 2, usage);
	bytes = arg_number(argc, argv, 3, usage);
	if (connections > MAX_CONNECTIONS || bytes > ROOM)
		die("arguments", ERANGE);
	for (unsigned i = 0; i < connections; i++) {
		buffers[i] = calloc(1, ROOM);
		if (!buffers[i])
			die("memory", ENOMEM);
	}
	if (strcmp(argv[1], "client") == 0) {
		talk(arg_number(argc, argv, 4, usage), arg_number(argc, argv, 5, usage));
		return 0;
	}
	accept_all();
	if (strcmp(argv[1], "uring") == 0)
		serve_uring();
	else
		serve_epoll();
	return 0;
}
