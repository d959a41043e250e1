// SPDX-License-Identifier: LGPL-2.1-or-later
/* Which thread runs which vCPU */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cpu_stats.h"
#include "finder.h"

#define KVM_RUN		0xae80

struct thread {
	pid_t tid;
	int running;		/* number of the vCPU that it is in; -1 */
	int named;		/* that its name speaks of; -1 */
};

struct threads {
	pid_t pid;
	size_t vms;		/* that the process has */
	struct thread *list;
	size_t count;
};

/*
 * The system call that a thread waits in, as /proc/PID/task/TID/syscall shows
 * it: number, six arguments, stack pointer, program counter. The number of
 * ioctl depends on what the program was built for; its second argument says
 * enough. A worker of the kernel in the process (kvm-nx-lpage-recovery since
 * 6.15) has a copy of the registers of the vCPU's thread that it was made in,
 * but neither stack nor program.
 */
bool run_from_syscall(const char *text, int *fd)
{
	unsigned long long file, request, sp, pc;

	if (sscanf(text, "%*s %llx %llx %*x %*x %*x %*x %llx %llx", &file,
		   &request, &sp, &pc) != 4 || !sp || !pc ||
	    (request & 0xffffffff) != KVM_RUN)
		return false;
	*fd = file;
	return true;
}

int running_vcpu(pid_t pid, pid_t tid)
{
	char path[64], text[256];
	struct kvm_file file;
	ssize_t length;
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/task/%d/syscall", pid, tid);
	if (read_proc(path, text, sizeof(text)) <= 0 ||
	    !run_from_syscall(text, &fd))
		return -1;
	/* the thread's own table, which need not be the process's */
	snprintf(path, sizeof(path), "/proc/%d/task/%d/fd/%d", pid, tid, fd);
	length = readlink(path, text, sizeof(text) - 1);
	text[length < 0 ? 0 : length] = 0;
	return kvm_file_from_link(text, &file) &&
	       file.kind == KVMSTATS_FD_VCPU ? file.vcpu : -1;
}

/* QEMU with debug-threads=on (libvirt asks for it), and its younger relatives */
int vcpu_of_name(const char *comm)
{
	static const char *const formats[] = {
		"CPU %d/KVM%n", "vcpu%d%n", "fc_vcpu %d%n", "crosvm_vcpu%d%n",
		"kvm-vcpu-%d%n",
	};

	for (size_t i = 0; i < sizeof(formats) / sizeof(*formats); i++) {
		int number, length = 0;

		if (sscanf(comm, formats[i], &number, &length) == 1 &&
		    length && !comm[length] && number >= 0)
			return number;
	}
	return -1;
}

static int named_vcpu(pid_t pid, pid_t tid)
{
	char path[64], comm[64];

	snprintf(path, sizeof(path), "/proc/%d/task/%d/comm", pid, tid);
	if (read_proc(path, comm, sizeof(comm)) <= 0)
		return -1;
	comm[strcspn(comm, "\n")] = 0;
	return vcpu_of_name(comm);
}

static int add_threads(void *context, const struct answer *answer, int *fds,
		       size_t count)
{
	struct threads *threads = context;
	struct thread *list = realloc(threads->list,
				      (threads->count + answer->count + 1) *
				      sizeof(*list));

	(void)fds;
	(void)count;
	if (!list)
		return -ENOMEM;
	threads->list = list;
	threads->vms = answer->vms;
	for (size_t i = 0; i < answer->count; i++)
		list[threads->count++] = (struct thread){
			.tid = answer->files[i].number,
			.running = answer->files[i].vcpu,
			.named = named_vcpu(threads->pid,
					    answer->files[i].number),
		};
	return answer->error;
}

static int number_of(const struct kvmstats_cpu *cpu)
{
	return cpu->source ? kvmstats_source_vcpu(cpu->source) :
	       cpu->pid ? cpu->vcpu : -1;
}

static bool numbers_are_unique(const struct kvmstats_cpu *cpus, size_t count)
{
	for (size_t i = 0; i < count; i++)
		for (size_t j = 0; j < i; j++)
			if (number_of(&cpus[i]) >= 0 &&
			    number_of(&cpus[i]) == number_of(&cpus[j]))
				return false;
	return true;
}

