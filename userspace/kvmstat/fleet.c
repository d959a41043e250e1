// SPDX-License-Identifier: GPL-2.0-only
/* The VMs that a request asks for: they come, are sampled, and go. */
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vm.h"

#define END_WAIT_NS	5000000000ull
#define LEAST_NS	100000000ull	/* worth a last sample */
#define SOON_NS		200000000ull	/* at most, to wait with a scan */

enum slot { SLOT_LISTEN, SLOT_HANDOFF, SLOT_INPUT, SLOT_VMS };

int fleet_append(struct fleet *fleet, struct vm *vm)
{
	struct vm **vms = realloc(fleet->vms, (fleet->count + 1) *
				  sizeof(*vms));

	if (!vms) {
		vm_free(vm);
		return -ENOMEM;
	}
	fleet->vms = vms;
	vms[fleet->count++] = vm;
	return 0;
}

bool fleet_names(const struct fleet *fleet, const struct vm *vm)
{
	const char *guest = fleet->request->guest;

	return !guest || !strcmp(guest, vm_name(vm));
}

/* Not one that has connected and is about to say who it is: a tick is not its sample. */
bool fleet_shows(const struct fleet *fleet, const struct vm *vm)
{
	bool introduced = vm->count || (vm->peer && *kvmstats_peer_name(vm->peer));

	if (vm->ending || vm->gone || vm->removed || !introduced)
		return false;
	return fleet_names(fleet, vm);
}

void fleet_event(struct fleet *fleet, const struct vm *vm, const char *name,
		 const char *reason)
{
	if (fleet->ops->event && (vm->peer || fleet_names(fleet, vm)))
		fleet->ops->event(fleet->context, vm, name, reason);
}

/* A line on standard error, which nobody may be reading. */
void fleet_say(const struct fleet *fleet, const char *format, ...)
{
	char text[600], line[640];
	va_list args;
	int length;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	length = snprintf(line, sizeof(line), "kvmstat: %s\n", text);
	signals_write(&fleet->while_waiting, STDERR_FILENO, line, length);
}

/* The same of what happens to a VM. */
void fleet_say_event(const struct fleet *fleet, const struct vm *vm,
		     const char *event, const char *reason)
{
	size_t length;
	char *text;
	FILE *out = open_memstream(&text, &length);

	if (!out)
		return;
	text_event(out, vm, event, reason);
	fclose(out);
	signals_write(&fleet->while_waiting, STDERR_FILENO, text, length);
	free(text);
}

/* ---- the end of a VM */

/* What it did since the last sample: its descriptors can still tell. */
static void last_sample(struct fleet *fleet, struct vm *vm)
{
	if (!vm->count || !fleet_names(fleet, vm))
		return;
	vm_sample(vm);
	vm_drop_failed(vm);
	if (vm->count && fleet->ops->last) {
		fleet->shown++;
		fleet->ops->last(fleet->context, vm);
	}
}

void fleet_announce_gone(struct fleet *fleet, struct vm *vm)
{
	const char *reason = vm->gone;

	vm->gone = NULL;
	vm->ending = NULL;
	last_sample(fleet, vm);
	fleet_event(fleet, vm, "gone", reason);
}

/* None is freed until all are told of: to show one may take a look at others. */
void fleet_remove_gone(struct fleet *fleet)
{
	size_t kept = 0, before = fleet->count, alive = 0, lost = 0;
	bool may_grow = fleet->listen_fd >= 0 || fleet->scanning;

	for (size_t i = 0; i < before; i++) {
		struct vm *vm = fleet->vms[i];

		if (vm->gone) {
			fleet_announce_gone(fleet, vm);
			vm->removed = true;
			lost += vm->peer || fleet_names(fleet, vm);
		} else {
			alive += vm->peer ||
				 (vm->count && fleet_names(fleet, vm));
		}
	}
	for (size_t i = 0; i < before; i++) {
		struct vm *vm = fleet->vms[i];

		if (!vm->removed) {
			fleet->vms[kept++] = vm;
			continue;
		}
		vm_free(vm);
		fleet->paused = false;
	}
	fleet->count = kept;
	if (lost && !alive &&
	    (fleet->request->until_gone || !may_grow))
		fleet->done = true;
}

