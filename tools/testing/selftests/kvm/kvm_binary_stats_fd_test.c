// SPDX-License-Identifier: GPL-2.0-only
/*
 * kvm_binary_stats_fd_test
 *
 * The statistics file descriptor itself: what it is, what it outlives, in several
 * processes and threads, and when descriptors or memory run out.  Runs no guest.
 *
 * Usage: kvm_binary_stats_fd_test [PART-OF-A-TEST'S-NAME]
 */
#define _GNU_SOURCE
#include <errno.h>
#include <grp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <linux/io_uring.h>

#include "kvm_stats_util.h"
#include "kvm_test_harness.h"

/* The headers of tools/ hide some that the compiler's have. */
#ifndef __NR_io_uring_setup
#define __NR_io_uring_setup	425
#endif
#ifndef __NR_io_uring_enter
#define __NR_io_uring_enter	426
#endif
#ifndef __NR_pidfd_open
#define __NR_pidfd_open		434
#endif
#ifndef __NR_pidfd_getfd
#define __NR_pidfd_getfd	438
#endif

#define NOBODY	65534

FIXTURE(file)
{
	struct kvm_vm *vm;
	int owner_fd;
	struct stats_file s;
};

FIXTURE_VARIANT(file)
{
	enum stats_scope scope;
};

FIXTURE_VARIANT_ADD(file, vm)
{
	.scope = STATS_VM,
};

FIXTURE_VARIANT_ADD(file, vcpu)
{
	.scope = STATS_VCPU,
};

FIXTURE_VARIANT_ADD(file, vcpus)
{
	.scope = STATS_VCPUS,
};

/* The variant's ioctl, for threads. */
static unsigned long request;

FIXTURE_SETUP(file)
{
	self->vm = stats_setup(&self->s, variant->scope);
	self->owner_fd = stats_owner_fd(self->vm, variant->scope);
	request = stats_request(variant->scope);
}

/* Some tests have closed the VM or the file already; the rest ends with them. */
FIXTURE_TEARDOWN(file)
{
}

TEST_F(file, flags)
{
	int flags = fcntl(self->s.fd, F_GETFL);

	TEST_ASSERT((flags & O_ACCMODE) == O_RDONLY, "F_GETFL gives %#x",
		    flags);
	TEST_ASSERT_EQ(fcntl(self->s.fd, F_GETFD), FD_CLOEXEC);
}

TEST_F(file, link_name)
{
	static const char * const names[] = {
		[STATS_VM]	= "anon_inode:kvm-vm-stats",
		[STATS_VCPU]	= "anon_inode:kvm-vcpu-stats:%d",
		[STATS_VCPUS]	= "anon_inode:kvm-vcpus-stats",
	};
	char path[64], expected[64], link[64] = "";

	snprintf(path, sizeof(path), "/proc/self/fd/%d", self->s.fd);
	snprintf(expected, sizeof(expected), names[variant->scope],
		 STATS_VCPU_ID);
	TEST_ASSERT(readlink(path, link, sizeof(link) - 1) > 0, "%s", path);
	TEST_ASSERT(!strcmp(link, expected), "the fd is '%s', not '%s'",
		    link, expected);
}

TEST_F(file, fdinfo)
{
	char path[64], expected[96], line[128];
	bool found = false;
	FILE *info;

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", self->s.fd);
	snprintf(expected, sizeof(expected), "kvm-stats-id:\t%s\n",
		 stats_id(&self->s));
	info = fopen(path, "r");
	TEST_ASSERT(info, "%s", path);
	while (!found && fgets(line, sizeof(line), info))
		found = !strcmp(line, expected);
	fclose(info);
	TEST_ASSERT(found, "fdinfo has no line 'kvm-stats-id:\\t%s'",
		    stats_id(&self->s));
}

/* ---- what is unique in fdinfo ---- */

/* The VM's own file and those of its statistics show the same. */
static uint64_t vm_serial(struct kvm_vm *vm)
{
	uint64_t serial = stats_fdinfo(vm_get_fd(vm), "kvm-vm-serial");
	int fd = stats_get_fd(vm_get_fd(vm));

	TEST_ASSERT(serial, "the VM's fdinfo has no kvm-vm-serial");
	TEST_ASSERT_EQ(stats_fdinfo(fd, "kvm-vm-serial"), serial);
	TEST_ASSERT_EQ(stats_fdinfo(fd, "kvm-vcpu-serial"), 0);
	TEST_ASSERT_EQ(stats_fdinfo(vm_get_fd(vm), "kvm-vcpu-serial"), 0);
	close(fd);
	return serial;
}

