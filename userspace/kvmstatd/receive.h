/* SPDX-License-Identifier: GPL-2.0-only */
/* The main thread: registrations, the ends of VMs, signals, the clock. */
#ifndef KVMSTATD_RECEIVE_H
#define KVMSTATD_RECEIVE_H

#include "agent.h"
#include "store.h"

struct conn;

/* What an event of epoll points to. */
struct watch {
	enum { WATCH_LISTEN, WATCH_SIGNAL, WATCH_SOCKET, WATCH_PIDFD } kind;
	int fd;
	struct conn *conn;
};

/* A connection, and the VM that was registered on it. */
struct conn {
	struct conn *next, *previous;
	struct kvmstats_peer *peer;	/* NULL: from the descriptor store */
	struct vm *vm;			/* NULL: nothing said, or shadowed */
	struct watch socket, pidfd;
	uid_t uid;
	pid_t pid;			/* whose VM it is, once that is known */
	uint64_t start_ticks;
	uint64_t since_ns;		/* monotonic */
	unsigned long messages;
	bool introduced, on_behalf;
	bool shadowed;			/* the VMM registered its VM itself */
	bool ended;
};

struct receiver {
	const struct settings *settings;
	struct registry *registry;
	struct kvmstats_cache *cache;
	int epoll_fd;
	size_t fd_budget;		/* descriptors that may be ours */
	struct watch listen;
	bool paused;			/* no descriptor for one more */
	bool try_again;			/* something ended meanwhile */
	struct conn *conns;
	size_t count, num_ended;
	uint64_t swept_ns;		/* monotonic */
};

int receiver_open(struct receiver *receiver, struct registry *registry,
		  const struct settings *settings, int listen_fd);
void receiver_close(struct receiver *receiver);
int receiver_watch(struct receiver *receiver, struct watch *watch);
/* VMs that our predecessor left in the descriptor store. */
void receiver_restore(struct receiver *receiver, struct inherited *inherited);
/* One turn of at most @timeout_ms; true if @signal_fd is readable. */
bool receiver_turn(struct receiver *receiver, int timeout_ms);

/* conn.c */
struct conn *conn_new(struct receiver *receiver, struct kvmstats_peer *peer);
void conn_end(struct receiver *receiver, struct conn *conn);
void conn_free_ended(struct receiver *receiver);
/* What a first message says; a reason not to believe it, or -1. */
int conn_introduce(struct receiver *receiver, struct conn *conn);
int conn_watch_pidfd(struct receiver *receiver, struct conn *conn, int pidfd);
size_t conn_count_uid(const struct receiver *receiver, uid_t uid);

#endif /* KVMSTATD_RECEIVE_H */
