// SPDX-License-Identifier: GPL-2.0-only
/*
 * kvm_memslot_list_guest_test
 *
 * Guests that fetch, read and write a range of pages while its memory slots are
 * split and merged, change their borders, numbers and addresses, with
 * KVM_SET_USER_MEMORY_REGION_LIST.  There must be no exit, no fault and no wrong
 * byte.  With plain ioctls there must be: else the guests prove nothing.
 *
 * Usage: kvm_memslot_list_guest_test [PART-OF-A-TEST'S-NAME]
 * MEMSLOT_LIST_CHANGES in the environment: how often a layout changes.
 */
#define _GNU_SOURCE
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <linux/bitmap.h>
#include <linux/bitops.h>

#include "kvm_memslot_list_util.h"
#include "kvm_test_harness.h"

#define NR_CHANGES	300

/* ---- memory that is there all the time ---- */

static void check_no_failure(struct ml_vm *m, unsigned int change)
{
	const char *failure = ml_failure(m);

	TEST_ASSERT(!failure, "%s after %u changes", failure, change);
}

/* Returns how often. */
static unsigned int change_often(struct ml_vm *m, bool until_failure)
{
	uint64_t start = stats_now_ms();
	struct ml_layout l;
	unsigned int i;

	for (i = 0; ml_go_on(i, NR_CHANGES, start); i++) {
		ml_random_layout(m, &l);
		if (until_failure) {
			ml_change_plainly(m, &l);
			if (ml_failure(m))
				return i;
		} else {
			ml_change(m, &l);
			check_no_failure(m, i);
		}
		usleep(ml_random(m) % 300);
	}
	/* On arm64 a fetch that fails leads nowhere, for ever. */
	TEST_ASSERT(!until_failure || ml_is_broken(m),
		    "no vCPU noticed %u changes by plain ioctls", i);
	return i;
}

/* How often userspace was wanted because of string instructions. */
static void check_string_io(struct ml_vm *m)
{
	unsigned int i;

	for (i = 0; m->config.string_io && i < m->config.nr_vcpus; i++)
		TEST_ASSERT(m->vcpus[i].string_ios, "no string I/O");
}

static void check_list(const struct ml_config *config)
{
	unsigned int nr;
	struct ml_vm m;

	ml_create(&m, config);
	ml_start(&m);
	ml_wait_passes(&m, 2);
	nr = change_often(&m, false);
	/* Nothing is stuck, either. */
	ml_wait_passes(&m, 2);
	check_no_failure(&m, nr);
	ml_stop(&m);
	check_string_io(&m);
	TEST_ASSERT(stats_value(&m.stats, "memslot_updates") > nr / 2,
		    "few changes have been counted");
	ml_destroy(&m);
}

static void check_plain(const struct ml_config *config)
{
	struct ml_vm m;

	ml_create(&m, config);
	ml_start(&m);
	ml_wait_passes(&m, 2);
	change_often(&m, true);
	printf("# plain ioctls: %s\n", ml_failure(&m) ?: "stuck");
	ml_stop(&m);
	ml_destroy(&m);
}

static const struct ml_config simple, two_vcpus = { .nr_vcpus = 2 },
	tables = { .tables = true }, addresses = { .twice = true },
	all = { .nr_vcpus = 2, .tables = true, .twice = true },
	logged = { .nr_vcpus = 2, .flags = KVM_MEM_LOG_DIRTY_PAGES };

TEST(list_simple)
{
	check_list(&simple);
}

TEST(list_two_vcpus)
{
	check_list(&two_vcpus);
}

TEST(list_tables)
{
	check_list(&tables);
}

TEST(list_addresses)
{
	check_list(&addresses);
}

TEST(list_all)
{
	check_list(&all);
}

TEST(list_logged)
{
	check_list(&logged);
}

/* Large pages, which borders of slots divide. */
TEST(list_huge)
{
	const struct ml_config huge = { .nr_pages = 1024, .huge = true };

	check_list(&huge);
}

TEST(plain_simple)
{
	check_plain(&simple);
}

TEST(plain_tables)
{
	check_plain(&tables);
}

TEST(plain_addresses)
{
	check_plain(&addresses);
}

/* ---- other memory, from one moment on ---- */

#define NR_ORDER_PAGES	16
#define TAG_OFFSET	1024

/*
 * Odd while the host changes the slots; else half of it, modulo 2, says which of
 * the two memories is there.  Of the guest, shared with the host.
 */