static uint64_t vcpu_serial(struct kvm_vm *vm, uint32_t vcpu_id)
{
	int vcpu_fd = stats_vcpu_fd(vm, vcpu_id);
	uint64_t serial = stats_fdinfo(vcpu_fd, "kvm-vcpu-serial");
	int fd = stats_get_fd(vcpu_fd);

	TEST_ASSERT(serial, "the vCPU's fdinfo has no kvm-vcpu-serial");
	TEST_ASSERT_EQ(stats_fdinfo(fd, "kvm-vcpu-serial"), serial);
	TEST_ASSERT_EQ(stats_fdinfo(fd, "kvm-vm-serial"), vm_serial(vm));
	TEST_ASSERT_EQ(stats_fdinfo(vcpu_fd, "kvm-vm-serial"), vm_serial(vm));
	close(fd);
	return serial;
}

/* Not even a VM that has the place in memory of an earlier one has its number. */
TEST(serial_unique)
{
	uint64_t serial, last = 0;
	struct kvm_vm *vm;
	int i;

	TEST_ASSERT_EQ(kvm_check_cap(KVM_CAP_FDINFO_SERIAL), 1);
	for (i = 0; i < 20; i++) {
		vm = stats_create_vm();
		serial = vm_serial(vm);
		TEST_ASSERT(serial > last, "a VM has %llu after %llu",
			    (unsigned long long)serial,
			    (unsigned long long)last);
		last = vcpu_serial(vm, STATS_VCPU_ID);
		TEST_ASSERT(last > serial, "a vCPU has %llu in VM %llu",
			    (unsigned long long)last,
			    (unsigned long long)serial);
		vm_vcpu_add(vm, STATS_VCPU_ID + 1);
		serial = vcpu_serial(vm, STATS_VCPU_ID + 1);
		TEST_ASSERT(serial > last, "two vCPUs have %llu and %llu",
			    (unsigned long long)last,
			    (unsigned long long)serial);
		last = serial;
		kvm_vm_free(vm);
	}
}

/* The id cannot tell the VMs of one task apart, nor their vCPUs. */
TEST(serial_of_two_vms)
{
	struct kvm_vm *a = stats_create_vm(), *b = stats_create_vm();

	TEST_ASSERT(vm_serial(a) != vm_serial(b), "two VMs of one number");
	TEST_ASSERT(vcpu_serial(a, STATS_VCPU_ID) !=
		    vcpu_serial(b, STATS_VCPU_ID), "two vCPUs of one number");
}

#define NR_CREATORS	4
#define NR_CREATED	50

static void *create_vms(void *arg)
{
	uint64_t *serials = arg;
	int i, fd, kvm_fd = open("/dev/kvm", O_RDWR);

	for (i = 0; i < NR_CREATED; i++) {
		fd = ioctl(kvm_fd, KVM_CREATE_VM, 0);
		TEST_ASSERT(fd >= 0, "KVM_CREATE_VM");
		serials[i] = stats_fdinfo(fd, "kvm-vm-serial");
		close(fd);
	}
	close(kvm_fd);
	return NULL;
}

TEST(serial_of_threads)
{
	static uint64_t serials[NR_CREATORS][NR_CREATED];
	uint64_t *all = serials[0];
	pthread_t threads[NR_CREATORS];
	int i, j;

	for (i = 0; i < NR_CREATORS; i++)
		TEST_ASSERT(!pthread_create(&threads[i], NULL, create_vms,
					    serials[i]), "pthread_create");
	for (i = 0; i < NR_CREATORS; i++)
		pthread_join(threads[i], NULL);
	for (i = 0; i < NR_CREATORS * NR_CREATED; i++) {
		TEST_ASSERT(all[i], "a VM has no number");
		for (j = 0; j < i; j++)
			TEST_ASSERT(all[i] != all[j], "two VMs have %llu",
				    (unsigned long long)all[i]);
	}
}

/* It is what it was after the VMM has closed its own descriptors. */
TEST_F(file, serial_outlives_vm)
{
	const char *key = variant->scope == STATS_VCPU ? "kvm-vcpu-serial" :
							"kvm-vm-serial";
	uint64_t serial = stats_fdinfo(self->owner_fd, key);

	kvm_vm_free(self->vm);
	TEST_ASSERT(serial, "no %s", key);
	TEST_ASSERT_EQ(stats_fdinfo(self->s.fd, key), serial);
}

static void check_cmd_refused(const char *what, int fd, unsigned long cmd)
{
	int ret = ioctl(fd, cmd, NULL);

	TEST_ASSERT(ret == -1 && (errno == ENOTTY || errno == EINVAL),
		    "ioctl %#lx on %s returned %d", cmd, what, ret);
}

static void check_refused(const char *what, int fd)
{
	check_cmd_refused(what, fd, KVM_GET_STATS_FD);
	check_cmd_refused(what, fd, KVM_GET_VCPUS_STATS_FD);
}

