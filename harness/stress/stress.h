/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the stress programs share: random numbers, failing, cases in TAP, VMs
 * with a small guest, and a model of a statistics file.
 */
#ifndef STRESS_H
#define STRESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "../../userspace/common/quota_uapi.h"

#define ARRAY_SIZE(a)	(sizeof(a) / sizeof((a)[0]))
#define __printf(at, first)	__attribute__((__format__(__printf__, at, first)))

/* --- common.c: random numbers, failing, cases --- */

struct rng {
	uint64_t state;
};

void rng_start(struct rng *rng, uint64_t seed, uint64_t stream);
uint64_t rng_next(struct rng *rng);
uint64_t rng_below(struct rng *rng, uint64_t n);
bool one_in(struct rng *rng, unsigned int n);
uint64_t random_seed(void);

/* What this thread does, and how to do it again; printed when it fails. */
extern __thread char doing[200];
extern char rerun[200];
#define DOING(...) snprintf(doing, sizeof(doing), __VA_ARGS__)

/* What a process that failed exits with; anything else is as bad. */
#define EXIT_FAILED	1

__printf(3, 4)
_Noreturn void fail_at(const char *file, int line, const char *fmt, ...);
#define FAIL(...) fail_at(__FILE__, __LINE__, __VA_ARGS__)
#define CHECK(condition, ...) do { \
	if (!(condition)) \
		FAIL(__VA_ARGS__); \
} while (0)

struct test_case {
	const char *name;
	void (*run)(long arg);
	long arg;
};

/* Each in a process of its own; returns what main() returns. */
int run_cases(const struct test_case *cases, size_t nr, const char *pattern,
	      unsigned int limit_s);

uint64_t now_ms(void);
void sleep_ms(unsigned int ms);
pid_t start_process(void);
void join_process(pid_t pid);
void end_process(pid_t pid);
int lowest_free_fd(void);
unsigned int count_fds(void);
long read_number(const char *path);
bool write_text(const char *path, const char *text);

/* --- kvm.c: VMs and vCPUs --- */

/* struct kvm_userspace_memory_region_list, which the compiler's headers lack. */
struct region_list {
	uint32_t nent, flags, failed, pad[5];
	struct kvm_userspace_memory_region entries[16];
};

#define LIST_CAP	51001
#define SET_REGION_LIST	_IOWR(KVMIO, 0xf8, char[32])

#define CODE_GPA	0x40000000ull
#define DATA_GPA	0x50000000ull
#define PAGE_BYTES	4096ull

/*
 * The guest writes its random number to a random page, for ever; after each
 * @burst writes it leaves for userspace. Its program and its random numbers
 * are the same on all architectures, and guest_next() knows them.
 */
struct guest_start {
	uint32_t random;	/* not 0 */
	uint32_t page_mask;	/* pages less one, a power of two less one */
	uint32_t burst;
};

static inline uint32_t guest_next(uint32_t random)
{
	random ^= random << 13;
	random ^= random >> 17;
	return random ^ random << 5;
}

static inline uint64_t guest_page(uint32_t random, uint32_t page_mask)
{
	return random >> 12 & page_mask;
}

extern int kvm_fd;
/* The kernel under test, not another that has a statistics fd, too. */
extern bool own_kernel;

void kvm_open(void);
int call(int fd, unsigned long request, const void *arg, const char *name);
#define CALL(fd, request, arg) \
	call(fd, request, (const void *)(uintptr_t)(arg), #request)

int create_vm(void);
int create_vcpu(int vm_fd, int id);
int get_stats_fd(int owner_fd);
/* 0 or errno. */
int enable_quota(int vm_fd);
/* Is the quota that one writes in force? Leaves none. */
bool is_limited(int vcpu_fd);
int set_slot(int vm_fd, unsigned int slot, unsigned int flags, uint64_t gpa,
	     const void *memory, uint64_t size_bytes);
void *map_pages(uint64_t size_bytes);
struct kvm_run *map_run(int vcpu_fd);
void unmap_run(struct kvm_run *run);
uint64_t *run_quota(struct kvm_run *run);
/* KVM_RUN; false if it returned EINTR. */
bool run_vcpu(int vcpu_fd, struct kvm_run *run);

/* A VM that can run: slot 0 has the guest's code. */
int create_guest_vm(bool quota);
int create_guest_vcpu(int vm_fd, int id, const struct guest_start *start);
/* Was that exit the end of a burst? */
bool is_burst_end(const struct kvm_run *run);

/* guest-<arch>.c */
void guest_set_up(int vm_fd, int vcpu_fd, const struct guest_start *start);
extern const unsigned char guest_code[], guest_code_end[];

/* VMs that KVM has, as far as the kernel tells; waits for the last to go. */
long count_vms(void);
void wait_for_vms(long nr);

/* --- stats.c: the model of a statistics file --- */

#define MAX_WORDS	512
#define ID_BYTES	48

enum stats_kind {
	STATS_ANY,
	STATS_GROWS,
	STATS_BOOLEAN,
};

/* What is the same for all files of VMs, and for all of vCPUs. */
struct stats_schema {
	struct kvm_stats_header header;
	unsigned char *fixed;		/* what precedes the data */
	uint64_t data_offset, size;
	unsigned int nr_words;
	unsigned char kinds[MAX_WORDS];
	const char *names[MAX_WORDS];
};

extern struct stats_schema vm_schema, vcpu_schema;

/* What one reader knows of one file. */
struct stats_ref {
	const struct stats_schema *schema;
	char id[ID_BYTES];
	uint64_t last[MAX_WORDS];
};

/* Before the first stats_ref_init(), while there is one thread. */
void learn_schemas(void);
/* @vm_id: what its VM's id string is, NULL if unknown; -1: a VM's file. */
void stats_ref_init(struct stats_ref *ref, int fd, const char *vm_id,
		    int vcpu_id);
/* Bytes that were read at @offset and are all there. */
void stats_check(struct stats_ref *ref, uint64_t offset,
		 const unsigned char *bytes, size_t size_bytes, bool values);
void stats_read_all(struct stats_ref *ref, int fd);
/* Where the records are in a file of all vCPUs. */
uint64_t stats_records_offset(void);
uint64_t stats_value(const struct stats_ref *ref, const char *name);

/* --- sock.c: descriptors in messages --- */

void send_fd(int sock, int fd, const void *text, size_t size_bytes);
/* -1 if there is nothing to receive. */
int receive_fd(int sock, void *text, size_t size_bytes);

/* --- uring.c --- */

struct uring {
	int fd;
	unsigned char *rings, *sqes;
	size_t rings_bytes, sqes_bytes;
	uint32_t *sq_tail, *sq_mask, *sq_array;
	uint32_t *cq_head, *cq_tail, *cq_mask;
	unsigned char *cqes;
};

struct io_uring_sqe;

bool uring_open(struct uring *ring);
void uring_close(struct uring *ring);
int uring_register(const struct uring *ring, unsigned int opcode,
		   const void *arg, unsigned int nr);
struct io_uring_sqe *uring_sqe(struct uring *ring);
/* One request and its result; -errno also for io_uring_enter()'s own errors. */
int uring_submit(struct uring *ring);

#endif /* STRESS_H */
