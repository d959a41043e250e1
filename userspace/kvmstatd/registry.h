/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The VMs that are registered. The main thread enters and removes them
 * (registrations.c), those of libmicrohttpd read them (http.c). They meet here.
 */
#ifndef KVMSTATD_REGISTRY_H
#define KVMSTATD_REGISTRY_H

#include <kvmstats.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <time.h>

#include "plan.h"
#include "settings.h"

/* Why something was not accepted; the names are label values. */
enum reject {
	REJECT_NONE, REJECT_CREDENTIALS, REJECT_MALFORMED, REJECT_SILENT,
	REJECT_VMS, REJECT_DESCRIPTORS, REJECT_MESSAGES, REJECT_BEHALF,
	REJECT_CLOSING, REJECT_RESOURCES, REJECTS
};

extern const char *const reject_names[REJECTS];

/* In which phase a connection was that was closed; label values, too. */
enum http_phase { PHASE_HEAD, PHASE_IDLE, PHASE_READING, PHASES };

extern const char *const phase_names[PHASES];

/* What kvmstatd counts of itself; any thread, no lock. */
struct counters {
	_Atomic uint64_t registrations, ended;
	_Atomic uint64_t rejected[REJECTS];
	_Atomic uint64_t parked;		/* connections now */
	_Atomic uint64_t fds_accepted, fds_rejected, fds_replaced;
	_Atomic uint64_t read_errors, reads;
	_Atomic uint64_t scrapes, scrapes_refused, scrapes_cut;
	_Atomic uint64_t http_cut[PHASES], http_unauthorized;
	_Atomic uint64_t sample_ns, last_sample_ns, text_bytes;
	_Atomic uint64_t not_stored;		/* VMs that a restart will lose */
	_Atomic uint64_t last_scrape_ns;	/* monotonic; 0: none */
	_Atomic uint64_t heartbeat_ns;		/* of the main thread */
};

/* Who a VM is. Set once, before others can see it. */
struct identity {
	char *name, *uuid;	/* as registered */
	pid_t pid;		/* 0: unknown */
	uint64_t start_ticks;	/* of that process; 0: unknown */
	uint64_t start_ms;	/* since 1970, as of the registration; 0 */
	uid_t uid;
	gid_t gid;
	bool on_behalf;		/* found by a helper */
};

/* One descriptor, or the memory of one: labels live as long as the VM. */
struct entry {
	struct kvmstats_source *source;	/* NULL: lost, or joined */
	struct text *labels;	/* {vm="a",vcpu="0"} and a blank; immutable */
	const char *class_name, *device;	/* in the same memory; "": none */
	int vcpu;
	uint16_t schema;	/* index in the registry */
	bool joined;		/* its values are a record of the VM's vcpus */
	bool covered;		/* a device that the VM's partner has, too */
	uint32_t record;
	/* under cpu_lock */
	pid_t tid;		/* thread of the vCPU, 0: not known */
	int sched_fd;		/* what the scheduler says of it; -1: not open */
};

/* Devices that are left out, until there is room: main thread only, but for the end. */
struct waiting {
	size_t count;
	struct kvmstats_source *sources[];
};

struct box;

struct vm {
	atomic_uint refs;	/* registry, connection, each scrape, a search */
	struct identity identity;
	int pidfd;		/* the connection's, until it is removed; -1: none */
	char *key;		/* value of the label vm, unique */
	struct text labels;	/* {vm="key"} and a blank */
	struct text info;	/* the line of kvm_vm_info */
	uint64_t since_ns;	/* monotonic */
	uint64_t serial;
	struct box *box;	/* in the store (store.c); NULL: none */
	/* user and system time as of the last scrape; under cpu_lock */
	uint64_t process_ns[2];
	/* the search for the threads of its vCPUs (cpu.c); likewise */
	struct vm *next_search;
	bool searching;		/* wanted, or going on */
	uint64_t search_ns;	/* no other before; monotonic */
	uint64_t pause_ns;	/* from the last one until then */
	size_t num_searched;	/* entries that were there then */
	/* under the registry's lock */
	struct vm *next_key;	/* of the same hash */
	/*
	 * What a helper found of a process, and the devices that the process itself has
	 * registered, are shown as one VM: they have the same key. NULL: none.
	 */
	struct vm *partner;
	struct waiting *waiting;	/* devices that have no room, or NULL (waiting.c) */
	bool hidden;		/* filtered out */
	bool full;		/* that a vCPU has no room was said */
	bool several;		/* its process has others, which are mixed up with it */
	bool statistics;	/* it has, or has had, more than devices */
	struct entry *entries;	/* VM first, vCPUs by number, devices by name */
	size_t count;
	/*
	 * All vCPUs in one descriptor, or NULL. So many of them have entries; a
	 * scrape notes that there are more.
	 */
	struct kvmstats_source *vcpus;
	size_t num_joined;
	uint16_t vcpus_schema;
	atomic_bool more_vcpus;
	size_t devices, device_words;	/* of them, and of their samples */
	unsigned int new_kinds;		/* that it has brought */
	/* whose quota they count against; by the main thread, when it is first asked */
	uid_t owner;
	bool owner_known;
	uint64_t read_errors;
};

