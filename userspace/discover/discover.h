/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * kvmstatd-discover - finds VMs that do not register themselves, by the finder
 * of the library
 */
#ifndef DISCOVER_DISCOVER_H
#define DISCOVER_DISCOVER_H

#include <kvmstats.h>
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
	bool connected, sent;
	int error;			/* of the last try to connect */
	uint64_t retry_ns, retry_wait_ns;
	char name[KVMSTATS_MAX_VM_NAME + 1];
};

/* Takes over @found on success. */
int vmm_new(struct kvmstats_vmm *found, struct vmm **vmm);
/* Its sources have changed: the connection is made anew, with all of them. */
int vmm_renew(struct vmm *vmm);
/* Connect or send what is due; says so when something changes. */
void vmm_register(struct vmm *vmm, const char *socket_path, uint64_t now_ns);
void vmm_lost(struct vmm *vmm, uint64_t now_ns);
/* Its process has ended; frees, and takes NULL. */
void vmm_end(struct vmm *vmm);
void vmm_free(struct vmm *vmm);

/* processes.c: all processes, and when to look at each again */
struct process {
	pid_t pid;
	uint64_t look_ns, wait_ns;
	struct vmm *vmm;
	int logged;		/* the last error, or 1; 0: none */
};

struct table {
	struct process *processes;
	size_t count, room;
	uint64_t interval_ns;
	struct kvmstats_cache *cache;
	struct kvmstats_finder *finder;
	bool logged;		/* what is wrong with all processes */
};

int table_scan(struct table *table, uint64_t now_ns);
void table_free(struct table *table);

/* rights.c */
int keep_only_ptrace(void);

#endif /* DISCOVER_DISCOVER_H */
