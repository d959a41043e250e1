/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef BARE_KVM_UTIL_INTERNAL_H
#define BARE_KVM_UTIL_INTERNAL_H

#include "kvm_util.h"

struct vcpu {
	struct vcpu *next;
	uint32_t id;
	int fd;
	struct kvm_run *state;
};

struct kvm_vm {
	int kvm_fd;
	int fd;
	struct vcpu *vcpus;
};

struct vcpu *vcpu_find(struct kvm_vm *vm, uint32_t vcpuid);

#endif /* BARE_KVM_UTIL_INTERNAL_H */
