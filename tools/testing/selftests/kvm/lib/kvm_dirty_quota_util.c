// SPDX-License-Identifier: GPL-2.0-only
/*
 * Tests of dirty quota: machines, and what they are charged.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <linux/bitmap.h>
#include <linux/bitops.h>

#include "kvm_dirty_quota_internal.h"
#include "kvm_util_internal.h"
#include "processor.h"

#define DEFAULT_PAGES	1024
/* Room for page tables of the test pages, if they are to be in the slot. */
#define TABLE_PAGES	512

unsigned int dq_duration_s = 5;

static bool have_dirty_quota(void)
{
	int ret, fd = open(KVM_DEV_PATH, O_RDWR);

	/* stats_run_cases() says what is wrong. */
	if (fd < 0)
		return true;
	ret = ioctl(fd, KVM_CHECK_EXTENSION, KVM_CAP_DIRTY_QUOTA);
	close(fd);
	return ret > 0;
}

int dq_run_cases(const struct stats_case *cases, size_t nr, int argc,
		 char *argv[])
{
	int option;

	while ((option = getopt(argc, argv, "s:")) != -1) {
		if (option != 's')
			ksft_exit_fail_msg("usage: %s [-s SECONDS] [PART-OF-A-CASE-NAME]\n",
					   argv[0]);
		dq_duration_s = atoi(optarg);
	}
	if (!have_dirty_quota()) {
		ksft_print_header();
		ksft_exit_skip("this kernel lacks KVM_CAP_DIRTY_QUOTA\n");
	}
	return stats_run_cases(cases, nr, argv[optind]);
}

bool dq_parameter(const char *module, const char *name)
{
	char path[128];
	FILE *f;
	int c;

	snprintf(path, sizeof(path), "/sys/module/%s/parameters/%s", module,
		 name);
	f = fopen(path, "r");
	if (!f)
		return false;
	c = fgetc(f);
	fclose(f);
	/* Some that are on or off are numbers all the same. */
	return c == 'Y' || c == '1';
}

/* Parameters of a built-in module for other CPUs say what might have been. */
bool dq_has_pml(void)
{
#ifdef __x86_64__
	return is_intel_cpu() && dq_parameter("kvm_intel", "pml");
#else
	return false;
#endif
}

/* ---- machines ---- */

static void enable_cap(struct dq_vm *d, uint32_t cap, uint64_t arg)
{
	struct kvm_enable_cap enable = { .cap = cap, .args = { arg } };

	STATS_CHECK(!ioctl(vm_get_fd(d->vm), KVM_ENABLE_CAP, &enable),
		    "KVM_ENABLE_CAP %u, %#llx: %s", cap,
		    (unsigned long long)arg, strerror(errno));
}

int dq_enable(int vm_fd, uint64_t quota)
{
	struct kvm_enable_cap cap = {
		.cap = KVM_CAP_DIRTY_QUOTA,
		.args = { quota },
	};

	return ioctl(vm_fd, KVM_ENABLE_CAP, &cap) ? errno : 0;
}

static void create_vm(struct dq_vm *d, const struct dq_config *config)
{
	d->vm = vm_create(VM_MODE_DEFAULT, DEFAULT_GUEST_PHY_PAGES +
			  DEFAULT_STACK_PGS * DQ_MAX_VCPUS, O_RDWR);
	kvm_vm_elf_load(d->vm, program_invocation_name, 0, 0);
#ifdef __x86_64__
	vm_create_irqchip(d->vm);
#endif
	if (config->manual_protect)
		enable_cap(d, KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2,
			   config->manual_protect);
	if (config->enable)
		enable_cap(d, KVM_CAP_DIRTY_QUOTA, config->quota);
}

static void add_slot(struct dq_vm *d, const struct dq_config *config)
{
	unsigned int pages;

	d->slot_pages = d->nr_pages;
	if (config->tables_in_slot)
		d->slot_pages += TABLE_PAGES;
	d->bitmap = bitmap_alloc(d->slot_pages);
	STATS_CHECK(d->bitmap, "out of memory");
	pages = vm_num_guest_pages(VM_MODE_DEFAULT, d->slot_pages);
	vm_userspace_mem_region_add(d->vm, config->source, DQ_GPA, DQ_SLOT,
				    pages, config->unlogged ? 0 :
				    KVM_MEM_LOG_DIRTY_PAGES);
	pages = vm_num_guest_pages(VM_MODE_DEFAULT, d->nr_pages);
	/* Else page tables would be put there. */
	vm_phy_pages_alloc(d->vm, pages, DQ_GPA, DQ_SLOT);
	virt_map(d->vm, DQ_GPA, DQ_GPA, pages,
		 config->tables_in_slot ? DQ_SLOT : 0);
	virt_pg_map(d->vm, DQ_MMIO_GPA, DQ_MMIO_GPA, 0);
}

