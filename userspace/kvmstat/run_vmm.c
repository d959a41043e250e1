// SPDX-License-Identifier: GPL-2.0-only
/* The VMM: its program, and its process from start to end. */
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "run.h"

#define LIBRARY		"libkvmstats-preload.so"
#define HEAD_BYTES	4096

/*
 * Will the library be loaded into this program? What would not be is said
 * before it starts: the loader passes over LD_PRELOAD without a word.
 */
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

/* ---- the process: start, signals, end */

static const int forwarded[] = {
	SIGINT, SIGTERM, SIGQUIT, SIGHUP, SIGUSR1, SIGUSR2, SIGCONT,
};

#define FORWARDED (sizeof(forwarded) / sizeof(*forwarded))

/* Whoever started us may have meant some to be ignored, by the VMM as well. */
static struct sigaction inherited[FORWARDED];
static atomic_int vmm;	/* 0: none, or it has ended and was waited for */
static atomic_bool child_ended;	/* it, which alone is a child */

/*
 * What the terminal sends, it sends to the VMM as well, which is in the same
 * group. Without a VMM a signal ends us, unless it is the one that lets us go on.
 */
static void on_signal(int number, siginfo_t *info, void *context)
{
	int error = errno;

	(void)context;
	if ((!vmm || child_ended) && number != SIGCONT)
		interrupted = true;
	if (vmm && info->si_code <= 0)
		kill(vmm, number);
	errno = error;
}

/* A wait for one that reads our output is none for the VMM any more. */
static void on_child(int number)
{
	(void)number;
	child_ended = true;
}

/* They come in only while we wait, as those of the other commands. */
static void forward_signals(sigset_t *while_waiting)
{
	struct sigaction action = {
		.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO,
	};
	struct sigaction child = {
		.sa_handler = on_child, .sa_flags = SA_NOCLDSTOP,
	};
	sigset_t block;

	for (size_t i = 0; i < FORWARDED; i++)
		sigaction(forwarded[i], NULL, &inherited[i]);
	signals_catch(while_waiting, false);
	sigemptyset(&block);
	sigaddset(&block, SIGCHLD);
	for (size_t i = 0; i < FORWARDED; i++) {
		sigaddset(&block, forwarded[i]);
		sigdelset(while_waiting, forwarded[i]);
		sigaction(forwarded[i], inherited[i].sa_handler == SIG_IGN ?
			  &inherited[i] : &action, NULL);
	}
	sigdelset(while_waiting, SIGCHLD);
	sigaction(SIGCHLD, &child, NULL);
	sigprocmask(SIG_BLOCK, &block, NULL);
}

static int add_variable(const char *name, const char *value)
{
	return value ? setenv(name, value, 1) : unsetenv(name);
}

static int set_environment(const struct preload *preload)
{
	const char *others = getenv("LD_PRELOAD");
	char *list;
	int ret;

	if (asprintf(&list, "%s%s%s", preload->path,
		     others && *others ? ":" : "", others ? others : "") < 0)
		return -1;
	ret = setenv("LD_PRELOAD", list, 1);
	free(list);
	return ret || (preload->handoff_fd >= 0 &&
		       fcntl(preload->handoff_fd, F_SETFD, 0) < 0) ||
	       add_variable("KVMSTATS_SOCKET", preload->socket) ||
	       add_variable("KVMSTATS_HANDOFF", preload->handoff_fd < 0 ? NULL :
			    preload->handoff) ||
	       add_variable("KVMSTATS_NAME", preload->name) ||
	       add_variable("KVMSTATS_UUID", preload->uuid) ||
	       add_variable("KVMSTATS_DIRTY_QUOTA", preload->dirty_quota) ?
	       -1 : 0;
}

int run_become(const char *path, char **argv, const struct preload *preload)
{
	if (!set_environment(preload))
		execv(path, argv);
	return fail(errno == ENOENT ? RUN_NOT_FOUND : RUN_CANNOT_EXEC,
		    "%s: %s", path, strerror(errno));
}

/* In the child. The pipe closes by itself if all goes well. */
static void become(const char *path, char **argv, const struct preload *preload,
		   const sigset_t *mask, int pipe_fd)
{
	int error;

	for (size_t i = 0; i < FORWARDED; i++)
		sigaction(forwarded[i], &inherited[i], NULL);
	signal(SIGCHLD, SIG_DFL);
	signal(SIGPIPE, SIG_DFL);
	sigprocmask(SIG_SETMASK, mask, NULL);
	if (!set_environment(preload))
		execv(path, argv);
	error = errno;
	if (write(pipe_fd, &error, sizeof(error)) != sizeof(error))
		_exit(RUN_FAILED);
	_exit(RUN_CANNOT_EXEC);
}

/* 0, or what exec failed with. */
static int exec_error(int pipe_fd)
{
	int error = 0;

	while (read(pipe_fd, &error, sizeof(error)) < 0 && errno == EINTR)
		;
	close(pipe_fd);
	return error;
}

int run_start(const char *path, char **argv, const struct preload *preload,
	      sigset_t *while_waiting)
{
	int pipe_fds[2], error;
	sigset_t mask;

	sigprocmask(SIG_BLOCK, NULL, &mask);
	forward_signals(while_waiting);
	if (pipe2(pipe_fds, O_CLOEXEC) < 0)
		return fail(RUN_FAILED, "pipe: %s", strerror(errno));
	vmm = fork();
	if (!vmm)
		become(path, argv, preload, &mask, pipe_fds[1]);
	error = errno;
	close(pipe_fds[1]);
	if (vmm < 0) {
		vmm = 0;
		close(pipe_fds[0]);
		return fail(RUN_FAILED, "fork: %s", strerror(error));
	}
	error = exec_error(pipe_fds[0]);
	if (error)
		return fail(error == ENOENT ? RUN_NOT_FOUND : RUN_CANNOT_EXEC,
			    "%s: %s", path, strerror(error));
	return STATUS_OK;
}

int run_status(void)
{
	static int status = -1;
	int wait_status;

	if (!vmm || waitpid(vmm, &wait_status, WNOHANG) != vmm)
		return status;
	vmm = 0;
	status = WIFEXITED(wait_status) ? WEXITSTATUS(wait_status) :
		 RUN_SIGNAL + WTERMSIG(wait_status);
	return status;
}
