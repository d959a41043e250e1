// SPDX-License-Identifier: GPL-2.0-only
/*
 * kvm_memory_stats_test
 *
 * The statistics of the memory that KVM has for a VM: its page tables, what it
 * keeps about them, and its memory slots.  They are what the guest's accesses
 * make necessary, and what the kernel's own counters of memory say.
 *
 * Usage: kvm_memory_stats_test [PART-OF-A-TEST'S-NAME]
 */
#define _GNU_SOURCE
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "kvm_memslot_list_util.h"
#include "kvm_stats_guest.h"
#include "kvm_test_harness.h"
#ifdef __x86_64__
#include "processor.h"
#endif

#define PAGE		4096UL
/* What one page of the lowest level of page tables maps, and one above it. */
#define TABLE_SPAN	(512 * PAGE)
#define TABLES_SPAN	(512 * TABLE_SPAN)

/* Guest physical and virtual, aligned to TABLES_SPAN. */
#define TEST_GPA	0x100000000UL
#define TEST_SLOT	ML_SLOT

/* From here on, the library has the guest's own page tables. */
#define GUEST_TABLES_GPA	0x180000UL

/* So many that what else the kernel does is little beside it. */
#define NR_TABLES	1536
#define NR_UPPER_TABLES	(NR_TABLES * TABLE_SPAN / TABLES_SPAN)
#define TEST_SIZE	(NR_TABLES * TABLE_SPAN)

#define MEMORY_STAT	(KVM_STATS_TYPE_INSTANT | KVM_STATS_UNIT_BYTES)

static const struct stats_known known[] = {
	{ "memslot_bytes",		MEMORY_STAT },
	{ "page_table_bytes",		MEMORY_STAT },
#ifdef __x86_64__
	{ "mmu_metadata_bytes",		MEMORY_STAT },
#endif
};

static bool have_two_dimensional_paging(void)
{
#ifdef __x86_64__
	return is_intel_cpu() ? stats_parameter("kvm_intel", "ept") :
				stats_parameter("kvm_amd", "npt");
#else
	return true;
#endif
}

static uint64_t metadata_bytes(const struct stats_file *s)
{
	return stats_find(s, "mmu_metadata_bytes") ?
	       stats_value(s, "mmu_metadata_bytes") : 0;
}

/* Neither touched nor backed by huge pages. */
static uint8_t *map_memory(size_t size)
{
	void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE |
			    MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	TEST_ASSERT(memory != MAP_FAILED, "no memory");
	madvise(memory, size, MADV_NOHUGEPAGE);
	return memory;
}

static void set_test_slot(struct kvm_vm *vm, void *memory, size_t size,
			  uint32_t flags)
{
	struct kvm_userspace_memory_region region = {
		.slot = TEST_SLOT,
		.flags = flags,
		.guest_phys_addr = TEST_GPA,
		.memory_size = size,
		.userspace_addr = (uint64_t)memory,
	};

	vm_ioctl(vm, KVM_SET_USER_MEMORY_REGION, &region);
}

TEST(described)
{
	struct stats_file s;

	stats_setup(&s, STATS_VM);
	TEST_ASSERT_EQ(kvm_check_cap(KVM_CAP_MEMORY_STATS), 1);
	stats_check_known(&s, known, ARRAY_SIZE(known));
	TEST_STAT_GE(&s, "memslot_bytes", 1);
}

/* ---- memory slots ---- */

static uint64_t whole_pages(uint64_t bytes)
{
	return (bytes + PAGE - 1) / PAGE * PAGE;
}

/*
 * Whole pages in areas of vmalloc() that are arrays of KVM's.  Who allocated one is
 * a function of KVM or, depending on the compiler, the helper that it has called.
 * The size that is shown includes a guard page.  Of an area that has "vpages",
 * the pointers to its pages are another area in the same name.
 */
static uint64_t vmalloc_bytes(void)
{
	FILE *file = fopen("/proc/vmallocinfo", "r");
	unsigned long size, sum = 0;
	char line[512];

	if (!file)
		return 0;
	while (fgets(line, sizeof(line), file)) {
		if ((!strstr(line, "kvm_") && !strstr(line, "vmalloc_array") &&
		     !strstr(line, "vcalloc")) ||
		    sscanf(line, "%*s %lu", &size) != 1)
			continue;
		size -= PAGE;
		sum += size;
		if (strstr(line, " vpages"))
			sum -= whole_pages(size / PAGE * sizeof(void *));
	}
	fclose(file);
	return sum;
}

struct slot_memory {
	uint64_t stat, vmalloc;
};

static struct slot_memory slot_memory(const struct stats_file *s)
{
	return (struct slot_memory){
		.stat = stats_value(s, "memslot_bytes"),
		.vmalloc = vmalloc_bytes(),
	};
}

