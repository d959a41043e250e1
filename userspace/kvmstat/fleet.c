// SPDX-License-Identifier: GPL-2.0-only
/* The VMs that a request asks for: they come, are sampled, and go. */
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "vm.h"

#define END_WAIT_NS	5000000000ull
#define SCAN_NS		2000000000ull	/* to look at all processes is work */

enum slot { SLOT_LISTEN, SLOT_INPUT, SLOT_VMS };

static int append(struct fleet *fleet, struct vm *vm)
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

/* Takes over @pidfd, on failure too; NULL without memory. */
struct vm *fleet_new_vm(struct fleet *fleet, long pid, int pidfd,
			const char *name)
{
	struct vm *vm = vm_new(pid, pidfd, name);

	if (!vm) {
		if (pidfd >= 0)
			close(pidfd);
		return NULL;
	}
	return append(fleet, vm) ? NULL : vm;
}

static void event(struct fleet *fleet, const struct vm *vm, const char *name,
		  const char *reason)
{
	if (vm->peer || fleet_shows(fleet, vm))
		fleet->ops->event(fleet->context, vm, name, reason);
}

bool fleet_shows(const struct fleet *fleet, const struct vm *vm)
{
	const char *guest = fleet->request->guest;

	if (vm->ending || vm->gone || (!vm->peer && !vm->count))
		return false;
	return !guest || !strcmp(guest, vm_name(vm));
}

/*
 * Without a free descriptor number the connection stays in the queue, and
 * poll would return at once for ever: wait for the next sample then.
 */
static void accept_vms(struct fleet *fleet)
{
	struct vm *vm;
	int ret;

	while (!(ret = vm_accept(fleet->listen_fd, &vm))) {
		ret = append(fleet, vm);
		if (ret)
			break;
	}
	if (ret == -EAGAIN || ret == -ECONNABORTED || ret == -EINTR)
		return;
	if (!fleet->paused)
		fprintf(stderr, "kvmstat: accept: %s; trying again later\n",
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
	default:
		return strerror(-error);
	}
}

/*
 * A process that ends closes its socket a moment before its pidfd says so: its
 * VM is torn down in between. Wait a while to learn which of the two it was.
 */
static void end_vm(struct vm *vm, int error)
{
	if (error == -EPIPE && kvmstats_peer_pidfd(vm->peer) >= 0) {
		vm->ending = end_reason(error);
		vm->ending_until_ns = clock_ns() + END_WAIT_NS;
		vm_close_sources(vm);
	} else {
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
			 "%zu descriptors accepted, %u rejected",
			 vm->count - count, vm->rejected - rejected);
		event(fleet, vm, "sent", text);
	}
	if (fleet->request->include_past)
		vm_reset(vm, true);
	if (ret < 0)
		end_vm(vm, ret);
}

static void announce_gone(struct fleet *fleet, struct vm *vm)
{
	const char *reason = vm->gone;

	vm->gone = NULL;
	vm->ending = NULL;
	event(fleet, vm, "gone", reason);
}

static void remove_gone(struct fleet *fleet)
{
	size_t kept = 0, before = fleet->count;
	bool may_grow = fleet->listen_fd >= 0 || fleet->scanning;

	for (size_t i = 0; i < before; i++) {
		struct vm *vm = fleet->vms[i];

		if (!vm->gone) {
			fleet->vms[kept++] = vm;
			continue;
		}
		announce_gone(fleet, vm);
		vm_free(vm);
		fleet->paused = false;
	}
	fleet->count = kept;
	if (kept < before && !kept &&
	    (fleet->request->until_gone || !may_grow))
		fleet->done = true;
}

/* What it has by now. Its first descriptors are announced. */
static int look_into(struct fleet *fleet, struct vm *vm)
{
	size_t before = vm->count;
	char text[80];
	int ret = take_process(vm, fleet->cache);

	if (vm->count == before)
		return ret;
	if (fleet->request->include_past)
		vm_reset(vm, true);
	snprintf(text, sizeof(text), "%zu descriptors taken",
		 vm->count - before);
	event(fleet, vm, before ? "grown" : "found", text);
	return ret;
}

/* *vm is NULL if there is no such process, or no memory for it. */
int fleet_add_process(struct fleet *fleet, long pid, struct vm **vm)
{
	char name[KVMSTATS_NAME_MAX + 1];
	int pidfd = syscall(SYS_pidfd_open, (pid_t)pid, 0);

	*vm = NULL;
	if (pidfd < 0)
		return -errno;
	proc_guest(pid, name, sizeof(name));
	*vm = fleet_new_vm(fleet, pid, pidfd, name);
	return *vm ? look_into(fleet, *vm) : -ENOMEM;
}

static int note_kind(void *context, enum kvm_fd_kind kind, long fd)
{
	(void)fd;
	*(unsigned int *)context |= 1u << kind;
	return 0;
}

static bool is_known(const struct fleet *fleet, long pid)
{
	for (size_t i = 0; i < fleet->count; i++)
		if (!fleet->vms[i]->peer && fleet->vms[i]->pid == pid)
			return true;
	return false;
}

