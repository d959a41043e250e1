// SPDX-License-Identifier: GPL-2.0-only
/* The guest on arm64: as a vCPU starts, without a stage of its own. */
#include <string.h>

#include "stress.h"

#define BURST_GPA	0x09000000ull
#define CORE(name) (KVM_REG_ARM64 | KVM_REG_SIZE_U64 | KVM_REG_ARM_CORE | \
		    KVM_REG_ARM_CORE_REG(name))

/*
 * w1 random number, x2 where the pages are, w3 their mask, w4 the burst, w5
 * what is left of it, x6 where its end is told.
 */
asm(".pushsection .rodata\n"
	".balign 4\n"
	".globl guest_code, guest_code_end\n"
	"guest_code:\n"
	"1:	eor	w1, w1, w1, lsl #13\n"
	"	eor	w1, w1, w1, lsr #17\n"
	"	eor	w1, w1, w1, lsl #5\n"
	"	and	w0, w1, w3\n"
	"	str	w1, [x2, x0]\n"
	"	subs	w5, w5, #1\n"
	"	b.ne	1b\n"
	"	mov	w5, w4\n"
	"	str	w5, [x6]\n"
	"	b	1b\n"
	"guest_code_end:\n"
	".popsection\n");

static void set_register(int vcpu_fd, uint64_t id, uint64_t value)
{
	struct kvm_one_reg reg = { .id = id, .addr = (uintptr_t)&value };

	CALL(vcpu_fd, KVM_SET_ONE_REG, &reg);
}

void guest_set_up(int vm_fd, int vcpu_fd, const struct guest_start *start)
{
	struct kvm_vcpu_init init = { 0 };

	CALL(vm_fd, KVM_ARM_PREFERRED_TARGET, &init);
	CALL(vcpu_fd, KVM_ARM_VCPU_INIT, &init);
	set_register(vcpu_fd, CORE(regs.pc), CODE_GPA);
	set_register(vcpu_fd, CORE(regs.regs[1]), start->random);
	set_register(vcpu_fd, CORE(regs.regs[2]), DATA_GPA);
	set_register(vcpu_fd, CORE(regs.regs[3]),
		     start->page_mask * PAGE_BYTES);
	set_register(vcpu_fd, CORE(regs.regs[4]), start->burst);
	set_register(vcpu_fd, CORE(regs.regs[5]), start->burst);
	set_register(vcpu_fd, CORE(regs.regs[6]), BURST_GPA);
}

bool is_burst_end(const struct kvm_run *run)
{
	return run->exit_reason == KVM_EXIT_MMIO && run->mmio.is_write &&
	       run->mmio.phys_addr == BURST_GPA;
}
