/* The world of the fuzz targets; see world.h. */
#include "tests/fuzz/world.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "engine/entry.h"
#include "engine/thread.h"
#include "rings/abi.h"

#define ARENA_BYTES (256UL * 1024)
/* No length in a request reaches over these from the arena into anything that is in use. */
#define GUARD_BYTES (256UL << 30)
#define NOBODY      65534

/* The world's descriptors start here, out of the way of the fuzzer's own. */
#define FIRST_FD 100

enum {
	FD_FILE,
	FD_DIRECT,
	FD_PIPE_IN,
	FD_PIPE_OUT,
	FD_SOCK_A,
	FD_SOCK_B,
	FD_EVENT,
	FD_EPOLL,
	FD_DIR,
	FD_NULL,
	FD_LISTEN,
	FD_RING,
	FD_RING2,
	FDS
};

struct ring {
	int fd;
	struct fu_params p;
	uint8_t *rings;
	uint8_t *sqes;
	size_t ring_bytes, sqe_bytes;
};

static uint8_t *arena;
static uint8_t pristine[ARENA_BYTES];
static struct ring ring, other;

/* ---- once ---- */

static void die(const char *what)
{
	perror(what);
	abort();
}

static void nothing(int sig)
{
	(void)sig;
}

/*
 * Half of the arena looks like what the calls want: paths, vectors, message headers, addresses of
 * sockets, times, restrictions; the other half is for their data.
 */
static void fill_pristine(void)
{
	static const char *const paths[] = { "file",      "dir/new", ".",    "fifo",
		                             "missing/x", "",        "link", "user.x" };
	struct iovec *iov = (void *)(pristine + 0x1000);
	struct msghdr *msg = (void *)(pristine + 0x2000);
	int *fds = (void *)(pristine + 0x4000);

	for (size_t i = 0; i < 256; i++)
		strcpy((char *)pristine + i * 16, paths[i % 8]);
	for (size_t i = 0; i < 256; i++)
		iov[i] = (struct iovec){ arena + 0x20000 + i * 64, i % 7 * 32 };
	for (size_t i = 0; i < 64; i++)
		msg[i] = (struct msghdr){ .msg_iov = (void *)(arena + 0x1000),
			                  .msg_iovlen = i % 5,
			                  .msg_control = i % 2 ? arena + 0x18000 : NULL,
			                  .msg_controllen = i % 2 ? 64 : 0 };
	for (size_t i = 0; i < 256; i++)
		fds[i] = i % 5 == 4 ? -1 : FIRST_FD + (int)(i % FDS);
	for (size_t i = 0; i < 1024; i++)
		((int64_t *)(void *)(pristine + 0x8000))[i] = i % 2 ? 1000 * (int64_t)i : 0;
	for (size_t i = 0x20000; i < ARENA_BYTES; i++)
		pristine[i] = (uint8_t)(i * 31);
}

struct start {
	void *(*fn)(void *);
	void *arg;
};

static void *report_faults(void *arg)
{
	struct start start = *(struct start *)arg;
	sigset_t faults;

	free(arg);
	sigemptyset(&faults);
	sigaddset(&faults, SIGSEGV);
	sigaddset(&faults, SIGBUS);
	sigaddset(&faults, SIGILL);
	sigaddset(&faults, SIGFPE);
	sigaddset(&faults, SIGABRT);
	pthread_sigmask(SIG_UNBLOCK, &faults, NULL);
	return start.fn(start.arg);
}

/* The engine's threads block all signals: a fault there would kill without a report. */
static int create_thread(pthread_t *thread, const pthread_attr_t *attr, void *(*fn)(void *),
                         void *arg)
{
	struct start *start = malloc(sizeof(*start));

	*start = (struct start){ fn, arg };
	return pthread_create(thread, attr, report_faults, start);
}

