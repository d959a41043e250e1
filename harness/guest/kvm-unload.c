// SPDX-License-Identifier: GPL-2.0-only
/*
 * kvm-unload kvm FILE kvm_amd FILE: KVM's modules must stay for as long as
 * anything holds a statistics fd of a VM, though VM, vCPUs and VMM are gone, and
 * must go when the last holder has let go of it, whichever way. TAP.
 */
#include <linux/io_uring.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/un.h>

#include "kvm-modules.h"

#define CYCLES	20	/* the other tests are more than 30 */
#define VCPUS	2

enum { SCOPE_VM, SCOPE_VCPU, SCOPES };

static const char * const scope_names[SCOPES] = { "VM", "vCPU" };

/* What holds the one reference to the statistics file */
struct held {
	int fd;		/* the file, -1 if this process has it no more */
	int ends[2];	/* a socket pair, or a listening socket and a client */
	int ring;
	pid_t pid;
	char id[48];
};

/* --- the VMM ------------------------------------------------------------- */

static void receive_fds(int sock, int *fds, int count)
{
	union {
		char bytes[CMSG_SPACE(4 * sizeof(int))];
		struct cmsghdr align;
	} control;
	char text;
	struct iovec byte = { .iov_base = &text, .iov_len = 1 };
	struct msghdr msg = {
		.msg_iov = &byte, .msg_iovlen = 1, .msg_control = &control,
		.msg_controllen = sizeof(control),
	};
	struct cmsghdr *cmsg;

	CHECK(recvmsg(sock, &msg, MSG_CMSG_CLOEXEC) == 1, "recvmsg");
	cmsg = CMSG_FIRSTHDR(&msg);
	CHECK(cmsg && cmsg->cmsg_len == CMSG_LEN(count * sizeof(int)),
	      "not %d descriptors in the message", count);
	memcpy(fds, CMSG_DATA(cmsg), count * sizeof(int));
}

static void make_pair(int *ends)
{
	CHECK(!socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends),
	      "socketpair");
}

static void vmm(int sock)
{
	int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC), vm, vcpu, i, fds[2];

	CHECK(kvm >= 0, "/dev/kvm");
	vm = ioctl(kvm, KVM_CREATE_VM, 0);
	CHECK(vm >= 0, "KVM_CREATE_VM");
	for (i = 0; i < VCPUS; i++) {
		vcpu = ioctl(vm, KVM_CREATE_VCPU, i);
		CHECK(vcpu >= 0, "KVM_CREATE_VCPU");
	}
	fds[SCOPE_VM] = ioctl(vm, KVM_GET_STATS_FD, NULL);
	fds[SCOPE_VCPU] = ioctl(vcpu, KVM_GET_STATS_FD, NULL);
	CHECK(fds[0] >= 0 && fds[1] >= 0, "KVM_GET_STATS_FD");
	send_fds(sock, fds, 2);
	_exit(0);
}

/* The statistics fds of a VM whose VMM is dead, and its id */
static void orphans(int *fds, char *id, size_t size)
{
	int ends[2], status;
	pid_t pid;

	make_pair(ends);
	fflush(stdout);
	pid = fork();
	if (!pid)
		vmm(ends[1]);
	CHECK(waitpid(pid, &status, 0) == pid && !status, "the VMM failed");
	receive_fds(ends[0], fds, 2);
	close(ends[0]);
	close(ends[1]);
	snprintf(id, size, "kvm-%d", pid);
}

/* --- who holds it, and how it ends ---------------------------------------- */

static void close_it(struct held *held)
{
	close(held->fd);
	held->fd = -1;
}

static void hold_dup(struct held *held)
{
	int fd = dup(held->fd);

	close(held->fd);
	held->fd = fd;
}

static void drop_over(struct held *held)
{
	CHECK(dup2(STDIN_FILENO, held->fd) == held->fd, "dup2");
}

static void drop_range(struct held *held)
{
	CHECK(!syscall(SYS_close_range, held->fd, held->fd, 0), "close_range");
}

