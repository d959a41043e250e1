// SPDX-License-Identifier: GPL-2.0-only
/*
 * Tests of lists of memory slots: the guest, its machine, changing layouts.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <linux/compiler.h>

#include "kvm_memslot_list_util.h"
#include "kvm_util_internal.h"
#include "processor.h"

#define PORT		0x4d4c
#define WORD_OFFSET	2048

/* ---- lists ---- */

void ml_begin(struct ml_list *l)
{
	memset(&l->head, 0, sizeof(l->head));
}

void ml_add(struct ml_list *l, uint32_t slot, uint64_t gpa, uint64_t size,
	    void *hva, uint32_t flags)
{
	l->entries[l->head.nent++] = (struct kvm_userspace_memory_region) {
		.slot = slot,
		.flags = flags,
		.guest_phys_addr = gpa,
		.memory_size = size,
		.userspace_addr = (uintptr_t)hva,
	};
}

int ml_apply(int vm_fd, struct ml_list *l)
{
	return ioctl(vm_fd, KVM_SET_USER_MEMORY_REGION_LIST, l) ? errno : 0;
}

int ml_max_entries(int vm_fd)
{
	return ioctl(vm_fd, KVM_CHECK_EXTENSION, KVM_CAP_MEMORY_REGION_LIST);
}

/* ---- what runs in the guest ---- */

/* The guest's; the host sees its own copies, which mean nothing. */
static struct {
	uint64_t first;		/* address of the first page to use */
	uint64_t nr_pages;
	uint64_t page_size;
	bool random, string_io;
} work;

/* One vCPU's, as the host finds it. */
static struct progress {
	uint64_t passes;
	uint64_t wrong;		/* address that had the wrong content */
} __aligned(128) progress[ML_MAX_VCPUS];

void ml_guest_exit(void)
{
#if defined(__x86_64__)
	asm volatile("outl %%eax, %%dx" : : "a"(0), "d"(PORT + 1) : "memory");
#elif defined(__aarch64__)
	WRITE_ONCE(*(uint32_t *)ML_EXIT_GPA, 0);
#endif
}

/* One byte of the range goes out; it is KVM's emulator that reads it. */
static void guest_string_io(uint64_t addr)
{
#if defined(__x86_64__)
	asm volatile("outsb" : "+S"(addr) : "d"(PORT) : "memory");
#endif
}

void ml_guest_wrong(uint64_t nr, uint64_t addr)
{
	WRITE_ONCE(progress[nr].wrong, addr);
	ml_guest_exit();
}

void ml_guest_pass(uint64_t nr, uint64_t pass)
{
	uint64_t i, addr, *word;

	for (i = 0; i < work.nr_pages; i++) {
		addr = work.first + i * work.page_size;
		word = (uint64_t *)(addr + WORD_OFFSET) + nr;
		if (READ_ONCE(*word) != pass)
			ml_guest_wrong(nr, addr);
		WRITE_ONCE(*word, pass + 1);
		((void (*)(void))addr)();
	}
	if (work.string_io)
		guest_string_io(work.first + work.page_size);
}

static void guest_random_pass(uint64_t nr, uint64_t *random)
{
	uint64_t i, *word;

	*random = *random * 6364136223846793005ULL + 1442695040888963407ULL;
	word = (uint64_t *)(work.first + WORD_OFFSET +
			    (*random >> 33) % work.nr_pages * work.page_size);
	WRITE_ONCE(word[nr], word[nr] + 1);
	for (i = 0; i < 200; i++)
		barrier();
}

void ml_guest_passed(uint64_t nr)
{
	WRITE_ONCE(progress[nr].passes, progress[nr].passes + 1);
}

static void guest_code(uint64_t nr)
{
	uint64_t pass = 0, random = nr + 1;

	for (;;) {
		if (work.random)
			guest_random_pass(nr, &random);
		else
			ml_guest_pass(nr, pass++);
		ml_guest_passed(nr);
	}
}

