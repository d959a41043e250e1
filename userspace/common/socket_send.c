// SPDX-License-Identifier: LGPL-2.1-or-later
#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "socket_send.h"

int socket_send(int socket_fd, const void *bytes, size_t size_bytes,
		const int *fds, size_t count, int flags)
{
	union {
		char bytes[CMSG_SPACE(MAX_SEND_FDS * sizeof(int))];
		struct cmsghdr align;
	} control;
	struct iovec iov = { (void *)bytes, size_bytes };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
	struct cmsghdr *cmsg;

	if (count > MAX_SEND_FDS)
		return -EINVAL;
	if (count) {
		msg.msg_control = control.bytes;
		msg.msg_controllen = CMSG_SPACE(count * sizeof(*fds));
		memset(control.bytes, 0, msg.msg_controllen);
		cmsg = CMSG_FIRSTHDR(&msg);
		cmsg->cmsg_level = SOL_SOCKET;
		cmsg->cmsg_type = SCM_RIGHTS;
		cmsg->cmsg_len = CMSG_LEN(count * sizeof(*fds));
		memcpy(CMSG_DATA(cmsg), fds, count * sizeof(*fds));
	}
	if (sendmsg(socket_fd, &msg, flags | MSG_NOSIGNAL) < 0)
		return -errno;
	return 0;
}
