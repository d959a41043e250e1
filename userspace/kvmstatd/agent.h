/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * kvmstatd. Two threads: the main one receives registrations and watches VMs
 * (receive.c), libmicrohttpd's answers HTTP (http.c). They meet in the registry.
 */
#ifndef KVMSTATD_AGENT_H
#define KVMSTATD_AGENT_H

#include <kvmstats.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <time.h>

#include "plan.h"
#include "settings.h"

#define __printf(format, first) \
	__attribute__((__format__(__printf__, format, first)))

/* Why something was not accepted; the names are label values. */
enum reject {
	REJECT_CREDENTIALS, REJECT_MALFORMED, REJECT_SILENT, REJECT_VMS,
	REJECT_DESCRIPTORS, REJECT_MESSAGES, REJECT_BEHALF, REJECTS
};

extern const char *const reject_names[REJECTS];

/* What kvmstatd counts of itself; any thread, no lock. */
struct counters {
	_Atomic uint64_t registrations, ended;
	_Atomic uint64_t rejected[REJECTS];
	_Atomic uint64_t fds_accepted, fds_rejected, fds_replaced;
	_Atomic uint64_t read_errors, reads;
	_Atomic uint64_t scrapes, scrapes_refused, scrapes_cut;
	_Atomic uint64_t sample_ns, last_sample_ns, text_bytes;
	_Atomic uint64_t last_scrape_ns;	/* monotonic; 0: none */
	_Atomic uint64_t heartbeat_ns;		/* of the main thread */
};

/* Who a VM is. Set once, before others can see it. */
struct identity {
	char *name, *uuid;	/* as registered */
	pid_t pid;		/* 0: unknown */
	uint64_t start_ticks;	/* of that process; 0: unknown */
	uid_t uid;
	gid_t gid;
	bool on_behalf;		/* found by a helper */
};

/* One descriptor. */
struct entry {
	struct kvmstats_source *source;
	struct text *labels;	/* {vm="a",vcpu="0"} and a blank; immutable */
	int vcpu;
	uint16_t schema;	/* index in the registry */
};

struct vm {
	atomic_uint refs;	/* registry, connection, each scrape */
	struct identity identity;
	char *key;		/* value of the label vm, unique */
	struct text labels;	/* {vm="key"} and a blank */
	struct text info;	/* the line of kvm_vm_info */
	char id[40];		/* kernel's, of the first descriptor */
	uint64_t since_ns;	/* monotonic */
	uint64_t serial;	/* number in the descriptor store */
	/* under the registry's lock */
	bool registered;
	struct entry *entries;	/* VM first, then vCPUs by number */
	size_t count;
	uint64_t read_errors;
};

struct registry {
	pthread_mutex_t lock;
	struct vm **vms;
	size_t count, room;
	_Atomic size_t fds;	/* descriptors of all VMs */
	struct kvmstats_schema *schemas[MAX_SCHEMAS];
	enum kvmstats_scope scopes[MAX_SCHEMAS];
	size_t num_schemas;
	struct plan *plan;
	struct kvmstats_batch *batch;	/* for whoever holds the lock */
	struct counters counters;
	uint64_t next_serial;
};

static inline uint64_t clock_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000000000ull + now.tv_nsec;
}

/* registry.c */
int registry_open(struct registry *registry, const struct filter *filter);
void registry_close(struct registry *registry);
/*
 * Enter a VM. Takes over the texts of @identity, on failure too. @key is what
 * it is to be called if that is possible; NULL: choose. The caller gets a
 * reference.
 */
int registry_add(struct registry *registry, struct identity *identity,
		 const char *key, struct vm **vm);
/* Take over @sources. 0, or -ENOSPC or -ENOMEM: not all had room. */
int registry_add_sources(struct registry *registry, struct vm *vm,
			 struct kvmstats_source **sources, size_t count,
			 const struct settings *settings);
/* Its series vanish; its descriptors are closed by another thread. */
void registry_remove(struct registry *registry, struct vm *vm);
int registry_set_filter(struct registry *registry, const struct filter *filter);

/* vm.c */
/* Takes over both arguments, on failure too. */
struct vm *vm_new(struct identity *identity, char *key);
struct vm *vm_ref(struct vm *vm);
void vm_unref(struct vm *vm);
struct text *vm_labels(const struct vm *vm, int vcpu);
int vm_set_id(struct vm *vm, const struct kvmstats_source *source);
void identity_free(struct identity *identity);

/* reap.c: closing the last descriptor of a VM tears it down, which takes time */
/* @stored: systemd has them, too, and was told to forget them. */
void reap(struct kvmstats_source **sources, size_t count, bool stored);
void reap_wait(void);

/* complain.c: to standard error */
void complain(const char *format, ...) __printf(1, 2);

#endif /* KVMSTATD_AGENT_H */
