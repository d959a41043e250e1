/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The VM of dirty-bench and exit-bench: one vCPU, a slot for code and tables,
 * and one, of slot number 1, for the pages that are measured. Every failure
 * ends the program.
 */
#ifndef BENCH_VM_H
#define BENCH_VM_H

#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>

#define PAGE_BYTES	4096ull
#define LOGGED_PAGES	16384ull	/* of slot 1 */
#define PLAIN_BYTES	0x100000ull	/* code and page tables, never logged */

struct bench {
	int kvm_fd, vm_fd, vcpu_fd;
	struct kvm_run *run;
	unsigned char *plain, *logged;
};

static void die(const char *what)
{
	fprintf(stderr, "%s: %s: %s\n", program_invocation_short_name, what,
		strerror(errno));
	exit(1);
}

static int call(int fd, unsigned long request, const void *arg,
		const char *name)
{
	int ret = ioctl(fd, request, arg);

	if (ret < 0)
		die(name);
	return ret;
}

#define CALL(fd, request, arg) \
	call(fd, request, (const void *)(uintptr_t)(arg), #request)

static void *allocate(size_t size_bytes)
{
	void *bytes = mmap(NULL, size_bytes, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);

	if (bytes == MAP_FAILED)
		die("guest memory");
	/* 4 KiB pages in the host as well */
	madvise(bytes, size_bytes, MADV_NOHUGEPAGE);
	return bytes;
}

static void set_slot(const struct bench *bench, unsigned int slot,
		     unsigned int flags, uint64_t address, const void *bytes,
		     uint64_t size_bytes)
{
	struct kvm_userspace_memory_region region = {
		.slot = slot,
		.flags = flags,
		.guest_phys_addr = address,
		.memory_size = size_bytes,
		.userspace_addr = (uintptr_t)bytes,
	};

	CALL(bench->vm_fd, KVM_SET_USER_MEMORY_REGION, &region);
}

static void make_slot(const struct bench *bench, unsigned int flags,
		      uint64_t address)
{
	set_slot(bench, 1, flags, address, bench->logged,
		 LOGGED_PAGES * PAGE_BYTES);
}

/* Of a slot that was just made nothing is mapped. */
static void renew_slot(const struct bench *bench, unsigned int flags,
		       uint64_t address)
{
	set_slot(bench, 1, 0, address, bench->logged, 0);
	make_slot(bench, flags, address);
}

static void create_vm(struct bench *bench)
{
	bench->kvm_fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (bench->kvm_fd < 0)
		die("/dev/kvm");
	bench->vm_fd = CALL(bench->kvm_fd, KVM_CREATE_VM, 0);
}

static void add_memory(struct bench *bench, uint64_t plain_address)
{
	bench->plain = allocate(PLAIN_BYTES);
	bench->logged = allocate(LOGGED_PAGES * PAGE_BYTES);
	set_slot(bench, 0, 0, plain_address, bench->plain, PLAIN_BYTES);
}

static void add_vcpu(struct bench *bench)
{
	int run_bytes = CALL(bench->kvm_fd, KVM_GET_VCPU_MMAP_SIZE, 0);

	bench->vcpu_fd = CALL(bench->vm_fd, KVM_CREATE_VCPU, 0);
	bench->run = mmap(NULL, run_bytes, PROT_READ | PROT_WRITE, MAP_SHARED,
			  bench->vcpu_fd, 0);
	if (bench->run == MAP_FAILED)
		die("mmap of the vCPU");
}

static uint64_t now_ns(clockid_t clock)
{
	struct timespec now;

	clock_gettime(clock, &now);
	return now.tv_sec * 1000000000ull + now.tv_nsec;
}

#endif /* BENCH_VM_H */
