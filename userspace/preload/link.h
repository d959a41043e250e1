/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What register.c and keep.c share. All under the lock. */
#ifndef KVMSTATS_PRELOAD_LINK_H
#define KVMSTATS_PRELOAD_LINK_H

#include "../lib/finder.h"
#include "preload.h"

#define MAX_LINKS	1024	/* VMs of one process */

/* The connection of one VM. */
struct link {
	pid_t pid;		/* a child of fork has none; 0: free */
	unsigned int generation;	/* other after link_free */
	int vm_fd;
	int socket_fd;		/* -1: there is none */
	dev_t dev;
	ino_t ino;		/* is it still our socket? */
	bool keeps;		/* descriptors, for a reader that comes again */
	unsigned int wait_s;	/* between the last two tries to connect */
	uint64_t retry_ns;	/* monotonic; 0: at once */
	uint64_t up_ns;		/* when it was connected by keep.c */
};

extern struct link links[MAX_LINKS];

/* register.c */
void links_lock(void);
void links_unlock(void);
/*
 * Lets go of the VMs that this process has destroyed. False if there may be such, but
 * nobody can tell: to look again costs as much as to look at all of its descriptors.
 */
bool links_free_gone(void);
bool link_is_up(const struct link *link);
void link_hang_up(struct link *link);
void link_free(struct link *link);
/* One try, which does not wait: 0 or -1 */
int link_connect(struct link *link);
/* @fd -1: no descriptor. 0 or -errno */
int link_send(const struct link *link, int fd);

/* keep.c */
/* Takes over @fd; false if there is no place: then the VM is not sent again. */
bool keep_add(struct link *link, int fd);
void keep_free(const struct link *link);
/* See to it that the reader's end is noticed. */
void keep_watch(void);

#endif /* KVMSTATS_PRELOAD_LINK_H */
