/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef KVMSTAT_VM_H
#define KVMSTAT_VM_H

#include "kvmstat.h"

/* One descriptor under observation. */
struct watch {
	struct kvmstats_source *source;
	uint64_t *memory;
	uint64_t *before, *now, *delta;	/* parts of it */
	uint64_t before_ns, now_ns;	/* monotonic */
	int restarts;			/* statistics, in the last interval */
	int error;			/* of the last sample; ends the watch */
};

/* One connection, that is, one VM. */
struct vm {
	struct kvmstats_peer *peer;
	struct watch *watches;		/* VM first, then vCPUs by number */
	size_t count;
	unsigned int rejected;
	const char *ending;		/* no connection; has the process ended? */
	uint64_t ending_until_ns;	/* when to ask no longer, monotonic */
	const char *gone;		/* the reason; NULL: alive */
};

/* Watches of equal schema and scope: one part of a table. */
struct group {
	const struct vm *vm;
	struct kvmstats_schema *schema;
	enum kvmstats_scope scope;
	size_t count;
	const struct watch **watches;
	uint64_t *sum;			/* of the deltas */
	uint64_t sum_ns;		/* mean length of the intervals */
};

uint64_t clock_ns(void);
int vm_accept(int listen_fd, struct vm **vm);
int vm_receive(struct vm *vm, struct kvmstats_cache *cache);
void vm_free(struct vm *vm);
void vm_close_sources(struct vm *vm);
const char *vm_name(const struct vm *vm);

/* Two steps, so that a sum is taken over one and the same moment. */
void vm_sample(struct vm *vm);
void vm_drop_failed(struct vm *vm);

/* The next group at or after *@position; false at the end or without memory. */
bool group_next(const struct vm *vm, size_t *position, struct group *group);
void group_free(struct group *group);

/* table.c, report.c: what listen prints, into a buffer */
void table_print(FILE *out, const struct vm *vm, bool all, size_t columns);
void report_sample(FILE *out, const struct vm *vm);
void report_event(FILE *out, const struct vm *vm, const char *event,
		  const char *reason);
void text_event(FILE *out, const struct vm *vm, const char *event,
		const char *reason);

#endif /* KVMSTAT_VM_H */
