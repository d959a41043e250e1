// SPDX-License-Identifier: GPL-2.0-only
/*
 * The names of a VM, from its command line: QEMU's "-name guest=NAME,..." or
 * "-name NAME,..." and "-uuid UUID". Other VMMs have "--name NAME", too.
 */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "../lib/internal.h"
#include "discover.h"

/* More than this is not looked at: a VMM names its VM early. */
#define CMDLINE_BYTES 65536

/* "--option" or "-option" */
static bool is_option(const char *argument, const char *option)
{
	if (*argument++ != '-')
		return false;
	return !strcmp(argument + (*argument == '-'), option);
}

/* In QEMU's lists a comma ends a value, two are one comma of the value. */
static bool copy_value(const char *from, char to[KVMSTATS_NAME_MAX + 1])
{
	size_t length = 0;

	for (; *from; from++) {
		if (*from == ',' && *++from != ',')
			break;
		if (length == KVMSTATS_NAME_MAX)
			return false;
		to[length++] = *from;
	}
	to[length] = 0;
	return length && wire_text_ok(to, length);
}

/* The value that begins behind the next single comma, or NULL. */
static const char *next_value(const char *list)
{
	for (; *list; list++) {
		if (*list != ',')
			continue;
		if (list[1] != ',')
			return list + 1;
		list++;
	}
	return NULL;
}

static bool name_from_list(const char *list, char name[KVMSTATS_NAME_MAX + 1])
{
	static const char key[] = "guest=";

	for (const char *p = list; p; p = next_value(p))
		if (!strncmp(p, key, strlen(key)))
			return copy_value(p + strlen(key), name);
	/* only the first value may come without its key */
	if (list[strcspn(list, "=,")] == '=')
		return false;
	return copy_value(list, name);
}

void names_from_cmdline(const char *cmdline, size_t length_bytes, pid_t pid,
			struct vm_names *names)
{
	const char *end = cmdline + length_bytes;
	const char *argument = cmdline;

	snprintf(names->name, sizeof(names->name), "pid-%d", pid);
	names->uuid[0] = 0;
	while (argument < end) {
		const char *value = argument + strlen(argument) + 1;
		struct vm_names said;

		if (value >= end)
			break;
		if (is_option(argument, "name") &&
		    name_from_list(value, said.name))
			strcpy(names->name, said.name);
		if (is_option(argument, "uuid") &&
		    copy_value(value, said.uuid))
			strcpy(names->uuid, said.uuid);
		argument = value;
	}
}

/* What ends early was too long, or changed meanwhile: the rest has a name. */
void names_of_process(pid_t pid, struct vm_names *names)
{
	static char cmdline[CMDLINE_BYTES + 1];
	size_t length = 0;
	ssize_t part;
	char path[64];
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/cmdline", pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd >= 0) {
		while (length < CMDLINE_BYTES &&
		       (part = read(fd, cmdline + length,
				    CMDLINE_BYTES - length)) > 0)
			length += part;
		close(fd);
	}
	cmdline[length] = 0;
	names_from_cmdline(cmdline, length, pid, names);
}
