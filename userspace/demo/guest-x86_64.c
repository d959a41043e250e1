// SPDX-License-Identifier: GPL-2.0-only
#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>

#include "guest.h"
#include "guest-code.h"

#define GUEST_CODE	0x8000
#define GUEST_STACK	0x7000
#define TICK_VECTOR	0x20
#define PORT_IO		0x3f8
#define PORT_YIELD	0x3f9
/* Three pages that Intel's hardware wants somewhere outside of memory. */
#define TSS_ADDRESS	0xfffbd000

uint64_t guest_memory_start(void)
{
	return 0;
}

static void load_code(struct machine *machine)
{
	uint16_t vector[2] = { guest_tick - guest_code, GUEST_CODE >> 4 };

	memcpy(machine->memory + GUEST_CODE, guest_code,
	       guest_code_end - guest_code);
	memcpy(machine->memory + TICK_VECTOR * sizeof(vector), vector,
	       sizeof(vector));
}

int guest_vm_init(struct machine *machine, const char **step)
{
	struct kvm_pit_config pit = { 0 };

	*step = "KVM_SET_TSS_ADDR";
	if (ioctl(machine->vm_fd, KVM_SET_TSS_ADDR, TSS_ADDRESS) < 0)
		return -1;
	*step = "KVM_CREATE_IRQCHIP";
	if (ioctl(machine->vm_fd, KVM_CREATE_IRQCHIP, 0) < 0)
		return -1;
	*step = "KVM_CREATE_PIT2";
	if (ioctl(machine->vm_fd, KVM_CREATE_PIT2, &pit) < 0)
		return -1;
	load_code(machine);
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

	return entries[work] - guest_code;
}

static int set_segments(struct vcpu *vcpu)
{
	struct kvm_sregs sregs;

	if (ioctl(vcpu->fd, KVM_GET_SREGS, &sregs) < 0)
		return -1;
	sregs.cs.base = GUEST_CODE;
	sregs.cs.selector = GUEST_CODE >> 4;
	return ioctl(vcpu->fd, KVM_SET_SREGS, &sregs);
}

int guest_vcpu_init(struct vcpu *vcpu, const char **step)
{
	/* without this all but the first wait for a start-up interrupt */
	struct kvm_mp_state runnable = { .mp_state = KVM_MP_STATE_RUNNABLE };
	struct kvm_regs regs = {
		.rip = entry_of(vcpu->work), .rsp = GUEST_STACK, .rflags = 0x2
	};

	*step = "KVM_SET_SREGS";
	if (set_segments(vcpu) < 0)
		return -1;
	*step = "KVM_SET_REGS";
	if (ioctl(vcpu->fd, KVM_SET_REGS, &regs) < 0)
		return -1;
	*step = "KVM_SET_MP_STATE";
	return ioctl(vcpu->fd, KVM_SET_MP_STATE, &runnable);
}

int guest_vm_start(struct machine *machine, const char **step)
{
	(void)machine;
	*step = "";
	return 0;
}

enum guest_call guest_exit(const struct vcpu *vcpu)
{
	const struct kvm_run *run = vcpu->run;

	if (run->exit_reason != KVM_EXIT_IO)
		return GUEST_BAD;
	if (run->io.port == PORT_IO)
		return GUEST_IO;
	return run->io.port == PORT_YIELD ? GUEST_YIELD : GUEST_BAD;
}
