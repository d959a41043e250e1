// SPDX-License-Identifier: GPL-2.0-only
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../common/log.h"
#include "registrations.h"
#include "sources.h"
#include "store.h"

#define MAX_BOXES	256

/*
 * A box that is made anew costs systemd a comparison with each box that it has. So
 * when many VMs end, boxes are made anew at this interval, after a number at once,
 * and all within 6.4 s.
 */
#define RENEWAL_NS	25000000
#define MAX_RENEWALS	16

struct box {
	int fd;			/* -1: there is none */
	unsigned int generation;	/* of its name, which is new each time */
	struct vm **vms;
	size_t count, room;
	/* It still has VMs that have ended, whose sources are closed after it, or others. */
	bool stale;
	struct kvmstats_source **ended;
	size_t num_ended;
};

static struct {
	bool open;
	struct box boxes[MAX_BOXES];
	unsigned int next;	/* box to make anew */
	uint64_t renewed_ns;	/* renewals up to then are accounted for */
} store;

static struct log_limit limit = LOG_LIMIT(20);

/* --------------------------------------------------------------- closing */

struct closing {
	bool stored;		/* systemd has been told to forget them */
	size_t count;
	struct kvmstats_source *sources[];
};

/* systemd's copies first, or closing them would tear the VM down there. */
static void run_closing(void *argument)
{
	struct closing *closing = argument;

	if (closing->stored)
		store_wait();
	for (size_t i = 0; i < closing->count; i++)
		kvmstats_source_close(closing->sources[i]);
	free(closing);
}

void close_sources(struct kvmstats_source **sources, size_t count, bool stored)
{
	struct closing *closing;

	if (!count)
		return;
	closing = malloc(sizeof(*closing) + count * sizeof(*sources));
	if (closing) {
		closing->stored = stored;
		closing->count = count;
		memcpy(closing->sources, sources, count * sizeof(*sources));
		if (!kvmstats_close_call(KVMSTATS_CLOSE_VM, run_closing,
					 closing))
			return;
		free(closing);
	}
	for (size_t i = 0; i < count; i++)
		kvmstats_source_close(sources[i]);
}

void close_wait(void)
{
	kvmstats_close_wait(KVMSTATS_CLOSE_VM);
}

/* ------------------------------------------------------------- messages */

/*
 * "SERIAL PID START-TICKS START-MS UID GID ON-BEHALF HAS-PIDFD<tab>KEY<tab>NAME
 * <tab>UUID". Every message of a VM says it all; the first one's first descriptor
 * is the pidfd. The texts have no control characters.
 */
static int make_label(char label[FD_BOX_MAX_LABEL], const struct vm *vm,
		      bool with_pidfd)
{
	const struct identity *identity = &vm->identity;
	int length = snprintf(label, FD_BOX_MAX_LABEL,
			      "%ju %d %ju %ju %u %u %d %d\t%s\t%s\t%s",
			      (uintmax_t)vm->serial, identity->pid,
			      (uintmax_t)identity->start_ticks,
			      (uintmax_t)identity->start_ms, identity->uid,
			      identity->gid, identity->on_behalf, with_pidfd,
			      vm->key, identity->name, identity->uuid);

	return length < FD_BOX_MAX_LABEL ? 0 : -EMSGSIZE;
}

/* What a label says. The texts stay where they are, in @label. */
struct stored {
	struct identity identity;
	uint64_t serial;
	bool has_pidfd;
	char *key;
};

static bool parse_label(char *label, struct stored *stored)
{
	struct identity *identity = &stored->identity;
	unsigned int on_behalf, has_pidfd;
	uintmax_t serial, start_ticks, start_ms;

	if (sscanf(strsep(&label, "\t"), "%ju %d %ju %ju %u %u %u %u", &serial,
		   &identity->pid, &start_ticks, &start_ms, &identity->uid,
		   &identity->gid, &on_behalf, &has_pidfd) != 8)
		return false;
	stored->serial = serial;
	stored->has_pidfd = has_pidfd;
	identity->start_ticks = start_ticks;
	identity->start_ms = start_ms;
	identity->on_behalf = on_behalf;
	stored->key = strsep(&label, "\t");
	identity->name = strsep(&label, "\t");
	identity->uuid = strsep(&label, "\t");
	return identity->uuid && !label;
}

