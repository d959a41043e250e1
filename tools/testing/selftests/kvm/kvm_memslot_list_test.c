// SPDX-License-Identifier: GPL-2.0-only
/*
 * kvm_memslot_list_test
 *
 * The interface of KVM_SET_USER_MEMORY_REGION_LIST: each error and the entry that
 * it names, that a list with an error changes nothing, and what each kind of
 * change leaves behind, as seen by a guest and in the dirty log.
 *
 * Usage: kvm_memslot_list_test [PART-OF-A-TEST'S-NAME]
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <linux/bitmap.h>
#include <linux/bitops.h>
#include <linux/compiler.h>

#include "kvm_memslot_list_util.h"
#include "kvm_test_harness.h"
#include "processor.h"

/* Pages of memory that slots are made of. */
#define NR_PAGES	64
#define LOG		KVM_MEM_LOG_DIRTY_PAGES
#define NONE		((uint32_t)~0)

static struct ml_list list;
static size_t page;

/* ---- a guest that looks at addresses ---- */

enum { LOOK_READ, LOOK_WRITE };

/* Of the guest; shared with the host. */
static struct look {
	uint64_t gpa;
	uint64_t what;
	uint64_t value;
	uint64_t nr;		/* how often it has looked */
} look;

static void guest_code(void)
{
	for (;;) {
		uint64_t *p = (void *)READ_ONCE(look.gpa);

		if (READ_ONCE(look.what) == LOOK_WRITE)
			WRITE_ONCE(*p, look.value);
		else
			WRITE_ONCE(look.value, READ_ONCE(*p));
		WRITE_ONCE(look.nr, look.nr + 1);
		ml_guest_exit();
	}
}

struct machine {
	struct kvm_vm *vm;
	int fd;
	uint8_t *memory;	/* NR_PAGES; the first word of each is its number */
	struct stats_file stats;
};

