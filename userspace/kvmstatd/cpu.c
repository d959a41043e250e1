// SPDX-License-Identifier: GPL-2.0-only
/*
 * What the host's scheduler knows of VMMs and their vCPUs, by /proc. The files are
 * open to everybody, unless /proc is mounted with hidepid.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "scrape.h"

#define SEARCH_NS	10000000000ull	/* between two searches for threads */

static ssize_t read_file(const char *path, char *text, size_t size_bytes)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t length;

	if (fd < 0)
		return -1;
	length = read(fd, text, size_bytes - 1);
	close(fd);
	text[length < 0 ? 0 : length] = 0;
	return length;
}

/* Field @field of proc(5)'s stat, of which the second ends at @rest; 0: none. */
static uint64_t number(const char *rest, int field)
{
	for (int i = 2; rest && i < field; i++)
		rest = strchr(rest + 1, ' ');
	return rest ? strtoull(rest, NULL, 10) : 0;
}

/*
 * User and system time, fields 14 and 15 of proc(5), of the process that began at
 * that time: its number may be another's by now.
 */
static bool read_process(const struct identity *identity, struct cpu_time *time)
{
	uint64_t tick_ns = 1000000000 / sysconf(_SC_CLK_TCK);
	char path[40], text[1024], *rest;

	snprintf(path, sizeof(path), "/proc/%d/stat", identity->pid);
	if (read_file(path, text, sizeof(text)) <= 0)
		return false;
	rest = strrchr(text, ')');
	if (!rest || number(rest, 22) != identity->start_ticks)
		return false;
	time->ns[0] = number(rest, 14) * tick_ns;
	time->ns[1] = number(rest, 15) * tick_ns;
	return true;
}

uint64_t own_start_ticks(void)
{
	char text[1024];

	if (read_file("/proc/self/stat", text, sizeof(text)) <= 0)
		return 0;
	return number(strrchr(text, ')'), 22);
}

/* Time on a CPU, and time in a run queue. */
static bool read_thread(pid_t pid, pid_t tid, struct cpu_time *time)
{
	char path[64], text[128], *end;

	snprintf(path, sizeof(path), "/proc/%d/task/%d/schedstat", pid, tid);
	if (read_file(path, text, sizeof(text)) <= 0)
		return false;
	time->ns[0] = strtoull(text, &end, 10);
	time->ns[1] = strtoull(end, NULL, 10);
	return true;
}

/* Which thread runs which vCPU; those that are known stay. Under cpu_lock. */
static void search_threads(struct vm *vm)
{
	struct kvmstats_cpu *cpus = calloc(vm->count + 1, sizeof(*cpus));
	size_t count = 0;

	for (size_t i = 0; cpus && i < vm->count; i++) {
		if (vm->entries[i].vcpu < 0)
			continue;
		cpus[count].pid = vm->identity.pid;
		cpus[count].vcpu = vm->entries[i].vcpu;
		cpus[count++].tid = vm->entries[i].tid;
	}
	if (cpus && kvmstats_cpu_threads(vm->identity.pid, cpus, count) > 0) {
		count = 0;
		for (size_t i = 0; i < vm->count; i++)
			if (vm->entries[i].vcpu >= 0)
				vm->entries[i].tid = cpus[count++].tid;
	}
	free(cpus);
	vm->mapped_ns = clock_ns();
	vm->num_mapped = vm->count;
}

/*
 * The rows of @vm begin at @row, in the order of its entries. False if the thread
 * of one is not known, or no more.
 */
static bool read_threads(struct rows *rows, struct vm *vm, size_t row)
{
	uint32_t number = rows->row[row].vm;
	bool complete = true;
	size_t i = 0;

	for (; row < rows->count && rows->row[row].vm == number; row++) {
		struct row *r = &rows->row[row];

		while (i < vm->count && vm->entries[i].vcpu < r->vcpu)
			i++;
		if (i == vm->count)
			break;
		r->has_cpu = vm->entries[i].tid &&
			     read_thread(vm->identity.pid, vm->entries[i].tid,
					 &r->cpu);
		if (r->has_cpu)
			continue;
		vm->entries[i].tid = 0;
		complete = false;
	}
	return complete;
}

static void sample_threads(struct rows *rows, struct vm *vm, size_t row)
{
	if (read_threads(rows, vm, row))
		return;
	if (vm->count == vm->num_mapped &&
	    clock_ns() - vm->mapped_ns < SEARCH_NS)
		return;
	search_threads(vm);
	read_threads(rows, vm, row);
}

void cpu_sample(struct registry *registry, struct scrape *scrape)
{
	struct rows *rows = &scrape->rows[KVMSTATS_SCOPE_VCPU];
	size_t row = 0;

	scrape->process_cpu = calloc(scrape->num_vms + 1,
				     sizeof(*scrape->process_cpu));
	if (!scrape->process_cpu)
		return;
	pthread_mutex_lock(&registry->cpu_lock);
	for (size_t i = 0; i < scrape->num_vms; i++) {
		struct vm *vm = scrape->vms[i];
		bool known = vm->identity.start_ticks &&
			     read_process(&vm->identity,
					  &scrape->process_cpu[i].time);

		scrape->process_cpu[i].known = known;
		if (row == rows->count || rows->row[row].vm != i)
			continue;	/* it has no vCPU yet */
		if (known)
			sample_threads(rows, vm, row);
		while (row < rows->count && rows->row[row].vm == i)
			row++;
	}
	pthread_mutex_unlock(&registry->cpu_lock);
}
