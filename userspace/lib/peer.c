// SPDX-License-Identifier: LGPL-2.1-or-later
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "../common/unix_listen.h"
#include "internal.h"

#ifndef SO_PEERPIDFD
#define SO_PEERPIDFD	77	/* Linux 6.5 */
#endif

struct kvmstats_peer {
	int socket_fd;
	int pidfd;
	uint64_t accepted_ticks;	/* since boot */
	pid_t pid;
	uid_t uid;
	gid_t gid;
	bool may_be_on_behalf;
	bool takes_vcpus;	/* descriptors of all vCPUs */
	bool introduced;	/* all that follows is known, and the pidfd */
	bool on_behalf;
	pid_t vm_pid;
	uint64_t start_time_ticks;
	uint32_t total_fds;
	char *name, *uuid;	/* NULL: not introduced */
};

int kvmstats_listen(const char *path, mode_t mode)
{
	return unix_listen(path, SOCK_SEQPACKET, mode);
}

static int read_credentials(struct kvmstats_peer *peer)
{
	struct ucred cred;
	socklen_t size_bytes = sizeof(cred);

	if (getsockopt(peer->socket_fd, SOL_SOCKET, SO_PEERCRED, &cred,
		       &size_bytes) < 0)
		return -errno;
	peer->pid = cred.pid;
	peer->uid = cred.uid;
	peer->gid = cred.gid;
	return 0;
}

static uint64_t now_ticks(void)
{
	struct timespec now;
	uint64_t hz = sysconf(_SC_CLK_TCK);

	clock_gettime(CLOCK_BOOTTIME, &now);
	return now.tv_sec * hz + now.tv_nsec * hz / 1000000000;
}

static int peer_pidfd(int socket_fd)
{
	int fd = -1;
	socklen_t size_bytes = sizeof(fd);

	if (getsockopt(socket_fd, SOL_SOCKET, SO_PEERPIDFD, &fd, &size_bytes))
		return -1;
	return fd;
}

/*
 * The process that connected, exactly where the kernel says it. Before Linux 6.5
 * the number that SO_PEERCRED gave may meanwhile belong to another process: but
 * not if that one began before the connection was accepted. What the sender says
 * of itself is not compared: it may see other times and other numbers.
 */
static void find_process(struct kvmstats_peer *peer)
{
	bool exact;

	peer->vm_pid = peer->pid;
	peer->pidfd = peer_pidfd(peer->socket_fd);
	exact = peer->pidfd >= 0 && peer->pid > 0;
	if (peer->pidfd < 0 && peer->pid > 0)
		peer->pidfd = syscall(SYS_pidfd_open, peer->pid, 0);
	if (peer->pidfd < 0)
		return;
	peer->start_time_ticks = process_start_ticks_in_time(peer->pid);
	if (exact || (peer->start_time_ticks &&
		      peer->start_time_ticks <= peer->accepted_ticks))
		return;
	close(peer->pidfd);
	peer->pidfd = -1;
	peer->start_time_ticks = 0;
}

/* A process by its number here, and the time of its start as the message has it. */
static int find_process_that_began(struct kvmstats_peer *peer, pid_t pid,
				   uint64_t start_time_ticks)
{
	int pidfd;

	if (pid <= 0 || !start_time_ticks)
		return -ESRCH;
	pidfd = syscall(SYS_pidfd_open, pid, 0);
	if (pidfd < 0)
		return -ESRCH;
	if (process_start_ticks_in_time(pid) != start_time_ticks) {
		close(pidfd);
		return -ESRCH;
	}
	peer->vm_pid = pid;
	peer->pidfd = pidfd;
	peer->start_time_ticks = start_time_ticks;
	return 0;
}

