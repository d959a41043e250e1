/* SPDX-License-Identifier: GPL-2.0-only */
/* The main thread: registrations, the ends of VMs, signals, the clock. */
#ifndef KVMSTATD_REGISTRATIONS_H
#define KVMSTATD_REGISTRATIONS_H

#include "registry.h"

struct conn;

/* What an event of epoll points to. */
struct watch {
	enum { WATCH_LISTEN, WATCH_SIGNAL, WATCH_SOCKET, WATCH_PIDFD,
	       WATCH_STATS } kind;
	int fd;
	struct conn *conn;
};

/* A connection, and the VM that was registered on it. */
struct conn {
	struct conn *next, *previous;
	struct kvmstats_peer *peer;	/* NULL: from the descriptor store */
	struct vm *vm;			/* NULL: no descriptor yet, or shadowed */
	struct watch socket, pidfd;
	struct watch stats;		/* a copy; -1 if there is a pidfd */
	uid_t uid;
	pid_t pid;			/* whose VM it is, once that is known */
	uint64_t start_ticks;
	uint64_t since_ns;		/* monotonic */
	unsigned long messages;
	bool introduced, on_behalf;
	bool vm_ended;			/* and no other was brought yet */
	bool shadowed;			/* the VMM registered its VM itself */
	bool refused;			/* has no VM until something changes */
	bool deaf;			/* what it sends is not received any more */
	bool parked;			/* waits until descriptors are free */
	bool park_logged;
	bool ended;
};

struct receiver {
	const struct settings *settings;
	struct registry *registry;
	struct kvmstats_cache *cache;
	int epoll_fd;
	size_t fd_budget;		/* descriptors that may be ours */
	struct watch listen;
	bool paused;			/* no descriptor for one more connection */
	bool try_again;			/* something ended meanwhile */
	struct conn *conns;
	size_t count, num_ended;
	uint64_t swept_ns;		/* monotonic */
};

int receiver_open(struct receiver *receiver, struct registry *registry,
		  const struct settings *settings, int listen_fd);
void receiver_close(struct receiver *receiver);
int receiver_watch(struct receiver *receiver, struct watch *watch);
/*
 * A VM that a predecessor left in the store. Takes over @pidfd and @identity's
 * texts; the VM, or NULL.
 */
struct vm *receiver_restore(struct receiver *receiver,
			    struct identity *identity, const char *key,
			    uint64_t serial, int pidfd);
/*
 * All that the store had has been restored: what it still had of a helper, although
 * the VMM has registered that itself since, goes. Before the first scrape.
 */
void receiver_restored(struct receiver *receiver);
/* The limits may have changed: whoever was refused for one is to try again. */
void receiver_reconsider(struct receiver *receiver);
/* One turn of at most @timeout_ms; true if the signals' descriptor is readable. */
bool receiver_turn(struct receiver *receiver, int timeout_ms);

/* connections.c: what a connection has, and its end */
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

#endif /* KVMSTATD_REGISTRATIONS_H */
