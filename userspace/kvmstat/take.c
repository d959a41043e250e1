// SPDX-License-Identifier: GPL-2.0-only
/* Descriptors of another process, and recorded ones. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "vm.h"

#ifndef SYS_pidfd_getfd
#define SYS_pidfd_getfd 438
#endif
#define GET_STATS_FD _IO(0xAE, 0xce)

#define IMAGE_MAX_BYTES (KVMSTATS_MAX_OFFSET + 0ul)

struct visit {
	struct vm *vm;
	struct kvmstats_cache *cache;
	unsigned int wanted;	/* bits: kinds to take */
};

/* Of a VM or vCPU descriptor, make it a statistics descriptor. */
static int to_stats_fd(struct vm *vm, enum kvm_fd_kind kind, int fd)
{
	int stats_fd;

	if (kind == KVM_FD_VM_STATS || kind == KVM_FD_VCPU_STATS)
		return fd;
	stats_fd = ioctl(fd, GET_STATS_FD, NULL);
	if (stats_fd < 0)
		vm->refused = -errno;
	close(fd);
	return stats_fd;
}

static int open_and_add(struct visit *visit, int fd, long number)
{
	struct kvmstats_source *source;
	int ret = kvmstats_source_open(fd, visit->cache, &source);

	if (ret) {
		close(fd);
		return ret;
	}
	return vm_add(visit->vm, source, number);
}

/* A descriptor that was closed or replaced while we look is no error. */
static int take_fd(void *context, enum kvm_fd_kind kind, long number)
{
	struct visit *visit = context;
	struct vm *vm = visit->vm;
	int fd;

	vm->seen |= 1u << kind;
	if (!(visit->wanted & 1u << kind) || vm_has_fd(vm, number))
		return 0;
	fd = syscall(SYS_pidfd_getfd, vm->pidfd, (int)number, 0);
	if (fd < 0)
		return errno == EBADF ? 0 : -errno;
	fd = to_stats_fd(vm, kind, fd);
	if (fd < 0)
		return 0;
	fd = open_and_add(visit, fd, number);
	return fd == -ENODEV ? 0 : fd;
}

/*
 * Take what the process has and we have not yet. A VMM that has no statistics
 * descriptors still has those of VM and vCPUs: where the kernel allows it,
 * they give us statistics descriptors of our own. It is asked only once.
 */
int take_process(struct vm *vm, struct kvmstats_cache *cache)
{
	struct visit visit = { .vm = vm, .cache = cache };
	int ret;

	visit.wanted = 1u << KVM_FD_VM_STATS | 1u << KVM_FD_VCPU_STATS;
	vm->seen = 0;
	ret = proc_kvm_fds(vm->pid, take_fd, &visit);
	vm->denied = ret;
	if (ret || vm->refused)
		return ret;
	visit.wanted = 0;
	if (!(vm->seen & 1u << KVM_FD_VM_STATS))
		visit.wanted |= 1u << KVM_FD_VM;
	if (!(vm->seen & 1u << KVM_FD_VCPU_STATS))
		visit.wanted |= 1u << KVM_FD_VCPU;
	if (visit.wanted)
		ret = proc_kvm_fds(vm->pid, take_fd, &visit);
	vm->denied = ret;
	return ret;
}

/* Why the process gave us nothing, or not everything; "" if it did. */
void take_reason(const struct vm *vm, char *text, size_t text_bytes)
{
	unsigned int kinds = 1u << KVM_FD_VM | 1u << KVM_FD_VCPU;
	bool denied = vm->denied == -EPERM || vm->denied == -EACCES;

	text[0] = 0;
	if (denied)
		snprintf(text, text_bytes, "process %ld: %s; %s: %s, %s, or %s",
			 vm->pid, strerror(-vm->denied),
			 "needs the rights of a debugger", "the same user",
			 "where kernel.yama.ptrace_scope is 0",
			 "CAP_SYS_PTRACE");
	else if (vm->denied)
		snprintf(text, text_bytes, "process %ld: %s", vm->pid,
			 strerror(-vm->denied));
	else if (vm->refused)
		snprintf(text, text_bytes, "process %ld keeps %s, and %s (%s); %s",
			 vm->pid, vm->count ?
			 "statistics descriptors of a part only" :
			 "no statistics descriptor",
			 "this kernel makes none for others",
			 strerror(-vm->refused),
			 "kvmstat run can start such a VMM");
	else if (!vm->count && vm->seen & kinds)
		snprintf(text, text_bytes, "process %ld runs a VM but has no statistics descriptor",
			 vm->pid);
	else if (!vm->count)
		snprintf(text, text_bytes, "process %ld runs no VM", vm->pid);
}

static int read_open_file(int fd, void **bytes, size_t *size_bytes)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode) || (size_t)st.st_size > IMAGE_MAX_BYTES)
		return -EPROTO;
	*size_bytes = st.st_size;
	*bytes = malloc(st.st_size + 1);
	if (!*bytes)
		return -ENOMEM;
	return read(fd, *bytes, st.st_size) == st.st_size ? 0 : -EIO;
}

/* *bytes is to be freed, on failure as well. */
static int read_file(const char *path, void **bytes, size_t *size_bytes)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	int ret;

	if (fd < 0)
		return -errno;
	ret = read_open_file(fd, bytes, size_bytes);
	close(fd);
	return ret;
}

int open_image(const char *path, struct kvmstats_cache *cache,
	       struct kvmstats_source **source)
{
	size_t size_bytes = 0;
	void *bytes = NULL;
	int ret = read_file(path, &bytes, &size_bytes);

	if (!ret)
		ret = kvmstats_source_open_image(bytes, size_bytes, cache,
						 source);
	free(bytes);
	return ret;
}
