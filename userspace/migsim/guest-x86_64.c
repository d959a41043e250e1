// SPDX-License-Identifier: GPL-2.0-only
#include <sys/ioctl.h>

#include "guest.h"

/* Three pages that Intel's hardware wants somewhere outside of memory. */
#define TSS_ADDRESS	0xfffbd000
#define SEGMENT_CODE	0xb
#define SEGMENT_DATA	0x3
#define CR0_PE		1
#define RFLAGS_IF	0x202

int guest_vm_init(struct machine *machine, const char **step)
{
	*step = "KVM_SET_TSS_ADDR";
	return ioctl(machine->vm_fd, KVM_SET_TSS_ADDR, TSS_ADDRESS);
}

static void set_segment(struct kvm_segment *segment, uint8_t type)
{
	*segment = (struct kvm_segment){
		.limit = 0xffffffff, .selector = 8, .type = type,
		.present = 1, .db = 1, .s = 1, .g = 1,
	};
}

static int set_segments(struct vcpu *vcpu)
{
	struct kvm_sregs sregs;

	if (ioctl(vcpu->fd, KVM_GET_SREGS, &sregs) < 0)
		return -1;
	set_segment(&sregs.cs, SEGMENT_CODE);
	set_segment(&sregs.ds, SEGMENT_DATA);
	sregs.es = sregs.ds;
	sregs.fs = sregs.ds;
	sregs.gs = sregs.ds;
	sregs.ss = sregs.ds;
	sregs.cr0 |= CR0_PE;
	return ioctl(vcpu->fd, KVM_SET_SREGS, &sregs);
}

int guest_vcpu_init(struct vcpu *vcpu, const char **step)
{
	struct kvm_regs regs = {
		.rip = guest_entry(vcpu->workload),
		.rbx = GUEST_BLOCKS + vcpu->index * PAGE_BYTES,
		.rflags = RFLAGS_IF,
	};

	*step = "KVM_SET_SREGS";
	if (set_segments(vcpu) < 0)
		return -1;
	*step = "KVM_SET_REGS";
	return ioctl(vcpu->fd, KVM_SET_REGS, &regs);
}

bool guest_waits(const struct vcpu *vcpu)
{
	return vcpu->run->exit_reason == KVM_EXIT_IO &&
	       vcpu->run->io.port == GUEST_PORT;
}

bool guest_yields(const struct vcpu *vcpu)
{
	return vcpu->run->exit_reason == KVM_EXIT_IO &&
	       vcpu->run->io.port == GUEST_PORT_YIELD;
}
