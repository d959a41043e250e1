// SPDX-License-Identifier: GPL-2.0-only
/*
 * The finder where the kernel has a descriptor of all vCPUs of a VM, and where not;
 * needs /dev/kvm with statistics.
 */
#include <fcntl.h>
#include <linux/kvm.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../lib/finder.h"
#include "image.h"

#define VCPUS	2

/* A process that has a VM, says so, and does one thing each time that it is told. */
struct vmm {
	pid_t pid;
	int said[2], told[2];
};

static struct {
	int kvm, vm, vcpus[VCPUS], stats[1 + VCPUS];
} own;

static void make_vm(void)
{
	own.kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	own.vm = ioctl(own.kvm, KVM_CREATE_VM, 0);
	own.stats[VCPUS] = ioctl(own.vm, UAPI_GET_STATS_FD, NULL);
	for (int i = 0; i < VCPUS; i++) {
		own.vcpus[i] = ioctl(own.vm, KVM_CREATE_VCPU, (long)i);
		own.stats[i] = ioctl(own.vcpus[i], UAPI_GET_STATS_FD, NULL);
	}
}

static void remade(void)
{
	for (int i = 0; i < VCPUS; i++)
		close(own.vcpus[i]);
	for (int i = 0; i <= VCPUS; i++)
		close(own.stats[i]);
	close(own.vm);
	close(own.kvm);
	make_vm();
}

static struct vmm *start(void (*next)(void))
{
	static struct vmm vmm;
	char byte;

	assert_int_equal(pipe(vmm.said), 0);
	assert_int_equal(pipe(vmm.told), 0);
	vmm.pid = fork();
	if (!vmm.pid) {
		make_vm();
		while (write(vmm.said[1], "", 1) == 1 &&
		       read(vmm.told[0], &byte, 1) == 1)
			next();
		_exit(0);
	}
	/* if it ends, that is an answer, too */
	close(vmm.said[1]);
	close(vmm.told[0]);
	assert_int_equal(read(vmm.said[0], &byte, 1), 1);
	return &vmm;
}

static void tell(struct vmm *vmm)
{
	char byte;

	assert_int_equal(write(vmm->told[1], "", 1), 1);
	assert_int_equal(read(vmm->said[0], &byte, 1), 1);
}

static void stop(struct vmm *vmm)
{
	kill(vmm->pid, SIGKILL);
	waitpid(vmm->pid, NULL, 0);
	close(vmm->said[0]);
	close(vmm->told[1]);
}

static struct kvmstats_finder *finder;

static void make_finder(unsigned int flags)
{
	assert_int_equal(kvmstats_finder_new(flags, NULL, &finder), 0);
}

static int tear_down(void **state)
{
	(void)state;
	kvmstats_finder_free(finder);
	finder = NULL;
	kvmstats_close_wait(KVMSTATS_CLOSE_FOREIGN);
	kvmstats_close_wait(KVMSTATS_CLOSE_VM);
	return 0;
}

static struct kvmstats_vmm *look(struct vmm *vmm)
{
	struct kvmstats_vmm *found;

	assert_int_equal(kvmstats_finder_look(finder, vmm->pid, &found), 1);
	return found;
}

static bool has_vcpus_stats(void)
{
	int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	int ret = ioctl(kvm, UAPI_CHECK_EXTENSION, UAPI_CAP_VCPUS_STATS_FD);

	close(kvm);
	return ret > 0;
}

static void add_vcpu(void)
{
	if (ioctl(own.vm, KVM_CREATE_VCPU, 7l) < 0)
		_exit(1);
}

/* The VM and all of its vCPUs, @count of them; what is before the latter is @singles. */
static void assert_all(const struct kvmstats_vmm *found, size_t singles, int count)
{
	struct kvmstats_source *all;
	uint64_t records[8 * 512];

	assert_int_equal(kvmstats_vmm_error(found), 0);
	assert_int_equal(kvmstats_vmm_missing(found), 0);
	assert_int_equal(kvmstats_vmm_source_count(found), 2 + singles);
	all = kvmstats_vmm_source(found, 1 + singles);
	assert_int_equal(kvmstats_source_scope(all), KVMSTATS_SCOPE_VCPUS);
	assert_int_equal(kvmstats_vcpus_sample(all, records, 8 * 512), count);
	assert_int_equal(kvmstats_vcpus_number(all, records), 0);
}

static void all_vcpus_in_one(void **state)
{
	struct kvmstats_vmm *found;
	struct vmm *vmm;

	(void)state;
	make_finder(KVMSTATS_FINDER_VCPUS);
	vmm = start(add_vcpu);
	found = look(vmm);
	if (has_vcpus_stats()) {
		assert_all(found, 0, VCPUS);
		assert_int_equal(kvmstats_vmm_look(found), 0);
		tell(vmm);
		/* a new vCPU is no new source */
		assert_int_equal(kvmstats_vmm_look(found), 0);
		assert_all(found, 0, VCPUS + 1);
	} else {
		assert_int_equal(kvmstats_vmm_source_count(found), 1 + VCPUS);
	}
	kvmstats_vmm_free(found);
	stop(vmm);
}

static void all_vcpus_too(void **state)
{
	struct kvmstats_vmm *found;
	struct vmm *vmm;

	(void)state;
	if (!has_vcpus_stats())
		return;	/* as without the flag, which is tested above */
	make_finder(KVMSTATS_FINDER_VCPUS_TOO);
	vmm = start(remade);
	found = look(vmm);
	for (int i = 0; i < 2; i++) {
		assert_all(found, VCPUS, VCPUS);
		tell(vmm);
		assert_true(kvmstats_vmm_look(found) & KVMSTATS_VMM_NEW_VM);
	}
	kvmstats_vmm_free(found);
	stop(vmm);
}

/* The VM goes, and with it what was made from it; the next has one of its own. */
static void all_vcpus_of_the_next(void **state)
{
	struct kvmstats_vmm *found;
	struct vmm *vmm;

	(void)state;
	if (!has_vcpus_stats())
		return;
	make_finder(KVMSTATS_FINDER_VCPUS);
	vmm = start(remade);
	found = look(vmm);
	tell(vmm);
	assert_int_equal(kvmstats_vmm_look(found), KVMSTATS_VMM_SHRANK |
			 KVMSTATS_VMM_NEW_VM | KVMSTATS_VMM_GREW);
	assert_int_equal(kvmstats_vmm_gone_count(found), 2);
	assert_all(found, 0, VCPUS);
	kvmstats_vmm_free(found);
	stop(vmm);
}

int main(void)
{
	TEST_LIST = {
		cmocka_unit_test_teardown(all_vcpus_in_one, tear_down),
		cmocka_unit_test_teardown(all_vcpus_too, tear_down),
		cmocka_unit_test_teardown(all_vcpus_of_the_next, tear_down),
	};

	return RUN(tests);
}
