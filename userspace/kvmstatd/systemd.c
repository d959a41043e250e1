// SPDX-License-Identifier: GPL-2.0-only
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "../common/socket_send.h"
#include "systemd.h"

#ifdef HAVE_SYSTEMD
#include <systemd/sd-daemon.h>

#define BARRIER_US 5000000

bool supervised(void)
{
	return getenv("NOTIFY_SOCKET");
}

/* FDPOLL=0: a box is to stay, whatever state systemd sees it in. */
void supervisor_keep(const char *name, int fd)
{
	char text[96];

	snprintf(text, sizeof(text), "FDSTORE=1\nFDPOLL=0\nFDNAME=%s", name);
	sd_pid_notify_with_fds(0, 0, text, &fd, 1);
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

void notify(const char *text)
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

void supervisor_keep(const char *name, int fd)
{
	(void)name;
	(void)fd;
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

void notify(const char *text)
{
	(void)text;
}

uint64_t watchdog_ns(void)
{
	return 0;
}
#endif

static int socket_option(int fd, int option)
{
	socklen_t size_bytes = sizeof(int);
	int value;

	if (getsockopt(fd, SOL_SOCKET, option, &value, &size_bytes) < 0)
		return -1;
	return value;
}

/* Listening sockets tell by their kind what they are for, not by a name. */
static bool take_socket(struct inherited *inherited, int fd)
{
	int type = socket_option(fd, SO_TYPE);

	if (socket_option(fd, SO_ACCEPTCONN) != 1)
		return false;
	if (type == SOCK_SEQPACKET && inherited->register_fd < 0)
		inherited->register_fd = fd;
	else if (type == SOCK_STREAM && inherited->num_http < MAX_LISTEN)
		inherited->http_fds[inherited->num_http++] = fd;
	else
		return false;
	fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
	return true;
}

int inherited_take(struct inherited *inherited)
{
	int count;

	memset(inherited, 0, sizeof(*inherited));
	inherited->register_fd = -1;
	count = listen_fds(&inherited->names);
	if (count <= 0)
		return count;
	inherited->fds = calloc(count, sizeof(*inherited->fds));
	if (!inherited->fds)
		return -ENOMEM;
	inherited->count = count;
	for (int i = 0; i < count; i++) {
		int fd = SD_LISTEN_FDS_START + i;

		inherited->fds[i] = take_socket(inherited, fd) ? -1 : fd;
	}
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
	inherited->count = 0;
	inherited->names = NULL;
	inherited->fds = NULL;
}

/* -------------------------------------------------------- boxes of open files */

/* As much as one may without rights; the kernel doubles it. */
#define SEND_BUFFER_BYTES	212992

union control {
	char bytes[CMSG_SPACE(FD_BOX_MAX_FDS * sizeof(int))];
	struct cmsghdr align;
};

/*
 * The kernel chooses the name. Nobody else can send to it: a connected datagram
 * socket takes messages of its peer only, and that is the socket itself. For the
 * same reason its queue is bounded by the send buffer alone, not by
 * net.unix.max_dgram_qlen.
 */
int fd_box_new(void)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	struct sockaddr *any = (struct sockaddr *)&address;
	socklen_t size_bytes = sizeof(address);
	int buffer_bytes = SEND_BUFFER_BYTES, error;
	int box = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (box < 0)
		return -errno;
	setsockopt(box, SOL_SOCKET, SO_SNDBUF, &buffer_bytes,
		   sizeof(buffer_bytes));
	if (!bind(box, any, sizeof(sa_family_t)) &&
	    !getsockname(box, any, &size_bytes) &&
	    !connect(box, any, size_bytes))
		return box;
	error = -errno;
	close(box);
	return error;
}

int fd_box_put(int box, const char *label, const int *fds, size_t count)
{
	size_t label_bytes = strlen(label) + 1;

	if (label_bytes > FD_BOX_MAX_LABEL || count > FD_BOX_MAX_FDS)
		return -EMSGSIZE;
	return socket_send(box, label, label_bytes, fds, count, MSG_DONTWAIT);
}

static size_t take_fds(struct msghdr *msg, int *fds)
{
	struct cmsghdr *cmsg = CMSG_FIRSTHDR(msg);
	size_t count;

	if (!cmsg || cmsg->cmsg_level != SOL_SOCKET ||
	    cmsg->cmsg_type != SCM_RIGHTS)
		return 0;
	count = (cmsg->cmsg_len - CMSG_LEN(0)) / sizeof(*fds);
	memcpy(fds, CMSG_DATA(cmsg), count * sizeof(*fds));
	return count;
}

int fd_box_each(int box, void (*found)(void *context, const char *label,
				       const int *fds, size_t count),
		void *context)
{
	int offset = 0;

	/* each look goes on behind the one before it */
	if (setsockopt(box, SOL_SOCKET, SO_PEEK_OFF, &offset, sizeof(offset)))
		return -errno;
	for (;;) {
		char label[FD_BOX_MAX_LABEL];
		struct iovec iov = { label, sizeof(label) - 1 };
		int fds[FD_BOX_MAX_FDS];
		union control control;
		struct msghdr msg = {
			.msg_iov = &iov, .msg_iovlen = 1,
			.msg_control = &control,
			.msg_controllen = sizeof(control),
		};
		ssize_t length = recvmsg(box, &msg, MSG_PEEK | MSG_DONTWAIT |
					 MSG_CMSG_CLOEXEC);
		size_t count;

		if (length < 0)
			return errno == EAGAIN ? 0 : -errno;
		count = take_fds(&msg, fds);
		if (msg.msg_flags & MSG_CTRUNC) {
			while (count)
				close(fds[--count]);
			return -EMFILE;
		}
		label[length] = 0;
		found(context, label, fds, count);
	}
}
