// SPDX-License-Identifier: LGPL-2.1-or-later
/* One descriptor of KVM's. The preloaded library is linked with this, too. */
#include <errno.h>
#include <fcntl.h>
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
	[KVMSTATS_FD_VCPU]	 = { "anon_inode:kvm-vcpu:", true },
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

static bool from_fd(int dir_fd, const char *name, struct kvm_file *file)
{
	char link[64];
	ssize_t length = readlinkat(dir_fd, name, link, sizeof(link) - 1);

	if (length < 0)
		return false;
	link[length] = 0;
	return kvm_file_from_link(link, file);
}

/* glibc's strto...() have versions, which other C libraries do not have. */
static uint64_t number_at(const char *text)
{
	uint64_t number = 0;

	text += strspn(text, " \t");
	for (; *text >= '0' && *text <= '9'; text++)
		number = 10 * number + (uint64_t)(*text - '0');
	return number;
}

/* The kernel has no such line, or does not let us see it: 0. */
static uint64_t read_serial(int dir_fd, const char *path,
			    enum kvmstats_fd_kind kind)
{
	const char *key = kind == KVMSTATS_FD_VM ||
			  kind == KVMSTATS_FD_VM_STATS ?
			  "\nkvm-vm-serial:" : "\nkvm-vcpu-serial:";
	char text[1024], *line;
	ssize_t length;
	int fd;

	fd = openat(dir_fd, path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return 0;
	length = read(fd, text, sizeof(text) - 1);
	close(fd);
	if (length <= 0)
		return 0;
	text[length] = 0;
	line = strstr(text, key);
	return line ? number_at(line + strlen(key)) : 0;
}

bool kvm_file_from_fd(int dir_fd, const char *name, struct kvm_file *file)
{
	char path[32];

	file->serial = 0;
	if (!from_fd(dir_fd, name, file))
		return false;
	if (file->kind == KVMSTATS_FD_DEVICE)
		return true;
	snprintf(path, sizeof(path), "../fdinfo/%.11s", name);
	file->serial = read_serial(dir_fd, path, file->kind);
	return true;
}

bool kvm_file_of_own(int fd, struct kvm_file *file)
{
	char path[32];

	file->number = fd;
	file->matched = false;
	file->serial = 0;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	if (!from_fd(-1, path, file))
		return false;
	if (file->kind == KVMSTATS_FD_DEVICE)
		return true;
	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
	file->serial = read_serial(-1, path, file->kind);
	return true;
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