static struct progress *progress_of(struct ml_vcpu *v)
{
	return addr_gva2hva(v->m->vm, (vm_vaddr_t)&progress[v->id]);
}

/* ---- machines ---- */

static void enable_cap(struct ml_vm *m, uint32_t cap, uint64_t arg)
{
	struct kvm_enable_cap enable = { .cap = cap, .args = { arg } };

	TEST_ASSERT(!ioctl(vm_get_fd(m->vm), KVM_ENABLE_CAP, &enable),
		    "KVM_ENABLE_CAP %u, %#llx", cap, (unsigned long long)arg);
}

/* Other memory at the address that the library has chosen, and once more. */
static void replace_memory(struct ml_vm *m, size_t size)
{
	int fd = memfd_create("range", 0), other = fd;

	TEST_ASSERT(fd >= 0 && !ftruncate(fd, size), "memfd_create");
	m->memory[0] = mmap(m->memory[0], size, PROT_READ | PROT_WRITE,
			    MAP_SHARED | MAP_FIXED, fd, 0);
	if (m->config.two_memories) {
		other = memfd_create("other range", 0);
		TEST_ASSERT(other >= 0 && !ftruncate(other, size),
			    "memfd_create");
	}
	m->memory[1] = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED,
			    other, 0);
	TEST_ASSERT(m->memory[0] != MAP_FAILED && m->memory[1] != MAP_FAILED,
		    "mmap");
	close(fd);
	if (other != fd)
		close(other);
}

static void fill_pages(struct ml_vm *m)
{
	unsigned int i, size = getpagesize();
	uint8_t *page;

	for (i = 0; i < m->config.nr_pages; i++) {
		page = m->memory[0] + i * size;
#if defined(__x86_64__)
		*page = 0xc3;			/* ret */
#elif defined(__aarch64__)
		*(uint32_t *)page = 0xd65f03c0;	/* ret */
#endif
		__builtin___clear_cache((char *)page, (char *)page + 4);
	}
}

static void add_range(struct ml_vm *m)
{
	const struct ml_config *c = &m->config;
	unsigned int size = getpagesize();
	unsigned int pages;

	m->nr_pages = c->nr_pages + c->more_pages + ML_TABLE_PAGES;
	pages = vm_num_guest_pages(VM_MODE_DEFAULT, m->nr_pages);
	vm_userspace_mem_region_add(m->vm, c->huge ?
				    VM_MEM_SRC_ANONYMOUS_THP :
				    VM_MEM_SRC_ANONYMOUS, ML_GPA, ML_SLOT,
				    pages, c->flags);
	m->memory[0] = addr_gpa2hva(m->vm, ML_GPA);
	if (c->twice || c->two_memories)
		replace_memory(m, (size_t)m->nr_pages * size);
	fill_pages(m);

	/* Page tables take what is left. */
	pages = vm_num_guest_pages(VM_MODE_DEFAULT, c->nr_pages + c->more_pages);
	vm_phy_pages_alloc(m->vm, pages, ML_GPA, ML_SLOT);
	virt_map(m->vm, ML_GPA, ML_GPA, pages, c->tables ? ML_SLOT : 0);
	virt_pg_map(m->vm, ML_EXIT_GPA, ML_EXIT_GPA, 0);

	m->layout.nr = 1;
	m->layout.pieces[0].slot = ML_SLOT;
	m->layout.pieces[0].nr = m->nr_pages;
}

static void add_vcpu(struct ml_vm *m, unsigned int i)
{
	struct ml_vcpu *v = &m->vcpus[i];

	v->m = m;
	v->id = i;
	vm_vcpu_add_default(m->vm, i, m->config.guest ?: guest_code);
#ifdef __x86_64__
	vcpu_set_cpuid(m->vm, i, kvm_get_supported_cpuid());
#endif
	vcpu_args_set(m->vm, i, 1, (uint64_t)i);
#ifdef __x86_64__
	{
		/* It must be interruptible also on emulated hosts. */
		struct kvm_regs regs;

		vcpu_regs_get(m->vm, i, &regs);
		regs.rflags |= 1 << 9;
		vcpu_regs_set(m->vm, i, &regs);
	}
#endif
	v->fd = stats_vcpu_fd(m->vm, i);
	v->run = mmap(NULL, m->run_size, PROT_READ | PROT_WRITE, MAP_SHARED,
		      v->fd, 0);
	TEST_ASSERT(v->run != MAP_FAILED, "mmap of a vCPU");
	stats_open(&v->stats, stats_get_fd(v->fd));
}

