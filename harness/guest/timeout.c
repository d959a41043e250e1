// SPDX-License-Identifier: GPL-2.0-only
/*
 * timeout [--foreground] SECONDS COMMAND...
 *
 * kselftest's runner wants GNU timeout's option and its exit status 124;
 * busybox has neither. The runner starts two, one in the other, with the same
 * limit: the outer one, with the option, waits a little longer, so that the
 * inner one can end the test and all that it started.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define EXIT_TIMEOUT	124
#define OUTER_EXTRA_S	5

static int exit_status(int status)
{
	return WIFSIGNALED(status) ? 128 + WTERMSIG(status) :
				     WEXITSTATUS(status);
}

/* SIGCHLD is blocked, so that the child's end cannot slip by before this */
static int wait_command(pid_t command, const sigset_t *child_ends, long seconds)
{
	struct timespec limit = { .tv_sec = seconds };
	int status, timed_out;

	timed_out = sigtimedwait(child_ends, NULL, &limit) < 0;
	if (timed_out)
		kill(-command, SIGKILL);
	if (waitpid(command, &status, 0) != command)
		return 125;
	return timed_out ? EXIT_TIMEOUT : exit_status(status);
}

int main(int argc, char **argv)
{
	int first = argc > 1 && !strcmp(argv[1], "--foreground") ? 2 : 1;
	sigset_t child_ends;
	pid_t command;
	long seconds;

	if (argc < first + 2) {
		fprintf(stderr, "usage: timeout [--foreground] SECONDS COMMAND...\n");
		return 125;
	}
	sigemptyset(&child_ends);
	sigaddset(&child_ends, SIGCHLD);
	sigprocmask(SIG_BLOCK, &child_ends, NULL);
	command = fork();
	if (command < 0) {
		perror("timeout: fork");
		return 125;
	}
	if (!command) {
		setpgid(0, 0);
		sigprocmask(SIG_UNBLOCK, &child_ends, NULL);
		execvp(argv[first + 1], argv + first + 1);
		perror(argv[first + 1]);
		_exit(127);
	}
	setpgid(command, command);
	seconds = atol(argv[first]) + (first == 2 ? OUTER_EXTRA_S : 0);
	return wait_command(command, &child_ends, seconds);
}
