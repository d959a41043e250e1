/* SPDX-License-Identifier: GPL-2.0-only */
/* dirty-bench's guest on arm64: as a vCPU starts, without a stage of its own. */
#define PLAIN_START	0x40000000ull
#define LOGGED_START	0x50000000ull
#define COUNT_OFFSET	0x9000
#define DONE_EXIT	KVM_EXIT_MMIO

#define CODE		0x8000
#define REG_PC (KVM_REG_ARM64 | KVM_REG_SIZE_U64 | KVM_REG_ARM_CORE | \
		KVM_REG_ARM_CORE_REG(regs.pc))

extern const unsigned char guest_code[], guest_code_end[];

asm(".pushsection .rodata\n"
	".globl guest_code, guest_code_end\n"
	"guest_code:\n"
	"	mov	x9, #0x40000000\n"
	"	add	x9, x9, #0x9000\n"
	"	ldr	x1, [x9]\n"
	"	mov	x0, #0x50000000\n"
	"1:	str	x1, [x0]\n"
	"	add	x0, x0, #0x1000\n"
	"	subs	x1, x1, #1\n"
	"	b.ne	1b\n"
	"	mov	x9, #0x09000000\n"
	"	str	x1, [x9]\n"
	"	b	guest_code\n"
	"guest_code_end:\n"
	".popsection\n");

static void guest_set_up(const struct bench *bench)
{
	const uint64_t pc = PLAIN_START + CODE;
	struct kvm_one_reg reg = { .id = REG_PC, .addr = (uintptr_t)&pc };
	struct kvm_vcpu_init init;

	memcpy(bench->plain + CODE, guest_code, guest_code_end - guest_code);
	CALL(bench->vm_fd, KVM_ARM_PREFERRED_TARGET, &init);
	CALL(bench->vcpu_fd, KVM_ARM_VCPU_INIT, &init);
	CALL(bench->vcpu_fd, KVM_SET_ONE_REG, &reg);
}