static void no_op(int sig)
{
}

void ml_create(struct ml_vm *m, const struct ml_config *config)
{
	struct sigaction sa = { .sa_handler = no_op };
	unsigned int i;

	memset(m, 0, sizeof(*m));
	m->config = *config;
	m->config.nr_vcpus = config->nr_vcpus ?: 1;
	m->config.nr_pages = config->nr_pages ?: 64;
	m->random = 88172645463325252ULL;
	sigaction(SIGUSR1, &sa, NULL);

	m->vm = vm_create(VM_MODE_DEFAULT, DEFAULT_GUEST_PHY_PAGES +
			  DEFAULT_STACK_PGS * ML_MAX_VCPUS, O_RDWR);
	kvm_vm_elf_load(m->vm, program_invocation_name, 0, 0);
#ifdef __x86_64__
	vm_create_irqchip(m->vm);
#endif
	if (config->manual_protect)
		enable_cap(m, KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2,
			   config->manual_protect);
	if (config->quota)
		enable_cap(m, KVM_CAP_DIRTY_QUOTA, 0);
	add_range(m);
	stats_open(&m->stats, stats_get_fd(vm_get_fd(m->vm)));

	m->run_size = ioctl(m->vm->kvm_fd, KVM_GET_VCPU_MMAP_SIZE, NULL);
	work.first = ML_GPA;
	work.nr_pages = m->config.nr_pages;
	work.page_size = getpagesize();
	work.random = config->random;
	work.string_io = config->string_io;
	sync_global_to_guest(m->vm, work);
	for (i = 0; i < m->config.nr_vcpus; i++)
		add_vcpu(m, i);
}

void ml_destroy(struct ml_vm *m)
{
	const struct ml_layout first = {
		.nr = 1,
		.pieces = { { .slot = ML_SLOT, .nr = m->nr_pages } },
	};
	unsigned int i;

	/* The library deletes the slots that it knows. */
	ml_change(m, &first);
	stats_close(&m->stats);
	for (i = 0; i < m->config.nr_vcpus; i++) {
		stats_close(&m->vcpus[i].stats);
		munmap(m->vcpus[i].run, m->run_size);
	}
	if (m->config.twice || m->config.two_memories)
		munmap(m->memory[1], (size_t)m->nr_pages * getpagesize());
	kvm_vm_free(m->vm);
}

/* ---- running ---- */

/* What the guest puts out as a string must be what is there. */
static bool is_string_io(struct ml_vcpu *v)
{
	struct kvm_run *run = v->run;

	return run->exit_reason == KVM_EXIT_IO && run->io.port == PORT &&
	       *((uint8_t *)run + run->io.data_offset) == 0xc3;
}

static void fail(struct ml_vcpu *v, int error)
{
	struct kvm_run *run = v->run;
	struct progress *p = progress_of(v);

	if (error)
		snprintf(v->text, sizeof(v->text), "KVM_RUN: %s",
			 strerror(error));
	else if (p->wrong)
		snprintf(v->text, sizeof(v->text),
			 "wrong content of page %#llx in pass %llu",
			 (unsigned long long)p->wrong,
			 (unsigned long long)p->passes);
	else if (run->exit_reason == KVM_EXIT_INTERNAL_ERROR)
		snprintf(v->text, sizeof(v->text), "internal error, suberror %u",
			 run->internal.suberror);
	else if (run->exit_reason == KVM_EXIT_MMIO)
		snprintf(v->text, sizeof(v->text), "MMIO exit for %#llx",
			 (unsigned long long)run->mmio.phys_addr);
	else
		snprintf(v->text, sizeof(v->text), "exit with reason %u (%s)",
			 run->exit_reason,
			 exit_reason_str(run->exit_reason));
	__atomic_store_n(&v->failure, v->text, __ATOMIC_RELEASE);
}

