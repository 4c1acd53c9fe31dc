/* Opcodes and flags that the liburing header of the oldest supported system does not have. */
#ifndef FU_TESTS_NEWER_OPS_H
#define FU_TESTS_NEWER_OPS_H

enum {
	OP_READ_MULTISHOT = 49,
	OP_WAITID,
	OP_FUTEX_WAIT,
	OP_FUTEX_WAKE,
	OP_FUTEX_WAITV,
	OP_FIXED_FD_INSTALL,
	OP_FTRUNCATE,
	OP_BIND,
	OP_EPOLL_WAIT = 59,
	OP_READV_FIXED,
	OP_WRITEV_FIXED,
	OP_PIPE,
};

#define FD_INSTALL_NO_CLOEXEC  1U
#define MSG_FLAGS_PASS         2U
#define REGISTER_SEND_MSG_RING 31U
#define FUTEX2_32BIT           2
#define FUTEX2_32BIT_PRIVATE   (2 | 128)

#endif