TEST(wrong_fds)
{
	struct stats_file vm_stats, vcpu_stats, vcpus_stats;
	unsigned int nr_fds;
	int pipe_fds[2];
	int kvm_fd = open("/dev/kvm", O_RDWR);
	struct kvm_vm *vm;

	TEST_ASSERT(kvm_fd >= 0 && !pipe(pipe_fds), "setup");
	stats_setup(&vm_stats, STATS_VM);
	stats_setup(&vcpu_stats, STATS_VCPU);
	vm = stats_setup(&vcpus_stats, STATS_VCPUS);
	nr_fds = stats_count_fds();
	check_refused("/dev/kvm", kvm_fd);
	check_refused("a pipe", pipe_fds[0]);
	check_refused("a VM's statistics", vm_stats.fd);
	check_refused("a vCPU's statistics", vcpu_stats.fd);
	check_refused("the statistics of all vCPUs", vcpus_stats.fd);
	check_cmd_refused("a vCPU", stats_vcpu_fd(vm, STATS_VCPU_ID),
			  KVM_GET_VCPUS_STATS_FD);
	TEST_ASSERT(ioctl(-1, KVM_GET_STATS_FD, NULL) == -1 && errno == EBADF,
		    "KVM_GET_STATS_FD on -1");
	TEST_ASSERT_EQ(stats_count_fds(), nr_fds);
}

TEST_F(file, two_fds)
{
	struct stats_file *a = &self->s, b;
	uint8_t buf[24];

	stats_open(&b, stats_get_scope_fd(self->owner_fd, variant->scope));
	TEST_ASSERT(a->fd != b.fd, "the same fd twice");
	stats_check_unchanged(a, b.fd);
	/* Each has a position of its own. */
	TEST_ASSERT(read(a->fd, buf, sizeof(buf)) == sizeof(buf) &&
		    read(b.fd, buf, sizeof(buf)) == sizeof(buf) &&
		    !memcmp(buf, a->image, sizeof(buf)),
		    "reading one fd moved the other");
	stats_close(a);
	stats_check_unchanged(&b, b.fd);
}

TEST_F(file, dup)
{
	int fd = dup(self->s.fd);
	uint8_t buf[24];

	TEST_ASSERT(fd >= 0, "dup");
	TEST_ASSERT(read(self->s.fd, buf, sizeof(buf)) == sizeof(buf) &&
		    read(fd, buf, sizeof(buf)) == sizeof(buf) &&
		    !memcmp(buf, self->s.image + sizeof(buf), sizeof(buf)),
		    "the dup does not share the position");
	close(self->s.fd);
	stats_check_unchanged(&self->s, fd);
}

/* ---- the VM, for as long as the file is open ---- */

/* Read after the VM's, the vCPU's and the guest memory's last user is gone. */
TEST_F(file, outlives_vm)
{
	kvm_vm_free(self->vm);
	stats_check_unchanged(&self->s, self->s.fd);
	stats_check_file(self->s.fd, getpid(), variant->scope);
}

static bool exists(const char *path)
{
	struct stat st;

	return !stat(path, &st);
}

/* The fd keeps the VM, and the VM goes when the fd goes: debugfs shows both. */
TEST_F(file, keeps_vm)
{
	char dir[64];

	if (!stats_find_debugfs())
		SKIP(return, "no debugfs to see the VM's end by");
	/* Named by the pid that the id has, which is not ours in a namespace. */
	snprintf(dir, sizeof(dir), "/sys/kernel/debug/kvm/%d-%d",
		 atoi(stats_id(&self->s) + strlen("kvm-")),
		 vm_get_fd(self->vm));
	TEST_ASSERT(exists(dir), "%s", dir);
	kvm_vm_free(self->vm);
	TEST_ASSERT(exists(dir), "the VM is gone while its fd is open");
	stats_check_unchanged(&self->s, self->s.fd);
	stats_close(&self->s);
	TEST_ASSERT(!exists(dir), "the VM stayed after its last fd");
}

/*
 * A VM of the same name as one that its statistics keep alive has no directory:
 * those of its vCPUs must not be in debugfs' root, where they would stay.
 */
TEST_F(file, same_name)
{
	int fd = vm_get_fd(self->vm);
	char path[64];

	if (!stats_find_debugfs())
		SKIP(return, "no debugfs");
	kvm_vm_free(self->vm);
	TEST_ASSERT_EQ(vm_get_fd(stats_create_vm()), fd);
	snprintf(path, sizeof(path), "/sys/kernel/debug/vcpu%d", STATS_VCPU_ID);
	TEST_ASSERT(!exists(path), "%s is there", path);
}

/* ---- the end of a VM ---- */

