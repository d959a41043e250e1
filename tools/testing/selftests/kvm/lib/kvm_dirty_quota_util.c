// SPDX-License-Identifier: GPL-2.0-only
/*
 * Tests of dirty quota: the guest, its machine, and what it is charged.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <linux/bitmap.h>
#include <linux/bitops.h>
#include <linux/compiler.h>

#include "kvm_dirty_quota_util.h"
#include "kvm_util_internal.h"
#include "processor.h"

#define DEFAULT_PAGES	1024
/* Room for page tables of the test pages, if they are to be in the slot. */
#define TABLE_PAGES	512
#define PORT		0x1234

/* ---- what runs in the guest ---- */

/* The guest's; the host sees its own copies, which mean nothing. */
static struct dq_work works[DQ_MAX_VCPUS];
static uint64_t page_size;

#if defined(__x86_64__)

void dq_guest_done(void)
{
	asm volatile("outl %%eax, %%dx" : : "a"(0), "d"(PORT) : "memory");
}

uint64_t dq_guest_ask(void)
{
	uint32_t value;

	asm volatile("inl %%dx, %%eax"
		     : "=a"(value) : "d"(PORT) : "memory");
	return value;
}

#elif defined(__aarch64__)

void dq_guest_done(void)
{
	WRITE_ONCE(*(uint32_t *)DQ_MMIO_GPA, 0);
}

uint64_t dq_guest_ask(void)
{
	return READ_ONCE(*(uint32_t *)DQ_MMIO_GPA);
}

#endif

struct dq_work *dq_guest_my_work(uint64_t nr)
{
	return &works[nr];
}

static void touch(struct dq_work *w, uint64_t page)
{
	uint64_t *word = (uint64_t *)(DQ_GPA + page * page_size);

	if (w->action == DQ_WRITE)
		WRITE_ONCE(*word, w->touched);
	else
		READ_ONCE(*word);
}

/* Marsaglia's xorshift: never 0, if and only if it does not start so. */
static uint64_t next_random(uint64_t x)
{
	x ^= x << 13;
	x ^= x >> 7;
	return x ^ x << 17;
}

void dq_guest_do_work(struct dq_work *w)
{
	uint64_t at, i, random = w->random;

	if (w->action == DQ_IDLE)
		return;
	for (i = 0; i < w->nr && !READ_ONCE(w->stop); i++) {
		random = next_random(random);
		at = (random ?: i) % w->span;
		touch(w, READ_ONCE(w->first) + at * w->step);
		WRITE_ONCE(w->touched, w->touched + 1);
	}
}

void dq_guest_work(uint64_t nr)
{
	for (;;) {
		dq_guest_do_work(&works[nr]);
		dq_guest_done();
	}
}

/* ---- machines ---- */

/* Parameters of a built-in module for other CPUs say what might have been. */
bool dq_has_pml(void)
{
#ifdef __x86_64__
	return is_intel_cpu() && stats_parameter("kvm_intel", "pml");
#else
	return false;
#endif
}

static void enable_cap(struct dq_vm *d, uint32_t cap, uint64_t arg)
{
	struct kvm_enable_cap enable = { .cap = cap, .args = { arg } };

	TEST_ASSERT(!ioctl(vm_get_fd(d->vm), KVM_ENABLE_CAP, &enable),
		    "KVM_ENABLE_CAP %u, %#llx", cap, (unsigned long long)arg);
}

int dq_enable(int vm_fd)
{
	struct kvm_enable_cap cap = { .cap = KVM_CAP_DIRTY_QUOTA };

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
		enable_cap(d, KVM_CAP_DIRTY_QUOTA, 0);
}

