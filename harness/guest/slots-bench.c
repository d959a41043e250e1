// SPDX-License-Identifier: GPL-2.0-only
/*
 * slots-bench instructions ENTRIES
 * slots-bench running VCPUS [CHANGES [without-lists]]
 *
 * What a change of memory slots costs: with a list, with plain ioctls, and with
 * plain ioctls while all vCPUs are stopped. ENTRIES: half of them delete a slot,
 * half create one in its place with another number, 64 pages in all.
 *
 * "instructions": no guest; nanoseconds, which are instructions where the clock
 * counts them. "running": vCPUs work on other memory than that which changes.
 * Microseconds: the median change, the longest one, and the longest stall of a
 * vCPU, between two looks at the TSC; page faults for each change until all vCPUs
 * have gone over their memory again. "without-lists": plain ioctls only, and page
 * faults are not counted, so that an unpatched kernel can be put under the load.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "slots-bench-x86_64.h"

/* The machine's own header does not know them. */
struct region_list {
	uint32_t nent, flags, failed, pad[5];
	struct kvm_userspace_memory_region entries[64];
};

#define SET_REGION_LIST	_IOWR(KVMIO, 0xf8, char[32])
#define GET_STATS_FD	_IO(KVMIO, 0xce)

#define PAGE		4096u
#define RANGE_PAGES	64u		/* that change */
#define RANGE_GPA	0x10000000u
#define CODE_GPA	0x1000u
#define CONTROL_GPA	0x2000u		/* 64 bytes for each vCPU */
#define OTHER_PAGES	4096u		/* 16 MiB that do not change */
#define OTHER_GPA	0x20000000u
#define VCPUS_MAX	16

enum way { LIST, PLAIN, STOP, WAYS };
static const char * const way_names[WAYS] = { "list", "plain", "stopped" };

/* Written by the guest: TSC at the last look, longest stall, passes. */
struct control {
	uint64_t tsc, longest;
	uint32_t passes, unused[11];
};

static struct vcpu {
	int fd, stats_fd;
	struct kvm_run *run;
	pthread_t thread;
} vcpus[VCPUS_MAX];

static int vm, nr_vcpus;
static bool patched = true;
static unsigned char *low, *range, *other;
static bool stop;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t parked_cond = PTHREAD_COND_INITIALIZER;
static pthread_cond_t go_cond = PTHREAD_COND_INITIALIZER;
static int nr_parked;

static void die(const char *what)
{
	fprintf(stderr, "slots-bench: %s: %s\n", what, strerror(errno));
	exit(1);
}

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000ull + t.tv_nsec;
}

static void *map(size_t size)
{
	void *p = mmap(NULL, size, PROT_READ | PROT_WRITE,
		       MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		die("mmap");
	return p;
}

static struct control *control(int i)
{
	return (struct control *)(low + CONTROL_GPA) + i;
}

/* --- machines --- */

static void add_slot(int slot, uint64_t gpa, uint64_t size, void *memory)
{
	struct kvm_userspace_memory_region r = {
		.slot = slot, .guest_phys_addr = gpa, .memory_size = size,
		.userspace_addr = (uintptr_t)memory,
	};

	if (ioctl(vm, KVM_SET_USER_MEMORY_REGION, &r))
		die("KVM_SET_USER_MEMORY_REGION");
}

static void set_up_vcpu(int i)
{
	struct kvm_regs regs = {
		.rip = CODE_GPA, .rflags = 0x202, .rbp = OTHER_PAGES,
		.rdi = CONTROL_GPA + i * sizeof(struct control),
		.rsi = OTHER_GPA,
	};
	struct kvm_segment flat = {
		.limit = ~0u, .selector = 16, .type = 3, .present = 1, .s = 1,
		.db = 1, .g = 1,
	};
	struct kvm_sregs sregs;
	struct vcpu *v = &vcpus[i];

	v->fd = ioctl(vm, KVM_CREATE_VCPU, i);
	if (v->fd < 0 || ioctl(v->fd, KVM_GET_SREGS, &sregs))
		die("a vCPU");
	sregs.cs = flat;
	sregs.ds = flat;
	sregs.es = flat;
	sregs.ss = flat;
	sregs.cs.selector = 8;
	sregs.cs.type = 11;
	sregs.cr0 |= 1;
	if (ioctl(v->fd, KVM_SET_SREGS, &sregs) ||
	    ioctl(v->fd, KVM_SET_REGS, &regs))
		die("registers");
	v->run = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, v->fd, 0);
	v->stats_fd = ioctl(v->fd, GET_STATS_FD, 0);
	if (v->run == MAP_FAILED || (patched && v->stats_fd < 0))
		die("a vCPU's files");
}

