/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Support for tests of KVM_SET_USER_MEMORY_REGION_LIST: vCPUs that fetch, read
 * and write a range of pages without a pause, and a host that changes the memory
 * slots of that range meanwhile.
 */
#ifndef SELFTEST_KVM_MEMSLOT_LIST_UTIL_H
#define SELFTEST_KVM_MEMSLOT_LIST_UTIL_H

#include <pthread.h>

#include "kvm_stats_util.h"

#define ML_MAX_VCPUS	4
/* Of the range, guest physical and virtual; aligned for any huge page. */
#define ML_GPA		0x40000000UL
/* Where there is no memory: how a guest exits on arm64. */
#define ML_EXIT_GPA	0x30000000UL
/* The range is in this slot at first, and at the end. */
#define ML_SLOT		1
/* Slots that a layout of the range may use: from ML_SLOT on. */
#define ML_NR_SLOTS	8
#define ML_MAX_PIECES	4
/* Pages of page tables for the range, at its end. */
#define ML_TABLE_PAGES	8

/* ---- lists ---- */

struct ml_list {
	struct kvm_userspace_memory_region_list head;
	struct kvm_userspace_memory_region entries[1024];
};

void ml_begin(struct ml_list *l);
/* size 0 deletes the slot */
void ml_add(struct ml_list *l, uint32_t slot, uint64_t gpa, uint64_t size,
	    void *hva, uint32_t flags);
/* The ioctl; returns 0 or errno. */
int ml_apply(int vm_fd, struct ml_list *l);
/* The largest number of entries, 0: no lists. */
int ml_max_entries(int vm_fd);

/* ---- the guest ---- */

/* An exit to userspace that no test mistakes for one of the range. */
void ml_guest_exit(void);
/* Fetch, read and write all pages; in its first pass they are as they were. */
void ml_guest_pass(uint64_t nr, uint64_t pass);
/* The pass is over; the host waits for that. */
void ml_guest_passed(uint64_t nr);
/* Exit because the content of an address is not what it should be. */
void ml_guest_wrong(uint64_t nr, uint64_t addr);

/* ---- machines ---- */

struct ml_config {
	unsigned int nr_vcpus;		/* 0: one */
	unsigned int nr_pages;		/* that the guest uses, 0: 64 */
	unsigned int more_pages;	/* behind them, as part of the range */
	void *guest;			/* instead of passes and nothing else */
	uint32_t flags;			/* of all slots of the range */
	uint64_t manual_protect;
	bool quota;
	bool tables;			/* page tables in the range */
	bool random;			/* the guest only writes, at random */
	bool string_io;			/* x86: a string instruction a pass */
	bool huge;			/* transparent huge pages */
	bool twice;			/* all memory at a second address */
	bool two_memories;		/* at a second address, other memory */
};

/* A part of the range in a slot of its own. */
struct ml_piece {
	uint32_t slot;
	unsigned int first, nr;		/* pages */
	unsigned int where;		/* which of the two addresses */
};

struct ml_layout {
	unsigned int nr;
	struct ml_piece pieces[ML_MAX_PIECES];
};

struct ml_vm;

struct ml_vcpu {
	struct ml_vm *m;
	unsigned int id;
	int fd;
	struct kvm_run *run;
	struct stats_file stats;
	pthread_t thread;
	/* The first exit that should not have been, NULL if there was none. */
	const char *failure;
	char text[128];
	uint64_t string_ios;
};

struct ml_vm {
	struct kvm_vm *vm;
	struct ml_config config;
	unsigned int nr_pages;		/* of the range, with tables */
	uint8_t *memory[2];
	struct ml_layout layout;
	struct stats_file stats;
	struct ml_vcpu vcpus[ML_MAX_VCPUS];
	int run_size;
	bool stop;
	uint64_t random;
};

void ml_create(struct ml_vm *m, const struct ml_config *config);
void ml_destroy(struct ml_vm *m);

/* vCPUs run until ml_stop(), or until they fail; then they can be run again. */
void ml_start(struct ml_vm *m);
void ml_stop(struct ml_vm *m);
/* The first failure of a vCPU, NULL if there is none. */
const char *ml_failure(struct ml_vm *m);
/* Until each vCPU has gone over all pages so often again, or one has failed. */
void ml_wait_passes(struct ml_vm *m, uint64_t nr);
/* A vCPU has failed, or makes no pass in some seconds. */
bool ml_is_broken(struct ml_vm *m);
uint64_t ml_vcpu_stat(struct ml_vm *m, const char *name);

/* ---- changes ---- */

/*
 * Whether to change once more, after @i changes since @start_ms: MEMSLOT_LIST_CHANGES
 * in the environment says how often; without it, @nr times, but on a slow machine
 * not for longer than it takes to see something.
 */
bool ml_go_on(unsigned int i, unsigned int nr, uint64_t start_ms);
uint64_t ml_random(struct ml_vm *m);
/* Another layout: other borders, other numbers, perhaps other addresses. */
void ml_random_layout(struct ml_vm *m, struct ml_layout *l);
/* Make it the layout, with one list or with plain ioctls. */
void ml_change(struct ml_vm *m, const struct ml_layout *l);
void ml_change_plainly(struct ml_vm *m, const struct ml_layout *l);

#endif /* SELFTEST_KVM_MEMSLOT_LIST_UTIL_H */
