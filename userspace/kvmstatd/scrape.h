/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A scrape: samples of all descriptors, taken at once and under the registry's
 * lock; then their text, made piece by piece as the client takes it, without
 * any lock. If a client stops reading, that holds memory, and nothing else.
 */
#ifndef KVMSTATD_SCRAPE_H
#define KVMSTATD_SCRAPE_H

#include "registry.h"

/*
 * The longest piece of text that is made in one step: HELP, TYPE and UNIT of
 * a name of 1023 bytes, or all labels of a VM.
 */
#define STEP_BYTES 8192

/* Of a thread: on a CPU, in a run queue. Of a process: user, system. */
struct cpu_time {
	uint64_t ns[2];
};

/* A descriptor's sample, and what it is called. */
struct row {
	const struct text *labels;
	const uint64_t *sample;
	uint32_t vm;		/* index in vms */
	int vcpu;
	uint16_t schema;
	bool has_cpu;		/* the vCPU's thread is known */
};

struct process_cpu {
	struct cpu_time time;
	bool known;
};

struct rows {
	struct row *row;
	size_t count;
};

struct scrape {
	struct counters *counters;
	struct plan *plan;
	struct vm **vms;
	size_t num_vms;
	struct vm **joined;	/* with rows of devices only: their partners are in vms */
	size_t num_joined;
	/* by scope; those of a VM stand together, those of devices by schema */
	struct rows rows[KVMSTATS_SCOPES];
	size_t *device_end;	/* by schema: where its rows of devices end */
	struct process_cpu *process_cpu;	/* by VM; NULL: not wanted */
	struct cpu_time *thread_cpu;	/* by row of a vCPU; likewise */
	uint64_t *samples;
	enum exposition format;
	bool per_vcpu;		/* histograms, too */
	uint64_t started_ns;

	/* where the text has come to */
	enum {
		PART_INFO, PART_START, PART_HOST, PART_FAMILIES, PART_TAIL,
		PART_END
	} part;
	size_t position;	/* VM, family, or byte */
	size_t line;		/* 0: the head, then rows */
	unsigned int bucket;
	uint64_t running;	/* histograms are cumulative */
	uint64_t *sum;
	struct text tail;	/* kvmstatd's own metrics, and the end */
	size_t spill_at, spill_end;
	char spill[STEP_BYTES];
};

/* NULL without memory */
struct scrape *scrape_new(struct registry *registry, enum exposition format,
			  const struct settings *settings);
void scrape_free(struct scrape *scrape);
/* What a client wants; NULL for a header that is not there. */
enum exposition negotiate_format(const char *accept);
bool negotiate_gzip(const char *accept_encoding);
/* exposition.c: the next bytes, 0 at the end. @room is at least 1. */
size_t scrape_read(struct scrape *scrape, char *out, size_t room);

/* self.c: what kvmstatd says of itself, and the tables of docs/metrics.md */
/* The last lines of a scrape. 0, or -1 without memory. */
int self_write(struct registry *registry, enum exposition format,
	       struct text *text);
/* To standard output; @images are recorded descriptors, with a NULL at the end. */
int self_print_document(char *const images[]);

/* cpu.c */
/* When this process began, in ticks since boot. */
uint64_t own_start_ticks(void);
/*
 * Waits for no process: the threads of vCPUs are searched for in a thread of its
 * own, and found for a later scrape.
 */
void cpu_sample(struct registry *registry, struct scrape *scrape);
/* Waits for the search that is going on, five seconds at most. */
void cpu_stop(struct registry *registry);

#endif /* KVMSTATD_SCRAPE_H */