/* What poll() says without waiting, if it is asked for all that there is. */
static short polled(int fd)
{
	struct pollfd pfd = { .fd = fd, .events = ~0 };

	TEST_ASSERT(poll(&pfd, 1, 0) == 1, "not even readable");
	return pfd.revents;
}

/* As for a file whose kernel does not know poll, until the VM's end. */
#define POLL_ALIVE	(POLLIN | POLLOUT | POLLRDNORM | POLLWRNORM)

static bool hangs_up(int fd)
{
	short events = polled(fd);

	TEST_ASSERT((events & ~POLLHUP) == POLL_ALIVE, "poll says %#x", events);
	return events & POLLHUP;
}

TEST(hangup_capability)
{
	TEST_ASSERT_EQ(kvm_check_cap(KVM_CAP_STATS_FD_HANGUP), 1);
}

/* The last of all descriptors, in whatever order, and nothing but the last. */
TEST_F(file, hangup_at_last_close)
{
	int vm_fd = dup(vm_get_fd(self->vm));
	int vcpu_fd = dup(stats_vcpu_fd(self->vm, STATS_VCPU_ID));
	int first = variant->scope == STATS_VCPU ? vcpu_fd : vm_fd;

	TEST_ASSERT(vm_fd >= 0 && vcpu_fd >= 0, "dup");
	TEST_ASSERT(!hangs_up(self->s.fd), "at the beginning");
	kvm_vm_free(self->vm);
	TEST_ASSERT(!hangs_up(self->s.fd), "while both are open");
	close(first);
	TEST_ASSERT(!hangs_up(self->s.fd), "while one is open");
	close(first == vm_fd ? vcpu_fd : vm_fd);
	TEST_ASSERT(hangs_up(self->s.fd), "the VM's end is not noticed");
	stats_check_unchanged(&self->s, self->s.fd);
	TEST_ASSERT(hangs_up(self->s.fd), "it does not stay");
}

/* A vCPU that could not be created, or was closed, is none. */
TEST_F(file, hangup_counts)
{
	int vm_fd = vm_get_fd(self->vm), fd;

	TEST_ASSERT(ioctl(vm_fd, KVM_CREATE_VCPU, STATS_VCPU_ID) == -1,
		    "KVM_CREATE_VCPU of one that exists");
	fd = ioctl(vm_fd, KVM_CREATE_VCPU, STATS_VCPU_ID + 1);
	TEST_ASSERT(fd >= 0, "KVM_CREATE_VCPU");
	close(fd);
	TEST_ASSERT(!hangs_up(self->s.fd), "with the last new vCPU");
	kvm_vm_free(self->vm);
	TEST_ASSERT(hangs_up(self->s.fd), "one was counted twice");
}

/* Another process that has the VM could not run it, but one could. */
TEST_F(file, hangup_after_other_process)
{
	int hold[2];
	pid_t pid;

	TEST_ASSERT(!pipe(hold), "pipe");
	pid = stats_fork();
	if (!pid) {
		char c;

		close(hold[1]);
		_exit(read(hold[0], &c, 1) != 0);
	}
	kvm_vm_free(self->vm);
	TEST_ASSERT(!hangs_up(self->s.fd), "the child has the VM open");
	close(hold[1]);
	stats_join(pid);
	TEST_ASSERT(hangs_up(self->s.fd), "the VM's end is not noticed");
}

/* A vCPU that is mapped could run, if somebody had a descriptor of it again. */
TEST_F(file, hangup_after_mapping)
{
	int vcpu_fd = stats_vcpu_fd(self->vm, STATS_VCPU_ID);
	size_t size = getpagesize();
	void *run = mmap(NULL, size, PROT_READ, MAP_SHARED, vcpu_fd, 0);

	TEST_ASSERT(run != MAP_FAILED, "mmap of the vCPU");
	kvm_vm_free(self->vm);
	TEST_ASSERT(!hangs_up(self->s.fd), "the vCPU is mapped");
	munmap(run, size);
	TEST_ASSERT(hangs_up(self->s.fd), "the VM's end is not noticed");
}

/* Whoever receives it can run the VM; a statistics file is no such thing. */
TEST_F(file, hangup_after_flight)
{
	int socks[2], fd;

	TEST_ASSERT(!socketpair(AF_UNIX, SOCK_SEQPACKET, 0, socks),
		    "socketpair");
	stats_send_fd(socks[1], self->s.fd);
	stats_send_fd(socks[1], self->owner_fd);
	kvm_vm_free(self->vm);
	close(stats_receive_fd(socks[0]));
	TEST_ASSERT(!hangs_up(self->s.fd), "it is in the socket's queue");
	fd = stats_receive_fd(socks[0]);
	stats_send_fd(socks[1], fd);
	close(fd);
	TEST_ASSERT(!hangs_up(self->s.fd), "it is there again");
	close(socks[0]);
	close(socks[1]);
	TEST_ASSERT(hangs_up(self->s.fd), "the VM's end is not noticed");
}

