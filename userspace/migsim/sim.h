/* SPDX-License-Identifier: GPL-2.0-only */
/* The parts of migsim and what they share. */
#ifndef MIGSIM_SIM_H
#define MIGSIM_SIM_H

#include <kvmstats.h>
#include <linux/kvm.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

#include "bucket.h"
#include "options.h"

#define NS_PER_S	1000000000ull
#define NS_PER_MS	1000000ull

/* ------------------------------------------------------------- the machine */

/* Counts of one vCPU that the kernel keeps, at their places in a sample. */
struct vcpu_stats {
	struct kvmstats_source *source;
	const struct kvmstats_desc *dirtied;	/* NULL: not in this kernel */
	const struct kvmstats_desc *exits;
};

/*
 * Its thread owns it, but for what stands under a comment. What others want
 * of it they write under @lock, and then kick it out of the guest.
 */
struct vcpu {
	struct sim *sim;
	unsigned int index;
	int fd;
	struct kvm_run *run;
	const struct workload *workload;
	struct guest_block *block;
	struct vcpu_stats stats;	/* the policy's and the reporter's */
	pthread_t thread;
	uint64_t tick_ns, next_ns;	/* of the guest's timer; 0: no timer */
	/* under lock */
	pthread_mutex_t lock;
	pthread_cond_t wake;
	bool stop;
	bool held;			/* until the policy lets it go on */
	uint64_t pause_until_ns;	/* asked for by the policy */
	uint64_t asleep_ns;		/* because of the policy */
};

struct machine {
	int kvm_fd, vm_fd;
	size_t run_bytes;
	uint8_t *control;		/* code, and a page for each vCPU */
	size_t control_bytes;
	uint8_t *ram;			/* the slot that is logged */
	uint64_t ram_pages;
	unsigned int vcpus;
	struct vcpu vcpu[MAX_VCPUS];
};

void machine_open(struct sim *sim);
void machine_start(struct sim *sim);
/* Returns once no vCPU is in the guest, nor will be. */
void machine_stop(struct sim *sim);
void machine_log(struct machine *machine, bool on);
/*
 * Dirty pages into @bitmap; returns their number. They are clean from now on,
 * or, with clear_pages, when machine_clear() is called for them.
 */
uint64_t machine_harvest(const struct machine *machine, uint64_t *bitmap);
/* Those of the pages that @bitmap has; first_page is a multiple of 64. */
void machine_clear(const struct machine *machine, uint64_t first_page,
		   uint64_t pages, uint64_t *bitmap);
size_t bitmap_bytes(uint64_t pages);

/* Asleep from now until then, whether it is in the guest or not. */
void vcpu_pause_until(struct vcpu *vcpu, uint64_t until_ns);
/* For its own thread: not back into the guest before it is released. */
void vcpu_hold(struct vcpu *vcpu);
void vcpu_release(struct vcpu *vcpu);
void vcpu_stop(struct vcpu *vcpu);
void *vcpu_thread(void *argument);
uint64_t vcpu_asleep_ns(struct vcpu *vcpu);

void vcpu_stats_open(struct vcpu *vcpu);
/* Pages that the vCPU dirtied in its life; 0 where that is not counted. */
uint64_t vcpu_dirtied(struct vcpu *vcpu);
uint64_t vcpu_quota_exits(struct vcpu *vcpu);

/* ---------------------------------------------------------------- the link */

enum record {
	RECORD_PAGE,		/* of the memory; the page follows */
	RECORD_CONTROL,		/* of the control area; the page follows */
	RECORD_END,		/* everything was sent: answer */
	RECORD_DUMP,		/* send all memory back */
};

struct record_header {
	uint32_t record, page;
};

#define RECORD_BYTES	(sizeof(struct record_header) + PAGE_BYTES)

struct link {
	int fd;
	pid_t receiver;
	struct bucket bucket;
	uint8_t *buffer;
	size_t filled;		/* bytes in the buffer */
	size_t limit;		/* that are sent at once */
	uint64_t lose_page;
	uint64_t mark_ns;	/* busy_ns counts up to here */
	/* read by the policy's thread, too */
	_Atomic uint64_t sent;	/* bytes */
	_Atomic uint64_t busy_ns; /* time that it took to send them */
};

/* Starts the receiver: before any thread, and before there is a VM. */
void link_open(struct link *link, const struct options *options,
	       size_t control_bytes);
void link_start(struct link *link, uint64_t bandwidth);
/* What comes now belongs together: the time until then was not the link's. */
void link_resume(struct link *link);
/* Bytes a second while it was busy; 0 before anything was sent. */
uint64_t link_bandwidth(struct link *link);
void link_page(struct link *link, enum record record, uint64_t page,
	       const uint8_t *content);
