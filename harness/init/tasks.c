// SPDX-License-Identifier: GPL-2.0-only
/* What the processes of a test that does not end are waiting for. */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "init.h"

#define STACK_LINES	8	/* the innermost functions */

/* "" if there is nothing to read; NULs, as between arguments, become blanks. */
static void read_text(const char *dir, const char *file, char *text, size_t size)
{
	char path[128];
	ssize_t len = 0;
	int fd;

	snprintf(path, sizeof(path), "%.64s/%s", dir, file);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd >= 0) {
		len = read(fd, text, size - 1);
		close(fd);
	}
	for (ssize_t i = 0; i < len; i++)
		if (!text[i])
			text[i] = ' ';
	text[len > 0 ? len : 0] = '\0';
}

static void report_thread(const char *name, const char *dir)
{
	char command[128], stat[512], wchan[64], syscall[64], stack[1024], line[512];
	char *rest = stack, *function;
	const char *state;

	read_text(dir, "cmdline", command, sizeof(command));
	if (!*command)
		read_text(dir, "comm", command, sizeof(command));
	command[strcspn(command, "\n")] = '\0';
	read_text(dir, "stat", stat, sizeof(stat));
	read_text(dir, "wchan", wchan, sizeof(wchan));
	read_text(dir, "syscall", syscall, sizeof(syscall));
	read_text(dir, "stack", stack, sizeof(stack));
	syscall[strcspn(syscall, "\n")] = '\0';
	state = strrchr(stat, ')');
	snprintf(line, sizeof(line), "# %s (%s): state %.1s, in %s, syscall %s",
		 dir, command, state ? state + 2 : "?", wchan, syscall);
	report_output(name, line);
	for (int i = 0; i < STACK_LINES && (function = strsep(&rest, "\n")); i++) {
		snprintf(line, sizeof(line), "#   %s", function);
		if (*function)
			report_output(name, line);
	}
}

typedef void report_fn(const char *name, const char *path);

static void each_number(const char *path, report_fn *each, const char *name)
{
	DIR *dir = opendir(path);
	struct dirent *entry;
	char below[64];

	while (dir && (entry = readdir(dir))) {
		if (strtoul(entry->d_name, NULL, 10) < 3)
			continue;	/* init, kthreadd and what is no process */
		snprintf(below, sizeof(below), "%.40s/%.16s", path, entry->d_name);
		each(name, below);
	}
	if (dir)
		closedir(dir);
}

/* Not the kernel's threads, which are children of kthreadd. */
static void report_process(const char *name, const char *path)
{
	char stat[512], tasks[64];
	const char *end;

	read_text(path, "stat", stat, sizeof(stat));
	end = strrchr(stat, ')');
	if (!end || strtoul(end + 4, NULL, 10) == 2)
		return;
	snprintf(tasks, sizeof(tasks), "%.40s/task", path);
	each_number(tasks, report_thread, name);
}

void report_tasks(const char *name)
{
	each_number("/proc", report_process, name);
}
