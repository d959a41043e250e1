/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What systemd does for us, if it is there: sockets that are open already, a
 * watchdog, and a place where open files survive our restart. Without it, or
 * without its library, all of this does nothing.
 */
#ifndef KVMSTATD_SYSTEMD_H
#define KVMSTATD_SYSTEMD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MAX_LISTEN	16

/* What systemd passed, taken out of the environment. */
struct inherited {
	int register_fd;		/* -1: none */
	int http_fds[MAX_LISTEN];
	size_t num_http;
	int count;			/* of the rest */
	int *fds;			/* -1: taken */
	char **names;
};

/* 0 or -errno */
int inherited_take(struct inherited *inherited);
/* Closes what nobody took, and has systemd forget it. */
void inherited_free(struct inherited *inherited);

/* Does anybody listen to what we say? */
bool supervised(void);
/* Half the watchdog's interval; 0: none */
uint64_t watchdog_ns(void);
/* "READY=1" and the like, see sd_notify(3) */
void notify(const char *text);
/* Keep a copy of @fd under @name, whatever happens to it. */
void supervisor_keep(const char *name, int fd);
void supervisor_drop(const char *name);
/* All that was said before has been done. Any thread. */
void supervisor_wait(void);

/*
 * A box of open files that costs one descriptor: a datagram socket that is
 * connected to itself. What is put in is in flight (unix(7)) until the last
 * descriptor of the box is closed; it can be looked at as often as one likes.
 * Files of the box do not count against RLIMIT_NOFILE of its owner, but all that
 * the user has in flight must not be more than that.
 */

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

#endif /* KVMSTATD_SYSTEMD_H */
