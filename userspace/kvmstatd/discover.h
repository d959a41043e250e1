/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * kvmstatd-discover - finds VMs that do not register themselves
 *
 * Two processes. What is read of a foreign process can block for as long as
 * that process likes (its command line may lie in a file system of its own,
 * close() of a descriptor of its may wait for it): a worker does all that, and
 * is replaced when it does not answer. The other process holds what was found
 * and the connections to kvmstatd.
 */
#ifndef KVMSTATD_DISCOVER_H
#define KVMSTATD_DISCOVER_H

#include <kvmstats.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

enum outcome {
	FOUND_NOTHING,		/* no VM, or no process */
	FOUND_SAME,		/* what the request's mark says */
	FOUND_VM,
	FOUND_NO_STATS,		/* a VM, of which the kernel gives us none */
	FOUND_DENIED,		/* a VM, whose descriptors we may not have */
	FOUND_FAILED,		/* for want of memory or descriptors here */
};

struct inquiry {
	pid_t pid;
	bool known;		/* was a VM when looked at last */
	uint64_t mark;		/* then; of the descriptors that it had */
};

/* One message; more of them follow as long as @more is set. */
struct answer {
	enum outcome outcome;
	int error;		/* -errno that explains the outcome */
	bool more;
	bool ambiguous;		/* the process has more than one VM */
	unsigned int fds;	/* of this message */
	uint64_t start_ticks;
	uint64_t mark;
	char name[KVMSTATS_NAME_MAX + 1];
	char uuid[KVMSTATS_NAME_MAX + 1];
};

/* discover-fds.c: the KVM descriptors of a process, copied */
struct kvm_fds {
	int pidfd;
	pid_t pid;
	bool known;
	unsigned int vms, vcpus;	/* descriptors met there */
	int error;		/* the worst -errno met on the way */
	uint64_t mark;
	int *stats, *machines;	/* statistics; VMs and vCPUs */
	size_t stats_count, machine_count;
};

int kvm_fds_take(struct kvm_fds *fds, uint64_t known_mark);
void kvm_fds_close(struct kvm_fds *fds);

/* discover-look.c: one look at one process */
struct look {
	struct answer answer;
	int pidfd;
	int *stats;
	int *vcpus;		/* the worker's, their numbers */
	size_t count;
};

void look_at_process(const struct inquiry *inquiry, struct look *look);
void look_end(struct look *look);

/* discover-worker.c */
struct worker {
	pid_t pid;
	int socket_fd;
};

int worker_start(struct worker *worker);
/* 0, or -ETIME if the process asked for does not let itself be looked at */
int worker_ask(struct worker *worker, const struct inquiry *inquiry,
	       struct look *look);
void worker_stop(struct worker *worker);

/* discover-vmm.c: a process with a VM, and its connection to kvmstatd */
struct vmm {
	pid_t pid;
	int pidfd;
	uint64_t mark;
	size_t count;			/* statistics descriptors */
	struct kvmstats_sender *sender;
	bool connected, sent;
	int error;			/* of the last try to connect */
	uint64_t retry_ns, retry_wait_ns;
	char name[KVMSTATS_NAME_MAX + 1];
};

/* Takes over what @look holds. */
int vmm_new(pid_t pid, struct look *look, struct vmm **vmm);
/* Connect or send what is due; says so when something changes. */
void vmm_register(struct vmm *vmm, const char *socket_path, uint64_t now_ns);
void vmm_lost(struct vmm *vmm, uint64_t now_ns);
/* Its process has ended; frees, and takes NULL. */
void vmm_end(struct vmm *vmm);
void vmm_free(struct vmm *vmm);

/* discover-table.c: all processes, and when to look at each again */
struct process {
	pid_t pid;
	uint64_t look_ns, wait_ns;
	struct vmm *vmm;
	bool complained;
	unsigned int put_off;	/* times that it blocked the worker */
};

struct table {
	struct process *processes;
	size_t count, room;
	uint64_t interval_ns;
	struct worker worker;
};

int table_scan(struct table *table, uint64_t now_ns);
void table_free(struct table *table);

/* discover.c */
uint64_t now_ns(void);
void say(const char *format, ...) __attribute__((__format__(__printf__, 1, 2)));

/* discover-rights.c */
int keep_only_ptrace(void);

#endif /* KVMSTATD_DISCOVER_H */
