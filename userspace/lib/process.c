// SPDX-License-Identifier: LGPL-2.1-or-later
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "internal.h"

#define START_TIME_FIELD 22

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
	return strtoull(p, NULL, 10);
}

/* @proc_name: "self", or a process number */
uint64_t process_start_ticks(const char *proc_name)
{
	char path[64], stat[1024];
	ssize_t length;
	int fd;

	snprintf(path, sizeof(path), "/proc/%s/stat", proc_name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return 0;
	length = read(fd, stat, sizeof(stat) - 1);
	close(fd);
	if (length <= 0)
		return 0;
	stat[length] = 0;
	return start_ticks_from_stat(stat);
}
