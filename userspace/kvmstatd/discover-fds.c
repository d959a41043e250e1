// SPDX-License-Identifier: GPL-2.0-only
/*
 * Copies of the KVM descriptors of a process, by pidfd_getfd.
 *
 * CAP_SYS_PTRACE allows to copy a descriptor, but not to list those of another
 * user's process: /proc/PID/fd is open to its owner only. There the memory map
 * (a vCPU's kvm_run is mapped) tells whether it has a VM at all, and then
 * each number is tried.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "../kvmstat/kvmstat.h"
#include "discover.h"

#ifndef SYS_pidfd_getfd
#define SYS_pidfd_getfd 438
#endif
#define NUMBERS_MAX 0x100000l	/* fs.nr_open, unless it was raised */

struct found {
	enum kvm_fd_kind kind;
	long number;		/* there */
	int fd;			/* here; -1: not copied yet */
};

struct search {
	struct kvm_fds *fds;
	struct found *found;
	size_t count, room;
	int self;		/* /proc/self/fd */
};

static int kind_of_own(const struct search *search, int fd)
{
	char number[16];

	snprintf(number, sizeof(number), "%d", fd);
	return proc_kvm_kind(search->self, number);
}

static int grow(struct search *search)
{
	size_t room = search->room ? 2 * search->room : 64;
	struct found *found;

	if (search->count < search->room)
		return 0;
	found = realloc(search->found, room * sizeof(*found));
	if (!found)
		return -ENOMEM;
	search->found = found;
	search->room = room;
	return 0;
}

static int add(struct search *search, enum kvm_fd_kind kind, long number,
	       int fd)
{
	struct kvm_fds *fds = search->fds;
	int ret = grow(search);

	if (ret)
		return ret;
	search->found[search->count++] = (struct found){ kind, number, fd };
	fds->vms += kind == KVM_FD_VM;
	fds->vcpus += kind == KVM_FD_VCPU;
	/* FNV-1a over kinds and numbers */
	fds->mark = (fds->mark ^ kind) * 0x100000001b3;
	fds->mark = (fds->mark ^ number) * 0x100000001b3;
	return 0;
}

static int add_listed(void *context, enum kvm_fd_kind kind, long number)
{
	return add(context, kind, number, -1);
}

static int copy_fd(const struct search *search, long number)
{
	int fd = syscall(SYS_pidfd_getfd, search->fds->pidfd, (int)number, 0);

	return fd < 0 ? -errno : fd;
}

static bool maps_a_vcpu(pid_t pid)
{
	char path[64], *line = NULL;
	bool found = false;
	size_t room = 0;
	FILE *maps;

	snprintf(path, sizeof(path), "/proc/%d/maps", pid);
	maps = fopen(path, "re");
	if (!maps)
		return false;
	while (!found && getline(&line, &room, maps) > 0)
		found = strstr(line, " anon_inode:kvm-vcpu:");
	free(line);
	fclose(maps);
	return found;
}

/* Not open there any more, or never: nothing. -EMFILE and such end it. */
static int try_number(struct search *search, long number)
{
	int fd = copy_fd(search, number);
	int kind, ret;

	if (fd < 0)
		return fd == -EBADF ? 0 : fd;
	kind = kind_of_own(search, fd);
	ret = kind < 0 ? 0 : add(search, kind, number, fd);
	if (kind < 0 || ret)
		close(fd);
	return ret;
}

/* From Linux 5.14 on this capability opens the list that fdinfo is. */
static int try_fdinfo(struct search *search)
{
	struct dirent *entry;
	char path[64];
	int ret = 0;
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%d/fdinfo", search->fds->pid);
	dir = opendir(path);
	if (!dir)
		return -errno;
	while (!ret && (entry = readdir(dir)))
		if (*entry->d_name != '.')
			ret = try_number(search, atol(entry->d_name));
	closedir(dir);
	return ret;
}

/* Places in the table of descriptors, used or not. */
static long table_size(pid_t pid)
{
	char path[64], line[128];
	long size = 0;
	FILE *status;

	snprintf(path, sizeof(path), "/proc/%d/status", pid);
	status = fopen(path, "re");
	if (!status)
		return 0;
	while (!size && fgets(line, sizeof(line), status))
		if (sscanf(line, "FDSize: %ld", &size) != 1)
			size = 0;
	fclose(status);
	return size < NUMBERS_MAX ? size : NUMBERS_MAX;
}

static int probe(struct search *search)
{
	int ret = try_fdinfo(search);
	long size;

	if (ret != -EACCES)
		return ret;
	size = table_size(search->fds->pid);
	ret = 0;
	for (long number = 0; number < size && !ret; number++)
		ret = try_number(search, number);
	return ret;
}

static int search_process(struct search *search)
{
	struct kvm_fds *fds = search->fds;
	int ret = proc_kvm_fds(fds->pid, add_listed, search);

	if (ret != -EACCES)
		return ret;
	if (!fds->known && !maps_a_vcpu(fds->pid))
		return 0;
	return probe(search);
}

/*
 * A number can have been given to another file since it was listed: what it is
 * now is looked at on the copy.
 */
static void sort_out(struct search *search, struct found *found)
{
	struct kvm_fds *fds = search->fds;
	int kind;

	if (found->fd < 0)
		found->fd = copy_fd(search, found->number);
	if (found->fd < 0) {
		if (found->fd != -EBADF)
			fds->error = found->fd;
		return;
	}
	kind = kind_of_own(search, found->fd);
	if (kind == KVM_FD_VM || kind == KVM_FD_VCPU)
		fds->machines[fds->machine_count++] = found->fd;
	else if (kind >= 0)
		fds->stats[fds->stats_count++] = found->fd;
	else
		close(found->fd);
}

/* Who has statistics descriptors only is a reader of them, as kvmstatd is. */
static int take(struct search *search, uint64_t known_mark)
{
	struct kvm_fds *fds = search->fds;
	bool wanted = (fds->vms || fds->vcpus) &&
		      !(fds->known && fds->mark == known_mark);

	if (wanted) {
		fds->stats = calloc(search->count, sizeof(int));
		fds->machines = calloc(search->count, sizeof(int));
	}
	if (!fds->stats || !fds->machines) {
		for (size_t i = 0; i < search->count; i++)
			if (search->found[i].fd >= 0)
				close(search->found[i].fd);
		return wanted ? -ENOMEM : 0;
	}
	for (size_t i = 0; i < search->count; i++)
		sort_out(search, &search->found[i]);
	return 0;
}

/*
 * 0, or -errno if the process could not be searched. Nothing is taken of a
 * process without a VM, or of a known one that has what it had.
 */
int kvm_fds_take(struct kvm_fds *fds, uint64_t known_mark)
{
	struct search search = { .fds = fds };
	int ret, taken;

	search.self = open("/proc/self/fd", O_DIRECTORY | O_CLOEXEC);
	if (search.self < 0)
		return -errno;
	fds->mark = 0xcbf29ce484222325;
	ret = search_process(&search);
	taken = take(&search, known_mark);
	close(search.self);
	free(search.found);
	return ret ? ret : taken;
}

void kvm_fds_close(struct kvm_fds *fds)
{
	for (size_t i = 0; i < fds->stats_count; i++)
		close(fds->stats[i]);
	for (size_t i = 0; i < fds->machine_count; i++)
		close(fds->machines[i]);
	free(fds->stats);
	free(fds->machines);
}
