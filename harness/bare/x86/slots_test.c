// SPDX-License-Identifier: GPL-2.0-only
/*
 * slots_test
 *
 * Guests without paging, on a 32-bit kernel or of a 32-bit program, while memory
 * slots change. Without nested paging, and on a 32-bit kernel with it, large pages
 * hang in a root of KVM's page tables itself.
 *
 * Usage: slots_test [PART-OF-A-TEST'S-NAME]
 * MEMSLOT_LIST_CHANGES in the environment: how often a layout changes.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <linux/compiler.h>

#include "bare.h"
#include "kvm_test_harness.h"
#include "kvm_util_internal.h"
#include "processor.h"

#define NR_CHANGES	300
#define NR_VCPUS	2

#define LARGE_PAGE	0x200000UL
#define NR_LARGE	24
#define RANGE_GPA	0x40000000UL	/* as in the guest's code */
/* One page that gets another address each time, so that all pages are zapped. */
#define OTHER_GPA	0x3f000000UL
#define OTHER_SLOT	9

struct vcpu_thread {
	pthread_t thread;
	int fd;
	bool failed;
};

static struct machine {
	struct kvm_vm *vm;
	struct stats_file stats;
	char *range, *other;
	unsigned int border;	/* where the range is divided in two slots */
	unsigned int slot;	/* the first one of the two */
	struct vcpu_thread vcpus[NR_VCPUS];
	bool plain;		/* vCPUs that fail start again */
	bool stop;
} machine;

/* How often each vCPU has gone over the range. */
static uint32_t passes[NR_VCPUS];

/* ---- the guest ---- */

/*
 * Adds to its word of each large page, which must be what it was. In edi it has its
 * number.
 */
static void __attribute__((naked)) guest(void)
{
	asm volatile("	xorl	%eax, %eax\n"
		     "2:	movl	$0x40000000, %ecx\n"
		     "1:	cmpl	%eax, (%ecx,%edi,4)\n"
		     "	jne	3f\n"
		     "	incl	(%ecx,%edi,4)\n"
		     "	addl	$0x200000, %ecx\n"
		     "	cmpl	$0x40000000 + 24 * 0x200000, %ecx\n"
		     "	jb	1b\n"
		     "	incl	%eax\n"
		     "	incl	passes(,%edi,4)\n"
		     "	jmp	2b\n"
		     "3:	movl	$0x1234, %edx\n"
		     "	outb	%al, %dx\n"
		     "	jmp	3b\n");
}

/* ---- the host ---- */

static void no_op(int sig)
{
}

static void set_registers(struct vcpu_thread *v)
{
	struct kvm_regs regs;

	TEST_ASSERT(!ioctl(v->fd, KVM_GET_REGS, &regs), "KVM_GET_REGS");
	regs.rip = (uintptr_t)guest;
	regs.rdi = v - machine.vcpus;
	TEST_ASSERT(!ioctl(v->fd, KVM_SET_REGS, &regs), "KVM_SET_REGS");
}

/* Its words may have any value after an exit that should not have been. */
static void start_again(struct vcpu_thread *v)
{
	unsigned int i, nr = v - machine.vcpus;

	for (i = 0; i < NR_LARGE; i++)
		((uint32_t *)(machine.range + i * LARGE_PAGE))[nr] = 0;
	set_registers(v);
}

static void *run_vcpu(void *arg)
{
	struct vcpu_thread *v = arg;

	while (!READ_ONCE(machine.stop)) {
		if (ioctl(v->fd, KVM_RUN, NULL) && errno == EINTR)
			continue;
		if (!machine.plain) {
			WRITE_ONCE(v->failed, true);
			break;
		}
		start_again(v);
	}
	return NULL;
}

static char *map(size_t size, int flags)
{
	char *p = mmap(NULL, size, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE | flags, -1,
		       0);

	TEST_ASSERT(p != MAP_FAILED, "mmap of %zu bytes", size);
	return p;
}

static void reserve_large_pages(void)
{
	FILE *f = fopen("/proc/sys/vm/nr_hugepages", "w");

	TEST_ASSERT(f && fprintf(f, "%u\n", NR_LARGE) > 0 && !fclose(f),
		    "/proc/sys/vm/nr_hugepages");
}

struct list {
	struct kvm_userspace_memory_region_list head;
	struct kvm_userspace_memory_region entries[5];
};

static void add(struct list *l, unsigned int slot, unsigned long gpa,
		char *memory, size_t size)
{
	l->entries[l->head.nent++] = (struct kvm_userspace_memory_region) {
		.slot = slot,
		.guest_phys_addr = gpa,
		.memory_size = size,
		.userspace_addr = (uintptr_t)memory,
	};
}

static void add_range(struct list *l, unsigned int slot, unsigned int first,
		      unsigned int end)
{
	add(l, slot, RANGE_GPA + first * LARGE_PAGE,
	    machine.range + first * LARGE_PAGE, (end - first) * LARGE_PAGE);
}