/* ---- VMs that register */

/*
 * Without a free descriptor number the connection stays in the queue, and
 * poll would return at once for ever: wait for the next sample then.
 */
static void accept_vms(struct fleet *fleet, int fd)
{
	struct vm *vm;
	int ret;

	do {
		ret = vm_accept(fd, &vm);
		if (!ret)
			ret = fleet_append(fleet, vm);
		fleet->preloaded |= ret == -ENOMSG;
	} while (!ret || ret == -ENOMSG || ret == -EBADMSG);
	fleet->in_queue = false;
	if (ret == -EAGAIN || ret == -ECONNABORTED || ret == -EINTR)
		return;
	if (ret == -EPIPE) {
		close(fleet->handoff_fd);
		fleet->handoff_fd = -1;
		return;
	}
	fleet->in_queue = true;
	if (!fleet->paused)
		fleet_say(fleet, "a VM could not be accepted: %s; trying again later",
			  strerror(-ret));
	fleet->paused = true;
}

static const char *end_reason(int error)
{
	switch (error) {
	case -EPIPE:
		return "connection closed";
	case -EBADMSG:
		return "malformed message";
	case -E2BIG:
		return "too many descriptors";
	case -EBUSY:
		return "too many descriptors wait to be closed";
	case -EMFILE:
		return "no room for its descriptors; raise the limit on open files (ulimit -n)";
	default:
		return strerror(-error);
	}
}

/*
 * A process that ends closes its socket a moment before its pidfd says so: its
 * VM is torn down in between. Wait a while to learn which of the two it was.
 */
static void end_vm(struct fleet *fleet, struct vm *vm, int error)
{
	last_sample(fleet, vm);
	/* the first message has the name, and may be the one that did not fit */
	fleet->no_room += error == -EMFILE &&
			  (!*kvmstats_peer_name(vm->peer) ||
			   fleet_names(fleet, vm));
	if (error == -EPIPE && kvmstats_peer_pidfd(vm->peer) >= 0) {
		vm->ending = end_reason(error);
		vm->ending_until_ns = clock_ns() + END_WAIT_NS;
		vm_close_sources(vm);
	} else {
		vm_close_sources(vm);
		vm->gone = end_reason(error);
	}
}

static void receive(struct fleet *fleet, struct vm *vm)
{
	size_t count = vm->count;
	unsigned int rejected = vm->rejected;
	char text[80];
	int ret = vm_receive(vm, fleet->cache);

	if (vm->count != count || vm->rejected != rejected) {
		snprintf(text, sizeof(text),
			 "%zu descriptor%s accepted, %u rejected",
			 vm->count - count, plural(vm->count - count),
			 vm->rejected - rejected);
		fleet_event(fleet, vm, "sent", text);
	}
	if (fleet->request->include_past)
		vm_reset(vm, true);
	if (ret < 0)
		end_vm(fleet, vm, ret);
}

/* ---- waiting and sampling */

/*
 * Input and listening first, then two for each VM. The pidfd is looked at before the
 * socket: if it tells of the end, the socket has all that was sent.
 */
static struct pollfd *make_poll(const struct fleet *fleet, size_t slots)
{
	struct pollfd *polls = calloc(slots, sizeof(*polls));

