/*
 * What keeps a program from being preloaded; see program.h. Everything here is
 * decided from the file: its ELF header, the interpreter it asks for, its mode and
 * its capabilities. A file that cannot be read is given the benefit of the doubt.
 */
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>
#include "launcher/program.h"

#define GLIBC_LOADER     "ld-linux-x86-64.so.2"
#define SCRIPT_DEPTH_MAX 4

/* 0, 126 or 127 for exactly this path. */
static int check_path(const char *path)
{
	struct stat st;

	if (stat(path, &st) != 0) {
		return errno == ENOENT || errno == ENOTDIR ? 127 : 126;
	}
	return S_ISREG(st.st_mode) && access(path, X_OK) == 0 ? 0 : 126;
}

int fu_program_find(const char *name, char *path, size_t size)
{
	const char *dirs = getenv("PATH");
	int worst = 127;

	if (strchr(name, '/')) {
		snprintf(path, size, "%s", name);
		return check_path(path);
	}
	if (!dirs) {
		dirs = "/bin:/usr/bin";
	}
	for (;;) {
		size_t len = strcspn(dirs, ":");
		int rc;

		/* An empty element means the current directory. */
		snprintf(path, size, "%.*s%s%s", (int)len, dirs, len ? "/" : "./", name);
		rc = *name ? check_path(path) : 127;
		if (rc == 0) {
			return 0;
		}
		worst = rc < worst ? rc : worst;
		if (!dirs[len]) {
			return worst;
		}
		dirs += len + 1;
	}
}

static const char *check_rights(const char *path)
{
	struct stat st;

	if (stat(path, &st) != 0) {
		return NULL;
	}
	if (((st.st_mode & S_ISUID) && st.st_uid != geteuid()) ||
	    ((st.st_mode & S_ISGID) && (st.st_mode & S_IXGRP) && st.st_gid != getegid())) {
		return "it is setuid or setgid, and the loader ignores LD_PRELOAD there";
	}
	if (geteuid() != 0 && getxattr(path, "security.capability", NULL, 0) > 0) {
		return "it has file capabilities, and the loader ignores LD_PRELOAD there";
	}
	return NULL;
}

static bool is_loader(const char *path)
{
	const char *name = strrchr(path, '/');

	return strcmp(name ? name + 1 : path, GLIBC_LOADER) == 0;
}

/* Does the dynamic section name a library? Without one nothing in the program is libc's. */
static bool needs_libraries(int fd, const Elf64_Phdr *dynamic)
{
	for (size_t at = 0; at + sizeof(Elf64_Dyn) <= dynamic->p_filesz; at += sizeof(Elf64_Dyn)) {
		Elf64_Dyn dyn;

		if (pread(fd, &dyn, sizeof(dyn), (off_t)(dynamic->p_offset + at)) !=
		            (ssize_t)sizeof(dyn) ||
		    dyn.d_tag == DT_NULL) {
			break;
		}
		if (dyn.d_tag == DT_NEEDED) {
			return true;
		}
	}
	return false;
}

static const char *check_elf_interpreter(int fd, const char *path, const Elf64_Ehdr *eh)
{
	char interp[PATH_MAX] = "";
	bool bare = true;
	const char *name;

	for (size_t i = 0; i < eh->e_phnum; i++) {
		Elf64_Phdr ph;
		off_t at = (off_t)(eh->e_phoff + i * sizeof(ph));

		if (pread(fd, &ph, sizeof(ph), at) != (ssize_t)sizeof(ph)) {
			return "its ELF header is damaged";
		}
		if (ph.p_type == PT_INTERP && ph.p_filesz < sizeof(interp) &&
		    pread(fd, interp, ph.p_filesz, (off_t)ph.p_offset) < 0) {
			return "its ELF header is damaged";
		}
		if (ph.p_type == PT_DYNAMIC) {
			bare = !needs_libraries(fd, &ph);
		}
	}
	if (!*interp) {
		/* glibc's loader as a command preloads for the program that it is given. */
		if (is_loader(path)) {
			return NULL;
		}
		return "it is statically linked, so nothing can be preloaded";
	}
	name = strrchr(interp, '/') ? strrchr(interp, '/') + 1 : interp;
	if (strncmp(name, "ld-musl", 7) == 0) {
		return "it runs on musl; the library needs glibc";
	}
	/* Distributions that keep glibc elsewhere still call the loader by its name. */
	if (!is_loader(name)) {
		return "it does not run on glibc's loader";
	}
	return bare ? "it does not use libc, and the library cannot do without" : NULL;
}

static const char *check_elf(int fd, const char *path, const unsigned char *head, size_t len)
{
	Elf64_Ehdr eh;

	if (head[EI_CLASS] != ELFCLASS64) {
		return "it is a 32-bit program; the library is for x86-64";
	}
	if (len < sizeof(eh)) {
		return "its ELF header is damaged";
	}
	memcpy(&eh, head, sizeof(eh));
	if (eh.e_machine != EM_X86_64) {
		return "it is for another architecture; the library is for x86-64";
	}
	return check_elf_interpreter(fd, path, &eh);
}

/* The interpreter of "#! /path arg", or NULL. Cuts it out of `line` in place. */
static char *script_interpreter(char *line)
{
	char *p = line + 2;

	p += strspn(p, " \t");
	p[strcspn(p, " \t\n")] = '\0';
	return *p ? p : NULL;
}

static const char *obstacle(const char *path, int depth)
{
	char head[PATH_MAX] = "";
	const char *why = check_rights(path);
	int fd;
	ssize_t len;

	if (why) {
		return why;
	}
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0) {
		return NULL;
	}
	len = read(fd, head, sizeof(head) - 1);
	if (len >= EI_NIDENT && memcmp(head, ELFMAG, SELFMAG) == 0) {
		why = check_elf(fd, path, (const unsigned char *)head, (size_t)len);
	} else if (len > 2 && head[0] == '#' && head[1] == '!' && depth < SCRIPT_DEPTH_MAX) {
		const char *interpreter = script_interpreter(head);

		if (!interpreter || check_path(interpreter) != 0) {
			why = "its #! line names an interpreter that cannot be run";
		} else if (obstacle(interpreter, depth + 1)) {
			why = "its #! line names an interpreter that cannot be preloaded";
		}
	}
	close(fd);
	return why;
}

const char *fu_program_obstacle(const char *path)
{
	return obstacle(path, 0);
}
