// SPDX-License-Identifier: GPL-2.0-only
/*
 * kvm_binary_stats_x86_test
 *
 * The values of the statistics that only x86 has, what it counts as a halt, and
 * callers which only x86 has.
 *
 * Usage: kvm_binary_stats_x86_test [PART-OF-A-TEST'S-NAME]
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <linux/kvm_para.h>
#include <linux/userfaultfd.h>

#include "kvm_stats_guest.h"
#include "kvm_test_harness.h"
#include "processor.h"
#include "svm_util.h"
#include "vmx.h"

#define NR_ROUNDS	50
#define L2_STACK_SIZE	64
#define IO_PORT		0x1234
#define OTHER_ID	(STATS_VCPU_ID + 1)

#define PAGE		4096UL
#define LARGE_PAGE	(512 * PAGE)
#define GIGANTIC_PAGE	(512 * LARGE_PAGE)

/* Memory for page faults: guest physical and virtual, aligned to 1 GiB. */
#define TEST_GPA	0x80000000UL
#define TEST_SLOT	1

/* System call numbers of 32-bit programs. */
#define NR_IOCTL_IA32	54
#define NR_PREAD64_IA32	180

/* What tools/ gives is the number of another system call of this architecture. */
#undef __NR_userfaultfd
#define __NR_userfaultfd	323

/* ---- names ---- */

static const struct stats_known vm_known[] = {
	{ "mmu_shadow_zapped",		STATS_COUNTER },
	{ "mmu_pte_write",		STATS_COUNTER },
	{ "mmu_pde_zapped",		STATS_COUNTER },
	{ "mmu_flooded",		STATS_COUNTER },
	{ "mmu_recycled",		STATS_COUNTER },
	{ "mmu_cache_miss",		STATS_COUNTER },
	{ "mmu_unsync",			STATS_INSTANT },
	{ "mmu_shadow_pages",		STATS_INSTANT },
	{ "pages_4k",			STATS_INSTANT },
	{ "pages_2m",			STATS_INSTANT },
	{ "pages_1g",			STATS_INSTANT },
	{ "nx_lpage_splits",		STATS_INSTANT },
	{ "max_mmu_rmap_size",		STATS_PEAK },
	{ "max_mmu_page_hash_collisions", STATS_PEAK },
};

static const struct stats_known vcpu_known[] = {
	{ "pf_taken",			STATS_COUNTER },
	{ "pf_fixed",			STATS_COUNTER },
	{ "pf_emulate",			STATS_COUNTER },
	{ "pf_spurious",		STATS_COUNTER },
	{ "pf_fast",			STATS_COUNTER },
	{ "pf_mmio_spte_created",	STATS_COUNTER },
	{ "pf_guest",			STATS_COUNTER },
	{ "tlb_flush",			STATS_COUNTER },
	{ "invlpg",			STATS_COUNTER },
	{ "exits",			STATS_COUNTER },
	{ "io_exits",			STATS_COUNTER },
	{ "mmio_exits",			STATS_COUNTER },
	{ "signal_exits",		STATS_COUNTER },
	{ "irq_window_exits",		STATS_COUNTER },
	{ "nmi_window_exits",		STATS_COUNTER },
	{ "l1d_flush",			STATS_COUNTER },
	{ "halt_exits",			STATS_COUNTER },
	{ "request_irq_exits",		STATS_COUNTER },
	{ "irq_exits",			STATS_COUNTER },
	{ "host_state_reload",		STATS_COUNTER },
	{ "fpu_reload",			STATS_COUNTER },
	{ "insn_emulation",		STATS_COUNTER },
	{ "insn_emulation_fail",	STATS_COUNTER },
	{ "hypercalls",			STATS_COUNTER },
	{ "irq_injections",		STATS_COUNTER },
	{ "nmi_injections",		STATS_COUNTER },
	{ "req_event",			STATS_COUNTER },
	{ "nested_run",			STATS_COUNTER },
	{ "directed_yield_attempted",	STATS_COUNTER },
	{ "directed_yield_successful",	STATS_COUNTER },
	{ "guest_mode",			STATS_BOOLEAN },
};

TEST(known_vm)
{
	struct stats_file s;

	stats_setup(&s, STATS_VM);
	stats_check_known(&s, vm_known, ARRAY_SIZE(vm_known));
	/* A file in debugfs only: it misses pages unmapped by their rmap. */
	TEST_ASSERT(!stats_find(&s, "lpages"), "lpages is there");
	TEST_ASSERT(!stats_find(&s, "largepages"), "largepages is there");
}

TEST(known_vcpu)
{
	struct stats_file s;

	stats_setup(&s, STATS_VCPU);
	stats_check_known(&s, vcpu_known, ARRAY_SIZE(vcpu_known));
}

/* ---- how KVM pages here ---- */

/* Parameters of a built-in module for other CPUs say what might have been. */
static bool have_two_dimensional_paging(void)
{
	return is_intel_cpu() ? stats_parameter("kvm_intel", "ept") :
				stats_parameter("kvm_amd", "npt");
}

static bool have_tdp_mmu(void)
{
	return have_two_dimensional_paging() && stats_parameter("kvm", "tdp_mmu");
}

static bool have_pml(void)
{
	return is_intel_cpu() && stats_parameter("kvm_intel", "pml");
}

/* ---- page faults ---- */

static uint64_t touch_nr;

/* One page after the other, and then an exit. */
static void guest_touch_pages(void)
{
	uint64_t i;

	for (;;) {
		for (i = 0; i < READ_ONCE(touch_nr); i++)
			WRITE_ONCE(*(uint64_t *)(TEST_GPA + i * PAGE), i);
		guest_exit();
	}
}

static void touch_pages(struct kvm_vm *vm, uint64_t nr)
{
	touch_nr = nr;
	sync_global_to_guest(vm, touch_nr);
	guest_run_once(vm);
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

static void *map_memory(size_t size, int flags)
{
	void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS | flags, -1, 0);

	return memory == MAP_FAILED ? NULL : memory;
}