/* Once per process: gives up root and the network, makes the scratch directory and the arena. */
static void init(void)
{
	const struct rlimit file_size = { 4 << 20, 4 << 20 };
	struct sigaction sa = { .sa_handler = nothing };
	static char dir[PATH_MAX];
	const char *tmp = getenv("TMPDIR");
	uint8_t *guard;

	snprintf(dir, sizeof(dir), "%s/fuzz-world.XXXXXX", tmp ? tmp : "/tmp");
	if (!mkdtemp(dir) || chmod(dir, 0777))
		die(dir);
	if (geteuid() == 0) {
		/* What the stream does must not reach anything that matters. */
		if (unshare(CLONE_NEWNET | CLONE_NEWIPC))
			perror("unshare");
		if (setgroups(0, NULL) || setresgid(NOBODY, NOBODY, NOBODY) ||
		    setresuid(NOBODY, NOBODY, NOBODY))
			die("giving up root");
	}
	if (chdir(dir))
		die(dir);
	fu_pthread_create = create_thread;
	setrlimit(RLIMIT_FSIZE, &file_size);
	/* The engine interrupts its workers with SIGSYS; the rest is what the stream can cause. */
	sigaction(SIGSYS, &sa, NULL);
	sigaction(SIGXFSZ, &sa, NULL);
	sigaction(SIGPIPE, &sa, NULL);
	sigaction(SIGIO, &sa, NULL);
	sigaction(SIGURG, &sa, NULL);
	guard = mmap(NULL, 2 * GUARD_BYTES, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
	             -1, 0);
	if (guard == MAP_FAILED)
		die("mmap");
	arena = guard + GUARD_BYTES;
	if (mprotect(arena, ARENA_BYTES, PROT_READ | PROT_WRITE))
		die("mprotect");
	fill_pristine();
}

/* ---- for each stream ---- */

static void place(int fd, unsigned which)
{
	if (fd < 0)
		return;
	dup3(fd, FIRST_FD + (int)which, O_CLOEXEC);
	close(fd);
}

/* An earlier stream may have left a directory in its place, or a link that leads nowhere. */
static int open_file(void)
{
	static unsigned moved;
	char aside[32];
	int fd = open("file", O_RDWR | O_CREAT, 0666);

	if (fd >= 0)
		return fd;
	snprintf(aside, sizeof(aside), "aside-%u", moved++);
	if (rename("file", aside))
		die("rename");
	return open("file", O_RDWR | O_CREAT, 0666);
}

static void open_all(void)
{
	int pair[2];

	mkdir("dir", 0777);
	mkfifo("fifo", 0666);
	place(open_file(), FD_FILE);
	if (ftruncate(FIRST_FD + FD_FILE, 65536))
		die("file");
	place(open("file", O_RDWR | O_DIRECT), FD_DIRECT);
	if (pipe2(pair, O_NONBLOCK) == 0) {
		place(pair[0], FD_PIPE_IN);
		place(pair[1], FD_PIPE_OUT);
	}
	if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0) {
		place(pair[0], FD_SOCK_A);
		place(pair[1], FD_SOCK_B);
	}
	place(eventfd(0, EFD_NONBLOCK), FD_EVENT);
	place(epoll_create1(0), FD_EPOLL);
	place(open(".", O_RDONLY | O_DIRECTORY), FD_DIR);
	place(open("/dev/null", O_RDWR), FD_NULL);
	place(socket(AF_UNIX, SOCK_STREAM, 0), FD_LISTEN);
}

static void *map_ring(int fd, size_t bytes, uint64_t offset)
{
	long ret;

	if (!fu_ring_mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, offset, &ret) ||
	    ret < 0)
		return NULL;
	return fu_ptr((uint64_t)ret);
}

