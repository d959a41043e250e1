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

/* ---- guest code, none of which ends ---- */

/* One exit to userspace after the other, counted as EXIT_STAT. */
void guest_exit_loop(void);
/* Stores to where there is no memory, counted as MMIO_STAT. */
void guest_mmio_loop(void);
/* A halt that only raise_event() ends, then an exit. */
void guest_halt_loop(void);
/* No exit at all; guest_ticks() shows that it runs. */
void guest_spin_loop(void);
/* A halt that only raise_event() ends, then guest_spin_loop(). */
void guest_halt_then_spin(void);

/* ---- the host's side; the vCPU is STATS_VCPU_ID ---- */

/* A VM that will run @guest, and the statistics of its vCPU. */
struct kvm_vm *guest_setup(struct stats_file *s, void *guest);
/* Run the vCPU until its next exit to userspace. */
void guest_run_once(struct kvm_vm *vm);
uint64_t guest_ticks(struct kvm_vm *vm);

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

/* Each of these ends the case when the case's time is over. */
void runner_wait_round(unsigned int round);
void runner_wait_ticks(void);
/* Until the thread has given up its CPU in a halt. */
void runner_wait_halt(const struct stats_file *s);

/* End the case unless the value has grown by exactly, or by at least @by. */
void check_grown(const char *name, uint64_t before, uint64_t after,
		 uint64_t by);
void check_grown_at_least(const char *name, uint64_t before, uint64_t after,
			  uint64_t by);

#endif /* SELFTEST_KVM_STATS_GUEST_H */
