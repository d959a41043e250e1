// SPDX-License-Identifier: GPL-2.0-only
/*
 * held-cgroup DIR: in DIR, where a hierarchy of cgroup v1 is mounted, the cgroup of
 * a VMM that has died cannot be removed while a statistics fd of its VM is open: a
 * thread of the VM is in it. When the fd is closed, it can. TAP.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef KVM_GET_STATS_FD
#define KVM_GET_STATS_FD	_IO(KVMIO, 0xce)
#endif

#define RECOVERY_THREAD	"kvm-nx-lpage-re"

/* A thread that has ended leaves its cgroup a moment later */
#define RMDIR_TRIES	2000
#define RMDIR_PAUSE_US	1000

static char cgroup[256];
static int results;

static void result(bool ok, const char *name)
{
	printf("%sok %d %s\n", ok ? "" : "not ", ++results, name);
	fflush(stdout);
}

/* A failure that leaves nothing to test */
static void need(bool ok, const char *what)
{
	if (ok)
		return;
	printf("Bail out! %s: %s\n", what, strerror(errno));
	exit(1);
}

static void enter_cgroup(void)
{
	char path[300];
	FILE *tasks;

	snprintf(path, sizeof(path), "%s/tasks", cgroup);
	tasks = fopen(path, "w");
	need(tasks && fprintf(tasks, "%d\n", getpid()) > 0 && !fclose(tasks),
	     path);
}

/* Says which of its descriptors is the statistics fd, and waits to be killed */
static void vmm(int out)
{
	int kvm, vm, fd;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	enter_cgroup();
	kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	need(kvm >= 0, "/dev/kvm");
	vm = ioctl(kvm, KVM_CREATE_VM, 0);
	need(vm >= 0, "KVM_CREATE_VM");
	fd = ioctl(vm, KVM_GET_STATS_FD, NULL);
	need(fd >= 0, "KVM_GET_STATS_FD");
	need(write(out, &fd, sizeof(fd)) == sizeof(fd), "write");
	for (;;)
		pause();
}

/* The statistics fd of a VM whose VMM was killed */
static int orphan(void)
{
	int ends[2], fd, pidfd;
	pid_t pid;

	need(!pipe(ends), "pipe");
	pid = fork();
	need(pid >= 0, "fork");
	if (!pid)
		vmm(ends[1]);
	close(ends[1]);
	need(read(ends[0], &fd, sizeof(fd)) == sizeof(fd), "the VMM has no VM");
	close(ends[0]);
	pidfd = syscall(SYS_pidfd_open, pid, 0);
	need(pidfd >= 0, "pidfd_open");
	fd = syscall(SYS_pidfd_getfd, pidfd, fd, 0);
	need(fd >= 0, "pidfd_getfd");
	close(pidfd);
	need(!kill(pid, SIGKILL) && waitpid(pid, NULL, 0) == pid, "kill");
	return fd;
}

/* Whether the thread is in the cgroup, and nothing else */
static bool has_thread_only(void)
{
	char path[300], comm[32] = "";
	int pid, tasks = 0;
	FILE *list, *file;

	snprintf(path, sizeof(path), "%s/tasks", cgroup);
	list = fopen(path, "r");
	need(list, path);
	while (fscanf(list, "%d", &pid) == 1) {
		tasks++;
		snprintf(path, sizeof(path), "/proc/%d/comm", pid);
		file = fopen(path, "r");
		if (!file)
			continue;
		if (!fgets(comm, sizeof(comm), file))
			comm[0] = 0;
		fclose(file);
		printf("# in the cgroup: %d %s", pid, comm);
	}
	fclose(list);
	return tasks == 1 && !strcmp(comm, RECOVERY_THREAD "\n");
}

static bool removed_in_time(void)
{
	int i;

	for (i = 0; i < RMDIR_TRIES; i++) {
		if (!rmdir(cgroup))
			return true;
		if (errno != EBUSY)
			return false;
		usleep(RMDIR_PAUSE_US);
	}
	return false;
}

int main(int argc, char *argv[])
{
	int fd;

	if (argc != 2) {
		fprintf(stderr, "usage: held-cgroup DIR\n");
		return 2;
	}
	snprintf(cgroup, sizeof(cgroup), "%s/held-cgroup", argv[1]);
	need(!mkdir(cgroup, 0755), cgroup);
	printf("1..3\n");
	fd = orphan();
	result(has_thread_only(), "the VM's thread is in the cgroup");
	result(rmdir(cgroup) && errno == EBUSY, "busy while the fd is open");
	close(fd);
	result(removed_in_time(), "removed when it is closed");
	return 0;
}