#define KEY_BUCKETS	1024

struct registry {
	pthread_mutex_t lock;
	struct vm **vms;
	size_t count, room;
	size_t num_pairs;	/* of partners, each counted as two in count */
	struct vm *by_key[KEY_BUCKETS];
	_Atomic size_t fds;	/* descriptors of all VMs */
	/* written by the main thread only */
	struct source_kind kinds[MAX_SCHEMAS];
	size_t users[MAX_SCHEMAS];	/* entries of it, and one if it stays */
	uid_t kind_uids[MAX_SCHEMAS];	/* against whose quota it counts: who brought it */
	bool kind_left[MAX_SCHEMAS];	/* an entry less has it, maybe its user's last */
	bool any_left;
	bool retry;			/* there may be room for what waits */
	_Atomic size_t num_kinds, reserved, num_waiting;
	struct plan *plan;
	struct kvmstats_batch *batch;	/* for whoever holds the lock */
	/* What cpu.c knows, sampled without the other lock; and pidfds. */
	pthread_mutex_t cpu_lock;
	pthread_t search_thread;
	bool has_search_thread, search_stopping;
	pthread_cond_t search_due;
	struct vm *search_first, **search_last;
	struct counters counters;
	uint64_t next_serial;
	uint64_t opened_ns;		/* monotonic */
	atomic_bool more_vcpus;		/* of some VM */
};

static inline uint64_t clock_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000000000ull + now.tv_nsec;
}

int registry_open(struct registry *registry, const struct filters *filters);
/*
 * What this library publishes itself has its names before any VM can take them
 * for something else. 0 or -errno.
 */
int registry_reserve_names(struct registry *registry,
			   struct kvmstats_cache *cache,
			   const struct filters *filters);
void registry_close(struct registry *registry);
/*
 * Enter a VM. Takes over the texts of @identity, on failure too. @key is what
 * it is to be called if that is possible; NULL: choose. If the VM that has that key
 * is of the same process, and one of both is a helper's, they become partners. The
 * caller gets a reference.
 */
int registry_add(struct registry *registry, struct identity *identity,
		 const char *key, const struct filters *filters,
		 struct vm **vm);
/* Its series vanish; its descriptors are closed by another thread. */
void registry_remove(struct registry *registry, struct vm *vm);
/* VMs as they are shown. Under the lock, or by the main thread. */
size_t registry_num_vms(const struct registry *registry);
int registry_set_filters(struct registry *registry,
			 const struct filters *filters);

/* New kinds that a VM may bring in its life, and that one user's VMs may have at once. */
#define KINDS_PER_VM	16
#define KINDS_PER_UID	32

/*
 * The number of the kind of @source, or -ENOMEM, or -ENFILE if there are too many; for
 * what a program publishes, -EDQUOT if @vm, which has brought it (or NULL), has brought
 * too many new ones in its life, -EUSERS if those of its user have too many, -ENOSPC if
 * all VMs together have as many as there can be. A new one makes a new plan. By the
 * main thread.
 */
int registry_kind(struct registry *registry, struct vm *vm,
		  const struct kvmstats_source *source,
		  const struct filters *filters);

/* An entry less has that kind. */
void registry_leave_kind(struct registry *registry, size_t kind);
/* A user no VM of whom has a kind any more does not answer for it: others do who have it. */
void registry_pass_kinds(struct registry *registry);

/* Takes over both arguments, on failure too. */
struct vm *vm_new(struct identity *identity, char *key);
/*
 * "kvm-4711/vcpu-0" names the process that made the VM. Once, before a scrape can
 * meet the VM: the line of kvm_vm_info does not change under its eyes. 0 or -ENOMEM.
 */
int vm_set_id(struct vm *vm, struct kvmstats_source *const *sources,
	      size_t count);
struct vm *vm_ref(struct vm *vm);
void vm_unref(struct vm *vm);

/* cpu.c. Of @budget descriptors, those that files of threads may take. */
size_t cpu_reserve_fds(size_t budget);
/* Its vCPU may have another. Under cpu_lock, or by the last who has its VM. */
void cpu_forget_thread(struct entry *entry);

void identity_free(struct identity *identity);
/* From start_ticks; 0 if that is not known. */
uint64_t identity_start_ms(const struct identity *identity);

/*
 * store.c: closing the last descriptor of a VM tears it down, which takes seconds for a
 * large one: the library's pool does it. @stored: systemd has copies, and was
 * told to forget them.
 */
void close_sources(struct kvmstats_source **sources, size_t count, bool stored);
/* At the end of the program, and of a test. */
void close_wait(void);

#endif /* KVMSTATD_REGISTRY_H */