static void setup(struct machine *m, uint64_t manual_protect)
{
	struct kvm_enable_cap cap = {
		.cap = KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2,
		.args = { manual_protect },
	};
	unsigned int i;

	page = getpagesize();
	/* Room for page tables of addresses beyond the library's memory. */
	m->vm = vm_create_default(0, 0, guest_code);
	m->fd = vm_get_fd(m->vm);
	if (manual_protect)
		TEST_ASSERT(!ioctl(m->fd, KVM_ENABLE_CAP, &cap),
			    "KVM_ENABLE_CAP");
	virt_map(m->vm, ML_GPA, ML_GPA, 2 * NR_PAGES, 0);
	virt_pg_map(m->vm, ML_EXIT_GPA, ML_EXIT_GPA, 0);
	m->memory = mmap(NULL, NR_PAGES * page, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	TEST_ASSERT(m->memory != MAP_FAILED, "mmap");
	for (i = 0; i < NR_PAGES; i++)
		*(uint64_t *)(m->memory + i * page) = i;
	stats_open(&m->stats, stats_get_fd(m->fd));
}

static void teardown(struct machine *m)
{
	stats_close(&m->stats);
	kvm_vm_free(m->vm);
	munmap(m->memory, NR_PAGES * page);
}

static struct look *shared_look(struct machine *m)
{
	return addr_gva2hva(m->vm, (vm_vaddr_t)&look);
}

/* False if there is no memory, or none that may be written. */
static bool guest_looks(struct machine *m, unsigned int at, uint64_t what,
			uint64_t *value)
{
	struct kvm_run *run = vcpu_state(m->vm, 0);
	struct look *l = shared_look(m);
	uint64_t nr = l->nr;
	bool there = true;

	l->gpa = ML_GPA + at * page;
	l->what = what;
	l->value = *value;
	for (;;) {
		vcpu_run(m->vm, 0);
		if (run->exit_reason != KVM_EXIT_MMIO || l->nr != nr)
			break;
		TEST_ASSERT_EQ(run->mmio.phys_addr, l->gpa);
		there = false;
	}
	TEST_ASSERT_EQ(l->nr, nr + 1);
	*value = l->value;
	return there;
}

/* The guest finds page @nr of the memory at page @at; NONE: no memory. */
static void check_page(struct machine *m, unsigned int at, uint32_t nr)
{
	uint64_t value = 0;
	bool there = guest_looks(m, at, LOOK_READ, &value);

	TEST_ASSERT(there == (nr != NONE), "memory at page %u: %d", at, there);
	if (there)
		TEST_ASSERT_EQ(value, nr);
}

static bool guest_writes(struct machine *m, unsigned int at)
{
	uint64_t value = 0;

	if (guest_looks(m, at, LOOK_READ, &value))
		return guest_looks(m, at, LOOK_WRITE, &value);
	return guest_looks(m, at, LOOK_WRITE, &value);
}

/* ---- lists in a few words ---- */

static void add(struct machine *m, uint32_t slot, unsigned int at,
		unsigned int nr, unsigned int memory, uint32_t flags)
{
	ml_add(&list, slot, ML_GPA + at * page, nr * page,
	       m->memory + memory * page, flags);
}

static void add_absent(uint32_t slot)
{
	ml_add(&list, slot, 0, 0, NULL, 0);
}

static void apply(struct machine *m)
{
	uint64_t updates = stats_value(&m->stats, "memslot_updates");
	int r = ml_apply(m->fd, &list);

	TEST_ASSERT(!r, "%s, entry %d", strerror(r), list.head.failed);
	TEST_STAT_EQ(&m->stats, "memslot_updates", updates + 1);
	ml_begin(&list);
}

static void expect_error(struct machine *m, int error, uint32_t failed)
{
	uint64_t updates = stats_value(&m->stats, "memslot_updates");

	list.head.failed = 0x12345678;
	TEST_ASSERT_EQ(ml_apply(m->fd, &list), error);
	TEST_ASSERT_EQ(list.head.failed, failed);
	TEST_STAT_EQ(&m->stats, "memslot_updates", updates);
	ml_begin(&list);
}

static int get_log(struct machine *m, uint32_t slot, unsigned long *bits)
{
	struct kvm_dirty_log log = { .slot = slot, .dirty_bitmap = bits };

	memset(bits, 0, NR_PAGES / 8);
	return ioctl(m->fd, KVM_GET_DIRTY_LOG, &log) ? errno : 0;
}

/* What each of NR_PAGES has in its word, to see which pages are there. */
static const uint32_t first_layout_slots[] = { 1, 2 };

/* Slots 1 and 2 of 8 pages each, with room behind each; 2 has a log. */
static void make_first_layout(struct machine *m)
{
	ml_begin(&list);
	add(m, 1, 0, 8, 0, 0);
	add(m, 2, 16, 8, 16, LOG);
	apply(m);
}

static void check_first_layout(struct machine *m)
{
	unsigned long bits[NR_PAGES / BITS_PER_LONG];

	check_page(m, 0, 0);
	check_page(m, 7, 7);
	check_page(m, 8, NONE);
	check_page(m, 15, NONE);
	check_page(m, 16, 16);
	check_page(m, 23, 23);
	check_page(m, 24, NONE);
	TEST_ASSERT_EQ(get_log(m, first_layout_slots[0], bits), ENOENT);
	TEST_ASSERT_EQ(get_log(m, first_layout_slots[1], bits), 0);
	TEST_ASSERT_EQ(get_log(m, 3, bits), ENOENT);
}

#define ALTERED(statement) do {						\
	ml_begin(&list);						\
	add(&m, 1, 0, 4, 0, 0);						\
	add(&m, 3, 4, 4, 4, 0);						\
	statement;							\
} while (0)

TEST(capability)
{
	struct machine m;

	setup(&m, 0);
	/* As many as there may be slots. */
	TEST_ASSERT_EQ(ml_max_entries(m.fd),
		       kvm_check_cap(KVM_CAP_NR_MEMSLOTS));
	teardown(&m);
}