/* Two other slots for the range, with another border. */
static void fill(struct list *list, unsigned int i, bool zap)
{
	struct machine *m = &machine;
	struct list l = {};

	if (m->slot) {
		add(&l, m->slot, 0, NULL, 0);
		add(&l, m->slot + 1, 0, NULL, 0);
	}
	m->slot = m->slot == 1 ? 3 : 1;
	m->border = 1 + i % (NR_LARGE - 1);
	add_range(&l, m->slot, 0, m->border);
	add_range(&l, m->slot + 1, m->border, NR_LARGE);
	if (zap)
		add(&l, OTHER_SLOT, OTHER_GPA,
		    m->other + i % 2 * getpagesize(), getpagesize());
	*list = l;
}

static void change(unsigned int i, bool zap)
{
	struct list l;

	fill(&l, i, zap);
	TEST_ASSERT(!ioctl(machine.vm->fd, KVM_SET_USER_MEMORY_REGION_LIST, &l),
		    "a list: %s, entry %d", strerror(errno), l.head.failed);
}

static void start(void)
{
	struct machine *m = &machine;
	unsigned int i;

	signal(SIGUSR1, no_op);
	reserve_large_pages();
	m->range = map(NR_LARGE * LARGE_PAGE, MAP_HUGETLB);
	m->other = map(2 * getpagesize(), 0);
	m->vm = vm_create_default(0, 0, guest);
	vm_vcpu_add(m->vm, 1);
	bare_vcpu_setup(m->vm, 1, guest);
	stats_open(&m->stats, stats_get_fd(vm_get_fd(m->vm)));
	change(0, true);
	for (i = 0; i < NR_VCPUS; i++) {
		/* Also so that the compiler knows that it is written. */
		WRITE_ONCE(passes[i], 0);
		m->vcpus[i].fd = vcpu_find(m->vm, i)->fd;
		set_registers(&m->vcpus[i]);
		TEST_ASSERT(!pthread_create(&m->vcpus[i].thread, NULL, run_vcpu,
					    &m->vcpus[i]), "pthread_create");
	}
}

static void check_vcpus(unsigned int nr)
{
	unsigned int i;

	for (i = 0; i < NR_VCPUS; i++)
		TEST_ASSERT(!READ_ONCE(machine.vcpus[i].failed),
			    "vCPU %u failed after %u changes", i, nr);
}

static void wait_for_passes(unsigned int nr)
{
	uint32_t first;
	unsigned int i;

	for (i = 0; i < NR_VCPUS; i++) {
		first = READ_ONCE(passes[i]);
		STATS_WAIT(READ_ONCE(passes[i]) - first >= 2 ||
			   READ_ONCE(machine.vcpus[i].failed),
			   "vCPU %u has stopped after %u changes", i, nr);
	}
	check_vcpus(nr);
}

static void stop(void)
{
	unsigned int i;

	WRITE_ONCE(machine.stop, true);
	for (i = 0; i < NR_VCPUS; i++)
		do {
			pthread_kill(machine.vcpus[i].thread, SIGUSR1);
			usleep(1000);
		} while (pthread_tryjoin_np(machine.vcpus[i].thread, NULL));
	stats_close(&machine.stats);
	kvm_vm_free(machine.vm);
}

static unsigned int nr_changes(void)
{
	const char *s = getenv("MEMSLOT_LIST_CHANGES");

	return s ? strtoul(s, NULL, 0) : NR_CHANGES;
}

static void check_changes(bool zap)
{
	unsigned int i, nr = nr_changes();
	uint64_t zapped;

	start();
	wait_for_passes(0);
	TEST_ASSERT(stats_value(&machine.stats, "pages_2m"), "no large page");
	zapped = stats_value(&machine.stats, "memslot_pages_zapped");
	for (i = 1; i <= nr; i++) {
		change(i, zap);
		check_vcpus(i);
		/* A signal lets a vCPU return before it reloads its MMU. */
		if (i % 4 == 0)
			pthread_kill(machine.vcpus[i / 4 % NR_VCPUS].thread,
				     SIGUSR1);
	}
	wait_for_passes(nr);
	zapped = stats_value(&machine.stats, "memslot_pages_zapped") - zapped;
	printf("# %u changes, %llu pages zapped\n", nr,
	       (unsigned long long)zapped);
	TEST_ASSERT(zap ? zapped > nr : !zapped, "%llu pages were zapped",
		    (unsigned long long)zapped);
	stop();
}

/* All pages stay where they are. */
TEST(moved)
{
	check_changes(false);
}

/* One page does not, and all are zapped while the vCPUs fault for others. */
TEST(zapped)
{
	check_changes(true);
}

/*
 * The same with plain ioctls, which the guests notice. KVM has to survive it, also
 * when vCPUs return to userspace without having reloaded their MMUs.
 */
TEST(plain)
{
	unsigned int i, k, nr = nr_changes();
	struct list l;

	machine.plain = true;
	start();
	wait_for_passes(0);
	for (i = 1; i <= nr; i++) {
		fill(&l, i, false);
		for (k = 0; k < l.head.nent; k++)
			TEST_ASSERT(!ioctl(machine.vm->fd,
					   KVM_SET_USER_MEMORY_REGION,
					   &l.entries[k]), "entry %u: %s", k,
				    strerror(errno));
		pthread_kill(machine.vcpus[i % NR_VCPUS].thread, SIGUSR1);
	}
	wait_for_passes(nr);
	stop();
}

KVM_TEST_HARNESS_MAIN(KVM_CAP_MEMORY_REGION_LIST)
