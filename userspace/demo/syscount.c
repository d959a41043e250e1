// SPDX-License-Identifier: GPL-2.0-only
/*
 * syscount - count the system calls of a running process over some seconds,
 * by call and by the descriptor that is its first argument.
 *
 * With a call and a number, counting ends with that many calls of that name:
 * how long it takes depends on the process, not on the machine. It is a
 * failure if the seconds are over before.
 *
 * Prints one line each: count, name, and what the descriptor is (or "-"),
 * separated by tabs. Calls that do not take a descriptor first have "-".
 */
#include <errno.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define MAX_ROWS	4096
#define LINK_BYTES	128
#define POLL_NS		1000000

struct call_name {
	long number;
	const char *name;
	int takes_fd;
};

/* What a reader of descriptors might do; others are shown by number. */
static const struct call_name call_names[] = {
	{ SYS_pread64, "pread64", 1 },
	{ SYS_read, "read", 1 },
	{ SYS_readv, "readv", 1 },
	{ SYS_preadv, "preadv", 1 },
	{ SYS_write, "write", 1 },
	{ SYS_ioctl, "ioctl", 1 },
	{ SYS_lseek, "lseek", 1 },
	{ SYS_fcntl, "fcntl", 1 },
	{ SYS_fstat, "fstat", 1 },
	{ SYS_close, "close", 1 },
	{ SYS_recvmsg, "recvmsg", 1 },
	{ SYS_sendmsg, "sendmsg", 1 },
	{ SYS_accept4, "accept4", 1 },
	{ SYS_ppoll, "ppoll", 0 },
	{ SYS_clock_gettime, "clock_gettime", 0 },
	{ SYS_clock_nanosleep, "clock_nanosleep", 0 },
	{ SYS_restart_syscall, "restart_syscall", 0 },
	{ SYS_brk, "brk", 0 },
	{ SYS_mmap, "mmap", 0 },
	{ SYS_munmap, "munmap", 0 },
#ifndef __LP64__ /* the same calls, by the numbers that 32-bit programs use */
	{ SYS_fcntl64, "fcntl", 1 },
	{ SYS_fstat64, "fstat", 1 },
	{ SYS__llseek, "lseek", 1 },
	{ SYS_mmap2, "mmap", 0 },
	{ SYS_ppoll_time64, "ppoll", 0 },
	{ SYS_clock_gettime64, "clock_gettime", 0 },
	{ SYS_clock_nanosleep_time64, "clock_nanosleep", 0 },
#endif
};

#define NAME_COUNT (sizeof(call_names) / sizeof(*call_names))

struct row {
	unsigned long count;
	uint64_t number;
	char link[LINK_BYTES];
};

static struct row rows[MAX_ROWS];
static size_t row_count;
static pid_t target;

/* What ends the counting before the time does; no name: nothing. */
static const char *last_name;
static unsigned long last_count;

static const struct call_name *find_name(uint64_t number)
{
	for (size_t i = 0; i < NAME_COUNT; i++)
		if (call_names[i].number == (long)number)
			return &call_names[i];
	return NULL;
}

/* A call that we do not know may take a descriptor: nothing is hidden. */
static void read_link(uint64_t number, int fd, char link[LINK_BYTES])
{
	const struct call_name *name = find_name(number);
	char path[64];
	ssize_t length = -1;

	if (name && name->takes_fd) {
		snprintf(path, sizeof(path), "/proc/%d/fd/%d", target, fd);
		length = readlink(path, link, LINK_BYTES - 1);
	}
	if (length < 0)
		length = snprintf(link, LINK_BYTES, "-");
	link[length] = 0;
}

static void count(uint64_t number, int fd)
{
	char link[LINK_BYTES];
	size_t i;

	read_link(number, fd, link);
	for (i = 0; i < row_count; i++)
		if (rows[i].number == number && !strcmp(rows[i].link, link))
			break;
	if (i == MAX_ROWS) {
		fputs("syscount: too many different calls\n", stderr);
		exit(1);
	}
	if (i == row_count) {
		rows[i].number = number;
		strcpy(rows[i].link, link);
		row_count++;
	}
	rows[i].count++;
}

