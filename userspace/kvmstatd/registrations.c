// SPDX-License-Identifier: GPL-2.0-only
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "../common/log.h"
#include "registrations.h"
#include "sources.h"
#include "store.h"

#define EVENTS		64
#define SWEEP_NS	1000000000ull
#define SILENT_S	10	/* time to bring a first descriptor */
#define FLOOD_S		60	/* too many messages in this time come again at once */
/* HTTP, the store's boxes, one message on its way in, the program's own */
#define SPARE_FDS	768

static struct log_limit fd_limit = LOG_LIMIT(20), park_limit = LOG_LIMIT(5),
			vm_limit = LOG_LIMIT(1000);

/* -------------------------------------------------------------- accepting */

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

static size_t count_uid(const struct receiver *receiver, uid_t uid)
{
	size_t count = 0;

	for (const struct conn *conn = receiver->conns; conn; conn = conn->next)
		count += conn->uid == uid && !conn->ended;
	return count;
}

static enum reject check_peer(const struct receiver *receiver,
			      const struct conn *conn)
{
	const struct settings *settings = receiver->settings;
	bool helper = is_helper(settings, conn->uid);

	if (!may_register(settings, conn->peer))
		return REJECT_CREDENTIALS;
	if (helper)
		kvmstats_peer_allow_on_behalf(conn->peer);
	kvmstats_peer_allow_vcpus(conn->peer);
	if (receiver->count > settings->max_vms)
		return REJECT_VMS;
	/* found by a helper or started by root: no limit but that of all */
	if (!helper && count_uid(receiver, conn->uid) >
		       settings->max_vms_per_uid)
		return REJECT_VMS;
	return REJECT_NONE;
}

static void take_connection(struct receiver *receiver, struct kvmstats_peer *peer)
{
	struct conn *conn = conn_new(receiver, peer);
	enum reject reason;

	if (!conn) {
		kvmstats_peer_free(peer);
		return;
	}
	conn->uid = kvmstats_peer_uid(peer);
	conn->pid = kvmstats_peer_pid(peer);
	reason = check_peer(receiver, conn);
	if (reason) {
		conn_reject(receiver, conn, reason);
		return;
	}
	conn->socket.fd = kvmstats_peer_fd(peer);
	if (receiver_watch(receiver, &conn->socket))
		conn_end(receiver, conn, "");
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
	if (receiver->paused)
		return;
	log_limited(&park_limit, LOG_LEVEL_WARNING,
		    "no descriptors are left (raise LimitNOFILE= or ulimit -n): new registrations wait");
	receiver->paused = true;
	receiver_unwatch(receiver, &receiver->listen);
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
			take_connection(receiver, peer);
	}
	if (ret && ret != -EAGAIN && ret != -ECONNABORTED && ret != -EINTR)
		pause_listening(receiver);
}

/* --------------------------------------------------------------- messages */

static int watch_pidfd(struct receiver *receiver, struct conn *conn, int pidfd)
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

static bool has_hung_up(const struct conn *conn)
{
	struct pollfd poll_fd = { .fd = conn->socket.fd };

	return poll(&poll_fd, 1, 0) > 0 && poll_fd.revents & POLLHUP;
}

/*
 * Whoever comes again after our restart takes the place of what was stored, or of a
 * connection that it has closed: what it had sent there may not have been read yet. A
 * helper has one registration for a process, a VMM may have several.
 */
static void end_former(struct receiver *receiver, struct conn *conn)
{
	for (struct conn *c = receiver->conns; c; c = c->next) {
		if (!same_process(c, conn) || !c->vm || c->on_behalf != conn->on_behalf ||
		    !(same_vm(c->vm, conn) || (c->on_behalf && !c->peer)))
			continue;
		if (!c->peer)
			conn_end(receiver, c, "its VMM has connected again");
		else if (has_hung_up(c))
			conn_end(receiver, c, "the connection was closed");
	}
}

static void drop_helpers(struct receiver *receiver, struct conn *conn)
{
	for (struct conn *c = receiver->conns; c; c = c->next) {
		if (!same_process(c, conn) || !c->on_behalf)
			continue;
		conn_drop_vm(receiver, c, "its VMM registers it itself");
		c->shadowed = c->peer;
		if (!c->peer)
			conn_end(receiver, c, "");
	}
}

