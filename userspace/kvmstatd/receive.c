// SPDX-License-Identifier: GPL-2.0-only
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <unistd.h>

#include "receive.h"

#define EVENTS		64
#define SWEEP_NS	1000000000ull
#define SILENT_NS	10000000000ull	/* time to say who one is */
/* HTTP, one message's descriptors on their way in, the program's own */
#define SPARE_FDS	512

int receiver_watch(struct receiver *receiver, struct watch *watch)
{
	struct epoll_event event = { .events = EPOLLIN, .data.ptr = watch };

	if (epoll_ctl(receiver->epoll_fd, EPOLL_CTL_ADD, watch->fd, &event) < 0)
		return -errno;
	return 0;
}

/* As many as we may: a VM has a descriptor for each vCPU, and two more. */
static size_t raise_fd_limit(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
		return SPARE_FDS;
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_NOFILE, &limit);
	getrlimit(RLIMIT_NOFILE, &limit);
	return limit.rlim_cur > 2 * SPARE_FDS ? limit.rlim_cur - SPARE_FDS :
	       limit.rlim_cur / 2;
}

int receiver_open(struct receiver *receiver, struct registry *registry,
		  const struct settings *settings, int listen_fd)
{
	int ret;

	memset(receiver, 0, sizeof(*receiver));
	receiver->settings = settings;
	receiver->registry = registry;
	receiver->listen = (struct watch){ WATCH_LISTEN, listen_fd, NULL };
	receiver->fd_budget = raise_fd_limit();
	receiver->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (receiver->epoll_fd < 0)
		return -errno;
	ret = kvmstats_cache_new(&receiver->cache);
	if (!ret && listen_fd >= 0)
		ret = receiver_watch(receiver, &receiver->listen);
	return ret;
}

void receiver_close(struct receiver *receiver)
{
	for (struct conn *conn = receiver->conns; conn; conn = conn->next) {
		vm_unref(conn->vm);
		conn->vm = NULL;
		conn->introduced = false;
		conn_end(receiver, conn);
	}
	conn_free_ended(receiver);
	kvmstats_cache_free(receiver->cache);
	close(receiver->epoll_fd);
}

static void reject(struct receiver *receiver, struct conn *conn,
		   enum reject reason)
{
	receiver->registry->counters.rejected[reason]++;
	conn_end(receiver, conn);
}

static bool is_helper(const struct settings *settings, uid_t uid)
{
	return !uid || uid == geteuid() || id_list_has(&settings->helpers, uid);
}

static bool may_register(const struct settings *settings,
			 const struct kvmstats_peer *peer)
{
	uid_t uid = kvmstats_peer_uid(peer);

	return is_helper(settings, uid) || id_list_has(&settings->uids, uid) ||
	       id_list_has(&settings->gids, kvmstats_peer_gid(peer));
}

/* A reason to hang up, or -1. */
static int judge_peer(const struct receiver *receiver, const struct conn *conn)
{
	const struct settings *settings = receiver->settings;
	bool helper = is_helper(settings, conn->uid);

	if (!may_register(settings, conn->peer))
		return REJECT_CREDENTIALS;
	if (helper)
		kvmstats_peer_allow_on_behalf(conn->peer);
	if (receiver->count > settings->max_vms)
		return REJECT_VMS;
	/* found by a helper or started by root: no limit but that of all */
	if (!helper && conn_count_uid(receiver, conn->uid) >
		       settings->max_vms_per_uid)
		return REJECT_VMS;
	return -1;
}

static void welcome(struct receiver *receiver, struct kvmstats_peer *peer)
{
	struct conn *conn = conn_new(receiver, peer);
	int reason;

	if (!conn) {
		kvmstats_peer_free(peer);
		return;
	}
	conn->uid = kvmstats_peer_uid(peer);
	conn->pid = kvmstats_peer_pid(peer);
	reason = judge_peer(receiver, conn);
	if (reason >= 0) {
		reject(receiver, conn, reason);
		return;
	}
	conn->socket.fd = kvmstats_peer_fd(peer);
	if (receiver_watch(receiver, &conn->socket))
		conn_end(receiver, conn);
}

static size_t fds_in_use(const struct receiver *receiver)
{
	return receiver->registry->fds + 2 * receiver->count;
}

/*
 * Without a descriptor for one more the connection stays in the queue, and
 * epoll would report it for ever: look away until something ends.
 */
static void pause_listening(struct receiver *receiver)
{
	struct watch *listen = &receiver->listen;

	if (receiver->paused)
		return;
	receiver->paused = true;
	epoll_ctl(receiver->epoll_fd, EPOLL_CTL_DEL, listen->fd, NULL);
}

