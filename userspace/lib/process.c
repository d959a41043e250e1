// SPDX-License-Identifier: LGPL-2.1-or-later
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "internal.h"

#define START_TIME_FIELD 22

/* A whole decimal number, or -1. */
int parse_int(const char *text)
{
	long long number = 0;

	if (!*text)
		return -1;
	for (; *text; text++) {
		if (*text < '0' || *text > '9')
			return -1;
		number = 10 * number + *text - '0';
		if (number > INT_MAX)
			return -1;
	}
	return number;
}

/*
 * The number of which *@text begins with the digits, and what follows them. Not
 * by a function of the C library's: each version of glibc has another for it,
 * which the preloaded library would not find in a program of another one.
 */
uint64_t parse_digits(const char **text)
{
	uint64_t number = 0;

	for (; **text >= '0' && **text <= '9'; ++*text)
		number = 10 * number + **text - '0';
	return number;
}

/* The second field, the command, may hold spaces and parentheses. */
uint64_t start_ticks_from_stat(const char *stat)
{
	const char *p = strrchr(stat, ')');

	if (!p)
		return 0;
	for (int field = 2; field < START_TIME_FIELD; field++) {
		p = strchr(p + 1, ' ');
		if (!p)
			return 0;
	}
	p += strspn(p, " ");
	return parse_digits(&p);
}

/*
 * The text of a file of /proc, as much of it as fits, with a NUL behind it.
 * Returns its length or -errno.
 */
ssize_t read_proc(const char *path, char *text, size_t text_bytes)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	size_t length = 0;
	ssize_t part = fd < 0 ? -1 : 0;

	while (fd >= 0 && length < text_bytes - 1) {
		part = read(fd, text + length, text_bytes - 1 - length);
		if (part < 0 && errno == EINTR)
			continue;
		if (part <= 0)
			break;
		length += part;
	}
	text[length] = 0;
	if (part < 0 && !length)
		part = -errno;
	if (fd >= 0)
		close(fd);
	return length ? (ssize_t)length : part;
}

/*
 * @proc_name: "self", or a process number. Newer kernels (seen with 6.18.44) let
 * whoever reads this of a process wait for the end of its exec, which closes files
 * and so takes as long as a stranger likes: for the worker, and for the function
 * below.
 */
uint64_t process_start_ticks(const char *proc_name)
{
	char path[64], stat[1024];

	snprintf(path, sizeof(path), "/proc/%s/stat", proc_name);
	return read_proc(path, stat, sizeof(stat)) <= 0 ? 0 :
	       start_ticks_from_stat(stat);
}

/* 0 if it is not known. Unlike stat, status can be read during an exec. */
pid_t process_parent(pid_t pid)
{
	char path[64], status[1024];
	const char *p;

	snprintf(path, sizeof(path), "/proc/%d/status", pid);
	if (read_proc(path, status, sizeof(status)) <= 0)
		return 0;
	p = strstr(status, "\nPPid:\t");
	if (!p)
		return 0;
	p += strlen("\nPPid:\t");
	return parse_digits(&p);
}

uint64_t monotonic_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000000000ull + now.tv_nsec;
}
