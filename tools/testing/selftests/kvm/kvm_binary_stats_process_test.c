// SPDX-License-Identifier: GPL-2.0-only
/*
 * kvm_binary_stats_process_test
 *
 * Statistics files and several processes: inherited, passed on to another user,
 * or obtained by a process that did not create the VM.
 *
 * Usage: kvm_binary_stats_process_test [PART-OF-A-CASE-NAME]
 */
#define _GNU_SOURCE
#include <errno.h>
#include <grp.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include "kvm_stats_util.h"

#ifndef __NR_pidfd_open
#define __NR_pidfd_open		434
#endif
#ifndef __NR_pidfd_getfd
#define __NR_pidfd_getfd	438
#endif

#define NOBODY	65534

static void test_fork(enum stats_scope scope)
{
	pid_t creator = getpid();
	struct stats_file s;
	pid_t pid;

	stats_setup(&s, scope);
	pid = stats_fork();
	if (!pid) {
		stats_check_unchanged(&s, s.fd);
		stats_check_file(s.fd, creator, scope);
		_exit(0);
	}
	stats_join(pid);
	/* The child has closed its own copy only. */
	stats_check_unchanged(&s, s.fd);
}

union fd_message {
	struct cmsghdr header;
	char space[CMSG_SPACE(sizeof(int))];
};

static void send_fd(int sock, int fd)
{
	union fd_message control = {};
	struct iovec iov = { "", 1 };
	struct msghdr msg = {
		.msg_iov = &iov, .msg_iovlen = 1,
		.msg_control = &control, .msg_controllen = sizeof(control),
	};
	struct cmsghdr *c = CMSG_FIRSTHDR(&msg);

	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(fd));
	memcpy(CMSG_DATA(c), &fd, sizeof(fd));
	STATS_CHECK(sendmsg(sock, &msg, 0) == 1, "sendmsg: %s",
		    strerror(errno));
}

static int receive_fd(int sock)
{
	union fd_message control = {};
	char byte;
	struct iovec iov = { &byte, 1 };
	struct msghdr msg = {
		.msg_iov = &iov, .msg_iovlen = 1,
		.msg_control = &control, .msg_controllen = sizeof(control),
	};
	int fd;

	STATS_CHECK(recvmsg(sock, &msg, 0) == 1, "recvmsg: %s",
		    strerror(errno));
	STATS_CHECK(msg.msg_controllen >= CMSG_LEN(sizeof(fd)),
		    "no fd came with the message");
	memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&msg)), sizeof(fd));
	return fd;
}

static void drop_privileges(void)
{
	if (getuid())
		return;
	STATS_CHECK(!setgroups(0, NULL) && !setresgid(NOBODY, NOBODY, NOBODY) &&
		    !setresuid(NOBODY, NOBODY, NOBODY), "cannot drop root: %s",
		    strerror(errno));
}

/* Another user's process reads what a VMM left behind when it exited. */
static void test_passed_on(enum stats_scope scope)
{
	struct stats_file s;
	int socks[2], fd;
	pid_t vmm;

	STATS_CHECK(!socketpair(AF_UNIX, SOCK_SEQPACKET, 0, socks),
		    "socketpair: %s", strerror(errno));
	vmm = stats_fork();
	if (!vmm) {
		stats_setup(&s, scope);
		send_fd(socks[1], s.fd);
		_exit(0);
	}
	close(socks[1]);
	fd = receive_fd(socks[0]);
	stats_join(vmm);
	drop_privileges();
	stats_check_file(fd, vmm, scope);
}

/* KVM_GET_STATS_FD needs nothing of the creator but the VM's or vCPU's fd. */
static void test_ioctl_in_child(enum stats_scope scope)
{
	int owner_fd = stats_owner_fd(stats_create_vm(), scope);
	pid_t pid, creator = getpid();

	pid = stats_fork();
	if (!pid) {
		stats_check_file(stats_get_fd(owner_fd), creator, scope);
		_exit(0);
	}
	stats_join(pid);
}

static int pull_fd(pid_t pid, int fd)
{
	int pidfd = syscall(__NR_pidfd_open, pid, 0);
	int ret;

	STATS_CHECK(pidfd >= 0, "pidfd_open: %s", strerror(errno));
	ret = syscall(__NR_pidfd_getfd, pidfd, fd, 0);
	if (ret < 0 && errno == EPERM && getuid())
		stats_skip("pidfd_getfd is not allowed to this user");
	STATS_CHECK(ret >= 0, "pidfd_getfd: %s", strerror(errno));
	return ret;
}

/* How an agent gets at the VMs of a VMM that knows nothing of it. */
static void test_pidfd_getfd(enum stats_scope scope)
{
	int sync_fds[2], hold_fds[2], owner_fd;
	pid_t vmm;

	STATS_CHECK(!pipe(sync_fds) && !pipe(hold_fds), "pipe: %s",
		    strerror(errno));
	vmm = stats_fork();
	if (!vmm) {
		owner_fd = stats_owner_fd(stats_create_vm(), scope);
		STATS_CHECK(write(sync_fds[1], &owner_fd, sizeof(owner_fd)) ==
			    sizeof(owner_fd), "write: %s", strerror(errno));
		/* Until the other end of the pipe is closed. */
		close(hold_fds[1]);
		_exit(read(hold_fds[0], &owner_fd, 1) != 0);
	}
	close(sync_fds[1]);
	if (read(sync_fds[0], &owner_fd, sizeof(owner_fd)) != sizeof(owner_fd))
		stats_join(vmm);
	stats_check_file(stats_get_fd(pull_fd(vmm, owner_fd)), vmm, scope);
	close(hold_fds[1]);
	stats_join(vmm);
}

static const struct stats_case cases[] = {
	{ "fork",		test_fork,		STATS_BOTH },
	{ "passed_on",		test_passed_on,		STATS_BOTH },
	{ "ioctl_in_child",	test_ioctl_in_child,	STATS_BOTH },
	{ "pidfd_getfd",	test_pidfd_getfd,	STATS_BOTH },
};

int main(int argc, char *argv[])
{
	return stats_run_cases(cases, ARRAY_SIZE(cases), argv[1]);
}