/* Send what is in the buffer. */
void link_flush(struct link *link);
/* Everything was sent; returns when the receiver has it. */
void link_end(struct link *link);
/* Have all memory sent back, to be read by link_read. */
void link_ask_dump(struct link *link);
void link_read(struct link *link, void *data, size_t bytes);
void link_close(struct link *link);
/* What the receiver process does; returns its exit status. */
int receiver_run(int fd, size_t ram_bytes, size_t control_bytes);

struct comparison {
	uint64_t pages;		/* compared */
	uint64_t differing;	/* of these */
	uint64_t first;		/* NO_PAGE if none differs */
};

void compare_page(struct comparison *comparison, const uint8_t *ours,
		  const uint8_t *theirs);
/* The memory's pages, then those of the control area. */
void compare_memories(struct sim *sim, struct comparison *comparison);

/* -------------------------------------------------------------- the policy */

struct round {
	unsigned int number;	/* from 1; the stop-and-copy is the last */
	uint64_t start_ns, end_ns;
	uint64_t sent_pages;
	uint64_t dirty_pages;	/* dirtied while they were sent */
};

/* All but prepare may be NULL. One policy is active in a process. */
struct policy {
	const char *name;
	const char *help;
	bool at_once;	/* the guest stops before anything is copied */
	/* Before there is a vCPU; -errno if the kernel cannot do it. */
	int (*prepare)(struct sim *sim);
	/* The migration begins. */
	void (*start)(struct sim *sim);
	/* Again and again, in a thread of its own; returns when next. */
	uint64_t (*tick)(struct sim *sim, uint64_t now_ns);
	/* A round has ended and another one is to come. */
	void (*round_end)(struct sim *sim, const struct round *round);
	/* In the vCPU's thread: it has used up what it may dirty. */
	void (*quota_full)(struct sim *sim, struct vcpu *vcpu);
	/* The vCPUs have stopped, the migration is over. */
	void (*finish)(struct sim *sim);
	/* For the line of a round; "" if there is nothing to say. */
	void (*describe)(struct sim *sim, char *text, size_t bytes);
};

extern const struct policy policy_none, policy_stop_and_copy,
			   policy_auto_converge, policy_dirty_quota;
extern const struct policy *const policies[];	/* ends in NULL */
const struct policy *policy_find(const char *name);
void policy_thread_start(struct sim *sim);
void policy_thread_stop(struct sim *sim);

/* -------------------------------------------------------------- the report */

/* Units of work in the guest, extended from its 32 bits. */
struct meter {
	uint32_t last;
	uint64_t units;
};

struct vcpu_result {
	double baseline;	/* units a second without migration */
	double during;		/* and while pages were copied */
	uint64_t dirtied, exits, asleep_ns;
};

struct result {
	bool converged;
	struct comparison comparison;
	unsigned int rounds;
	uint64_t total_ns, downtime_ns;
	uint64_t sent_bytes;
	struct vcpu_result vcpu[MAX_VCPUS];
};

void meter_read(struct sim *sim);
void report_open(struct sim *sim);
/* The migration begins; the baselines are known. */
void report_start(struct sim *sim, uint64_t now_ns);
/* Pages that all vCPUs dirtied so far: a round begins. */
void report_round_begins(struct sim *sim);
void report_round(struct sim *sim, const struct round *round, bool last);
/* One line, if it is time for one; @to_send pages are left of the round. */
void report_sample(struct sim *sim, uint64_t now_ns, uint64_t to_send);
void report_result(struct sim *sim, const struct result *result);
void report_json_round(struct sim *sim, const struct round *round, bool last);
void report_json(struct sim *sim, const struct result *result);
void report_csv(struct sim *sim, const struct result *result);
/* Progress of a vCPU in millionths of what it makes unthrottled. */
uint64_t progress_ppm(const struct vcpu_result *vcpu);

/* ------------------------------------------------------------ all together */

struct sim {
	struct options options;
	struct machine machine;
	struct link link;
	struct policy_thread {
		pthread_t thread;
		pthread_mutex_t lock;
		pthread_cond_t wake;
		bool running, stop;
	} policy_thread;
	struct reporter {
		FILE *csv, *json, *samples;
		uint64_t start_ns;
		uint64_t sample_ns, next_sample_ns;
		uint64_t dirtied_before;	/* this round */
		struct meter meters[MAX_VCPUS];
		uint64_t sampled[MAX_VCPUS];	/* units at the last sample */
		double baseline[MAX_VCPUS];	/* units a second */
	} reporter;
};

void migrate(struct sim *sim, struct result *result);

void die(const char *format, ...)
	__attribute__((__format__(__printf__, 1, 2), noreturn));
void die_unavailable(const char *format, ...)
	__attribute__((__format__(__printf__, 1, 2), noreturn));
void *allocate(size_t bytes);
uint64_t now_ns(void);
void sleep_ns(uint64_t ns);
/* A condition that waits by the clock of now_ns. */
void cond_init(pthread_cond_t *cond);
void cond_wait_until(pthread_cond_t *cond, pthread_mutex_t *lock,
		     uint64_t until_ns);

#endif /* MIGSIM_SIM_H */