/* A process that has it, until told to read it and go, or killed */
static void hold_process(struct held *held)
{
	char byte;

	make_pair(held->ends);
	held->pid = fork();
	if (!held->pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		close(held->ends[0]);
		if (read(held->ends[1], &byte, 1) != 1)
			_exit(1);
		check_readable(held->fd, held->id);
		if (byte == 'x')
			execl("/bin/sleep", "sleep", "1000", NULL);
		_exit(0);
	}
	close(held->ends[1]);
	close_it(held);
}

static void drop_exit(struct held *held)
{
	int status;

	CHECK(write(held->ends[0], "", 1) == 1, "write");
	CHECK(waitpid(held->pid, &status, 0) == held->pid && !status,
	      "the process could not read: %x", status);
	held->pid = 0;
}

/* It lives on as another program, without its close-on-exec descriptors */
static void drop_exec(struct held *held)
{
	CHECK(write(held->ends[0], "x", 1) == 1, "write");
}

static void drop_kill(struct held *held)
{
	kill(held->pid, SIGKILL);
	CHECK(waitpid(held->pid, NULL, 0) == held->pid, "waitpid");
	held->pid = 0;
}

static void hold_pidfd(struct held *held)
{
	int pidfd, fd = held->fd;

	hold_process(held);
	pidfd = syscall(SYS_pidfd_open, held->pid, 0);
	CHECK(pidfd >= 0, "pidfd_open");
	held->fd = syscall(SYS_pidfd_getfd, pidfd, fd, 0);
	CHECK(held->fd >= 0, "pidfd_getfd");
	close(pidfd);
	drop_kill(held);
}

static void hold_queue(struct held *held)
{
	make_pair(held->ends);
	send_fds(held->ends[0], &held->fd, 1);
	close_it(held);
}

static void drop_queue(struct held *held)
{
	close(held->ends[0]);
	close(held->ends[1]);
}

static void drop_received(struct held *held)
{
	receive_fds(held->ends[1], &held->fd, 1);
	check_readable(held->fd, held->id);
	close_it(held);
}

/* A receiver with no room for descriptors never gets them */
static void drop_no_room(struct held *held)
{
	char byte;

	CHECK(read(held->ends[1], &byte, 1) == 1, "read");
}

/* The receiving end is on its way to itself: only garbage collection frees it */
static void hold_cycle(struct held *held)
{
	int fds[2];

	make_pair(held->ends);
	fds[0] = held->fd;
	fds[1] = held->ends[1];
	send_fds(held->ends[0], fds, 2);
	close(held->ends[1]);
	close_it(held);
}

static void drop_cycle(struct held *held)
{
	close(held->ends[0]);
}

/* Sent to a server that has not accepted the connection */
static void hold_backlog(struct held *held)
{
	struct sockaddr_un name = { .sun_family = AF_UNIX };
	socklen_t len = sizeof(name.sun_family) + 11;

	memcpy(name.sun_path, "\0kvm-unload", 11);
	held->ends[0] = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	held->ends[1] = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	CHECK(!bind(held->ends[1], (struct sockaddr *)&name, len) &&
	      !listen(held->ends[1], 1), "listen");
	CHECK(!connect(held->ends[0], (struct sockaddr *)&name, len),
	      "connect");
	send_fds(held->ends[0], &held->fd, 1);
	close(held->ends[0]);
	close_it(held);
}

static void drop_backlog(struct held *held)
{
	close(held->ends[1]);
}

static void hold_ring(struct held *held)
{
	struct io_uring_params params = {};

	held->ring = syscall(SYS_io_uring_setup, 1, &params);
	CHECK(held->ring >= 0, "io_uring_setup");
	CHECK(!syscall(SYS_io_uring_register, held->ring,
		       IORING_REGISTER_FILES, &held->fd, 1),
	      "IORING_REGISTER_FILES");
	close_it(held);
}

static void drop_ring(struct held *held)
{
	close(held->ring);
}

static void drop_unregister(struct held *held)
{
	CHECK(!syscall(SYS_io_uring_register, held->ring,
		       IORING_UNREGISTER_FILES, NULL, 0),
	      "IORING_UNREGISTER_FILES");
}

