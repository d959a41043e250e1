/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * 32-bit x86: guests run in protected mode with flat segments and without
 * paging, so that they find the program where it is.
 */
#ifndef BARE_PROCESSOR_H
#define BARE_PROCESSOR_H

#include <stdbool.h>
#include <stdint.h>

#define BARE_GPA(p)	((uintptr_t)(p))
#define BARE_LOW_SIZE	0UL

/* A 64-bit store is two exits. */
#define EXIT_STAT	"io_exits"
#define MMIO_STAT	"mmio_exits"
#define HALT_STAT	"halt_exits"

#define IO_PORT		0x1234

static inline void exit_to_host(void)
{
	asm volatile("outb %%al, %%dx" : : "a"(0), "d"(IO_PORT));
}

/* Interrupts are on, but the one that comes is an NMI. */
static inline void wait_for_event(void)
{
	asm volatile("sti; hlt" : : : "memory");
}

/* The program's end, the linker's word for it. */
extern char _end[];

/* Enable the dirty quota of the VMs that are created from now on. */
extern bool bare_dirty_quota;

/* The NMI's handler, an instruction of the guest. */
extern char handle_nmi[];

struct kvm_vm;

void init_events(struct kvm_vm *vm);

#endif /* BARE_PROCESSOR_H */
