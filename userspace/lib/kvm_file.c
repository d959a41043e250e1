// SPDX-License-Identifier: LGPL-2.1-or-later
/* One descriptor of KVM's. The preloaded library is linked with this, too. */
#include <errno.h>
#include <linux/kcmp.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "finder.h"
#include "published.h"

static const struct {
	const char *text;
	bool numbered;		/* the vCPU's number follows */
} names[] = {
	[KVMSTATS_FD_VM]	 = { "anon_inode:kvm-vm", false },
	[KVMSTATS_FD_VCPU]	 = { VCPU_LINK, true },
	[KVMSTATS_FD_VM_STATS]	 = { "anon_inode:kvm-vm-stats", false },
	[KVMSTATS_FD_VCPU_STATS] = { "anon_inode:kvm-vcpu-stats:", true },
};

bool kvm_file_from_link(const char *link, struct kvm_file *file)
{
	if (published_link(link)) {
		file->kind = KVMSTATS_FD_DEVICE;
		file->vcpu = DEVICE_VCPU;
		return true;
	}
	for (size_t kind = 0; kind < sizeof(names) / sizeof(*names); kind++) {
		size_t length = strlen(names[kind].text);

		if (strncmp(link, names[kind].text, length))
			continue;
		file->kind = kind;
		file->vcpu = names[kind].numbered ?
			     parse_int(link + length) : -1;
		if (names[kind].numbered ? file->vcpu >= 0 : !link[length])
			return true;
	}
	return false;
}

bool kvm_file_from_fd(int dir_fd, const char *name, struct kvm_file *file)
{
	char link[64];
	ssize_t length = readlinkat(dir_fd, name, link, sizeof(link) - 1);

	if (length < 0)
		return false;
	link[length] = 0;
	return kvm_file_from_link(link, file);
}

bool kvm_file_of_own(int fd, struct kvm_file *file)
{
	char path[32];

	file->number = fd;
	file->matched = false;
	file->serial = 0;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	return kvm_file_from_fd(-1, path, file);
}

bool is_vcpus_stats(int fd)
{
	char path[32], link[sizeof(VCPUS_LINK)];
	ssize_t length;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	length = readlink(path, link, sizeof(link));
	return length == sizeof(link) - 1 && !memcmp(link, VCPUS_LINK, length);
}

int same_serial(uint64_t a, uint64_t b)
{
	return a && b ? a == b : -1;
}

int same_file(pid_t tid_a, int a, pid_t tid_b, int b)
{
	long ret = syscall(SYS_kcmp, tid_a, tid_b, KCMP_FILE, a, b);

	return ret < 0 ? -errno : !ret;
}