static const struct holder {
	const char *name;
	void (*hold)(struct held *held);
	void (*drop)(struct held *held);
} holders[] = {
	{ "the descriptor",		NULL,		close_it },
	{ "a duplicate",		hold_dup,	close_it },
	{ "a duplicate, replaced",	hold_dup,	drop_over },
	{ "the descriptor, close_range", NULL,		drop_range },
	{ "another process, exits",	hold_process,	drop_exit },
	{ "another process, killed",	hold_process,	drop_kill },
	{ "another process, exec",	hold_process,	drop_exec },
	{ "pidfd_getfd",		hold_pidfd,	close_it },
	{ "a socket's queue",		hold_queue,	drop_queue },
	{ "a socket's queue, received",	hold_queue,	drop_received },
	{ "a socket's queue, no room",	hold_queue,	drop_no_room },
	{ "a socket in its own queue",	hold_cycle,	drop_cycle },
	{ "a backlog",			hold_backlog,	drop_backlog },
	{ "io_uring, closed",		hold_ring,	drop_ring },
	{ "io_uring, unregistered",	hold_ring,	drop_unregister },
};

struct held_case {
	const struct holder *holder;
	int scope;
};

/* --- the tests ------------------------------------------------------------ */

static void modules_must_stay(void)
{
	module_must_stay(&vendor);
	module_must_stay(&core);
}

static void modules_come_again(void)
{
	module_must_go(&vendor);
	module_must_go(&core);
	modules_restore();
}

static void test_holder(const void *argument)
{
	const struct held_case *this = argument;
	struct held held = { .ring = -1, .ends = { -1, -1 } };
	int fds[SCOPES];

	orphans(fds, held.id, sizeof(held.id));
	close(fds[!this->scope]);
	held.fd = fds[this->scope];
	if (this->holder->hold)
		this->holder->hold(&held);
	modules_must_stay();
	if (held.fd >= 0)
		check_readable(held.fd, held.id);
	this->holder->drop(&held);
	modules_come_again();
	if (held.pid)
		kill(held.pid, SIGKILL);
}

/* The VM pins the vendor's module once, each file the core's */
static void test_references(const void *argument __attribute__((unused)))
{
	int core_refs = module_refs(&core), vendor_refs = module_refs(&vendor);
	int fds[SCOPES];
	char id[48];

	orphans(fds, id, sizeof(id));
	CHECK(module_refs(&core) == core_refs + 2, "%s: %d references, not %d",
	      core.name, module_refs(&core), core_refs + 2);
	CHECK(module_refs(&vendor) == vendor_refs + 1,
	      "%s: %d references, not %d", vendor.name, module_refs(&vendor),
	      vendor_refs + 1);
	close(fds[SCOPE_VM]);
	CHECK(module_refs(&core) == core_refs + 1 &&
	      module_refs(&vendor) == vendor_refs + 1,
	      "one file closed: %d, %d references", module_refs(&core),
	      module_refs(&vendor));
	check_readable(fds[SCOPE_VCPU], id);
	close(fds[SCOPE_VCPU]);
	CHECK(module_refs(&core) == core_refs &&
	      module_refs(&vendor) == vendor_refs,
	      "both closed: %d, %d references", module_refs(&core),
	      module_refs(&vendor));
}

/* There is no mapping and no second open that could hold it */
static void test_other_ways(const void *argument __attribute__((unused)))
{
	int fds[SCOPES];
	char id[48], path[64];

	orphans(fds, id, sizeof(id));
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fds[0]);
	CHECK(mmap(NULL, 4096, PROT_READ, MAP_SHARED, fds[0], 0) == MAP_FAILED &&
	      errno == ENODEV, "mmap");
	CHECK(open(path, O_RDONLY | O_CLOEXEC) < 0 && errno == ENXIO, "open");
}