/*
 * Of what a VMM says and what a helper says of it, the former counts; of two
 * helpers, the first. But devices alone, which are all that many a VMM registers,
 * join what the helper found: returns whose partner the new VM is, or NULL.
 */
static struct vm *settle(struct receiver *receiver, struct conn *conn,
			 bool statistics)
{
	struct vm *partner = NULL;

	end_former(receiver, conn);
	if (!conn->on_behalf && statistics)
		drop_helpers(receiver, conn);
	for (struct conn *c = receiver->conns; c; c = c->next) {
		if (!same_process(c, conn) || !c->vm)
			continue;
		if (conn->on_behalf && (c->on_behalf || c->vm->statistics))
			conn->shadowed = true;
		else if (conn->on_behalf != c->on_behalf && !c->vm->partner &&
			 (!partner || same_vm(c->vm, conn)))
			partner = c->vm;
	}
	return partner;
}

/* What the first message says of the sender. */
static enum reject introduce(struct receiver *receiver, struct conn *conn)
{
	conn->introduced = true;
	conn->on_behalf = kvmstats_peer_is_on_behalf(conn->peer);
	conn->pid = kvmstats_peer_vm_pid(conn->peer);
	conn->start_ticks = kvmstats_peer_start_ticks(conn->peer);
	return watch_pidfd(receiver, conn, kvmstats_peer_pidfd(conn->peer)) ?
	       REJECT_RESOURCES : REJECT_NONE;
}

static enum reject reject_of(int error)
{
	switch (error) {
	case -ENOSPC:
		return REJECT_DESCRIPTORS;
	case -E2BIG:
		return REJECT_MESSAGES;
	case -EBUSY:
		return REJECT_CLOSING;
	case -EPERM:
	case -ESRCH:
		return REJECT_BEHALF;
	case -EMFILE:
	case -ENFILE:
	case -ENOMEM:
		return REJECT_RESOURCES;
	default:
		return REJECT_MALFORMED;
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
	identity->start_ms = identity_start_ms(identity);
	if (identity->name && identity->uuid)
		return 0;
	identity_free(identity);
	return -ENOMEM;
}

/* With its first descriptor: who brings none must not take a name. */
static enum reject enter_vm(struct receiver *receiver, struct conn *conn,
			    bool statistics)
{
	const struct settings *settings = receiver->settings;
	struct vm *partner = settle(receiver, conn, statistics);
	struct identity identity;

	if (conn->shadowed) {
		log_limited(&vm_limit, LOG_LEVEL_INFO,
			    "a helper's registration of process %d is not shown: its VMM, or another helper, has registered it",
			    conn->pid);
		return REJECT_NONE;
	}
	if (receiver->registry->count >= settings->max_vms)
		return REJECT_VMS;
	if (make_identity(conn, &identity) ||
	    registry_add(receiver->registry, &identity, partner ? partner->key : NULL,
			 &settings->filters, &conn->vm))
		return REJECT_RESOURCES;
	conn->vm->pidfd = conn->pidfd.fd;
	conn->vm_ended = false;
	log_limited(&vm_limit, LOG_LEVEL_INFO,
		    "VM \"%s\" is registered: process %d of user %u%s%s",
		    conn->vm->key, conn->pid, conn->uid,
		    conn->on_behalf ? ", by a helper" : "", !conn->vm->partner ? "" :
		    conn->on_behalf ? ", with the devices of its VMM" :
		    ", devices for what a helper has found");
	return REJECT_NONE;
}

static bool brings_statistics(struct kvmstats_source *const *sources, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (kvmstats_source_scope(sources[i]) != KVMSTATS_SCOPE_DEVICE)
			return true;
	return false;
}

/* Owns the sources. */
static enum reject take_message(struct receiver *receiver, struct conn *conn,
				struct kvmstats_source **sources, size_t count)
{
	const struct settings *settings = receiver->settings;
	struct registry *registry = receiver->registry;
	enum reject reason = REJECT_NONE;
	bool changed, again, statistics = brings_statistics(sources, count);
	int ret;