static void wait_for_hangup(int fd)
{
	struct pollfd pfd = { .fd = fd };
	int nr = poll(&pfd, 1, STATS_WAIT_MS);

	TEST_ASSERT(nr == 1 && pfd.revents == POLLHUP,
		    "poll returned %d, revents %#x", nr, pfd.revents);
}

/* Killed, while this process has all that there is of the VM. */
TEST_F(file, hangup_at_death)
{
	int socks[2], stats_fd, vm_fd, vcpu_fd;
	pid_t vmm;

#ifdef __s390x__
	SKIP(return, "KVM does not see the end of the mm here");
#endif
	TEST_ASSERT(!socketpair(AF_UNIX, SOCK_SEQPACKET, 0, socks),
		    "socketpair");
	vmm = fork();
	TEST_ASSERT(vmm >= 0, "fork");
	if (!vmm) {
		struct stats_file s;
		struct kvm_vm *vm = stats_setup(&s, variant->scope);

		stats_send_fd(socks[1], s.fd);
		stats_send_fd(socks[1], vm_get_fd(vm));
		stats_send_fd(socks[1], stats_vcpu_fd(vm, STATS_VCPU_ID));
		for (;;)
			pause();
	}
	stats_fd = stats_receive_fd(socks[0]);
	vm_fd = stats_receive_fd(socks[0]);
	vcpu_fd = stats_receive_fd(socks[0]);
	TEST_ASSERT(!hangs_up(stats_fd), "before the VMM's death");
	kill(vmm, SIGKILL);
	wait_for_hangup(stats_fd);
	close(stats_fd);
	/* A file that is opened later knows at once. */
	stats_fd = stats_get_scope_fd(variant->scope == STATS_VCPU ? vcpu_fd :
				      vm_fd, variant->scope);
	TEST_ASSERT(hangs_up(stats_fd), "not known later");
	stats_check_file(stats_fd, vmm, variant->scope);
}

static void *wait_in_poll(void *fd)
{
	wait_for_hangup((long)fd);
	return NULL;
}

static void wait_in_set(int fd, uint32_t events)
{
	struct epoll_event event = { .events = events };
	int nr, epoll_fd = epoll_create1(EPOLL_CLOEXEC);

	TEST_ASSERT(!epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event),
		    "EPOLL_CTL_ADD: %s", strerror(errno));
	nr = epoll_wait(epoll_fd, &event, 1, STATS_WAIT_MS);
	TEST_ASSERT(nr == 1 && event.events == EPOLLHUP,
		    "epoll_wait returned %d, events %#x", nr, event.events);
	close(epoll_fd);
}

static void *wait_in_epoll(void *fd)
{
	wait_in_set((long)fd, 0);
	return NULL;
}

/* Of sets that wait so, an event wakes up one: not this event. */
static void *wait_in_exclusive_epoll(void *fd)
{
	wait_in_set((long)fd, EPOLLEXCLUSIVE);
	return NULL;
}

/* Those that wait already are woken up, all of them. */
TEST_F(file, hangup_wakes_up)
{
	void *(*const waits[])(void *) = {
		wait_in_exclusive_epoll, wait_in_exclusive_epoll,
		wait_in_poll, wait_in_epoll, wait_in_poll, wait_in_epoll,
		wait_in_exclusive_epoll,
	};
	void *fd = (void *)(long)self->s.fd;
	pthread_t threads[ARRAY_SIZE(waits)];
	int i;

	for (i = 0; i < ARRAY_SIZE(threads); i++)
		TEST_ASSERT(!pthread_create(&threads[i], NULL, waits[i], fd),
			    "pthread_create");
	usleep(100000);
	kvm_vm_free(self->vm);
	for (i = 0; i < ARRAY_SIZE(threads); i++)
		pthread_join(threads[i], NULL);
}

/* epoll sets that come and go, and files that do, while the VM ends. */
static void *poll_and_close(void *owner_fd)
{
	struct epoll_event event = { 0 };
	int fd, epoll_fd = epoll_create1(EPOLL_CLOEXEC);

	for (;;) {
		fd = ioctl((long)owner_fd, KVM_GET_STATS_FD, NULL);
		if (fd < 0)
			break;
		TEST_ASSERT(!epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event),
			    "EPOLL_CTL_ADD: %s", strerror(errno));
		epoll_wait(epoll_fd, &event, 1, 0);
		polled(fd);
		/* The file's end takes it out of the set. */
		close(fd);
	}
	close(epoll_fd);
	return NULL;
}

