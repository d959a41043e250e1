/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Support for tests of KVM's binary statistics files.
 *
 * The first half runs a table of cases, each in a process of its own: a case
 * that fails, hangs or trips an assertion of the library is one failed result
 * and leaves nothing behind for the next.  The second half opens and reads a
 * statistics file.
 */
#ifndef SELFTEST_KVM_STATS_UTIL_H
#define SELFTEST_KVM_STATS_UTIL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "kvm_util.h"

/* ---- running cases ---- */

/* Which of the two kinds of file a case looks at; both means two results. */
enum stats_scope {
	STATS_NO_SCOPE	= 0,
	STATS_VM	= 1,
	STATS_VCPU	= 2,
	STATS_BOTH	= STATS_VM | STATS_VCPU,
};

struct stats_case {
	const char *name;
	void (*run)(enum stats_scope scope);
	enum stats_scope scopes;
	unsigned int timeout_s;		/* 0: STATS_TIMEOUT_S */
};

/* Enough for every case on an emulated CPU that shares its host. */
#define STATS_TIMEOUT_S		120

/*
 * Run the cases of @cases whose "name.scope" contains @pattern (all of them if
 * it is NULL) and report each by one TAP line.  Returns the exit status.
 */
int stats_run_cases(const struct stats_case *cases, size_t nr,
		    const char *pattern);

/* End the current case.  Both may be called in a child of the case as well. */
void __attribute__((noreturn)) __printf(3, 4)
stats_fail(const char *file, int line, const char *fmt, ...);
void __attribute__((noreturn)) __printf(1, 2)
stats_skip(const char *fmt, ...);

/* What to say if the case runs out of time from here on. */
void __printf(1, 2) stats_doing(const char *fmt, ...);

#define STATS_CHECK(cond, fmt, ...) do {				\
	if (!(cond))							\
		stats_fail(__FILE__, __LINE__, fmt, ##__VA_ARGS__);	\
} while (0)

/* Fork a child that does not outlive its parent; 0 in the child. */
pid_t stats_fork(void);
/* Wait for the child; if it did not exit with 0, the case ends as it did. */
void stats_join(pid_t pid);

/* ---- statistics files ---- */

/* Not 0, so that an index taken for the id is seen. */
#define STATS_VCPU_ID	5

struct stats_file {
	int fd;
	struct kvm_stats_header header;
	size_t desc_size;	/* of one descriptor with its name, in bytes */
	size_t size;		/* of the whole file, in bytes */
	uint8_t *image;		/* the file as it was when it was opened */
};

/* A VM with the vCPU STATS_VCPU_ID, which is never run. */
struct kvm_vm *stats_create_vm(void);
int stats_vcpu_fd(struct kvm_vm *vm, uint32_t vcpu_id);
/* The fd that offers statistics of @scope: the VM's or the vCPU's. */
int stats_owner_fd(struct kvm_vm *vm, enum stats_scope scope);

/* KVM_GET_STATS_FD on @owner_fd; ends the case if it fails. */
int stats_get_fd(int owner_fd);
/* Read the file @fd; @s owns it afterwards. */
void stats_open(struct stats_file *s, int fd);
/* The statistics of a new VM, or of its vCPU; returns the VM. */
struct kvm_vm *stats_setup(struct stats_file *s, enum stats_scope scope);
void stats_close(struct stats_file *s);

/* One pread() that must give all of the @len bytes. */
void stats_pread(int fd, void *buf, size_t len, off_t pos);
/* End the case if anything but the data differs from when it was opened. */
void stats_check_unchanged(const struct stats_file *s, int fd);
/* End the case unless @fd is a complete file of a VM of @pid; closes it. */
void stats_check_file(int fd, pid_t pid, enum stats_scope scope);
/* True if the byte at @pos belongs to a block that never changes. */
bool stats_is_immutable(const struct stats_file *s, size_t pos);

const char *stats_id(const struct stats_file *s);
/* The id must name the creator @pid, and the vCPU if @vcpu_id is not -1. */
void stats_check_id(const struct stats_file *s, pid_t pid, int vcpu_id);
const struct kvm_stats_desc *stats_desc(const struct stats_file *s,
					uint32_t index);
/* The descriptor of this name; stats_find() returns NULL if there is none. */
const struct kvm_stats_desc *stats_find(const struct stats_file *s,
					const char *name);
const struct kvm_stats_desc *stats_need(const struct stats_file *s,
					const char *name);

/* The present values of a statistic: all of them, the only one, their sum. */
void stats_read(const struct stats_file *s, const struct kvm_stats_desc *desc,
		uint64_t *values);
uint64_t stats_value(const struct stats_file *s, const char *name);
uint64_t stats_sum(const struct stats_file *s, const char *name);

/* Make debugfs visible to this case if it is not; false if it cannot be. */
bool stats_find_debugfs(void);
/* Number of open file descriptors of this process. */
unsigned int stats_count_fds(void);

#endif /* SELFTEST_KVM_STATS_UTIL_H */
