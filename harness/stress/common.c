// SPDX-License-Identifier: GPL-2.0-only
/* Random numbers, failing, cases in TAP. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "stress.h"

#ifndef GRND_INSECURE
#define GRND_INSECURE	4
#endif

__thread char doing[200];
char rerun[200];

/* Of the case that runs, for the process that reports; NULL without cases. */
static char *reason;
#define REASON_BYTES	1024

/* splitmix64: any state will do, and streams do not look alike */
void rng_start(struct rng *rng, uint64_t seed, uint64_t stream)
{
	rng->state = seed * 0x2545f4914f6cdd1dull + stream;
	rng_next(rng);
	rng->state ^= stream << 32;
}

uint64_t rng_next(struct rng *rng)
{
	uint64_t x = rng->state += 0x9e3779b97f4a7c15ull;

	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ull;
	x = (x ^ x >> 27) * 0x94d049bb133111ebull;
	return x ^ x >> 31;
}

uint64_t rng_below(struct rng *rng, uint64_t n)
{
	return rng_next(rng) % n;
}

bool one_in(struct rng *rng, unsigned int n)
{
	return !rng_below(rng, n);
}

uint64_t random_seed(void)
{
	uint32_t seed;

	/* a machine that has just booted would wait for better ones */
	CHECK(getrandom(&seed, sizeof(seed), GRND_INSECURE) == sizeof(seed),
	      "getrandom: %s", strerror(errno));
	return seed;
}

void fail_at(const char *file, int line, const char *fmt, ...)
{
	char text[REASON_BYTES - 450];
	const char *base = strrchr(file, '/');
	va_list args;

	va_start(args, fmt);
	vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	if (reason)
		snprintf(reason, REASON_BYTES, "%s:%d: %s: %s",
			 base ? base + 1 : file, line, doing, text);
	printf("# FAILED at %s:%d: %s: %s\n", base ? base + 1 : file, line,
	       doing, text);
	if (rerun[0])
		printf("# rerun: %s\n", rerun);
	fflush(stdout);
	_exit(EXIT_FAILED);
}

uint64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000ull + now.tv_nsec / 1000000;
}

void sleep_ms(unsigned int ms)
{
	usleep(ms * 1000);
}

/* It ends with its parent, and says what the parent would have said. */
pid_t start_process(void)
{
	pid_t parent = getpid(), pid;

	fflush(stdout);
	pid = fork();
	CHECK(pid >= 0, "fork: %s", strerror(errno));
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (getppid() != parent)
			_exit(EXIT_FAILED);
	}
	return pid;
}

void join_process(pid_t pid)
{
	int status;

	CHECK(waitpid(pid, &status, 0) == pid, "waitpid: %s", strerror(errno));
	if (WIFEXITED(status) && !WEXITSTATUS(status))
		return;
	if (reason && reason[0])
		_exit(EXIT_FAILED);
	FAIL("process %d ended with status %#x", pid, status);
}

/* It lives until it is killed: that it ended by itself is a failure. */
void end_process(pid_t pid)
{
	int status;

	kill(pid, SIGKILL);
	CHECK(waitpid(pid, &status, 0) == pid, "waitpid: %s", strerror(errno));
	if (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL)
		return;
	if (reason && reason[0])
		_exit(EXIT_FAILED);
	FAIL("process %d ended with status %#x", pid, status);
}

static bool report(const struct test_case *test, size_t number, int status)
{
	if (WIFEXITED(status) && !WEXITSTATUS(status)) {
		printf("ok %zu %s\n", number, test->name);
		return true;
	}
	if (!reason[0])
		snprintf(reason, REASON_BYTES, "wait status %#x%s", status,
			 WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM ?
			 ", the time limit" : "");
	printf("not ok %zu %s # %s\n", number, test->name, reason);
	return false;
}

static bool run_case(const struct test_case *test, size_t number,
		     unsigned int limit_s)
{
	pid_t pid;
	int status;

	reason[0] = '\0';
	pid = start_process();
	if (!pid) {
		DOING("%s", test->name);
		alarm(limit_s);
		test->run(test->arg);
		fflush(stdout);
		_exit(0);
	}
	if (waitpid(pid, &status, 0) != pid)
		status = -1;
	return report(test, number, status);
}

int run_cases(const struct test_case *cases, size_t nr, const char *pattern,
	      unsigned int limit_s)
{
	size_t number = 0, failed = 0, i;

	reason = mmap(NULL, REASON_BYTES, PROT_READ | PROT_WRITE,
		      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (reason == MAP_FAILED)
		return EXIT_FAILED;
	for (i = 0; i < nr; i++)
		number += !pattern || strstr(cases[i].name, pattern);
	printf("TAP version 13\n1..%zu\n", number);
	number = 0;
	for (i = 0; i < nr; i++)
		if (!pattern || strstr(cases[i].name, pattern))
			failed += !run_case(&cases[i], ++number, limit_s);
	return failed || !number;
}

int lowest_free_fd(void)
{
	int fd = dup(STDOUT_FILENO);

	CHECK(fd >= 0, "dup: %s", strerror(errno));
	close(fd);
	return fd;
}

unsigned int count_fds(void)
{
	DIR *dir = opendir("/proc/self/fd");
	unsigned int nr = 0;

	CHECK(dir, "/proc/self/fd: %s", strerror(errno));
	while (readdir(dir))
		nr++;
	closedir(dir);
	return nr;
}

/* -1 if there is no such file. */
long read_number(const char *path)
{
	char text[64] = "";
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return -1;
	if (read(fd, text, sizeof(text) - 1) < 0)
		text[0] = '\0';
	close(fd);
	return text[0] ? strtol(text, NULL, 0) : -1;
}

bool write_text(const char *path, const char *text)
{
	ssize_t size = strlen(text);
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	bool done = fd >= 0 && write(fd, text, size) == size;

	if (fd >= 0)
		close(fd);
	return done;
}