TEST(hangup_races)
{
	pthread_t threads[2];
	struct kvm_vm *vm;
	int i, round, fd;
	void *owner_fd;

	for (round = 0; round < 20; round++) {
		vm = stats_create_vm();
		fd = stats_get_fd(vm_get_fd(vm));
		owner_fd = (void *)(long)vm_get_fd(vm);
		for (i = 0; i < ARRAY_SIZE(threads); i++)
			TEST_ASSERT(!pthread_create(&threads[i], NULL,
						    poll_and_close, owner_fd),
				    "pthread_create");
		usleep(round * 500);
		kvm_vm_free(vm);
		for (i = 0; i < ARRAY_SIZE(threads); i++)
			pthread_join(threads[i], NULL);
		wait_for_hangup(fd);
		close(fd);
	}
}

/* ---- io_uring ---- */

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

	TEST_ASSERT(map != MAP_FAILED, "mmap of the ring");
	return map;
}

static bool open_ring(struct ring *r)
{
	memset(r, 0, sizeof(*r));
	r->fd = syscall(__NR_io_uring_setup, 1, &r->p);
	if (r->fd < 0)
		return false;
	r->sq = map_ring(r, r->p.sq_off.array + sizeof(__u32),
			 IORING_OFF_SQ_RING);
	r->cq = map_ring(r, r->p.cq_off.cqes + sizeof(struct io_uring_cqe),
			 IORING_OFF_CQ_RING);
	r->sqe = map_ring(r, sizeof(*r->sqe), IORING_OFF_SQES);
	return true;
}

static __u32 *ring_word(uint8_t *ring, __u32 offset)
{
	return (__u32 *)(ring + offset);
}

static void submit(struct ring *r)
{
	*ring_word(r->sq, r->p.sq_off.array) = 0;
	__atomic_store_n(ring_word(r->sq, r->p.sq_off.tail), 1,
			 __ATOMIC_RELEASE);
	TEST_ASSERT_EQ(syscall(__NR_io_uring_enter, r->fd, 1, 0, 0, NULL, 0),
		       1);
}

static bool is_complete(struct ring *r)
{
	return __atomic_load_n(ring_word(r->cq, r->p.cq_off.tail),
			       __ATOMIC_ACQUIRE);
}

static int ring_result(struct ring *r)
{
	return ((struct io_uring_cqe *)(r->cq + r->p.cq_off.cqes))->res;
}

/* A batch of reads is served in the system call that submits it. */
TEST_F(file, io_uring)
{
	struct stats_file *s = &self->s;
	uint8_t *buf = malloc(s->size);
	struct ring r;

	if (!open_ring(&r))
		SKIP(return, "no io_uring here: %s", strerror(errno));
	r.sqe->opcode = IORING_OP_READ;
	r.sqe->fd = s->fd;
	r.sqe->addr = (unsigned long)buf;
	r.sqe->len = s->size;
	submit(&r);
	TEST_ASSERT(is_complete(&r), "the read was not complete at once");
	TEST_ASSERT_EQ(ring_result(&r), s->size);
	TEST_ASSERT(!memcmp(buf, s->image, s->header.data_offset),
		    "the read differs from pread");
}

/* It waits for the end like the others, or is given up before. */
TEST_F(file, hangup_io_uring)
{
	struct ring r, given_up;

	if (!open_ring(&r) || !open_ring(&given_up))
		SKIP(return, "no io_uring here: %s", strerror(errno));
	r.sqe->opcode = IORING_OP_POLL_ADD;
	r.sqe->fd = self->s.fd;
	submit(&r);
	TEST_ASSERT(!is_complete(&r), "poll gave %#x", ring_result(&r));
	*given_up.sqe = *r.sqe;
	submit(&given_up);
	close(given_up.fd);
	kvm_vm_free(self->vm);
	TEST_ASSERT(!syscall(__NR_io_uring_enter, r.fd, 0, 1,
			     IORING_ENTER_GETEVENTS, NULL, 0) &&
		    is_complete(&r), "io_uring_enter: %s", strerror(errno));
	TEST_ASSERT_EQ(ring_result(&r), POLLHUP);
}

/* ---- several processes ---- */

TEST_F(file, fork)
{
	pid_t pid, creator = getpid();

	pid = stats_fork();
	if (!pid) {
		stats_check_unchanged(&self->s, self->s.fd);
		stats_check_file(self->s.fd, creator, variant->scope);
		_exit(0);
	}
	stats_join(pid);
	/* The child has closed its own copy only. */
	stats_check_unchanged(&self->s, self->s.fd);
}

static void drop_privileges(void)
{
	if (getuid())
		return;
	TEST_ASSERT(!setgroups(0, NULL) && !setresgid(NOBODY, NOBODY, NOBODY) &&
		    !setresuid(NOBODY, NOBODY, NOBODY), "cannot drop root");
}

