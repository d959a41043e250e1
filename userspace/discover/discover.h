/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * kvmstatd-discover - finds VMs that do not register themselves, by the finder
 * of the library
 */
#ifndef DISCOVER_DISCOVER_H
#define DISCOVER_DISCOVER_H

#include <kvmstats.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <time.h>

static inline uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000000000ull + now.tv_nsec;
}

/* vmm.c: the connection that registers a VMM */
struct vmm {
	struct kvmstats_vmm *found;
	struct kvmstats_sender *sender;
	bool sent;
	int error;			/* of the last try; 0: none */
	char name[KVMSTATS_MAX_VM_NAME + 1];
};

/* Takes over @found on success. */
int vmm_new(struct kvmstats_vmm *found, struct vmm **vmm);
/* Its sources have changed: the connection is made anew, with all of them. */
int vmm_renew(struct vmm *vmm);
/*
 * See to its registration, and say so when something changes. To be called again
 * after *@wait_ms, or when its connection is readable.
 */
void vmm_maintain(struct vmm *vmm, const char *socket_path, int *wait_ms);
/* Its process has ended: so does the registration. Takes NULL. */
void vmm_end(struct vmm *vmm);
void vmm_free(struct vmm *vmm);

/*
 * processes.c: all processes, and when to look at each again. A thread of its own
 * looks, as a process may not answer for seconds; what it finds is under the lock.
 * While it runs the finder is its own, and so is the freeing of what was found.
 */
struct process {
	pid_t pid;
	bool busy;		/* the thread looks at it in this moment */
	bool ended;		/* its VMM is the thread's to free */
	uint64_t look_ns, wait_ns;
	struct vmm *vmm;
	int logged;		/* the last error, or 1; 0: none */
	bool several;		/* that it has several VMs was said */
};

struct table {
	pthread_mutex_t lock;
	pthread_cond_t changed;	/* running, or stopping */
	pthread_t thread;
	struct process *processes;
	size_t count, room;
	bool running, stopping;	/* the thread is at work, or is to end */
	uint64_t interval_ns, now_ns;
	struct kvmstats_cache *cache;
	struct kvmstats_finder *finder;
	bool logged;		/* what is wrong with all processes */
};

int table_open(struct table *table);
/*
 * Look at all that are due. @meanwhile is called with the lock held, at least five
 * times a second; it leaves alone what is busy. 0, or -errno: then there was nothing
 * to look at.
 */
int table_scan(struct table *table, uint64_t now_ns,
	       void (*meanwhile)(void *context), void *context);
/* A VMM's process has ended. Under the lock while the thread runs. */
void table_end(struct table *table, struct process *process);
void table_free(struct table *table);

/* rights.c */
int keep_only_ptrace(void);

#endif /* DISCOVER_DISCOVER_H */
