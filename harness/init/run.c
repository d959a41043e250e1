// SPDX-License-Identifier: GPL-2.0-only
/* One test: a shell in a session of its own, its output, its time limit. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "init.h"

#define CHUNK_SIZE	4096
#define DRAIN_MS	1000
#define WORDS_MAX	15

struct output {
	const struct test *test;
	struct tap tap;
	int fd;
	char line[LINE_SIZE];
	size_t len;
};

static unsigned long now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000UL + ts.tv_nsec / 1000000;
}

/* Where there is no shell, a command is a program and its arguments. */
static void run_words(const char *command)
{
	char *words[WORDS_MAX + 1], *rest = strdup(command);
	size_t count = 0;

	while (rest && count < WORDS_MAX) {
		words[count] = strsep(&rest, " ");
		if (*words[count])
			count++;
	}
	if (rest || !count) {
		fprintf(stderr, "init: not 1 to %d words: %s\n", WORDS_MAX,
			command);
		return;
	}
	words[count] = NULL;
	execvp(words[0], words);
	perror(words[0]);
}

static void child(const struct test *test, int out)
{
	int null = open("/dev/null", O_RDONLY);

	setsid();
	dup2(null, STDIN_FILENO);
	dup2(out, STDOUT_FILENO);
	dup2(out, STDERR_FILENO);
	close(null);
	close(out);
	if (chdir("/tmp"))
		_exit(127);
	execl("/bin/sh", "sh", "-c", test->command, NULL);
	if (errno == ENOENT)
		run_words(test->command);
	else
		perror("init: /bin/sh");
	_exit(127);
}

static int start(const struct test *test, pid_t *pid)
{
	int ends[2];

	if (pipe2(ends, O_CLOEXEC))
		return -1;
	fflush(NULL);
	*pid = fork();
	if (!*pid)
		child(test, ends[1]);
	close(ends[1]);
	if (*pid > 0)
		return ends[0];
	close(ends[0]);
	return -1;
}

static void end_line(struct output *out)
{
	out->line[out->len] = '\0';
	out->len = 0;
	tap_line(&out->tap, out->line);
	report_output(out->test->name, out->line);
}

static void take_bytes(struct output *out, const char *data, size_t len)
{
	size_t i;

	for (i = 0; i < len; i++) {
		if (data[i] == '\n' || out->len == LINE_SIZE - 1)
			end_line(out);
		if (data[i] != '\n' && data[i] != '\r')
			out->line[out->len++] = data[i];
	}
}

/* Returns false at the end of the output or of the time. */
static bool take_some(struct output *out, unsigned long deadline_ms)
{
	struct pollfd poll_fd = { .fd = out->fd, .events = POLLIN };
	unsigned long now = now_ms();
	char data[CHUNK_SIZE];
	ssize_t len;

	if (now >= deadline_ms || poll(&poll_fd, 1, deadline_ms - now) <= 0)
		return false;
	len = read(out->fd, data, sizeof(data));
	if (len <= 0)
		return false;
	take_bytes(out, data, len);
	return true;
}

/*
 * The shell's end counts, not the end of the output: something that the test
 * left running in the background may hold the pipe open.
 */
static bool wait_exit(struct output *out, pid_t pid, unsigned long deadline_ms,
		      int *status)
{
	const unsigned long slice_ms = 50;
	pid_t done;

	while (now_ms() < deadline_ms) {
		unsigned long until = now_ms() + slice_ms;

		while (take_some(out, until))
			;
		done = waitpid(pid, status, WNOHANG);
		if (done == pid)
			return true;
		if (now_ms() < until)
			usleep(1000);
	}
	return false;
}

/* PID 1 may signal everything; whatever the test left behind goes. */
static void kill_strays(void)
{
	kill(-1, SIGKILL);
	while (waitpid(-1, NULL, 0) > 0 || errno == EINTR)
		;
}

static void judge_status(int status, struct result *result)
{
	result->outcome = OUTCOME_FAIL;
	if (WIFSIGNALED(status))
		snprintf(result->reason, sizeof(result->reason),
			 "killed by signal %d", WTERMSIG(status));
	else if (WEXITSTATUS(status) == EXIT_SKIP)
		result->outcome = OUTCOME_SKIP;
	else if (WEXITSTATUS(status))
		snprintf(result->reason, sizeof(result->reason),
			 "exit status %d", WEXITSTATUS(status));
	else
		result->outcome = OUTCOME_PASS;
}

void run_test(const struct test *test, struct result *result)
{
	static struct output out;
	unsigned long begin_ms = now_ms();
	pid_t pid = -1;
	int status;

	memset(&out, 0, sizeof(out));
	memset(result, 0, sizeof(*result));
	out.test = test;
	out.fd = start(test, &pid);
	if (out.fd < 0) {
		result->outcome = OUTCOME_FAIL;
		snprintf(result->reason, sizeof(result->reason),
			 "cannot start: %s", strerror(errno));
		return;
	}
	if (wait_exit(&out, pid, begin_ms + test->timeout_s * 1000UL, &status)) {
		judge_status(status, result);
	} else {
		result->outcome = OUTCOME_TIMEOUT;
		snprintf(result->reason, sizeof(result->reason),
			 "not finished after %u s", test->timeout_s);
		report_tasks(test->name);
	}
	kill_strays();
	while (take_some(&out, now_ms() + DRAIN_MS))
		;
	if (out.len)
		end_line(&out);
	close(out.fd);
	result->duration_ms = now_ms() - begin_ms;
	tap_judge(&out.tap, test, result);
}