/* A guest that has run, and will find the first @nr pages of @memory. */
static struct kvm_vm *setup_faults(struct stats_file *s, void *guest,
				   void *memory, size_t size, uint64_t nr)
{
	struct kvm_vm *vm = guest_setup(s, guest);

	TEST_ASSERT(memory, "no memory");
	set_test_slot(vm, memory, size, 0);
	virt_map(vm, TEST_GPA, TEST_GPA, nr, 0);
	return vm;
}

/* How the faults of a vCPU have ended up to now. */
struct faults {
	uint64_t taken, fixed, emulate, spurious, fast;
};

static struct faults get_faults(const struct stats_file *s)
{
	return (struct faults){
		.taken = stats_value(s, "pf_taken"),
		.fixed = stats_value(s, "pf_fixed"),
		.emulate = stats_value(s, "pf_emulate"),
		.spurious = stats_value(s, "pf_spurious"),
		.fast = stats_value(s, "pf_fast"),
	};
}

/* Each fault that was taken since @before has ended in exactly one way. */
static void check_faults(const struct stats_file *s,
			 const struct faults *before, uint64_t fixed,
			 uint64_t emulate, uint64_t spurious)
{
	TEST_STAT_EQ(s, "pf_fixed", before->fixed + fixed);
	TEST_STAT_EQ(s, "pf_emulate", before->emulate + emulate);
	TEST_STAT_EQ(s, "pf_spurious", before->spurious + spurious);
	TEST_STAT_EQ(s, "pf_taken",
		     before->taken + fixed + emulate + spurious);
}

#define NR_PAGES	64

TEST(faults_fixed)
{
	void *memory = map_memory(NR_PAGES * PAGE, 0);
	struct faults before;
	struct stats_file s;
	struct kvm_vm *vm;
	int i;

	vm = setup_faults(&s, guest_touch_pages, memory, NR_PAGES * PAGE,
			  NR_PAGES);
	/* With the first page come those of the page tables that map it. */
	touch_pages(vm, 1);
	for (i = 2; i <= NR_PAGES; i++) {
		before = get_faults(&s);
		touch_pages(vm, i);
		check_faults(&s, &before, 1, 0, 0);
	}
	before = get_faults(&s);
	touch_pages(vm, NR_PAGES);
	check_faults(&s, &before, 0, 0, 0);
}

/* A store that KVM has to emulate is a fault, an emulation, and an exit. */
TEST(faults_emulated)
{
	uint64_t emulated, failed;
	struct faults f;
	struct stats_file s;
	struct kvm_vm *vm = guest_setup(&s, guest_mmio_loop);
	int i;

	guest_run_once(vm);
	f = get_faults(&s);
	TEST_ASSERT_EQ(f.emulate, 1);
	TEST_ASSERT(f.fixed, "no fault was fixed");
	/* Faults of the guest's own are neither. */
	TEST_ASSERT_EQ(f.fixed + f.emulate + f.spurious, f.taken);
	TEST_STAT_EQ(&s, "pf_mmio_spte_created", 1);
	emulated = stats_value(&s, "insn_emulation");
	failed = stats_value(&s, "insn_emulation_fail");
	for (i = 1; i <= NR_ROUNDS; i++) {
		guest_run_once(vm);
		TEST_STAT_GE(&s, "insn_emulation", emulated + i);
		check_faults(&s, &f, 0, 0, 0);
	}
	TEST_STAT_EQ(&s, "pf_mmio_spte_created", 1);
	TEST_STAT_EQ(&s, "insn_emulation_fail", failed);
}

/* ---- memory that userspace provides when it is touched ---- */

static int register_uffd(void *memory, size_t size)
{
	int uffd = syscall(__NR_userfaultfd, O_CLOEXEC);
	struct uffdio_api api = { .api = UFFD_API };
	struct uffdio_register reg = {
		.range = { (uint64_t)memory, size },
		.mode = UFFDIO_REGISTER_MODE_MISSING,
	};

	if (uffd < 0)
		return -1;
	TEST_ASSERT(!ioctl(uffd, UFFDIO_API, &api), "UFFDIO_API");
	TEST_ASSERT(!ioctl(uffd, UFFDIO_REGISTER, &reg), "UFFDIO_REGISTER");
	return uffd;
}

static void wait_uffd(int uffd, unsigned int nr)
{
	struct uffd_msg msg;

	while (nr--) {
		TEST_ASSERT_EQ(read(uffd, &msg, sizeof(msg)), sizeof(msg));
		TEST_ASSERT_EQ(msg.event, UFFD_EVENT_PAGEFAULT);
	}
}

/* A page of its own, which nothing takes away when it is written to. */
static void give_page(int uffd, void *page)
{
	static uint8_t content[PAGE] __aligned(PAGE);
	struct uffdio_copy copy = {
		.dst = (uint64_t)page,
		.src = (uint64_t)content,
		.len = PAGE,
	};

	TEST_ASSERT(!ioctl(uffd, UFFDIO_COPY, &copy), "UFFDIO_COPY");
}

static bool other_is_done;

/* The end of a thread would unmap memory, and KVM might try its fault again. */
static void *run_other(void *vm)
{
	vcpu_run(vm, OTHER_ID);
	WRITE_ONCE(other_is_done, true);
	for (;;)
		pause();
	return NULL;
}

/*
 * Two vCPUs fault on the same page and both wait for it in KVM.  When it comes,
 * one of them maps it, and the other finds that done.  With interrupts off,
 * neither may do anything else meanwhile.
 */