static void create_vm(void)
{
	int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);

	vm = ioctl(kvm, KVM_CREATE_VM, 0);
	if (vm < 0)
		die("KVM_CREATE_VM");
	ioctl(vm, KVM_SET_TSS_ADDR, 0xfffbd000);
	low = map(16 * PAGE);
	range = map(RANGE_PAGES * PAGE);
	memcpy(low + CODE_GPA, guest, guest_end - guest);
	add_slot(0, 0, 16 * PAGE, low);
	close(kvm);
}

/* --- running --- */

static bool is_set(const bool *flag)
{
	return __atomic_load_n(flag, __ATOMIC_RELAXED);
}

static void set(bool *flag, bool value)
{
	__atomic_store_n(flag, value, __ATOMIC_RELAXED);
}

static void park(void)
{
	pthread_mutex_lock(&lock);
	nr_parked++;
	pthread_cond_signal(&parked_cond);
	while (is_set(&stop))
		pthread_cond_wait(&go_cond, &lock);
	nr_parked--;
	pthread_mutex_unlock(&lock);
}

static void *run_vcpu(void *arg)
{
	struct vcpu *v = arg;

	for (;;) {
		if (is_set(&stop))
			park();
		if (ioctl(v->fd, KVM_RUN, 0) && errno != EINTR)
			die("KVM_RUN");
		v->run->immediate_exit = 0;
	}
	return NULL;
}

static void kick_all(void)
{
	for (int i = 0; i < nr_vcpus; i++) {
		vcpus[i].run->immediate_exit = 1;
		pthread_kill(vcpus[i].thread, SIGUSR1);
	}
}

static void stop_all(void)
{
	pthread_mutex_lock(&lock);
	set(&stop, true);
	kick_all();
	while (nr_parked < nr_vcpus)
		pthread_cond_wait(&parked_cond, &lock);
	pthread_mutex_unlock(&lock);
}

static void go_on(void)
{
	pthread_mutex_lock(&lock);
	set(&stop, false);
	pthread_cond_broadcast(&go_cond);
	pthread_mutex_unlock(&lock);
}

static uint32_t passes(int vcpu)
{
	return __atomic_load_n(&control(vcpu)->passes, __ATOMIC_RELAXED);
}

/* Until each has gone over all of its memory at least once. */
static void wait_passes(void)
{
	uint32_t first[VCPUS_MAX];

	for (int i = 0; i < nr_vcpus; i++)
		first[i] = passes(i);
	for (int i = 0; i < nr_vcpus; i++)
		while (passes(i) - first[i] < 2)
			usleep(1000);
}

static uint64_t count_faults(void)
{
	uint32_t h[6], offset;
	uint64_t sum = 0, value;
	char d[256];

	for (int i = 0; patched && i < nr_vcpus; i++) {
		int fd = vcpus[i].stats_fd;

		if (pread(fd, h, sizeof(h), 0) != sizeof(h))
			die("statistics");
		for (uint32_t k = 0; k < h[2]; k++) {
			if (pread(fd, d, 16 + h[1], h[4] + k * (16 + h[1])) < 0)
				die("statistics");
			memcpy(&offset, d + 8, sizeof(offset));
			if (strcmp(d + 16, "pf_fixed"))
				continue;
			if (pread(fd, &value, 8, h[5] + offset) != 8)
				die("statistics");
			sum += value;
		}
	}
	return sum;
}

/* --- changes --- */

static void fill(struct region_list *l, int entries, bool back)
{
	int nr = entries / 2, pages = RANGE_PAGES / nr;

	memset(l, 0, sizeof(*l));
	l->nent = 2 * nr;
	for (int i = 0; i < nr; i++) {
		l->entries[i].slot = (back ? 101 : 1) + i;
		l->entries[nr + i] = (struct kvm_userspace_memory_region) {
			.slot = (back ? 1 : 101) + i,
			.guest_phys_addr = RANGE_GPA + i * pages * PAGE,
			.memory_size = pages * PAGE,
			.userspace_addr = (uintptr_t)range + i * pages * PAGE,
		};
	}
}

