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
/* The limits may have changed: whoever was refused for one is to try again. */
void receiver_reconsider(struct receiver *receiver);
/* One turn of at most @timeout_ms; true if the signals' descriptor is readable. */
bool receiver_turn(struct receiver *receiver, int timeout_ms);

#endif /* KVMSTATD_REGISTRATIONS_H */
