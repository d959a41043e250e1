// SPDX-License-Identifier: GPL-2.0-only
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "receive.h"

struct conn *conn_new(struct receiver *receiver, struct kvmstats_peer *peer)
{
	struct conn *conn = calloc(1, sizeof(*conn));

	if (!conn)
		return NULL;
	conn->peer = peer;
	conn->since_ns = clock_ns();
	conn->socket = (struct watch){ WATCH_SOCKET, -1, conn };
	conn->pidfd = (struct watch){ WATCH_PIDFD, -1, conn };
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

/*
 * By number, not by closing: systemd may hold the pidfd as well, and epoll
 * would go on telling of it.
 */
static void unwatch(struct receiver *receiver, struct watch *watch)
{
	if (watch->fd >= 0)
		epoll_ctl(receiver->epoll_fd, EPOLL_CTL_DEL, watch->fd, NULL);
}

/* The helper comes again with the VM if its process lives. */
static void end_shadowed(struct receiver *receiver, const struct conn *gone)
{
	for (struct conn *conn = receiver->conns; conn; conn = conn->next)
		if (conn->shadowed && !conn->ended && conn->pid == gone->pid &&
		    conn->start_ticks == gone->start_ticks) {
			conn_end(receiver, conn);
			return;
		}
}

static void drop_vm(struct receiver *receiver, struct conn *conn)
{
	if (!conn->vm)
		return;
	registry_remove(receiver->registry, conn->vm);
	vm_unref(conn->vm);
	conn->vm = NULL;
}

/* Freed at the end of the turn: events of it may still be waiting. */
void conn_end(struct receiver *receiver, struct conn *conn)
{
	if (conn->ended)
		return;
	conn->ended = true;
	unwatch(receiver, &conn->socket);
	unwatch(receiver, &conn->pidfd);
	drop_vm(receiver, conn);
	if (!conn->peer && conn->pidfd.fd >= 0)
		close(conn->pidfd.fd);
	kvmstats_peer_free(conn->peer);
	conn->peer = NULL;
	receiver->try_again = true;
	receiver->num_ended++;
	if (conn->introduced && !conn->on_behalf)
		end_shadowed(receiver, conn);
}

void conn_free_ended(struct receiver *receiver)
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

size_t conn_count_uid(const struct receiver *receiver, uid_t uid)
{
	size_t count = 0;

	for (const struct conn *conn = receiver->conns; conn; conn = conn->next)
		count += conn->uid == uid && !conn->ended;
	return count;
}

int conn_watch_pidfd(struct receiver *receiver, struct conn *conn, int pidfd)
{
	conn->pidfd.fd = pidfd;
	return pidfd < 0 ? 0 : receiver_watch(receiver, &conn->pidfd);
}

static bool same_process(const struct conn *one, const struct conn *other)
{
	return one != other && !one->ended && one->pid == other->pid &&
	       one->start_ticks && one->start_ticks == other->start_ticks;
}

static bool same_vm(const struct vm *vm, const struct conn *conn)
{
	return !strcmp(vm->identity.name, kvmstats_peer_name(conn->peer)) &&
	       !strcmp(vm->identity.uuid, kvmstats_peer_uuid(conn->peer));
}

/*
 * Of what a VMM says and what a helper says of it, the former counts. And a
 * VMM that comes again after our restart takes the place of what was stored.
 */
static void settle(struct receiver *receiver, struct conn *conn)
{
	for (struct conn *c = receiver->conns; c; c = c->next) {
		if (!same_process(c, conn))
			continue;
		if (conn->on_behalf && !c->on_behalf && c->vm) {
			conn->shadowed = true;
		} else if (!conn->on_behalf && c->on_behalf) {
			drop_vm(receiver, c);
			c->shadowed = c->peer;
			if (!c->peer)
				conn_end(receiver, c);
		} else if (!c->peer && c->vm && same_vm(c->vm, conn)) {
			conn_end(receiver, c);
		}
	}
}

static int make_identity(const struct conn *conn, struct identity *identity)
{
	*identity = (struct identity){
		.name = strdup(kvmstats_peer_name(conn->peer)),
		.uuid = strdup(kvmstats_peer_uuid(conn->peer)),
		.pid = conn->pid, .start_ticks = conn->start_ticks,
		.uid = conn->uid, .gid = kvmstats_peer_gid(conn->peer),
		.on_behalf = conn->on_behalf,
	};
	if (identity->name && identity->uuid)
		return 0;
	identity_free(identity);
	return -ENOMEM;
}

int conn_introduce(struct receiver *receiver, struct conn *conn)
{
	struct identity identity;

	conn->introduced = true;
	conn->on_behalf = kvmstats_peer_is_on_behalf(conn->peer);
	conn->pid = kvmstats_peer_vm_pid(conn->peer);
	conn->start_ticks = kvmstats_peer_start_ticks(conn->peer);
	if (conn_watch_pidfd(receiver, conn, kvmstats_peer_pidfd(conn->peer)))
		return REJECT_VMS;
	settle(receiver, conn);
	if (conn->shadowed)
		return -1;
	if (receiver->registry->count >= receiver->settings->max_vms)
		return REJECT_VMS;
	if (make_identity(conn, &identity) ||
	    registry_add(receiver->registry, &identity, NULL, &conn->vm))
		return REJECT_VMS;
	store_enter(conn->vm, conn->pidfd.fd);
	return -1;
}
