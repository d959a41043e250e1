// SPDX-License-Identifier: GPL-2.0-only
/*
 * kvm_dirty_quota_arm64_test
 *
 * Pages that the hypervisor of arm64 itself writes are in the dirty log, and
 * are nobody's charge; and vCPUs that are powered off.
 *
 * Usage: kvm_dirty_quota_arm64_test [PART-OF-A-TEST'S-NAME]
 */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <linux/bits.h>

#include "kvm_dirty_quota_util.h"
#include "kvm_test_harness.h"
#include "processor.h"

#define HOST_PAGE	200
#define NR_PAGES	100

/* What the guest has dirtied is charged, the host's page only logged. */
static void check_host_page(struct dq_vm *d, uint64_t guest_pages)
{
	uint64_t bits = dq_harvest(d);

	TEST_ASSERT(dq_bit(d, HOST_PAGE), "the host has written no page");
	TEST_ASSERT_EQ(bits, guest_pages + 1);
	TEST_ASSERT_EQ(dq_count_all(d), guest_pages);
}

/* ---- steal time ---- */

#define PV_TIME_ST	0xc5000021

static int64_t hypercall(uint32_t nr)
{
	register uint64_t x0 asm("x0") = nr;

	asm volatile("hvc #0" : "+r"(x0) : : "x1", "x2", "x3", "memory");
	return x0;
}

static void guest_stolen(uint64_t nr)
{
	struct dq_work *w = dq_guest_my_work(nr);

	w->answer = hypercall(PV_TIME_ST);
	dq_guest_work(nr);
}

static bool set_pvtime(struct dq_vcpu *v, uint64_t gpa)
{
	struct kvm_device_attr attr = {
		.group = KVM_ARM_VCPU_PVTIME_CTRL,
		.attr = KVM_ARM_VCPU_PVTIME_IPA,
		.addr = (uint64_t)&gpa,
	};

	if (ioctl(v->fd, KVM_HAS_DEVICE_ATTR, &attr))
		return false;
	TEST_ASSERT(!ioctl(v->fd, KVM_SET_DEVICE_ATTR, &attr),
		    "KVM_ARM_VCPU_PVTIME_IPA");
	return true;
}

/* Written when the guest asks for it, and in each KVM_RUN. */
TEST(steal_time)
{
	uint64_t gpa = DQ_GPA + HOST_PAGE * getpagesize();
	struct dq_config config = { .enable = true, .guest = guest_stolen };
	struct dq_vcpu *v;
	struct dq_vm d;

	dq_create(&d, &config);
	v = &d.vcpus[0];
	if (!set_pvtime(v, gpa))
		SKIP(return, "no steal time: %s", strerror(errno));
	dq_do(v, DQ_WRITE, 0, NR_PAGES);
	TEST_ASSERT_EQ(v->work->answer, gpa);
	check_host_page(&d, NR_PAGES);
	dq_do(v, DQ_IDLE, 0, 0);
	TEST_ASSERT_EQ(dq_harvest(&d), 1);
	dq_check_bits(&d, HOST_PAGE, 1, 1);
	TEST_ASSERT_EQ(dq_count(v), NR_PAGES);
}

/* With a quota of one page that the guest does not use. */
TEST(steal_time_quota)
{
	uint64_t gpa = DQ_GPA + HOST_PAGE * getpagesize();
	struct dq_config config = { .enable = true, .quota = 1 };
	struct dq_vm d;
	int i;

	dq_create(&d, &config);
	if (!set_pvtime(&d.vcpus[0], gpa))
		SKIP(return, "no steal time: %s", strerror(errno));
	for (i = 0; i < 20; i++) {
		dq_do(&d.vcpus[0], DQ_IDLE, 0, 0);
		check_host_page(&d, 0);
	}
}

/* ---- tables of the interrupt translation service ---- */

#define ITS_BASE	0x8080000UL
#define GITS_BASER1	0x108
#define BASER_VALID	BIT(63)
/* The table's address is a multiple of 64 KiB. */
#define TABLE_GPA	(DQ_GPA + 0x80000)

