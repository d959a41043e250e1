// SPDX-License-Identifier: GPL-2.0-only
/*
 * kvm_binary_stats_fd_test
 *
 * The statistics file descriptor itself: what it is, that a running vCPU does
 * not delay it, and what it outlives.
 *
 * Usage: kvm_binary_stats_fd_test [PART-OF-A-CASE-NAME]
 */
#define _GNU_SOURCE
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <linux/io_uring.h>

#include "kvm_stats_guest.h"

/* The headers of tools/ hide some that the compiler's have. */
#ifndef __NR_io_uring_setup
#define __NR_io_uring_setup	425
#endif
#ifndef __NR_io_uring_enter
#define __NR_io_uring_enter	426
#endif

static void test_flags(enum stats_scope scope)
{
	struct stats_file s;
	int flags;

	stats_setup(&s, scope);
	flags = fcntl(s.fd, F_GETFL);
	STATS_CHECK((flags & O_ACCMODE) == O_RDONLY, "F_GETFL gives %#x",
		    flags);
	flags = fcntl(s.fd, F_GETFD);
	STATS_CHECK(flags == FD_CLOEXEC, "F_GETFD gives %#x", flags);
}

static void test_link_name(enum stats_scope scope)
{
	char path[64], expected[64], link[64] = "";
	struct stats_file s;

	stats_setup(&s, scope);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", s.fd);
	snprintf(expected, sizeof(expected), scope == STATS_VM ?
		 "anon_inode:kvm-vm-stats" : "anon_inode:kvm-vcpu-stats:%d",
		 STATS_VCPU_ID);
	STATS_CHECK(readlink(path, link, sizeof(link) - 1) > 0, "%s: %s",
		    path, strerror(errno));
	STATS_CHECK(!strcmp(link, expected), "the fd is '%s', not '%s'",
		    link, expected);
}

static void test_fdinfo(enum stats_scope scope)
{
	char path[64], expected[96], line[128];
	struct stats_file s;
	bool found = false;
	FILE *info;

	stats_setup(&s, scope);
	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", s.fd);
	snprintf(expected, sizeof(expected), "kvm-stats-id:\t%s\n",
		 stats_id(&s));
	info = fopen(path, "r");
	STATS_CHECK(info, "%s: %s", path, strerror(errno));
	while (!found && fgets(line, sizeof(line), info))
		found = !strcmp(line, expected);
	fclose(info);
	STATS_CHECK(found, "fdinfo has no line 'kvm-stats-id:\\t%s'",
		    stats_id(&s));
}

static void check_refused(const char *what, int fd)
{
	int ret = ioctl(fd, KVM_GET_STATS_FD, NULL);

	STATS_CHECK(ret == -1 && (errno == ENOTTY || errno == EINVAL),
		    "KVM_GET_STATS_FD on %s returned %d (%s)", what, ret,
		    ret < 0 ? strerror(errno) : "");
}

static void test_wrong_fds(enum stats_scope scope)
{
	struct stats_file vm_stats, vcpu_stats;
	unsigned int nr_fds;
	int pipe_fds[2];
	int kvm_fd = open("/dev/kvm", O_RDWR);

	STATS_CHECK(kvm_fd >= 0 && !pipe(pipe_fds), "setup: %s",
		    strerror(errno));
	stats_setup(&vm_stats, STATS_VM);
	stats_setup(&vcpu_stats, STATS_VCPU);
	nr_fds = stats_count_fds();
	check_refused("/dev/kvm", kvm_fd);
	check_refused("a pipe", pipe_fds[0]);
	check_refused("a VM's statistics", vm_stats.fd);
	check_refused("a vCPU's statistics", vcpu_stats.fd);
	STATS_CHECK(ioctl(-1, KVM_GET_STATS_FD, NULL) == -1 && errno == EBADF,
		    "KVM_GET_STATS_FD on -1: %s", strerror(errno));
	STATS_CHECK(stats_count_fds() == nr_fds, "%u file descriptors, not %u",
		    stats_count_fds(), nr_fds);
}

