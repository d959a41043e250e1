// SPDX-License-Identifier: GPL-2.0-only
/*
 * kvm_memslot_list_race_test
 *
 * KVM_SET_USER_MEMORY_REGION_LIST while vCPUs run and another thread does what
 * concerns memory slots, too: sets single slots, harvests dirty logs, unmaps the
 * memory, creates vCPUs; or has the whole process killed.
 *
 * Usage: kvm_memslot_list_race_test [PART-OF-A-TEST'S-NAME]
 * MEMSLOT_LIST_CHANGES in the environment: how often a layout changes.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>
#include <linux/bitops.h>
#include <linux/compiler.h>

#include "kvm_memslot_list_util.h"
#include "kvm_test_harness.h"

#define NR_CHANGES	200

/* Of nobody else. */
#define OTHER_SLOT	(ML_SLOT + ML_NR_SLOTS)
#define OTHER_GPA	0x38000000UL

struct race {
	struct ml_vm m;
	pthread_t thread;
	bool stop;
	uint64_t rounds;	/* of the other thread */
	uint64_t bits;		/* that it has harvested */
};

/* What the other thread does all the time. */
typedef void (*rival_t)(struct race *r);

struct rival {
	struct race *race;
	rival_t round;
};

static void *run_rival(void *arg)
{
	struct rival *rival = arg;

	while (!READ_ONCE(rival->race->stop)) {
		rival->round(rival->race);
		WRITE_ONCE(rival->race->rounds, rival->race->rounds + 1);
	}
	return NULL;
}

/* Change the layout often, and at least while the rival makes some rounds. */
static void race(struct race *r, const struct ml_config *config, rival_t round)
{
	struct rival rival = { r, round };
	uint64_t start = stats_now_ms();
	struct ml_layout l;
	unsigned int i;

	memset(r, 0, sizeof(*r));
	ml_create(&r->m, config);
	ml_start(&r->m);
	ml_wait_passes(&r->m, 2);
	TEST_ASSERT(!pthread_create(&r->thread, NULL, run_rival, &rival),
		    "pthread_create");
	for (i = 0; READ_ONCE(r->rounds) < 5 || ml_go_on(i, NR_CHANGES, start);
	     i++) {
		ml_random_layout(&r->m, &l);
		ml_change(&r->m, &l);
		TEST_ASSERT(!ml_failure(&r->m), "%s after %u changes",
			    ml_failure(&r->m), i);
		usleep(ml_random(&r->m) % 300);
	}
	WRITE_ONCE(r->stop, true);
	pthread_join(r->thread, NULL);
	TEST_ASSERT(!ml_is_broken(&r->m), "%s after %u changes",
		    ml_failure(&r->m) ?: "stuck", i);
	ml_stop(&r->m);
	printf("# %u changes, %llu rounds\n", i,
	       (unsigned long long)r->rounds);
}

static const struct ml_config two_vcpus = { .nr_vcpus = 2 },
	twice = { .nr_vcpus = 2, .twice = true, .tables = true };

/* ---- single slots ---- */

static void set_other_slot(struct race *r)
{
	struct kvm_userspace_memory_region region = {
		.slot = OTHER_SLOT,
		.guest_phys_addr = OTHER_GPA,
		.memory_size = getpagesize(),
		.userspace_addr = (uintptr_t)r->m.memory[0],
	};
	int fd = vm_get_fd(r->m.vm);

	TEST_ASSERT(!ioctl(fd, KVM_SET_USER_MEMORY_REGION, &region), "create");
	region.flags = KVM_MEM_LOG_DIRTY_PAGES;
	TEST_ASSERT(!ioctl(fd, KVM_SET_USER_MEMORY_REGION, &region), "flags");
	region.guest_phys_addr += getpagesize();
	TEST_ASSERT(!ioctl(fd, KVM_SET_USER_MEMORY_REGION, &region), "move");
	region.memory_size = 0;
	TEST_ASSERT(!ioctl(fd, KVM_SET_USER_MEMORY_REGION, &region), "delete");
}

TEST(plain_ioctls)
{
	struct race r;

	race(&r, &two_vcpus, set_other_slot);
	ml_destroy(&r.m);
}

TEST(plain_ioctls_addresses)
{
	struct race r;

	race(&r, &twice, set_other_slot);
	ml_destroy(&r.m);
}