/* Sets of flags that go together; a header of high value brings its own. */
static uint32_t setup_flags(uint32_t in)
{
	static const uint32_t sets[] = {
		0,
		IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN,
		IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG | IORING_SETUP_SUBMIT_ALL,
		IORING_SETUP_SQPOLL,
		IORING_SETUP_IOPOLL,
		IORING_SETUP_R_DISABLED | IORING_SETUP_SINGLE_ISSUER,
		IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP | IORING_SETUP_CQE32,
		IORING_SETUP_SQE128 | IORING_SETUP_NO_SQARRAY | IORING_SETUP_CQE_MIXED,
	};

	return in >> 24 == 0xff ? in : sets[in % 8];
}

static bool make(struct ring *r, const struct fuzz_header *h, unsigned number)
{
	/* Memory of the program's own and rings without a number are not for here. */
	uint32_t flags = setup_flags(h->setup_flags) &
	                 ~(IORING_SETUP_NO_MMAP | IORING_SETUP_REGISTERED_FD_ONLY);
	long fd;

	memset(r, 0, sizeof(*r));
	r->p.flags = flags;
	r->p.cq_entries = h->cq_entries;
	r->p.sq_thread_idle = 1;
	r->p.wq_fd = (uint32_t)FIRST_FD + FD_RING;
	fd = fu_io_uring_setup(1 + h->sq_entries % 64, &r->p);
	if (fd < 0) {
		errno = (int)-fd;
		return false;
	}
	r->fd = FIRST_FD + (int)number;
	dup3((int)fd, r->fd, O_CLOEXEC);
	fu_fd_duped((int)fd, r->fd);
	close((int)fd);
	fu_fd_closed((int)fd);
	r->ring_bytes = r->p.cq_off.cqes +
	                (size_t)r->p.cq_entries * (r->p.flags & IORING_SETUP_CQE32 ? 32 : 16);
	if (r->ring_bytes < r->p.sq_off.array + (size_t)r->p.sq_entries * 4)
		r->ring_bytes = r->p.sq_off.array + (size_t)r->p.sq_entries * 4;
	r->sqe_bytes = (size_t)r->p.sq_entries * (r->p.flags & IORING_SETUP_SQE128 ? 128 : 64);
	r->rings = map_ring(r->fd, r->ring_bytes, IORING_OFF_SQ_RING);
	r->sqes = map_ring(r->fd, r->sqe_bytes, IORING_OFF_SQES);
	return r->rings && r->sqes;
}

static void drop(struct ring *r)
{
	if (r->rings)
		munmap(r->rings, r->ring_bytes);
	if (r->sqes)
		munmap(r->sqes, r->sqe_bytes);
	if (r->fd && close(r->fd) == 0)
		fu_fd_closed(r->fd);
	memset(r, 0, sizeof(*r));
}

static uint64_t world_ptr(struct fuzz_ptr p)
{
	switch (p.kind % 8) {
	case 0:
		return 0;
	case 1:
		return p.at; /* a number, or a page that nobody has */
	case 2:
		return (uint64_t)(uintptr_t)arena + p.at % 0x1000 / 16 * 16; /* a path */
	case 3:
		return (uint64_t)(uintptr_t)arena + 0x1000 + p.at % 0x1f000 / 8 * 8;
	case 4:
		return (uint64_t)(uintptr_t)arena + p.at % ARENA_BYTES;
	case 5:
		return (uint64_t)(uintptr_t)arena + ARENA_BYTES - 64 +
		       p.at % 128; /* over the end */
	case 6:
		return ~(uint64_t)p.at;
	default:
		return (uint64_t)p.at << 32 | p.at >> 8;
	}
}

static int world_fd(uint8_t fd)
{
	if (fd >= 240)
		return fd -
		       250; /* AT_FDCWD is not among these: -10 to 5, but not the fuzzer's own */
	return FIRST_FD + fd % (FDS + 4);
}

static uint32_t *word(const struct ring *r, uint32_t offset)
{
	return (uint32_t *)(void *)(r->rings + offset);
}