/* Beside its arrays, a slot is a structure of a size that we do not know. */
TEST(memslots)
{
	static const size_t sizes[] = {
		PAGE, 511 * PAGE, TABLE_SPAN, 3 * TABLE_SPAN, TABLES_SPAN,
		TABLES_SPAN + PAGE, TEST_SIZE,
	};
	uint8_t *memory = map_memory(TEST_SIZE);
	struct slot_memory none, plain, logged, after;
	uint64_t slot_size = 0;
	struct stats_file s;
	struct kvm_vm *vm;
	int i;

	vm = stats_setup(&s, STATS_VM);
	/* As it is after the first change of this slot. */
	set_test_slot(vm, memory, PAGE, 0);
	set_test_slot(vm, NULL, 0, 0);
	for (i = 0; i < ARRAY_SIZE(sizes); i++) {
		none = slot_memory(&s);
		set_test_slot(vm, memory, sizes[i], 0);
		plain = slot_memory(&s);
		set_test_slot(vm, memory, sizes[i], KVM_MEM_LOG_DIRTY_PAGES);
		logged = slot_memory(&s);
		set_test_slot(vm, NULL, 0, 0);
		after = slot_memory(&s);

		TEST_ASSERT(logged.vmalloc > plain.vmalloc,
			    "a dirty log is not seen in /proc/vmallocinfo");
		TEST_ASSERT_EQ(logged.stat - plain.stat,
			       logged.vmalloc - plain.vmalloc);
		if (!i)
			slot_size = plain.stat - none.stat -
				    (plain.vmalloc - none.vmalloc);
		TEST_ASSERT(slot_size > sizeof(void *) && slot_size < PAGE,
			    "a slot has %llu bytes",
			    (unsigned long long)slot_size);
		TEST_ASSERT_EQ(plain.stat - none.stat,
			       plain.vmalloc - none.vmalloc + slot_size);
		TEST_ASSERT_EQ(after.stat, none.stat);
		TEST_ASSERT_EQ(after.vmalloc, none.vmalloc);
	}
}

/* A list of slots takes as much as the same slots one by one. */
TEST(memslot_list)
{
	uint8_t *memory = map_memory(2 * TABLE_SPAN);
	uint64_t none, plain;
	struct stats_file s;
	struct ml_list l;
	struct kvm_vm *vm;

	vm = stats_setup(&s, STATS_VM);
	none = stats_value(&s, "memslot_bytes");
	set_test_slot(vm, memory, TABLE_SPAN, KVM_MEM_LOG_DIRTY_PAGES);
	plain = stats_value(&s, "memslot_bytes");

	ml_begin(&l);
	ml_add(&l, TEST_SLOT + 1, TEST_GPA + TABLE_SPAN, TABLE_SPAN,
	       memory + TABLE_SPAN, KVM_MEM_LOG_DIRTY_PAGES);
	TEST_ASSERT_EQ(ml_apply(vm_get_fd(vm), &l), 0);
	TEST_ASSERT_EQ(stats_value(&s, "memslot_bytes") - plain, plain - none);

	ml_begin(&l);
	ml_add(&l, TEST_SLOT, 0, 0, NULL, 0);
	ml_add(&l, TEST_SLOT + 1, 0, 0, NULL, 0);
	TEST_ASSERT_EQ(ml_apply(vm_get_fd(vm), &l), 0);
	TEST_STAT_EQ(&s, "memslot_bytes", none);
}

/* ---- page tables ---- */

static uint64_t touch_nr;

/* A page of each table's span, and then an exit. */
static void guest_touch(void)
{
	uint64_t i;

	for (;;) {
		for (i = 0; i < READ_ONCE(touch_nr); i++)
			WRITE_ONCE(*(uint64_t *)(TEST_GPA + i * TABLE_SPAN), i);
		guest_exit();
	}
}

static void touch(struct kvm_vm *vm, uint64_t nr)
{
	touch_nr = nr;
	sync_global_to_guest(vm, touch_nr);
	guest_run_once(vm);
}

/* The span that the next page of the guest's own page tables is in. */
static uint64_t table_span(struct kvm_vm *vm)
{
	return vm_phy_page_alloc(vm, GUEST_TABLES_GPA, 0) / TABLE_SPAN;
}

/*
 * The guest has one page of memory for each of its @nr tables.  Returns in @spans
 * how many tables it takes to map the guest's own ones, beside the first, which
 * maps its code.
 */
