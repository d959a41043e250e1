// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Dirty quota for a VMM that knows nothing of it
 *
 * While most of its memory is in a dirty log, as it is during a live migration, the
 * VM may dirty KVMSTATS_DIRTY_QUOTA bytes a second. Time is divided into intervals;
 * in each, every vCPU may claim an equal share of what the interval is worth. What
 * nobody claimed goes into a pool, from which those take more that have used up
 * their share, until the next round of the migration begins. A vCPU that gets nothing
 * waits for the interval's end: inside KVM_RUN, as far as the VMM can see, where a
 * signal or immediate_exit ends it as ever.
 *
 * Whoever dirties little does not come to a limit, and runs as without all this.
 */
#include <errno.h>
#include <linux/kvm.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "../common/quota_uapi.h"
#include "../lib/internal.h"
#include "preload.h"

#define VCPUS_MAX	1024
#define SLOTS_MAX	1024
#define NS_PER_S	1000000000ll
#define INTERVAL_NS	(NS_PER_S / 5)	/* as QEMU's own: docs/qemu.md */
#define SLICE_NS	(NS_PER_S / 100) /* until a waiter sees that it is over */
#define CHUNK		16	/* pages at least that are taken from the pool */

/* Of those that have run; a vCPU's file is mapped only then. */
struct quota_vcpu {
	atomic_int fd;		/* -1: it was closed */
	struct kvm_run *run;
	int64_t interval;	/* of its last claim */
	uint64_t limit;		/* pages in its life; 0: its count is not known */
};

struct slot {
	uint32_t number;
	bool logged;
	uint64_t bytes;
};

uint64_t preload_quota;

/* What follows, and the vCPUs' intervals and limits, is under the lock. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct quota_vcpu vcpus[VCPUS_MAX];
static unsigned int vcpu_count;
static struct slot slots[SLOTS_MAX];
static unsigned int slot_count;
static bool active;
static int64_t start_ns, interval;
static unsigned int claimed;	/* shares of this interval */
static uint64_t share, pool;	/* pages */
static double rest;		/* of the budget, under a page for each vCPU */

/* There from the start, without a function that each C library has elsewhere. */
static _Thread_local __attribute__((__tls_model__("initial-exec")))
struct quota_vcpu *mine;

void preload_quota_environment(void)
{
	const char *text = getenv("KVMSTATS_DIRTY_QUOTA");

	if (text && *text >= '0' && *text <= '9')
		preload_quota = parse_digits(&text) / sysconf(_SC_PAGESIZE);
}

static int64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * NS_PER_S + now.tv_nsec;
}

/* 0 is no limit. KVM sees it before the vCPU dirties its next page. */
static void set_limit(struct quota_vcpu *vcpu, uint64_t pages)
{
	uint64_t *limit = (void *)((char *)vcpu->run + QUOTA_RUN_OFFSET);

	__atomic_store_n(limit, pages, __ATOMIC_RELEASE);
}

/* Account for the intervals that have gone by. */
static void advance(int64_t now)
{
	int64_t current = (now - start_ns) / INTERVAL_NS;
	int64_t skipped = current - interval - 1;
	double budget = (double)preload_quota * INTERVAL_NS / NS_PER_S;

	if (skipped < 0 || !vcpu_count)
		return;
	pool += share * (vcpu_count - claimed) + (uint64_t)(budget * skipped);
	rest += budget;
	share = rest / vcpu_count;
	rest -= (double)share * vcpu_count;
	claimed = 0;
	interval = current;
}

static uint64_t claim(struct quota_vcpu *vcpu)
{
	uint64_t pages = share > CHUNK ? share : CHUNK;

	if (vcpu->interval != interval) {
		vcpu->interval = interval;
		claimed++;
		return share;
	}
	if (pages > pool)
		pages = pool;
	pool -= pages;
	return pages;
}

/* It has dirtied @count pages: how long it has to wait for more */
static int64_t take(struct quota_vcpu *vcpu, uint64_t count)
{
	int64_t now = now_ns(), wait_ns = 0;

	pthread_mutex_lock(&lock);
	if (!active) {
		set_limit(vcpu, 0);
		goto out;
	}
	if (!vcpu->limit)
		vcpu->limit = count;
	advance(now);
	/* By what it went beyond its limit it gets less. */
	vcpu->limit += claim(vcpu);
	if (vcpu->limit <= count)
		vcpu->limit += claim(vcpu);
	if (vcpu->limit > count)
		set_limit(vcpu, vcpu->limit);
	else
		wait_ns = start_ns + (interval + 1) * INTERVAL_NS - now;
out:
	pthread_mutex_unlock(&lock);
	return wait_ns;
}

/*
 * False if a signal came. None is lost: they are let in by ppoll() only, and
 * immediate_exit is looked at with all of them kept out.
 */
static bool wait_for_pages(struct quota_vcpu *vcpu)
{
	const struct quota_full *full =
		(void *)((char *)vcpu->run + QUOTA_EXIT_OFFSET);
	sigset_t all, before;
	bool undisturbed = true;
	int64_t wait_ns;

	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, &before);
	while (undisturbed &&
	       !__atomic_load_n(&vcpu->run->immediate_exit, __ATOMIC_RELAXED)) {
		struct timespec slice = { .tv_nsec = SLICE_NS };

		wait_ns = take(vcpu, full->dirty_count);
		if (!wait_ns)
			break;
		if (wait_ns < SLICE_NS)
			slice.tv_nsec = wait_ns;
		undisturbed = !ppoll(NULL, 0, &slice, &before);
	}
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return undisturbed;
}

