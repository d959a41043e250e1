/* SPDX-License-Identifier: GPL-2.0-only */
/* A vCPU of the shared VM and its thread. */
#ifndef FUZZ_RUNNER_H
#define FUZZ_RUNNER_H

#include "fuzz.h"

/* Pages that the guest writes to. */
#define NR_PAGES	256ull

/* For a vCPU to do what it must; everything is slow under emulation. */
#define PATIENCE_MS	120000

/* Quotas have this remainder: one that nobody wrote would show. */
#define TAG_DIVISOR	101
#define TAG		37

struct runner {
	unsigned int nr;
	int fd, stats_fd;
	struct kvm_run *run;
	struct stats_ref ref;
	pthread_t thread;
	pthread_mutex_t lock;	/* for the next two, and writing the quota */
	uint64_t written, most;	/* the quota, and the largest in this KVM_RUN */
	/* written by its own thread */
	uint64_t count, exits, bursts;
	bool parked;
};

/* What all of them are to do. */
extern struct wishes {
	bool pause, stop;
} wishes;

void make_runner(struct worker *w, struct runner *r, int vm_fd,
		 const char *vm_id, unsigned int nr);
void start_runner(struct runner *r);
void end_runner(struct runner *r);
void kick(struct runner *r);
void write_quota(struct runner *r, uint64_t quota);
void wait_until_parked(struct runner *r);
void wait_until_gone_on(struct runner *r, uint64_t bursts);

#endif /* FUZZ_RUNNER_H */
