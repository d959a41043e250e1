// SPDX-License-Identifier: GPL-2.0-only
/*
 * kvm_memslot_list_x86_test
 *
 * Guests of x86 that have in the range whose memory slots change what KVM itself
 * reads and writes for them: all of their page tables, the pages of the
 * paravirtual clock, of steal time, of the end of interrupts and of asynchronous
 * page faults, or the VMCB of a nested guest.  Guests in user mode.  And a write
 * by KVM that has found the old slot when the slots change.
 *
 * Usage: kvm_memslot_list_x86_test [PART-OF-A-TEST'S-NAME]
 * MEMSLOT_LIST_CHANGES in the environment: how often a layout changes.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <asm/kvm_para.h>
#include <linux/compiler.h>
#include <linux/userfaultfd.h>
#include <sys/syscall.h>

#include "kvm_memslot_list_util.h"
#include "kvm_test_harness.h"
#include "processor.h"
#include "svm_util.h"

#define NR_PAGES	32
/* Of the range, behind the pages that the guest goes over. */
#define MORE_GPA	(ML_GPA + NR_PAGES * 4096UL)
#define MORE_PAGES	8

#define NR_CHANGES	200

/* What a test does to the machine before its vCPU runs. */
typedef void (*setup_t)(struct ml_vm *m);

static void run(const struct ml_config *config, setup_t setup, bool plainly)
{
	uint64_t start = stats_now_ms();
	struct ml_layout l;
	unsigned int i;
	struct ml_vm m;

	ml_create(&m, config);
	if (setup)
		setup(&m);
	ml_start(&m);
	ml_wait_passes(&m, 2);
	TEST_ASSERT(!ml_failure(&m), "%s before any change", ml_failure(&m));
	for (i = 0; ml_go_on(i, NR_CHANGES, start) && !ml_failure(&m); i++) {
		ml_random_layout(&m, &l);
		if (plainly)
			ml_change_plainly(&m, &l);
		else
			ml_change(&m, &l);
		usleep(ml_random(&m) % 300);
	}
	if (plainly)
		TEST_ASSERT(ml_is_broken(&m), "%u plain changes unnoticed", i);
	else
		TEST_ASSERT(!ml_is_broken(&m), "%s after %u changes",
			    ml_failure(&m) ?: "stuck", i);
	if (plainly)
		printf("# plain ioctls: %s\n", ml_failure(&m) ?: "stuck");
	ml_stop(&m);
	ml_destroy(&m);
}

/* ---- page tables ---- */

/* Also the root and the level below it; the library has them in slot 0. */
static void move_root(struct ml_vm *m)
{
	uint64_t *root = addr_gpa2hva(m->vm, MORE_GPA), *next;
	struct kvm_sregs sregs;

	vcpu_sregs_get(m->vm, 0, &sregs);
	memcpy(root, addr_gpa2hva(m->vm, sregs.cr3), 4096);
	next = addr_gpa2hva(m->vm, MORE_GPA + 4096);
	memcpy(next, addr_gpa2hva(m->vm, root[0] & 0xffffffffff000ULL), 4096);
	root[0] = (root[0] & 0xfff) | (MORE_GPA + 4096);
	sregs.cr3 = MORE_GPA;
	vcpu_sregs_set(m->vm, 0, &sregs);
}

static void guest_flushes(uint64_t nr)
{
	uint64_t pass, cr3;

	for (pass = 0;; pass++) {
		ml_guest_pass(nr, pass);
		asm volatile("mov %%cr3, %0; mov %0, %%cr3"
			     : "=r"(cr3) : : "memory");
		asm volatile("invlpg (%0)" : : "r"(ML_GPA) : "memory");
		ml_guest_passed(nr);
	}
}

static const struct ml_config root = {
	.nr_pages = NR_PAGES, .more_pages = MORE_PAGES, .tables = true,
	.guest = guest_flushes,
}, root_twice = {
	.nr_pages = NR_PAGES, .more_pages = MORE_PAGES, .tables = true,
	.guest = guest_flushes, .twice = true,
};

TEST(root_list)
{
	run(&root, move_root, false);
}

TEST(root_list_addresses)
{
	run(&root_twice, move_root, false);
}

TEST(root_plain)
{
	run(&root, move_root, true);
}

/*
 * The list takes away what the loaded root is in.  On shadow paging a vCPU may load
 * it again between the zaps, of which the host must find nothing left.
 */
TEST(root_gone)
{
	static const struct ml_layout rest = {
		.nr = 1, .pieces = { { .slot = ML_SLOT, .nr = NR_PAGES } },
	};
	struct ml_vm m;
	int i;

	for (i = 0; i < 20; i++) {
		ml_create(&m, &root);
		move_root(&m);
		ml_start(&m);
		ml_wait_passes(&m, 2);
		TEST_ASSERT(!ml_failure(&m), "%s before", ml_failure(&m));
		ml_change(&m, &rest);
		TEST_ASSERT(ml_is_broken(&m), "runs without page tables");
		ml_stop(&m);
		ml_destroy(&m);
	}
}

/* ---- user mode ---- */

