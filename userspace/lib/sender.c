// SPDX-License-Identifier: LGPL-2.1-or-later
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "../common/socket_send.h"
#include "finder.h"

#define RETRY_FIRST_MS	1000
#define RETRY_MAX_MS	60000
#define FULL_MS		100	/* to wait while the socket is full */

struct kvmstats_sender {
	int socket_fd;		/* -1: not connected */
	/* of kvmstats_sender_maintain; monotonic */
	uint64_t retry_ns, connected_ns;
	unsigned int retry_ms;
	int last_error;
	int *fds;
	bool *borrowed;		/* a source's: not to be closed here */
	size_t count, room;
	size_t sent;		/* of fds, over the present connection */
	bool greeted;		/* a message went over it, maybe without fds */
	pid_t on_behalf;	/* 0: the VM is this process's own */
	uint64_t start_time_ticks;	/* of that process */
	char name[KVMSTATS_MAX_VM_NAME + 1];
	char uuid[KVMSTATS_MAX_VM_NAME + 1];
};

static int set_text(char *to, const char *from)
{
	size_t length = strnlen(from, KVMSTATS_MAX_VM_NAME + 1);

	if (length > KVMSTATS_MAX_VM_NAME || !wire_text_ok(from, length))
		return -EINVAL;
	strcpy(to, from);
	return 0;
}

int kvmstats_sender_new(const char *name, const char *uuid,
			struct kvmstats_sender **result)
{
	struct kvmstats_sender *sender = calloc(1, sizeof(*sender));
	int ret;

	if (!sender)
		return -ENOMEM;
	sender->socket_fd = -1;
	ret = set_text(sender->name, name);
	if (!ret)
		ret = set_text(sender->uuid, uuid);
	if (ret) {
		free(sender);
		return ret;
	}
	*result = sender;
	return 0;
}

int kvmstats_sender_on_behalf(struct kvmstats_sender *sender, pid_t pid,
			      uint64_t start_time_ticks)
{
	if (pid <= 0 || !start_time_ticks)
		return -EINVAL;
	sender->on_behalf = pid;
	sender->start_time_ticks = start_time_ticks;
	return 0;
}

static int make_room(struct kvmstats_sender *sender)
{
	size_t room = sender->room ? 2 * sender->room : 16;
	bool *borrowed;
	int *fds;

	if (sender->count < sender->room)
		return 0;
	fds = realloc(sender->fds, room * sizeof(*fds));
	if (fds)
		sender->fds = fds;
	borrowed = realloc(sender->borrowed, room * sizeof(*borrowed));
	if (borrowed)
		sender->borrowed = borrowed;
	if (!fds || !borrowed)
		return -ENOMEM;
	sender->room = room;
	return 0;
}

static int add(struct kvmstats_sender *sender, int fd, bool borrowed)
{
	int ret = make_room(sender);

	if (ret)
		return ret;
	sender->borrowed[sender->count] = borrowed;
	sender->fds[sender->count++] = fd;
	return 0;
}

int kvmstats_sender_add_stats(struct kvmstats_sender *sender, int stats_fd)
{
	return add(sender, stats_fd, false);
}

int kvmstats_sender_add_source(struct kvmstats_sender *sender,
			       const struct kvmstats_source *source)
{
	int fd = kvmstats_source_fd(source);

	return fd < 0 ? -EBADF : add(sender, fd, true);
}

int kvmstats_sender_add_device(struct kvmstats_sender *sender,
			       const struct kvmstats_device *device)
{
	return add(sender, kvmstats_device_fd(device), true);
}

static int add_made(struct kvmstats_sender *sender, int kvm_fd,
		    unsigned long request)
{
	int stats_fd = ioctl(kvm_fd, request, NULL);
	int ret;

	if (stats_fd < 0)
		return -errno;
	ret = kvmstats_sender_add_stats(sender, stats_fd);
	if (ret)
		close(stats_fd);
	return ret;
}

/* Any other ioctl on a vCPU would wait until it leaves KVM_RUN. */
static bool has_vcpus_stats(int kvm_fd)
{
	struct kvm_file file;

	return kvm_file_of_own(kvm_fd, &file) && file.kind == KVMSTATS_FD_VM &&
	       ioctl(kvm_fd, UAPI_CHECK_EXTENSION, UAPI_CAP_VCPUS_STATS_FD) > 0;
}

int kvmstats_sender_add(struct kvmstats_sender *sender, int kvm_fd)
{
	int ret = add_made(sender, kvm_fd, UAPI_GET_STATS_FD);

	if (!ret && has_vcpus_stats(kvm_fd))
		ret = add_made(sender, kvm_fd, UAPI_GET_VCPUS_STATS_FD);
	return ret;
}

static void disconnect(struct kvmstats_sender *sender)
{
	if (sender->socket_fd >= 0)
		close(sender->socket_fd);
	sender->socket_fd = -1;
	sender->sent = 0;
	sender->greeted = false;
}

int kvmstats_sender_connect(struct kvmstats_sender *sender, const char *path)
{
	struct sockaddr_un address;
	int ret = wire_address(path, &address);

	if (ret)
		return ret;
	disconnect(sender);
	sender->socket_fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC |
				   SOCK_NONBLOCK, 0);
	if (sender->socket_fd < 0)
		return -errno;
	ret = connect(sender->socket_fd, (struct sockaddr *)&address,
		      sizeof(address));
	if (ret < 0) {
		ret = -errno;
		disconnect(sender);
	}
	return ret;
}