	if (!polls)
		return NULL;
	polls[SLOT_LISTEN].fd = fleet->paused ? -1 : fleet->listen_fd;
	polls[SLOT_HANDOFF].fd = fleet->paused ? -1 : fleet->handoff_fd;
	polls[SLOT_INPUT].fd = fleet->input_fd;
	for (size_t i = 0; i < fleet->count; i++) {
		const struct vm *vm = fleet->vms[i];
		struct pollfd *poll = &polls[SLOT_VMS + 2 * i];

		poll[0].fd = vm_pidfd(vm);
		poll[1].fd = vm->ending || !vm->peer ? -1 :
			     kvmstats_peer_fd(vm->peer);
	}
	for (size_t i = 0; i < slots; i++)
		polls[i].events = POLLIN;
	return polls;
}

/* What a VM sent before its end is received first, by one message a turn. */
static void handle_polls(struct fleet *fleet, const struct pollfd *polls)
{
	size_t count = fleet->count;

	for (size_t i = 0; i < count; i++) {
		struct vm *vm = fleet->vms[i];
		const struct pollfd *poll = &polls[SLOT_VMS + 2 * i];

		if (poll[1].revents)
			receive(fleet, vm);
		else if (poll[0].revents)
			vm->gone = "process ended";
	}
	if (polls[SLOT_LISTEN].revents)
		accept_vms(fleet, fleet->listen_fd);
	if (polls[SLOT_HANDOFF].revents)
		accept_vms(fleet, fleet->handoff_fd);
	fleet_remove_gone(fleet);
}

static int wait_until(struct fleet *fleet, uint64_t deadline_ns)
{
	size_t slots = SLOT_VMS + 2 * fleet->count;
	struct pollfd *polls = make_poll(fleet, slots);
	uint64_t now_ns = clock_ns();
	uint64_t left_ns = deadline_ns > now_ns ? deadline_ns - now_ns : 0;
	struct timespec left = {
		.tv_sec = left_ns / 1000000000, .tv_nsec = left_ns % 1000000000
	};
	bool input = fleet->input_fd >= 0;
	int ret = 0;

	if (!polls)
		return -ENOMEM;
	if (ppoll(polls, slots, &left, &fleet->while_waiting) < 0) {
		ret = errno == EINTR ? 0 : -errno;
	} else {
		input = input && polls[SLOT_INPUT].revents;
		/* a terminal that has gone would be readable for ever */
		if (polls[SLOT_INPUT].revents & (POLLHUP | POLLERR))
			fleet->done = true;
		handle_polls(fleet, polls);
	}
	free(polls);
	/* a signal can mean input: a new size of the window */
	if (input && !fleet->ops->input(fleet->context))
		fleet->done = true;
	return ret;
}

static void sample_vm(struct fleet *fleet, struct vm *vm)
{
	size_t before = vm->count;

	vm_sample(vm);
	if (fleet->wants_cpu)
		vm_sample_cpu(vm);
	for (size_t i = 0; i < vm->count; i++)
		if (vm->watches[i].error)
			fleet_event(fleet, vm, "lost a descriptor",
				    strerror(-vm->watches[i].error));
	vm_drop_failed(vm);
	if (before && !vm->count && !vm->peer && !vm->vmm)
		vm->gone = "no descriptor left";
}

static void sample_all(struct fleet *fleet)
{
	for (size_t i = 0; i < fleet->count; i++) {
		struct vm *vm = fleet->vms[i];

		if (!vm->ending)
			sample_vm(fleet, vm);
		else if (clock_ns() >= vm->ending_until_ns)
			vm->gone = vm->ending;
	}
	fleet->sampled_ns = clock_ns();
	fleet_remove_gone(fleet);
	fleet->paused = false;
}

static bool shows_any(const struct fleet *fleet)
{
	for (size_t i = 0; i < fleet->count; i++)
		if (fleet_shows(fleet, fleet->vms[i]))
			return true;
	return false;
}

static void tick(struct fleet *fleet)
{
	bool any;

	sample_all(fleet);
	any = shows_any(fleet);
	fleet->shown += any;
	if (!fleet->ops->tick(fleet->context))
		fleet->enough = true;
	if (any && fleet->samples_left && !--fleet->samples_left)
		fleet->enough = true;
	fleet->done |= fleet->enough;
}