/* Another thread's list, of another slot: they take turns. */
static void list_other_slot(struct race *r)
{
	struct ml_list *l = malloc(sizeof(*l));
	int fd = vm_get_fd(r->m.vm);

	ml_begin(l);
	ml_add(l, OTHER_SLOT, OTHER_GPA, getpagesize(), r->m.memory[0], 0);
	TEST_ASSERT_EQ(ml_apply(fd, l), 0);
	ml_begin(l);
	ml_add(l, OTHER_SLOT, 0, 0, NULL, 0);
	TEST_ASSERT_EQ(ml_apply(fd, l), 0);
	free(l);
}

TEST(lists)
{
	struct race r;

	race(&r, &two_vcpus, list_other_slot);
	ml_destroy(&r.m);
}

/* ---- dirty logs ---- */

static unsigned int count_bits(const unsigned long *bits, unsigned int nr)
{
	unsigned int sum = 0;

	while (nr--)
		sum += __builtin_popcountl(bits[nr]);
	return sum;
}

/* All slots that the range may be in; whether one is there changes meanwhile. */
static void harvest(struct race *r)
{
	unsigned int i, nr = DIV_ROUND_UP(r->m.nr_pages, BITS_PER_LONG);
	unsigned long *bits = calloc(nr, sizeof(*bits));
	struct kvm_dirty_log log;

	for (i = 0; i < ML_NR_SLOTS; i++) {
		memset(&log, 0, sizeof(log));
		log.slot = ML_SLOT + i;
		log.dirty_bitmap = bits;
		memset(bits, 0, nr * sizeof(*bits));
		if (ioctl(vm_get_fd(r->m.vm), KVM_GET_DIRTY_LOG, &log))
			TEST_ASSERT_EQ(errno, ENOENT);
		else
			r->bits += count_bits(bits, nr);
	}
	free(bits);
}

/*
 * Whatever slot a bit is in when it is harvested: each is found once, so their sum
 * is what the vCPUs were charged, but for what is documented.
 */
static void check_harvest(const struct ml_config *config)
{
	uint64_t charged, updates;
	struct race r;

	race(&r, config, harvest);
	harvest(&r);
	charged = ml_vcpu_stat(&r.m, "pages_dirtied");
	updates = stats_value(&r.m.stats, "memslot_updates");
	printf("# %llu bits, %llu charged\n", (unsigned long long)r.bits,
	       (unsigned long long)charged);
	TEST_ASSERT(charged >= r.bits &&
		    charged <= r.bits + config->nr_vcpus * updates,
		    "%llu charged for %llu bits", (unsigned long long)charged,
		    (unsigned long long)r.bits);
	ml_destroy(&r.m);
}

TEST(harvest_with_quota)
{
	const struct ml_config config = {
		.nr_vcpus = 2, .nr_pages = 128, .random = true, .quota = true,
		.flags = KVM_MEM_LOG_DIRTY_PAGES,
	};

	check_harvest(&config);
}

static void clear(struct race *r)
{
	unsigned int i, nr = DIV_ROUND_UP(r->m.nr_pages, BITS_PER_LONG);
	unsigned long *bits = calloc(nr, sizeof(*bits));
	struct kvm_clear_dirty_log log;

	harvest(r);
	memset(bits, 0xff, nr * sizeof(*bits));
	for (i = 0; i < ML_NR_SLOTS; i++) {
		memset(&log, 0, sizeof(log));
		log.slot = ML_SLOT + i;
		log.num_pages = 64;
		log.dirty_bitmap = bits;
		/* No such slot, or none of that size. */
		if (ioctl(vm_get_fd(r->m.vm), KVM_CLEAR_DIRTY_LOG, &log))
			TEST_ASSERT(errno == ENOENT || errno == EINVAL,
				    "errno %d", errno);
	}
	free(bits);
}

TEST(clear_initially_set)
{
	const struct ml_config config = {
		.nr_vcpus = 2, .nr_pages = 128,
		.flags = KVM_MEM_LOG_DIRTY_PAGES,
		.manual_protect = KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE |
				  KVM_DIRTY_LOG_INITIALLY_SET,
	};
	struct race r;

	if (kvm_check_cap(KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2) <= 1)
		SKIP(return, "logs cannot begin with all pages");
	race(&r, &config, clear);
	ml_destroy(&r.m);
}

/* ---- the memory ---- */

/* What is unmapped is found again; what is protected otherwise may be written. */
static void unmap_some(struct race *r)
{
	size_t page = getpagesize(), first, nr;
	unsigned int i;

	for (i = 0; i < 2; i++) {
		first = r->rounds * 7 % r->m.nr_pages;
		nr = 1 + r->rounds % (r->m.nr_pages - first);
		TEST_ASSERT(!madvise(r->m.memory[i] + first * page, nr * page,
				     MADV_DONTNEED), "madvise");
		TEST_ASSERT(!mprotect(r->m.memory[i] + first * page, nr * page,
				      PROT_READ | PROT_WRITE |
				      (r->rounds & 1 ? PROT_EXEC : 0)),
			    "mprotect");
	}
}