TEST(faults_spurious)
{
	void *memory = map_memory(2 * PAGE, 0);
	int uffd = register_uffd(memory, 2 * PAGE);
	struct faults a_before, b_before, a, b;
	struct stats_file s, other;
	pthread_t thread;
	struct kvm_vm *vm;
	struct kvm_regs regs;

	if (uffd < 0)
		SKIP(return, "userfaultfd: %s", strerror(errno));
	vm = setup_faults(&s, guest_touch_pages, memory, 2 * PAGE, 2);
	vm_vcpu_add_default(vm, OTHER_ID, guest_touch_pages);
	stats_open(&other, stats_get_fd(stats_vcpu_fd(vm, OTHER_ID)));
	/* All that is not about this page has been done before. */
	give_page(uffd, memory);
	touch_pages(vm, 1);
	vcpu_run(vm, OTHER_ID);
	vcpu_run_complete_io(vm, STATS_VCPU_ID);
	vcpu_regs_get(vm, STATS_VCPU_ID, &regs);
	regs.rflags &= ~0x200UL;
	vcpu_regs_set(vm, STATS_VCPU_ID, &regs);
	a_before = get_faults(&s);
	b_before = get_faults(&other);

	touch_nr = 2;
	sync_global_to_guest(vm, touch_nr);
	runner_start(vm);
	TEST_ASSERT(!pthread_create(&thread, NULL, run_other, vm),
		    "pthread_create");
	wait_uffd(uffd, 2);
	give_page(uffd, memory + PAGE);
	runner_wait_round(1);
	STATS_WAIT(READ_ONCE(other_is_done), "for the other vCPU");
	a = get_faults(&s);
	b = get_faults(&other);
	TEST_ASSERT_EQ(a.taken - a_before.taken + b.taken - b_before.taken, 2);
	TEST_ASSERT_EQ(a.fixed - a_before.fixed + b.fixed - b_before.fixed, 1);
	TEST_ASSERT_EQ(a.spurious - a_before.spurious +
		       b.spurious - b_before.spurious, 1);
	TEST_ASSERT_EQ(a.emulate + b.emulate,
		       a_before.emulate + b_before.emulate);
}

static void check_no_halt(const struct stats_file *s)
{
	TEST_STAT_EQ(s, "halt_exits", 0);
	TEST_STAT_EQ(s, "halt_wait_ns", 0);
	TEST_ASSERT_EQ(stats_sum(s, "halt_wait_hist"), 0);
	TEST_ASSERT_EQ(stats_sum(s, "halt_poll_success_hist"), 0);
	TEST_ASSERT_EQ(stats_sum(s, "halt_poll_fail_hist"), 0);
}

/*
 * The guest waits for its memory as if it had halted, but it has not: only
 * "blocking" tells.  KVM maps the page by itself when it is there.
 */
TEST(async_faults)
{
	void *memory = map_memory(NR_PAGES * PAGE, 0);
	int uffd = register_uffd(memory, NR_PAGES * PAGE);
	struct faults before;
	struct stats_file s;
	struct kvm_vm *vm;
	unsigned int i;

	if (uffd < 0)
		SKIP(return, "userfaultfd: %s", strerror(errno));
	vm = setup_faults(&s, guest_touch_pages, memory, NR_PAGES * PAGE,
			  NR_PAGES);
	give_page(uffd, memory);
	touch_pages(vm, 1);
	before = get_faults(&s);
	touch_nr = NR_PAGES;
	sync_global_to_guest(vm, touch_nr);
	runner_start(vm);
	for (i = 1; i < NR_PAGES; i++) {
		wait_uffd(uffd, 1);
		runner_wait_sleep();
		TEST_STAT_EQ(&s, "blocking", 1);
		check_no_halt(&s);
		give_page(uffd, memory + i * PAGE);
	}
	runner_wait_round(1);
	check_no_halt(&s);
	TEST_STAT_EQ(&s, "pf_taken", before.taken + NR_PAGES - 1);
	TEST_STAT_EQ(&s, "pf_fixed", before.fixed + NR_PAGES - 1);
	TEST_STAT_EQ(&s, "pf_spurious", before.spurious);
}

/* ---- mapped pages ---- */

/* Reserve a huge page of 2^@shift bytes for each if there are not enough. */
static void *map_huge(size_t size, int shift)
{
	int fd, flags = MAP_HUGETLB | shift << 26;
	void *memory = map_memory(size, flags);
	char path[96], text[16];

	if (memory)
		return memory;
	snprintf(path, sizeof(path),
		 "/sys/kernel/mm/hugepages/hugepages-%llukB/nr_hugepages",
		 1ULL << shift >> 10);
	snprintf(text, sizeof(text), "%zu", size >> shift);
	fd = open(path, O_WRONLY);
	if (fd < 0 || write(fd, text, strlen(text)) < 0)
		return NULL;
	close(fd);
	return map_memory(size, flags);
}

/* What is mapped is counted by its size. */
static void check_pages(const struct stats_file *s, uint64_t small,
			uint64_t large, uint64_t gigantic)
{
	TEST_STAT_EQ(s, "pages_4k", small);
	TEST_STAT_EQ(s, "pages_2m", large);
	TEST_STAT_EQ(s, "pages_1g", gigantic);
}

static void harvest(struct kvm_vm *vm)
{
	static unsigned long bitmap[2 * 512 / 64];
	struct kvm_dirty_log log = {
		.slot = TEST_SLOT,
		.dirty_bitmap = bitmap,
	};

	vm_ioctl(vm, KVM_GET_DIRTY_LOG, &log);
}

/*
 * Two large pages that are mapped as such, in small pages for a dirty log, and
 * again as large ones without; with shadow paging in small ones as the guest's
 * page tables have them.
 */
