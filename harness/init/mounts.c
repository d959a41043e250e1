// SPDX-License-Identifier: GPL-2.0-only
/* File systems, in the initramfs and over the host's root. */
#include <errno.h>
#include <fcntl.h>
#include <linux/random.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "init.h"

#define NEW_ROOT	"/newroot"
#define NINEP_OPTIONS	"trans=virtio,version=9p2000.L,msize=524288,cache=loose"
#define KVM_GROUP	78

struct mount_point {
	const char *type, *path, *options;
	bool required;
};

static const struct mount_point basic[] = {
	{ "proc",	"/proc",		NULL,		true },
	{ "sysfs",	"/sys",			NULL,		true },
	{ "devtmpfs",	"/dev",			NULL,		true },
	{ "devpts",	"/dev/pts",		NULL,		false },
	{ "tmpfs",	"/dev/shm",		"mode=1777",	true },
	{ "tmpfs",	"/tmp",			"mode=1777",	true },
	{ "tmpfs",	"/run",			"mode=0755",	true },
	{ "debugfs",	"/sys/kernel/debug",	NULL,		false },
	{ "tracefs",	"/sys/kernel/tracing",	NULL,		false },
	{ "securityfs",	"/sys/kernel/security",	NULL,		false },
	{ "hugetlbfs",	"/dev/hugepages",	NULL,		false },
};

static int mount_one(const char *prefix, const struct mount_point *point)
{
	char path[128];

	snprintf(path, sizeof(path), "%s%s", prefix, point->path);
	mkdir(path, 0755);
	if (!mount(point->type, path, point->type, 0, point->options))
		return 0;
	if (!point->required)
		return 0;
	fprintf(stderr, "init: mount %s on %s: %s\n", point->type, path,
		strerror(errno));
	return -1;
}

static const char * const device_links[][2] = {
	{ "/proc/self/fd",	"/dev/fd" },
	{ "/proc/self/fd/0",	"/dev/stdin" },
	{ "/proc/self/fd/1",	"/dev/stdout" },
	{ "/proc/self/fd/2",	"/dev/stderr" },
};

/* devtmpfs has devices only; scripts want these, kselftest's runner too */
static void link_devices(const char *prefix)
{
	char path[128];
	size_t i;

	for (i = 0; i < ARRAY_SIZE(device_links); i++) {
		snprintf(path, sizeof(path), "%s%s", prefix, device_links[i][1]);
		if (symlink(device_links[i][0], path))
			perror(path);
	}
}

/* As udev would: a VMM need not be root */
static void open_kvm_to_group(const char *prefix)
{
	char path[128];

	snprintf(path, sizeof(path), "%s/dev/kvm", prefix);
	if (chown(path, 0, KVM_GROUP) || chmod(path, 0660))
		perror(path);
}

static int mount_all(const char *prefix)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(basic); i++)
		if (mount_one(prefix, &basic[i]))
			return -1;
	link_devices(prefix);
	open_kvm_to_group(prefix);
	return 0;
}

static const char * const injection_verbose[] = {
	"/sys/kernel/debug/failslab/verbose",
	"/sys/kernel/debug/fail_page_alloc/verbose",
	"/sys/kernel/debug/fail_usercopy/verbose",
};

/*
 * Each injected failure would print a stack, which is what klog.c looks for.
 * Under lockdown debugfs is closed, and nothing can be injected either.
 */
static void silence_injection(void)
{
	size_t i;
	int fd;

	for (i = 0; i < ARRAY_SIZE(injection_verbose); i++) {
		fd = open(injection_verbose[i], O_WRONLY | O_CLOEXEC);
		if (fd < 0)
			continue;
		if (write(fd, "0", 1) != 1)
			perror(injection_verbose[i]);
		close(fd);
	}
}

int mounts_basic(void)
{
	if (mount_all(""))
		return -1;
	silence_injection();
	return 0;
}

/*
 * The host's programs, QEMU for one, wait for random numbers, which a machine
 * that has nothing to do has none of for minutes. These are good enough here.
 */
static void seed_random(void)
{
	struct {
		struct rand_pool_info info;
		unsigned char bytes[64];
	} seed = { { 8 * sizeof(seed.bytes), sizeof(seed.bytes) }, "kvmstats" };
	int fd = open("/dev/random", O_WRONLY | O_CLOEXEC);

	if (fd < 0 || ioctl(fd, RNDADDENTROPY, &seed))
		perror("init: /dev/random");
	if (fd >= 0)
		close(fd);
}

/*
 * The host's own proc is visible through 9p, and a shell that re-executes
 * /proc/self/exe would run the host's program: fresh mounts go over it before
 * the first program starts. The initramfs stays reachable in /mnt, and the
 * repository is mounted below it: where it is on the host may be hidden here,
 * by the new /tmp for one.
 */
int mounts_host_root(void)
{
	seed_random();
	mkdir(NEW_ROOT, 0755);
	if (mount("root", NEW_ROOT, "9p", MS_RDONLY, NINEP_OPTIONS))
		goto fail;
	if (mount_all(NEW_ROOT))
		return -1;
	mkdir("/top", 0755);
	if (mount("/", NEW_ROOT "/mnt", NULL, MS_BIND, NULL) ||
	    mount("top", NEW_ROOT HOST_TOP, "9p", MS_RDONLY, NINEP_OPTIONS))
		goto fail;
	if (chdir(NEW_ROOT) || mount(".", "/", NULL, MS_MOVE, NULL) ||
	    chroot(".") || chdir("/"))
		goto fail;
	return 0;
fail:
	fprintf(stderr, "init: host root: %s\n", strerror(errno));
	return -1;
}