/* Another user's process reads what a VMM left behind when it exited. */
TEST_F(file, passed_on)
{
	int socks[2], fd;
	pid_t vmm;

	TEST_ASSERT(!socketpair(AF_UNIX, SOCK_SEQPACKET, 0, socks),
		    "socketpair");
	vmm = stats_fork();
	if (!vmm) {
		struct stats_file s;

		stats_setup(&s, variant->scope);
		stats_send_fd(socks[1], s.fd);
		_exit(0);
	}
	close(socks[1]);
	fd = stats_receive_fd(socks[0]);
	stats_join(vmm);
	drop_privileges();
	stats_check_file(fd, vmm, variant->scope);
}

/* The ioctl needs nothing of the creator but the VM's or vCPU's fd. */
TEST_F(file, ioctl_in_child)
{
	pid_t pid, creator = getpid();

	pid = stats_fork();
	if (!pid) {
		stats_check_file(stats_get_scope_fd(self->owner_fd,
						    variant->scope),
				 creator, variant->scope);
		_exit(0);
	}
	stats_join(pid);
}

static int pull_fd(pid_t pid, int fd)
{
	int pidfd = syscall(__NR_pidfd_open, pid, 0);

	TEST_ASSERT(pidfd >= 0, "pidfd_open");
	return syscall(__NR_pidfd_getfd, pidfd, fd, 0);
}

/* How an agent gets at the VMs of a VMM that knows nothing of it. */
TEST_F(file, pidfd_getfd)
{
	int sync_fds[2], hold_fds[2], owner_fd;
	pid_t vmm;

	TEST_ASSERT(!pipe(sync_fds) && !pipe(hold_fds), "pipe");
	vmm = stats_fork();
	if (!vmm) {
		owner_fd = stats_owner_fd(stats_create_vm(), variant->scope);
		TEST_ASSERT(write(sync_fds[1], &owner_fd, sizeof(owner_fd)) ==
			    sizeof(owner_fd), "write");
		/* Until the other end of the pipe is closed. */
		close(hold_fds[1]);
		_exit(read(hold_fds[0], &owner_fd, 1) != 0);
	}
	close(sync_fds[1]);
	TEST_ASSERT(read(sync_fds[0], &owner_fd, sizeof(owner_fd)) ==
		    sizeof(owner_fd), "the VMM has no VM");
	owner_fd = pull_fd(vmm, owner_fd);
	if (owner_fd < 0 && errno == EPERM && getuid())
		SKIP(return, "pidfd_getfd is not allowed to this user");
	TEST_ASSERT(owner_fd >= 0, "pidfd_getfd");
	stats_check_file(stats_get_scope_fd(owner_fd, variant->scope), vmm,
			 variant->scope);
	close(hold_fds[1]);
	stats_join(vmm);
}

/* ---- limits ---- */

static int lowest_free_fd(void)
{
	int fd = dup(STDERR_FILENO);

	TEST_ASSERT(fd >= 0, "dup");
	close(fd);
	return fd;
}

#define NR_FREE_FDS	16

/*
 * A descriptor that was reserved and never used is in no list of open files,
 * but it is not free any more.
 */
static void check_free_fds(int lowest)
{
	int i, fds[NR_FREE_FDS];

	for (i = 0; i < NR_FREE_FDS; i++)
		fds[i] = dup(STDERR_FILENO);
	for (i = 0; i < NR_FREE_FDS; i++) {
		TEST_ASSERT(fds[i] == lowest + i,
			    "file descriptor %d is still taken", lowest + i);
		close(fds[i]);
	}
}

/* Nothing else than EMFILE, and nothing is left open, however often. */
TEST_F(file, emfile)
{
	int i, ret, lowest = lowest_free_fd();
	unsigned int nr_fds = stats_count_fds();
	struct rlimit old, limit;

	TEST_ASSERT(!getrlimit(RLIMIT_NOFILE, &old), "getrlimit");
	limit = old;
	limit.rlim_cur = lowest;
	TEST_ASSERT(!setrlimit(RLIMIT_NOFILE, &limit), "setrlimit");
	for (i = 0; i < 1000; i++) {
		ret = ioctl(self->owner_fd, request, NULL);
		TEST_ASSERT(ret == -1 && errno == EMFILE,
			    "the ioctl returned %d", ret);
	}
	TEST_ASSERT(!setrlimit(RLIMIT_NOFILE, &old), "setrlimit");
	TEST_ASSERT_EQ(stats_count_fds(), nr_fds);
	check_free_fds(lowest);
	stats_check_file(stats_get_scope_fd(self->owner_fd, variant->scope),
			 getpid(), variant->scope);
}