static void add_sqe(const struct fuzz_sqe *in)
{
	uint32_t tail = __atomic_load_n(word(&ring, ring.p.sq_off.tail), __ATOMIC_RELAXED);
	uint32_t index = tail & (ring.p.sq_entries - 1);
	struct fu_sqe sqe = {
		.opcode = in->opcode % (IORING_OP_LAST + 2),
		.flags = in->flags,
		.ioprio = in->ioprio,
		.fd = world_fd(in->fd),
		.off = world_ptr(in->off),
		.addr = world_ptr(in->addr),
		.len = in->len,
		.op_flags = in->op_flags,
		.user_data = in->user_data,
		.buf_index = in->buf_index,
		.personality = in->personality,
		.splice_fd_in = (int32_t)in->file_index,
		.addr3 = world_ptr(in->addr3),
	};

	if (in->fd < 16 && in->opcode % 4 == 0)
		sqe.fd = AT_FDCWD;
	if (sqe.fd >= 0 && sqe.fd < FIRST_FD && sqe.opcode == IORING_OP_CLOSE)
		sqe.fd = -1;
	/* No series of buffers out of the guarded space. */
	if (sqe.opcode == IORING_OP_PROVIDE_BUFFERS)
		sqe.len &= 0xfffff;
	memcpy(ring.sqes + (size_t)index * (ring.sqe_bytes / ring.p.sq_entries), &sqe, sizeof(sqe));
	if (!(ring.p.flags & IORING_SETUP_NO_SQARRAY))
		word(&ring, ring.p.sq_off.array)[index] = index;
	__atomic_store_n(word(&ring, ring.p.sq_off.tail), tail + 1, __ATOMIC_RELEASE);
}

static void enter(const struct fuzz_enter *in)
{
	static const int64_t a_millisecond[2] = { 0, 1000000 };
	struct fu_getevents_arg arg = { .ts = (uint64_t)(uintptr_t)a_millisecond };
	uint32_t flags = in->flags &
	                 ~(IORING_ENTER_EXT_ARG | IORING_ENTER_EXT_ARG_REG | IORING_ENTER_SQ_WAIT);

	/* A wait has an end; without one, the argument may be anything. */
	if (in->min_complete % 8 && (flags & IORING_ENTER_GETEVENTS))
		fu_io_uring_enter((uint32_t)ring.fd, in->to_submit % 64, in->min_complete % 8,
		                  (flags & ~IORING_ENTER_ABS_TIMER) | IORING_ENTER_EXT_ARG, &arg,
		                  sizeof(arg));
	else
		fu_io_uring_enter((uint32_t)ring.fd, in->to_submit % 64, 0,
		                  flags | (in->flags & IORING_ENTER_EXT_ARG),
		                  fu_ptr(world_ptr(in->arg)), in->arg_bytes);
}

static void do_register(const struct fuzz_register *in)
{
	uint32_t opcode = in->opcode % 64 >= IORING_REGISTER_LAST + 2
	                          ? in->opcode % IORING_REGISTER_LAST
	                          : in->opcode % 64;
	int fd = in->opcode >= 192 ? -1 : in->opcode >= 160 ? other.fd : ring.fd;

	/* A descriptor-less call and one by index too. */
	if (in->opcode >= 128 && in->opcode < 144) {
		fd = in->opcode % 4;
		opcode |= IORING_REGISTER_USE_REGISTERED_RING;
	}
	/* This one waits for as long as it is told. */
	if (opcode == IORING_REGISTER_SYNC_CANCEL && in->arg.kind % 8 >= 3) {
		int64_t *times = fu_ptr(world_ptr(in->arg) + 16);

		if (in->arg.kind % 8 == 3)
			times[0] = 0, times[1] = 1000000;
		else
			return;
	}
	fu_io_uring_register((uint32_t)fd, opcode, fu_ptr(world_ptr(in->arg)), in->nr);
}

static void poke(const struct fuzz_poke *in)
{
	uint64_t value = in->what & 4 ? world_ptr(in->value) : in->value.at;
	size_t bytes = (size_t)1 << in->what % 4;

	memcpy(arena + in->at, &value, bytes);
}