static void test_two_fds(enum stats_scope scope)
{
	struct kvm_vm *vm = stats_create_vm();
	struct stats_file a, b;
	uint8_t buf[24];

	stats_open(&a, stats_get_fd(stats_owner_fd(vm, scope)));
	stats_open(&b, stats_get_fd(stats_owner_fd(vm, scope)));
	STATS_CHECK(a.fd != b.fd, "the same fd twice");
	stats_check_unchanged(&a, b.fd);
	/* Each has a position of its own. */
	STATS_CHECK(read(a.fd, buf, sizeof(buf)) == sizeof(buf) &&
		    read(b.fd, buf, sizeof(buf)) == sizeof(buf) &&
		    !memcmp(buf, a.image, sizeof(buf)),
		    "reading one fd moved the other");
	stats_close(&a);
	stats_check_unchanged(&b, b.fd);
}

static void test_dup(enum stats_scope scope)
{
	struct stats_file s;
	uint8_t buf[24];
	int fd;

	stats_setup(&s, scope);
	fd = dup(s.fd);
	STATS_CHECK(fd >= 0, "dup: %s", strerror(errno));
	STATS_CHECK(read(s.fd, buf, sizeof(buf)) == sizeof(buf) &&
		    read(fd, buf, sizeof(buf)) == sizeof(buf) &&
		    !memcmp(buf, s.image + sizeof(buf), sizeof(buf)),
		    "the dup does not share the position");
	close(s.fd);
	stats_check_unchanged(&s, fd);
}

/* Read after the VM's, the vCPU's and the guest memory's last user is gone. */
static void test_outlives_vm(enum stats_scope scope)
{
	struct stats_file s;
	struct kvm_vm *vm = stats_setup(&s, scope);

	kvm_vm_free(vm);
	stats_check_unchanged(&s, s.fd);
	stats_check_file(s.fd, getpid(), scope);
}

static bool vm_exists(const char *debugfs_dir)
{
	struct stat st;

	return !stat(debugfs_dir, &st);
}

/* The fd keeps the VM, and the VM goes when the fd goes: debugfs shows both. */
static void test_keeps_vm(enum stats_scope scope)
{
	struct stats_file s;
	struct kvm_vm *vm;
	char dir[64];

	if (!stats_find_debugfs())
		stats_skip("no debugfs to see the VM's end by");
	vm = stats_setup(&s, scope);
	/* Named by the pid that the id has, which is not ours in a namespace. */
	snprintf(dir, sizeof(dir), "/sys/kernel/debug/kvm/%d-%d",
		 atoi(stats_id(&s) + strlen("kvm-")), vm_get_fd(vm));
	STATS_CHECK(vm_exists(dir), "%s: %s", dir, strerror(errno));
	kvm_vm_free(vm);
	STATS_CHECK(vm_exists(dir), "the VM is gone while its fd is open");
	stats_check_unchanged(&s, s.fd);
	stats_close(&s);
	STATS_CHECK(!vm_exists(dir), "the VM stayed after its last fd");
}

/*
 * A VM of the same name as one that its statistics keep alive has no directory:
 * those of its vCPUs must not be in debugfs' root, where they would stay.
 */
static void test_same_name(enum stats_scope scope)
{
	char path[64];
	struct stats_file s;
	struct kvm_vm *vm;
	int fd;

	if (!stats_find_debugfs())
		stats_skip("no debugfs");
	vm = stats_setup(&s, scope);
	fd = vm_get_fd(vm);
	kvm_vm_free(vm);
	vm = stats_create_vm();
	STATS_CHECK(vm_get_fd(vm) == fd, "the new VM's fd is %d, not %d",
		    vm_get_fd(vm), fd);
	snprintf(path, sizeof(path), "/sys/kernel/debug/vcpu%d", STATS_VCPU_ID);
	STATS_CHECK(!vm_exists(path), "%s is there", path);
}