static uint64_t change(enum way way, struct region_list *l)
{
	uint64_t start = now_ns();

	if (way == LIST) {
		if (ioctl(vm, SET_REGION_LIST, l))
			die("a list");
		return now_ns() - start;
	}
	if (way == STOP)
		stop_all();
	for (uint32_t i = 0; i < l->nent; i++)
		if (ioctl(vm, KVM_SET_USER_MEMORY_REGION, &l->entries[i]))
			die("a plain ioctl");
	if (way == STOP)
		go_on();
	return now_ns() - start;
}

static void create_range(int entries)
{
	struct region_list l;

	fill(&l, entries, true);
	for (uint32_t i = l.nent / 2; i < l.nent; i++)
		if (ioctl(vm, KVM_SET_USER_MEMORY_REGION, &l.entries[i]))
			die("the range");
}

static int compare(const void *a, const void *b)
{
	const uint64_t *x = a, *y = b;

	return *x < *y ? -1 : *x > *y;
}

static void bench_instructions(int entries)
{
	struct region_list l[2];
	uint64_t ns[20];

	create_vm();
	create_range(entries);
	fill(&l[0], entries, false);
	fill(&l[1], entries, true);
	for (enum way way = LIST; way <= PLAIN; way++) {
		for (int i = 0; i < 20; i++)
			ns[i] = change(way, &l[i % 2]);
		qsort(ns, 20, sizeof(*ns), compare);
		printf("%s %d %llu\n", way_names[way], entries,
		       (unsigned long long)ns[10]);
	}
}

static void bench_way(enum way way, int changes)
{
	uint64_t *ns = calloc(changes, sizeof(*ns)), before, faults = 0;
	uint64_t longest = 0, stall;
	struct region_list l;

	for (int i = 0; i < nr_vcpus; i++)
		__atomic_store_n(&control(i)->longest, 0, __ATOMIC_RELAXED);
	for (int i = 0; i < changes; i++) {
		fill(&l, 8, i % 2);
		before = count_faults();
		ns[i] = change(way, &l);
		wait_passes();
		faults += count_faults() - before;
	}
	for (int i = 0; i < nr_vcpus; i++) {
		stall = __atomic_load_n(&control(i)->longest, __ATOMIC_RELAXED);
		if (stall > longest)
			longest = stall;
	}
	qsort(ns, changes, sizeof(*ns), compare);
	printf("%s %d %llu %llu %llu %llu\n", way_names[way], nr_vcpus,
	       (unsigned long long)ns[changes / 2] / 1000,
	       (unsigned long long)ns[changes - 1] / 1000,
	       (unsigned long long)longest / 1000,
	       (unsigned long long)faults / changes);
	fflush(stdout);
	free(ns);
}

static void no_op(int sig)
{
	(void)sig;
}

/* QEMU's TSC counts nanoseconds. */
static void bench_running(int changes)
{
	struct sigaction sa = { .sa_handler = no_op };

	sigaction(SIGUSR1, &sa, NULL);
	create_vm();
	other = map((size_t)OTHER_PAGES * PAGE);
	memset(other, 0, (size_t)OTHER_PAGES * PAGE);
	add_slot(200, OTHER_GPA, (uint64_t)OTHER_PAGES * PAGE, other);
	create_range(8);
	for (int i = 0; i < nr_vcpus; i++) {
		set_up_vcpu(i);
		if (pthread_create(&vcpus[i].thread, NULL, run_vcpu, &vcpus[i]))
			die("pthread_create");
	}
	for (enum way way = patched ? LIST : PLAIN; way < WAYS; way++) {
		wait_passes();
		bench_way(way, changes);
	}
	exit(0);
}

int main(int argc, char **argv)
{
	int n = argc > 2 ? atoi(argv[2]) : 0;

	if (argc == 3 && !strcmp(argv[1], "instructions") && n >= 2 && n <= 64) {
		bench_instructions(n);
		return 0;
	}
	nr_vcpus = n;
	patched = argc < 5;
	if (argc >= 3 && argc <= 5 && !strcmp(argv[1], "running") &&
	    n >= 1 && n <= VCPUS_MAX &&
	    (patched || !strcmp(argv[4], "without-lists")))
		bench_running(argc > 3 ? atoi(argv[3]) : 20);
	fputs("usage: slots-bench instructions ENTRIES (2 to 64)\n"
	      "       slots-bench running VCPUS (1 to 16) [CHANGES [without-lists]]\n", stderr);
	return 2;
}
