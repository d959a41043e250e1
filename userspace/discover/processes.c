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

#include "../common/log.h"
#include "discover.h"

#define WAIT_MAX_INTERVALS 16

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

		if (new_process.pid <= 0 || new_process.pid == getpid())
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

/* Once for each process and reason. */
static void log_once(struct process *process, const char *what, int error)
{
	if (process->logged != (error ? error : 1))
		log_warning("pid %d: %s%s%s", process->pid, what, error ? ": " : "",
		    error ? strerror(-error) : "");
	process->logged = error ? error : 1;
}

/* A VMM that begins may take its descriptors in the next moment. */
static bool is_young(const struct table *table, const struct process *process)
{
	return process->wait_ns < 4 * table->interval_ns;
}

/* What is missing of a process that has a VM. */
static void explain(const struct table *table, struct process *process,
		    const struct kvmstats_vmm *found)
{
	static const char a_part[] =
		"has only a part of its statistics descriptors, and the kernel creates none for us";
	static const char nothing[] =
		"has a VM but no statistics descriptors, and the kernel creates none for us";
	int error = kvmstats_vmm_error(found);

	if (!kvmstats_vmm_missing(found) || is_young(table, process))
		return;
	if (error == -EIO || error == -ENOTTY)
		log_once(process, kvmstats_vmm_source_count(found) ? a_part :
			 nothing, error);
	else if (error == -EOPNOTSUPP)
		log_once(process,
			 "has a VM in a thread with descriptors of its own, which only Linux 6.9 and later can copy",
			 0);
	else if (error)
		log_once(process,
			 "has a VM whose descriptors cannot be copied", error);
}

/* Why it could not be looked at. What is the same for all is said once. */
static void explain_failure(struct table *table, struct process *process,
			    int error)
{
	switch (error) {
	case -ESRCH:
		return;		/* it has ended */
	case -EACCES:
		return;		/* another user's, and we may not: said at the start */
	case -ETIME:
		log_once(process, "did not answer within 5 s", 0);
		return;
	case -EPERM:
		log_once(process, "could not be looked at", error);
		return;
	default:
		if (!table->logged)
			log_error("processes cannot be looked at: %s",
				  strerror(-error));
		table->logged = true;
	}
}

static void drop(struct process *process)
{
	log_info("%s (pid %d): its VM has gone", process->vmm->name, process->pid);
	vmm_free(process->vmm);
	process->vmm = NULL;
}

/* 0 or -errno of the look. */
static int look_again(struct table *table, struct process *process)
{
	struct vmm *vmm = process->vmm;
	int ret = kvmstats_vmm_look(vmm->found);

	if (ret == -ENODATA || ret == -ESRCH) {
		drop(process);
		return 0;
	}
	if (ret < 0)
		return ret;
	explain(table, process, vmm->found);
	kvmstats_vmm_settle(vmm->found);
	ret = ret ? vmm_renew(vmm) : 0;
	if (ret)
		log_once(process, "cannot be registered", ret);
	return 0;
}

static int look_first(struct table *table, struct process *process)
{
	struct kvmstats_vmm *found;
	int ret = kvmstats_finder_look(table->finder, process->pid, &found);

	if (ret <= 0)
		return ret;
	explain(table, process, found);
	if (!kvmstats_vmm_source_count(found)) {
		kvmstats_vmm_free(found);
		return 0;
	}
	ret = vmm_new(found, &process->vmm);
	if (ret) {
		log_once(process, "cannot be registered", ret);
		kvmstats_vmm_free(found);
	}
	return 0;
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

static void look_at(struct table *table, struct process *process, uint64_t now)
{
	int ret = process->vmm ? look_again(table, process) :
				 look_first(table, process);

	schedule(table, process, now);
	if (ret)
		explain_failure(table, process, ret);
}

/* 0, or -errno: then there was nothing to look at. */
int table_scan(struct table *table, uint64_t now)
{
	int ret = 0;

	if (!table->finder)
		ret = kvmstats_cache_new(&table->cache);
	if (!ret && !table->finder)
		ret = kvmstats_finder_new(0, table->cache, &table->finder);
	if (!ret)
		ret = read_processes(table);
	for (size_t i = 0; i < table->count && !ret; i++)
		if (table->processes[i].look_ns <= now)
			look_at(table, &table->processes[i], now);
	return ret;
}

void table_free(struct table *table)
{
	for (size_t i = 0; i < table->count; i++)
		vmm_free(table->processes[i].vmm);
	free(table->processes);
	kvmstats_finder_free(table->finder);
	kvmstats_cache_free(table->cache);
}
