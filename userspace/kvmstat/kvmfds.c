// SPDX-License-Identifier: GPL-2.0-only
/* KVM's descriptors of a process; kvmstatd-discover uses this, too. */
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "kvmstat.h"

struct kind_name {
	const char *text;
	bool numbered;		/* the vCPU's number follows */
};

static const struct kind_name kind_names[KVM_FD_KINDS] = {
	[KVM_FD_VM]		= { "anon_inode:kvm-vm", false },
	[KVM_FD_VCPU]		= { "anon_inode:kvm-vcpu:", true },
	[KVM_FD_VM_STATS]	= { "anon_inode:kvm-vm-stats", false },
	[KVM_FD_VCPU_STATS]	= { "anon_inode:kvm-vcpu-stats:", true },
};

static int kind_of(const char *link)
{
	for (int kind = 0; kind < KVM_FD_KINDS; kind++) {
		const struct kind_name *name = &kind_names[kind];

		if (name->numbered ?
		    !strncmp(link, name->text, strlen(name->text)) :
		    !strcmp(link, name->text))
			return kind;
	}
	return -1;
}

/* Of the descriptor @name in a directory /proc/PID/fd; -1: none of KVM's. */
int proc_kvm_kind(int dir_fd, const char *name)
{
	char link[64];
	ssize_t length = readlinkat(dir_fd, name, link, sizeof(link) - 1);

	if (length < 0)
		return -1;
	link[length] = 0;
	return kind_of(link);
}

/*
 * A descriptor that is closed while we look is simply not there any more.
 * 0, -errno, or what @found returned.
 */
int proc_kvm_fds(long pid, int (*found)(void *context, enum kvm_fd_kind kind,
					long fd), void *context)
{
	char path[64];
	struct dirent *entry;
	int ret = 0;
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%ld/fd", pid);
	dir = opendir(path);
	if (!dir)
		return -errno;
	while (!ret && (entry = readdir(dir))) {
		int kind = proc_kvm_kind(dirfd(dir), entry->d_name);

		if (kind >= 0)
			ret = found(context, kind, atol(entry->d_name));
	}
	closedir(dir);
	return ret;
}