static bool name_fits(const struct fleet *fleet, long pid)
{
	char name[KVMSTATS_NAME_MAX + 1];

	if (!fleet->request->guest)
		return true;
	proc_guest(pid, name, sizeof(name));
	return !strcmp(name, fleet->request->guest);
}

/* Who has statistics only, and no VM, is a reader like we are. */
static int look_at(void *context, long pid)
{
	const unsigned int vmm = 1u << KVM_FD_VM | 1u << KVM_FD_VCPU;
	struct fleet *fleet = context;
	unsigned int kinds = 0;
	struct vm *vm;
	int ret;

	if (is_known(fleet, pid))
		return 0;
	ret = proc_kvm_fds(pid, note_kind, &kinds);
	if (ret == -EACCES || ret == -EPERM)
		fleet->hidden++;
	if (!(kinds & vmm) || !name_fits(fleet, pid))
		return 0;
	fleet_add_process(fleet, pid, &vm);
	return 0;
}

/* Known processes may have new vCPUs, and there may be new processes. */
void fleet_scan(struct fleet *fleet)
{
	for (size_t i = 0; i < fleet->count; i++)
		if (fleet->vms[i]->pidfd >= 0)
			look_into(fleet, fleet->vms[i]);
	fleet->hidden = 0;
	if (fleet->scanning)
		proc_all(look_at, fleet);
	fleet->next_scan_ns = clock_ns() + SCAN_NS;
}

/* Input and listening first, then two for each VM: socket and pidfd. */
static struct pollfd *make_poll(const struct fleet *fleet, size_t slots)
{
	struct pollfd *polls = calloc(slots, sizeof(*polls));

	if (!polls)
		return NULL;
	polls[SLOT_LISTEN].fd = fleet->paused ? -1 : fleet->listen_fd;
	polls[SLOT_INPUT].fd = fleet->input_fd;
	for (size_t i = 0; i < fleet->count; i++) {
		const struct vm *vm = fleet->vms[i];
		struct pollfd *poll = &polls[SLOT_VMS + 2 * i];

		poll[0].fd = vm->ending || !vm->peer ? -1 :
			     kvmstats_peer_fd(vm->peer);
		poll[1].fd = vm_pidfd(vm);
	}
	for (size_t i = 0; i < slots; i++)
		polls[i].events = POLLIN;
	return polls;
}

/* What a VM sent before its end is still received: the order matters. */
static void handle_polls(struct fleet *fleet, const struct pollfd *polls)
{
	size_t count = fleet->count;

	for (size_t i = 0; i < count; i++) {
		struct vm *vm = fleet->vms[i];
		const struct pollfd *poll = &polls[SLOT_VMS + 2 * i];

		if (poll[0].revents)
			receive(fleet, vm);
		if (poll[1].revents)
			vm->gone = "process ended";
	}
	if (polls[SLOT_LISTEN].revents)
		accept_vms(fleet);
	remove_gone(fleet);
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
	for (size_t i = 0; i < vm->count; i++)
		if (vm->watches[i].error)
			event(fleet, vm, "lost a descriptor",
			      strerror(-vm->watches[i].error));
	vm_drop_failed(vm);
	if (before && !vm->count && !vm->peer && vm->pidfd < 0)
		vm->gone = "no descriptor left";
}

void fleet_sample(struct fleet *fleet)
{
	if (clock_ns() >= fleet->next_scan_ns)
		fleet_scan(fleet);
	for (size_t i = 0; i < fleet->count; i++) {
		struct vm *vm = fleet->vms[i];

		if (!vm->ending)
			sample_vm(fleet, vm);
		else if (clock_ns() >= vm->ending_until_ns)
			vm->gone = vm->ending;
	}
	remove_gone(fleet);
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

	fleet_sample(fleet);
	any = shows_any(fleet);
	if (!fleet->ops->tick(fleet->context))
		fleet->done = true;
	if (any && fleet->samples_left && !--fleet->samples_left)
		fleet->done = true;
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

static int run_turn(struct fleet *fleet, uint64_t end_ns)
{
	uint64_t until_ns = fleet->deadline_ns < end_ns ? fleet->deadline_ns :
			    end_ns;
	int ret = wait_until(fleet, until_ns);

	if (!ret && !fleet->done && clock_ns() >= fleet->deadline_ns) {
		tick(fleet);
		next_deadline(fleet);
	}
	if (!ret && fleet->ops->turn)
		ret = fleet->ops->turn(fleet->context);
	if (clock_ns() >= end_ns)
		fleet->done = true;
	return ret;
}

/* Until a signal, the end of what was asked for, or -errno of waiting. */
int fleet_run(struct fleet *fleet)
{
	uint64_t end_ns = UINT64_MAX;
	int ret = 0;

	fleet->deadline_ns = clock_ns() + 1000000ull *
			     (fleet->first_ms ? fleet->first_ms :
			      fleet->interval_ms);
	if (fleet->request->duration_ms)
		end_ns = clock_ns() + fleet->request->duration_ms * 1000000ull;
	while (!fleet->done && !interrupted && !ret)
		ret = run_turn(fleet, end_ns);
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
