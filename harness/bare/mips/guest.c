// SPDX-License-Identifier: GPL-2.0-only
/*
 * Guests of 32-bit MIPS: their registers, vector and interrupt.
 */
#define _GNU_SOURCE
#include "bare.h"
#include "processor.h"

#define CP0_REG(reg, sel)	(KVM_REG_MIPS_CP0 | (8 * (reg) + (sel)))
#define CP0_STATUS	(CP0_REG(12, 0) | KVM_REG_SIZE_U32)
#define CP0_CAUSE	(CP0_REG(13, 0) | KVM_REG_SIZE_U32)
#define CP0_EBASE	(CP0_REG(15, 1) | KVM_REG_SIZE_U64)
#define CAUSE_NO_TIMER	0x08000000
#define IO_INTERRUPT	2

#define REG_T9		25
#define REG_GP		28
#define REG_SP		29

static char stack[0x4000] __aligned(16);

/*
 * After an exception the guest goes on with the next instruction.
 *
 * KVM replaces privileged instructions of a guest by others that need not be
 * emulated again, so they have to be where they can be written to. Of these,
 * only the eret is emulated each time.
 */
asm(".pushsection .guest, \"awx\"\n"
	"	.set	push\n"
	"	.set	noreorder\n"
	"	.set	mips32r2\n"
	"	.globl	exception_base\n"
	"	.balign	4096\n"
	"exception_base:\n"
	"	.space	0x180\n"
	"	mfc0	$k0, $14\n"
	"	addiu	$k0, 4\n"
	"	mtc0	$k0, $14\n"
	"	eret\n"
	"	nop\n"
	"	.set	pop\n"
	".popsection\n");

static void set_reg(struct kvm_vm *vm, uint32_t vcpuid, uint64_t id,
		    uint64_t value)
{
	bool wide = (id & KVM_REG_SIZE_MASK) == KVM_REG_SIZE_U64;
	uint32_t narrow = value;
	struct kvm_one_reg reg = {
		.id = id,
		.addr = wide ? (uintptr_t)&value : (uintptr_t)&narrow,
	};

	vcpu_ioctl(vm, vcpuid, KVM_SET_ONE_REG, &reg);
}

/* A function finds its data by what register it was called with. */
void bare_vcpu_setup(struct kvm_vm *vm, uint32_t vcpuid, void *guest)
{
	struct kvm_regs regs = { .pc = (uintptr_t)guest };

	regs.gpr[REG_T9] = (uintptr_t)guest;
	regs.gpr[REG_GP] = (uintptr_t)_gp;
	regs.gpr[REG_SP] = (uintptr_t)stack + sizeof(stack) - 256;
	vcpu_ioctl(vm, vcpuid, KVM_SET_REGS, &regs);
	set_reg(vm, vcpuid, CP0_STATUS, 0);
	set_reg(vm, vcpuid, CP0_CAUSE, CAUSE_NO_TIMER);
	set_reg(vm, vcpuid, CP0_EBASE, (uintptr_t)exception_base);
}

static void set_interrupt(struct kvm_vm *vm, int irq)
{
	struct kvm_mips_interrupt interrupt = { .cpu = -1, .irq = irq };

	vcpu_ioctl(vm, STATS_VCPU_ID, KVM_INTERRUPT, &interrupt);
}

void raise_event(struct kvm_vm *vm)
{
	set_interrupt(vm, IO_INTERRUPT);
}

void lower_event(struct kvm_vm *vm)
{
	set_interrupt(vm, -IO_INTERRUPT);
}