/* Under the lock */
static struct quota_vcpu *find(int fd)
{
	for (unsigned int i = 0; i < vcpu_count; i++)
		if (vcpus[i].fd == fd)
			return &vcpus[i];
	return NULL;
}

static struct quota_vcpu *add(int fd)
{
	void *run = mmap(NULL, sysconf(_SC_PAGESIZE), PROT_READ | PROT_WRITE,
			 MAP_SHARED, fd, 0);
	struct quota_vcpu *vcpu = find(-1);

	if (run == MAP_FAILED)
		return NULL;
	if (!vcpu && vcpu_count < VCPUS_MAX)
		vcpu = &vcpus[vcpu_count++];
	if (!vcpu) {
		munmap(run, sysconf(_SC_PAGESIZE));
		return NULL;
	}
	*vcpu = (struct quota_vcpu){ .fd = fd, .run = run, .interval = -1 };
	set_limit(vcpu, active);
	return vcpu;
}

/* NULL: it has no limit */
static struct quota_vcpu *vcpu_of(int fd)
{
	int error = errno;

	if (mine && mine->fd == fd)
		return mine;
	pthread_mutex_lock(&lock);
	mine = find(fd);
	if (!mine)
		mine = add(fd);
	pthread_mutex_unlock(&lock);
	errno = error;
	return mine;
}

int preload_quota_run(ioctl_fn *next, int fd, void *argument)
{
	struct quota_vcpu *vcpu = vcpu_of(fd);
	int result;

	for (;;) {
		result = next(fd, KVM_RUN, argument);
		if (result || !vcpu ||
		    vcpu->run->exit_reason != QUOTA_EXIT_FULL)
			return result;
		if (!wait_for_pages(vcpu)) {
			vcpu->run->exit_reason = KVM_EXIT_INTR;
			errno = EINTR;
			return -1;
		}
	}
}

/* Each vCPU exits at its next dirtied page, and its count is known then. */
static void start(void)
{
	start_ns = now_ns();
	interval = -1;
	claimed = vcpu_count;
	share = 0;
	pool = 0;
	rest = 0;
	active = true;
	for (unsigned int i = 0; i < vcpu_count; i++) {
		vcpus[i].interval = -1;
		vcpus[i].limit = 0;
		if (vcpus[i].fd >= 0)
			set_limit(&vcpus[i], 1);
	}
}

/* Those that wait see it after a slice. */
static void stop(void)
{
	active = false;
	for (unsigned int i = 0; i < vcpu_count; i++)
		if (vcpus[i].fd >= 0)
			set_limit(&vcpus[i], 0);
}

/* A screen's memory is in a dirty log all the time: it counts as what it is. */
static bool is_migrated(void)
{
	uint64_t all = 0, logged = 0;

	for (unsigned int i = 0; i < slot_count; i++) {
		all += slots[i].bytes;
		logged += slots[i].logged ? slots[i].bytes : 0;
	}
	return logged > all / 2;
}

static struct slot *find_slot(uint32_t number)
{
	struct slot *empty = NULL;

	for (unsigned int i = 0; i < slot_count; i++) {
		if (slots[i].number == number)
			return &slots[i];
		if (!slots[i].bytes)
			empty = &slots[i];
	}
	if (!empty && slot_count < SLOTS_MAX)
		empty = &slots[slot_count++];
	if (empty)
		*empty = (struct slot){ .number = number };
	return empty;
}

void preload_quota_slot_set(const void *argument)
{
	const struct kvm_userspace_memory_region *region = argument;
	struct slot *slot;

	pthread_mutex_lock(&lock);
	slot = find_slot(region->slot);
	if (slot) {
		slot->bytes = region->memory_size;
		slot->logged = region->flags & KVM_MEM_LOG_DIRTY_PAGES;
	}
	if (is_migrated() && !active)
		start();
	else if (active && !is_migrated())
		stop();
	pthread_mutex_unlock(&lock);
}

/* A new round, if it is most of the memory: what was saved up is not valid there. */
void preload_quota_log_taken(const void *argument)
{
	const struct kvm_dirty_log *log = argument;
	uint64_t largest = 0;
	struct slot *slot;

	pthread_mutex_lock(&lock);
	for (unsigned int i = 0; i < slot_count; i++)
		if (slots[i].bytes > largest)
			largest = slots[i].bytes;
	slot = find_slot(log->slot);
	if (active && slot && slot->bytes == largest) {
		advance(now_ns());
		pool = 0;
	}
	pthread_mutex_unlock(&lock);
}

void preload_quota_vm_created(ioctl_fn *next, int vm_fd)
{
	struct kvm_enable_cap enable = { .cap = QUOTA_CAP };

	/* A kernel without it says no: the VM runs as ever. */
	next(vm_fd, KVM_ENABLE_CAP, &enable);
}

/* Its number may have been that of one that is gone. */
void preload_quota_vcpu_created(int fd)
{
	struct quota_vcpu *vcpu;

	pthread_mutex_lock(&lock);
	vcpu = find(fd);
	if (vcpu) {
		vcpu->fd = -1;
		munmap(vcpu->run, sysconf(_SC_PAGESIZE));
	}
	pthread_mutex_unlock(&lock);
}
