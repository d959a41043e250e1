// SPDX-License-Identifier: GPL-2.0-only
/* The list of tests: "name timeout_s tags command..." a line, # comments. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "init.h"

static char list[64 * 1024];
static char *list_rest;

int list_load(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t len;

	if (fd < 0) {
		fprintf(stderr, "init: %s: %s\n", path, strerror(errno));
		return -1;
	}
	len = read(fd, list, sizeof(list) - 1);
	close(fd);
	if (len <= 0 || len == sizeof(list) - 1) {
		fprintf(stderr, "init: %s: empty or too long\n", path);
		return -1;
	}
	list[len] = '\0';
	list_rest = list;
	return 0;
}

static char *field(char **rest)
{
	char *start = *rest + strspn(*rest, " \t");
	size_t len = strcspn(start, " \t");

	*rest = start + len;
	if (**rest)
		*(*rest)++ = '\0';
	return start;
}

bool list_next(struct test *test)
{
	char *line;

	while ((line = strsep(&list_rest, "\n"))) {
		line += strspn(line, " \t");
		if (!*line || *line == '#')
			continue;
		test->name = field(&line);
		test->timeout_s = strtoul(field(&line), NULL, 10);
		test->tags = field(&line);
		test->command = line + strspn(line, " \t");
		return true;
	}
	return false;
}

/* Tags are separated by commas; "-" stands for none. */
bool test_has_tag(const struct test *test, const char *tag)
{
	size_t len = strlen(tag);
	const char *at = test->tags;

	while ((at = strstr(at, tag))) {
		bool starts = at == test->tags || at[-1] == ',';

		if (starts && (!at[len] || at[len] == ','))
			return true;
		at += len;
	}
	return false;
}