/* The VMM's vCPU does not have to leave the guest for it, nor does it. */
static void test_while_running(enum stats_scope scope)
{
	struct stats_file s;
	struct kvm_vm *vm = guest_setup(&s, guest_spin_loop);
	int i;

	runner_start(vm);
	for (i = 0; i < 10; i++) {
		/* It ticks only inside KVM_RUN, and nothing ends that. */
		runner_wait_ticks();
		stats_doing("KVM_GET_STATS_FD while the vCPU runs");
		stats_check_file(stats_get_fd(stats_owner_fd(vm, scope)),
				 getpid(), scope);
	}
	runner_wait_ticks();
	STATS_CHECK(!runner_rounds() && !runner_interrupted(),
		    "the vCPU has left KVM_RUN");
}

/* The least of io_uring that one request takes. */
struct ring {
	int fd;
	struct io_uring_params p;
	uint8_t *sq, *cq;
	struct io_uring_sqe *sqe;
};

static void *map_ring(struct ring *r, size_t len, off_t offset)
{
	void *map = mmap(NULL, len, PROT_READ | PROT_WRITE,
			 MAP_SHARED | MAP_POPULATE, r->fd, offset);

	STATS_CHECK(map != MAP_FAILED, "mmap of the ring: %s", strerror(errno));
	return map;
}

static void open_ring(struct ring *r)
{
	memset(r, 0, sizeof(*r));
	r->fd = syscall(__NR_io_uring_setup, 1, &r->p);
	if (r->fd < 0)
		stats_skip("no io_uring here: %s", strerror(errno));
	r->sq = map_ring(r, r->p.sq_off.array + sizeof(__u32),
			 IORING_OFF_SQ_RING);
	r->cq = map_ring(r, r->p.cq_off.cqes + sizeof(struct io_uring_cqe),
			 IORING_OFF_CQ_RING);
	r->sqe = map_ring(r, sizeof(*r->sqe), IORING_OFF_SQES);
}

static __u32 *ring_word(uint8_t *ring, __u32 offset)
{
	return (__u32 *)(ring + offset);
}

/* A batch of reads is served in the system call that submits it. */
static void test_io_uring(enum stats_scope scope)
{
	struct io_uring_cqe *cqe;
	struct stats_file s;
	struct ring r;
	uint8_t *buf;
	int ret;

	open_ring(&r);
	stats_setup(&s, scope);
	buf = malloc(s.size);
	r.sqe->opcode = IORING_OP_READ;
	r.sqe->fd = s.fd;
	r.sqe->addr = (unsigned long)buf;
	r.sqe->len = s.size;
	*ring_word(r.sq, r.p.sq_off.array) = 0;
	__atomic_store_n(ring_word(r.sq, r.p.sq_off.tail), 1, __ATOMIC_RELEASE);
	ret = syscall(__NR_io_uring_enter, r.fd, 1, 0, 0, NULL, 0);
	STATS_CHECK(ret == 1, "io_uring_enter returned %d (%s)", ret,
		    ret < 0 ? strerror(errno) : "");
	STATS_CHECK(__atomic_load_n(ring_word(r.cq, r.p.cq_off.tail),
				    __ATOMIC_ACQUIRE) == 1,
		    "the read was not complete at once");
	cqe = (void *)(r.cq + r.p.cq_off.cqes);
	STATS_CHECK(cqe->res == s.size, "the read returned %d, not %zu",
		    cqe->res, s.size);
	STATS_CHECK(!memcmp(buf, s.image, s.header.data_offset),
		    "the read differs from pread");
}

static const struct stats_case cases[] = {
	{ "flags",		test_flags,		STATS_BOTH },
	{ "link_name",		test_link_name,		STATS_BOTH },
	{ "fdinfo",		test_fdinfo,		STATS_BOTH },
	{ "wrong_fds",		test_wrong_fds },
	{ "two_fds",		test_two_fds,		STATS_BOTH },
	{ "dup",		test_dup,		STATS_BOTH },
	{ "outlives_vm",	test_outlives_vm,	STATS_BOTH },
	{ "keeps_vm",		test_keeps_vm,		STATS_BOTH },
	{ "same_name",		test_same_name,		STATS_BOTH },
	{ "io_uring",		test_io_uring,		STATS_BOTH },
	{ "while_running",	test_while_running,	STATS_BOTH, 60 },
};

int main(int argc, char *argv[])
{
	return stats_run_cases(cases, ARRAY_SIZE(cases), argv[1]);
}