#define IGNORE_GFP_WAIT	"/sys/kernel/debug/failslab/ignore-gfp-wait"
#define FAIL_NTH	"/proc/thread-self/fail-nth"

static bool write_file(const char *path, const char *text)
{
	ssize_t len = strlen(text);
	int fd = open(path, O_WRONLY);
	bool ok = fd >= 0 && write(fd, text, len) == len;

	if (fd >= 0)
		close(fd);
	return ok;
}

/*
 * The ioctl with its @nth allocation failing.  Returns false if it does not make
 * so many.
 */
static bool ioctl_fails_nth(int owner_fd, int nth, int *nr_failed)
{
	int ret, error, fd = open(FAIL_NTH, O_RDWR);
	char text[16] = "";

	TEST_ASSERT(fd >= 0, FAIL_NTH);
	snprintf(text, sizeof(text), "%d", nth);
	TEST_ASSERT(write(fd, text, strlen(text)) > 0, FAIL_NTH);
	ret = ioctl(owner_fd, request, NULL);
	error = errno;
	/*
	 * Where copies to and from userspace can fail, too, a failure that is
	 * left hits one of these, and there is none left then.
	 */
	TEST_ASSERT(pread(fd, text, sizeof(text) - 1, 0) > 0 || errno == EFAULT,
		    FAIL_NTH);
	TEST_ASSERT(pwrite(fd, "0", 1, 0) == 1 || errno == EFAULT, FAIL_NTH);
	close(fd);
	TEST_ASSERT(ret >= 0 || error == ENOMEM, "allocation %d failed: %s",
		    nth, strerror(error));
	if (ret >= 0)
		close(ret);
	else
		(*nr_failed)++;
	return atoi(text) == 0;
}

TEST_F(file, enomem)
{
	int nth, nr_failed = 0, lowest;
	unsigned int nr_fds;

	if (!stats_find_debugfs() || access(FAIL_NTH, W_OK) ||
	    access(IGNORE_GFP_WAIT, W_OK))
		SKIP(return, "needs CONFIG_FAILSLAB and debugfs");
	nr_fds = stats_count_fds();
	lowest = lowest_free_fd();
	TEST_ASSERT(write_file(IGNORE_GFP_WAIT, "N"), IGNORE_GFP_WAIT);
	for (nth = 1; ioctl_fails_nth(self->owner_fd, nth, &nr_failed); nth++)
		TEST_ASSERT(nth < 1000, "no end of allocations");
	TEST_ASSERT(nr_failed, "%d allocations failed and nobody noticed",
		    nth - 1);
	TEST_ASSERT_EQ(stats_count_fds(), nr_fds);
	check_free_fds(lowest);
	stats_check_file(stats_get_scope_fd(self->owner_fd, variant->scope),
			 getpid(), variant->scope);
}

TEST_F(file, many_opens)
{
	int i, fd, first = lowest_free_fd();

	for (i = 0; i < 5000; i++) {
		fd = stats_get_scope_fd(self->owner_fd, variant->scope);
		TEST_ASSERT(fd == first, "open %d gave fd %d, not %d", i, fd,
			    first);
		close(fd);
	}
}

/* Open, read and close until the owner is closed under it. */
static void *open_read_close(void *owner_fd)
{
	static __thread char buf[65536];
	ssize_t got;
	int fd;

	for (;;) {
		fd = ioctl((long)owner_fd, request, NULL);
		if (fd < 0)
			break;
		got = pread(fd, buf, sizeof(buf), 0);
		TEST_ASSERT(got > 0, "pread returned %zd", got);
		close(fd);
	}
	/* By now another thread may have a file of that number. */
	TEST_ASSERT(errno == EBADF || errno == ENOTTY, "the ioctl");
	return NULL;
}

/* Several threads, while vCPUs are added and then all of it is closed. */
TEST_F(file, threads)
{
	unsigned int nr_fds = stats_count_fds();
	pthread_t threads[4];
	int i;

	for (i = 0; i < ARRAY_SIZE(threads); i++)
		TEST_ASSERT(!pthread_create(&threads[i], NULL, open_read_close,
					    (void *)(long)self->owner_fd),
			    "pthread_create");
	for (i = 1; i <= 4; i++) {
		vm_vcpu_add(self->vm, STATS_VCPU_ID + i);
		usleep(20000);
	}
	kvm_vm_free(self->vm);
	for (i = 0; i < ARRAY_SIZE(threads); i++)
		pthread_join(threads[i], NULL);
	TEST_ASSERT(stats_count_fds() < nr_fds,
		    "%u file descriptors, not less than %u",
		    stats_count_fds(), nr_fds);
}

KVM_TEST_HARNESS_MAIN(KVM_CAP_BINARY_STATS_FD)
