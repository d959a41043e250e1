// SPDX-License-Identifier: GPL-2.0-only
/* Descriptors in messages of UNIX sockets. */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "stress.h"

union fd_message {
	char bytes[CMSG_SPACE(sizeof(int))];
	struct cmsghdr header;
};

static void prepare(struct msghdr *msg, struct iovec *iov,
		    union fd_message *control)
{
	memset(msg, 0, sizeof(*msg));
	memset(control, 0, sizeof(*control));
	msg->msg_iov = iov;
	msg->msg_iovlen = 1;
	msg->msg_control = control->bytes;
	msg->msg_controllen = sizeof(control->bytes);
}

void send_fd(int sock, int fd, const void *text, size_t size_bytes)
{
	struct iovec iov = { (void *)(uintptr_t)text, size_bytes };
	union fd_message control;
	struct cmsghdr *cmsg;
	struct msghdr msg;
	ssize_t sent;

	prepare(&msg, &iov, &control);
	cmsg = CMSG_FIRSTHDR(&msg);
	cmsg->cmsg_level = SOL_SOCKET;
	cmsg->cmsg_type = SCM_RIGHTS;
	cmsg->cmsg_len = CMSG_LEN(sizeof(fd));
	memcpy(CMSG_DATA(cmsg), &fd, sizeof(fd));
	sent = sendmsg(sock, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);
	/* Full, or nobody there any more: the kernel drops the reference. */
	CHECK(sent == (ssize_t)size_bytes || errno == EAGAIN ||
	      errno == EPIPE || errno == ECONNRESET || errno == ECONNREFUSED ||
	      errno == ENOTCONN || errno == ETOOMANYREFS, "sendmsg: %s", strerror(errno));
}

int receive_fd(int sock, void *text, size_t size_bytes)
{
	struct iovec iov = { text, size_bytes };
	union fd_message control;
	struct cmsghdr *cmsg;
	struct msghdr msg;
	int fd = -1;

	prepare(&msg, &iov, &control);
	if (recvmsg(sock, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC) <= 0)
		return -1;
	cmsg = CMSG_FIRSTHDR(&msg);
	if (cmsg)
		memcpy(&fd, CMSG_DATA(cmsg), sizeof(fd));
	return fd;
}