TEST(pages_2m)
{
	const size_t size = 2 * LARGE_PAGE, nr = 2 * 512;
	void *memory = map_huge(size, 21);
	bool tdp = have_two_dimensional_paging();
	uint64_t small, shadow_pages;
	struct stats_file vcpu_stats, s;
	struct faults before;
	struct kvm_vm *vm;

	if (!memory)
		SKIP(return, "no huge pages of 2 MiB");
	vm = setup_faults(&vcpu_stats, guest_touch_pages, memory, size, nr);
	stats_open(&s, stats_get_fd(vm_get_fd(vm)));
	check_pages(&s, 0, 0, 0);
	TEST_STAT_EQ(&s, "mmu_shadow_pages", 0);
	touch_pages(vm, nr);
	/* Code, stack and page tables of the guest. */
	small = stats_value(&s, "pages_4k") - (tdp ? 0 : nr);
	TEST_ASSERT(small && small < nr, "%llu pages are mapped",
		    (unsigned long long)small);
	check_pages(&s, small + (tdp ? 0 : nr), tdp ? 2 : 0, 0);
	shadow_pages = stats_value(&s, "mmu_shadow_pages");
	TEST_ASSERT(!shadow_pages == have_tdp_mmu(), "%llu shadow pages",
		    (unsigned long long)shadow_pages);

	set_test_slot(vm, memory, size, KVM_MEM_LOG_DIRTY_PAGES);
	before = get_faults(&vcpu_stats);
	touch_pages(vm, nr);
	check_pages(&s, small + nr, 0, 0);
	check_faults(&vcpu_stats, &before, nr, 0, 0);
	/* The page tables of small pages are new. */
	if (!have_tdp_mmu())
		TEST_STAT_EQ(&s, "mmu_shadow_pages",
			     shadow_pages + (tdp ? 2 : 0));

	/* Unless the CPU keeps a log, all pages fault again after a harvest. */
	harvest(vm);
	before = get_faults(&vcpu_stats);
	touch_pages(vm, nr);
	check_faults(&vcpu_stats, &before, have_pml() ? 0 : nr, 0, 0);
	TEST_STAT_EQ(&vcpu_stats, "pf_fast", before.fast +
		     (tdp && !have_tdp_mmu() && !have_pml() ? nr : 0));
	check_pages(&s, small + nr, 0, 0);

	set_test_slot(vm, memory, size, 0);
	touch_pages(vm, nr);
	check_pages(&s, small + (tdp ? 0 : nr), tdp ? 2 : 0, 0);

	set_test_slot(vm, NULL, 0, 0);
	check_pages(&s, 0, 0, 0);
	TEST_STAT_EQ(&s, "mmu_unsync", 0);
}

TEST(pages_1g)
{
	void *memory = map_huge(GIGANTIC_PAGE, 30);
	struct stats_file vcpu_stats, s;
	struct kvm_vm *vm;

	if (!memory)
		SKIP(return, "no huge page of 1 GiB");
	if (!have_two_dimensional_paging())
		SKIP(return, "shadow paging maps what the guest maps");
	vm = setup_faults(&vcpu_stats, guest_touch_pages, memory,
			  GIGANTIC_PAGE, 4);
	stats_open(&s, stats_get_fd(vm_get_fd(vm)));
	touch_pages(vm, 4);
	TEST_STAT_EQ(&s, "pages_2m", 0);
	TEST_STAT_EQ(&s, "pages_1g", 1);
	set_test_slot(vm, NULL, 0, 0);
	check_pages(&s, 0, 0, 0);
}

#define NR_ALIASES	6

/*
 * Each SPTE of a page is in its rmap, and there is one for each address at
 * which the guest maps the page, but with two-dimensional paging.
 */
TEST(max_rmap)
{
	void *memory = map_memory(PAGE, 0);
	struct stats_file vcpu_stats, s;
	struct kvm_vm *vm = guest_setup(&vcpu_stats, guest_touch_pages);
	int i;

	stats_open(&s, stats_get_fd(vm_get_fd(vm)));
	set_test_slot(vm, memory, PAGE, 0);
	for (i = 0; i < NR_ALIASES; i++)
		virt_pg_map(vm, TEST_GPA + i * PAGE, TEST_GPA, 0);
	touch_pages(vm, 1);
	TEST_STAT_EQ(&s, "max_mmu_rmap_size", 0);
	touch_pages(vm, NR_ALIASES);
	/* As many as there were when the last one came. */
	TEST_STAT_EQ(&s, "max_mmu_rmap_size",
		     have_two_dimensional_paging() ? 0 : NR_ALIASES - 1);
}

/* ---- interrupts, hypercalls and yields ---- */

/*
 * Every event is one NMI, which is injected again if the guest faults meanwhile;
 * there is no other interrupt.
 */
TEST(nmi_injections)
{
	struct stats_file s;
	struct kvm_vm *vm = guest_setup(&s, guest_halt_loop);
	unsigned int i;

	runner_start(vm);
	for (i = 1; i <= NR_ROUNDS; i++) {
		runner_wait_sleep();
		raise_event(vm);
		runner_wait_round(i);
		TEST_STAT_GE(&s, "nmi_injections", i);
	}
	TEST_STAT_EQ(&s, "irq_injections", 0);
}

/* Neither offered nor known to any hypervisor. */
#define NO_HYPERCALL	12345

static void guest_hypercall_loop(bool intel, unsigned long nr, unsigned long arg)
{
	unsigned long ret;

	for (;;) {
		ret = nr;
		if (intel)
			asm volatile("vmcall" : "+a"(ret) : "b"(arg) : "memory");
		else
			asm volatile("vmmcall" : "+a"(ret) : "b"(arg) : "memory");
		guest_exit();
	}
}

static struct kvm_vm *setup_hypercalls(struct stats_file *s, uint64_t nr,
				       uint64_t arg)
{
	struct kvm_vm *vm = guest_setup(s, guest_hypercall_loop);

	vcpu_args_set(vm, STATS_VCPU_ID, 3, (uint64_t)is_intel_cpu(), nr, arg);
	return vm;
}

