/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * 32-bit MIPS by trap and emulate: guests are in kernel mode, but run as a user
 * program, in a segment of its addresses that stands for the unmapped kseg0.
 *
 * The linker puts the program into that segment (bare_flags of harness/arch),
 * so the guest finds it where it is.
 */
#ifndef BARE_PROCESSOR_H
#define BARE_PROCESSOR_H

#include <stdint.h>
#include <linux/compiler.h>

/* The stand-in of kseg0 begins with physical address 0. */
#define BARE_GPA(p)	((uintptr_t)(p) & 0x1fffffff)
#define BARE_LOW_SIZE	0UL

/*
 * A true kernel address, which a user program may not use; and mmio_store() is
 * to a page of the stand-in that has no memory. A 64-bit store is two exits.
 */
#define EXIT_ADDRESS	0xbf000000UL
#define EXIT_STAT	"addrerr_st_exits"
#define MMIO_STAT	"tlbmiss_st_exits"
#define HALT_STAT	"wait_exits"

/*
 * A guest whose first instruction is where it may not be: it leaves before any
 * of its pages was needed.
 */
#define SIMPLE_GUEST	((void *)EXIT_ADDRESS)
#define SIMPLE_STAT	"addrerr_ld_exits"

static inline void exit_to_host(void)
{
	WRITE_ONCE(*(uint32_t *)EXIT_ADDRESS, 1);
}

/* What is pending ends it, though interrupts are masked. */
static inline void wait_for_event(void)
{
	asm volatile(".set push; .set mips32; wait; .set pop" : : : "memory");
}

/* Of assembler code. */
extern char exception_base[];
void cache_loop(void);

/* Of the linker. */
extern char _gp[];

struct kvm_vm;

static inline void init_events(struct kvm_vm *vm)
{
}

#endif /* BARE_PROCESSOR_H */