static struct kvm_vm *setup_tables(struct stats_file *s, uint8_t *memory,
				   uint64_t nr, uint64_t *spans)
{
	struct stats_file vcpu_stats;
	struct kvm_vm *vm = guest_setup_pages(&vcpu_stats, guest_touch, nr);
	uint64_t i, first = table_span(vm);

	set_test_slot(vm, memory, nr * TABLE_SPAN, 0);
	for (i = 0; i < nr; i++)
		virt_pg_map(vm, TEST_GPA + i * TABLE_SPAN,
			    TEST_GPA + i * TABLE_SPAN, 0);
	*spans = table_span(vm) - first;
	stats_open(s, stats_get_fd(vm_get_fd(vm)));
	return vm;
}

/* Of the slab cache @name; 0 if it has none or they cannot be seen. */
static uint64_t slab_number(const char *name, const char *what)
{
	unsigned long long value = 0;
	char path[128];
	FILE *file;

	snprintf(path, sizeof(path), "/sys/kernel/slab/%s/%s", name, what);
	file = fopen(path, "r");
	if (!file)
		return 0;
	if (fscanf(file, "%llu", &value) != 1)
		value = 0;
	fclose(file);
	return value;
}

/* Memory that is allocated and that nothing in /proc/meminfo explains, in bytes. */
static uint64_t unexplained_memory(void)
{
	static const char * const known[] = {
		"MemFree", "Buffers", "Cached", "AnonPages", "Slab",
		"KernelStack", "PageTables", "Percpu", "VmallocUsed",
	};
	unsigned long long value, kib = 0;
	FILE *file = fopen("/proc/meminfo", "r");
	char key[64];
	int i;

	TEST_ASSERT(file, "/proc/meminfo");
	while (fscanf(file, "%63[^:]: %llu%*[^\n]\n", key, &value) == 2) {
		if (!strcmp(key, "MemTotal"))
			kib += value;
		for (i = 0; i < ARRAY_SIZE(known); i++)
			if (!strcmp(key, known[i]))
				kib -= value;
	}
	fclose(file);
	return kib << 10;
}

static void check_near(const char *what, uint64_t value, uint64_t expected,
		       uint64_t tolerance)
{
	TEST_ASSERT(value + tolerance >= expected &&
		    value <= expected + tolerance,
		    "%s: %llu bytes, expected %llu, give or take %llu", what,
		    (unsigned long long)value, (unsigned long long)expected,
		    (unsigned long long)tolerance);
}

/*
 * A page table for each span that the guest touches.  With shadow paging it is the
 * shadow of one of the guest's own, which nested paging has to map instead.
 */
TEST(page_tables)
{
	uint64_t new_tables = NR_TABLES - 1 + NR_UPPER_TABLES - 1, spans;
	uint64_t tables, metadata, memory_before, slab, each;
	uint64_t objects_before;
	uint8_t *memory = map_memory(TEST_SIZE);
	struct stats_file s;
	struct kvm_vm *vm;
	int i;

	vm = setup_tables(&s, memory, NR_TABLES, &spans);
	if (have_two_dimensional_paging())
		new_tables += spans;
	/* The guest's memory shall not count. */
	for (i = 0; i < NR_TABLES; i++)
		memory[i * TABLE_SPAN] = 1;
	touch(vm, 1);
	tables = stats_value(&s, "page_table_bytes");
	metadata = metadata_bytes(&s);
	objects_before = slab_number("kvm_mmu_page_header", "objects");
	memory_before = unexplained_memory();
	TEST_ASSERT(tables >= 3 * PAGE && tables < 64 * PAGE,
		    "%llu bytes of page tables at first",
		    (unsigned long long)tables);

	touch(vm, NR_TABLES);
	TEST_STAT_EQ(&s, "page_table_bytes", tables + new_tables * PAGE);

	each = 0;
	if (stats_find(&s, "mmu_metadata_bytes")) {
		each = (metadata_bytes(&s) - metadata) / new_tables;
		TEST_STAT_EQ(&s, "mmu_metadata_bytes",
			     metadata + new_tables * each);
		slab = slab_number("kvm_mmu_page_header", "object_size");
		TEST_ASSERT(slab, "no cache kvm_mmu_page_header");
		TEST_ASSERT_EQ(each, slab + (have_two_dimensional_paging() ?
					     0 : PAGE));
		check_near("kvm_mmu_page_header",
			   (slab_number("kvm_mmu_page_header", "objects") -
			    objects_before) * slab,
			   new_tables * slab, new_tables * slab / 10);
	}
	check_near("what /proc/meminfo does not explain",
		   unexplained_memory() - memory_before,
		   new_tables * (PAGE + (each > PAGE ? PAGE : 0)),
		   new_tables * PAGE / 4);

	/* The same pages again are nothing new. */
	tables = stats_value(&s, "page_table_bytes");
	touch(vm, NR_TABLES);
	TEST_STAT_EQ(&s, "page_table_bytes", tables);

	/* On arm64 tables of the slot go, on x86 all but the vCPU's root. */
	set_test_slot(vm, NULL, 0, 0);
	TEST_ASSERT(stats_value(&s, "page_table_bytes") <=
		    tables - (NR_TABLES - 1 + NR_UPPER_TABLES - 1) * PAGE,
		    "page tables of a slot that is gone");
	TEST_ASSERT(metadata_bytes(&s) <= metadata,
		    "metadata of a slot that is gone");

	/* On x86 roots go, too, with each slot that is deleted. */
	touch(vm, 0);
	tables = stats_value(&s, "page_table_bytes");
	metadata = metadata_bytes(&s);
	for (i = 0; i < 3; i++) {
		set_test_slot(vm, memory, TEST_SIZE, 0);
		touch(vm, NR_TABLES);
		set_test_slot(vm, NULL, 0, 0);
		touch(vm, 0);
	}
	TEST_STAT_EQ(&s, "page_table_bytes", tables);
	TEST_ASSERT_EQ(metadata_bytes(&s), metadata);
}

