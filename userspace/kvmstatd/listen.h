/* SPDX-License-Identifier: GPL-2.0-only */
/* The sockets on which kvmstatd waits, and what of them has to be removed again. */
#ifndef KVMSTATD_LISTEN_H
#define KVMSTATD_LISTEN_H

#include "settings.h"
#include "systemd.h"

#define MAX_BOUND	(MAX_LISTEN + 1)

struct bound;

struct listeners {
	int register_fd;
	int http_fds[MAX_LISTEN];
	size_t num_http;
	struct bound *bound[MAX_BOUND];	/* names in the file system */
	size_t num_bound;
};

/*
 * What systemd opened, or else what the settings say. 0, or -1 after saying what
 * is wrong. HTTP's descriptors go to the HTTP server.
 */
int listeners_open(struct listeners *listeners, const struct settings *settings,
		   const struct inherited *inherited);
/* Say where VMs register and HTTP is served. Before the server closes its sockets. */
void listeners_announce(const struct listeners *listeners, bool tls);
/* Removes the names that are still ours. */
void listeners_close(struct listeners *listeners);

#endif /* KVMSTATD_LISTEN_H */
