/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A box of open files that costs one descriptor: a datagram socket that is
 * connected to itself. What is put in is in flight (unix(7)) until the last
 * descriptor of the box is closed; it can be looked at as often as one likes.
 * Files of the box do not count against RLIMIT_NOFILE of its owner, but all that
 * the user has in flight must not be more than that.
 */
#ifndef KVMSTATD_FD_BOX_H
#define KVMSTATD_FD_BOX_H

#include <stddef.h>

/* A message of the box has a label and 0 to 253 descriptors. */
#define FD_BOX_MAX_FDS		253
#define FD_BOX_MAX_LABEL	2048

/* A descriptor, close-on-exec, or -errno. */
int fd_box_new(void);

/*
 * The files stay the caller's, too. 0, -EAGAIN (the box is full), -ETOOMANYREFS
 * (the user has too much in flight), -EMSGSIZE or another -errno.
 */
int fd_box_put(int box, const char *label, const int *fds, size_t count);

/*
 * Calls @found for each message in the order in which they were put in. The
 * descriptors are new ones, close-on-exec, and belong to @found. 0, or -errno:
 * -EMFILE if there are not numbers enough; then the rest is not looked at.
 */
int fd_box_each(int box, void (*found)(void *context, const char *label,
				       const int *fds, size_t count),
		void *context);

#endif /* KVMSTATD_FD_BOX_H */
