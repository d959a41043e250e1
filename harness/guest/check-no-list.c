// SPDX-License-Identifier: GPL-2.0-only
/*
 * check-no-list
 *
 * An architecture without lists of memory slots says so: the ioctl is unknown.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>

/* The machine's own header does not know it. */
#define SET_USER_MEMORY_REGION_LIST _IOWR(KVMIO, 0xf8, char[32])

int main(void)
{
	unsigned int list[16] = { 1 }; /* one entry: no slot is to be there */
	int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	int vm = ioctl(kvm, KVM_CREATE_VM, 0);
	int ret;

	if (vm < 0) {
		perror("KVM_CREATE_VM");
		return 1;
	}
	ret = ioctl(vm, SET_USER_MEMORY_REGION_LIST, list);
	printf("a list: %s\n", ret ? strerror(errno) : "done");
	return ret && errno == ENOTTY ? 0 : 1;
}
