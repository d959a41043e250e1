// SPDX-License-Identifier: GPL-2.0-only
/*
 * agent_vmms SOCKET VMS VCPUS [same|twice|threads|all]: real VMs without a guest, a
 * connection for each, names bench-0 and on. With "same", one VM is registered
 * again and again; with "twice", each sends two descriptors for each vCPU; with
 * "threads", each has a process of its own, with threads that are named as those of
 * vCPUs, and have nothing to do; with "all", each sends one descriptor of all its
 * vCPUs, which takes a kernel that has it. Says "ready" and waits until its standard
 * input ends.
 */
#include <errno.h>
#include <fcntl.h>
#include <kvmstats.h>
#include <limits.h>
#include <linux/kvm.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#define VMS_PER_PROCESS	100
#define MAX_VCPUS	256
#define TRIES		6000
#define TRY_US		10000

#ifndef KVM_GET_STATS_FD
#define KVM_GET_STATS_FD _IO(KVMIO, 0xce)
#endif

struct machine {
	int fds[1 + MAX_VCPUS];		/* statistics: VM, vCPUs */
	int kvm_fds[1 + MAX_VCPUS];	/* keep the VM; in this order, too */
	unsigned int count;
};

static bool same, twice, threads, all;

static void die(const char *what)
{
	fprintf(stderr, "agent_vmms: %s: %s\n", what, strerror(errno));
	exit(1);
}

static void create(struct machine *machine, unsigned int vcpus)
{
	int kvm_fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	int vm_fd = ioctl(kvm_fd, KVM_CREATE_VM, 0ul);

	if (kvm_fd < 0 || vm_fd < 0)
		die("/dev/kvm");
	close(kvm_fd);
	machine->count = 1 + vcpus;
	machine->kvm_fds[0] = vm_fd;
	for (unsigned long i = 0; i < vcpus; i++) {
		machine->kvm_fds[1 + i] = ioctl(vm_fd, KVM_CREATE_VCPU, i);
		if (machine->kvm_fds[1 + i] < 0)
			die("KVM_CREATE_VCPU");
	}
	for (unsigned int i = 0; i <= vcpus; i++) {
		machine->fds[i] = ioctl(machine->kvm_fds[i], KVM_GET_STATS_FD,
					NULL);
		if (machine->fds[i] < 0)
			die("KVM_GET_STATS_FD");
	}
}

/* But the VM's own descriptor stays: its number names the VM in debugfs. */
static void forget(const struct machine *machine)
{
	for (unsigned int i = 0; i < machine->count; i++) {
		close(machine->fds[i]);
		if (i)
			close(machine->kvm_fds[i]);
	}
}

static int connect_patiently(struct kvmstats_sender *sender, const char *path)
{
	int ret = -EAGAIN;

	for (int i = 0; i < TRIES && ret == -EAGAIN; i++) {
		ret = kvmstats_sender_connect(sender, path);
		if (ret == -EAGAIN)
			usleep(TRY_US);
	}
	return ret;
}

static void hand_over(const struct machine *machine, const char *path,
		      unsigned int number)
{
	struct kvmstats_sender *sender;
	char name[32], uuid[40];
	int ret;

	snprintf(name, sizeof(name), "bench-%u", number);
	snprintf(uuid, sizeof(uuid), "00000000-0000-0000-0000-%012u", number);
	ret = kvmstats_sender_new(name, uuid, &sender);
	if (all && !ret)
		ret = kvmstats_sender_add(sender, machine->kvm_fds[0]);
	for (unsigned int i = 0; i < machine->count && !all && !ret; i++)
		ret = kvmstats_sender_add_stats(sender, dup(machine->fds[i]));
	for (unsigned int i = 0; i < machine->count && twice && !ret; i++)
		ret = kvmstats_sender_add_stats(sender,
						ioctl(machine->kvm_fds[i],
						      KVM_GET_STATS_FD, NULL));
	if (!ret)
		ret = connect_patiently(sender, path);
	if (!ret)
		ret = kvmstats_sender_flush(sender);
	if (ret < 0) {
		errno = -ret;
		die(path);
	}
	/* the connection is to stay, the descriptors have done their work */
	ret = dup(kvmstats_sender_fd(sender));
	kvmstats_sender_free(sender);
}

static void *wait_for_ever(void *name)
{
	prctl(PR_SET_NAME, name);
	for (;;)
		pause();
	return NULL;
}

static void start_threads(unsigned int vcpus)
{
	static char names[MAX_VCPUS][16];
	pthread_attr_t attr;

	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, PTHREAD_STACK_MIN);
	for (unsigned int i = 0; i < vcpus; i++) {
		pthread_t thread;

		snprintf(names[i], sizeof(names[i]), "vcpu%u", i);
		errno = pthread_create(&thread, &attr, wait_for_ever, names[i]);
		if (errno)
			die("a thread");
	}
}

static void run_some(char **argv, unsigned int first, unsigned int count)
{
	struct rlimit limit;
	struct machine machine;

	getrlimit(RLIMIT_NOFILE, &limit);
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_NOFILE, &limit);
	create(&machine, strtoul(argv[3], NULL, 10));
	if (threads)
		start_threads(machine.count - 1);
	for (unsigned int i = first; i < first + count; i++) {
		hand_over(&machine, argv[1], i);
		if (same || i == first + count - 1)
			continue;
		forget(&machine);
		create(&machine, strtoul(argv[3], NULL, 10));
	}
}

/* A process for some, as one has not descriptors enough for all. */
static int start_some(char **argv, unsigned int first, unsigned int count)
{
	int ready[2];
	char byte;
	pid_t pid;

	if (pipe(ready) < 0)
		die("pipe");
	pid = fork();
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		close(ready[0]);
		run_some(argv, first, count);
		if (write(ready[1], "x", 1) != 1)
			exit(1);
		pause();
	}
	close(ready[1]);
	if (read(ready[0], &byte, 1) != 1)
		exit(1);
	close(ready[0]);
	return pid;
}

int main(int argc, char **argv)
{
	unsigned int vms, step;
	char byte;

	/* a group of its own, to be ended as one */
	setpgid(0, 0);
	if (argc != 4 && argc != 5) {
		fputs("usage: agent_vmms SOCKET VMS VCPUS [same|twice|threads|all]\n",
		      stderr);
		return 2;
	}
	vms = strtoul(argv[2], NULL, 10);
	same = argc == 5 && !strcmp(argv[4], "same");
	twice = argc == 5 && !strcmp(argv[4], "twice");
	threads = argc == 5 && !strcmp(argv[4], "threads");
	all = argc == 5 && !strcmp(argv[4], "all");
	step = same ? vms : threads ? 1 : VMS_PER_PROCESS;
	for (unsigned int i = 0; i < vms; i += step)
		start_some(argv, i, vms - i < step ? vms - i : step);
	puts("ready");
	fflush(stdout);
	while (read(STDIN_FILENO, &byte, 1) > 0)
		;
	signal(SIGTERM, SIG_IGN);
	kill(0, SIGTERM);
	while (wait(NULL) > 0)
		;
	return 0;
}
