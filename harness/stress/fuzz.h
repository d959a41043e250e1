/* SPDX-License-Identifier: GPL-2.0-only */
/* The parts of the fuzzer. */
#ifndef FUZZ_H
#define FUZZ_H

#include <pthread.h>

#include "stress.h"

/*
 * Faults that the model can be given, to see that each is noticed. Those of
 * the file's content are put into the schemas, the others are asked for where
 * the model decides.
 */
enum wrong {
	WRONG_NOTHING,
	WRONG_BYTE,		/* a byte of a descriptor */
	WRONG_COUNTER,		/* an instant value is taken for a counter */
	WRONG_SIZE,		/* the file is a byte longer */
	WRONG_FAULT,		/* more is copied before a bad page */
	WRONG_SEEK,		/* one can seek past the end */
	WRONG_ENABLED,		/* enabling twice is refused */
	WRONG_DEFAULT,		/* a new vCPU has a quota */
	WRONG_REWRITE,		/* a page is charged each time */
	WRONG_LATE,		/* the exit comes a page late */
	WRONG_HARVEST,		/* the log keeps its bits */
	WRONG_BOUND,		/* vCPUs stop a page before their quota */
	WRONG_SUM,		/* one page more is charged than was in the log */
	WRONG_CARRY,		/* a list of memory slots loses the log */
	WRONG_HANGUP,		/* a VM that is closed has not ended */
	WRONG_ORDER,		/* the last vCPU comes first in the file of all */
	NR_WRONG,
};

extern enum wrong wrong;

#define NR_VMS		3
#define NR_FILES	12
#define ZONE_BYTES	8192ull

/* A VM of a worker, which may have vCPUs that never run. */
struct box {
	int vm_fd;			/* -1: none */
	int vcpu_fds[2];
	int vcpu_ids[2];
	unsigned int nr_vcpus;
	int all_fd;			/* the statistics of all; 0: none */
	char id[ID_BYTES];
	bool quota_enabled;
	uint64_t nr_closed;		/* VMs that were here */
};

/* A statistics fd that nobody else has, so that its position is known. */
struct handle {
	int fd;				/* -1: none */
	int64_t position;
	int flags;			/* as F_GETFL says */
	struct stats_ref ref;
	const struct box *box;		/* whose VM; NULL: of the shared one */
	uint64_t nr_closed;		/* as it was: if the same, it lives */
};

/* fuzz-quota.c: a VM with one vCPU that only its worker runs. */
struct machine {
	int vm_fd, vcpu_fd, stats_fd;	/* -1: none */
	struct kvm_run *run;
	struct stats_ref ref;
	unsigned char *memory;
	struct guest_start start;
	bool initially_set;
	/* the guest */
	enum { AT_RANDOM, AT_WRITE, AT_COUNT } at;
	uint32_t random, left;
	/* its memory: what was written to each page, and the log */
	bool present;
	unsigned int slot;
	uint32_t flags;
	uint64_t first_page, nr_pages;
	uint32_t words[256];
	bool bits[256];
	/* the quota */
	uint64_t quota, count, exits;
};

struct worker {
	unsigned int nr;
	pthread_t thread;
	struct rng rng;
	uint64_t nr_ops, max_ops, end_ms;
	struct box boxes[NR_VMS];
	struct handle files[NR_FILES];
	struct machine machine;
	unsigned char *zones;		/* see fuzz-buffer.c */
	struct uring ring;
	bool has_ring;
};

struct op {
	const char *name;
	unsigned int weight;
	void (*run)(struct worker *w);
	uint64_t done;
};

#define OP(name, weight, run)	{ name, weight, run, 0 }

extern struct op file_ops[], ioctl_ops[], quota_ops[];
extern const unsigned int nr_file_ops, nr_ioctl_ops, nr_quota_ops;

/* One of them, by weight. */
void fuzz_op(struct worker *w, struct op *ops, unsigned int nr);
void fuzz_report(const struct op *ops, unsigned int nr);
void machine_close(struct machine *m);
/* If there is a VM in it. */
void close_box(struct box *box);
struct handle *pick_file(struct worker *w);
void close_file(struct handle *file);
/* An errno is one of those named, ended by 0. */
bool is_one_of(int error, const int *errors);

/* fuzz-buffer.c: where reads go to, and what must come of them */

#define MAX_PIECES	4
#define NR_ZONES	7

struct piece {
	unsigned char *at;
	uint64_t len;
	uint64_t valid;		/* writable bytes from @at on */
	bool refused;		/* not an address of a program */
};

struct reading {
	struct piece pieces[MAX_PIECES];
	unsigned int nr;
	bool is_vector;
	int64_t offset;
};

void make_zones(struct worker *w);
void choose_pieces(struct worker *w, const struct handle *file,
		   struct reading *r, unsigned int max);
int64_t choose_offset(struct worker *w, const struct handle *file);
void fill_iov(const struct reading *r, struct iovec *iov);
/* Is @got (-errno if negative) what the model says? */
void judge_reading(struct worker *w, struct handle *file,
		   const struct reading *r, int64_t got, int error_also);

/* fuzz-vcpus.c */

void do_vcpus(struct worker *w);

/* fuzz-chaos.c: a VM that several threads share */

void chaos_start(uint64_t seed);
void chaos_stop(void);
void chaos_report(void);
/* A statistics fd of that VM, of its caller alone; -1 if there is no VM. */
int chaos_open_file(struct rng *rng, struct stats_ref *ref);

#endif /* FUZZ_H */