TEST(hypercalls)
{
	struct stats_file s;
	struct kvm_vm *vm = setup_hypercalls(&s, NO_HYPERCALL, 0);
	int i;

	for (i = 1; i <= NR_ROUNDS; i++) {
		guest_run_once(vm);
		TEST_STAT_EQ(&s, "hypercalls", i);
	}
}

/* To itself, which runs: asked for, but there is nothing to gain. */
TEST(yield_to_itself)
{
	struct stats_file s;
	struct kvm_vm *vm = setup_hypercalls(&s, KVM_HC_SCHED_YIELD,
					     STATS_VCPU_ID);
	int i;

	for (i = 1; i <= NR_ROUNDS; i++) {
		guest_run_once(vm);
		TEST_STAT_EQ(&s, "directed_yield_attempted", i);
	}
	TEST_STAT_EQ(&s, "directed_yield_successful", 0);
}

/* Whoever runs on the first CPU has preempted the others that want to. */
static void use_first_cpu(void)
{
	cpu_set_t cpus;

	CPU_ZERO(&cpus);
	CPU_SET(0, &cpus);
	TEST_ASSERT(!sched_setaffinity(0, sizeof(cpus), &cpus),
		    "sched_setaffinity");
}

static void *spin_on_first_cpu(void *vm)
{
	use_first_cpu();
	for (;;)
		ioctl(stats_vcpu_fd(vm, OTHER_ID), KVM_RUN, NULL);
	return NULL;
}

/* A vCPU that wants to run, and that a yield can be directed to. */
static void start_yield_target(struct kvm_vm *vm)
{
	struct kvm_lapic_state lapic;
	pthread_t thread;

	vm_vcpu_add_default(vm, OTHER_ID, guest_spin_loop);
	guest_enable_interrupts(vm, OTHER_ID);
	vcpu_ioctl(vm, OTHER_ID, KVM_GET_LAPIC, &lapic);
	vcpu_ioctl(vm, OTHER_ID, KVM_SET_LAPIC, &lapic);
	TEST_ASSERT(!pthread_create(&thread, NULL, spin_on_first_cpu, vm),
		    "pthread_create");
}

/*
 * To a vCPU that waits for the CPU that this one runs on: sooner or later, the
 * scheduler has preempted it and follows the hint.
 */
TEST(yield)
{
	struct stats_file s;
	struct kvm_vm *vm = setup_hypercalls(&s, KVM_HC_SCHED_YIELD, OTHER_ID);
	uint64_t end_ms = stats_now_ms() + STATS_WAIT_MS;
	uint64_t attempted = 0, successful = 0;

	use_first_cpu();
	start_yield_target(vm);
	while (!successful) {
		TEST_ASSERT(stats_now_ms() < end_ms,
			    "none of %llu yields was successful",
			    (unsigned long long)attempted);
		guest_run_once(vm);
		TEST_STAT_EQ(&s, "directed_yield_attempted", ++attempted);
		successful = stats_value(&s, "directed_yield_successful");
	}
	TEST_ASSERT_EQ(successful, 1);
}

/* ---- a vCPU that waits for another one to start it ---- */

#define SIPI_PAGE	1
#define INIT_WAIT_US	500000

/* Exits again and again. */
static const uint8_t sipi_code[] = {
	0xba, IO_PORT & 0xff, IO_PORT >> 8,	/* mov dx */
	0xee,					/* out dx, al */
	0xeb, 0xfd,				/* jmp to the out */
};

static void send_msi(struct kvm_vm *vm, uint32_t data)
{
	struct kvm_msi msi = {
		.address_lo = 0xfee00000 | STATS_VCPU_ID << 12,
		.data = data,
	};

	TEST_ASSERT(ioctl(vm_get_fd(vm), KVM_SIGNAL_MSI, &msi) > 0,
		    "KVM_SIGNAL_MSI, %#x", data);
}

static void send_init(struct kvm_vm *vm)
{
	send_msi(vm, 5 << 8);
}

static void send_sipi(struct kvm_vm *vm)
{
	memcpy(addr_gpa2hva(vm, SIPI_PAGE * PAGE), sipi_code,
	       sizeof(sipi_code));
	send_msi(vm, 6 << 8 | SIPI_PAGE);
}

/* Where the hardware has no real mode for guests, KVM keeps pages of its own. */
static void allow_real_mode(struct kvm_vm *vm)
{
	TEST_ASSERT(!ioctl(vm_get_fd(vm), KVM_SET_TSS_ADDR, 0xfffbd000),
		    "KVM_SET_TSS_ADDR");
}

/* It sleeps, but it has not halted. */
TEST(wait_for_sipi)
{
	struct stats_file s;
	struct kvm_vm *vm = guest_setup(&s, guest_exit_loop);

	allow_real_mode(vm);
	guest_run_once(vm);
	send_init(vm);
	runner_start(vm);
	runner_wait_sleep();
	TEST_STAT_EQ(&s, "blocking", 1);
	usleep(INIT_WAIT_US);
	TEST_STAT_EQ(&s, "blocking", 1);
	send_sipi(vm);
	runner_wait_round(2);
	TEST_STAT_EQ(&s, "blocking", 0);
	check_no_halt(&s);
}

/* ---- what stays of a VM whose VMM has died ---- */

/* As much of kvm-nx-lpage-recovery-PID as the name of a thread can have. */
#define RECOVERY_THREAD	"kvm-nx-lpage-re"

static bool has_name(pid_t pid, const char *name)
{
	char path[64], comm[32] = "";
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/comm", pid);
	file = fopen(path, "r");
	if (!file)
		return false;
	if (fgets(comm, sizeof(comm), file))
		comm[strcspn(comm, "\n")] = 0;
	fclose(file);
	return !strcmp(comm, name);
}