/* ---------------------------------------------------------------- boxes */

static void name_box(char name[32], const struct box *box)
{
	snprintf(name, 32, "vms-%td-%u", box - store.boxes, box->generation);
}

static int put(int fd, const struct vm *vm, bool with_pidfd, int *fds,
	       size_t count)
{
	char label[FD_BOX_MAX_LABEL];
	int ret = make_label(label, vm, with_pidfd);

	return ret ? ret : fd_box_put(fd, label, fds, count);
}

/* The entries' sources, that of all vCPUs, and what waits for room. */
static const struct kvmstats_source *source_at(const struct vm *vm, size_t i)
{
	if (i < vm->count)
		return vm->entries[i].source;
	return i == vm->count ? vm->vcpus : vm->waiting->sources[i - vm->count - 1];
}

/*
 * All that the registry has of @vm. Under its lock: a scrape may drop a source,
 * and another thread close it.
 */
static int put_vm(int fd, struct registry *registry, const struct vm *vm)
{
	int fds[FD_BOX_MAX_FDS];
	bool with_pidfd = true;
	size_t count = 0, end;
	int ret = 0;

	fds[count++] = vm->pidfd;
	pthread_mutex_lock(&registry->lock);
	end = vm->count + 1 + (vm->waiting ? vm->waiting->count : 0);
	for (size_t i = 0; i < end && !ret; i++) {
		const struct kvmstats_source *source = source_at(vm, i);

		if (!source)
			continue;
		if (count == FD_BOX_MAX_FDS) {
			ret = put(fd, vm, with_pidfd, fds, count);
			with_pidfd = false;
			count = 0;
		}
		fds[count++] = kvmstats_source_fd(source);
	}
	if (!ret && count)
		ret = put(fd, vm, with_pidfd, fds, count);
	pthread_mutex_unlock(&registry->lock);
	return ret;
}

/* @fd takes the place of the box's; systemd has both in between. */
static void replace(struct box *box, int fd)
{
	char old[32], new[32];

	name_box(old, box);
	box->generation++;
	name_box(new, box);
	if (fd >= 0)
		supervisor_keep(new, fd);
	if (box->fd >= 0) {
		supervisor_drop(old);
		close(box->fd);
	}
	box->fd = fd;
}

static void take_out(struct vm *vm)
{
	struct box *box = vm->box;
	size_t i = 0;

	if (!box)
		return;
	while (box->vms[i] != vm)
		i++;
	box->vms[i] = box->vms[--box->count];
	vm->box = NULL;
}

static void not_kept(struct registry *registry, struct vm *vm, int error)
{
	take_out(vm);
	registry->counters.not_stored++;
	log_limited(&limit, LOG_LEVEL_WARNING,
		    "VM \"%s\" cannot be kept over a restart: %s", vm->key,
		    strerror(-error));
}

/* The box with what its VMs have now. */
static void make_anew(struct registry *registry, struct box *box)
{
	int fd = box->count ? fd_box_new() : -1;

	if (box->count && fd < 0) {
		log_limited(&limit, LOG_LEVEL_WARNING,
			    "the descriptors kept for a restart cannot be updated, which will be tried again: %s",
			    strerror(-fd));
		box->stale = true;	/* store_renew tries again */
		return;
	}
	for (size_t i = box->count; i-- > 0;) {
		int ret = put_vm(fd, registry, box->vms[i]);

		if (ret)
			not_kept(registry, box->vms[i], ret);
	}
	replace(box, fd);
	box->stale = false;
	close_sources(box->ended, box->num_ended, true);
	free(box->ended);
	box->ended = NULL;
	box->num_ended = 0;
}

static bool may_renew(void)
{
	uint64_t now_ns = clock_ns(), most_ns = MAX_RENEWALS * RENEWAL_NS;

	if (store.renewed_ns + most_ns < now_ns)
		store.renewed_ns = now_ns - most_ns;
	if (store.renewed_ns + RENEWAL_NS > now_ns)
		return false;
	store.renewed_ns += RENEWAL_NS;
	return true;
}

/* The one with the fewest VMs. */
static struct box *choose_box(void)
{
	struct box *best = store.boxes;

