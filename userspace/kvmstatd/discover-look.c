// SPDX-License-Identifier: GPL-2.0-only
/* One look at one process; in the worker, as any part of it may block. */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "../lib/internal.h"
#include "discover.h"

#define LINK_BYTES 64

/* KVM's number of the vCPU, -1 for a VM; -2 if it is neither's. */
static int vcpu_of(int stats_fd)
{
	char path[32], link[LINK_BYTES];
	ssize_t length;
	int vcpu;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", stats_fd);
	length = readlink(path, link, sizeof(link) - 1);
	if (length < 0)
		return -2;
	link[length] = 0;
	return scope_from_link(link, &vcpu) ? -2 : vcpu;
}

/* A process may hold several descriptors of one vCPU. */
static void keep(struct look *look, int stats_fd)
{
	int vcpu = vcpu_of(stats_fd);
	bool wanted = vcpu > -2;

	for (size_t i = 0; i < look->count && wanted; i++)
		wanted = look->vcpus[i] != vcpu;
	if (!wanted) {
		close(stats_fd);
		return;
	}
	look->vcpus[look->count] = vcpu;
	look->stats[look->count++] = stats_fd;
}

/*
 * The VM's and the vCPUs' own descriptors are complete where the kernel takes
 * KVM_GET_STATS_FD from any process (5.10 with the series). Mainline says EIO
 * to all but the VMM.
 */
static void make_stats(struct look *look, const struct kvm_fds *fds)
{
	struct answer *answer = &look->answer;

	for (size_t i = 0; i < fds->machine_count; i++) {
		int stats_fd = ioctl(fds->machines[i], UAPI_GET_STATS_FD, NULL);

		if (stats_fd >= 0)
			keep(look, stats_fd);
		else
			answer->error = -errno;
	}
}

static void hold_stats(struct look *look, struct kvm_fds *fds)
{
	while (fds->stats_count)
		keep(look, fds->stats[--fds->stats_count]);
}

static enum outcome collect(struct look *look, struct kvm_fds *fds)
{
	size_t room = fds->machine_count + fds->stats_count;

	if (fds->error == -EPERM || fds->error == -EACCES)
		return FOUND_DENIED;
	if (!room)
		return FOUND_NOTHING;
	look->stats = calloc(room, sizeof(int));
	look->vcpus = calloc(room, sizeof(int));
	if (!look->stats || !look->vcpus)
		return FOUND_FAILED;
	make_stats(look, fds);
	if (!look->count)
		hold_stats(look, fds);
	return look->count ? FOUND_VM : FOUND_NO_STATS;
}

static enum outcome search(const struct inquiry *inquiry, struct look *look)
{
	struct answer *answer = &look->answer;
	struct kvm_fds fds = {
		.pidfd = look->pidfd, .pid = inquiry->pid,
		.known = inquiry->known,
	};
	int ret = kvm_fds_take(&fds, inquiry->mark);
	enum outcome outcome;

	answer->mark = fds.mark;
	answer->ambiguous = fds.vms > 1;
	answer->error = ret ? ret : fds.error;
	if (ret == -ENOMEM || ret == -EMFILE || ret == -ENFILE)
		outcome = FOUND_FAILED;
	else if (ret == -EPERM)
		outcome = FOUND_DENIED;
	else if (!fds.vms && !fds.vcpus)
		outcome = FOUND_NOTHING;
	else if (inquiry->known && fds.mark == inquiry->mark)
		outcome = FOUND_SAME;
	else
		outcome = collect(look, &fds);
	kvm_fds_close(&fds);
	return outcome;
}

/* As long as it has not ended, its number is no other's. */
static bool has_ended(int pidfd)
{
	struct pollfd poll_fd = { .fd = pidfd, .events = POLLIN };

	return poll(&poll_fd, 1, 0) != 0;
}

static void describe(const struct inquiry *inquiry, struct answer *answer)
{
	char number[16];

	kvmstats_process_names(inquiry->pid, answer->name, answer->uuid);
	if (!*answer->name)
		snprintf(answer->name, sizeof(answer->name), "pid-%d",
			 inquiry->pid);
	snprintf(number, sizeof(number), "%d", inquiry->pid);
	answer->start_ticks = process_start_ticks(number);
}

void look_at_process(const struct inquiry *inquiry, struct look *look)
{
	struct answer *answer = &look->answer;

	memset(look, 0, sizeof(*look));
	look->pidfd = syscall(SYS_pidfd_open, inquiry->pid, 0);
	if (look->pidfd < 0)
		return;
	answer->outcome = search(inquiry, look);
	if (answer->outcome == FOUND_VM)
		describe(inquiry, answer);
	if (has_ended(look->pidfd))
		answer->outcome = FOUND_NOTHING;
	if (answer->outcome != FOUND_VM)
		look_end(look);
}

void look_end(struct look *look)
{
	for (size_t i = 0; i < look->count; i++)
		close(look->stats[i]);
	free(look->stats);
	free(look->vcpus);
	if (look->pidfd >= 0)
		close(look->pidfd);
	look->stats = NULL;
	look->vcpus = NULL;
	look->count = 0;
	look->pidfd = -1;
}
