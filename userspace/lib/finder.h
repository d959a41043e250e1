/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef KVMSTATS_LIB_FINDER_H
#define KVMSTATS_LIB_FINDER_H

#include "internal.h"

#ifndef SYS_pidfd_getfd
#define SYS_pidfd_getfd 438
#endif

/* What links of /proc say of a vCPU, whose number follows, and of all in one file. */
#define VCPU_LINK	"anon_inode:kvm-vcpu:"
#define VCPUS_LINK	"anon_inode:kvm-vcpus-stats"

/* In place of a vCPU's number, behind all of them: what is published. */
#define DEVICE_VCPU	0x7fffffff

/* A descriptor of KVM's, or of a device's statistics, in some process. */
struct kvm_file {
	enum kvmstats_fd_kind kind;
	int vcpu;		/* -1: the VM's; or DEVICE_VCPU */
	int number;
	bool matched;		/* is a source, or what one was made from */
	/* Of the VM or vCPU, from fdinfo; no other's, ever. 0: unknown */
	uint64_t serial;
};

struct kvm_files {
	struct kvm_file *list;
	size_t count, room;
};

/* kvm_file.c */
bool kvm_file_from_link(const char *link, struct kvm_file *file);
/* Of the descriptor @name in a directory such as /proc/PID/fd. */
bool kvm_file_from_fd(int dir_fd, const char *name, struct kvm_file *file);
/*
 * Of a descriptor of this process; false if it is none of KVM's. The second one
 * (kvm_files.c) looks at fdinfo, too, for which the preloaded library has no use.
 */
bool kvm_file_of_own(int fd, struct kvm_file *file);
bool kvm_file_of_own_with_serial(int fd, struct kvm_file *file);
/* A descriptor of this process is of all vCPUs of a VM: it is no kind of its own. */
bool is_vcpus_stats(int fd);
/*
 * Of one VM or vCPU, by what fdinfo says? 1 or 0; -1 if it does not say: then
 * same_file has to do, which finds the copies of one open file.
 */
int same_serial(uint64_t a, uint64_t b);
/* 1 for the same open file, 0 for another, or -errno. */
int same_file(pid_t tid_a, int a, pid_t tid_b, int b);

/* kvm_files.c. What compares files waits for the process: the worker's task. */
int kvm_files_add(struct kvm_files *files, const struct kvm_file *file);
/* What a directory such as /proc/PID/fd names. 0 or -errno. */
int kvm_files_list(struct kvm_files *files, const char *directory);
/* Of the table of thread @tid; there are other threads than the main one. */
int kvm_files_list_table(struct kvm_files *files, pid_t pid, pid_t tid);
/* Of the table of thread *tid, or that of another thread if it has no VM. */
int kvm_files_of_process(struct kvm_files *files, pid_t pid, pid_t *tid);
/* By vCPU and kind; of descriptors of one VM or vCPU, or of one file, one stays. */
void kvm_files_unique(struct kvm_files *files, pid_t tid);
size_t kvm_files_count(const struct kvm_files *files,
		       enum kvmstats_fd_kind kind);
bool has_machine(const struct kvm_files *files);

/* finder_worker.c: the process that touches what is foreign */
#define ASK_FILES	120	/* two descriptors each fit one message */
#define ASK_COPY	1u	/* the descriptor itself */
#define ASK_STATS	2u	/* statistics made from it */
#define ASK_VCPUS	4u	/* those of all vCPUs, from a VM; by itself */

enum ask_about {
	ASK_NAMES,	/* name and uuid, and when it began */
	ASK_LIST,	/* what it has, each file once */
	ASK_SAME,	/* is each file that of the pair's other descriptor? */
	ASK_TAKE,	/* copies */
	ASK_THREADS,	/* files: number is the thread, vcpu what it runs or -1 */
};

/* A descriptor of thread @tid, 0: of the one that asks. */
struct place {
	pid_t tid;
	int number;
};

struct ask {
	enum ask_about about;
	pid_t pid;
	pid_t tid;		/* ASK_LIST: whose table was it the last time? */
	size_t count;
	union {
		struct kvm_file files[ASK_FILES];
		struct place pairs[ASK_FILES][2];
	};
	unsigned int wanted[ASK_FILES];
};

