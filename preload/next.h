/*
 * The functions that the interposed symbols stand in front of: what the dynamic
 * linker would have bound had this library not been there.
 */
#ifndef FU_NEXT_H
#define FU_NEXT_H

#include <link.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <ucontext.h>
#include "rings/types.h"

/* Of glibc's loader: another libc has no such thing. */
#pragma weak _r_debug

/* Every interposed function that calls its original: X(return type, name, parameters). */
#define FU_NEXT_FUNCTIONS(X)                                                                     \
	X(long, syscall, (long, ...))                                                            \
	X(int, close, (int))                                                                     \
	X(int, inotify_init, (void))                                                             \
	X(int, inotify_init1, (int))                                                             \
	X(int, fanotify_init, (unsigned, unsigned))                                              \
	X(ssize_t, sendmsg, (int, const struct msghdr *, int))                                   \
	X(int, sendmmsg, (int, struct mmsghdr *, unsigned, int))                                 \
	X(ssize_t, read, (int, void *, size_t))                                                  \
	X(ssize_t, __read_chk, (int, void *, size_t, size_t))                                    \
	X(ssize_t, readv, (int, const struct iovec *, int))                                      \
	X(ssize_t, recv, (int, void *, size_t, int))                                             \
	X(ssize_t, __recv_chk, (int, void *, size_t, size_t, int))                               \
	X(ssize_t, recvfrom, (int, void *, size_t, int, struct sockaddr *, socklen_t *))         \
	X(ssize_t, __recvfrom_chk,                                                               \
	  (int, void *, size_t, size_t, int, struct sockaddr *, socklen_t *))                    \
	X(ssize_t, recvmsg, (int, struct msghdr *, int))                                         \
	X(int, recvmmsg, (int, struct mmsghdr *, unsigned, int, struct timespec *))              \
	X(int, accept, (int, struct sockaddr *, socklen_t *))                                    \
	X(int, accept4, (int, struct sockaddr *, socklen_t *, int))                              \
	X(ssize_t, write, (int, const void *, size_t))                                           \
	X(ssize_t, writev, (int, const struct iovec *, int))                                     \
	X(ssize_t, send, (int, const void *, size_t, int))                                       \
	X(ssize_t, sendto, (int, const void *, size_t, int, const struct sockaddr *, socklen_t)) \
	X(int, eventfd_read, (int, eventfd_t *))                                                 \
	X(int, eventfd_write, (int, eventfd_t))                                                  \
	X(int, connect, (int, const struct sockaddr *, socklen_t))                               \
	X(int, shutdown, (int, int))                                                             \
	X(ssize_t, preadv2, (int, const struct iovec *, int, off_t, int))                        \
	X(ssize_t, pwritev2, (int, const struct iovec *, int, off_t, int))                       \
	X(ssize_t, splice, (int, off64_t *, int, off64_t *, size_t, unsigned))                   \
	X(ssize_t, tee, (int, int, size_t, unsigned))                                            \
	X(ssize_t, vmsplice, (int, const struct iovec *, size_t, unsigned))                      \
	X(ssize_t, sendfile, (int, int, off_t *, size_t))                                        \
	X(int, fcntl, (int, int, ...))                                                           \
	X(int, poll, (struct pollfd *, nfds_t, int))                                             \
	X(int, __poll_chk, (struct pollfd *, nfds_t, int, size_t))                               \
	X(int, ppoll, (struct pollfd *, nfds_t, const struct timespec *, const sigset_t *))      \
	X(int, __ppoll_chk,                                                                      \
	  (struct pollfd *, nfds_t, const struct timespec *, const sigset_t *, size_t))          \
	X(int, select, (int, fd_set *, fd_set *, fd_set *, struct timeval *))                    \
	X(int, pselect,                                                                          \
	  (int, fd_set *, fd_set *, fd_set *, const struct timespec *, const sigset_t *))        \
	X(int, epoll_ctl, (int, int, int, struct epoll_event *))                                 \
	X(int, epoll_wait, (int, struct epoll_event *, int, int))                                \
	X(int, epoll_pwait, (int, struct epoll_event *, int, int, const sigset_t *))             \
	X(int, epoll_pwait2,                                                                     \
	  (int, struct epoll_event *, int, const struct timespec *, const sigset_t *))           \
	X(int, sigaction, (int, const struct sigaction *, struct sigaction *))                   \
	X(int, sigprocmask, (int, const sigset_t *, sigset_t *))                                 \
	X(int, pthread_sigmask, (int, const sigset_t *, sigset_t *))                             \
	X(int, sigsuspend, (const sigset_t *))                                                   \
	X(int, sigpending, (sigset_t *))                                                         \
	X(int, sigtimedwait, (const sigset_t *, siginfo_t *, const struct timespec *))           \
	X(int, sigwait, (const sigset_t *, int *))                                               \
	X(int, pthread_create, (pthread_t *, const pthread_attr_t *, void *(*)(void *), void *)) \
	X(int, pthread_attr_setsigmask_np, (pthread_attr_t *, const sigset_t *))                 \
	X(int, dl_iterate_phdr, (int (*)(struct dl_phdr_info *, size_t, void *), void *))        \
	X(int, unshare, (int))                                                                   \
	X(int, setns, (int, int))                                                                \
	X(int, capset, (void *, const void *))                                                   \
	X(int, getcontext, (ucontext_t *))                                                       \
	X(int, setcontext, (const ucontext_t *))                                                 \
	X(int, swapcontext, (ucontext_t *, const ucontext_t *))                                  \
	X(void, longjmp, (void *, int))                                                          \
	X(void, _longjmp, (void *, int))                                                         \
	X(void, siglongjmp, (void *, int))                                                       \
	X(void, __longjmp_chk, (void *, int))                                                    \
	X(int, _Fork, (void))                                                                    \
	X(int, execve, (const char *, char *const[], char *const[]))                             \
	X(int, execvpe, (const char *, char *const[], char *const[]))                            \
	X(int, fexecve, (int, char *const[], char *const[]))                                     \
	X(void, quick_exit, (int))                                                               \
	X(void *, dlopen, (const char *, int))                                                   \
	X(void *, dlmopen, (long, const char *, int))

/*
 * fu_next.NAME: NULL where this libc has no such function. Filled by fu_init()
 * before any interposed function uses it, constant afterwards.
 */
#define FU_NEXT_DECLARE(type, name, params) type(*name) params;
struct fu_next {
	FU_NEXT_FUNCTIONS(FU_NEXT_DECLARE)
};
extern struct fu_next fu_next;

/*
 * Fills fu_next from the objects that come after this library in search order. False if the libc
 * is not glibc: everything is to go straight to fu_next then.
 */
bool fu_next_resolve(void);

#endif