/* That of the VM which @vmm made: the first one that is younger than @vmm. */
static pid_t find_recovery_thread(pid_t vmm)
{
	DIR *proc = opendir("/proc");
	struct dirent *entry;
	pid_t pid, found = 0;

	TEST_ASSERT(proc, "/proc");
	while ((entry = readdir(proc))) {
		pid = atoi(entry->d_name);
		if (pid > vmm && (!found || pid < found) &&
		    has_name(pid, RECOVERY_THREAD))
			found = pid;
	}
	closedir(proc);
	return found;
}

static uint64_t mapped_pages(const struct stats_file *s)
{
	return stats_value(s, "pages_4k") + stats_value(s, "pages_2m") +
	       stats_value(s, "pages_1g");
}

/* Runs a guest, passes the VM's statistics on, and waits to be killed. */
static void vmm_with_guest(int sock)
{
	struct stats_file s;
	struct kvm_vm *vm = guest_setup(&s, guest_exit_loop);

	guest_run_once(vm);
	stats_send_fd(sock, stats_get_fd(vm_get_fd(vm)));
	for (;;)
		pause();
}

/*
 * The page tables go with the VMM's address space.  The thread that recovers huge
 * pages, which is in the VMM's cgroups, goes with the last file.
 */
TEST(dead_vmm)
{
	pid_t vmm, thread;
	struct stats_file s;
	int socks[2];

	if (!has_name(2, "kthreadd"))
		SKIP(return, "no threads of the kernel in /proc");
	TEST_ASSERT(!socketpair(AF_UNIX, SOCK_SEQPACKET, 0, socks),
		    "socketpair");
	vmm = stats_fork();
	if (!vmm)
		vmm_with_guest(socks[1]);
	close(socks[1]);
	stats_open(&s, stats_receive_fd(socks[0]));
	TEST_ASSERT(mapped_pages(&s), "the guest has no pages");
	thread = find_recovery_thread(vmm);
	TEST_ASSERT(thread, "the VM has no thread " RECOVERY_THREAD);
	TEST_ASSERT(!kill(vmm, SIGKILL) && waitpid(vmm, NULL, 0) == vmm,
		    "killing the VMM");
	STATS_WAIT(!mapped_pages(&s), "pages of a dead VMM are still mapped");
	/* The vCPU still has its root, which maps nothing. */
	TEST_ASSERT(stats_value(&s, "mmu_shadow_pages") <= 1,
		    "page tables of a dead VMM are still there");
	TEST_ASSERT(has_name(thread, RECOVERY_THREAD),
		    "the thread is gone while a file of its VM is open");
	stats_close(&s);
	STATS_WAIT(!has_name(thread, RECOVERY_THREAD),
		   "the thread stayed after the last file of its VM");
}

/* ---- nested guests ---- */

/* L2 leaves to userspace without a way through L1. */
static void l2_svm(void)
{
	for (;;) {
		guest_exit();
		guest_exit();
		asm volatile("vmmcall" : : : "memory");
	}
}

static void l2_vmx(void)
{
	for (;;) {
		guest_exit();
		guest_exit();
		vmcall();
	}
}

/* An exception that cannot be delivered, nor can the one that this causes. */
static void l2_shutdown(void)
{
	struct {
		uint16_t limit;
		uint64_t base;
	} __packed no_idt = {};

	guest_exit();
	asm volatile("lidt %0; int3" : : "m"(no_idt));
}

/* What L1 is to do, for the host to say. */
static bool l2_shuts_down;
static bool l1_intercepts_shutdown;

static void l1_svm(struct svm_test_data *svm)
{
	unsigned long l2_stack[L2_STACK_SIZE];
	struct vmcb *vmcb = svm->vmcb;

	generic_svm_setup(svm, l2_shuts_down ? l2_shutdown : l2_svm,
			  &l2_stack[L2_STACK_SIZE]);
	if (l1_intercepts_shutdown)
		vmcb->control.intercept |= BIT_ULL(INTERCEPT_SHUTDOWN);
	for (;;) {
		run_guest(vmcb, svm->vmcb_gpa);
		/* Behind the vmmcall that has left L2. */
		vmcb->save.rip += 3;
		guest_exit();
	}
}

static void l1_vmx(struct vmx_pages *vmx)
{
	unsigned long l2_stack[L2_STACK_SIZE];
	int failed;

	GUEST_ASSERT(prepare_for_vmx_operation(vmx));
	GUEST_ASSERT(load_vmcs(vmx));
	prepare_vmcs(vmx, l2_shuts_down ? l2_shutdown : l2_vmx,
		     &l2_stack[L2_STACK_SIZE]);
	for (failed = vmlaunch(); !failed; failed = vmresume()) {
		/* Behind the vmcall. */
		vmwrite(GUEST_RIP, vmreadz(GUEST_RIP) + 3);
		guest_exit();
	}
	GUEST_ASSERT(!failed);
}

struct nested {
	struct kvm_vm *vm;
	struct stats_file s;
	bool svm;
	/* As they were at the start. */
	struct kvm_regs regs;
	struct kvm_sregs sregs;
};

FIXTURE(nested)
{
	struct nested n;
};

/* There is no VM if there are no nested guests. */
FIXTURE_SETUP(nested)
{
	struct nested *n = &self->n;
	vm_vaddr_t gva;

	n->svm = nested_svm_supported();
	if (!n->svm && !nested_vmx_supported())
		return;
	n->vm = guest_setup(&n->s, n->svm ? (void *)l1_svm : (void *)l1_vmx);
	allow_real_mode(n->vm);
	vcpu_set_cpuid(n->vm, STATS_VCPU_ID, kvm_get_supported_cpuid());
	if (n->svm)
		vcpu_alloc_svm(n->vm, &gva);
	else
		vcpu_alloc_vmx(n->vm, &gva);
	vcpu_args_set(n->vm, STATS_VCPU_ID, 1, gva);
	vcpu_regs_get(n->vm, STATS_VCPU_ID, &n->regs);
	vcpu_sregs_get(n->vm, STATS_VCPU_ID, &n->sregs);
	TEST_STAT_EQ(&n->s, "guest_mode", 0);
}