static bool says_the_same(const struct kvmstats_peer *peer,
			  const struct wire_message *message)
{
	if (peer->on_behalf != message->on_behalf ||
	    strcmp(peer->name, message->name) ||
	    strcmp(peer->uuid, message->uuid))
		return false;
	return !peer->on_behalf ||
	       (peer->vm_pid == (pid_t)message->pid &&
		peer->start_time_ticks == message->start_time_ticks);
}

/*
 * The pid of a message is believed only where it was allowed: anybody could
 * name the process of somebody else. @sender is the kernel's word. If it is not
 * the process that connected, that one has passed the connection on, and with it
 * no right to speak of others.
 */
static int introduce(struct kvmstats_peer *peer,
		     const struct wire_message *message, pid_t sender)
{
	bool passed_on = sender > 0 && sender != peer->pid;

	if (message->on_behalf && (!peer->may_be_on_behalf || passed_on))
		return -EPERM;
	if (peer->introduced)
		return says_the_same(peer, message) ? 0 : -EBADMSG;
	free(peer->name);
	free(peer->uuid);
	peer->name = strdup(message->name);
	peer->uuid = strdup(message->uuid);
	if (!peer->name || !peer->uuid)
		return -ENOMEM;
	if (message->on_behalf) {
		if (find_process_that_began(peer, message->pid,
					    message->start_time_ticks))
			return -ESRCH;
	} else if (passed_on) {
		/* another time namespace: then it is not watched */
		peer->vm_pid = sender;
		find_process_that_began(peer, sender, message->start_time_ticks);
	} else {
		find_process(peer);
	}
	peer->on_behalf = message->on_behalf;
	peer->introduced = true;
	return 0;
}

/* Descriptors of one message; the kernel passes at most 253. */
struct fd_list {
	int fd[KVMSTATS_MAX_MESSAGE_FDS];
	size_t count;
	pid_t sender;	/* of the message; 0: not known, or not visible from here */
};

static void take_fds(const struct cmsghdr *cmsg, struct fd_list *list)
{
	const unsigned char *data = CMSG_DATA(cmsg);
	size_t count = (cmsg->cmsg_len - CMSG_LEN(0)) / sizeof(int);

	for (size_t i = 0; i < count && list->count < KVMSTATS_MAX_MESSAGE_FDS;
	     i++) {
		int fd;

		memcpy(&fd, data + i * sizeof(fd), sizeof(fd));
		list->fd[list->count++] = fd;
	}
}

/* Returns the number of bytes. Descriptors in @list are open, even on errors. */
static ssize_t receive(int socket_fd, void *bytes, size_t size_bytes,
		       struct fd_list *list)
{
	union {
		char bytes[CMSG_SPACE(KVMSTATS_MAX_MESSAGE_FDS * sizeof(int)) +
			   CMSG_SPACE(sizeof(struct ucred))];
		struct cmsghdr align;
	} control;
	struct ucred cred;
	struct iovec iov = { .iov_base = bytes, .iov_len = size_bytes };
	struct msghdr msg = {
		.msg_iov = &iov, .msg_iovlen = 1,
		.msg_control = control.bytes,
		.msg_controllen = sizeof(control.bytes),
	};
	ssize_t length;