static uint64_t epoch;

static void guest_order(uint64_t nr)
{
	uint64_t before, tag, i;

	for (i = 0;; i = (i + 1) % NR_ORDER_PAGES) {
		uint64_t *p = (void *)(ML_GPA + i * 4096 + TAG_OFFSET);

		before = __atomic_load_n(&epoch, __ATOMIC_SEQ_CST);
		tag = __atomic_load_n(p, __ATOMIC_SEQ_CST);
		if (before == __atomic_load_n(&epoch, __ATOMIC_SEQ_CST) &&
		    !(before & 1) && tag != (before / 2) % 2)
			ml_guest_wrong(nr, (uint64_t)p);
		ml_guest_passed(nr);
	}
}

/*
 * No vCPU may find the old memory when the ioctl has returned, nor the new one
 * before it was called: not by a page fault that had looked up the old slot,
 * either.  All slots change their address each time.
 */
TEST(order)
{
	const struct ml_config config = {
		.nr_vcpus = 2, .nr_pages = NR_ORDER_PAGES, .two_memories = true,
		.guest = guest_order,
	};
	uint64_t *shared, start = stats_now_ms();
	struct ml_layout l;
	unsigned int i, j;
	struct ml_vm m;

	ml_create(&m, &config);
	for (i = 0; i < 2; i++)
		for (j = 0; j < NR_ORDER_PAGES; j++)
			*(uint64_t *)(m.memory[i] + j * getpagesize() +
				      TAG_OFFSET) = i;
	shared = addr_gva2hva(m.vm, (vm_vaddr_t)&epoch);
	ml_start(&m);
	ml_wait_passes(&m, 2);
	for (i = 1; ml_go_on(i - 1, NR_CHANGES, start); i++) {
		ml_random_layout(&m, &l);
		for (j = 0; j < l.nr; j++)
			l.pieces[j].where = i % 2;
		__atomic_store_n(shared, 2 * i - 1, __ATOMIC_SEQ_CST);
		ml_change(&m, &l);
		__atomic_store_n(shared, 2 * i, __ATOMIC_SEQ_CST);
		usleep(ml_random(&m) % 300);
		check_no_failure(&m, i);
	}
	ml_wait_passes(&m, 2);
	check_no_failure(&m, i);
	ml_stop(&m);
	ml_destroy(&m);
}

#ifdef __x86_64__

static const struct ml_config string_io = { .string_io = true };

/* KVM's emulator reads the string for itself. */
TEST(list_string_io)
{
	check_list(&string_io);
}

TEST(plain_string_io)
{
	check_plain(&string_io);
}

/* What is mapped is handed over: no vCPU has to fault for it again. */
static void check_no_faults(const struct ml_config *config)
{
	struct ml_vm m;
	uint64_t faults, moved;
	unsigned int nr;

	ml_create(&m, config);
	ml_start(&m);
	ml_wait_passes(&m, 4);
	faults = ml_vcpu_stat(&m, "pf_fixed");
	moved = stats_value(&m.stats, "memslot_pages_moved");
	nr = change_often(&m, false);
	ml_wait_passes(&m, 2);
	check_no_failure(&m, nr);
	TEST_ASSERT_EQ(ml_vcpu_stat(&m, "pf_fixed"), faults);
	TEST_STAT_EQ(&m.stats, "memslot_pages_zapped", 0);
	/* The TDP MMU has nothing to move. */
	if (!stats_parameter("kvm", "tdp_mmu"))
		TEST_ASSERT(stats_value(&m.stats, "memslot_pages_moved") >
			    moved, "no page was moved");
	ml_stop(&m);
	ml_destroy(&m);
}

TEST(faults_none)
{
	check_no_faults(&simple);
}

TEST(faults_none_of_tables)
{
	check_no_faults(&tables);
}

#endif /* __x86_64__ */

/* ---- the dirty log ---- */

#define LOG_ROUNDS	40

/* The bits of all pages of the range, whatever slots they are in. */
static void harvest(struct ml_vm *m, bool *dirty)
{
	const struct ml_piece *p;
	struct kvm_dirty_log log;
	unsigned long *bits;
	unsigned int i, j;

	for (i = 0; i < m->layout.nr; i++) {
		p = &m->layout.pieces[i];
		bits = bitmap_alloc(p->nr);
		memset(&log, 0, sizeof(log));
		log.slot = p->slot;
		log.dirty_bitmap = bits;
		TEST_ASSERT(!ioctl(vm_get_fd(m->vm), KVM_GET_DIRTY_LOG, &log),
			    "KVM_GET_DIRTY_LOG of slot %u", p->slot);
		for (j = 0; j < p->nr; j++)
			dirty[p->first + j] = test_bit(j, bits);
		free(bits);
	}
}

