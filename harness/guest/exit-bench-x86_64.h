/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * exit-bench's guests on x86, in the long mode of dirty-bench's guest: each
 * does one thing as often as the word at COUNT_OFFSET says and then tells so.
 */
#include "dirty-bench-x86_64.h"

#define IDT		0xa000
#define GDT		0xb000
#define STACK_END	0xf000
#define IRQ_VECTOR	32
#define PIT_COUNT	1193		/* 1 ms */

#define GUEST(name, operation)						\
	extern const unsigned char guest_##name[], guest_##name##_end[];	\
	asm(".pushsection .rodata\n"					\
	    "guest_" #name ":\n"					\
	    "	mov	0x9000, %rsi\n"					\
	    "1:	" operation "\n"					\
	    "	dec	%rsi\n"						\
	    "	jnz	1b\n"						\
	    "	out	%al, $0x10\n"					\
	    "	jmp	guest_" #name "\n"				\
	    "guest_" #name "_end:\n"					\
	    ".popsection\n")

GUEST(io, "out	%al, $0x11");
GUEST(cpuid, "cpuid");
GUEST(hypercall, "mov	$0x7fffffff, %eax; vmmcall");
GUEST(halt, "sti; hlt");
GUEST(nothing, "nop");
#define guest_fault	guest_code
#define guest_fault_end	guest_code_end

/* Lies behind the code. */
extern const unsigned char guest_interrupt[], guest_interrupt_end[];
asm(".pushsection .rodata\n"
	"guest_interrupt:\n"
	"	iretq\n"
	"guest_interrupt_end:\n"
	".popsection\n");

#define HANDLER		(CODE + 0x800)

static void load_code(const struct bench *bench, const unsigned char *start,
		      const unsigned char *end)
{
	memcpy(bench->plain + CODE, start, end - start);
}

static void set_tables(const struct bench *bench)
{
	uint64_t *gdt = (uint64_t *)(bench->plain + GDT);
	uint64_t *gate = (uint64_t *)(bench->plain + IDT) + 2 * IRQ_VECTOR;
	struct kvm_sregs sregs;
	struct kvm_regs regs;

	gdt[1] = 0x00af9b000000ffff;
	gdt[2] = 0x00cf93000000ffff;
	gate[0] = 0x8e00ull << 32 | 8 << 16 | HANDLER;
	memcpy(bench->plain + HANDLER, guest_interrupt,
	       guest_interrupt_end - guest_interrupt);
	CALL(bench->vcpu_fd, KVM_GET_SREGS, &sregs);
	sregs.gdt = (struct kvm_dtable){ .base = GDT, .limit = 23 };
	sregs.idt = (struct kvm_dtable){ .base = IDT, .limit = 4095 };
	CALL(bench->vcpu_fd, KVM_SET_SREGS, &sregs);
	CALL(bench->vcpu_fd, KVM_GET_REGS, &regs);
	regs.rsp = STACK_END;
	CALL(bench->vcpu_fd, KVM_SET_REGS, &regs);
}

/* Bochs keeps the host's interrupts from a guest that spins without its own. */
static void allow_interrupts(const struct bench *bench)
{
	struct kvm_regs regs;

	CALL(bench->vcpu_fd, KVM_GET_REGS, &regs);
	regs.rflags |= 0x200;
	CALL(bench->vcpu_fd, KVM_SET_REGS, &regs);
}

/* The interval timer wakes the guest; its interrupts end by themselves. */
static void start_timer(const struct bench *bench)
{
	struct kvm_irqchip chip = { .chip_id = KVM_IRQCHIP_PIC_MASTER };
	struct kvm_pit_state2 pit;

	CALL(bench->vm_fd, KVM_GET_IRQCHIP, &chip);
	chip.chip.pic.irq_base = IRQ_VECTOR;
	chip.chip.pic.imr = 0xfe;
	chip.chip.pic.auto_eoi = 1;
	CALL(bench->vm_fd, KVM_SET_IRQCHIP, &chip);
	CALL(bench->vm_fd, KVM_GET_PIT2, &pit);
	pit.channels[0].mode = 2;
	pit.channels[0].rw_mode = 3;
	pit.channels[0].gate = 1;
	pit.channels[0].count = PIT_COUNT;
	CALL(bench->vm_fd, KVM_SET_PIT2, &pit);
}
