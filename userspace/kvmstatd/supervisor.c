// SPDX-License-Identifier: GPL-2.0-only
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "store.h"
#include "supervisor.h"

#ifdef HAVE_SYSTEMD
#include <systemd/sd-daemon.h>

#define BARRIER_US 5000000

bool supervised(void)
{
	return getenv("NOTIFY_SOCKET");
}

void supervisor_keep(const char *name, const int *fds, size_t count)
{
	char text[96];

	snprintf(text, sizeof(text), "FDSTORE=1\nFDNAME=%s", name);
	sd_pid_notify_with_fds(0, 0, text, fds, count);
}

void supervisor_drop(const char *name)
{
	sd_notifyf(0, "FDSTOREREMOVE=1\nFDNAME=%s", name);
}

void supervisor_wait(void)
{
	sd_notify_barrier(0, BARRIER_US);
}

static int listen_fds(char ***names)
{
	return sd_listen_fds_with_names(1, names);
}

static void notify(const char *text)
{
	sd_notify(0, text);
}

uint64_t watchdog_ns(void)
{
	uint64_t interval_us;

	return sd_watchdog_enabled(0, &interval_us) > 0 ? interval_us * 500 : 0;
}

#else /* no systemd */

#define SD_LISTEN_FDS_START 3

bool supervised(void)
{
	return false;
}

void supervisor_keep(const char *name, const int *fds, size_t count)
{
	(void)name;
	(void)fds;
	(void)count;
}

void supervisor_drop(const char *name)
{
	(void)name;
}

void supervisor_wait(void)
{
}

static int listen_fds(char ***names)
{
	*names = NULL;
	return 0;
}

static void notify(const char *text)
{
	(void)text;
}

uint64_t watchdog_ns(void)
{
	return 0;
}
#endif

void notify_ready(const struct registry *registry)
{
	notify("READY=1");
	notify_status(registry);
}

void notify_status(const struct registry *registry)
{
	char text[96];

	snprintf(text, sizeof(text), "STATUS=%zu VMs, %zu descriptors",
		 registry->count, registry->fds);
	notify(text);
}

void notify_reloading(void)
{
	notify("RELOADING=1");
}

void notify_stopping(void)
{
	notify("STOPPING=1");
}

void notify_alive(void)
{
	notify("WATCHDOG=1");
}

static int socket_option(int fd, int option)
{
	socklen_t size_bytes = sizeof(int);
	int value;

	if (getsockopt(fd, SOL_SOCKET, option, &value, &size_bytes) < 0)
		return -1;
	return value;
}

/* Listening sockets tell by their kind what they are for, not by a name. */
static int *socket_place(struct inherited *inherited, int fd)
{
	if (socket_option(fd, SO_ACCEPTCONN) != 1)
		return NULL;
	if (socket_option(fd, SO_TYPE) == SOCK_SEQPACKET)
		return &inherited->register_fd;
	if (socket_option(fd, SO_TYPE) == SOCK_STREAM)
		return &inherited->http_fd;
	return NULL;
}

/* The newest; an older one is closed with what else nobody takes. */
static void take_table(struct inherited *inherited, int index,
		       unsigned int number)
{
	for (int i = 0; i < index; i++)
		if (inherited->table_fd == SD_LISTEN_FDS_START + i)
			inherited->fds[i] = inherited->table_fd;
	inherited->table_fd = SD_LISTEN_FDS_START + index;
	inherited->table_number = number;
	inherited->fds[index] = -1;
}

static void sort_out(struct inherited *inherited, int index)
{
	int fd = SD_LISTEN_FDS_START + index;
	int *place = socket_place(inherited, fd);
	unsigned int number;

	inherited->fds[index] = fd;
	if (sscanf(inherited->names[index], "table-%u", &number) == 1 &&
	    number > inherited->table_number) {
		take_table(inherited, index, number);
		return;
	}
	if (!place || *place >= 0)
		return;
	*place = fd;
	inherited->fds[index] = -1;
	fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
}

int inherited_take(struct inherited *inherited)
{
	int count;

	memset(inherited, 0, sizeof(*inherited));
	inherited->register_fd = -1;
	inherited->http_fd = -1;
	inherited->table_fd = -1;
	count = listen_fds(&inherited->names);
	if (count <= 0)
		return count;
	inherited->fds = calloc(count, sizeof(*inherited->fds));
	if (!inherited->fds)
		return -ENOMEM;
	inherited->count = count;
	for (int i = 0; i < count; i++)
		sort_out(inherited, i);
	return 0;
}

void inherited_free(struct inherited *inherited)
{
	for (int i = 0; i < inherited->count; i++) {
		if (inherited->fds[i] >= 0) {
			supervisor_drop(inherited->names[i]);
			close(inherited->fds[i]);
		}
		free(inherited->names[i]);
	}
	free(inherited->names);
	free(inherited->fds);
}