FIXTURE_TEARDOWN(nested)
{
}

/* What KVM itself says, which the statistic has to agree with. */
static bool in_guest_mode(struct kvm_vm *vm)
{
	static union {
		struct kvm_nested_state state;
		char space[16384];
	} s;

	s.state.size = sizeof(s);
	vcpu_nested_state_get(vm, STATS_VCPU_ID, &s.state);
	return s.state.flags & KVM_STATE_NESTED_GUEST_MODE;
}

static void check_guest_mode(struct nested *n, bool expected)
{
	TEST_ASSERT_EQ(in_guest_mode(n->vm), expected);
	TEST_STAT_EQ(&n->s, "guest_mode", expected);
}

/* L1's instruction that enters L2, and all exits, of L1 and of L2. */
static void check_exit_reasons(struct nested *n)
{
	const char *name = n->svm ? "exit_reasons_svm" : "exit_reasons_vmx";
	const struct kvm_stats_desc *desc = stats_need(&n->s, name);
	uint64_t entries, *values = calloc(desc->size, sizeof(*values));

	stats_read(&n->s, desc, values);
	/* VMRUN, or VMLAUNCH and VMRESUME */
	entries = n->svm ? values[53] : values[20] + values[24];
	free(values);
	TEST_STAT_EQ(&n->s, "nested_run", entries);
	TEST_STAT_EQ(&n->s, "exits", stats_sum(&n->s, name));
}

static void enter_l2(struct nested *n)
{
	uint64_t runs = stats_value(&n->s, "nested_run");

	guest_run_once(n->vm);
	check_guest_mode(n, true);
	TEST_STAT_EQ(&n->s, "nested_run", runs + 1);
}

/* The state in which a new vCPU is. */
static void reset_nested_state(struct nested *n)
{
	struct kvm_nested_state state = { .size = sizeof(state) };

	if (n->svm) {
		state.format = KVM_STATE_NESTED_FORMAT_SVM;
		state.flags = KVM_STATE_NESTED_GIF_SET;
	} else {
		state.format = KVM_STATE_NESTED_FORMAT_VMX;
		state.hdr.vmx.vmxon_pa = -1ULL;
		state.hdr.vmx.vmcs12_pa = -1ULL;
	}
	vcpu_nested_state_set(n->vm, STATS_VCPU_ID, &state, false);
}

/*
 * A vCPU that has left L2 by force is as good as a new one: the guest is started
 * again, and enters a nested guest, and leaves it.
 */
static void check_usable(struct nested *n)
{
	struct kvm_mp_state runnable = { KVM_MP_STATE_RUNNABLE };

	l2_shuts_down = false;
	sync_global_to_guest(n->vm, l2_shuts_down);
	vcpu_sregs_set(n->vm, STATS_VCPU_ID, &n->sregs);
	vcpu_regs_set(n->vm, STATS_VCPU_ID, &n->regs);
	vcpu_set_mp_state(n->vm, STATS_VCPU_ID, &runnable);
	enter_l2(n);
	guest_run_once(n->vm);
	check_guest_mode(n, true);
	guest_run_once(n->vm);
	check_guest_mode(n, false);
}

#define NO_NESTED	"no nested guests"

/* Exits to userspace come from L2, twice, and then from L1. */
TEST_F(nested, guest_mode)
{
	struct nested *n = &self->n;
	int i;

	if (!n->vm)
		SKIP(return, NO_NESTED);
	for (i = 1; i <= 20; i++) {
		guest_run_once(n->vm);
		check_guest_mode(n, true);
		guest_run_once(n->vm);
		check_guest_mode(n, true);
		TEST_STAT_EQ(&n->s, "nested_run", i);
		check_exit_reasons(n);
		guest_run_once(n->vm);
		check_guest_mode(n, false);
		check_exit_reasons(n);
	}
}

static void start_shutdown(struct nested *n, bool intercepts)
{
	l2_shuts_down = true;
	sync_global_to_guest(n->vm, l2_shuts_down);
	l1_intercepts_shutdown = intercepts;
	sync_global_to_guest(n->vm, l1_intercepts_shutdown);
	enter_l2(n);
}

/* L1 is told that L2 has shut down, as VMX always does. */
TEST_F(nested, shutdown_intercepted)
{
	struct nested *n = &self->n;

	if (!n->vm)
		SKIP(return, NO_NESTED);
	start_shutdown(n, true);
	guest_run_once(n->vm);
	check_guest_mode(n, false);
	vcpu_run_complete_io(n->vm, STATS_VCPU_ID);
	reset_nested_state(n);
	check_usable(n);
}

/* The whole vCPU is shut down, L1 and all. */
TEST_F(nested, shutdown)
{
	struct nested *n = &self->n;
	struct kvm_run *run;

	if (!n->vm || !n->svm)
		SKIP(return, "no nested SVM");
	run = vcpu_state(n->vm, STATS_VCPU_ID);
	start_shutdown(n, false);
	TEST_ASSERT(!_vcpu_run(n->vm, STATS_VCPU_ID), "KVM_RUN");
	TEST_ASSERT_EQ(run->exit_reason, KVM_EXIT_SHUTDOWN);
	check_guest_mode(n, false);
	check_usable(n);
}

/* With VMX, L1 is told of it; with SVM, the vCPU is reset unless L1 objects. */
TEST_F(nested, init)
{
	struct nested *n = &self->n;

	if (!n->vm)
		SKIP(return, NO_NESTED);
	enter_l2(n);
	vcpu_run_complete_io(n->vm, STATS_VCPU_ID);
	send_init(n->vm);
	if (n->svm)
		send_sipi(n->vm);
	guest_run_once(n->vm);
	check_guest_mode(n, false);
	vcpu_run_complete_io(n->vm, STATS_VCPU_ID);
	if (!n->svm)
		reset_nested_state(n);
	check_usable(n);
}