/* A guest that spins must be interruptible also on emulated hosts. */
static void enable_interrupts(struct dq_vcpu *v)
{
#ifdef __x86_64__
	struct kvm_regs regs;

	vcpu_regs_get(v->d->vm, v->id, &regs);
	regs.rflags |= 1 << 9;
	vcpu_regs_set(v->d->vm, v->id, &regs);
#endif
}

/* The library's mapping is that of the struct; data of ports is behind it. */
static struct kvm_run *map_run(struct dq_vcpu *v)
{
	void *run = mmap(NULL, v->d->run_size, PROT_READ | PROT_WRITE,
			 MAP_SHARED, v->fd, 0);

	STATS_CHECK(run != MAP_FAILED, "mmap of a vCPU: %s", strerror(errno));
	return run;
}

static void add_vcpu(struct dq_vm *d, unsigned int i, void *guest)
{
	struct dq_vcpu *v = &d->vcpus[i];

	v->d = d;
	v->id = i;
	vm_vcpu_add_default(d->vm, i, guest);
#ifdef __x86_64__
	vcpu_set_cpuid(d->vm, i, kvm_get_supported_cpuid());
#endif
	vcpu_args_set(d->vm, i, 1, (uint64_t)i);
	enable_interrupts(v);
	v->fd = stats_vcpu_fd(d->vm, i);
	v->run = map_run(v);
	/* Pages in such a log can use up the quota just when one more faults. */
	v->max_overrun = dq_has_pml();
	v->work = addr_gva2hva(d->vm, (vm_vaddr_t)&dq_works[i]);
	stats_open(&v->stats, stats_get_fd(v->fd));
}

void dq_create(struct dq_vm *d, const struct dq_config *config)
{
	unsigned int i;

	memset(d, 0, sizeof(*d));
	d->nr_vcpus = config->nr_vcpus ?: 1;
	d->nr_pages = config->nr_pages ?: DEFAULT_PAGES;
	create_vm(d, config);
	d->run_size = ioctl(d->vm->kvm_fd, KVM_GET_VCPU_MMAP_SIZE, NULL);
	add_slot(d, config);
	for (i = 0; i < d->nr_vcpus; i++)
		add_vcpu(d, i, config->guest ?: dq_guest_work);
	dq_page_size = getpagesize();
	sync_global_to_guest(d->vm, dq_page_size);
}

void dq_destroy(struct dq_vm *d)
{
	unsigned int i;

	for (i = 0; i < d->nr_vcpus; i++) {
		stats_close(&d->vcpus[i].stats);
		munmap(d->vcpus[i].run, d->run_size);
	}
	kvm_vm_free(d->vm);
	free(d->bitmap);
}

void dq_set_logging(struct dq_vm *d, bool on)
{
	vm_mem_region_set_flags(d->vm, DQ_SLOT,
				on ? KVM_MEM_LOG_DIRTY_PAGES : 0);
}

void dq_populate(struct dq_vm *d)
{
	uint8_t *memory = addr_gpa2hva(d->vm, DQ_GPA);
	uint64_t i;

	for (i = 0; i < d->nr_pages; i++)
		WRITE_ONCE(memory[i * getpagesize()], 1);
}

/* ---- counting ---- */

uint64_t dq_count(const struct dq_vcpu *v)
{
	return stats_value(&v->stats, "pages_dirtied");
}

uint64_t dq_count_all(const struct dq_vm *d)
{
	uint64_t sum = 0;
	unsigned int i;

	for (i = 0; i < d->nr_vcpus; i++)
		sum += dq_count(&d->vcpus[i]);
	return sum;
}

uint64_t dq_bits(const struct dq_vm *d)
{
	uint64_t sum = 0;
	size_t i;

	for (i = 0; i < BITS_TO_LONGS(d->slot_pages); i++)
		sum += __builtin_popcountl(d->bitmap[i]);
	return sum;
}

bool dq_bit(const struct dq_vm *d, uint64_t page)
{
	return test_bit(page, d->bitmap);
}

uint64_t dq_harvest(struct dq_vm *d)
{
	struct kvm_dirty_log log = {
		.slot = DQ_SLOT,
		.dirty_bitmap = d->bitmap,
	};

	STATS_CHECK(!ioctl(vm_get_fd(d->vm), KVM_GET_DIRTY_LOG, &log),
		    "KVM_GET_DIRTY_LOG: %s", strerror(errno));
	return dq_bits(d);
}

void dq_check_bits(const struct dq_vm *d, uint64_t first, uint64_t step,
		   uint64_t nr)
{
	uint64_t page;
	bool expected;

	for (page = 0; page < d->slot_pages; page++) {
		expected = page >= first && (page - first) % step == 0 &&
			   (page - first) / step < nr;
		STATS_CHECK(dq_bit(d, page) == expected,
			    "the bit of page %llu is %sset", page + 0ULL,
			    expected ? "not " : "");
	}
}

void dq_check_equal(const char *what, uint64_t found, uint64_t expected)
{
	STATS_CHECK(found == expected, "%s: %llu, expected %llu", what,
		    (unsigned long long)found, (unsigned long long)expected);
}
