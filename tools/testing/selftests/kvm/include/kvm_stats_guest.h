/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Guests that do known work, for tests of KVM's binary statistics.
 */
#ifndef SELFTEST_KVM_STATS_GUEST_H
#define SELFTEST_KVM_STATS_GUEST_H

#include <pthread.h>

#include "kvm_stats_util.h"

/* What the architecture counts an exit of each kind as. */
#if defined(__x86_64__)
#define EXIT_STAT	"io_exits"
#define MMIO_STAT	"mmio_exits"
#define HALT_STAT	"halt_exits"
#elif defined(__aarch64__)
#define EXIT_STAT	"mmio_exit_user"
#define MMIO_STAT	"mmio_exit_user"
#define HALT_STAT	"wfi_exit_stat"
#endif

/* ---- guest code ---- */

/* An exit to userspace, counted as EXIT_STAT. */
void guest_exit(void);

/* None of these ends. */

/* One guest_exit() after the other. */
void guest_exit_loop(void);
/* Stores to where there is no memory, counted as MMIO_STAT. */
void guest_mmio_loop(void);
/* A halt that only raise_event() ends, then an exit. */
void guest_halt_loop(void);
/*
 * No exit to userspace at all; guest_ticks() shows that it runs.  It halts once
 * for each guest_want_halt(), until raise_event().
 */
void guest_spin_loop(void);

/* ---- the host's side; the vCPU is STATS_VCPU_ID ---- */

/* A VM that will run @guest, and the statistics of its vCPU. */
struct kvm_vm *guest_setup(struct stats_file *s, void *guest);
/* The same, with memory for @nr_tables more pages of its page tables. */
struct kvm_vm *guest_setup_pages(struct stats_file *s, void *guest,
				 uint64_t nr_tables);
/* Run the vCPU until its next exit to userspace. */
void guest_run_once(struct kvm_vm *vm);
uint64_t guest_ticks(struct kvm_vm *vm);
/* Returns when the next thing that guest_spin_loop() does is to halt. */
void guest_want_halt(struct kvm_vm *vm);

#ifdef __x86_64__
/* For a guest that spins: it must be interruptible also on emulated hosts. */
void guest_enable_interrupts(struct kvm_vm *vm, uint32_t vcpu_id);
#endif

/* Wake the vCPU.  On x86 it is an NMI, elsewhere a level. */
void raise_event(struct kvm_vm *vm);
void lower_event(struct kvm_vm *vm);

/* Run the vCPU in a thread for ever, one round from exit to exit. */
pthread_t runner_start(struct kvm_vm *vm);
unsigned int runner_rounds(void);
/* How often a signal has ended KVM_RUN. */
unsigned int runner_interrupted(void);

void runner_wait_round(unsigned int round);
void runner_wait_ticks(void);
/*
 * Until the thread has given up its CPU.  It does so in KVM_RUN only, when the
 * vCPU has nothing to do; what it has counted until then can be looked at.
 */
void runner_wait_sleep(void);

#endif /* SELFTEST_KVM_STATS_GUEST_H */
