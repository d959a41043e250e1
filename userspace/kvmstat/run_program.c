// SPDX-License-Identifier: GPL-2.0-only
/*
 * Will the library be loaded into this program? What would not be is said
 * before it starts: the loader passes over LD_PRELOAD without a word.
 */
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "run.h"

#define LIBRARY		"libkvmstats-preload.so"
#define HEAD_BYTES	4096

struct program {
	unsigned char class;
	uint16_t machine;
	bool script, dynamic;
};

/* What the head of a file holds at @offset; what is outside counts as 0. */
static uint64_t number_at(const unsigned char *head, size_t offset, size_t size)
{
	uint16_t u16;
	uint32_t u32;
	uint64_t u64;

	if (offset > HEAD_BYTES - size)
		return 0;
	switch (size) {
	case 2:
		memcpy(&u16, head + offset, size);
		return u16;
	case 4:
		memcpy(&u32, head + offset, size);
		return u32;
	default:
		memcpy(&u64, head + offset, size);
		return u64;
	}
}

/* A program that names an interpreter is loaded by it, with what it preloads. */
static bool has_interpreter(const unsigned char *head, bool wide)
{
	size_t at = wide ? number_at(head, offsetof(Elf64_Ehdr, e_phoff), 8) :
			   number_at(head, offsetof(Elf32_Ehdr, e_phoff), 4);
	size_t count = number_at(head, wide ? offsetof(Elf64_Ehdr, e_phnum) :
				 offsetof(Elf32_Ehdr, e_phnum), 2);
	size_t size = wide ? sizeof(Elf64_Phdr) : sizeof(Elf32_Phdr);

	for (size_t i = 0; i < count && at + i * size < HEAD_BYTES; i++)
		if (number_at(head, at + i * size, 4) == PT_INTERP)
			return true;
	return false;
}

/*
 * @head: a file's first bytes, and zeros if it has less. 0, or -ENOEXEC for what
 * is neither ELF nor a script.
 */
static int parse_program(const unsigned char head[HEAD_BYTES],
			 struct program *program)
{
	program->script = !memcmp(head, "#!", 2);
	if (program->script)
		return 0;
	if (memcmp(head, ELFMAG, SELFMAG))
		return -ENOEXEC;
	program->class = head[EI_CLASS];
	program->machine = number_at(head, offsetof(Elf64_Ehdr, e_machine), 2);
	program->dynamic = has_interpreter(head, program->class == ELFCLASS64);
	return 0;
}

/* 0 or -errno; -ENOEXEC for what is neither ELF nor a script. */
static int read_program(const char *path, struct program *program)
{
	unsigned char head[HEAD_BYTES] = { 0 };
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	ssize_t length;

	if (fd < 0)
		return -errno;
	length = read(fd, head, sizeof(head));
	close(fd);
	return length < 0 ? -errno : parse_program(head, program);
}

/* The kernel marks such a start, and the loader then ignores LD_PRELOAD. */
static bool gains_rights(const char *path)
{
	struct statvfs fs;
	struct stat st;

	if (stat(path, &st) < 0 || statvfs(path, &fs) < 0 ||
	    fs.f_flag & ST_NOSUID)
		return false;
	if (st.st_mode & S_ISUID && st.st_uid != geteuid())
		return true;
	if (st.st_mode & S_ISGID && st.st_mode & 0010 &&
	    st.st_gid != getegid())
		return true;
	return geteuid() &&
	       getxattr(path, "security.capability", NULL, 0) > 0;
}

static int read_preload(const char *path, struct program *program)
{
	int ret = read_program(path, program);

	if (ret)
		return fail(RUN_FAILED, "%s: %s", path, strerror(-ret));
	if (path[strcspn(path, " :")])
		return fail(RUN_FAILED,
			    "%s: a file with a blank or a colon in its name cannot be preloaded",
			    path);
	return STATUS_OK;
}

int run_check_program(const char *path, const char *preload)
{
	struct program program = { 0 }, library = { 0 };
	int status = read_preload(preload, &library);
	int ret = read_program(path, &program);

	if (status)
		return status;
	if (gains_rights(path))
		return fail(RUN_FAILED,
			    "%s gains rights when it starts (setuid, setgid or capabilities), so nothing can be loaded into it",
			    path);
	/* unreadable or unknown: the kernel has the last word */
	if (ret || program.script)
		return STATUS_OK;
	if (!program.dynamic)
		return fail(RUN_FAILED,
			    "%s is a static program: nothing can be loaded into it",
			    path);
	if (program.class != library.class || program.machine != library.machine)
		return fail(RUN_FAILED,
			    "%s is for another architecture than %s; name a library for it with --preload",
			    path, preload);
	return STATUS_OK;
}

static bool is_program(const char *path)
{
	struct stat st;

	return !stat(path, &st) && S_ISREG(st.st_mode) && !access(path, X_OK);
}

/* As execvp does; an empty part of PATH is the current directory. */
int run_find_program(const char *name, char path[PATH_MAX])
{
	const char *list = getenv("PATH");

	if (!list || strchr(name, '/'))
		list = "";
	do {
		size_t length = strcspn(list, ":");

		if (snprintf(path, PATH_MAX, "%.*s%s%s", (int)length, list,
			     length ? "/" : "", name) < PATH_MAX &&
		    *name && is_program(path))
			return STATUS_OK;
		list += length;
	} while (*list++);
	if (strchr(name, '/') && !access(name, F_OK))
		return fail(RUN_CANNOT_EXEC, "%s is not an executable program",
			    name);
	return fail(RUN_NOT_FOUND, "%s: no such program", name);
}

/* Beside the command, in a build or an installation; or where it was to go. */
int run_find_preload(const char *option, char path[PATH_MAX])
{
	static const char *const places[] = {
		"/../preload/", "/../lib/", NULL,
	};
	char own[PATH_MAX];
	ssize_t length = readlink("/proc/self/exe", own, sizeof(own) - 1);

	if (option) {
		if (realpath(option, path))
			return STATUS_OK;
		return fail(RUN_FAILED, "--preload %s: %s", option,
			    strerror(errno));
	}
	own[length < 0 ? 0 : length] = 0;
	if (strrchr(own, '/'))
		*strrchr(own, '/') = 0;
	for (size_t i = 0; i < sizeof(places) / sizeof(*places); i++) {
		char candidate[2 * PATH_MAX];

		snprintf(candidate, sizeof(candidate), "%s%s" LIBRARY,
			 places[i] ? own : KVMSTATS_LIBDIR,
			 places[i] ? places[i] : "/");
		if (realpath(candidate, path))
			return STATUS_OK;
	}
	return fail(RUN_FAILED,
		    "%s is neither beside the command nor in %s; use --preload FILE",
		    LIBRARY, KVMSTATS_LIBDIR);
}