	for (size_t i = 1; i < MAX_BOXES && best->count; i++)
		if (store.boxes[i].count < best->count)
			best = &store.boxes[i];
	return best;
}

static int enter(struct box *box, struct vm *vm)
{
	if (box->count == box->room) {
		size_t room = box->room ? 2 * box->room : 4;
		struct vm **vms = realloc(box->vms, room * sizeof(*vms));

		if (!vms)
			return -ENOMEM;
		box->vms = vms;
		box->room = room;
	}
	box->vms[box->count++] = vm;
	vm->box = box;
	return 0;
}

/* The first message of a VM has its pidfd, too. */
static int put_sources(const struct vm *vm, bool is_new,
		       struct kvmstats_source *const *sources, size_t count)
{
	int fds[FD_BOX_MAX_FDS], ret = 0;
	size_t total = 0;

	if (is_new)
		fds[total++] = vm->pidfd;
	for (size_t i = 0; i < count && !ret; i++) {
		if (total == FD_BOX_MAX_FDS) {
			ret = put(vm->box->fd, vm, is_new, fds, total);
			is_new = false;
			total = 0;
		}
		fds[total++] = kvmstats_source_fd(sources[i]);
	}
	return ret ? ret : put(vm->box->fd, vm, is_new, fds, total);
}

static int open_box(struct box *box)
{
	int fd = box->fd < 0 ? fd_box_new() : 0;

	if (fd > 0)
		replace(box, fd);
	return fd < 0 ? fd : 0;
}

/* A box that is full of small messages has room when it is made anew. */
bool store_add(struct registry *registry, struct vm *vm,
	       struct kvmstats_source *const *sources, size_t count)
{
	bool is_new = !vm->box;
	int ret = 0;

	/* without a pidfd nobody would tell us of its end */
	if (!store.open || vm->pidfd < 0 || !count)
		return false;
	if (is_new)
		ret = enter(choose_box(), vm);
	if (!ret)
		ret = open_box(vm->box);
	if (!ret)
		ret = put_sources(vm, is_new, sources, count);
	if (ret && ret != -EAGAIN)
		not_kept(registry, vm, ret);
	return ret == -EAGAIN;
}

/* A VM may want it with each message: systemd is not told more often than at other times. */
void store_again(struct registry *registry, struct vm *vm)
{
	if (vm->box && may_renew())
		make_anew(registry, vm->box);
	else if (vm->box)
		vm->box->stale = true;
}

void store_forget(struct registry *registry, struct vm *vm,
		  struct kvmstats_source **sources, size_t count)
{
	struct box *box = vm->box;
	struct kvmstats_source **all;

	if (!box) {
		close_sources(sources, count, true);
		return;
	}
	take_out(vm);
	all = reallocarray(box->ended, box->num_ended + count + 1,
			   sizeof(*all));
	if (all) {
		for (size_t i = 0; i < count; i++)
			all[box->num_ended + i] = sources[i];
		box->ended = all;
		box->num_ended += count;
		box->stale = true;
	}
	if (!all || !box->count || may_renew())
		make_anew(registry, box);
	if (!all)
		close_sources(sources, count, true);
}

int store_renew(struct registry *registry, int otherwise_ms)
{
	if (!store.open)
		return otherwise_ms;
	for (int i = 0; i < MAX_BOXES; i++) {
		struct box *box = &store.boxes[store.next];

		if (box->stale) {
			if (!may_renew())
				return RENEWAL_NS / 1000000;
			make_anew(registry, box);
		}
		store.next = (store.next + 1) % MAX_BOXES;
	}
	return otherwise_ms;
}

void store_flush(struct registry *registry)
{
	for (int i = 0; i < MAX_BOXES && store.open; i++)
		if (store.boxes[i].stale)
			make_anew(registry, &store.boxes[i]);
}

void store_wait(void)
{
	if (store.open)
		supervisor_wait();
}

/* ------------------------------------------------------------- restarting */

struct restore {
	struct receiver *receiver;
	struct box *box;
	bool dirty;		/* something of it is not ours any more */
};

static bool is_alive(int pidfd)
{
	struct pollfd poll_fd = { .fd = pidfd, .events = POLLIN };

	return poll(&poll_fd, 1, 0) == 0;
}

