/*
 * A program of another libc, which inherits LD_PRELOAD and gets the library with it: every
 * call that is interposed does what it does without. It prints nothing and exits with 0, or with
 * the line of the check that failed. It starts itself again, and a program of glibc's.
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* Exit statuses have eight bits. */
#define CHECK(what)                             \
	do {                                    \
		if (!(what))                    \
			_exit(__LINE__ & 0xff); \
	} while (0)

#define NR_IO_URING_SETUP 425

static volatile sig_atomic_t seen;

static void handler(int sig)
{
	seen = sig;
}

static void *answer(void *arg)
{
	return (char *)arg + 1;
}

static void check_signals(void)
{
	struct sigaction sa = { .sa_handler = handler }, old;
	sigset_t all, before, now;

	CHECK(sigaction(SIGUSR1, &sa, NULL) == 0 && raise(SIGUSR1) == 0 && seen == SIGUSR1);
	CHECK(signal(SIGUSR2, handler) == SIG_DFL && raise(SIGUSR2) == 0 && seen == SIGUSR2);
	CHECK(sigaction(SIGUSR2, NULL, &old) == 0 && old.sa_handler == handler);
	CHECK(signal(SIGPIPE, handler) == SIG_DFL);
	sigfillset(&all);
	CHECK(sigprocmask(SIG_SETMASK, &all, &before) == 0);
	CHECK(sigprocmask(SIG_SETMASK, &before, &now) == 0 && sigismember(&now, SIGSYS) == 1);
	CHECK(pthread_sigmask(SIG_BLOCK, NULL, &now) == 0 && sigismember(&now, SIGSYS) == 0);
}

static void check_waiting(void)
{
	struct epoll_event ev = { .events = EPOLLIN }, out;
	struct timespec soon = { 0, 1000000 };
	int pipes[2], ep = epoll_create1(EPOLL_CLOEXEC);
	struct pollfd pfd;
	fd_set set;

	CHECK(ep >= 0 && pipe(pipes) == 0);
	pfd = (struct pollfd){ .fd = pipes[0], .events = POLLIN };
	CHECK(poll(&pfd, 1, 1) == 0 && ppoll(&pfd, 1, &soon, NULL) == 0);
	CHECK(write(pipes[1], "x", 1) == 1 && poll(&pfd, 1, 1000) == 1);
	CHECK(epoll_ctl(ep, EPOLL_CTL_ADD, pipes[0], &ev) == 0);
	CHECK(epoll_wait(ep, &out, 1, 1000) == 1 && epoll_pwait(ep, &out, 1, 1000, NULL) == 1);
	FD_ZERO(&set);
	FD_SET(pipes[0], &set);
	CHECK(select(pipes[0] + 1, &set, NULL, NULL, NULL) == 1);
	CHECK(dup2(pipes[0], 100) == 100 && fcntl(100, F_GETFD) == 0 && close(100) == 0);
	CHECK(close(pipes[0]) == 0 && close(pipes[1]) == 0 && close(ep) == 0);
}

static void check_others(void)
{
	struct iovec iov = { (char *)"hi", 2 };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
	struct mmsghdr mmsg = { .msg_hdr = msg };
	char params[120] = "";
	int pair[2], pipes[2], fd;
	pthread_t t;
	void *p;

	CHECK(pthread_create(&t, NULL, answer, params) == 0 && pthread_join(t, &p) == 0);
	CHECK(p == params + 1);
	CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0 && sendmsg(pair[0], &msg, 0) == 2);
	CHECK(read(pair[1], params, 1) == 1 && params[0] == 'h');
	mmsg.msg_hdr.msg_iov->iov_base = params;
	CHECK(recvmmsg(pair[1], &mmsg, 1, 0, NULL) == 1 && mmsg.msg_len == 1 && params[0] == 'i');
	params[0] = 0;
	CHECK(pipe(pipes) == 0 && send(pair[0], "x", 1, 0) == 1);
	CHECK(splice(pair[1], NULL, pipes[1], NULL, 1, 0) == 1 && close(pipes[0]) == 0);
	CHECK(write(pipes[1], "y", 1) == -1 && errno == EPIPE && seen == SIGPIPE);
	CHECK(connect(pair[0], NULL, 0) == -1);
	CHECK((fd = inotify_init1(IN_CLOEXEC)) >= 0 && close(fd) == 0);
	p = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	CHECK(p != MAP_FAILED && munmap(p, 4096) == 0);
	CHECK(dlopen("/nonexistent", RTLD_NOW) == NULL && dlopen(NULL, RTLD_NOW) != NULL);
	CHECK(syscall(SYS_getpid) == getpid());
	/* Nobody serves it. */
	CHECK(syscall(NR_IO_URING_SETUP, 1, params) == -1 && errno == EPERM);
}

static void run(const char *path, const char *arg)
{
	pid_t pid = fork();
	int status;

	if (pid == 0) {
		execl(path, path, arg, (char *)NULL);
		_exit(127);
	}
	CHECK(pid > 0 && waitpid(pid, &status, 0) == pid && status == 0);
}

int main(int argc, char **argv)
{
	check_signals();
	check_waiting();
	check_others();
	if (argc == 1) {
		run(argv[0], "again");
		run("/bin/true", NULL);
	}
	return 0;
}
