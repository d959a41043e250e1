// SPDX-License-Identifier: GPL-2.0-only
/*
 * After a restart: systemd hands back the descriptors, the table says whose
 * they are. The connections are lost; VMMs that notice come again and take
 * their VM's place.
 */
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "receive.h"

struct restore {
	struct receiver *receiver;
	struct inherited *inherited;
};

/* The next descriptor of that name, or -1. The caller owns it then. */
static int take_fd(struct inherited *inherited, const char *name)
{
	for (int i = 0; i < inherited->count; i++) {
		int fd = inherited->fds[i];

		if (fd < 0 || strcmp(inherited->names[i], name))
			continue;
		inherited->fds[i] = -1;
		return fd;
	}
	return -1;
}

static bool is_alive(int pidfd)
{
	struct pollfd poll_fd = { .fd = pidfd, .events = POLLIN };

	return pidfd >= 0 && poll(&poll_fd, 1, 0) == 0;
}

static void add_fds(struct restore *restore, struct vm *vm)
{
	struct receiver *receiver = restore->receiver;
	char name[32];
	int fd;

	snprintf(name, sizeof(name), "vm-%ju", (uintmax_t)vm->serial);
	while ((fd = take_fd(restore->inherited, name)) >= 0) {
		struct kvmstats_source *source;

		if (kvmstats_source_open(fd, receiver->cache, &source))
			close(fd);
		else
			registry_add_sources(receiver->registry, vm, &source, 1,
					     receiver->settings);
	}
}

/* Owns @pidfd. */
static void add_vm(struct restore *restore, struct stored *stored, int pidfd)
{
	struct receiver *receiver = restore->receiver;
	struct registry *registry = receiver->registry;
	struct identity identity = stored->identity;
	struct conn *conn = conn_new(receiver, NULL);

	identity.name = strdup(identity.name);
	identity.uuid = strdup(identity.uuid);
	if (conn) {
		conn->introduced = true;
		conn->uid = identity.uid;
		conn->pid = identity.pid;
		conn->start_ticks = identity.start_ticks;
		conn->on_behalf = identity.on_behalf;
		conn_watch_pidfd(receiver, conn, pidfd);
	}
	if (!conn || !identity.name || !identity.uuid) {
		identity_free(&identity);
		return;
	}
	/* the number under which systemd has the descriptors */
	registry->next_serial = stored->serial;
	if (registry_add(registry, &identity, stored->key, &conn->vm))
		conn_end(receiver, conn);
	else
		add_fds(restore, conn->vm);
}

/*
 * Without a pidfd nobody would tell us of the end. What is not taken here is
 * closed by inherited_free.
 */
static void restore_vm(void *context, struct stored *stored)
{
	struct restore *restore = context;
	uint64_t next = restore->receiver->registry->next_serial;
	char name[32];
	int pidfd;

	snprintf(name, sizeof(name), "pid-%ju", (uintmax_t)stored->serial);
	pidfd = take_fd(restore->inherited, name);
	if (is_alive(pidfd)) {
		add_vm(restore, stored, pidfd);
	} else {
		if (pidfd >= 0)
			close(pidfd);
		store_forget(stored->serial);
	}
	if (next <= stored->serial)
		next = stored->serial + 1;
	restore->receiver->registry->next_serial = next;
}

void receiver_restore(struct receiver *receiver, struct inherited *inherited)
{
	struct restore restore = { receiver, inherited };

	store_read(restore_vm, &restore);
	conn_free_ended(receiver);
}