static void let_user_in(struct ml_vm *m, uint64_t table, int level)
{
	uint64_t *entries = addr_gpa2hva(m->vm, table);
	int i;

	for (i = 0; i < 512; i++) {
		if (!(entries[i] & 1))
			continue;
		entries[i] |= 4;
		if (level > 1)
			let_user_in(m, entries[i] & 0xffffffffff000ULL,
				    level - 1);
	}
}

static void enter_user_mode(struct ml_vm *m)
{
	struct kvm_sregs sregs;
	struct kvm_regs regs;

	vcpu_sregs_get(m->vm, 0, &sregs);
	let_user_in(m, sregs.cr3, 4);
	sregs.cs.dpl = 3;
	sregs.ds.dpl = 3;
	sregs.es.dpl = 3;
	sregs.cs.selector |= 3;
	sregs.ss = sregs.ds;
	sregs.ss.selector |= 3;
	vcpu_sregs_set(m->vm, 0, &sregs);
	vcpu_regs_get(m->vm, 0, &regs);
	regs.rflags |= 3 << 12;		/* ports for user mode */
	vcpu_regs_set(m->vm, 0, &regs);
}

static const struct ml_config user = {
	.nr_pages = NR_PAGES, .tables = true, .string_io = true,
};

TEST(user_list)
{
	run(&user, enter_user_mode, false);
}

TEST(user_plain)
{
	run(&user, enter_user_mode, true);
}

/* ---- what KVM writes ---- */

#define CLOCK_GPA	(MORE_GPA + 0 * 4096UL)
#define STEAL_GPA	(MORE_GPA + 1 * 4096UL)
#define EOI_GPA		(MORE_GPA + 2 * 4096UL)
#define APF_GPA		(MORE_GPA + 3 * 4096UL)

/* A version that KVM has not counted on is one that it has not written. */
static void check_written(uint64_t nr, uint32_t msr, uint64_t value,
			  uint64_t version_gpa)
{
	uint32_t *version = (uint32_t *)version_gpa;

	WRITE_ONCE(*version, 0);
	wrmsr(msr, value);
	if (!READ_ONCE(*version) || READ_ONCE(*version) & 1)
		ml_guest_wrong(nr, version_gpa);
}

/* It uses nothing else of the range: if anybody meets a hole, KVM does. */
static void guest_pv(uint64_t nr)
{
	for (;;) {
		check_written(nr, MSR_KVM_SYSTEM_TIME_NEW, CLOCK_GPA | 1,
			      CLOCK_GPA);
		check_written(nr, MSR_KVM_STEAL_TIME, STEAL_GPA | 1,
			      STEAL_GPA + 8);
		/* These are exceptions if there is no memory. */
		wrmsr(MSR_KVM_PV_EOI_EN, EOI_GPA | 1);
		wrmsr(MSR_KVM_ASYNC_PF_EN, APF_GPA | 9);
		ml_guest_passed(nr);
	}
}

static const struct ml_config pv = {
	.nr_pages = NR_PAGES, .more_pages = MORE_PAGES, .guest = guest_pv,
}, pv_twice = {
	.nr_pages = NR_PAGES, .more_pages = MORE_PAGES, .guest = guest_pv,
	.twice = true,
};

TEST(pv_list)
{
	run(&pv, NULL, false);
}

TEST(pv_list_addresses)
{
	run(&pv_twice, NULL, false);
}

TEST(pv_plain)
{
	run(&pv, NULL, true);
}

/* ---- a write that is on its way ---- */

static void guest_inputs(uint64_t nr)
{
	uint64_t addr = MORE_GPA;

	asm volatile("insb" : "+D"(addr) : "d"(0x4d4e) : "memory");
	for (;;)
		ml_guest_exit();
}

/* KVM writes the byte of the instruction when it runs the vCPU again. */
static void *complete_input(void *arg)
{
	struct ml_vcpu *v = arg;

	TEST_ASSERT(!ioctl(v->fd, KVM_RUN, NULL), "KVM_RUN");
	return NULL;
}

struct split {
	struct ml_vm *m;
	struct ml_layout layout;
	bool done;
};

static void *apply_split(void *arg)
{
	struct split *split = arg;

	ml_change(split->m, &split->layout);
	WRITE_ONCE(split->done, true);
	return NULL;
}

/* The kernel's tools have the number that others than x86 give it. */
#define NR_USERFAULTFD	323

/* Whoever touches the page that the guest has its input in has to wait. */
static int hold_page(struct ml_vm *m)
{
	struct uffdio_api api = { .api = UFFD_API };
	struct uffdio_register range = {
		.range = {
			.start = (uintptr_t)m->memory[0] + NR_PAGES * 4096,
			.len = 4096,
		},
		.mode = UFFDIO_REGISTER_MODE_MISSING,
	};
	int fd = syscall(NR_USERFAULTFD, O_CLOEXEC | O_NONBLOCK);

	TEST_ASSERT(fd >= 0, "userfaultfd");
	TEST_ASSERT(!ioctl(fd, UFFDIO_API, &api), "UFFDIO_API");
	TEST_ASSERT(!ioctl(fd, UFFDIO_REGISTER, &range), "UFFDIO_REGISTER");
	return fd;
}