TEST(errors_of_the_head)
{
	struct machine m;
	unsigned int i;

	setup(&m, 0);
	make_first_layout(&m);
	ALTERED(list.head.nent = 0);
	expect_error(&m, EINVAL, NONE);
	ALTERED(list.head.nent = ml_max_entries(m.fd) + 1);
	expect_error(&m, E2BIG, NONE);
	ALTERED(list.head.nent = NONE);
	expect_error(&m, E2BIG, NONE);
	for (i = 0; i < 32; i++) {
		ALTERED(list.head.flags = 1U << i);
		expect_error(&m, EINVAL, NONE);
	}
	for (i = 0; i < ARRAY_SIZE(list.head.pad); i++) {
		ALTERED(list.head.pad[i] = 1U << i);
		expect_error(&m, EINVAL, NONE);
	}
	check_first_layout(&m);
	teardown(&m);
}

TEST(errors_of_an_entry)
{
	struct machine m;

	setup(&m, 0);
	make_first_layout(&m);

	/* Bits that no flag has. */
	ALTERED(list.entries[1].flags = 4);
	expect_error(&m, EINVAL, 1);
	ALTERED(list.entries[0].flags = KVM_MEM_LOG_DIRTY_PAGES | 1U << 31);
	expect_error(&m, EINVAL, 0);
	/* Not aligned to pages. */
	ALTERED(list.entries[1].guest_phys_addr++);
	expect_error(&m, EINVAL, 1);
	ALTERED(list.entries[1].memory_size--);
	expect_error(&m, EINVAL, 1);
	ALTERED(list.entries[0].userspace_addr += 8);
	expect_error(&m, EINVAL, 0);
	/* Not the process's own. */
	ALTERED(list.entries[1].userspace_addr = ~0xfffULL);
	expect_error(&m, EINVAL, 1);
	/* Too many pages, and a range that wraps around. */
	ALTERED(list.entries[1].memory_size = 1ULL << 62);
	expect_error(&m, EINVAL, 1);
	ALTERED(list.entries[1].guest_phys_addr = -4 * page;
		list.entries[1].memory_size = 8 * page);
	expect_error(&m, EINVAL, 1);
	/* No slot of userspace. */
	ALTERED(list.entries[1].slot = ml_max_entries(m.fd));
	expect_error(&m, EINVAL, 1);
	ALTERED(list.entries[1].slot = 0xffff);
	expect_error(&m, EINVAL, 1);
	/* No such address space, and two of them. */
	ALTERED(list.entries[0].slot |= 0xffff0000);
	expect_error(&m, EINVAL, 0);
	ALTERED(list.entries[1].slot |= 1 << 16);
	expect_error(&m, EINVAL, 1);
	/* Twice the same slot, and one that is not there. */
	ALTERED(list.entries[1].slot = 1);
	expect_error(&m, EINVAL, 1);
	ALTERED(add_absent(3));
	expect_error(&m, EINVAL, 2);
	ALTERED(add_absent(77));
	expect_error(&m, EINVAL, 2);
	check_first_layout(&m);
	teardown(&m);
}

TEST(errors_of_the_layout)
{
	struct machine m;

	setup(&m, 0);
	make_first_layout(&m);

	/* Two named slots: the later entry is at fault. */
	ALTERED(list.entries[0].memory_size += page);
	expect_error(&m, EEXIST, 1);
	ALTERED(list.entries[1].guest_phys_addr = ML_GPA);
	expect_error(&m, EEXIST, 1);
	/* One around another. */
	ALTERED(list.entries[0].memory_size = 12 * page);
	expect_error(&m, EEXIST, 1);
	/* A slot that the list does not name, over its beginning and its end. */
	ALTERED(list.entries[1].memory_size = 13 * page);
	expect_error(&m, EEXIST, 1);
	ALTERED(list.entries[0].guest_phys_addr += 23 * page);
	expect_error(&m, EEXIST, 0);
	/* The same list is right if that slot goes. */
	ALTERED(list.entries[1].memory_size = 13 * page; add_absent(2));
	apply(&m);
	check_page(&m, 16, 16);
	teardown(&m);
}

