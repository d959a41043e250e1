// SPDX-License-Identifier: GPL-2.0-only
/* The VMM's process: start, signals, end */
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "run.h"

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
