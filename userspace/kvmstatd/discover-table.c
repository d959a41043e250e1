// SPDX-License-Identifier: GPL-2.0-only
/*
 * When to look at which process. A VMM makes its VM early in its life: each
 * new process is looked at soon, then at double distances, at last rarely. So
 * a scan costs little more than the list of numbers in /proc.
 */
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "discover.h"

#define WAIT_MAX_INTERVALS 16
#define PUT_OFF_MAX 8

/* Numbers come in ascending order; any other is harmless, if slower. */
static struct process *find(const struct table *old, size_t *position,
			    pid_t pid)
{
	size_t i = *position;

	while (i < old->count && old->processes[i].pid < pid)
		i++;
	*position = i;
	return i < old->count && old->processes[i].pid == pid ?
	       &old->processes[i] : NULL;
}

static int append(struct table *table, const struct process *process)
{
	if (table->count == table->room) {
		size_t room = table->room ? 2 * table->room : 256;
		struct process *processes;

		processes = realloc(table->processes,
				    room * sizeof(*processes));
		if (!processes)
			return -ENOMEM;
		table->processes = processes;
		table->room = room;
	}
	table->processes[table->count++] = *process;
	return 0;
}

/* Entries of @old that are still there move to @fresh, VMs and all. */
static int merge(DIR *dir, struct table *old, struct table *fresh)
{
	struct dirent *entry;
	size_t position = 0;

	while ((entry = readdir(dir))) {
		struct process new_process = { .pid = atoi(entry->d_name) };
		struct process *known;

		if (new_process.pid <= 0 || new_process.pid == getpid() ||
		    new_process.pid == old->worker.pid)
			continue;
		known = find(old, &position, new_process.pid);
		if (append(fresh, known ? known : &new_process))
			return -ENOMEM;
		if (known)
			known->vmm = NULL;
	}
	return 0;
}

static int read_processes(struct table *table)
{
	struct table fresh = { 0 };
	DIR *dir = opendir("/proc");
	int ret;

	if (!dir)
		return -errno;
	ret = merge(dir, table, &fresh);
	closedir(dir);
	for (size_t i = 0; i < table->count; i++)
		vmm_end(table->processes[i].vmm);
	free(table->processes);
	table->processes = fresh.processes;
	table->count = fresh.count;
	table->room = fresh.room;
	return ret;
}

static void complain(struct process *process, const char *what, int error)
{
	if (!process->complained)
		say("pid %d: %s%s%s", process->pid, what, error ? ": " : "",
		    error ? strerror(-error) : "");
	process->complained = true;
}

/* A VMM that begins may take its descriptors in the next moment. */
static bool is_young(const struct table *table, const struct process *process)
{
	return process->wait_ns < 4 * table->interval_ns;
}

static void explain(const struct table *table, struct process *process,
		    const struct answer *answer)
{
	switch (answer->outcome) {
	case FOUND_NO_STATS:
		if (is_young(table, process))
			break;
		complain(process,
			 "has a VM but no statistics descriptors, and the kernel gives us none",
			 answer->error);
		break;
	case FOUND_DENIED:
		complain(process, "has a VM whose descriptors we may not have",
			 answer->error);
		break;
	case FOUND_FAILED:
		complain(process, "could not be looked at", answer->error);
		break;
	default:
		break;
	}
	if (answer->ambiguous && answer->outcome == FOUND_VM)
		complain(process,
			 "has more than one VM descriptor; those of the first found are taken",
			 0);
}

/* The old registration ends first: there is never a moment with two. */
static void update(const struct table *table, struct process *process,
		   struct look *look)
{
	enum outcome outcome = look->answer.outcome;
	int ret;

	explain(table, process, &look->answer);
	if (outcome == FOUND_SAME || outcome == FOUND_FAILED)
		return;
	if (process->vmm)
		say("%s (pid %d): its descriptors have changed",
		    process->vmm->name, process->pid);
	vmm_free(process->vmm);
	process->vmm = NULL;
	if (outcome != FOUND_VM)
		return;
	ret = vmm_new(process->pid, look, &process->vmm);
	if (ret)
		complain(process, "cannot be registered", ret);
}

static void schedule(struct table *table, struct process *process,
		     uint64_t now)
{
	uint64_t max_ns = WAIT_MAX_INTERVALS * table->interval_ns;

	process->wait_ns = process->wait_ns ? 2 * process->wait_ns :
					      table->interval_ns;
	if (process->wait_ns > max_ns)
		process->wait_ns = max_ns;
	process->look_ns = now + process->wait_ns;
}

/*
 * Whether this process blocked the worker or the machine was busy is not
 * known: try again, but more rarely each time, as it costs the others time.
 */
static void put_off(struct table *table, struct process *process, uint64_t now)
{
	if (process->put_off < PUT_OFF_MAX)
		process->put_off++;
	process->look_ns = now + (WAIT_MAX_INTERVALS * table->interval_ns <<
				  process->put_off);
}

static void look_at(struct table *table, struct process *process, uint64_t now)
{
	struct inquiry inquiry = {
		.pid = process->pid,
		.known = process->vmm,
		.mark = process->vmm ? process->vmm->mark : 0,
	};
	struct look look;
	int ret = worker_ask(&table->worker, &inquiry, &look);

	schedule(table, process, now);
	if (ret == -ETIME)
		put_off(table, process, now);
	if (ret) {
		complain(process, ret == -ETIME ? "does not let itself be looked at" :
			 "could not be looked at", ret);
		return;
	}
	update(table, process, &look);
	look_end(&look);
}

/* 0, or -errno: then there was nothing to look at. */
int table_scan(struct table *table, uint64_t now)
{
	int ret = read_processes(table);

	for (size_t i = 0; i < table->count && !ret; i++)
		if (table->processes[i].look_ns <= now)
			look_at(table, &table->processes[i], now);
	return ret;
}

void table_free(struct table *table)
{
	worker_stop(&table->worker);
	for (size_t i = 0; i < table->count; i++)
		vmm_free(table->processes[i].vmm);
	free(table->processes);
}