/* ---- left because userspace says so ---- */

TEST_F(nested, set_nested_state)
{
	struct nested *n = &self->n;

	if (!n->vm)
		SKIP(return, NO_NESTED);
	enter_l2(n);
	vcpu_run_complete_io(n->vm, STATS_VCPU_ID);
	reset_nested_state(n);
	check_guest_mode(n, false);
	check_usable(n);
}

/* Without what enables nested guests there are none. */
TEST_F(nested, set_disabled)
{
	struct nested *n = &self->n;
	struct kvm_sregs sregs;

	if (!n->vm)
		SKIP(return, NO_NESTED);
	enter_l2(n);
	vcpu_run_complete_io(n->vm, STATS_VCPU_ID);
	if (n->svm) {
		sregs = n->sregs;
		TEST_ASSERT(!(sregs.efer & EFER_SVME), "EFER.SVME at the start");
		vcpu_sregs_set(n->vm, STATS_VCPU_ID, &sregs);
	} else {
		vcpu_set_msr(n->vm, STATS_VCPU_ID, MSR_IA32_FEAT_CTL, 0);
	}
	check_guest_mode(n, false);
	check_usable(n);
}

static void set_smm(struct kvm_vm *vm, bool smm)
{
	struct kvm_vcpu_events events;

	vcpu_events_get(vm, STATS_VCPU_ID, &events);
	events.flags |= KVM_VCPUEVENT_VALID_SMM;
	events.smi.smm = smm;
	vcpu_events_set(vm, STATS_VCPU_ID, &events);
}

TEST_F(nested, set_events)
{
	struct nested *n = &self->n;

	if (!n->vm)
		SKIP(return, NO_NESTED);
	enter_l2(n);
	vcpu_run_complete_io(n->vm, STATS_VCPU_ID);
	set_smm(n->vm, true);
	check_guest_mode(n, false);
	set_smm(n->vm, false);
	check_guest_mode(n, false);
	reset_nested_state(n);
	check_usable(n);
}

/* ---- system management mode, which RSM leaves to where it came from ---- */

#define SMRAM_GPA	0x1000000UL
/* In the address space that only this mode has. */
#define SMRAM_SLOT	(BIT(16) | 2)
#define SMRAM_PAGES	16

static const uint8_t smm_code[] = {
	0xba, IO_PORT & 0xff, IO_PORT >> 8,	/* mov dx */
	0xee,					/* out dx, al */
	0x0f, 0xaa,				/* rsm */
};

static void setup_smm(struct kvm_vm *vm)
{
	vm_userspace_mem_region_add(vm, VM_MEM_SRC_ANONYMOUS, SMRAM_GPA,
				    SMRAM_SLOT, SMRAM_PAGES, 0);
	memcpy(addr_gpa2hva(vm, SMRAM_GPA) + 0x8000, smm_code,
	       sizeof(smm_code));
	vcpu_set_msr(vm, STATS_VCPU_ID, MSR_IA32_SMBASE, SMRAM_GPA);
}

TEST_F(nested, smm)
{
	struct nested *n = &self->n;
	int i;

	if (!n->vm)
		SKIP(return, NO_NESTED);
	setup_smm(n->vm);
	for (i = 0; i < 5; i++) {
		enter_l2(n);
		vcpu_ioctl(n->vm, STATS_VCPU_ID, KVM_SMI, NULL);
		guest_run_once(n->vm);
		check_guest_mode(n, false);
		guest_run_once(n->vm);
		check_guest_mode(n, true);
		guest_run_once(n->vm);
		check_guest_mode(n, false);
	}
}

/* ---- callers ---- */

static int ia32_syscall(int nr, int a, int b, int c, int d, int e)
{
	long ret;

	asm volatile("int $0x80" : "=a"(ret)
		     : "a"(nr), "b"(a), "c"(b), "d"(c), "S"(d), "D"(e)
		     : "r8", "r9", "r10", "r11", "memory");
	return ret;
}

/* The way of a 32-bit program into the kernel, which 64-bit ones have too. */
static void check_ia32_caller(enum stats_scope scope)
{
	int fd, owner_fd = stats_owner_fd(stats_create_vm(), scope);
	struct stats_file s;
	uint8_t *buf;

	fd = ia32_syscall(NR_IOCTL_IA32, owner_fd, KVM_GET_STATS_FD, 0, 0, 0);
	TEST_ASSERT(fd >= 0, "KVM_GET_STATS_FD: %s", strerror(-fd));
	stats_open(&s, fd);
	stats_check_id(&s, getpid(), scope == STATS_VM ? -1 : STATS_VCPU_ID);
	buf = map_memory(s.size, MAP_32BIT);
	TEST_ASSERT(buf, "mmap");
	TEST_ASSERT_EQ(ia32_syscall(NR_PREAD64_IA32, fd, (long)buf, s.size, 0,
				    0), s.size);
	TEST_ASSERT(!memcmp(buf, s.image, s.header.data_offset),
		    "pread differs from that of a 64-bit program");
}

/* Without CONFIG_IA32_EMULATION the system call is a fault. */
static bool have_ia32(void)
{
	int status;
	pid_t pid = stats_fork();

	if (!pid) {
		ia32_syscall(NR_IOCTL_IA32, -1, 0, 0, 0, 0);
		_exit(0);
	}
	TEST_ASSERT(waitpid(pid, &status, 0) == pid, "waitpid");
	return !status;
}

TEST(ia32_caller)
{
	if (!have_ia32())
		SKIP(return, "no system calls of 32-bit programs");
	check_ia32_caller(STATS_VM);
	check_ia32_caller(STATS_VCPU);
}

KVM_TEST_HARNESS_MAIN(KVM_CAP_BINARY_STATS_FD)