static struct vm *find(const struct box *box, uint64_t serial)
{
	for (size_t i = box->count; i-- > 0;)
		if (box->vms[i]->serial == serial)
			return box->vms[i];
	return NULL;
}

static struct vm *restore_vm(struct restore *restore, struct stored *stored,
			     int pidfd)
{
	struct identity identity = stored->identity;
	bool was_dirty = restore->dirty;
	struct vm *vm;

	restore->dirty = true;
	if (!is_alive(pidfd)) {
		close(pidfd);
		return NULL;
	}
	identity.name = strdup(identity.name);
	identity.uuid = strdup(identity.uuid);
	if (!identity.name || !identity.uuid) {
		identity_free(&identity);
		close(pidfd);
		return NULL;
	}
	vm = receiver_restore(restore->receiver, &identity, stored->key,
			      stored->serial, pidfd);
	if (vm && !enter(restore->box, vm))
		restore->dirty = was_dirty;
	return vm;
}

static void restore_source(struct restore *restore, struct vm *vm, int fd)
{
	struct receiver *receiver = restore->receiver;
	struct kvmstats_source *source;
	bool replaced;
	int ret = -ESRCH;

	if (vm)
		ret = kvmstats_source_open(fd, receiver->cache, &source);
	if (ret == -ENODEV)
		ret = kvmstats_vcpus_open(fd, receiver->cache, &source);
	if (!ret) {
		registry_add_sources(receiver->registry, vm, &source, 1,
				     receiver->settings, &replaced);
		return;
	}
	close(fd);
	restore->dirty = true;
}

static void restore_message(void *context, const char *text, const int *fds,
			    size_t count)
{
	struct restore *restore = context;
	struct stored stored = { 0 };
	char label[FD_BOX_MAX_LABEL];
	struct vm *vm = NULL;
	size_t first = 0;

	snprintf(label, sizeof(label), "%s", text);
	if (parse_label(label, &stored)) {
		if (!stored.has_pidfd)
			vm = find(restore->box, stored.serial);
		else if (count)
			vm = restore_vm(restore, &stored, fds[first++]);
	}
	for (; first < count; first++)
		restore_source(restore, vm, fds[first]);
}

/* The newest box of each place: between two messages systemd has both. */
static void take_boxes(struct inherited *inherited)
{
	int newest[MAX_BOXES];

	memset(newest, -1, sizeof(newest));
	for (int i = 0; i < inherited->count; i++) {
		unsigned int place, generation;
		struct box *box;

		if (inherited->fds[i] < 0 ||
		    sscanf(inherited->names[i], "vms-%u-%u", &place,
			   &generation) != 2 || place >= MAX_BOXES)
			continue;
		box = &store.boxes[place];
		if (newest[place] >= 0 && box->generation > generation)
			continue;
		newest[place] = i;
		box->generation = generation;
	}
	for (int place = 0; place < MAX_BOXES; place++) {
		if (newest[place] < 0)
			continue;
		store.boxes[place].fd = inherited->fds[newest[place]];
		inherited->fds[newest[place]] = -1;
	}
}

void store_open(struct receiver *receiver, struct inherited *inherited)
{
	for (int i = 0; i < MAX_BOXES; i++)
		store.boxes[i] = (struct box){ .fd = -1 };
	store.open = supervised();
	if (!store.open)
		return;
	take_boxes(inherited);
	for (int i = 0; i < MAX_BOXES; i++) {
		struct restore restore = { receiver, &store.boxes[i], false };
		int ret;

		if (store.boxes[i].fd < 0)
			continue;
		ret = fd_box_each(store.boxes[i].fd, restore_message, &restore);
		if (ret)
			log_error("VMs are lost: their kept descriptors cannot be read: %s",
				  strerror(-ret));
		if (restore.dirty || !store.boxes[i].count)
			make_anew(receiver->registry, &store.boxes[i]);
	}
	receiver_restored(receiver);
}

void store_close(void)
{
	for (int i = 0; i < MAX_BOXES && store.open; i++) {
		if (store.boxes[i].fd >= 0)
			close(store.boxes[i].fd);
		for (size_t j = 0; j < store.boxes[i].num_ended; j++)
			kvmstats_source_close(store.boxes[i].ended[j]);
		free(store.boxes[i].ended);
		free(store.boxes[i].vms);
	}
	store.open = false;
}
