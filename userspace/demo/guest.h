/* SPDX-License-Identifier: GPL-2.0-only */
/* What differs from one architecture to the next in the demonstration VMM. */
#ifndef DEMO_GUEST_H
#define DEMO_GUEST_H

#include <linux/kvm.h>
#include <stddef.h>
#include <stdint.h>

enum work {
	WORK_HALT,		/* waits for its timer, short and long */
	WORK_IO,		/* leaves to userspace again and again */
	WORK_MEMORY,		/* writes memory */
	WORK_COMPUTE,		/* does nothing but count */
	WORKS,
};

struct machine {
	int kvm_fd, vm_fd;
	int irqchip_fd;		/* where it is a device; else unused */
	size_t run_bytes;	/* of a vCPU's struct kvm_run */
	unsigned char *memory;
	size_t memory_bytes;
};

struct vcpu {
	const struct machine *machine;
	unsigned int index;
	enum work work;
	int fd;
	struct kvm_run *run;
};

/* What the guest wants of userspace when it leaves KVM_RUN. */
enum guest_call {
	GUEST_BAD = -1,		/* an exit that no work of ours makes */
	GUEST_IO,		/* the I/O that WORK_IO does */
	GUEST_YIELD,		/* a round is done: let others run */
};

/* 0, or -1 with errno set and the failing step in *step */
int guest_vm_init(struct machine *machine, const char **step);
int guest_vcpu_init(struct vcpu *vcpu, const char **step);
/* After the last vCPU was made. */
int guest_vm_start(struct machine *machine, const char **step);
enum guest_call guest_exit(const struct vcpu *vcpu);
uint64_t guest_memory_start(void);

#endif /* DEMO_GUEST_H */
