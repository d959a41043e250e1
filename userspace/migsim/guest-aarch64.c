// SPDX-License-Identifier: GPL-2.0-only
#include <sys/ioctl.h>

#include "guest.h"

#define CORE(name) (KVM_REG_ARM64 | KVM_REG_SIZE_U64 | KVM_REG_ARM_CORE | \
		    KVM_REG_ARM_CORE_REG(name))
#define SCTLR_EL1	ARM64_SYS_REG(3, 0, 1, 0, 0)
#define TTBR0_EL1	ARM64_SYS_REG(3, 0, 2, 0, 0)
#define TCR_EL1		ARM64_SYS_REG(3, 0, 2, 0, 2)
#define MAIR_EL1	ARM64_SYS_REG(3, 0, 10, 2, 0)

#define GUEST_TABLE	0		/* in the control slot */
#define MAIR		0x00ff		/* 0: write-back, 1: device */
#define BLOCK_NORMAL	0x701		/* accessed, inner shareable, 0 */
#define BLOCK_DEVICE	0x40000000000405 /* accessed, 1, no code */
/* 32 bits of address, 4 KiB, table cached and shareable, upper half off */
#define TCR		(32 | 1 << 8 | 1 << 10 | 3 << 12 | 1 << 23)
/* what must be 1, then instruction cache, data cache, translation */
#define SCTLR		(0x30d00800 | 1 << 12 | 1 << 2 | 1)

int guest_vm_init(struct machine *machine, const char **step)
{
	(void)machine;
	*step = "";
	return 0;
}

static int set_register(struct vcpu *vcpu, uint64_t id, uint64_t value)
{
	struct kvm_one_reg reg = { .id = id, .addr = (uintptr_t)&value };

	return ioctl(vcpu->fd, KVM_SET_ONE_REG, &reg);
}

/*
 * One table for 4 GiB, each to its own address: cached, so that on real
 * hardware, too, guest and host see the same memory. The last one is for MMIO.
 */
static void fill_table(uint64_t *table)
{
	for (uint64_t gib = 0; gib < 3; gib++)
		table[gib] = gib << 30 | BLOCK_NORMAL;
	table[3] = 3ull << 30 | BLOCK_DEVICE;
}

static int set_translation(struct vcpu *vcpu, const char **step)
{
	fill_table((uint64_t *)(vcpu->sim->machine.control + GUEST_TABLE));
	*step = "KVM_SET_ONE_REG (mair_el1)";
	if (set_register(vcpu, MAIR_EL1, MAIR) < 0)
		return -1;
	*step = "KVM_SET_ONE_REG (tcr_el1)";
	if (set_register(vcpu, TCR_EL1, TCR) < 0)
		return -1;
	*step = "KVM_SET_ONE_REG (ttbr0_el1)";
	if (set_register(vcpu, TTBR0_EL1, GUEST_TABLE) < 0)
		return -1;
	*step = "KVM_SET_ONE_REG (sctlr_el1)";
	return set_register(vcpu, SCTLR_EL1, SCTLR);
}

static int init_vcpu(struct vcpu *vcpu, const char **step)
{
	struct kvm_vcpu_init init;

	*step = "KVM_ARM_PREFERRED_TARGET";
	if (ioctl(vcpu->sim->machine.vm_fd, KVM_ARM_PREFERRED_TARGET, &init) < 0)
		return -1;
	*step = "KVM_ARM_VCPU_INIT";
	return ioctl(vcpu->fd, KVM_ARM_VCPU_INIT, &init);
}

int guest_vcpu_init(struct vcpu *vcpu, const char **step)
{
	if (init_vcpu(vcpu, step) < 0 || set_translation(vcpu, step) < 0)
		return -1;
	*step = "KVM_SET_ONE_REG (pc)";
	if (set_register(vcpu, CORE(regs.pc), guest_entry(vcpu->workload)) < 0)
		return -1;
	*step = "KVM_SET_ONE_REG (x0)";
	return set_register(vcpu, CORE(regs.regs[0]),
			    GUEST_BLOCKS + vcpu->index * PAGE_BYTES);
}

static bool writes_to(const struct vcpu *vcpu, uint64_t address)
{
	return vcpu->run->exit_reason == KVM_EXIT_MMIO &&
	       vcpu->run->mmio.is_write &&
	       vcpu->run->mmio.phys_addr == address;
}

bool guest_waits(const struct vcpu *vcpu)
{
	return writes_to(vcpu, GUEST_MMIO);
}

bool guest_yields(const struct vcpu *vcpu)
{
	return writes_to(vcpu, GUEST_MMIO + GUEST_MMIO_YIELD);
}
