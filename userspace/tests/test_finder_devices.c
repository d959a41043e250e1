// SPDX-License-Identifier: GPL-2.0-only
/* The finder and what a VMM publishes; needs /dev/kvm with statistics. */
#include <fcntl.h>
#include <linux/kvm.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../lib/finder.h"
#include "image.h"

static int to_vmm[2], from_vmm[2];

/* A VM, two disks, a network card, and files that only have such a name. */
static void run_vmm(void)
{
	static const struct kvmstats_stat stat = { .name = "packets" };
	int vm = ioctl(open("/dev/kvm", O_RDWR | O_CLOEXEC), KVM_CREATE_VM, 0);
	struct kvmstats_publisher *publisher;
	struct kvmstats_device *device;
	struct kvmstats_block *block;
	char byte = 0;

	if (ioctl(vm, UAPI_GET_STATS_FD, NULL) < 0 ||
	    kvmstats_block_new("vdb", NULL, &block) ||
	    kvmstats_block_new("vda", NULL, &block) ||
	    kvmstats_publisher_new("net", &stat, 1, &publisher) ||
	    kvmstats_device_new(publisher, "n", &device) ||
	    dup(kvmstats_device_fd(device)) < 0 ||
	    memfd_create("kvmstats:unsealed", 0) < 0 ||
	    memfd_create("kvmstat", 0) < 0)
		_exit(1);
	if (write(from_vmm[1], &byte, 1) != 1 || read(to_vmm[0], &byte, 1) != 1)
		_exit(1);
	if (kvmstats_block_new("vdc", NULL, &block) ||
	    write(from_vmm[1], &byte, 1) != 1)
		_exit(1);
	pause();
	_exit(0);
}

static void assert_devices(const struct kvmstats_vmm *found,
			   const char *const *names, size_t count)
{
	const struct kvmstats_source *source;

	assert_int_equal(kvmstats_vmm_source_count(found), 1 + count);
	assert_int_equal(kvmstats_source_scope(kvmstats_vmm_source(found, 0)),
			 KVMSTATS_SCOPE_VM);
	for (size_t i = 0; i < count; i++) {
		source = kvmstats_vmm_source(found, 1 + i);
		assert_string_equal(kvmstats_source_device(source), names[i]);
	}
}

/* What it publishes is found with what the kernel counts of it. */
static void devices(void **state)
{
	static const char *const before[] = { "vda", "vdb", "n" };
	static const char *const after[] = { "vda", "vdb", "vdc", "n" };
	struct kvmstats_finder *finder;
	struct kvmstats_vmm *found;
	char byte;
	pid_t pid;

	(void)state;
	assert_int_equal(pipe(to_vmm), 0);
	assert_int_equal(pipe(from_vmm), 0);
	pid = fork();
	if (!pid)
		run_vmm();
	assert_int_equal(read(from_vmm[0], &byte, 1), 1);
	assert_int_equal(kvmstats_finder_new(0, NULL, &finder), 0);
	assert_int_equal(kvmstats_finder_look(finder, pid, &found), 1);
	assert_int_equal(kvmstats_vmm_error(found), 0);
	assert_int_equal(kvmstats_vmm_missing(found), 0);
	assert_int_equal(kvmstats_vmm_held(found, KVMSTATS_FD_DEVICE), 4);
	assert_devices(found, before, 3);
	assert_int_equal(kvmstats_vmm_look(found), 0);
	assert_int_equal(write(to_vmm[1], &byte, 1), 1);
	assert_int_equal(read(from_vmm[0], &byte, 1), 1);
	assert_int_equal(kvmstats_vmm_look(found), KVMSTATS_VMM_GREW);
	assert_devices(found, after, 4);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	kvmstats_vmm_free(found);
	kvmstats_finder_free(finder);
}

int main(void)
{
	TEST_LIST = {
		cmocka_unit_test(devices),
	};

	return RUN(tests);
}
