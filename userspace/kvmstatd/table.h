/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The table of VMs, in a memfd that systemd holds for us together with the
 * descriptors. Their names there have room for a number only, so who the VMs
 * are stands in the table:
 *
 *	+SERIAL PID START UID GID ON-BEHALF HAS-PIDFD<tab>KEY<tab>NAME<tab>UUID
 *	-SERIAL
 *
 * Lines are only added, so that a table is never seen half written; a line
 * without its end is ignored. Texts have no control characters.
 */
#ifndef KVMSTATD_TABLE_H
#define KVMSTATD_TABLE_H

#include "agent.h"

struct stored {
	struct identity identity;
	uint64_t serial;
	bool has_pidfd;
	char *key;
};

/* -errno, or 0 */
int table_enter(int fd, const struct stored *stored);
int table_forget(int fd, uint64_t serial);

/* Calls @found for each VM of the table that was not forgotten. */
int table_read(int fd, void (*found)(void *context, struct stored *stored),
	       void *context);

#endif /* KVMSTATD_TABLE_H */