/* With the descriptors, in order: for each file its copy, its statistics. */
struct answer {
	int error;
	bool more;
	pid_t tid;		/* ASK_LIST: whose table it is */
	size_t vms;		/* ASK_THREADS: of the process */
	size_t count;
	struct kvm_file files[ASK_FILES];
	unsigned int given[ASK_FILES];
	int errors[ASK_FILES];	/* ASK_SAME: as same_file */
	char name[KVMSTATS_MAX_VM_NAME + 1];
	char uuid[KVMSTATS_MAX_VM_NAME + 1];
	uint64_t start_ticks;	/* ASK_NAMES; 0: not to be seen */
};

#define STUCK_MAX	16

struct worker {
	pid_t pid;		/* 0: none */
	int socket_fd;
	pid_t stuck[STUCK_MAX];	/* killed, but not dead yet */
};

/*
 * One question, and all of its answer: @take is called for each message, with
 * @fds of which it owns those it sets to -1. @pidfd: or -1, if nothing is to be
 * copied. 0 or -errno of asking.
 */
int worker_ask(struct worker *worker, const struct ask *ask, int pidfd,
	       int (*take)(void *context, const struct answer *answer,
			   int *fds, size_t count), void *context);
void worker_stop(struct worker *worker);

/* finder_same.c: are these two of one file? What for is the asker's own affair. */
struct pair {
	struct place places[2];
	int same;		/* as same_serial, then as same_file */
	size_t own, other;
};

struct pairs {
	struct pair *list;
	size_t count, room;
};

int pairs_add(struct pairs *pairs, const struct pair *pair);
/* Those with same < 0. 0 or -errno of asking. */
int worker_compare(struct worker *worker, struct pairs *pairs);

/* A process that did not answer is asked again rarely: it costs the others. */
#define SLOW_MAX	16

struct slow {
	pid_t pid;
	int pidfd;		/* another of that number is not slow */
	uint64_t wait_ns, until_ns;
};

struct kvmstats_finder {
	struct slow slow[SLOW_MAX];
	struct kvmstats_vmm *first;
	struct kvmstats_cache *cache;
	struct worker worker;
	bool takes_vcpus;	/* one source for all; until the kernel has none */
	bool instead;		/* of one for each */
};

/* One source. Its file is the VMM's own, or was made from one of the VMM's. */
struct held {
	struct kvmstats_source *source;
	int number;		/* over there */
	uint64_t serial;
	bool made;
	/* of a source of all vCPUs: the numbers of those that it had */
	int *vcpus;
	size_t num_vcpus;
};

/*
 * A copy of a VM's own descriptor: what a VM without a serial number is known by
 * if we made its sources.
 */
struct token {
	int fd;			/* here */
	int number;		/* over there */
};

struct kvmstats_vmm {
	struct kvmstats_vmm *next;
	struct kvmstats_finder *finder;
	pid_t pid;
	pid_t tid;		/* a thread that has the table of descriptors */
	int pidfd;
	int table_fd;		/* a pidfd of that thread; -1: cannot be had */
	uint64_t start_ticks;
	struct kvm_files files;	/* as of the last look, each once */
	struct token *tokens;
	size_t token_count;
	struct held *held, *gone;
	size_t count, gone_count;
	size_t missing;
	int refused;		/* why the kernel makes us no statistics */
	int error;		/* why nothing could be copied */
	char name[KVMSTATS_MAX_VM_NAME + 1];
	char uuid[KVMSTATS_MAX_VM_NAME + 1];
};

/* finder.c */
/* As kvm_files_of_process, by the worker. */
int finder_list(struct kvmstats_finder *finder, pid_t pid, int pidfd,
		struct kvm_files *files, pid_t *tid);
void finder_remember_slow(struct kvmstats_finder *finder, pid_t pid);
bool finder_is_slow(struct kvmstats_finder *finder, pid_t pid);

/* finder_same.c: @files without what other vmms or its parent have, too */
int vmm_drop_shared(const struct kvmstats_vmm *vmm, struct kvm_files *files,
		    pid_t tid);

/* vmm.c: what a vmm has, against what the process has now */
/* What has gone goes to @gone. Returns changes, or -errno: nothing changed. */
int vmm_match(struct kvmstats_vmm *vmm);
/*
 * Copy what is missing. Returns KVMSTATS_VMM_GREW, 0, or -errno of asking;
 * where a part was copied before, that is the vmm's error.
 */
int vmm_take(struct kvmstats_vmm *vmm);
void vmm_drop_token(struct kvmstats_vmm *vmm, size_t index);

/* cpu_stats_threads.c: the number of the vCPU that a thread is in, or -1 */
int running_vcpu(pid_t pid, pid_t tid);

#endif /* KVMSTATS_LIB_FINDER_H */