	conn_check_vm_end(receiver, conn);
	if (++conn->messages > settings->max_messages)
		reason = REJECT_MESSAGES;
	else if (!conn->introduced)
		reason = introduce(receiver, conn);
	if (!reason && count && !conn->vm && !conn->shadowed)
		reason = enter_vm(receiver, conn, statistics);
	else if (!reason && conn->vm && statistics && !conn->on_behalf &&
		 !conn->vm->statistics)
		drop_helpers(receiver, conn);
	if (reason || !conn->vm) {
		close_sources(sources, count, false);
		return reason;
	}
	ret = vcpus_drop_single(registry, conn->vm, sources, count, settings);
	if (ret < 0)
		return reject_of(ret);
	count = ret;
	conn_watch_stats(receiver, conn, sources, count);
	/* before they are the registry's: a scrape may drop what it cannot read */
	again = store_add(registry, conn->vm, sources, count);
	ret = registry_add_sources(registry, conn->vm, sources, count, settings,
				   &changed);
	if (ret)
		return reject_of(ret);
	if (changed || again)
		store_again(registry, conn->vm);
	return REJECT_NONE;
}

/* What it sends stays in the socket until something else ends. */
static void park(struct receiver *receiver, struct conn *conn)
{
	receiver_unwatch(receiver, &conn->socket);
	conn->parked = true;
	receiver->registry->counters.parked++;
	if (conn->park_logged)
		return;
	conn->park_logged = true;
	log_limited(&park_limit, LOG_LEVEL_WARNING,
		    "no descriptors are left (raise LimitNOFILE= or ulimit -n): the VM of process %d of user %u waits",
		    conn->pid, conn->uid);
}

/* Nothing of a refused one is kept; after as many messages as another may send, or read. */
static void ignore_message(struct receiver *receiver, struct conn *conn,
			   struct kvmstats_source **sources, int count)
{
	if (count > 0)
		close_sources(sources, count, false);
	if (++conn->messages <= receiver->settings->max_messages)
		return;
	receiver_unwatch(receiver, &conn->socket);
	conn->deaf = true;
	if (receiver_watch(receiver, &conn->socket))
		conn_end(receiver, conn, "");
}

static bool is_flood(const struct conn *conn)
{
	return clock_ns() - conn->since_ns < FLOOD_S * 1000000000ull;
}

static void reject(struct receiver *receiver, struct conn *conn, enum reject reason)
{
	/*
	 * Whoever would come again with the same. Messages that a VM has sent in the course
	 * of weeks are not: in its next connection it has room for as many.
	 */
	if (conn->vm && (reason == REJECT_DESCRIPTORS ||
			 (reason == REJECT_MESSAGES && is_flood(conn))))
		conn_refuse(receiver, conn, reason);
	else
		conn_reject(receiver, conn, reason);
}

/* One message a turn: who sends many waits as long as who sends few. */
static void receive_one(struct receiver *receiver, struct conn *conn)
{
	struct kvmstats_source *sources[KVMSTATS_MAX_MESSAGE_FDS];
	unsigned int rejected;
	enum reject reason;
	int count;

	if (conn->deaf) {
		conn_end(receiver, conn, "");
		return;
	}
	count = kvmstats_peer_pending(conn->peer);
	if (count > 0 && fds_in_use(receiver) + count > receiver->fd_budget) {
		park(receiver, conn);
		return;
	}
	count = kvmstats_peer_receive(conn->peer, receiver->cache, sources,
				      &rejected);
	receiver->registry->counters.fds_rejected += rejected;
	if (count == -EAGAIN)
		return;
	if (count == -EPIPE) {
		conn_end(receiver, conn, "the connection was closed");
		return;
	}
	if (conn->refused) {
		ignore_message(receiver, conn, sources, count);
		return;
	}
	if (rejected)
		log_limited(&fd_limit, LOG_LEVEL_WARNING,
			    "%u of the descriptors that process %d of user %u sent are not statistics descriptors, and were closed",
			    rejected, conn->pid, conn->uid);
	reason = count < 0 ? reject_of(count) :
		 take_message(receiver, conn, sources, count);
	if (reason)
		reject(receiver, conn, reason);
}

/* ------------------------------------------------------------------ turns */

/* As many as we may, for each vCPU one, but for what is kept for CPU time. */
static size_t fd_budget(void)
{
	int64_t limit = kvmstats_raise_fd_limit();
	size_t budget;

	if (limit < 0)
		return SPARE_FDS;
	budget = limit > 2 * SPARE_FDS ? limit - SPARE_FDS : limit / 2;
	return budget - cpu_reserve_fds(budget);
}

int receiver_open(struct receiver *receiver, struct registry *registry,
		  const struct settings *settings, int listen_fd)
{
	int ret;

	memset(receiver, 0, sizeof(*receiver));
	receiver->settings = settings;
	receiver->registry = registry;
	receiver->listen = (struct watch){ WATCH_LISTEN, listen_fd, NULL };
	receiver->fd_budget = fd_budget();
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
		conn_end(receiver, conn, "");
	}
	receiver_free_ended(receiver);
	kvmstats_cache_free(receiver->cache);
	close(receiver->epoll_fd);
}

