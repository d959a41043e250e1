// SPDX-License-Identifier: GPL-2.0-only
#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "guest.h"
#include "guest-code.h"

#define MEMORY_START	0x40000000ull
#define CODE_OFFSET	0x8000
#define GICD_BASE	0x08000000ull
#define GICR_BASE	0x080a0000ull
#define GIC_IRQS	64
#define MMIO_IO		0x09000000ull
#define MMIO_YIELD	0x09001000ull

#define REG_PC (KVM_REG_ARM64 | KVM_REG_SIZE_U64 | KVM_REG_ARM_CORE | \
		KVM_REG_ARM_CORE_REG(regs.pc))

uint64_t guest_memory_start(void)
{
	return MEMORY_START;
}

static int set_gic(int gic_fd, uint32_t group, uint64_t attr, const void *value)
{
	struct kvm_device_attr request = {
		.group = group, .attr = attr, .addr = (uintptr_t)value
	};

	return ioctl(gic_fd, KVM_SET_DEVICE_ATTR, &request);
}

static int place_gic(int gic_fd)
{
	const uint64_t gicd = GICD_BASE, gicr = GICR_BASE;
	const uint32_t irqs = GIC_IRQS;

	if (set_gic(gic_fd, KVM_DEV_ARM_VGIC_GRP_ADDR,
		    KVM_VGIC_V3_ADDR_TYPE_DIST, &gicd) < 0)
		return -1;
	if (set_gic(gic_fd, KVM_DEV_ARM_VGIC_GRP_ADDR,
		    KVM_VGIC_V3_ADDR_TYPE_REDIST, &gicr) < 0)
		return -1;
	return set_gic(gic_fd, KVM_DEV_ARM_VGIC_GRP_NR_IRQS, 0, &irqs);
}

int guest_vm_init(struct machine *machine, const char **step)
{
	struct kvm_create_device gic = { .type = KVM_DEV_TYPE_ARM_VGIC_V3 };

	*step = "KVM_CREATE_DEVICE (GICv3)";
	if (ioctl(machine->vm_fd, KVM_CREATE_DEVICE, &gic) < 0)
		return -1;
	machine->irqchip_fd = gic.fd;
	*step = "KVM_SET_DEVICE_ATTR (GICv3)";
	if (place_gic(gic.fd) < 0)
		return -1;
	memcpy(machine->memory + CODE_OFFSET, guest_code,
	       guest_code_end - guest_code);
	return 0;
}

static uint64_t entry_of(enum work work)
{
	static const unsigned char *const entries[WORKS] = {
		[WORK_HALT]	= guest_halt,
		[WORK_IO]	= guest_io,
		[WORK_MEMORY]	= guest_memory,
		[WORK_COMPUTE]	= guest_compute,
	};

	return MEMORY_START + CODE_OFFSET + (entries[work] - guest_code);
}

int guest_vcpu_init(struct vcpu *vcpu, const char **step)
{
	uint64_t pc = entry_of(vcpu->work);
	struct kvm_one_reg reg = { .id = REG_PC, .addr = (uintptr_t)&pc };
	struct kvm_vcpu_init init;

	*step = "KVM_ARM_PREFERRED_TARGET";
	if (ioctl(vcpu->machine->vm_fd, KVM_ARM_PREFERRED_TARGET, &init) < 0)
		return -1;
	*step = "KVM_ARM_VCPU_INIT";
	if (ioctl(vcpu->fd, KVM_ARM_VCPU_INIT, &init) < 0)
		return -1;
	*step = "KVM_SET_ONE_REG (pc)";
	return ioctl(vcpu->fd, KVM_SET_ONE_REG, &reg);
}

/* The interrupt controller wants to know all vCPUs first. */
int guest_vm_start(struct machine *machine, const char **step)
{
	*step = "KVM_DEV_ARM_VGIC_CTRL_INIT";
	return set_gic(machine->irqchip_fd, KVM_DEV_ARM_VGIC_GRP_CTRL,
		       KVM_DEV_ARM_VGIC_CTRL_INIT, NULL);
}

enum guest_call guest_exit(const struct vcpu *vcpu)
{
	const struct kvm_run *run = vcpu->run;

	if (run->exit_reason != KVM_EXIT_MMIO || !run->mmio.is_write)
		return GUEST_BAD;
	if (run->mmio.phys_addr == MMIO_IO)
		return GUEST_IO;
	return run->mmio.phys_addr == MMIO_YIELD ? GUEST_YIELD : GUEST_BAD;
}
