/*
 * Telling the engine that the program waits for ring descriptors. Call only when
 * fu_have_rings(); pointers are the program's, NULL allowed where the call allows it.
 */
#ifndef FU_PRELOAD_POLL_H
#define FU_PRELOAD_POLL_H

#include <poll.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include "rings/types.h"

void fu_polled_pollfds(const struct pollfd *fds, nfds_t n);
void fu_polled_fdsets(int n, const fd_set *in, const fd_set *out, const fd_set *except);
void fu_polled_epoll(int op, int fd, const struct epoll_event *event);

#endif