TEST(mmu_notifiers)
{
	struct race r;

	race(&r, &twice, unmap_some);
	ml_destroy(&r.m);
}

/*
 * A page that stays mapped over a change is still found when its memory goes: no
 * vCPU may go on with what was there.
 */
static void guest_reads(uint64_t nr)
{
	uint64_t i, *p;

	for (;;) {
		for (i = 0; i < 16; i++) {
			p = (uint64_t *)(ML_GPA + i * 4096) + 1;
			if (READ_ONCE(*p) != 0x1234)
				ml_guest_wrong(nr, (uint64_t)p);
		}
		ml_guest_passed(nr);
	}
}

static void check_unmapped(unsigned int gone)
{
	const struct ml_config config = { .nr_pages = 16, .guest = guest_reads };
	struct ml_layout l = {
		.nr = 3,
		.pieces = { { .slot = ML_SLOT + 1, .nr = 5 },
			    { .slot = ML_SLOT + 2, .first = 5, .nr = 7 },
			    { .slot = ML_SLOT + 3, .first = 12 } },
	};
	struct ml_vm m;
	unsigned int i;

	ml_create(&m, &config);
	l.pieces[2].nr = m.nr_pages - 12;
	for (i = 0; i < 16; i++)
		*((uint64_t *)(m.memory[0] + i * 4096) + 1) = 0x1234;
	ml_start(&m);
	ml_wait_passes(&m, 2);
	ml_change(&m, &l);
	ml_wait_passes(&m, 2);
	TEST_ASSERT(!ml_failure(&m), "%s", ml_failure(&m));
	TEST_ASSERT(!madvise(m.memory[0] + gone * 4096, 4096, MADV_DONTNEED),
		    "madvise");
	STATS_WAIT(ml_failure(&m), "page %u is still what it was", gone);
	TEST_ASSERT(strstr(ml_failure(&m), "wrong content"), "%s",
		    ml_failure(&m));
	ml_stop(&m);
	ml_destroy(&m);
}

TEST(unmapped_after_change)
{
	if (getpagesize() != 4096)
		SKIP(return, "pages are larger");
	check_unmapped(0);
	check_unmapped(4);
	check_unmapped(5);
	check_unmapped(11);
	check_unmapped(15);
}

/* ---- vCPUs and VMs ---- */

#define NR_NEW_VCPUS	40

/* The library knows nothing of them; they go with the process. */
static void create_vcpu(struct race *r)
{
	struct kvm_run *run;
	int fd;

	if (r->rounds >= NR_NEW_VCPUS) {
		usleep(1000);
		return;
	}
	fd = ioctl(vm_get_fd(r->m.vm), KVM_CREATE_VCPU,
		   (void *)(uintptr_t)(ML_MAX_VCPUS + r->rounds));
	TEST_ASSERT(fd >= 0, "KVM_CREATE_VCPU: %s", strerror(errno));
	run = mmap(NULL, r->m.run_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd,
		   0);
	TEST_ASSERT(run != MAP_FAILED, "mmap of a vCPU");
	run->immediate_exit = 1;
	ioctl(fd, KVM_RUN, NULL);
	munmap(run, r->m.run_size);
	close(fd);
}

TEST(vcpu_creation)
{
	struct race r;

	race(&r, &twice, create_vcpu);
	ml_destroy(&r.m);
}

static void change_for_ever(void)
{
	struct ml_layout l;
	struct ml_vm m;

	ml_create(&m, &twice);
	ml_start(&m);
	for (;;) {
		ml_random_layout(&m, &l);
		ml_change(&m, &l);
	}
}

/* In the middle of anything; what is left behind is for the kernel to say. */
TEST(killed)
{
	unsigned int i;
	int status;
	pid_t pid;

	for (i = 0; i < 15; i++) {
		pid = stats_fork();
		if (!pid)
			change_for_ever();
		usleep(50000 + i * 7000);
		TEST_ASSERT(!kill(pid, SIGKILL) &&
			    waitpid(pid, &status, 0) == pid, "kill");
		TEST_ASSERT(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL,
			    "status %#x", status);
	}
}

KVM_TEST_HARNESS_MAIN(KVM_CAP_MEMORY_REGION_LIST)
