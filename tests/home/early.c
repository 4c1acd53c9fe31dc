/*
 * A program that has nothing to do with io_uring blocks SIGSYS, sends it to itself, and finds it
 * pending. It exits with 0, or with the line of the check that failed.
 */
#include <signal.h>
#include <time.h>
#include <unistd.h>

#define CHECK(what)                             \
	do {                                    \
		if (!(what))                    \
			_exit(__LINE__ & 0xff); \
	} while (0)

static volatile sig_atomic_t handled;

static void on_sigsys(int sig)
{
	(void)sig;
	handled++;
}

int main(void)
{
	static const struct timespec now = { 0, 0 };
	sigset_t set, pending, none;

	sigemptyset(&none);
	sigfillset(&set);
	CHECK(sigprocmask(SIG_SETMASK, &set, NULL) == 0);
	CHECK(raise(SIGSYS) == 0);
	CHECK(sigpending(&pending) == 0 && sigismember(&pending, SIGSYS) == 1);
	CHECK(sigtimedwait(&set, NULL, &now) == SIGSYS);
	CHECK(sigpending(&pending) == 0 && sigismember(&pending, SIGSYS) == 0);
	CHECK(signal(SIGSYS, on_sigsys) == SIG_DFL);
	CHECK(kill(getpid(), SIGSYS) == 0);
	CHECK(handled == 0);
	CHECK(sigsuspend(&none) == -1 && handled == 1);
	return 0;
}
