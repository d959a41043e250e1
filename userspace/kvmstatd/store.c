// SPDX-License-Identifier: GPL-2.0-only
/*
 * What survives our restart. systemd does not store a file that it has already,
 * under whatever name. So what is to be forgotten of a VM must be said before
 * the same files come again as another VM's: all this is called by the main
 * thread only, and systemd takes its messages in their order.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "store.h"
#include "supervisor.h"

#define MANY_LINES 1024

static struct {
	int fd;			/* -1: nobody to keep it */
	unsigned int number;	/* in its name */
	size_t entered, forgotten;
} table = { .fd = -1 };

static void check(int error)
{
	if (error)
		complain("descriptor store: %s", strerror(-error));
}

static void name_table(char name[32], unsigned int number)
{
	snprintf(name, 32, "table-%u", number);
}

static void name_vm(char name[32], const struct vm *vm)
{
	snprintf(name, 32, "vm-%ju", (uintmax_t)vm->serial);
}

static void copy_vm(void *context, struct stored *stored)
{
	table.entered++;
	check(table_enter(*(int *)context, stored));
}

/*
 * Start a table, with what the old one still has. Between the first message
 * and the second systemd has both: the one with the higher number is complete.
 */
static int renew_table(void)
{
	int fd = memfd_create("kvmstatd-table", MFD_CLOEXEC);
	char name[32];

	if (fd < 0)
		return -errno;
	table.entered = 0;
	table.forgotten = 0;
	if (table.fd >= 0)
		check(table_read(table.fd, copy_vm, &fd));
	name_table(name, table.number + 1);
	supervisor_keep(name, &fd, 1);
	if (table.fd >= 0) {
		name_table(name, table.number);
		supervisor_drop(name);
		close(table.fd);
	}
	table.number++;
	table.fd = fd;
	return 0;
}

int store_open(int table_fd, unsigned int number)
{
	if (!supervised()) {
		if (table_fd >= 0)
			close(table_fd);
		return 0;
	}
	table.fd = table_fd;
	table.number = number;
	return renew_table();
}

int store_read(void (*found)(void *context, struct stored *stored),
	       void *context)
{
	return table.fd < 0 ? 0 : table_read(table.fd, found, context);
}

void store_close(void)
{
	if (table.fd >= 0)
		close(table.fd);
	table.fd = -1;
}

void store_enter(const struct vm *vm, int pidfd)
{
	struct stored stored = { vm->identity, vm->serial, pidfd >= 0, vm->key };
	char name[32];

	if (table.fd < 0)
		return;
	table.entered++;
	check(table_enter(table.fd, &stored));
	snprintf(name, sizeof(name), "pid-%ju", (uintmax_t)vm->serial);
	if (pidfd >= 0)
		supervisor_keep(name, &pidfd, 1);
}

void store_add(const struct vm *vm, struct kvmstats_source *const *sources,
	       size_t count)
{
	int fds[KVMSTATS_MAX_MESSAGE_FDS];
	char name[32];

	if (table.fd < 0 || !count)
		return;
	for (size_t i = 0; i < count; i++)
		fds[i] = kvmstats_source_fd(sources[i]);
	name_vm(name, vm);
	supervisor_keep(name, fds, count);
}

/* Duplicates: a scrape may drop a source, and another thread close it. */
static size_t copy_fds(struct registry *registry, const struct vm *vm,
		       size_t first, int *fds)
{
	size_t count = 0;

	pthread_mutex_lock(&registry->lock);
	for (size_t i = first; i < vm->count && i - first < KVMSTATS_MAX_MESSAGE_FDS;
	     i++) {
		const struct kvmstats_source *source = vm->entries[i].source;
		int fd = source ? fcntl(kvmstats_source_fd(source),
					F_DUPFD_CLOEXEC, 0) : -1;

		if (fd >= 0)
			fds[count++] = fd;
	}
	pthread_mutex_unlock(&registry->lock);
	return count;
}

void store_again(struct registry *registry, const struct vm *vm)
{
	int fds[KVMSTATS_MAX_MESSAGE_FDS];
	char name[32];

	if (table.fd < 0)
		return;
	name_vm(name, vm);
	supervisor_drop(name);
	for (size_t i = 0; i < vm->count; i += KVMSTATS_MAX_MESSAGE_FDS) {
		size_t count = copy_fds(registry, vm, i, fds);

		if (count)
			supervisor_keep(name, fds, count);
		while (count)
			close(fds[--count]);
	}
}

void store_forget(uint64_t serial)
{
	char name[32];

	if (table.fd < 0)
		return;
	check(table_forget(table.fd, serial));
	snprintf(name, sizeof(name), "pid-%ju", (uintmax_t)serial);
	supervisor_drop(name);
	snprintf(name, sizeof(name), "vm-%ju", (uintmax_t)serial);
	supervisor_drop(name);
	if (++table.forgotten > MANY_LINES &&
	    table.forgotten > table.entered / 2)
		check(renew_table());
}

void store_wait(void)
{
	if (table.fd >= 0)
		supervisor_wait();
}
