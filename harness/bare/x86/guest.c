// SPDX-License-Identifier: GPL-2.0-only
/*
 * Guests of 32-bit x86: their segments, registers and interrupt.
 */
#define _GNU_SOURCE
#include <stdlib.h>

#include "bare.h"
#include "kvm_util_internal.h"
#include "processor.h"

#define CODE_SELECTOR	0x08
#define DATA_SELECTOR	0x10
#define CODE_TYPE	11
#define DATA_TYPE	3
#define FLAT_LIMIT	0xffffffffU

#define NMI_VECTOR	2
#define INTERRUPT_GATE	0x8e00
#define MSI_ADDRESS	0xfee00000
#define MSI_DATA_NMI	(4 << 8)

#define CR0_PE		1
#define RFLAGS_FIXED	2

struct gate {
	uint16_t offset_low;
	uint16_t selector;
	uint16_t type;
	uint16_t offset_high;
};

bool bare_dirty_quota;

static char stack[0x4000] __aligned(16);
static struct gate gates[NMI_VECTOR + 1];

/* For the return from the handler: nothing, code, data. */
static const uint64_t segments[] = {
	0, 0x00cf9b000000ffff, 0x00cf93000000ffff,
};

asm(".pushsection .text\n"
	"handle_nmi:\n"
	"	iret\n"
	".popsection\n");

/* Interrupts that end a halt need KVM's own APICs, which are there before vCPUs. */
void bare_vm_setup(struct kvm_vm *vm)
{
	struct kvm_enable_cap quota = { .cap = KVM_CAP_DIRTY_QUOTA };

	TEST_ASSERT(!ioctl(vm->fd, KVM_CREATE_IRQCHIP, NULL),
		    "KVM_CREATE_IRQCHIP");
	if (bare_dirty_quota)
		vm_enable_cap(vm, &quota);
}

static void set_segment(struct kvm_segment *segment, uint16_t selector,
			uint8_t type)
{
	*segment = (struct kvm_segment){
		.selector = selector,
		.type = type,
		.limit = FLAT_LIMIT,
		.s = 1,
		.present = 1,
		.db = 1,
		.g = 1,
	};
}

static void set_tables(struct kvm_sregs *sregs)
{
	uintptr_t handler = (uintptr_t)handle_nmi;

	gates[NMI_VECTOR] = (struct gate){
		.offset_low = handler,
		.offset_high = handler >> 16,
		.selector = CODE_SELECTOR,
		.type = INTERRUPT_GATE,
	};
	sregs->gdt.base = (uintptr_t)segments;
	sregs->gdt.limit = sizeof(segments) - 1;
	sregs->idt.base = (uintptr_t)gates;
	sregs->idt.limit = sizeof(gates) - 1;
}

static void set_sregs(struct kvm_vm *vm, uint32_t vcpuid)
{
	struct kvm_sregs sregs;

	vcpu_ioctl(vm, vcpuid, KVM_GET_SREGS, &sregs);
	set_segment(&sregs.cs, CODE_SELECTOR, CODE_TYPE);
	set_segment(&sregs.ds, DATA_SELECTOR, DATA_TYPE);
	sregs.es = sregs.ds;
	sregs.fs = sregs.ds;
	sregs.gs = sregs.ds;
	sregs.ss = sregs.ds;
	set_tables(&sregs);
	sregs.cr0 |= CR0_PE;
	vcpu_ioctl(vm, vcpuid, KVM_SET_SREGS, &sregs);
}

/* A vCPU that is not the first one would wait for that to start it. */
void bare_vcpu_setup(struct kvm_vm *vm, uint32_t vcpuid, void *guest)
{
	struct kvm_mp_state runnable = { KVM_MP_STATE_RUNNABLE };
	struct kvm_regs regs = {
		.rip = (uintptr_t)guest,
		/* as if called: the return address is above */
		.rsp = (uintptr_t)stack + sizeof(stack) - 4,
		.rflags = RFLAGS_FIXED,
	};

	set_sregs(vm, vcpuid);
	vcpu_ioctl(vm, vcpuid, KVM_SET_REGS, &regs);
	vcpu_ioctl(vm, vcpuid, KVM_SET_MP_STATE, &runnable);
}

/* A new vCPU cannot be addressed before its APIC has been written. */
void init_events(struct kvm_vm *vm)
{
	struct kvm_lapic_state lapic;

	vcpu_ioctl(vm, STATS_VCPU_ID, KVM_GET_LAPIC, &lapic);
	vcpu_ioctl(vm, STATS_VCPU_ID, KVM_SET_LAPIC, &lapic);
}

/* An NMI, which needs neither a programmed APIC nor an EOI. */
void raise_event(struct kvm_vm *vm)
{
	struct kvm_msi msi = {
		.address_lo = MSI_ADDRESS | STATS_VCPU_ID << 12,
		.data = MSI_DATA_NMI,
	};
	int ret = ioctl(vm_get_fd(vm), KVM_SIGNAL_MSI, &msi);

	TEST_ASSERT(ret > 0, "KVM_SIGNAL_MSI returned %d", ret);
}

void lower_event(struct kvm_vm *vm)
{
}
