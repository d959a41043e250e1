// SPDX-License-Identifier: GPL-2.0-only
/* VMs and vCPUs with a small guest. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <unistd.h>

#include "stress.h"

#define QUOTA_SEEN	77

int kvm_fd = -1;
bool own_kernel;

/* The same for all guests, made before there are threads. */
static unsigned char *code_page;

int call(int fd, unsigned long request, const void *arg, const char *name)
{
	int ret = ioctl(fd, request, arg);

	CHECK(ret >= 0, "%s: %s", name, strerror(errno));
	return ret;
}

void kvm_open(void)
{
	kvm_fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	CHECK(kvm_fd >= 0, "/dev/kvm: %s", strerror(errno));
	CHECK(ioctl(kvm_fd, KVM_CHECK_EXTENSION, KVM_CAP_BINARY_STATS_FD) == 1,
	      "this kernel lacks KVM_CAP_BINARY_STATS_FD");
	own_kernel = ioctl(kvm_fd, KVM_CHECK_EXTENSION, QUOTA_CAP) == 1;
	code_page = map_pages(PAGE_BYTES);
	memcpy(code_page, guest_code, guest_code_end - guest_code);
	if (access("/sys/kernel/debug/kvm", F_OK))
		mount("debugfs", "/sys/kernel/debug", "debugfs", 0, NULL);
}

int create_vm(void)
{
	int fd;

	/* Some kernels start a thread for the VM, which a signal interrupts. */
	do
		fd = ioctl(kvm_fd, KVM_CREATE_VM, 0);
	while (fd < 0 && errno == EINTR);
	CHECK(fd >= 0, "KVM_CREATE_VM: %s", strerror(errno));
	return fd;
}

int create_vcpu(int vm_fd, int id)
{
	return CALL(vm_fd, KVM_CREATE_VCPU, id);
}

int get_stats_fd(int owner_fd)
{
	return CALL(owner_fd, KVM_GET_STATS_FD, 0);
}

int enable_quota(int vm_fd)
{
	struct kvm_enable_cap cap = { .cap = QUOTA_CAP };

	return ioctl(vm_fd, KVM_ENABLE_CAP, &cap) ? errno : 0;
}

int set_slot(int vm_fd, unsigned int slot, unsigned int flags, uint64_t gpa,
	     const void *memory, uint64_t size_bytes)
{
	struct kvm_userspace_memory_region region = {
		.slot = slot,
		.flags = flags,
		.guest_phys_addr = gpa,
		.memory_size = size_bytes,
		.userspace_addr = (uintptr_t)memory,
	};

	return ioctl(vm_fd, KVM_SET_USER_MEMORY_REGION, &region) ? errno : 0;
}