struct vm *receiver_restore(struct receiver *receiver,
			    struct identity *identity, const char *key,
			    uint64_t serial, int pidfd)
{
	struct registry *registry = receiver->registry;
	struct conn *conn = conn_new(receiver, NULL);

	if (!conn) {
		identity_free(identity);
		close(pidfd);
		return NULL;
	}
	conn->introduced = true;
	conn->uid = identity->uid;
	conn->pid = identity->pid;
	conn->start_ticks = identity->start_ticks;
	conn->on_behalf = identity->on_behalf;
	watch_pidfd(receiver, conn, pidfd);
	/* the number by which the store knows it */
	if (serial >= registry->next_serial)
		registry->next_serial = serial;
	if (registry_add(registry, identity, key, &receiver->settings->filters,
			 &conn->vm)) {
		conn_end(receiver, conn, "");
		return NULL;
	}
	conn->vm->serial = serial;
	conn->vm->pidfd = pidfd;
	return conn->vm;
}

void receiver_restored(struct receiver *receiver)
{
	for (struct conn *conn = receiver->conns; conn; conn = conn->next)
		if (conn->vm && !conn->on_behalf && conn->vm->partner &&
		    conn->vm->statistics)
			drop_helpers(receiver, conn);
}

/* True for the signals' descriptor, which is not ours. */
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
		conn_end(receiver, watch->conn, "its process has ended");
		return false;
	case WATCH_STATS:
		conn_check_vm_end(receiver, watch->conn);
		return false;
	default:
		return true;
	}
}

/* A connection that brings nothing takes a place from others. */
static void end_silent(struct receiver *receiver, uint64_t now_ns)
{
	for (struct conn *conn = receiver->conns; conn; conn = conn->next)
		if (!conn->vm && !conn->vm_ended && !conn->shadowed &&
		    !conn->refused && !conn->parked && !conn->ended &&
		    now_ns - conn->since_ns > SILENT_S * 1000000000ull)
			conn_reject(receiver, conn, REJECT_SILENT);
}

/* What waits for descriptors is looked at again. */
static void resume(struct receiver *receiver)
{
	if (receiver->paused) {
		receiver->paused = false;
		receiver_watch(receiver, &receiver->listen);
	}
	if (!receiver->registry->counters.parked)
		return;
	for (struct conn *conn = receiver->conns; conn; conn = conn->next) {
		if (!conn->parked)
			continue;
		conn_unpark(receiver, conn);
		if (receiver_watch(receiver, &conn->socket))
			conn_end(receiver, conn, "");
	}
}

static void sweep(struct receiver *receiver)
{
	uint64_t now_ns = clock_ns();
	bool due = now_ns - receiver->swept_ns >= SWEEP_NS;

	receiver->registry->counters.heartbeat_ns = now_ns;
	/* before those that wait are no longer known to wait */
	if (due)
		end_silent(receiver, now_ns);
	if (receiver->try_again || due)
		resume(receiver);
	receiver->try_again = false;
	if (!due)
		return;
	receiver->swept_ns = now_ns;
	vcpus_add_seen(receiver->registry, receiver->settings);
	registry_try_waiting(receiver->registry, receiver->settings);
}

bool receiver_turn(struct receiver *receiver, int timeout_ms)
{
	struct epoll_event events[EVENTS];
	bool signalled = false;
	int count = epoll_wait(receiver->epoll_fd, events, EVENTS, timeout_ms);

	for (int i = 0; i < count; i++)
		signalled |= handle(receiver, events[i].data.ptr);
	sweep(receiver);
	receiver_free_ended(receiver);
	return signalled;
}
