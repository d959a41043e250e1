/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the statistics selftests need of the kernel's KVM selftest library, for
 * architectures that the library of 5.10 does not know.
 *
 * A guest has no memory of its own: it runs this program's code, in this
 * program's memory, without page tables. What a guest writes to a variable is
 * simply there.
 */
#ifndef BARE_KVM_UTIL_H
#define BARE_KVM_UTIL_H

struct kvm_vm;

#include <linux/kernel.h>
#include <linux/kvm.h>
#include <sys/ioctl.h>

#include "processor.h"
#include "test_util.h"

#define vm_vaddr_t	uintptr_t

enum vm_guest_mode {
	VM_MODE_DEFAULT,
};

#define DEFAULT_GUEST_PHY_PAGES	512

int kvm_check_cap(long cap);

/* A VM without memory and vCPUs; the number of pages is not looked at. */
struct kvm_vm *vm_create(enum vm_guest_mode mode, uint64_t phy_pages, int perm);
/* A VM with a vCPU that is about to run @guest. */
struct kvm_vm *vm_create_default(uint32_t vcpuid, uint64_t extra_mem_pages,
				 void *guest);
void kvm_vm_free(struct kvm_vm *vm);
int vm_get_fd(struct kvm_vm *vm);
int vm_enable_cap(struct kvm_vm *vm, struct kvm_enable_cap *cap);

/* A vCPU that has nothing to run. */
void vm_vcpu_add(struct kvm_vm *vm, uint32_t vcpuid);
/* One that is about to run @guest, in a VM of vm_create_default(). */
void vm_vcpu_add_default(struct kvm_vm *vm, uint32_t vcpuid, void *guest);
struct kvm_run *vcpu_state(struct kvm_vm *vm, uint32_t vcpuid);
/* Until an exit that is not a signal's; 0, or -1 and errno. */
int _vcpu_run(struct kvm_vm *vm, uint32_t vcpuid);
void vcpu_ioctl(struct kvm_vm *vm, uint32_t vcpuid, unsigned long request,
		void *arg);
const char *exit_reason_str(unsigned int exit_reason);

/* There are no page tables that a page could be missing in. */
static inline void virt_pg_map(struct kvm_vm *vm, uint64_t vaddr,
			       uint64_t paddr, uint32_t memslot)
{
}

static inline void *addr_gva2hva(struct kvm_vm *vm, vm_vaddr_t gva)
{
	return (void *)gva;
}

#endif /* BARE_KVM_UTIL_H */