static void *run_vcpu(void *arg)
{
	struct ml_vcpu *v = arg;

	while (!READ_ONCE(v->m->stop)) {
		if (ioctl(v->fd, KVM_RUN, NULL)) {
			if (errno == EINTR || errno == EAGAIN) {
				v->run->immediate_exit = 0;
				continue;
			}
			fail(v, errno);
			break;
		}
		if (!is_string_io(v)) {
			fail(v, 0);
			break;
		}
		v->string_ios++;
	}
	return NULL;
}

void ml_start(struct ml_vm *m)
{
	unsigned int i;

	m->stop = false;
	for (i = 0; i < m->config.nr_vcpus; i++) {
		m->vcpus[i].run->immediate_exit = 0;
		TEST_ASSERT(!pthread_create(&m->vcpus[i].thread, NULL, run_vcpu,
					    &m->vcpus[i]), "pthread_create");
	}
}

void ml_stop(struct ml_vm *m)
{
	unsigned int i;

	WRITE_ONCE(m->stop, true);
	for (i = 0; i < m->config.nr_vcpus; i++) {
		do {
			m->vcpus[i].run->immediate_exit = 1;
			pthread_kill(m->vcpus[i].thread, SIGUSR1);
			usleep(100);
		} while (pthread_tryjoin_np(m->vcpus[i].thread, NULL));
	}
}

const char *ml_failure(struct ml_vm *m)
{
	const char *failure;
	unsigned int i;

	for (i = 0; i < m->config.nr_vcpus; i++) {
		failure = __atomic_load_n(&m->vcpus[i].failure,
					  __ATOMIC_ACQUIRE);
		if (failure)
			return failure;
	}
	return NULL;
}

void ml_wait_passes(struct ml_vm *m, uint64_t nr)
{
	struct progress *p;
	unsigned int i;
	uint64_t first;

	for (i = 0; i < m->config.nr_vcpus; i++) {
		p = progress_of(&m->vcpus[i]);
		first = READ_ONCE(p->passes);
		STATS_WAIT(READ_ONCE(p->passes) - first >= nr || ml_failure(m),
			   "vCPU %u has stopped after %llu passes", i,
			   (unsigned long long)READ_ONCE(p->passes));
	}
}

static uint64_t fewest_passes(struct ml_vm *m)
{
	uint64_t passes, fewest = UINT64_MAX;
	unsigned int i;

	for (i = 0; i < m->config.nr_vcpus; i++) {
		passes = READ_ONCE(progress_of(&m->vcpus[i])->passes);
		if (passes < fewest)
			fewest = passes;
	}
	return fewest;
}

bool ml_is_broken(struct ml_vm *m)
{
	uint64_t passes = fewest_passes(m);
	unsigned int i;

	for (i = 0; i < 3000 && !ml_failure(m); i++) {
		if (fewest_passes(m) >= passes + 2)
			return false;
		usleep(1000);
	}
	return true;
}

uint64_t ml_vcpu_stat(struct ml_vm *m, const char *name)
{
	uint64_t sum = 0;
	unsigned int i;

	for (i = 0; i < m->config.nr_vcpus; i++)
		sum += stats_value(&m->vcpus[i].stats, name);
	return sum;
}

/* ---- changes ---- */

#define SLOW_MS		20000
#define SLOW_CHANGES	20

bool ml_go_on(unsigned int i, unsigned int nr, uint64_t start_ms)
{
	const char *s = getenv("MEMSLOT_LIST_CHANGES");

	if (s)
		return i < strtoul(s, NULL, 0);
	return i < nr &&
	       (i < SLOW_CHANGES || stats_now_ms() - start_ms < SLOW_MS);
}