/* The list ends where memory ends, and one byte later. */
TEST(errors_of_memory)
{
	size_t size = sizeof(list.head) + 2 * sizeof(list.entries[0]);
	struct machine m;
	unsigned int cut;
	uint8_t *p;

	setup(&m, 0);
	make_first_layout(&m);
	p = mmap(NULL, 2 * page, PROT_READ | PROT_WRITE,
		 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	TEST_ASSERT(p != MAP_FAILED && !munmap(p + page, page), "mmap");

	for (cut = 1; cut <= size; cut++) {
		ALTERED();
		memcpy(p + page - size + cut, &list, size - cut);
		errno = 0;
		TEST_ASSERT(ioctl(m.fd, KVM_SET_USER_MEMORY_REGION_LIST,
				  p + page - size + cut) == -1 &&
			    errno == EFAULT, "%u bytes are missing, errno %d",
			    cut, errno);
	}
	TEST_ASSERT(ioctl(m.fd, KVM_SET_USER_MEMORY_REGION_LIST, NULL) == -1 &&
		    errno == EFAULT, "a list at 0");
	check_first_layout(&m);

	ALTERED();
	memcpy(p + page - size, &list, size);
	TEST_ASSERT(!ioctl(m.fd, KVM_SET_USER_MEMORY_REGION_LIST,
			   p + page - size), "a list at the end of memory");
	munmap(p, page);
	teardown(&m);
}

/* A list that cannot be told which entry is wrong. */
TEST(errors_of_read_only_memory)
{
	struct machine m;
	uint8_t *p;

	setup(&m, 0);
	make_first_layout(&m);
	p = mmap(NULL, page, PROT_READ | PROT_WRITE,
		 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ALTERED();
	memcpy(p, &list, sizeof(list.head) + 2 * sizeof(list.entries[0]));
	list.entries[1].slot = 1;
	memcpy(p + 512, &list, sizeof(list.head) + 2 * sizeof(list.entries[0]));
	mprotect(p, page, PROT_READ);
	TEST_ASSERT(ioctl(m.fd, KVM_SET_USER_MEMORY_REGION_LIST, p + 512) ==
		    -1 && errno == EFAULT, "errno %d", errno);
	check_first_layout(&m);
	TEST_ASSERT(!ioctl(m.fd, KVM_SET_USER_MEMORY_REGION_LIST, p),
		    "a good list that is not written to");
	munmap(p, page);
	teardown(&m);
}

TEST(largest_list)
{
	size_t size = getpagesize();
	unsigned int i, max;
	int kvm, vm;
	void *p;

	kvm = open("/dev/kvm", O_RDWR);
	vm = ioctl(kvm, KVM_CREATE_VM, 0);
	TEST_ASSERT(vm >= 0, "KVM_CREATE_VM");
	max = ml_max_entries(vm);
	p = mmap(NULL, size, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	ml_begin(&list);
	for (i = 0; i < max; i++)
		ml_add(&list, i, ML_GPA + (max - i) * size, size, p,
		       i % 2 ? LOG : 0);
	TEST_ASSERT_EQ(ml_apply(vm, &list), 0);
	ml_begin(&list);
	for (i = 0; i < max; i++)
		ml_add(&list, i, ML_GPA + i * size, size, p, 0);
	TEST_ASSERT_EQ(ml_apply(vm, &list), 0);
	ml_begin(&list);
	for (i = 0; i < max; i++)
		add_absent(i);
	TEST_ASSERT_EQ(ml_apply(vm, &list), 0);
	TEST_ASSERT_EQ(ml_apply(vm, &list), EINVAL);
	TEST_ASSERT_EQ(list.head.failed, 0);
	close(vm);
	close(kvm);
	munmap(p, size);
}

TEST(nothing_to_change)
{
	struct machine m;
	uint64_t updates;

	setup(&m, 0);
	make_first_layout(&m);
	updates = stats_value(&m.stats, "memslot_updates");
	add(&m, 2, 16, 8, 16, LOG);
	add(&m, 1, 0, 8, 0, 0);
	TEST_ASSERT_EQ(ml_apply(m.fd, &list), 0);
	TEST_STAT_EQ(&m.stats, "memslot_updates", updates);
	check_first_layout(&m);
	teardown(&m);
}

/* Slots that change places, in whatever way; then one that only moves on. */
TEST(exchange)
{
	struct machine m;

	setup(&m, 0);
	make_first_layout(&m);
	/* numbers */
	add(&m, 1, 16, 8, 16, LOG);
	add(&m, 2, 0, 8, 0, 0);
	apply(&m);
	check_page(&m, 0, 0);
	check_page(&m, 16, 16);
	/* ranges of guest pages */
	add(&m, 1, 0, 8, 16, 0);
	add(&m, 2, 16, 8, 0, 0);
	apply(&m);
	check_page(&m, 1, 17);
	check_page(&m, 17, 1);
	/* a chain: each takes the place of the next */
	add(&m, 2, 8, 8, 0, 0);
	add(&m, 1, 16, 8, 16, 0);
	add(&m, 3, 0, 8, 32, 0);
	apply(&m);
	check_page(&m, 0, 32);
	check_page(&m, 8, 0);
	check_page(&m, 16, 16);
	/* over itself, by a page in each direction */
	add(&m, 2, 7, 8, 0, 0);
	add_absent(3);
	apply(&m);
	check_page(&m, 6, NONE);
	check_page(&m, 7, 0);
	check_page(&m, 14, 7);
	check_page(&m, 15, NONE);
	add(&m, 2, 8, 8, 0, 0);
	apply(&m);
	check_page(&m, 7, NONE);
	check_page(&m, 15, 7);
	teardown(&m);
}

TEST(address)
{
	struct machine m;

	setup(&m, 0);
	make_first_layout(&m);
	check_page(&m, 3, 3);
	add(&m, 1, 0, 8, 32, 0);
	apply(&m);
	check_page(&m, 3, 35);
	/* A part of it back, in a slot of its own */
	add(&m, 1, 0, 4, 32, 0);
	add(&m, 4, 4, 4, 4, 0);
	apply(&m);
	check_page(&m, 3, 35);
	check_page(&m, 4, 4);
	teardown(&m);
}

TEST(read_only)
{
	struct machine m;

	setup(&m, 0);
	if (!kvm_check_cap(KVM_CAP_READONLY_MEM)) {
		teardown(&m);
		SKIP(return, "no read-only slots");
	}
	make_first_layout(&m);
	TEST_ASSERT(guest_writes(&m, 2), "the page cannot be written");
	add(&m, 1, 0, 8, 0, KVM_MEM_READONLY);
	apply(&m);
	check_page(&m, 2, 2);
	TEST_ASSERT(!guest_writes(&m, 2), "a read-only page was written");
	add(&m, 1, 0, 8, 0, 0);
	apply(&m);
	TEST_ASSERT(guest_writes(&m, 2), "the page cannot be written");
	teardown(&m);
}

/* ---- the log ---- */

static void check_bits(struct machine *m, uint32_t slot, uint64_t bits)
{
	unsigned long log[NR_PAGES / BITS_PER_LONG];
	uint64_t got;

	TEST_ASSERT_EQ(get_log(m, slot, log), 0);
	memcpy(&got, log, sizeof(got));
	TEST_ASSERT(got == bits, "slot %u has %#llx, not %#llx", slot,
		    (unsigned long long)got, (unsigned long long)bits);
}

/* The bits of pages that stay go to the slots that have them then. */
TEST(log_carried)
{
	struct machine m;

	setup(&m, 0);
	ml_begin(&list);
	add(&m, 1, 0, 32, 0, LOG);
	apply(&m);
	guest_writes(&m, 3);
	guest_writes(&m, 13);
	guest_writes(&m, 31);
	/* Split, with slots that begin at odd bits. */
	add(&m, 1, 0, 5, 0, LOG);
	add(&m, 2, 5, 8, 5, LOG);
	add(&m, 3, 13, 19, 13, LOG);
	apply(&m);
	guest_writes(&m, 12);
	/* Merged again, with a page more at each end. */
	add_absent(1);
	add_absent(3);
	add(&m, 2, 0, 33, 0, LOG);
	apply(&m);
	check_bits(&m, 2, 1ULL << 3 | 1ULL << 12 | 1ULL << 13 | 1ULL << 31);
	check_bits(&m, 2, 0);
	/* It goes on being a log. */
	guest_writes(&m, 13);
	guest_writes(&m, 32);
	check_bits(&m, 2, 1ULL << 13 | 1ULL << 32);
	teardown(&m);
}

TEST(log_begins_and_ends)
{
	struct machine m;

	setup(&m, 0);
	ml_begin(&list);
	add(&m, 1, 0, 8, 0, 0);
	add(&m, 2, 8, 8, 8, LOG);
	apply(&m);
	guest_writes(&m, 1);
	guest_writes(&m, 9);
	/* A page that was mapped without a log is logged from now on. */
	add(&m, 1, 0, 16, 0, LOG);
	add_absent(2);
	apply(&m);
	guest_writes(&m, 1);
	check_bits(&m, 1, 1ULL << 1 | 1ULL << 9);
	/* Only flags: off and on. */
	add(&m, 1, 0, 16, 0, 0);
	apply(&m);
	guest_writes(&m, 2);
	add(&m, 1, 0, 16, 0, LOG);
	apply(&m);
	check_bits(&m, 1, 0);
	guest_writes(&m, 2);
	check_bits(&m, 1, 1ULL << 2);
	teardown(&m);
}

/* Pages that go, or change their address, take no bit along. */
TEST(log_discarded)
{
	struct machine m;

	setup(&m, 0);
	ml_begin(&list);
	add(&m, 1, 0, 16, 0, LOG);
	apply(&m);
	guest_writes(&m, 1);
	guest_writes(&m, 9);
	add(&m, 1, 0, 8, 0, LOG);
	add(&m, 2, 8, 8, 40, LOG);
	apply(&m);
	check_bits(&m, 1, 1ULL << 1);
	check_bits(&m, 2, 0);
	teardown(&m);
}

/* All pages of a log that begins are dirty, those of an older one as before. */
TEST(log_initially_set)
{
	struct kvm_clear_dirty_log clear = { .slot = 1, .num_pages = 16 };
	unsigned long bits[NR_PAGES / BITS_PER_LONG];
	struct machine m;

	if (!(kvm_check_cap(KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2) &
	      KVM_DIRTY_LOG_INITIALLY_SET))
		SKIP(return, "logs cannot begin with all pages");
	setup(&m, KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE |
		  KVM_DIRTY_LOG_INITIALLY_SET);
	ml_begin(&list);
	add(&m, 1, 0, 16, 0, LOG);
	add(&m, 2, 16, 16, 16, 0);
	apply(&m);
	memset(bits, 0xff, sizeof(bits));
	clear.dirty_bitmap = bits;
	TEST_ASSERT(!ioctl(m.fd, KVM_CLEAR_DIRTY_LOG, &clear),
		    "KVM_CLEAR_DIRTY_LOG");
	check_bits(&m, 1, 0);
	guest_writes(&m, 5);
	add_absent(2);
	add(&m, 1, 0, 27, 0, LOG);
	apply(&m);
	/* 16 to 26 had no log */
	check_bits(&m, 1, 1ULL << 5 | 0x7ff0000);
	guest_writes(&m, 7);
	check_bits(&m, 1, 1ULL << 5 | 1ULL << 7 | 0x7ff0000);
	teardown(&m);
}

KVM_TEST_HARNESS_MAIN(KVM_CAP_MEMORY_REGION_LIST)