static void ring_poke(const struct fuzz_ring_poke *in)
{
	const uint32_t at[] = { ring.p.sq_off.head,         ring.p.sq_off.tail,
		                ring.p.sq_off.ring_mask,    ring.p.sq_off.flags,
		                ring.p.sq_off.dropped,      ring.p.cq_off.head,
		                ring.p.cq_off.tail,         ring.p.cq_off.ring_mask,
		                ring.p.cq_off.overflow,     ring.p.cq_off.flags,
		                ring.p.sq_off.ring_entries, ring.p.cq_off.ring_entries };
	uint32_t which = in->what % 16;

	if (which < sizeof(at) / sizeof(at[0]))
		__atomic_store_n(word(&ring, at[which]), in->value, __ATOMIC_RELEASE);
	else if (!(ring.p.flags & IORING_SETUP_NO_SQARRAY))
		word(&ring, ring.p.sq_off.array)[in->what / 16 % ring.p.sq_entries] = in->value;
}

static void stir(void)
{
	uint32_t tail = __atomic_load_n(word(&ring, ring.p.cq_off.tail), __ATOMIC_ACQUIRE);
	uint64_t one = 1;

	if (write(FIRST_FD + FD_PIPE_OUT, "stirred", 7) < 0 ||
	    write(FIRST_FD + FD_EVENT, &one, 8) < 0)
		sched_yield();
	send(FIRST_FD + FD_SOCK_B, "stirred", 7, MSG_DONTWAIT | MSG_NOSIGNAL);
	__atomic_store_n(word(&ring, ring.p.cq_off.head), tail, __ATOMIC_RELEASE);
}

/* The next structure of the stream, or NULL at its end. */
static const void *take(const uint8_t **data, size_t *bytes, size_t n)
{
	const void *p = *data;

	if (*bytes < n)
		return NULL;
	*data += n;
	*bytes -= n;
	return p;
}

static bool command(uint8_t which, const uint8_t **data, size_t *bytes)
{
	static const size_t sizes[FUZZ_COMMANDS] = {
		[FUZZ_SQE] = sizeof(struct fuzz_sqe),
		[FUZZ_ENTER] = sizeof(struct fuzz_enter),
		[FUZZ_REGISTER] = sizeof(struct fuzz_register),
		[FUZZ_POKE] = sizeof(struct fuzz_poke),
		[FUZZ_RING_POKE] = sizeof(struct fuzz_ring_poke),
	};
	const void *p = take(data, bytes, sizes[which]);

	if (!p)
		return false;
	switch (which) {
	case FUZZ_SQE:
		add_sqe(p);
		break;
	case FUZZ_ENTER:
		enter(p);
		break;
	case FUZZ_REGISTER:
		do_register(p);
		break;
	case FUZZ_POKE:
		poke(p);
		break;
	case FUZZ_RING_POKE:
		ring_poke(p);
		break;
	default:
		stir();
	}
	return true;
}

static void run(const uint8_t *data, size_t bytes)
{
	const struct fuzz_header *h = take(&data, &bytes, sizeof(*h));
	static const struct fuzz_enter submit = { .to_submit = 63 };
	static const struct fuzz_header plain = { .sq_entries = 8 };
	const uint8_t *which;

	if (!h)
		return;
	memcpy(arena, pristine, ARENA_BYTES);
	open_all();
	/* This one nothing that came before may prevent. */
	if (!make(&other, &plain, FD_RING2))
		die("io_uring_setup");
	if (make(&ring, h, FD_RING)) {
		while ((which = take(&data, &bytes, 1)) &&
		       command(fuzz_weights[*which % 16], &data, &bytes))
			;
		enter(&submit);
	}
	drop(&ring);
	drop(&other);
	close_range(FIRST_FD, FIRST_FD + FDS + 4, 0);
	fu_fd_range_closed(FIRST_FD, FIRST_FD + FDS + 4);
}

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc;
	(void)argv;
	init();
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	run(data, bytes);
	return 0;
}