static void set_attr(int fd, uint32_t group, uint64_t attr, uint64_t value)
{
	struct kvm_device_attr device_attr = {
		.group = group,
		.attr = attr,
		.addr = (uint64_t)&value,
	};

	TEST_ASSERT(!ioctl(fd, KVM_SET_DEVICE_ATTR, &device_attr),
		    "ITS attribute %u/%#llx", group, attr + 0ULL);
}

/* A table of collections without any: saving it writes its end. */
static int create_its(struct dq_vm *d)
{
	struct kvm_create_device device = { .type = KVM_DEV_TYPE_ARM_VGIC_ITS };

	if (ioctl(vm_get_fd(d->vm), KVM_CREATE_DEVICE, &device))
		return -1;
	set_attr(device.fd, KVM_DEV_ARM_VGIC_GRP_ADDR, KVM_VGIC_ITS_ADDR_TYPE,
		 ITS_BASE);
	set_attr(device.fd, KVM_DEV_ARM_VGIC_GRP_CTRL,
		 KVM_DEV_ARM_VGIC_CTRL_INIT, 0);
	set_attr(device.fd, KVM_DEV_ARM_VGIC_GRP_ITS_REGS, GITS_BASER1,
		 BASER_VALID | TABLE_GPA);
	return device.fd;
}

/* Saved by whoever holds the device; no vCPU runs or is concerned. */
TEST(its_tables)
{
	struct dq_config config = { .enable = true, .quota = 1 };
	struct dq_vm d;
	int its;

	dq_create(&d, &config);
	its = create_its(&d);
	if (its < 0)
		SKIP(return, "no ITS: %s", strerror(errno));
	set_attr(its, KVM_DEV_ARM_VGIC_GRP_CTRL, KVM_DEV_ARM_ITS_SAVE_TABLES,
		 0);
	TEST_ASSERT_EQ(dq_harvest(&d), 1);
	dq_check_bits(&d, 0x80000 / getpagesize(), 1, 1);
	TEST_ASSERT_EQ(dq_count_all(&d), 0);
	dq_do(&d.vcpus[0], DQ_IDLE, 0, 0);
	TEST_ASSERT_EQ(d.vcpus[0].full_exits, 0);
}

/* ---- a vCPU that would not enter the guest ---- */

static bool run_is_over;

static void *run_once(void *v)
{
	enum dq_end end = dq_run(v);

	WRITE_ONCE(run_is_over, true);
	return (void *)(long)end;
}

static void no_op(int sig)
{
}

/*
 * With its quota used up, a vCPU that is powered off waits all the same, and
 * exits for the quota at the latest when it has been powered on.
 */
TEST(powered_off)
{
	struct kvm_mp_state state = { .mp_state = KVM_MP_STATE_STOPPED };
	struct dq_config config = { .enable = true, .quota = 3 };
	struct dq_vcpu *v;
	struct dq_vm d;
	void *end;

	signal(SIGUSR1, no_op);
	dq_create(&d, &config);
	v = &d.vcpus[0];
	dq_tell(v, DQ_WRITE, 0, 10);
	TEST_ASSERT_EQ(dq_run(v), DQ_FULL);
	vcpu_set_mp_state(d.vm, 0, &state);
	TEST_ASSERT(!pthread_create(&v->thread, NULL, run_once, v),
		    "pthread_create");
	usleep(200000);
	TEST_ASSERT(!READ_ONCE(run_is_over), "KVM_RUN has returned");
	pthread_kill(v->thread, SIGUSR1);
	pthread_join(v->thread, &end);
	/* KVM may tell of either first. */
	TEST_ASSERT((long)end == DQ_SIGNAL || (long)end == DQ_FULL,
		    "end %ld of KVM_RUN", (long)end);
	state.mp_state = KVM_MP_STATE_RUNNABLE;
	vcpu_set_mp_state(d.vm, 0, &state);
	TEST_ASSERT_EQ(dq_run(v), DQ_FULL);
	dq_set_quota(v, 0);
	dq_run_to_end(v);
	TEST_ASSERT_EQ(dq_count(v), 10);
}

KVM_TEST_HARNESS_MAIN(KVM_CAP_DIRTY_QUOTA)
