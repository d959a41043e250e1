/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Support for tests of dirty quota: a guest that dirties known pages of one
 * memory slot, and a host that compares what each vCPU was charged with what
 * the dirty log says.
 *
 * Nothing but the pages of the test is ever in a slot with a dirty log, unless
 * a test asks for it: code, stacks and page tables cannot blur the count.
 * All pages are the host's pages, which is what the log and the quota count.
 */
#ifndef SELFTEST_KVM_DIRTY_QUOTA_UTIL_H
#define SELFTEST_KVM_DIRTY_QUOTA_UTIL_H

#include <pthread.h>
#include <linux/compiler.h>

#include "kvm_stats_util.h"

#define DQ_MAX_VCPUS	8
#define DQ_SLOT		1
/* Of the slot, guest physical and virtual; aligned for any huge page. */
#define DQ_GPA		0x40000000UL
/* A page behind which there is no memory: an access is an exit. */
#define DQ_MMIO_GPA	0x30000000UL
/* Levels of a guest's page tables: as many are marked for one access. */
#define DQ_TABLE_LEVELS	4

enum dq_action {
	DQ_IDLE,
	DQ_WRITE,
	DQ_READ,
	DQ_OTHER,		/* for guests that know more than these */
};

/*
 * What a vCPU does before it next exits: it walks over @span pages from page
 * @first in steps of @step pages, from the start again after the last, until
 * it has touched @nr pages or is told to @stop.  In random order it is the same
 * pages, but not each of them.  Shared with the guest, also while it works.
 */
struct dq_work {
	uint64_t action;
	uint64_t first;
	uint64_t step;
	uint64_t span;
	uint64_t nr;
	uint64_t stop;
	uint64_t random;	/* 0, or where random numbers start */
	uint64_t touched;	/* by the guest: pages since it was started */
	uint64_t answer;	/* by the guest: what it was told by its device */
} __aligned(128);		/* so that none of them crosses a page */

/* How the vCPU came back from KVM_RUN. */
enum dq_end {
	DQ_DONE,		/* the guest has done its work */
	DQ_ASK,			/* the guest reads the device: dq_answer() */
	DQ_FULL,		/* KVM_EXIT_DIRTY_QUOTA_FULL */
	DQ_SIGNAL,		/* EINTR: a signal, or immediate_exit */
};

struct dq_vm;

struct dq_vcpu {
	struct dq_vm *d;
	unsigned int id;
	int fd;
	struct kvm_run *run;
	struct dq_work *work;
	struct stats_file stats;
	/* Exits for the quota, as seen by userspace. */
	uint64_t full_exits;
	/* By what dq_run_to_end() raises the quota; 0: no exit is expected. */
	uint64_t raise_by;
	/*
	 * How many pages one exit of it may come late, as written down in
	 * Documentation/virt/kvm/dirty-quota.rst; else the test fails.
	 */
	uint64_t max_overrun;
	/* The most pages that an exit of dq_run_to_end() came late. */
	uint64_t overrun;
	pthread_t thread;
};

/* All zero: one vCPU, no quota, a logged slot of small pages, 1024 pages. */
struct dq_config {
	unsigned int nr_vcpus;
	uint64_t nr_pages;
	bool enable;			/* the capability */
	uint64_t quota;			/* of each vCPU at first, if enabled */
	bool unlogged;			/* slot starts without a log */
	bool tables_in_slot;		/* guest page tables of the test pages */
	enum vm_mem_backing_src_type source;
	uint64_t manual_protect;	/* of KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2 */
	void *guest;			/* instead of dq_guest_work() */
};

struct dq_vm {
	struct kvm_vm *vm;
	unsigned int nr_vcpus;
	uint64_t nr_pages;		/* that vCPUs may be told to touch */
	uint64_t slot_pages;		/* more with page tables in the slot */
	unsigned long *bitmap;		/* as of the last harvest */
	int run_size;			/* of the mapping of a vCPU */
	struct dq_vcpu vcpus[DQ_MAX_VCPUS];
};

/* The CPU logs dirty pages: Intel's page-modification logging. */
bool dq_has_pml(void);

/* ---- the guest ---- */

/* Work and exit, for ever; the argument is the number of the vCPU. */
void dq_guest_work(uint64_t nr);
void dq_guest_do_work(struct dq_work *w);
struct dq_work *dq_guest_my_work(uint64_t nr);
/* Tell the host that the work is done; returns when there is new work. */
void dq_guest_done(void);
/* Read the device; the host decides what it says. */
uint64_t dq_guest_ask(void);

/* ---- the host: machines ---- */

void dq_create(struct dq_vm *d, const struct dq_config *config);
void dq_destroy(struct dq_vm *d);
/* KVM_CAP_DIRTY_QUOTA; returns 0 or errno. */
int dq_enable(int vm_fd);
/* Change the slot's flags, with or without the log. */
void dq_set_logging(struct dq_vm *d, bool on);
/* Have the host touch all pages first, so that the guest finds them present. */
void dq_populate(struct dq_vm *d);

/* ---- the host: running ---- */

static inline void dq_set_quota(struct dq_vcpu *v, uint64_t quota)
{
	WRITE_ONCE(v->run->dirty_quota, quota);
}

/* Work for the next run: pages @first to @first + @nr - 1, each once. */
void dq_tell(struct dq_vcpu *v, enum dq_action action, uint64_t first,
	     uint64_t nr);
/* The same pages until dq_stop(). */
void dq_tell_endless(struct dq_vcpu *v, enum dq_action action, uint64_t first,
		     uint64_t span);
/* One KVM_RUN.  Whatever an exit for the quota claims is checked. */
enum dq_end dq_run(struct dq_vcpu *v);
/* Let the device say @value; returns where in kvm_run this was put. */
void *dq_answer(struct dq_vcpu *v, uint32_t value);
/*
 * Run until the work is done.  At each exit for the quota it must be used up
 * with no more than the overrun that is allowed, and is raised.
 */
void dq_run_to_end(struct dq_vcpu *v);
/*
 * Once more with nothing to do: pages that hardware still kept in a log of its
 * own are charged by then, and the exit that they cause has happened.
 */
void dq_settle(struct dq_vcpu *v);
/* Tell, run to the end, settle. */
void dq_do(struct dq_vcpu *v, enum dq_action action, uint64_t first,
	   uint64_t nr);
/* dq_run_to_end() in a thread; dq_join() waits for it, and settles. */
void dq_start(struct dq_vcpu *v);
void dq_stop(struct dq_vcpu *v);
void dq_join(struct dq_vcpu *v);
/* Wait until the running guest has touched @nr more pages. */
void dq_wait_touched(struct dq_vcpu *v, uint64_t nr);

/* ---- the host: counting ---- */

uint64_t dq_count(const struct dq_vcpu *v);
uint64_t dq_count_all(const struct dq_vm *d);
/* KVM_GET_DIRTY_LOG into d->bitmap; returns the number of bits in it. */
uint64_t dq_harvest(struct dq_vm *d);
uint64_t dq_bits(const struct dq_vm *d);
bool dq_bit(const struct dq_vm *d, uint64_t page);
/* The bits of the last harvest must be these pages and no other. */
void dq_check_bits(const struct dq_vm *d, uint64_t first, uint64_t step,
		   uint64_t nr);
/*
 * @expected pages are in the log, and that is what the vCPUs were charged since
 * their counts were @before together.
 */
void dq_check_charged(struct dq_vm *d, uint64_t before, uint64_t expected);

#endif /* SELFTEST_KVM_DIRTY_QUOTA_UTIL_H */
