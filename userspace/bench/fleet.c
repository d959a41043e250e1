// SPDX-License-Identifier: GPL-2.0-only
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "../lib/uapi.h"
#include "fleet.h"

#define SPARE_FDS	32

void die(const char *format, ...)
{
	va_list args;

	fputs("bench-read: ", stderr);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
	exit(1);
}

static void allow_fds(size_t count)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
		die("RLIMIT_NOFILE: %s", strerror(errno));
	limit.rlim_cur = limit.rlim_max;
	if (count + SPARE_FDS > limit.rlim_max ||
	    setrlimit(RLIMIT_NOFILE, &limit) < 0)
		die("%zu descriptors are needed, %llu are allowed (ulimit -n)",
		    count + SPARE_FDS, (unsigned long long)limit.rlim_max);
}

/* On 5.10, what a closed ring leaves to do interrupts the next system call. */
static int make_fd(int from_fd, unsigned long request, unsigned long argument,
		   const char *what)
{
	int fd;

	do {
		fd = ioctl(from_fd, request, argument);
	} while (fd < 0 && errno == EINTR);
	if (fd < 0)
		die("%s: %s", what, strerror(errno));
	return fd;
}

static void make_vm(int kvm_fd, int *fds, size_t vcpus)
{
	int vm_fd = make_fd(kvm_fd, KVM_CREATE_VM, 0, "KVM_CREATE_VM");

	for (size_t i = 0; i < vcpus; i++) {
		int vcpu_fd = make_fd(vm_fd, KVM_CREATE_VCPU, i,
				      "KVM_CREATE_VCPU");

		fds[i] = make_fd(vcpu_fd, UAPI_GET_STATS_FD, 0,
				 "KVM_GET_STATS_FD");
		close(vcpu_fd);
	}
	close(vm_fd);
}

void fleet_make(int *fds, size_t count)
{
	int kvm_fd;

	allow_fds(count);
	kvm_fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (kvm_fd < 0)
		die("/dev/kvm: %s", strerror(errno));
	for (size_t i = 0; i < count; i += FLEET_VCPUS_PER_VM) {
		size_t left = count - i;

		make_vm(kvm_fd, fds + i, left < FLEET_VCPUS_PER_VM ? left :
						FLEET_VCPUS_PER_VM);
	}
	close(kvm_fd);
}