static int option_is(int fd, int option, int wanted)
{
	socklen_t size_bytes = sizeof(int);
	int value = -1;

	if (getsockopt(fd, SOL_SOCKET, option, &value, &size_bytes))
		return -errno;
	return value == wanted ? 0 : -EPROTOTYPE;
}

int kvmstats_sender_take_connection(struct kvmstats_sender *sender,
				    int socket_fd)
{
	struct sockaddr_un address;
	socklen_t size_bytes = sizeof(address);
	int ret = option_is(socket_fd, SO_DOMAIN, AF_UNIX);

	if (!ret)
		ret = option_is(socket_fd, SO_TYPE, SOCK_SEQPACKET);
	if (!ret && getpeername(socket_fd, (struct sockaddr *)&address,
				&size_bytes) < 0)
		ret = -errno;
	if (!ret && fcntl(socket_fd, F_SETFD, FD_CLOEXEC) < 0)
		ret = -errno;
	if (ret)
		return ret;
	disconnect(sender);
	sender->socket_fd = socket_fd;
	return 0;
}

static void fill_message(const struct kvmstats_sender *sender,
			 uint32_t num_fds, struct wire_message *message)
{
	message->num_fds = num_fds;
	message->on_behalf = sender->on_behalf;
	if (sender->on_behalf) {
		message->pid = sender->on_behalf;
		message->start_time_ticks = sender->start_time_ticks;
	} else {
		message->pid = getpid();
		message->start_time_ticks = process_start_ticks("self");
	}
	strcpy(message->name, sender->name);
	strcpy(message->uuid, sender->uuid);
}

static int send_some(struct kvmstats_sender *sender, size_t count)
{
	char bytes[WIRE_MESSAGE_BYTES];
	struct wire_message message;
	int ret;

	fill_message(sender, count, &message);
	ret = socket_send(sender->socket_fd, bytes,
			  wire_encode(&message, bytes),
			  count ? sender->fds + sender->sent : NULL, count,
			  MSG_DONTWAIT);
	if (ret)
		return ret;
	sender->sent += count;
	sender->greeted = true;
	return 0;
}

int kvmstats_sender_flush(struct kvmstats_sender *sender)
{
	size_t before = sender->sent;

	if (sender->socket_fd < 0)
		return -ENOTCONN;
	while (sender->sent < sender->count || !sender->greeted) {
		size_t count = sender->count - sender->sent;
		int ret;

		if (count > KVMSTATS_MAX_MESSAGE_FDS)
			count = KVMSTATS_MAX_MESSAGE_FDS;
		ret = send_some(sender, count);
		if (ret)
			return ret;
	}
	return sender->sent - before;
}

/* Longer each time, until one connection has held for a while. */
static int try_later(struct kvmstats_sender *sender, int error, int *wait_ms)
{
	uint64_t now_ns = monotonic_ns();

	if (sender->connected_ns &&
	    now_ns - sender->connected_ns > RETRY_MAX_MS * 1000000ull)
		sender->retry_ms = 0;
	sender->retry_ms = sender->retry_ms ? 2 * sender->retry_ms :
			   RETRY_FIRST_MS;
	if (sender->retry_ms > RETRY_MAX_MS)
		sender->retry_ms = RETRY_MAX_MS;
	disconnect(sender);
	sender->connected_ns = 0;
	sender->retry_ns = now_ns + sender->retry_ms * 1000000ull;
	sender->last_error = error;
	*wait_ms = sender->retry_ms;
	return error;
}

/* A reader says nothing: what can be read is the end. */
static bool has_ended(const struct kvmstats_sender *sender)
{
	char byte;

	return recv(sender->socket_fd, &byte, 1, MSG_DONTWAIT) >= 0 ||
	       errno != EAGAIN;
}

int kvmstats_sender_maintain(struct kvmstats_sender *sender, const char *path,
			     int *wait_ms)
{
	uint64_t now_ns = monotonic_ns();
	int ret;

	*wait_ms = RETRY_MAX_MS;
	if (sender->socket_fd >= 0 && has_ended(sender))
		return try_later(sender, -EPIPE, wait_ms);
	if (sender->socket_fd < 0) {
		if (!path)
			return -ENOTCONN;
		if (now_ns < sender->retry_ns) {
			*wait_ms = (sender->retry_ns - now_ns) / 1000000 + 1;
			return sender->last_error;
		}
		ret = kvmstats_sender_connect(sender, path);
		if (ret)
			return try_later(sender, ret, wait_ms);
		sender->connected_ns = now_ns;
	}
	ret = kvmstats_sender_flush(sender);
	if (ret >= 0)
		return 1;
	if (ret != -EAGAIN && ret != -ETOOMANYREFS)
		return try_later(sender, ret, wait_ms);
	*wait_ms = FULL_MS;
	return 0;
}

int kvmstats_sender_fd(const struct kvmstats_sender *sender)
{
	return sender->socket_fd;
}

void kvmstats_sender_free(struct kvmstats_sender *sender)
{
	if (!sender)
		return;
	disconnect(sender);
	for (size_t i = 0; i < sender->count; i++)
		if (!sender->borrowed[i])
			close(sender->fds[i]);
	free(sender->fds);
	free(sender->borrowed);
	free(sender);
}
