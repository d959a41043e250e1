// SPDX-License-Identifier: GPL-2.0-only
/* What a connection has open and has registered, and how both come to their end. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "../common/log.h"
#include "registrations.h"

static const char *const reject_texts[REJECTS] = {
	[REJECT_CREDENTIALS] = "the user may not register VMs (see --allow-uid and --allow-gid)",
	[REJECT_MALFORMED] = "it has sent a malformed message",
	[REJECT_SILENT] = "it has sent no statistics descriptor within 10 s",
	[REJECT_VMS] = "there are as many VMs as --max-vms or --max-vms-per-uid allows",
	[REJECT_DESCRIPTORS] =
		"it has more vCPUs and devices than --max-fds-per-vm allows: raise that, and send SIGHUP to kvmstatd",
	[REJECT_MESSAGES] =
		"it has sent more messages than --max-messages allows, or more descriptors than one connection may",
	[REJECT_BEHALF] = "it may not register VMs of others (--helper-uid), or the VM is gone",
	[REJECT_CLOSING] = "too many of the descriptors that were sent still wait to be closed",
	[REJECT_RESOURCES] =
		"kvmstatd has no memory or no descriptors left (see MemoryMax= and LimitNOFILE=)",
};

static struct log_limit reject_limit = LOG_LIMIT(20),
			ended_limit = LOG_LIMIT(1000);

struct conn *conn_new(struct receiver *receiver, struct kvmstats_peer *peer)
{
	struct conn *conn = calloc(1, sizeof(*conn));

	if (!conn)
		return NULL;
	conn->peer = peer;
	conn->since_ns = clock_ns();
	conn->socket = (struct watch){ WATCH_SOCKET, -1, conn };
	conn->pidfd = (struct watch){ WATCH_PIDFD, -1, conn };
	conn->stats = (struct watch){ WATCH_STATS, -1, conn };
	conn->next = receiver->conns;
	if (conn->next)
		conn->next->previous = conn;
	receiver->conns = conn;
	receiver->count++;
	return conn;
}

static void unlink_conn(struct receiver *receiver, struct conn *conn)
{
	if (conn->previous)
		conn->previous->next = conn->next;
	else
		receiver->conns = conn->next;
	if (conn->next)
		conn->next->previous = conn->previous;
	receiver->count--;
}

int receiver_watch(struct receiver *receiver, struct watch *watch)
{
	struct epoll_event event = { .events = EPOLLIN, .data.ptr = watch };

	/* statistics always are readable; EPOLLHUP need not be asked for */
	if (watch->kind == WATCH_STATS ||
	    (watch->kind == WATCH_SOCKET && watch->conn->deaf))
		event.events = 0;

	if (epoll_ctl(receiver->epoll_fd, EPOLL_CTL_ADD, watch->fd, &event) < 0)
		return -errno;
	return 0;
}

/*
 * By number, not by closing: systemd may hold the pidfd as well, and epoll
 * would go on telling of it.
 */
void receiver_unwatch(struct receiver *receiver, struct watch *watch)
{
	if (watch->fd >= 0)
		epoll_ctl(receiver->epoll_fd, EPOLL_CTL_DEL, watch->fd, NULL);
}

/* Closing may tear the VM down. */
static void forget_stats(struct receiver *receiver, struct conn *conn)
{
	if (conn->stats.fd < 0)
		return;
	receiver_unwatch(receiver, &conn->stats);
	kvmstats_close_later(KVMSTATS_CLOSE_VM, &conn->stats.fd, 1);
	conn->stats.fd = -1;
}

void conn_watch_stats(struct receiver *receiver, struct conn *conn,
		      struct kvmstats_source **sources, size_t count)
{
	if (conn->pidfd.fd >= 0 || conn->stats.fd >= 0)
		return;
	for (size_t i = 0; i < count; i++) {
		if (kvmstats_source_scope(sources[i]) == KVMSTATS_SCOPE_DEVICE)
			continue;
		conn->stats.fd = fcntl(kvmstats_source_fd(sources[i]),
				       F_DUPFD_CLOEXEC, 0);
		if (conn->stats.fd >= 0 &&
		    receiver_watch(receiver, &conn->stats))
			forget_stats(receiver, conn);
		return;
	}
}