static void print_rows(void)
{
	for (size_t i = 0; i < row_count; i++) {
		const struct call_name *name = find_name(rows[i].number);

		printf("%lu\t", rows[i].count);
		if (name)
			printf("%s", name->name);
		else
			printf("call-%lu", (unsigned long)rows[i].number);
		printf("\t%s\n", rows[i].link);
	}
}

static void count_stop(void)
{
	struct __ptrace_syscall_info info;

	if (ptrace(PTRACE_GET_SYSCALL_INFO, target, sizeof(info), &info) > 0 &&
	    info.op == PTRACE_SYSCALL_INFO_ENTRY)
		count(info.entry.nr, info.entry.args[0]);
}

/* The signal to pass on: none for a stop of ours. */
static int handle_stop(int status)
{
	int signal = WSTOPSIG(status);

	if (status >> 16 == PTRACE_EVENT_STOP)
		return 0;
	if (signal == (SIGTRAP | 0x80)) {
		count_stop();
		return 0;
	}
	return signal;
}

/* Has the call that ends the counting been seen often enough? */
static int seen_all(void)
{
	unsigned long seen = 0;

	if (!last_name)
		return 0;
	for (size_t i = 0; i < row_count; i++) {
		const struct call_name *name = find_name(rows[i].number);

		if (name && !strcmp(name->name, last_name))
			seen += rows[i].count;
	}
	return seen >= last_count;
}

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000000000ull + now.tv_nsec;
}

/* Returns 0 if the target ended before the time was over. */
static int trace(double seconds)
{
	uint64_t end_ns = now_ns() + seconds * 1e9;
	struct timespec pause = { .tv_nsec = POLL_NS };
	int status;

	while (now_ns() < end_ns && !seen_all()) {
		pid_t pid = waitpid(target, &status, WNOHANG | __WALL);

		if (pid < 0 || (pid == target && !WIFSTOPPED(status)))
			return 0;
		if (!pid)
			nanosleep(&pause, NULL);
		else
			ptrace(PTRACE_SYSCALL, target, 0, handle_stop(status));
	}
	return 1;
}

static void start_tracing(void)
{
	if (ptrace(PTRACE_SEIZE, target, 0, PTRACE_O_TRACESYSGOOD) < 0 ||
	    ptrace(PTRACE_INTERRUPT, target, 0, 0) < 0) {
		fprintf(stderr, "syscount: process %d: %s\n", target,
			strerror(errno));
		exit(1);
	}
}

/* The process must be stopped to be let go; its end lets it go as well. */
static void stop_tracing(void)
{
	int status;

	ptrace(PTRACE_INTERRUPT, target, 0, 0);
	if (waitpid(target, &status, __WALL) == target && WIFSTOPPED(status)) {
		int signal = handle_stop(status);

		ptrace(PTRACE_DETACH, target, 0, signal);
	}
}

static double parse(int argc, char **argv)
{
	if (argc != 3 && argc != 5)
		return 0;
	target = atoi(argv[1]);
	if (argc == 5) {
		last_name = argv[3];
		last_count = strtoul(argv[4], NULL, 10);
	}
	return target > 0 && (argc == 3 || last_count) ? atof(argv[2]) : 0;
}

int main(int argc, char **argv)
{
	double seconds = parse(argc, argv);

	if (seconds <= 0) {
		fputs("usage: syscount PID SECONDS [CALL COUNT]\n", stderr);
		return 2;
	}
	start_tracing();
	if (!trace(seconds)) {
		fputs("syscount: the process ended\n", stderr);
		return 1;
	}
	stop_tracing();
	print_rows();
	if (!last_name || seen_all())
		return 0;
	fprintf(stderr, "syscount: fewer than %lu calls of %s in %s s\n",
		last_count, last_name, argv[2]);
	return 1;
}
