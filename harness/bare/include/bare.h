/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What an architecture gives to have guests. ARCH/processor.h holds:
 *
 *   exit_to_host(), wait_for_event(), init_events(): see
 *	lib/kvm_stats_guest.c of the selftests
 *   EXIT_STAT, MMIO_STAT, HALT_STAT: what the exits are counted as
 *   BARE_GPA(address): where the guest finds what is at @address here
 *   BARE_LOW_SIZE: memory before the program's own that the guest shall have,
 *	0 if none; at BARE_LOW(), for vectors
 *
 * ARCH/guest.c holds raise_event(), lower_event() and bare_vcpu_setup(),
 * ARCH/works.c what guests of it do in work_test.
 */
#ifndef BARE_H
#define BARE_H

#include "kvm_stats_guest.h"

/* The program's first byte; the linker says where that is. */
extern char __executable_start[];

#define BARE_LOW()	((char *)((uintptr_t)__executable_start - BARE_LOW_SIZE))

/* What the linker makes of ioctl() and of a call of __real_ioctl(). */
int __wrap_ioctl(int fd, unsigned long request, void *arg);
int __real_ioctl(int fd, unsigned long request, void *arg);

/* Of the memory that the guest has, from BARE_LOW() on. */
size_t bare_memory_size(void);

/* ---- of the architecture ---- */

/* What a VM must have before its vCPUs; optional. */
void bare_vm_setup(struct kvm_vm *vm);

/* Registers for @guest; the VM has its memory already. */
void bare_vcpu_setup(struct kvm_vm *vm, uint32_t vcpuid, void *guest);

/* ---- for its tests ---- */

/* A statistic that each exit of the guest moves by exactly this. */
struct bare_move {
	const char *stat;
	unsigned int by;
};

struct bare_work {
	void *guest;
	unsigned int exit_reason;
	const struct bare_move *moves;	/* ended by one without a name */
	/*
	 * Statistics of what interrupts the guest now and then, ended by NULL.
	 * @sum, if there is one, also counts all of these.
	 */
	const char *const *noise;
	const char *sum;
	/* Statistics that nobody can foresee, ended by NULL; or NULL. */
	const char *const *unsteady;
};

/* Nothing but what the work says may move. */
void bare_check_work(const struct bare_work *work);

#endif /* BARE_H */
