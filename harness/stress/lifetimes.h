/* SPDX-License-Identifier: GPL-2.0-only */
/* The parts of lifetimes. */
#ifndef LIFETIMES_H
#define LIFETIMES_H

#include "stress.h"

#define VCPUS_MAX	3

struct vmm {
	int vm_fd;
	int vcpu_fds[VCPUS_MAX];
	unsigned int nr_vcpus;
	char id[ID_BYTES];
};

/* A statistics fd and what is known of it. */
struct file {
	int fd;
	struct stats_ref ref;
};

/* What goes with a file in a message: what the sender has seen of it. */
struct letter {
	bool is_vcpu;
	char id[ID_BYTES];
	uint64_t last[MAX_WORDS];
};

extern struct options {
	uint64_t seconds, seed;
} options;

void vmm_create(struct vmm *vmm, unsigned int nr_vcpus);
void vmm_close(struct vmm *vmm);
/* The file of the VM, -1, or of a vCPU. */
int vmm_open(const struct vmm *vmm, int vcpu, struct stats_ref *ref);

void write_letter(const struct file *file, struct letter *letter);
/* The file is what the letter says, and not older. */
void take_letter(struct file *file, const struct letter *letter);

/* Send the files of a VM and its vCPU, then run the guest. */
_Noreturn void run_for_ever(int sock);

void random_life(uint64_t seed, uint64_t seconds);

#endif /* LIFETIMES_H */
