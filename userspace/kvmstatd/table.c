// SPDX-License-Identifier: GPL-2.0-only
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "table.h"

struct serials {
	uint64_t *serial;
	size_t count;
};

static int append(int fd, const char *line, int length)
{
	ssize_t written;

	if (length < 0)
		return -ENOMEM;
	written = write(fd, line, length);
	if (written < 0)
		return -errno;
	return written == length ? 0 : -ENOSPC;
}

int table_enter(int fd, const struct stored *stored)
{
	const struct identity *identity = &stored->identity;
	char *line = NULL;
	int length, ret;

	length = asprintf(&line, "+%ju %d %ju %u %u %d %d\t%s\t%s\t%s\n",
			  (uintmax_t)stored->serial, identity->pid,
			  (uintmax_t)identity->start_ticks, identity->uid,
			  identity->gid, identity->on_behalf,
			  stored->has_pidfd, stored->key, identity->name,
			  identity->uuid);
	ret = append(fd, line, length);
	if (length >= 0)
		free(line);
	return ret;
}

int table_forget(int fd, uint64_t serial)
{
	char line[32];

	return append(fd, line, snprintf(line, sizeof(line), "-%ju\n",
					 (uintmax_t)serial));
}

static bool parse_numbers(const char *text, struct stored *stored)
{
	struct identity *identity = &stored->identity;
	unsigned int on_behalf, has_pidfd;
	uintmax_t serial, start;

	if (sscanf(text, "+%ju %d %ju %u %u %u %u", &serial, &identity->pid,
		   &start, &identity->uid, &identity->gid, &on_behalf,
		   &has_pidfd) != 7)
		return false;
	stored->serial = serial;
	identity->start_ticks = start;
	identity->on_behalf = on_behalf;
	stored->has_pidfd = has_pidfd;
	return true;
}

/* The texts stay where they are, in @line. */
static bool parse_line(char *line, struct stored *stored)
{
	char *numbers = strsep(&line, "\t");

	stored->key = strsep(&line, "\t");
	stored->identity.name = strsep(&line, "\t");
	stored->identity.uuid = strsep(&line, "\t");
	return stored->identity.uuid && !line &&
	       parse_numbers(numbers, stored);
}

static int compare(const void *one, const void *other)
{
	uint64_t a = *(const uint64_t *)one, b = *(const uint64_t *)other;

	return (a > b) - (a < b);
}

/* All that have a line "-SERIAL", sorted. */
static int find_forgotten(const char *text, struct serials *forgotten)
{
	const char *end;
	size_t lines = 0;

	for (const char *p = text; (p = strchr(p, '\n')); p++)
		lines++;
	forgotten->count = 0;
	forgotten->serial = calloc(lines + 1, sizeof(*forgotten->serial));
	if (!forgotten->serial)
		return -ENOMEM;
	for (; (end = strchr(text, '\n')); text = end + 1)
		if (*text == '-')
			forgotten->serial[forgotten->count++] =
				strtoull(text + 1, NULL, 10);
	qsort(forgotten->serial, forgotten->count, sizeof(*forgotten->serial),
	      compare);
	return 0;
}

static int read_lines(char *text, void (*found)(void *context,
						struct stored *stored),
		      void *context)
{
	struct serials forgotten;
	char *end;

	if (find_forgotten(text, &forgotten))
		return -ENOMEM;
	for (; (end = strchr(text, '\n')); text = end + 1) {
		struct stored stored;

		*end = 0;
		if (*text == '+' && parse_line(text, &stored) &&
		    !bsearch(&stored.serial, forgotten.serial, forgotten.count,
			     sizeof(*forgotten.serial), compare))
			found(context, &stored);
	}
	free(forgotten.serial);
	return 0;
}

int table_read(int fd, void (*found)(void *context, struct stored *stored),
	       void *context)
{
	off_t size_bytes = lseek(fd, 0, SEEK_END);
	char *text;
	int ret;

	if (size_bytes < 0)
		return -errno;
	text = malloc(size_bytes + 1);
	if (!text)
		return -ENOMEM;
	if (pread(fd, text, size_bytes, 0) == size_bytes) {
		text[size_bytes] = 0;
		ret = read_lines(text, found, context);
	} else {
		ret = -EIO;
	}
	free(text);
	return ret;
}
