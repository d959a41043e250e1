/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Support for tests of KVM's binary statistics files.
 */
#ifndef SELFTEST_KVM_STATS_UTIL_H
#define SELFTEST_KVM_STATS_UTIL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "kvm_util.h"

/* ---- assertions, waiting, processes ---- */

#define TEST_ASSERT_EQ(a, b) do {					\
	uint64_t __a = (a), __b = (b);					\
									\
	TEST_ASSERT(__a == __b, "%s is %llu, %s is %llu",		\
		    #a, (unsigned long long)__a,			\
		    #b, (unsigned long long)__b);			\
} while (0)

/* Far less than the time that a test has, and far more than any wait takes. */
#define STATS_WAIT_MS	60000

uint64_t stats_now_ms(void);

/* Wait until @cond; if that takes too long, the test has failed. */
#define STATS_WAIT(cond, fmt, ...) do {					\
	uint64_t __end_ms = stats_now_ms() + STATS_WAIT_MS;		\
									\
	while (!(cond)) {						\
		TEST_ASSERT(stats_now_ms() < __end_ms,			\
			    "waited too long: " fmt, ##__VA_ARGS__);	\
		usleep(200);						\
	}								\
} while (0)

/* Fork a child that does not outlive its parent; 0 in the child. */
pid_t stats_fork(void);
/* Wait for the child, which must exit with 0. */
void stats_join(pid_t pid);

/* Pass a file on to another process, over a UNIX socket. */
void stats_send_fd(int sock, int fd);
int stats_receive_fd(int sock);

/* ---- statistics files ---- */

/* Which of the three kinds of file. */
enum stats_scope {
	STATS_VM,
	STATS_VCPU,
	STATS_VCPUS,	/* all vCPUs of a VM */
};

/* Not 0, so that an index taken for the id is seen. */
#define STATS_VCPU_ID	5

struct stats_file {
	int fd;
	/*
	 * Of STATS_VCPUS, num_desc is not the file's, which is 0, but that of
	 * vcpus; a value is that of the first vCPU.
	 */
	struct kvm_stats_header header;
	struct kvm_vcpus_stats_header vcpus;	/* of STATS_VCPUS, else 0 */
	size_t header_size;	/* in the file, in bytes */
	size_t desc_size;	/* of one descriptor with its name, in bytes */
	size_t size;		/* of the whole file, in bytes */
	uint8_t *image;		/* the file as it was when it was opened */
};

/* A VM with the vCPU STATS_VCPU_ID, which is never run. */
struct kvm_vm *stats_create_vm(void);
int stats_vcpu_fd(struct kvm_vm *vm, uint32_t vcpu_id);
/* The fd that offers statistics of @scope: the VM's or the vCPU's. */
int stats_owner_fd(struct kvm_vm *vm, enum stats_scope scope);
/* The ioctl on it: KVM_GET_STATS_FD or KVM_GET_VCPUS_STATS_FD. */
unsigned long stats_request(enum stats_scope scope);

/* The ioctl for @scope on @owner_fd, which must succeed. */
int stats_get_scope_fd(int owner_fd, enum stats_scope scope);
/* KVM_GET_STATS_FD on @owner_fd, which must succeed. */
int stats_get_fd(int owner_fd);
/* Read the file @fd; @s owns it afterwards. */
void stats_open(struct stats_file *s, int fd);
/* The statistics of a new VM, or of its vCPU; returns the VM. */
struct kvm_vm *stats_setup(struct stats_file *s, enum stats_scope scope);
void stats_close(struct stats_file *s);

/* One pread() that must give all of the @len bytes. */
void stats_pread(int fd, void *buf, size_t len, off_t pos);
/* Nothing but the data may differ from when it was opened. */
void stats_check_unchanged(const struct stats_file *s, int fd);
/* @fd must be a complete file of a VM of @pid; closes it. */
void stats_check_file(int fd, pid_t pid, enum stats_scope scope);
/* True if the byte at @pos belongs to a block that never changes. */
bool stats_is_immutable(const struct stats_file *s, size_t pos);

/* The number behind @key in fdinfo of @fd; 0 if there is no such line. */
uint64_t stats_fdinfo(int fd, const char *key);
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

/* What a statistic's descriptor must say. */
struct stats_known {
	const char *name;
	uint32_t flags;
	int exponent;
	bool histogram;
};

#define STATS_COUNTER	(KVM_STATS_TYPE_CUMULATIVE | KVM_STATS_UNIT_NONE)
#define STATS_INSTANT	(KVM_STATS_TYPE_INSTANT | KVM_STATS_UNIT_NONE)
#define STATS_PEAK	(KVM_STATS_TYPE_PEAK | KVM_STATS_UNIT_NONE)
#define STATS_BOOLEAN	(KVM_STATS_TYPE_INSTANT | KVM_STATS_UNIT_BOOLEAN)
#define STATS_TIME	(KVM_STATS_TYPE_CUMULATIVE | KVM_STATS_UNIT_SECONDS)
#define STATS_TIME_HIST	(KVM_STATS_TYPE_LOG_HIST | KVM_STATS_UNIT_SECONDS)

void stats_check_known(const struct stats_file *s,
		       const struct stats_known *known, size_t nr);

/* The present values of a statistic: all of them, the only one, their sum. */
void stats_read(const struct stats_file *s, const struct kvm_stats_desc *desc,
		uint64_t *values);
uint64_t stats_value(const struct stats_file *s, const char *name);
uint64_t stats_sum(const struct stats_file *s, const char *name);

#define TEST_STAT_EQ(s, name, expected) do {				\
	const char *__name = (name);					\
	uint64_t __value = stats_value(s, __name), __exp = (expected);	\
									\
	TEST_ASSERT(__value == __exp, "%s is %llu, expected %llu", __name, \
		    (unsigned long long)__value, (unsigned long long)__exp); \
} while (0)

#define TEST_STAT_GE(s, name, least) do {				\
	const char *__name = (name);					\
	uint64_t __value = stats_value(s, __name), __least = (least);	\
									\
	TEST_ASSERT(__value >= __least, "%s is %llu, expected %llu or more", \
		    __name, (unsigned long long)__value,		\
		    (unsigned long long)__least);			\
} while (0)

/* Whether this parameter of a kernel module is on; no if there is none. */
bool stats_parameter(const char *module, const char *name);
/* Make debugfs visible to this test if it is not; false if it cannot be. */
bool stats_find_debugfs(void);
/* Number of open file descriptors of this process. */
unsigned int stats_count_fds(void);

#endif /* SELFTEST_KVM_STATS_UTIL_H */
