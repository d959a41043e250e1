/* SPDX-License-Identifier: GPL-2.0-only */
/* The receiver's connections; main thread only. */
#ifndef KVMSTATD_CONNECTIONS_H
#define KVMSTATD_CONNECTIONS_H

#include "registrations.h"

/* Takes over @peer, which may be NULL; NULL without memory. */
struct conn *conn_new(struct receiver *receiver, struct kvmstats_peer *peer);
/*
 * Without a pidfd nobody tells of the process's end: the kernel tells of the VM's,
 * if it can (KVM_CAP_STATS_FD_HANGUP). Watches a copy of one of the VM's
 * descriptors, which is ours for as long as epoll has it.
 */
void conn_watch_stats(struct receiver *receiver, struct conn *conn,
		      struct kvmstats_source **sources, size_t count);
void conn_drop_vm(struct receiver *receiver, struct conn *conn, const char *why);
/*
 * Lets go of a VM that can never run again. The VMM may live, and bring another
 * VM. In which order epoll tells of both is its own affair: so each message asks,
 * and an event may be of a VM that has gone.
 */
void conn_check_vm_end(struct receiver *receiver, struct conn *conn);
void conn_unpark(struct receiver *receiver, struct conn *conn);
/* Freed by receiver_free_ended: events of it may still be waiting. */
void conn_end(struct receiver *receiver, struct conn *conn, const char *why);
void conn_reject(struct receiver *receiver, struct conn *conn, enum reject reason);
/*
 * The same, but the connection stays: whoever has too much would come again, have its
 * VM shown in part and be refused, with each try. What it sends is closed.
 */
void conn_refuse(struct receiver *receiver, struct conn *conn, enum reject reason);

void receiver_unwatch(struct receiver *receiver, struct watch *watch);
void receiver_free_ended(struct receiver *receiver);

#endif /* KVMSTATD_CONNECTIONS_H */