/* A path, what /proc shows of the file, a set of epoll are no reference to it */
static void test_no_holders(const void *argument __attribute__((unused)))
{
	int fds[SCOPES], at, info, epoll = epoll_create1(EPOLL_CLOEXEC);
	struct epoll_event event = { .events = 0 };
	char id[48], path[64], text[256];

	orphans(fds, id, sizeof(id));
	for (int i = 0; i < SCOPES; i++)
		CHECK(!epoll_ctl(epoll, EPOLL_CTL_ADD, fds[i], &event),
		      "EPOLL_CTL_ADD: %s", strerror(errno));
	CHECK(epoll_wait(epoll, &event, 1, 0) == 1 && event.events == EPOLLHUP,
	      "the VM has not ended");
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fds[0]);
	at = open(path, O_PATH | O_CLOEXEC);
	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fds[0]);
	info = open(path, O_RDONLY | O_CLOEXEC);
	CHECK(at >= 0 && info >= 0, "%s", path);
	CHECK(read(info, text, sizeof(text)) > 0, "fdinfo");
	close(fds[0]);
	close(fds[1]);
	modules_come_again();
	CHECK(!epoll_wait(epoll, &event, 1, 0), "events of a file that is gone");
	close(epoll);
	CHECK(pread(at, text, 1, 0) < 0 && errno == EBADF, "pread of a path");
	CHECK(pread(info, text, sizeof(text), 0) <= 0, "fdinfo after close");
}

/* A VM like one that a file keeps alive has no debugfs directory of its own */
static void test_debugfs(const void *argument __attribute__((unused)))
{
	int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC), vm, vcpu, stats, again;

	CHECK(!access("/sys/kernel/debug/kvm", F_OK), "no debugfs");
	vm = ioctl(kvm, KVM_CREATE_VM, 0);
	stats = ioctl(vm, KVM_GET_STATS_FD, NULL);
	CHECK(stats >= 0, "KVM_GET_STATS_FD");
	close(vm);
	again = ioctl(kvm, KVM_CREATE_VM, 0);
	CHECK(again == vm, "descriptor %d, not %d", again, vm);
	vcpu = ioctl(again, KVM_CREATE_VCPU, 0);
	CHECK(vcpu >= 0, "KVM_CREATE_VCPU");
	CHECK(access("/sys/kernel/debug/vcpu0", F_OK),
	      "the vCPU is in debugfs' root");
}

static void test_cycles(const void *argument __attribute__((unused)))
{
	int fds[SCOPES], i;
	char id[48];

	for (i = 0; i < CYCLES; i++) {
		orphans(fds, id, sizeof(id));
		modules_must_stay();
		check_readable(fds[SCOPE_VM], id);
		close(fds[SCOPE_VM]);
		modules_must_stay();
		check_readable(fds[SCOPE_VCPU], id);
		close(fds[SCOPE_VCPU]);
		modules_come_again();
	}
}

static const struct {
	const char *name;
	void (*test)(const void *argument);
} tests[] = {
	{ "references",		test_references },
	{ "no other ways",	test_other_ways },
	{ "no holders",		test_no_holders },
	{ "debugfs",		test_debugfs },
	{ "cycles",		test_cycles },
};

static bool run_holders(void)
{
	struct held_case this;
	bool passed, good = true;
	unsigned int number = 0;
	char name[80];

	for (this.scope = 0; this.scope < SCOPES; this.scope++) {
		for (number = 0; number < ARRAY_SIZE(holders); number++) {
			this.holder = &holders[number];
			snprintf(name, sizeof(name), "%s: %s",
				 scope_names[this.scope], this.holder->name);
			passed = run_isolated(test_holder, &this);
			modules_restore();
			report(this.scope * ARRAY_SIZE(holders) + number + 1,
			       name, passed);
			good &= passed;
		}
	}
	return good;
}

static bool run_tests(unsigned int before)
{
	bool passed, good = true;
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(tests); i++) {
		passed = run_isolated(tests[i].test, NULL);
		modules_restore();
		report(before + i + 1, tests[i].name, passed);
		good &= passed;
	}
	return good;
}

int main(int argc, char **argv)
{
	const unsigned int holder_cases = SCOPES * ARRAY_SIZE(holders);
	bool good;

	if (argc != 5 || modules_from_arguments(argv + 1)) {
		fprintf(stderr, "usage: kvm-unload CORE FILE VENDOR FILE\n");
		return 2;
	}
	printf("1..%zu\n", holder_cases + ARRAY_SIZE(tests));
	modules_restore();
	good = run_holders();
	good &= run_tests(holder_cases);
	return good ? 0 : 1;
}