static void accept_some(struct receiver *receiver)
{
	struct kvmstats_peer *peer;
	int ret = 0;

	for (int i = 0; i < EVENTS && !ret; i++) {
		if (fds_in_use(receiver) + 2 >= receiver->fd_budget) {
			pause_listening(receiver);
			return;
		}
		ret = kvmstats_peer_accept(receiver->listen.fd, &peer);
		if (!ret)
			welcome(receiver, peer);
	}
	if (ret && ret != -EAGAIN && ret != -ECONNABORTED && ret != -EINTR)
		pause_listening(receiver);
}

static enum reject reject_of(int error)
{
	switch (error) {
	case -E2BIG:
	case -EBUSY:
		return REJECT_DESCRIPTORS;
	case -EPERM:
	case -ESRCH:
		return REJECT_BEHALF;
	default:
		return REJECT_MALFORMED;
	}
}

/* A reason to end it, or -1. Owns the sources. */
static int take_message(struct receiver *receiver, struct conn *conn,
			struct kvmstats_source **sources, size_t count)
{
	const struct settings *settings = receiver->settings;
	struct registry *registry = receiver->registry;
	uint64_t replaced = registry->counters.fds_replaced;
	int reason = -1;

	if (++conn->messages > settings->max_messages)
		reason = REJECT_MESSAGES;
	else if (!conn->introduced)
		reason = conn_introduce(receiver, conn);
	if (reason < 0 && fds_in_use(receiver) + count > receiver->fd_budget)
		reason = REJECT_DESCRIPTORS;
	if (reason >= 0 || !conn->vm) {
		reap(sources, count, false);
		return reason;
	}
	store_add(conn->vm, sources, count);
	if (registry_add_sources(registry, conn->vm, sources, count, settings))
		return REJECT_DESCRIPTORS;
	if (registry->counters.fds_replaced != replaced)
		store_again(registry, conn->vm);
	return -1;
}

/* One message a turn: who sends many waits as long as who sends few. */
static void receive_one(struct receiver *receiver, struct conn *conn)
{
	struct kvmstats_source *sources[KVMSTATS_MAX_MESSAGE_FDS];
	unsigned int rejected;
	int count, reason;

	count = kvmstats_peer_receive(conn->peer, receiver->cache, sources,
				      &rejected);
	receiver->registry->counters.fds_rejected += rejected;
	if (count == -EAGAIN)
		return;
	if (count == -EPIPE) {
		conn_end(receiver, conn);
		return;
	}
	reason = count < 0 ? (int)reject_of(count) :
		 take_message(receiver, conn, sources, count);
	if (reason >= 0)
		reject(receiver, conn, reason);
}

/* True for the signal's descriptor, which is not ours. */
static bool handle(struct receiver *receiver, const struct watch *watch)
{
	if (watch->conn && watch->conn->ended)
		return false;
	switch (watch->kind) {
	case WATCH_LISTEN:
		accept_some(receiver);
		return false;
	case WATCH_SOCKET:
		receive_one(receiver, watch->conn);
		return false;
	case WATCH_PIDFD:
		conn_end(receiver, watch->conn);
		return false;
	default:
		return true;
	}
}

/* Who connects and says nothing takes a place from others. */
static void end_silent(struct receiver *receiver, uint64_t now_ns)
{
	for (struct conn *conn = receiver->conns; conn; conn = conn->next)
		if (!conn->introduced && !conn->ended &&
		    now_ns - conn->since_ns > SILENT_NS)
			reject(receiver, conn, REJECT_SILENT);
}

static void listen_again(struct receiver *receiver)
{
	if (!receiver->paused)
		return;
	receiver->paused = false;
	receiver_watch(receiver, &receiver->listen);
}

static void sweep(struct receiver *receiver)
{
	uint64_t now_ns = clock_ns();

	receiver->registry->counters.heartbeat_ns = now_ns;
	if (receiver->try_again)
		listen_again(receiver);
	receiver->try_again = false;
	if (now_ns - receiver->swept_ns < SWEEP_NS)
		return;
	receiver->swept_ns = now_ns;
	listen_again(receiver);
	end_silent(receiver, now_ns);
}

bool receiver_turn(struct receiver *receiver, int timeout_ms)
{
	struct epoll_event events[EVENTS];
	bool signalled = false;
	int count = epoll_wait(receiver->epoll_fd, events, EVENTS, timeout_ms);

	for (int i = 0; i < count; i++)
		signalled |= handle(receiver, events[i].data.ptr);
	sweep(receiver);
	conn_free_ended(receiver);
	return signalled;
}