/* Late by more than one interval: do not hurry to catch up. */
static void next_deadline(struct fleet *fleet)
{
	uint64_t interval_ns = fleet->interval_ms * 1000000ull;
	uint64_t now_ns = clock_ns();

	fleet->deadline_ns += interval_ns;
	if (fleet->deadline_ns <= now_ns)
		fleet->deadline_ns += (now_ns - fleet->deadline_ns) /
				      interval_ns * interval_ns + interval_ns;
}

static uint64_t earlier(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

/*
 * New VMs are looked for on a clock of its own, whatever the interval; but not
 * so shortly before a sample that theirs would be of no time at all.
 */
static uint64_t scan_due(const struct fleet *fleet)
{
	uint64_t soon_ns = earlier(fleet->interval_ms * 100000ull, SOON_NS);

	if (fleet->next_scan_ns < fleet->deadline_ns &&
	    fleet->next_scan_ns + soon_ns > fleet->deadline_ns)
		return fleet->deadline_ns;
	return fleet->next_scan_ns;
}

static int end_turn(struct fleet *fleet)
{
	return fleet->ops->turn ? fleet->ops->turn(fleet->context) : 0;
}

static int run_turn(struct fleet *fleet)
{
	uint64_t until_ns = earlier(earlier(fleet->deadline_ns, fleet->end_ns),
				    scan_due(fleet));
	int ret = wait_until(fleet, until_ns);

	if (!ret && !fleet->done && clock_ns() >= fleet->deadline_ns) {
		tick(fleet);
		next_deadline(fleet);
	}
	if (!ret && !fleet->done && clock_ns() >= scan_due(fleet))
		fleet_scan(fleet);
	if (!ret)
		ret = end_turn(fleet);
	if (clock_ns() >= fleet->end_ns)
		fleet->done = true;
	return ret;
}

void fleet_begin(struct fleet *fleet)
{
	unsigned long ms = fleet->request->duration_ms;

	if (fleet->end_ns)
		return;
	fleet->end_ns = ms ? clock_ns() + ms * 1000000ull : UINT64_MAX;
	signals_end_at(fleet->end_ns);
}

/* Until a signal, the end of what was asked for, or -errno of waiting. */
int fleet_run(struct fleet *fleet)
{
	uint64_t least_ns = earlier(fleet->interval_ms * 100000ull, LEAST_NS);
	int ret = 0;

	fleet->sampled_ns = clock_ns();
	fleet->deadline_ns = clock_ns() + 1000000ull *
			     (fleet->first_ms ? fleet->first_ms :
			      fleet->interval_ms);
	fleet_begin(fleet);
	while (!fleet->done && !interrupted && !ret)
		ret = run_turn(fleet);
	/* what happened since the last sample is not lost; a short run has one, too */
	if (!ret && fleet->ops->last && shows_any(fleet) &&
	    (!interrupted || fleet->sample_on_signal) &&
	    !fleet->enough &&
	    (clock_ns() - fleet->sampled_ns > least_ns ||
	     (!fleet->shown && !interrupted))) {
		tick(fleet);
		ret = end_turn(fleet);
	}
	return ret;
}

/* Has every VM's connection said something? A name that fits is enough. */
static bool has_first(const struct fleet *fleet)
{
	for (size_t i = 0; i < fleet->count; i++)
		if (fleet_shows(fleet, fleet->vms[i]) && fleet->vms[i]->count)
			return true;
	return false;
}

int fleet_await(struct fleet *fleet, unsigned long wait_ms)
{
	uint64_t end_ns = clock_ns() + wait_ms * 1000000ull;
	int ret = 0;

	while (!ret && !interrupted && !has_first(fleet) &&
	       clock_ns() < end_ns)
		ret = wait_until(fleet, end_ns);
	return ret;
}