static void add_slot(struct dq_vm *d, const struct dq_config *config)
{
	unsigned int pages;

	d->slot_pages = d->nr_pages;
	if (config->tables_in_slot)
		d->slot_pages += TABLE_PAGES;
	d->bitmap = bitmap_alloc(d->slot_pages);
	TEST_ASSERT(d->bitmap, "out of memory");
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

	TEST_ASSERT(run != MAP_FAILED, "mmap of a vCPU");
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
	v->work = addr_gva2hva(d->vm, (vm_vaddr_t)&works[i]);
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
	for (i = 0; i < d->nr_vcpus; i++) {
		add_vcpu(d, i, config->guest ?: dq_guest_work);
		dq_set_quota(&d->vcpus[i], config->quota);
	}
	page_size = getpagesize();
	sync_global_to_guest(d->vm, page_size);
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

/* ---- running ---- */

static void tell(struct dq_vcpu *v, const struct dq_work *work)
{
	struct dq_work *w = v->work;

	w->action = work->action;
	w->first = work->first;
	w->step = work->step;
	w->span = work->span;
	w->nr = work->nr;
	w->random = work->random;
	WRITE_ONCE(w->stop, 0);
}

void dq_tell(struct dq_vcpu *v, enum dq_action action, uint64_t first,
	     uint64_t nr)
{
	struct dq_work work = {
		.action = action,
		.first = first,
		.step = 1,
		.span = nr,
		.nr = nr,
	};

	tell(v, &work);
}

void dq_tell_endless(struct dq_vcpu *v, enum dq_action action, uint64_t first,
		     uint64_t span)
{
	dq_tell(v, action, first, span);
	v->work->nr = UINT64_MAX;
}

/* Only x86 has ports, and there it is one that the guest works with. */
static bool at_port(struct kvm_run *run)
{
	return run->exit_reason == KVM_EXIT_IO && run->io.port == PORT;
}

static bool at_page(struct kvm_run *run)
{
	return run->exit_reason == KVM_EXIT_MMIO &&
	       run->mmio.phys_addr - DQ_MMIO_GPA < (uint64_t)getpagesize();
}

static bool asks(struct kvm_run *run)
{
	if (at_port(run))
		return run->io.direction == KVM_EXIT_IO_IN;
	return at_page(run) && !run->mmio.is_write;
}

void *dq_answer(struct dq_vcpu *v, uint32_t value)
{
	struct kvm_run *run = v->run;
	void *data = run->mmio.data;

	if (run->exit_reason == KVM_EXIT_IO)
		data = (uint8_t *)run + run->io.data_offset;
	return memcpy(data, &value, sizeof(value));
}

/* What the exit says must be what the statistics say. */
static void check_full(struct dq_vcpu *v)
{
	uint64_t count = v->run->dirty_quota_full.dirty_count;
	uint64_t quota = v->run->dirty_quota_full.dirty_quota;

	TEST_ASSERT(quota && count >= quota,
		    "an exit for the quota with count %llu and quota %llu",
		    (unsigned long long)count, (unsigned long long)quota);
	v->full_exits++;
	TEST_STAT_EQ(&v->stats, "pages_dirtied", count);
	TEST_STAT_EQ(&v->stats, "dirty_quota", quota);
	TEST_STAT_EQ(&v->stats, "dirty_quota_exits", v->full_exits);
}

static void check_guest_assert(struct dq_vcpu *v)
{
	struct ucall uc;

	if (get_ucall(v->d->vm, v->id, &uc) == UCALL_ABORT)
		TEST_FAIL("%s, line %llu, %#llx", (const char *)uc.args[0],
			  (unsigned long long)uc.args[1],
			  (unsigned long long)uc.args[2]);
}

enum dq_end dq_run(struct dq_vcpu *v)
{
	int ret = ioctl(v->fd, KVM_RUN, NULL);

	if (ret && errno == EINTR)
		return DQ_SIGNAL;
	TEST_ASSERT(!ret, "KVM_RUN returned %d", ret);
	if (v->run->exit_reason == KVM_EXIT_DIRTY_QUOTA_FULL) {
		check_full(v);
		return DQ_FULL;
	}
	if (asks(v->run))
		return DQ_ASK;
	if (!at_port(v->run) && !at_page(v->run))
		check_guest_assert(v);
	TEST_ASSERT(at_port(v->run) || at_page(v->run),
		    "KVM_RUN: exit reason %u (%s)", v->run->exit_reason,
		    exit_reason_str(v->run->exit_reason));
	return DQ_DONE;
}

static void raise_quota(struct dq_vcpu *v)
{
	uint64_t count = v->run->dirty_quota_full.dirty_count;
	uint64_t quota = v->run->dirty_quota_full.dirty_quota;

	TEST_ASSERT(v->raise_by,
		    "an exit for the quota (count %llu, quota %llu)",
		    (unsigned long long)count, (unsigned long long)quota);
	TEST_ASSERT(count - quota <= v->max_overrun,
		    "quota %llu, count %llu: more than %llu over",
		    (unsigned long long)quota, (unsigned long long)count,
		    (unsigned long long)v->max_overrun);
	if (count - quota > v->overrun)
		v->overrun = count - quota;
	dq_set_quota(v, quota + v->raise_by);
}

void dq_run_to_end(struct dq_vcpu *v)
{
	enum dq_end end;

	while ((end = dq_run(v)) != DQ_DONE) {
		TEST_ASSERT(end == DQ_FULL, "vCPU %u: end %d", v->id, end);
		raise_quota(v);
	}
}

void dq_settle(struct dq_vcpu *v)
{
	dq_tell(v, DQ_IDLE, 0, 0);
	dq_run_to_end(v);
}

void dq_do(struct dq_vcpu *v, enum dq_action action, uint64_t first,
	   uint64_t nr)
{
	dq_tell(v, action, first, nr);
	dq_run_to_end(v);
	dq_settle(v);
}

static void *run_thread(void *v)
{
	dq_run_to_end(v);
	return NULL;
}

void dq_start(struct dq_vcpu *v)
{
	TEST_ASSERT(!pthread_create(&v->thread, NULL, run_thread, v),
		    "pthread_create");
}

void dq_stop(struct dq_vcpu *v)
{
	WRITE_ONCE(v->work->stop, 1);
}

void dq_join(struct dq_vcpu *v)
{
	pthread_join(v->thread, NULL);
	v->run->immediate_exit = 0;
	dq_settle(v);
}

void dq_wait_touched(struct dq_vcpu *v, uint64_t nr)
{
	uint64_t start = READ_ONCE(v->work->touched);

	STATS_WAIT(READ_ONCE(v->work->touched) - start >= nr,
		   "for vCPU %u to touch %llu pages", v->id,
		   (unsigned long long)nr);
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

	TEST_ASSERT(!ioctl(vm_get_fd(d->vm), KVM_GET_DIRTY_LOG, &log),
		    "KVM_GET_DIRTY_LOG");
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
		TEST_ASSERT(dq_bit(d, page) == expected,
			    "the bit of page %llu is %sset", page + 0ULL,
			    expected ? "not " : "");
	}
}

void dq_check_charged(struct dq_vm *d, uint64_t before, uint64_t expected)
{
	uint64_t charged = dq_count_all(d) - before;
	uint64_t bits = dq_harvest(d);

	TEST_ASSERT_EQ(bits, expected);
	TEST_ASSERT_EQ(charged, expected);
}