/* Marsaglia's xorshift */
uint64_t ml_random(struct ml_vm *m)
{
	m->random ^= m->random << 13;
	m->random ^= m->random >> 7;
	m->random ^= m->random << 17;
	return m->random >> 16;
}

static uint32_t unused_slot(struct ml_vm *m, const struct ml_layout *l,
			    unsigned int nr)
{
	unsigned int i;
	uint32_t slot;

	do {
		slot = ML_SLOT + ml_random(m) % ML_NR_SLOTS;
		for (i = 0; i < nr && l->pieces[i].slot != slot; i++)
			;
	} while (i < nr);
	return slot;
}

void ml_random_layout(struct ml_vm *m, struct ml_layout *l)
{
	unsigned int i, first = 0, left = m->nr_pages;
	struct ml_piece *p;

	l->nr = 1 + ml_random(m) % ML_MAX_PIECES;
	for (i = 0; i < l->nr; i++) {
		p = &l->pieces[i];
		p->slot = unused_slot(m, l, i);
		p->first = first;
		p->nr = left;
		if (i < l->nr - 1)	/* leave some for those that follow */
			p->nr = 1 + ml_random(m) % (left - (l->nr - 1 - i));
		p->where = m->config.twice ? ml_random(m) % 2 : 0;
		first += p->nr;
		left -= p->nr;
	}
}

static const struct ml_piece *find_piece(const struct ml_layout *l,
					 uint32_t slot)
{
	unsigned int i;

	for (i = 0; i < l->nr; i++)
		if (l->pieces[i].slot == slot)
			return &l->pieces[i];
	return NULL;
}

/* What the slot has to be, as an entry of the list. */
static void add_slot(struct ml_vm *m, struct ml_list *list, uint32_t slot,
		     const struct ml_piece *p)
{
	size_t size = getpagesize();

	if (p)
		ml_add(list, slot, ML_GPA + p->first * size, p->nr * size,
		       m->memory[p->where] + p->first * size, m->config.flags);
	else
		ml_add(list, slot, 0, 0, NULL, 0);
}

static bool same_piece(const struct ml_piece *a, const struct ml_piece *b)
{
	return a && b && a->first == b->first && a->nr == b->nr &&
	       a->where == b->where;
}

void ml_change(struct ml_vm *m, const struct ml_layout *l)
{
	unsigned int i, start = ml_random(m);
	const struct ml_piece *was, *is;
	static struct ml_list list;
	uint32_t slot;
	int r;

	ml_begin(&list);
	/* The order of the entries has no meaning. */
	for (i = 0; i < ML_NR_SLOTS; i++) {
		slot = ML_SLOT + (start + i) % ML_NR_SLOTS;
		was = find_piece(&m->layout, slot);
		is = find_piece(l, slot);
		if (was != is && !same_piece(was, is))
			add_slot(m, &list, slot, is);
	}
	m->layout = *l;
	if (!list.head.nent)
		return;
	r = ml_apply(vm_get_fd(m->vm), &list);
	TEST_ASSERT(!r, "a list of %u: %s, entry %d", list.head.nent,
		    strerror(r), list.head.failed);
}

void ml_change_plainly(struct ml_vm *m, const struct ml_layout *l)
{
	static struct ml_list list;
	unsigned int i;

	ml_begin(&list);
	for (i = 0; i < m->layout.nr; i++)
		add_slot(m, &list, m->layout.pieces[i].slot, NULL);
	for (i = 0; i < l->nr; i++)
		add_slot(m, &list, l->pieces[i].slot, &l->pieces[i]);
	for (i = 0; i < list.head.nent; i++)
		TEST_ASSERT(!ioctl(vm_get_fd(m->vm), KVM_SET_USER_MEMORY_REGION,
				   &list.entries[i]), "slot %u",
			    list.entries[i].slot);
	m->layout = *l;
}