struct log_sums {
	uint64_t changed;	/* pages whose content is another */
	uint64_t missing;	/* of them, without a bit */
	uint64_t bits;
	uint64_t extra;		/* bits of pages that are as they were */
};

static void compare_log(struct ml_vm *m, const uint8_t *before,
			struct log_sums *s)
{
	size_t size = getpagesize();
	bool *dirty = calloc(m->nr_pages, sizeof(*dirty));
	unsigned int i, extra = 0;

	harvest(m, dirty);
	for (i = 0; i < m->nr_pages; i++) {
		bool changed = memcmp(before + i * size,
				      m->memory[0] + i * size, size);

		s->changed += changed;
		s->missing += changed && !dirty[i];
		s->bits += dirty[i];
		extra += !changed && dirty[i];
	}
	/* Between the fault that marks the page and the write to it. */
	TEST_ASSERT(extra <= m->config.nr_vcpus,
		    "%u pages in the log that nobody has written", extra);
	s->extra += extra;
	free(dirty);
}

static void log_round(struct ml_vm *m, bool plainly, struct log_sums *s)
{
	size_t size = (size_t)m->nr_pages * getpagesize();
	uint8_t *before = malloc(size);
	unsigned int nr = 1 + ml_random(m) % 5;
	struct ml_layout l;

	memcpy(before, m->memory[0], size);
	ml_start(m);
	ml_wait_passes(m, 8);
	while (nr-- && !ml_failure(m)) {
		ml_random_layout(m, &l);
		if (plainly)
			ml_change_plainly(m, &l);
		else
			ml_change(m, &l);
		usleep(ml_random(m) % 1000);
	}
	ml_wait_passes(m, 8);
	ml_stop(m);
	compare_log(m, before, s);
	free(before);
}

static void check_log(struct ml_config config)
{
	uint64_t charged, most;
	struct log_sums s = {};
	struct ml_vm m;
	bool *dirty;
	int i;

	config.flags = KVM_MEM_LOG_DIRTY_PAGES;
	config.random = true;
	config.quota = true;
	ml_create(&m, &config);
	dirty = calloc(m.nr_pages, sizeof(*dirty));
	harvest(&m, dirty);
	charged = ml_vcpu_stat(&m, "pages_dirtied");
	for (i = 0; i < LOG_ROUNDS; i++)
		log_round(&m, false, &s);
	check_no_failure(&m, i);
	charged = ml_vcpu_stat(&m, "pages_dirtied") - charged;
	printf("# %llu pages changed, %llu bits, %llu charged\n",
	       (unsigned long long)s.changed, (unsigned long long)s.bits,
	       (unsigned long long)charged);
	TEST_ASSERT(s.changed > LOG_ROUNDS, "the guest has written little");
	TEST_ASSERT_EQ(s.missing, 0);
	/* One of each vCPU in each change may be charged twice. */
	most = s.bits + m.config.nr_vcpus *
	       stats_value(&m.stats, "memslot_updates");
	TEST_ASSERT(charged >= s.bits && charged <= most,
		    "%llu pages were charged for %llu bits",
		    (unsigned long long)charged, (unsigned long long)s.bits);
	free(dirty);
	ml_destroy(&m);
}

TEST(log_exact)
{
	check_log((struct ml_config) { .nr_pages = 128 });
}

TEST(log_exact_two_vcpus)
{
	check_log((struct ml_config) { .nr_pages = 128, .nr_vcpus = 2 });
}

/* Bits are lost with plain ioctls, or the tests above see nothing. */
TEST(log_plain)
{
	struct ml_config config = {
		.nr_pages = 128,
		.flags = KVM_MEM_LOG_DIRTY_PAGES,
		.random = true,
	};
	struct log_sums s = {};
	struct ml_vm m;
	int i;

	for (i = 0; i < LOG_ROUNDS && !s.missing; i++) {
		ml_create(&m, &config);
		log_round(&m, true, &s);
		ml_destroy(&m);
	}
	TEST_ASSERT(s.missing, "no bit was lost");
}

KVM_TEST_HARNESS_MAIN(KVM_CAP_MEMORY_REGION_LIST)