void conn_drop_vm(struct receiver *receiver, struct conn *conn, const char *why)
{
	if (!conn->vm)
		return;
	log_limited(&ended_limit, LOG_LEVEL_INFO, "VM \"%s\" has gone: %s",
		    conn->vm->key, why);
	registry_remove(receiver->registry, conn->vm);
	vm_unref(conn->vm);
	conn->vm = NULL;
}

void conn_check_vm_end(struct receiver *receiver, struct conn *conn)
{
	struct pollfd stats = { .fd = conn->stats.fd };

	if (stats.fd < 0 || poll(&stats, 1, 0) <= 0 ||
	    !(stats.revents & POLLHUP))
		return;
	forget_stats(receiver, conn);
	conn_drop_vm(receiver, conn, "it can never run again");
	conn->vm_ended = true;
}

void conn_unpark(struct receiver *receiver, struct conn *conn)
{
	if (!conn->parked)
		return;
	conn->parked = false;
	/* it was not its silence */
	conn->since_ns = clock_ns();
	receiver->registry->counters.parked--;
}

/* The helper comes again with the VM if its process lives. */
static void end_shadowed(struct receiver *receiver, const struct conn *gone)
{
	for (struct conn *conn = receiver->conns; conn; conn = conn->next)
		if (conn->shadowed && !conn->ended && conn->pid == gone->pid &&
		    conn->start_ticks == gone->start_ticks) {
			conn_end(receiver, conn, "");
			return;
		}
}

void conn_end(struct receiver *receiver, struct conn *conn, const char *why)
{
	if (conn->ended)
		return;
	conn->ended = true;
	conn_unpark(receiver, conn);
	receiver_unwatch(receiver, &conn->socket);
	receiver_unwatch(receiver, &conn->pidfd);
	forget_stats(receiver, conn);
	conn_drop_vm(receiver, conn, why);
	if (!conn->peer && conn->pidfd.fd >= 0)
		close(conn->pidfd.fd);
	kvmstats_peer_free(conn->peer);
	conn->peer = NULL;
	receiver->try_again = true;
	receiver->num_ended++;
	if (conn->introduced && !conn->shadowed)
		end_shadowed(receiver, conn);
}

void receiver_free_ended(struct receiver *receiver)
{
	struct conn *next;

	if (!receiver->num_ended)
		return;
	receiver->num_ended = 0;
	for (struct conn *conn = receiver->conns; conn; conn = next) {
		next = conn->next;
		if (!conn->ended)
			continue;
		unlink_conn(receiver, conn);
		free(conn);
	}
}

static void log_rejected(struct receiver *receiver, const struct conn *conn,
			 enum reject reason)
{
	const char *name = conn->introduced && conn->peer ?
			   kvmstats_peer_name(conn->peer) : "";

	receiver->registry->counters.rejected[reason]++;
	log_limited(&reject_limit, LOG_LEVEL_WARNING,
		    "registration%s%s%s by process %d of user %u is refused: %s",
		    *name ? " of VM \"" : "", name, *name ? "\"" : "",
		    conn->peer ? kvmstats_peer_pid(conn->peer) : conn->pid,
		    conn->uid, reject_texts[reason]);
}

void conn_reject(struct receiver *receiver, struct conn *conn, enum reject reason)
{
	log_rejected(receiver, conn, reason);
	conn_end(receiver, conn, "its registration was refused");
}

void conn_refuse(struct receiver *receiver, struct conn *conn, enum reject reason)
{
	log_rejected(receiver, conn, reason);
	conn_drop_vm(receiver, conn, "its registration was refused");
	forget_stats(receiver, conn);
	conn->refused = true;
	receiver->try_again = true;
	end_shadowed(receiver, conn);
}

void receiver_reconsider(struct receiver *receiver)
{
	for (struct conn *conn = receiver->conns; conn; conn = conn->next)
		if (conn->refused)
			conn_end(receiver, conn, "");
	receiver->registry->retry = true;
}