void *map_pages(uint64_t size_bytes)
{
	void *memory = mmap(NULL, size_bytes, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	CHECK(memory != MAP_FAILED, "mmap: %s", strerror(errno));
	return memory;
}

/* Only the page of kvm_run itself: the others have nothing for us. */
struct kvm_run *map_run(int vcpu_fd)
{
	void *run = mmap(NULL, PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED,
			 vcpu_fd, 0);

	CHECK(run != MAP_FAILED, "mmap of the vCPU: %s", strerror(errno));
	return run;
}

void unmap_run(struct kvm_run *run)
{
	munmap(run, PAGE_BYTES);
}

uint64_t *run_quota(struct kvm_run *run)
{
	return (uint64_t *)((unsigned char *)run + QUOTA_RUN_OFFSET);
}

bool run_vcpu(int vcpu_fd, struct kvm_run *run)
{
	if (!ioctl(vcpu_fd, KVM_RUN, 0))
		return true;
	CHECK(errno == EINTR, "KVM_RUN: %s (exit reason %u)", strerror(errno),
	      run->exit_reason);
	return false;
}

/* KVM looks at the quota when KVM_RUN begins, even if nothing comes of that. */
bool is_limited(int vcpu_fd)
{
	struct kvm_run *run = map_run(vcpu_fd);
	int fd = get_stats_fd(vcpu_fd);
	struct stats_ref ref;
	uint64_t seen;

	*run_quota(run) = QUOTA_SEEN;
	run->immediate_exit = 1;
	CHECK(ioctl(vcpu_fd, KVM_RUN, 0), "KVM_RUN with immediate_exit");
	run->immediate_exit = 0;
	*run_quota(run) = 0;
	stats_ref_init(&ref, fd, NULL, 0);
	seen = stats_value(&ref, "dirty_quota");
	CHECK(!seen || seen == QUOTA_SEEN, "dirty_quota is %llu",
	      (unsigned long long)seen);
	close(fd);
	unmap_run(run);
	return seen;
}

int create_guest_vm(bool quota)
{
	int error, vm_fd = create_vm();

	if (quota) {
		error = enable_quota(vm_fd);
		CHECK(!error, "KVM_CAP_DIRTY_QUOTA: %s", strerror(error));
	}
	error = set_slot(vm_fd, 0, 0, CODE_GPA, code_page, PAGE_BYTES);
	CHECK(!error, "the code's slot: %s", strerror(error));
	return vm_fd;
}

int create_guest_vcpu(int vm_fd, int id, const struct guest_start *start)
{
	int vcpu_fd = create_vcpu(vm_fd, id);

	guest_set_up(vm_fd, vcpu_fd, start);
	return vcpu_fd;
}

/* Directories are "<pid>-<fd>". */
static long count_debugfs(void)
{
	DIR *dir = opendir("/sys/kernel/debug/kvm");
	struct dirent *entry;
	long nr = 0;

	if (!dir)
		return 0;
	while ((entry = readdir(dir)))
		nr += entry->d_name[0] >= '0' && entry->d_name[0] <= '9';
	closedir(dir);
	return nr;
}

/*
 * A VM whose fd was closed while another file kept the VM has no directory if
 * its process made another VM with the same number: the slab of vCPUs and, on
 * x86, the list of vmalloc()ed memory tell of these.
 */
static long count_vmalloc(void)
{
	FILE *file = fopen("/proc/vmallocinfo", "r");
	char line[256];
	long nr = 0;

	if (!file)
		return 0;
	while (fgets(line, sizeof(line), file))
		nr += strstr(line, " kvm_") || strstr(line, " svm_") ||
		      strstr(line, " vmx_");
	fclose(file);
	return nr;
}

static long count_vcpu_objects(void)
{
	FILE *file = fopen("/proc/slabinfo", "r");
	char line[512];
	long nr = 0;

	if (!file)
		return 0;
	/* else what a CPU keeps for the next one would count, too */
	write_text("/sys/kernel/slab/kvm_vcpu/shrink", "1");
	while (fgets(line, sizeof(line), file))
		if (sscanf(line, "kvm_vcpu %ld", &nr) == 1)
			break;
	fclose(file);
	return nr;
}

/* Not of VMs alone: only good for comparing with what was before. */
long count_vms(void)
{
	return count_debugfs() * 1000000 + count_vcpu_objects() * 1000 +
	       count_vmalloc();
}

/* The collector of files in sockets runs when one is closed. */
static void collect_sockets(void)
{
	int socks[2];

	if (!socketpair(AF_UNIX, SOCK_DGRAM, 0, socks)) {
		close(socks[0]);
		close(socks[1]);
	}
}

/* io_uring drops its references in its own time. */
void wait_for_vms(long nr)
{
	uint64_t end = now_ms() + 15000;

	while (count_vms() > nr && now_ms() < end) {
		collect_sockets();
		sleep_ms(20);
	}
	CHECK(count_vms() <= nr,
	      "VMs are left: %ld directories, %ld vCPUs, %ld vmalloc; before %ld, %ld, %ld",
	      count_debugfs(), count_vcpu_objects(), count_vmalloc(),
	      nr / 1000000, nr / 1000 % 1000, nr % 1000);
}
