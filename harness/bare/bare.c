// SPDX-License-Identifier: GPL-2.0-only
/*
 * VMs and vCPUs, for the selftests and guests of include/kvm_util.h.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "bare.h"
#include "kvm_util_internal.h"
#include "processor.h"

extern char _end[];

/* KVM_RUN of powerpc tells inner details by positive numbers; 0 is expected. */
int __wrap_ioctl(int fd, unsigned long request, void *arg)
{
	int ret = __real_ioctl(fd, request, arg);

	return request == KVM_RUN && ret > 0 ? 0 : ret;
}

static int open_kvm(int flags)
{
	int fd = open("/dev/kvm", flags | O_CLOEXEC);

	TEST_ASSERT(fd >= 0, "/dev/kvm");
	return fd;
}

int kvm_check_cap(long cap)
{
	int fd = open_kvm(O_RDONLY);
	int ret = ioctl(fd, KVM_CHECK_EXTENSION, cap);

	TEST_ASSERT(ret >= 0, "KVM_CHECK_EXTENSION %ld", cap);
	close(fd);
	return ret;
}

/* Most architectures have nothing to do before there are vCPUs. */
void __attribute__((weak)) bare_vm_setup(struct kvm_vm *vm)
{
}

struct kvm_vm *vm_create(enum vm_guest_mode mode, uint64_t phy_pages, int perm)
{
	struct kvm_vm *vm = calloc(1, sizeof(*vm));

	TEST_ASSERT(vm, "out of memory");
	vm->kvm_fd = open_kvm(perm);
	vm->fd = ioctl(vm->kvm_fd, KVM_CREATE_VM, 0);
	TEST_ASSERT(vm->fd >= 0, "KVM_CREATE_VM");
	bare_vm_setup(vm);
	return vm;
}

int vm_get_fd(struct kvm_vm *vm)
{
	return vm->fd;
}

int vm_enable_cap(struct kvm_vm *vm, struct kvm_enable_cap *cap)
{
	int ret = ioctl(vm->fd, KVM_ENABLE_CAP, cap);

	TEST_ASSERT(!ret, "KVM_ENABLE_CAP %u", cap->cap);
	return ret;
}

struct vcpu *vcpu_find(struct kvm_vm *vm, uint32_t vcpuid)
{
	struct vcpu *vcpu = vm->vcpus;

	while (vcpu && vcpu->id != vcpuid)
		vcpu = vcpu->next;
	TEST_ASSERT(vcpu, "the VM has no vCPU %u", vcpuid);
	return vcpu;
}

static size_t run_size(struct kvm_vm *vm)
{
	int size = ioctl(vm->kvm_fd, KVM_GET_VCPU_MMAP_SIZE, NULL);

	TEST_ASSERT(size >= (int)sizeof(struct kvm_run), "%d bytes", size);
	return size;
}

void vm_vcpu_add(struct kvm_vm *vm, uint32_t vcpuid)
{
	struct vcpu *vcpu = calloc(1, sizeof(*vcpu));

	TEST_ASSERT(vcpu, "out of memory");
	vcpu->id = vcpuid;
	vcpu->fd = ioctl(vm->fd, KVM_CREATE_VCPU, (void *)(uintptr_t)vcpuid);
	TEST_ASSERT(vcpu->fd >= 0, "KVM_CREATE_VCPU %u", vcpuid);
	vcpu->state = mmap(NULL, run_size(vm), PROT_READ | PROT_WRITE,
			   MAP_SHARED, vcpu->fd, 0);
	TEST_ASSERT(vcpu->state != MAP_FAILED, "mmap of vCPU %u", vcpuid);
	vcpu->next = vm->vcpus;
	vm->vcpus = vcpu;
}

static void free_vcpu(struct kvm_vm *vm, struct vcpu *vcpu)
{
	munmap(vcpu->state, run_size(vm));
	close(vcpu->fd);
	free(vcpu);
}

void kvm_vm_free(struct kvm_vm *vm)
{
	struct vcpu *vcpu;

	while ((vcpu = vm->vcpus)) {
		vm->vcpus = vcpu->next;
		free_vcpu(vm, vcpu);
	}
	close(vm->fd);
	close(vm->kvm_fd);
	free(vm);
}

struct kvm_run *vcpu_state(struct kvm_vm *vm, uint32_t vcpuid)
{
	return vcpu_find(vm, vcpuid)->state;
}

int _vcpu_run(struct kvm_vm *vm, uint32_t vcpuid)
{
	int ret, fd = vcpu_find(vm, vcpuid)->fd;

	do {
		ret = ioctl(fd, KVM_RUN, NULL);
	} while (ret && errno == EINTR);
	return ret;
}

void vcpu_ioctl(struct kvm_vm *vm, uint32_t vcpuid, unsigned long request,
		void *arg)
{
	int ret = ioctl(vcpu_find(vm, vcpuid)->fd, request, arg);

	TEST_ASSERT(ret >= 0, "ioctl %#lx of vCPU %u", request, vcpuid);
}

const char *exit_reason_str(unsigned int exit_reason)
{
	return "KVM_EXIT_* of linux/kvm.h";
}

size_t bare_memory_size(void)
{
	uintptr_t page = sysconf(_SC_PAGESIZE);

	return ((uintptr_t)_end - (uintptr_t)BARE_LOW() + page - 1) & -page;
}

/* The program itself, and below it what the architecture asks for. */
static void add_memory(struct kvm_vm *vm)
{
	char *low = BARE_LOW();
	struct kvm_userspace_memory_region region = {
		.guest_phys_addr = BARE_GPA(low),
		.memory_size = bare_memory_size(),
		.userspace_addr = (uintptr_t)low,
	};

	if (BARE_LOW_SIZE)
		TEST_ASSERT(mmap(low, BARE_LOW_SIZE, PROT_READ | PROT_WRITE,
				 MAP_PRIVATE | MAP_ANONYMOUS |
				 MAP_FIXED_NOREPLACE, -1, 0) == low,
			    "mmap at %p", low);
	TEST_ASSERT(!ioctl(vm->fd, KVM_SET_USER_MEMORY_REGION, &region),
		    "KVM_SET_USER_MEMORY_REGION");
}

void vm_vcpu_add_default(struct kvm_vm *vm, uint32_t vcpuid, void *guest)
{
	vm_vcpu_add(vm, vcpuid);
	bare_vcpu_setup(vm, vcpuid, guest);
}

struct kvm_vm *vm_create_default(uint32_t vcpuid, uint64_t extra_mem_pages,
				 void *guest)
{
	struct kvm_vm *vm = vm_create(VM_MODE_DEFAULT, DEFAULT_GUEST_PHY_PAGES,
				      O_RDWR);

	add_memory(vm);
	vm_vcpu_add_default(vm, vcpuid, guest);
	return vm;
}
