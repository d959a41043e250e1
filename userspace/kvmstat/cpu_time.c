// SPDX-License-Identifier: GPL-2.0-only
/* How long a VMM's threads ran, and waited to run. */
#include <dirent.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "vm.h"

/* cpu_time, wait_time, timeslices: more of them a process can keep from us. */
#define PARAMS_OF_THREAD	3

/* 0: not known, or its number may be another's by now. */
static pid_t process_of(const struct vm *vm)
{
	if (!vm->peer)
		return vm->vmm ? vm->pid : 0;
	return kvmstats_peer_pidfd(vm->peer) < 0 ? 0 :
	       kvmstats_peer_vm_pid(vm->peer);
}

static uint64_t wait_of(pid_t pid)
{
	struct kvmstats_param params[PARAMS_OF_THREAD];
	struct kvmstats_cpu cpu = { .pid = pid };
	uint64_t wait_ns = 0;
	struct dirent *entry;
	char path[32];
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%d/task", pid);
	dir = opendir(path);
	while (dir && (entry = readdir(dir))) {
		int count = 0;

		cpu.tid = atoi(entry->d_name);
		if (cpu.tid)
			count = kvmstats_cpu_stats(0, &cpu, 1, params,
						   PARAMS_OF_THREAD, 0, 1,
						   KVMSTATS_CPU_STATS_GUEST);
		for (int i = 0; i < count; i++)
			if (!strcmp(params[i].field, KVMSTATS_CPU_WAIT_TIME))
				wait_ns += params[i].value.ul;
	}
	if (dir)
		closedir(dir);
	return wait_ns;
}

void vm_sample_cpu(struct vm *vm)
{
	struct cpu_time *cpu = &vm->cpu, before = *cpu;
	struct kvmstats_param params[2];
	pid_t pid = process_of(vm);

	*cpu = (struct cpu_time){ .run = NAN, .wait = NAN };
	if (!pid || kvmstats_cpu_stats(pid, NULL, 0, params, 2, -1, 1, 0) != 2)
		return;
	cpu->at_ns = clock_ns();
	cpu->run_ns = params[0].value.ul + params[1].value.ul;
	cpu->wait_ns = wait_of(pid);
	if (!before.at_ns || before.at_ns == cpu->at_ns)
		return;
	if (cpu->run_ns >= before.run_ns)
		cpu->run = (cpu->run_ns - before.run_ns) /
			   (double)(cpu->at_ns - before.at_ns);
	/* less than before: a thread has ended, and its part is not known */
	if (cpu->wait_ns >= before.wait_ns)
		cpu->wait = (cpu->wait_ns - before.wait_ns) /
			    (double)(cpu->at_ns - before.at_ns);
}
