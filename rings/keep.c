/* Duplicates that must not be closed yet; see keep.h. */
#include "rings/keep.h"

#include <fcntl.h>
#include <sys/stat.h>

#include "rings/fds.h"
#include "rings/lock.h"
#include "rings/sys.h"

/* Beyond these the locks are lost. */
#define KEPT_MAX 64U

struct kept {
	int fd;
	int name;  /* the program's number, -1: not known, or closed */
	u32 users; /* requests; nobody: it is open for the sake of the locks alone */
};

u32 fu_kept;
static struct fu_lock keep_lock; /* guards the following; nothing else is taken under it */
static struct kept kept[KEPT_MAX];

/*
 * Whether the process may have record locks on the file. An inquiry on behalf of the open file is
 * told of one lock, of whoever has it: of another process's it is not known whether there is one of
 * ours behind it. Without such inquiries (before Linux 3.15) there is no telling at all.
 */
static bool is_locked(int fd)
{
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
	struct stat st;

	return fu_sys(SYS_fcntl, fd, F_OFD_GETLK, &lock) == 0 && lock.l_type != F_UNLCK &&
	       fu_sys(SYS_fstat, fd, &st) == 0 && S_ISREG(st.st_mode);
}

/* Whether both are one open file; without a call that tells, one opened alike will do. */
static bool is_same(int a, int b)
{
	struct stat sa, sb;
	int same = fu_fd_same(a, b);

	if (same >= 0)
		return same;
	return fu_sys(SYS_fstat, a, &sa) == 0 && fu_sys(SYS_fstat, b, &sb) == 0 &&
	       sa.st_ino == sb.st_ino && sa.st_dev == sb.st_dev &&
	       fu_sys(SYS_fcntl, a, F_GETFL) == fu_sys(SYS_fcntl, b, F_GETFL);
}

/* lock held */
static void let_go(struct kept *k)
{
	u32 last = fu_load_relaxed(&fu_kept) - 1;

	fu_fd_close(k->fd);
	*k = kept[last];
	fu_store_relaxed(&fu_kept, last);
}

int fu_fd_hold(int fd)
{
	int held = -1;

	if (fu_likely(!fu_load_relaxed(&fu_kept)))
		return fu_fd_dup_high(fd);
	fu_lock(&keep_lock);
	for (u32 i = 0; i < fu_load_relaxed(&fu_kept) && held < 0; i++) {
		if (!is_same(fd, kept[i].fd))
			continue;
		kept[i].users++;
		kept[i].name = fd;
		held = kept[i].fd;
	}
	fu_unlock(&keep_lock);
	return held >= 0 ? held : fu_fd_dup_high(fd);
}

/* Closes what nobody uses and no lock needs any more. lock held. */
static void sweep(void)
{
	for (u32 i = fu_load_relaxed(&fu_kept); i-- > 0;) {
		if (!kept[i].users && !is_locked(kept[i].fd))
			let_go(&kept[i]);
	}
}

static bool keep(int fd, int name)
{
	u32 n;
	bool done;

	fu_lock(&keep_lock);
	if (fu_load_relaxed(&fu_kept) == KEPT_MAX)
		sweep();
	n = fu_load_relaxed(&fu_kept);
	done = n < KEPT_MAX;
	if (done) {
		kept[n] = (struct kept){ .fd = fd, .name = name };
		fu_store_relaxed(&fu_kept, n + 1);
	}
	fu_unlock(&keep_lock);
	return done;
}

/* Lets go of one that is kept; false if it is not. */
static bool put(int fd)
{
	bool is_kept = false;

	fu_lock(&keep_lock);
	for (u32 i = 0; i < fu_load_relaxed(&fu_kept) && !is_kept; i++) {
		struct kept *k = &kept[i];

		is_kept = k->fd == fd;
		if (is_kept && --k->users == 0 && k->name < 0 && !is_locked(fd))
			let_go(k);
	}
	fu_unlock(&keep_lock);
	return is_kept;
}

void fu_fd_release(int fd, int name)
{
	if (fu_unlikely(fu_load_relaxed(&fu_kept)) && put(fd))
		return;
	if (fu_unlikely(is_locked(fd)) && keep(fd, name))
		return;
	fu_fd_close(fd);
}

void fu_fd_close_moment(int fd)
{
	if (fu_likely(!is_locked(fd))) {
		fu_sys(SYS_close, fd);
		return;
	}
	fu_fd_mark(fd);
	fu_fd_release(fd, -1);
}

/* What had been locked under such a number is so no more, by the program's own doing. */
void fu_kept_closed(u32 first, u32 last)
{
	fu_lock(&keep_lock);
	for (u32 i = fu_load_relaxed(&fu_kept); i-- > 0;) {
		struct kept *k = &kept[i];
		bool closed = k->name >= 0 && (u32)k->name >= first && (u32)k->name <= last;

		if (closed)
			k->name = -1;
		if (!k->users && (closed || (k->name < 0 && !is_locked(k->fd))))
			let_go(k);
	}
	fu_unlock(&keep_lock);
}

void fu_keep_reset(void)
{
	u32 n = fu_load_relaxed(&fu_kept);

	keep_lock.word = 0;
	for (u32 i = 0; i < n; i++) {
		if (fu_fd_is_engine(kept[i].fd))
			fu_fd_close_inherited(kept[i].fd);
	}
	fu_store_relaxed(&fu_kept, 0);
}