static void let_page_go(struct ml_vm *m, int fd)
{
	struct uffdio_zeropage zero = {
		.range = {
			.start = (uintptr_t)m->memory[0] + NR_PAGES * 4096,
			.len = 4096,
		},
	};

	TEST_ASSERT(!ioctl(fd, UFFDIO_ZEROPAGE, &zero), "UFFDIO_ZEROPAGE");
}

/*
 * KVM has looked up the slot and waits for the page when the slots change.  The
 * list must wait for that, and the bit must get into the log of the new slot.
 */
TEST(log_of_a_write_on_its_way)
{
	const struct ml_config config = {
		.nr_pages = NR_PAGES, .more_pages = MORE_PAGES,
		.guest = guest_inputs, .flags = KVM_MEM_LOG_DIRTY_PAGES,
	};
	struct split split = {
		.layout = {
			.nr = 2,
			.pieces = { { .slot = ML_SLOT + 1, .nr = NR_PAGES - 1 },
				    { .slot = ML_SLOT + 2,
				      .first = NR_PAGES - 1 } },
		},
	};
	struct kvm_dirty_log log = { .slot = ML_SLOT + 2 };
	pthread_t vcpu_thread, list_thread;
	uint64_t bits[4] = {};
	struct pollfd pollfd;
	struct ml_vcpu *v;
	struct ml_vm m;

	ml_create(&m, &config);
	v = &m.vcpus[0];
	pollfd.fd = hold_page(&m);
	pollfd.events = POLLIN;
	TEST_ASSERT(!ioctl(v->fd, KVM_RUN, NULL), "KVM_RUN");
	TEST_ASSERT_EQ(v->run->exit_reason, KVM_EXIT_IO);
	TEST_ASSERT_EQ(v->run->io.direction, KVM_EXIT_IO_IN);
	*((uint8_t *)v->run + v->run->io.data_offset) = 0x5a;

	TEST_ASSERT(!pthread_create(&vcpu_thread, NULL, complete_input, v),
		    "pthread_create");
	TEST_ASSERT(poll(&pollfd, 1, STATS_WAIT_MS) == 1 &&
		    pollfd.revents == POLLIN, "nobody wants it");
	split.m = &m;
	split.layout.pieces[1].nr = m.nr_pages - (NR_PAGES - 1);
	TEST_ASSERT(!pthread_create(&list_thread, NULL, apply_split, &split),
		    "pthread_create");
	usleep(300000);
	TEST_ASSERT(!READ_ONCE(split.done), "the list did not wait");
	let_page_go(&m, pollfd.fd);
	pthread_join(list_thread, NULL);
	pthread_join(vcpu_thread, NULL);

	TEST_ASSERT_EQ(m.memory[0][NR_PAGES * 4096], 0x5a);
	log.dirty_bitmap = bits;
	TEST_ASSERT(!ioctl(vm_get_fd(m.vm), KVM_GET_DIRTY_LOG, &log),
		    "KVM_GET_DIRTY_LOG");
	TEST_ASSERT_EQ(bits[0], 2);
	close(pollfd.fd);
	ml_destroy(&m);
}

/* ---- nested guests ---- */

static uint8_t l2_stack[4096] __aligned(16);

static void l2(void)
{
	uint64_t pass;

	for (pass = 0;; pass++) {
		ml_guest_pass(0, pass);
		asm volatile("vmmcall" : : : "memory", "rax");
	}
}

/* VMCB and save area are in the range, as the struct that says so is not. */
static struct svm_test_data svm = {
	.vmcb = (void *)MORE_GPA, .vmcb_gpa = MORE_GPA,
	.save_area = (void *)(MORE_GPA + 4096), .save_area_gpa = MORE_GPA + 4096,
};

static void l1_svm(uint64_t nr)
{
	generic_svm_setup(&svm, l2, l2_stack + sizeof(l2_stack) - 8);
	for (;;) {
		run_guest(svm.vmcb, svm.vmcb_gpa);
		if (svm.vmcb->control.exit_code != SVM_EXIT_VMMCALL)
			ml_guest_wrong(nr, svm.vmcb->control.exit_code);
		svm.vmcb->save.rip += 3;
		ml_guest_passed(nr);
	}
}

static const struct ml_config nested = {
	.nr_pages = NR_PAGES, .more_pages = MORE_PAGES, .guest = l1_svm,
	.tables = true,
}, nested_twice = {
	.nr_pages = NR_PAGES, .more_pages = MORE_PAGES, .guest = l1_svm,
	.tables = true, .twice = true,
};

TEST(nested_list)
{
	if (!nested_svm_supported())
		SKIP(return, "no nested guests");
	run(&nested, NULL, false);
}

TEST(nested_list_addresses)
{
	if (!nested_svm_supported())
		SKIP(return, "no nested guests");
	run(&nested_twice, NULL, false);
}

TEST(nested_plain)
{
	if (!nested_svm_supported())
		SKIP(return, "no nested guests");
	run(&nested, NULL, true);
}

KVM_TEST_HARNESS_MAIN(KVM_CAP_MEMORY_REGION_LIST)
