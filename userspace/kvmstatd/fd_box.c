// SPDX-License-Identifier: GPL-2.0-only
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "../common/socket_send.h"
#include "fd_box.h"

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
