// SPDX-License-Identifier: GPL-2.0-only
/*
 * The table of VMs, in a memfd that systemd holds for us together with the
 * descriptors. Their names there have room for a number only, so who the VMs
 * are stands in the table:
 *
 *	+SERIAL PID START UID GID ON-BEHALF HAS-PIDFD<tab>KEY<tab>NAME<tab>UUID
 *	-SERIAL
 *
 * Lines are only added, so that a table is never seen half written; a line
 * without its end is ignored. Texts have no control characters.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "store.h"
#include "supervisor.h"

static struct {
	pthread_mutex_t lock;
	int fd;			/* -1: nobody to keep it */
} table = { .lock = PTHREAD_MUTEX_INITIALIZER, .fd = -1 };

static void append(const char *line, size_t length)
{
	pthread_mutex_lock(&table.lock);
	if (table.fd >= 0 && write(table.fd, line, length) != (ssize_t)length)
		complain("descriptor store: %s", strerror(errno));
	pthread_mutex_unlock(&table.lock);
}

/* @table_fd: the one of our predecessor, or -1. */
int store_open(int table_fd)
{
	if (!supervised()) {
		if (table_fd >= 0)
			close(table_fd);
		return 0;
	}
	table.fd = table_fd >= 0 ? table_fd :
		   memfd_create("kvmstatd-table", MFD_CLOEXEC);
	if (table.fd < 0)
		return -errno;
	lseek(table.fd, 0, SEEK_END);
	if (table_fd < 0)
		supervisor_keep("table", &table.fd, 1);
	return 0;
}

void store_close(void)
{
	if (table.fd >= 0)
		close(table.fd);
	table.fd = -1;
}

void store_enter(const struct vm *vm, int pidfd)
{
	const struct identity *identity = &vm->identity;
	char *line, name[32];
	int length;

	if (table.fd < 0)
		return;
	length = asprintf(&line, "+%ju %d %ju %u %u %d %d\t%s\t%s\t%s\n",
			  (uintmax_t)vm->serial, identity->pid,
			  (uintmax_t)identity->start_ticks, identity->uid,
			  identity->gid, identity->on_behalf, pidfd >= 0,
			  vm->key, identity->name, identity->uuid);
	if (length < 0)
		return;
	append(line, length);
	free(line);
	snprintf(name, sizeof(name), "pid-%ju", (uintmax_t)vm->serial);
	if (pidfd >= 0)
		supervisor_keep(name, &pidfd, 1);
}

void store_add(const struct vm *vm, struct kvmstats_source *const *sources,
	       size_t count)
{
	int fds[KVMSTATS_MESSAGE_FDS];
	char name[32];

	if (table.fd < 0 || !count)
		return;
	for (size_t i = 0; i < count; i++)
		fds[i] = kvmstats_source_fd(sources[i]);
	snprintf(name, sizeof(name), "vm-%ju", (uintmax_t)vm->serial);
	supervisor_keep(name, fds, count);
}

void store_forget(uint64_t serial)
{
	char line[32];
	int length;

	if (table.fd < 0)
		return;
	length = snprintf(line, sizeof(line), "-%ju\n", (uintmax_t)serial);
	append(line, length);
	snprintf(line, sizeof(line), "pid-%ju", (uintmax_t)serial);
	supervisor_drop(line);
	snprintf(line, sizeof(line), "vm-%ju", (uintmax_t)serial);
	supervisor_drop(line);
	supervisor_wait();
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

/* Is there "-SERIAL" in what follows? */
static bool forgotten(const char *rest, uint64_t serial)
{
	char line[32];
	int length = snprintf(line, sizeof(line), "\n-%ju\n",
			      (uintmax_t)serial);

	return memmem(rest, strlen(rest), line, length);
}

static void read_lines(char *text, void (*found)(void *context,
						 struct stored *stored),
		       void *context)
{
	char *end;

	for (; (end = strchr(text, '\n')); text = end + 1) {
		struct stored stored;
		char *line;

		if (*text != '+')
			continue;
		line = strndup(text, end - text);
		if (line && parse_line(line, &stored) &&
		    !forgotten(end, stored.serial))
			found(context, &stored);
		free(line);
	}
}

int store_read(int fd, void (*found)(void *context, struct stored *stored),
	       void *context)
{
	off_t size_bytes = lseek(fd, 0, SEEK_END);
	char *text;

	if (size_bytes < 0)
		return -errno;
	text = malloc(size_bytes + 1);
	if (!text)
		return -ENOMEM;
	if (pread(fd, text, size_bytes, 0) != size_bytes) {
		free(text);
		return -EIO;
	}
	text[size_bytes] = 0;
	read_lines(text, found, context);
	free(text);
	return 0;
}