	length = recvmsg(socket_fd, &msg, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
	if (length < 0)
		return -errno;
	for (struct cmsghdr *cmsg = CMSG_FIRSTHDR(&msg); cmsg;
	     cmsg = CMSG_NXTHDR(&msg, cmsg)) {
		if (cmsg->cmsg_level != SOL_SOCKET)
			continue;
		if (cmsg->cmsg_type == SCM_RIGHTS) {
			take_fds(cmsg, list);
		} else if (cmsg->cmsg_type == SCM_CREDENTIALS) {
			memcpy(&cred, CMSG_DATA(cmsg), sizeof(cred));
			list->sender = cred.pid;
		}
	}
	/* the buffer has room for all that the kernel passes: it is numbers that lack */
	if (msg.msg_flags & MSG_CTRUNC)
		return -EMFILE;
	return msg.msg_flags & MSG_TRUNC ? -EBADMSG : length;
}

static int get_option(int fd, int option)
{
	socklen_t size_bytes = sizeof(int);
	int value = -1;

	getsockopt(fd, SOL_SOCKET, option, &value, &size_bytes);
	return value;
}

/* A connection that came over @fd, or -errno; what else came is closed. */
static int receive_connection(int fd)
{
	struct fd_list list = { .count = 0 };
	char byte;
	ssize_t length = receive(fd, &byte, sizeof(byte), &list);

	if (length > 0 && list.count == 1 &&
	    get_option(list.fd[0], SO_DOMAIN) == AF_UNIX &&
	    get_option(list.fd[0], SO_TYPE) == SOCK_SEQPACKET &&
	    !get_option(list.fd[0], SO_ACCEPTCONN)) {
		fcntl(list.fd[0], F_SETFL, O_NONBLOCK);
		return list.fd[0];
	}
	kvmstats_close_later(KVMSTATS_CLOSE_FOREIGN, list.fd, list.count);
	if (length < 0)
		return length;
	return length && !list.count ? -ENOMSG : length ? -EBADMSG : -EPIPE;
}

/*
 * Each message then says who sends it. What was sent before the connection was
 * accepted says so anyway, and connections inherit the option of the listening socket.
 */
static void ask_for_senders(int fd)
{
	int on = 1;

	setsockopt(fd, SOL_SOCKET, SO_PASSCRED, &on, sizeof(on));
}

int kvmstats_peer_accept(int fd, struct kvmstats_peer **result)
{
	struct kvmstats_peer *peer = calloc(1, sizeof(*peer));
	int ret;

	if (!peer)
		return -ENOMEM;
	peer->pidfd = -1;
	if (get_option(fd, SO_ACCEPTCONN)) {
		ask_for_senders(fd);
		ret = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
		ret = ret < 0 ? -errno : ret;
	} else {
		ret = receive_connection(fd);
	}
	peer->socket_fd = ret;
	ask_for_senders(ret);
	peer->accepted_ticks = now_ticks();
	ret = ret < 0 ? ret : read_credentials(peer);
	if (ret) {
		kvmstats_peer_free(peer);
		return ret;
	}
	*result = peer;
	return 0;
}

static int open_sources(struct fd_list *list, struct kvmstats_cache *cache,
			bool takes_vcpus, struct kvmstats_source **sources,
			unsigned int *rejected)
{
	int count = 0, ret;
	size_t bad = 0;

	for (size_t i = 0; i < list->count; i++) {
		ret = takes_vcpus ?
		      source_open_any(list->fd[i], cache, &sources[count]) :
		      kvmstats_source_open(list->fd[i], cache, &sources[count]);
		if (ret)
			list->fd[bad++] = list->fd[i];
		else
			count++;
	}
	kvmstats_close_later(KVMSTATS_CLOSE_FOREIGN, list->fd, bad);
	*rejected = bad;
	return count;
}

static int check_message(struct kvmstats_peer *peer, const void *bytes,
			 size_t size_bytes, const struct fd_list *list)
{
	struct wire_message message;
	int ret = message_from_wire(bytes, size_bytes, &message);

	if (ret)
		return ret;
	if (message.num_fds != list->count)
		return -EBADMSG;
	if (list->count > KVMSTATS_MAX_PEER_FDS - peer->total_fds)
		return -E2BIG;
	return introduce(peer, &message, list->sender);
}

/*
 * A length of 0 is the end of the connection, or an empty message, which no
 * honest sender sends: both end it.
 */
static int receive_checked(struct kvmstats_peer *peer, struct fd_list *list)
{
	char bytes[WIRE_RECEIVE_BYTES];
	ssize_t length = receive(peer->socket_fd, bytes, sizeof(bytes), list);

	if (length < 0)
		return length == -ECONNRESET ? -EPIPE : length;
	if (!length)
		return -EPIPE;
	return check_message(peer, bytes, length, list);
}

int kvmstats_peer_pending(const struct kvmstats_peer *peer)
{
	char bytes[WIRE_RECEIVE_BYTES];
	struct wire_message message;
	ssize_t length = recv(peer->socket_fd, bytes, sizeof(bytes),
			      MSG_PEEK | MSG_DONTWAIT);

	if (length < 0)
		return -errno;
	if (!length || message_from_wire(bytes, length, &message))
		return 0;
	return message.num_fds > KVMSTATS_MAX_MESSAGE_FDS ?
	       KVMSTATS_MAX_MESSAGE_FDS : (int)message.num_fds;
}

int kvmstats_peer_receive(struct kvmstats_peer *peer,
			  struct kvmstats_cache *cache,
			  struct kvmstats_source **sources,
			  unsigned int *rejected)
{
	struct fd_list list = { .count = 0 };
	unsigned int ignored;
	int ret;

	if (!rejected)
		rejected = &ignored;
	*rejected = 0;
	if (kvmstats_close_full(KVMSTATS_CLOSE_FOREIGN))
		return -EBUSY;
	ret = receive_checked(peer, &list);
	if (ret) {
		kvmstats_close_later(KVMSTATS_CLOSE_FOREIGN, list.fd,
				     list.count);
		return ret;
	}
	peer->total_fds += list.count;
	return open_sources(&list, cache, peer->takes_vcpus, sources, rejected);
}

int kvmstats_peer_fd(const struct kvmstats_peer *peer)
{
	return peer->socket_fd;
}

int kvmstats_peer_pidfd(const struct kvmstats_peer *peer)
{
	return peer->pidfd;
}

pid_t kvmstats_peer_pid(const struct kvmstats_peer *peer)
{
	return peer->pid;
}

void kvmstats_peer_allow_on_behalf(struct kvmstats_peer *peer)
{
	peer->may_be_on_behalf = true;
}

void kvmstats_peer_allow_vcpus(struct kvmstats_peer *peer)
{
	peer->takes_vcpus = true;
}

int kvmstats_peer_is_on_behalf(const struct kvmstats_peer *peer)
{
	return peer->on_behalf;
}

pid_t kvmstats_peer_vm_pid(const struct kvmstats_peer *peer)
{
	return peer->vm_pid;
}

uint64_t kvmstats_peer_start_ticks(const struct kvmstats_peer *peer)
{
	return peer->start_time_ticks;
}

uid_t kvmstats_peer_uid(const struct kvmstats_peer *peer)
{
	return peer->uid;
}

gid_t kvmstats_peer_gid(const struct kvmstats_peer *peer)
{
	return peer->gid;
}

const char *kvmstats_peer_name(const struct kvmstats_peer *peer)
{
	return peer->introduced ? peer->name : "";
}

const char *kvmstats_peer_uuid(const struct kvmstats_peer *peer)
{
	return peer->introduced ? peer->uuid : "";
}

/*
 * What was sent and not received goes with the socket, and closing a foreign
 * descriptor can wait.
 */
static void hang_up(int socket_fd)
{
	char byte;
	struct iovec iov = { .iov_base = &byte, .iov_len = 1 };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };

	shutdown(socket_fd, SHUT_RDWR);
	if (recvmsg(socket_fd, &msg, MSG_PEEK | MSG_DONTWAIT) > 0 ||
	    msg.msg_flags & MSG_CTRUNC)
		kvmstats_close_later(KVMSTATS_CLOSE_FOREIGN, &socket_fd, 1);
	else
		close(socket_fd);
}

void kvmstats_peer_free(struct kvmstats_peer *peer)
{
	if (!peer)
		return;
	if (peer->socket_fd >= 0)
		hang_up(peer->socket_fd);
	if (peer->pidfd >= 0)
		close(peer->pidfd);
	free(peer->name);
	free(peer->uuid);
	free(peer);
}
