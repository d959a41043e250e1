// SPDX-License-Identifier: GPL-2.0-only
/*
 * check-cap CAPABILITY VALUE
 *
 * KVM_CHECK_EXTENSION must give VALUE, for KVM and for a VM; if that is 0, the
 * VM must refuse to enable the capability.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

static int check(const char *where, int fd, unsigned long cap, int wanted)
{
	int got = ioctl(fd, KVM_CHECK_EXTENSION, cap);

	printf("%s: capability %lu is %d\n", where, cap, got);
	return got == wanted ? 0 : -1;
}

static int check_refused(int vm, unsigned long cap)
{
	struct kvm_enable_cap enable = { .cap = cap, .args = { 1 } };
	int ret = ioctl(vm, KVM_ENABLE_CAP, &enable);

	printf("enabling it: %s\n", ret ? strerror(errno) : "done");
	return ret && errno == EINVAL ? 0 : -1;
}

int main(int argc, char *argv[])
{
	int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	int vm = ioctl(kvm, KVM_CREATE_VM, 0);
	unsigned long cap;
	int wanted;

	if (argc != 3) {
		fputs("usage: check-cap CAPABILITY VALUE\n", stderr);
		return 2;
	}
	if (vm < 0) {
		perror("KVM_CREATE_VM");
		return 1;
	}
	cap = strtoul(argv[1], NULL, 0);
	wanted = atoi(argv[2]);
	if (check("/dev/kvm", kvm, cap, wanted) || check("VM", vm, cap, wanted))
		return 1;
	return !wanted && check_refused(vm, cap);
}
