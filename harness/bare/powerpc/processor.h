/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * 64-bit little-endian PowerPC, Book3S: guests run in real mode, as a PAPR
 * guest that knows two hypercalls.
 *
 * Code and TOC are addressed relative to where they are, so it does not matter
 * to the guest that it finds the program at other addresses than the program
 * does; with hash page tables, real mode reaches no other memory than what
 * begins at 0. Before the program there is room for the interrupt vectors.
 */
#ifndef BARE_PROCESSOR_H
#define BARE_PROCESSOR_H

#include <linux/compiler.h>
#include <stdbool.h>
#include <stdint.h>

/* As in lib/kvm_stats_guest.c: no memory is there. */
#define MMIO_GPA	0x40000000UL

#define BARE_LOW_SIZE	0x10000UL
#define BARE_GPA(p)	((uintptr_t)(p) - (uintptr_t)BARE_LOW())

/* As KVM-PR counts them; KVM-HV has no counters of single kinds of exits. */
#define EXIT_STAT	"mmio_exits"
#define MMIO_STAT	"mmio_exits"
#define HALT_STAT	"emulated_inst_exits"

/* What counts this store on either; for KVM-HV, the load of the instruction. */
#define SIMPLE_GUEST	guest_exit_loop
#define SIMPLE_STAT	bare_exit_stat()

char *bare_exit_stat(void);
bool bare_have_pr(void);

#define H_CEDE		0xe0
/* No hypercall that KVM knows: it leaves it to its user. */
#define H_OF_USER	0x7ffc

/*
 * "sc 1" would call the hypervisor below KVM-PR, which runs its guests as user
 * programs; it takes this instruction, which does not exist, in its place.
 */
#define FAKE_SC1	0x7c000268

#define BARE_HIDDEN	__attribute__((visibility("hidden")))

/*
 * Written by the host's side: this KVM wants FAKE_SC1. Hidden, so that code
 * finds it relative to itself.
 */
extern uint64_t bare_is_pr BARE_HIDDEN;

static inline void exit_to_host(void)
{
	WRITE_ONCE(*(uint64_t *)MMIO_GPA, 1);
}

/* What the guest's registers hold afterwards is not for C to know. */
#define HCALL_CLOBBERS	"memory", "lr", "ctr", "cr0", "r0", "r3", "r4", "r5", \
			"r6", "r7", "r8", "r9", "r10", "r11", "r12"

#define HCALL_ASM	"cmpwi	%[is_pr], 0\n"		\
			"beq	2f\n"			\
			".long	%[fake]\n"		\
			"b	3f\n"			\
			"2:	sc	1\n"		\
			"3:\n"

/* H_OF_USER: an exit that says so. */
static inline void bare_hypercall(void)
{
	asm volatile("li	3, %[nr]\n" HCALL_ASM : :
		     [is_pr] "r"(READ_ONCE(bare_is_pr)), [fake] "i"(FAKE_SC1),
		     [nr] "i"(H_OF_USER) : HCALL_CLOBBERS);
}

/*
 * H_CEDE enables interrupts. The vectors, in guest.c, disable them again and go
 * on: at r31 if it was the event, at r30, once more, if the decrementer.
 */
static inline void wait_for_event(void)
{
	asm volatile("bcl	20, 31, 1f\n"
		     "1:	mflr	30\n"
		     "addi	31, 30, 3f - 1b\n"
		     "addi	30, 30, 4f - 1b\n"
		     "4:	li	3, %[nr]\n" HCALL_ASM : :
		     [is_pr] "r"(READ_ONCE(bare_is_pr)), [fake] "i"(FAKE_SC1),
		     [nr] "i"(H_CEDE) : HCALL_CLOBBERS, "r30", "r31");
}

static inline void init_events(struct kvm_vm *vm)
{
}

#endif /* BARE_PROCESSOR_H */
