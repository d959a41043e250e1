// SPDX-License-Identifier: GPL-2.0-only
/*
 * Linked around the kernel's own dirty_log_perf_test (ld --wrap=ioctl): with
 * QUOTA in the environment each VM gets the dirty quota before its first vCPU,
 * each vCPU that limit, and each KVM_RUN that ran the guest says how long it took.
 *
 * What the program prints itself cannot be used on one emulated CPU, where its
 * two threads spin waiting for each other: this is the vCPU thread's own time
 * in KVM_RUN.
 */
#include <errno.h>
#include <linux/kvm.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>

#include "../../userspace/common/quota_uapi.h"

__typeof__(ioctl) __real_ioctl, __wrap_ioctl;

static uint64_t thread_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
	return now.tv_sec * 1000000000ull + now.tv_nsec;
}

static void enable_quota(int vm_fd)
{
	struct kvm_enable_cap cap = { .cap = QUOTA_CAP };

	if (!__real_ioctl(vm_fd, KVM_ENABLE_CAP, &cap))
		return;
	fprintf(stderr, "KVM_CAP_DIRTY_QUOTA: %s\n", strerror(errno));
	exit(1);
}

static void set_quota(int vcpu_fd, const char *pages)
{
	uint8_t *run = mmap(NULL, QUOTA_RUN_OFFSET + sizeof(uint64_t),
			    PROT_READ | PROT_WRITE, MAP_SHARED, vcpu_fd, 0);

	if (run == MAP_FAILED) {
		fprintf(stderr, "kvm_run: %s\n", strerror(errno));
		exit(1);
	}
	*(uint64_t *)(run + QUOTA_RUN_OFFSET) = strtoull(pages, NULL, 0);
}

int __wrap_ioctl(int fd, unsigned long request, ...)
{
	const char *quota = getenv("QUOTA");
	uint64_t start_ns;
	va_list args;
	void *arg;
	int ret;

	va_start(args, request);
	arg = va_arg(args, void *);
	va_end(args);
	start_ns = request == KVM_RUN ? thread_ns() : 0;
	ret = __real_ioctl(fd, request, arg);
	/* a KVM_RUN that only completes I/O ends with EINTR */
	if (request == KVM_RUN && !ret)
		printf("KVM_RUN %llu\n",
		       (unsigned long long)(thread_ns() - start_ns));
	if (request == KVM_CREATE_VM && ret >= 0 && quota)
		enable_quota(ret);
	if (request == KVM_CREATE_VCPU && ret >= 0 && quota)
		set_quota(ret, quota);
	return ret;
}