/* The only thread that is in this vCPU, 0 if there is none, or not only one. */
static pid_t tid_in_vcpu(const struct threads *threads, int number)
{
	pid_t tid = 0;

	for (size_t i = 0; i < threads->count && number >= 0; i++) {
		if (threads->list[i].running != number)
			continue;
		if (tid)
			return 0;
		tid = threads->list[i].tid;
	}
	return tid;
}

static void map_running(const struct threads *threads,
			struct kvmstats_cpu *cpus, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		pid_t tid = tid_in_vcpu(threads, number_of(&cpus[i]));

		if (cpus[i].tid || !tid)
			continue;
		cpus[i].pid = threads->pid;
		cpus[i].tid = tid;
	}
}

/* By name, those that have none last. */
static int compare_names(const void *a, const void *b)
{
	unsigned int x = ((const struct thread *)a)->named;
	unsigned int y = ((const struct thread *)b)->named;

	return (x > y) - (x < y);
}

/* Every name once, and as many as there are CPUs. Sorted before. */
static bool names_are_complete(const struct threads *threads,
			       const struct kvmstats_cpu *cpus, size_t count)
{
	size_t names = 0, sources = 0;

	for (size_t i = 0; i < count; i++)
		sources += number_of(&cpus[i]) >= 0;
	while (names < threads->count && threads->list[names].named >= 0) {
		if (names && threads->list[names].named ==
			     threads->list[names - 1].named)
			return false;
		names++;
	}
	return names == sources;
}

/*
 * QEMU counts its vCPUs in the names and gives KVM the APIC id as number,
 * which may leave gaps: what they have in common is the order.
 */
static const struct thread *by_name(const struct threads *threads,
				    const struct kvmstats_cpu *cpus,
				    size_t count, int number)
{
	size_t rank = 0;

	for (size_t i = 0; i < count; i++)
		if (number_of(&cpus[i]) >= 0 && number_of(&cpus[i]) < number)
			rank++;
	return &threads->list[rank];
}

/* Names are a custom; one that is seen to lie discredits all of them. */
static bool names_agree(const struct threads *threads,
			const struct kvmstats_cpu *cpus, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		int number = number_of(&cpus[i]);

		if (number >= 0 && cpus[i].tid &&
		    by_name(threads, cpus, count, number)->tid != cpus[i].tid)
			return false;
	}
	return true;
}

static void map_named(const struct threads *threads, struct kvmstats_cpu *cpus,
		      size_t count)
{
	for (size_t i = 0; i < count; i++) {
		int number = number_of(&cpus[i]);

		if (number < 0 || cpus[i].tid)
			continue;
		cpus[i].pid = threads->pid;
		cpus[i].tid = by_name(threads, cpus, count, number)->tid;
	}
}

static int count_mapped(const struct kvmstats_cpu *cpus, size_t count)
{
	int mapped = 0;

	for (size_t i = 0; i < count; i++)
		mapped += cpus[i].tid != 0;
	return mapped;
}

static int map(const struct threads *threads, struct kvmstats_cpu *cpus,
	       size_t count)
{
	map_running(threads, cpus, count);
	qsort(threads->list, threads->count, sizeof(*threads->list),
	      compare_names);
	if (names_are_complete(threads, cpus, count) &&
	    names_agree(threads, cpus, count))
		map_named(threads, cpus, count);
	return count_mapped(cpus, count);
}

int kvmstats_cpu_threads(pid_t pid, struct kvmstats_cpu *cpus, size_t cpu_count)
{
	struct ask ask = { .about = ASK_THREADS, .pid = pid };
	struct threads threads = { .pid = pid };
	struct worker worker = { 0 };
	int ret;

	if (cpu_count > KVMSTATS_MAX_CPUS)
		return -E2BIG;
	if (!cpus_reserved_are_zero(cpus, cpu_count))
		return -EINVAL;
	if (!numbers_are_unique(cpus, cpu_count))
		return -ENOTUNIQ;
	ret = worker_ask(&worker, &ask, -1, add_threads, &threads);
	worker_stop(&worker);
	/* vCPUs of two VMs have the same numbers: nobody says whose is whose */
	if (!ret && threads.vms > 1)
		ret = -ENOTUNIQ;
	if (!ret)
		ret = map(&threads, cpus, cpu_count);
	free(threads.list);
	return ret == -ENOENT ? -ESRCH : ret;
}