static void vmm_with_tables(int sock)
{
	struct stats_file s;
	struct kvm_vm *vm;
	uint64_t spans;

	vm = setup_tables(&s, map_memory(8 * TABLE_SPAN), 8, &spans);
	touch(vm, 8);
	stats_send_fd(sock, stats_get_fd(vm_get_fd(vm)));
	for (;;)
		pause();
}

/* On x86, a vCPU has its root for as long as there is the vCPU. */
TEST(dead_vmm)
{
	bool x86 = false;
	struct stats_file s;
	uint64_t slots;
	int socks[2];
	pid_t vmm;

	TEST_ASSERT(!socketpair(AF_UNIX, SOCK_SEQPACKET, 0, socks),
		    "socketpair");
	vmm = stats_fork();
	if (!vmm)
		vmm_with_tables(socks[1]);
	close(socks[1]);
	stats_open(&s, stats_receive_fd(socks[0]));
	x86 = stats_find(&s, "mmu_metadata_bytes");
	TEST_STAT_GE(&s, "page_table_bytes", 8 * PAGE);
	slots = stats_value(&s, "memslot_bytes");
	TEST_ASSERT(!kill(vmm, SIGKILL) && waitpid(vmm, NULL, 0) == vmm,
		    "killing the VMM");
	STATS_WAIT(stats_value(&s, "page_table_bytes") <= (x86 ? PAGE : 0),
		   "page tables of a dead VMM");
	TEST_ASSERT(metadata_bytes(&s) < 2 * PAGE, "metadata of a dead VMM");
	/* These stay as long as the VM. */
	TEST_STAT_EQ(&s, "memslot_bytes", slots);
}

#ifdef __x86_64__

#define NR_ALIASES	6
/* struct pte_list_desc: three entries and a pointer. */
#define PER_DESC	3

static void guest_touch_aliases(void)
{
	uint64_t i;

	for (;;) {
		for (i = 0; i < READ_ONCE(touch_nr); i++)
			WRITE_ONCE(*(uint64_t *)(TEST_GPA + i * PAGE), i);
		guest_exit();
	}
}

/* What mmu_metadata_bytes has beside a structure and a page for each shadow page. */
static uint64_t chain_bytes(const struct stats_file *s)
{
	uint64_t each = slab_number("kvm_mmu_page_header", "object_size") + PAGE;

	return metadata_bytes(s) -
	       stats_value(s, "page_table_bytes") / PAGE * each;
}

/* With shadow paging, a page that is mapped more than once has a chain. */
TEST(aliases)
{
	uint64_t desc = slab_number("pte_list_desc", "object_size");
	struct stats_file vcpu_stats, s;
	struct kvm_vm *vm;
	int i;

	if (have_two_dimensional_paging())
		SKIP(return, "nested paging maps a page once");
	TEST_ASSERT(desc, "no cache pte_list_desc");
	vm = guest_setup(&vcpu_stats, guest_touch_aliases);
	stats_open(&s, stats_get_fd(vm_get_fd(vm)));
	set_test_slot(vm, map_memory(PAGE), PAGE, 0);
	for (i = 0; i < NR_ALIASES; i++)
		virt_pg_map(vm, TEST_GPA + i * PAGE, TEST_GPA, 0);
	touch(vm, 1);
	TEST_ASSERT_EQ(chain_bytes(&s), 0);
	for (i = 2; i <= NR_ALIASES; i++) {
		touch(vm, i);
		TEST_ASSERT_EQ(chain_bytes(&s),
			       (i + PER_DESC - 1) / PER_DESC * desc);
	}
	set_test_slot(vm, NULL, 0, 0);
	TEST_ASSERT_EQ(chain_bytes(&s), 0);
}

#endif /* __x86_64__ */

KVM_TEST_HARNESS_MAIN(KVM_CAP_MEMORY_STATS)
