/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef COMMON_SOCKET_SEND_H
#define COMMON_SOCKET_SEND_H

#include <stddef.h>

#define MAX_SEND_FDS	253	/* the kernel passes no more with a message */

/* One message with these descriptors, see unix(7); 0 or -errno. */
int socket_send(int socket_fd, const void *bytes, size_t size_bytes,
		const int *fds, size_t count, int flags);

#endif /* COMMON_SOCKET_SEND_H */
