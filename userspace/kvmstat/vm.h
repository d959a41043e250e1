/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef KVMSTAT_VM_H
#define KVMSTAT_VM_H

#include <signal.h>
#include <stdatomic.h>

#include "kvmstat.h"

/* One descriptor under observation. */
struct watch {
	struct kvmstats_source *source;
	uint64_t *memory;
	uint64_t *before, *now, *delta, *base;	/* parts of it */
	uint64_t before_ns, now_ns;	/* monotonic */
	int restarts;			/* statistics, in the last interval */
	int error;			/* of the last sample; ends the watch */
	long fd;			/* number over there; -1: none */
};

/*
 * One VM: a connection, a process, or descriptors of equal identification
 * that were given to us. (The VMs of one process cannot be told apart: the
 * kernel calls them alike.)
 */
struct vm {
	struct kvmstats_peer *peer;	/* NULL: no connection */
	long pid;			/* 0: unknown */
	int pidfd;			/* our own; -1: none */
	char *name;			/* NULL: ask the peer */
	struct watch *watches;		/* VM first, then vCPUs by number */
	size_t count;
	unsigned int rejected;
	unsigned int seen;		/* bits: kinds of descriptors it has */
	int refused;			/* why the kernel makes us none: -errno */
	int denied;			/* why we may not take them: -errno */
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

/* vm.c */
uint64_t clock_ns(void);
int vm_accept(int listen_fd, struct vm **vm);
struct vm *vm_new(long pid, int pidfd, const char *name);
int vm_receive(struct vm *vm, struct kvmstats_cache *cache);
int vm_add(struct vm *vm, struct kvmstats_source *source, long fd);
bool vm_has_fd(const struct vm *vm, long fd);
void vm_free(struct vm *vm);
void vm_close_sources(struct vm *vm);
const char *vm_name(const struct vm *vm);
const char *vm_uuid(const struct vm *vm);
long vm_uid(const struct vm *vm);
long vm_gid(const struct vm *vm);
int vm_pidfd(const struct vm *vm);

/* Two steps, so that a sum is taken over one and the same moment. */
void vm_sample(struct vm *vm);
void vm_drop_failed(struct vm *vm);
/* Totals count from now on, or from the VM's start. */
void vm_reset(struct vm *vm, bool include_past);

/* The next group at or after *@position; false at the end or without memory. */
bool group_next(const struct vm *vm, size_t *position, struct group *group);
void group_free(struct group *group);

/* take.c: descriptors of a process, of the caller, of a file */
int take_process(struct vm *vm, struct kvmstats_cache *cache);
void take_reason(const struct vm *vm, char *text, size_t text_bytes);
int open_image(const char *path, struct kvmstats_cache *cache,
	       struct kvmstats_source **source);

/* fleet.c: the VMs that a request asks for, for as long as they live */
struct fleet_ops {
	/* every interval, when all samples are taken; false ends the run */
	bool (*tick)(void *context);
	void (*event)(void *context, const struct vm *vm, const char *event,
		      const char *reason);
	/* when input_fd is readable; may be NULL */
	bool (*input)(void *context);
	/* after each wait, whatever ended it; 0 or -errno; may be NULL */
	int (*turn)(void *context);
};

struct fleet {
	const struct request *request;
	const struct fleet_ops *ops;
	void *context;
	struct kvmstats_cache *cache;
	struct vm **vms;
	size_t count;
	int listen_fd;		/* -1: does not listen */
	int input_fd;		/* -1: none */
	bool paused;		/* no descriptor free for one more connection */
	bool scanning;		/* all processes; else those given */
	uint64_t next_scan_ns;
	unsigned int hidden;	/* processes that we may not look into */
	unsigned long interval_ms;
	unsigned long first_ms;	/* to the first sample; 0: the interval */
	uint64_t deadline_ns;	/* of the next sample; may be set to now */
	unsigned long samples_left;
	sigset_t while_waiting;
	bool done;
};

int fleet_open(struct fleet *fleet, const struct request *request,
	       const struct fleet_ops *ops, void *context);
int fleet_run(struct fleet *fleet);
/* Wait for a first VM, at most @wait_ms. 0 or -errno. */
int fleet_await(struct fleet *fleet, unsigned long wait_ms);
void fleet_sample(struct fleet *fleet);
void fleet_stop_listening(struct fleet *fleet);
void fleet_close(struct fleet *fleet);
void fleet_scan(struct fleet *fleet);
int fleet_add_process(struct fleet *fleet, long pid, struct vm **vm);
struct vm *fleet_new_vm(struct fleet *fleet, long pid, int pidfd,
			const char *name);
/* Has statistics and is one of those that the request names. */
bool fleet_shows(const struct fleet *fleet, const struct vm *vm);
/* Why there is nothing to see: one line. */
void fleet_excuse(const struct fleet *fleet, char *text, size_t text_bytes);

/* signals.c */
extern atomic_bool interrupted, hung_up;
void signals_catch(sigset_t *while_waiting, bool hangup_reopens);
bool signals_may_wait(int fd);
int signals_write(const sigset_t *while_waiting, int fd, const char *text,
		  size_t length);

/* table.c, report.c: what listen prints, into a buffer */
void table_print(FILE *out, const struct vm *vm, const struct filter *fields,
		 bool all, size_t columns);
void report_sample(FILE *out, const struct vm *vm,
		   const struct request *request);
void report_event(FILE *out, const struct vm *vm, const char *event,
		  const char *reason);
void text_event(FILE *out, const struct vm *vm, const char *event,
		const char *reason);
uint64_t wall_clock_ns(void);
void iso_time(char text[40], uint64_t wall_ns);

#endif /* KVMSTAT_VM_H */
