/*
 * Every combination of up to three set-up flags, with and without memory for NO_MMAP:
 * prints what io_uring_setup returns and reports. Features are left out: an older kernel
 * has fewer.
 */
#include "tests/ring_util.h"

#include <sys/mman.h>

#define FLAGS           19
#define MEMORY          (1UL << 20)
#define NO_MMAP         (1U << 14)
#define REGISTERED_ONLY (1U << 15)
#define UNREG_RING_FDS  21U
#define USE_REGISTERED  (1U << 31)

static void try_flags(unsigned flags, char *memory)
{
	struct io_uring_params p = { .flags = flags, .cq_entries = 64, .sq_thread_idle = 1 };
	int fd;

	if (memory) {
		memset(memory, 0, MEMORY);
		p.cq_off.resv2 = (uintptr_t)memory;
		p.sq_off.resv2 = (uintptr_t)memory + MEMORY / 2;
	}
	fd = tr_sys_setup(4, &p);
	printf("%05x%c: %d, sq %u cq %u array %u cqes %u flags %u overflow %u\n", flags,
	       memory ? 'm' : ' ', fd < 0 ? fd : 0, p.sq_entries, p.cq_entries, p.sq_off.array,
	       p.cq_off.cqes, p.sq_off.flags, p.cq_off.overflow);
	if (fd >= 0 && flags & REGISTERED_ONLY) {
		struct io_uring_rsrc_update up = { .offset = (unsigned)fd };

		tr_sys_register(fd, UNREG_RING_FDS | USE_REGISTERED, &up, 1);
	} else if (fd >= 0) {
		tr_sys_close(fd);
	}
}

int main(void)
{
	struct io_uring_params p = { .flags = 0 };
	char *memory =
	        mmap(NULL, MEMORY, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	int fd = tr_sys_setup(1, &p);

	if (fd == -ENOSYS || fd == -EPERM)
		return 77;
	tr_sys_close(fd);
	printf("features %x\n", p.features);
	for (unsigned a = 0; a < FLAGS; a++) {
		for (unsigned b = a; b < FLAGS; b++) {
			for (unsigned c = b; c < FLAGS; c++) {
				unsigned flags = 1U << a | 1U << b | 1U << c;

				try_flags(flags, NULL);
				if (flags & NO_MMAP)
					try_flags(flags, memory);
			}
		}
	}
	return 0;
}
