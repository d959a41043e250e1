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
#define MEANWHILE_NS	200000000

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
	for (size_t i = 0; i < table->count; i++) {
		vmm_end(table->processes[i].vmm);
		vmm_free(table->processes[i].vmm);
	}
	free(table->processes);
	table->processes = fresh.processes;
	table->count = fresh.count;
	table->room = fresh.room;
	return ret;
}

static const char *reason(int error)
{
	switch (error) {
	case -EIO:
		return "this kernel makes none for other processes; use kvmstat run --agent";
	case -ENOTTY:
		return "this kernel has none";
	default:
		return strerror(-error);
	}
}

/* Once for each process and reason; @name is that of its VM, if it is known. */
static void log_once(struct process *process, const char *name, const char *what,
		     int error)
{
	if (process->logged != (error ? error : 1))
		log_warning("%s%spid %d%s: %s%s%s", name, *name ? " (" : "",
			    process->pid, *name ? ")" : "", what,
			    error ? ": " : "", error ? reason(error) : "");
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
	static const char a_part[] = "has only some of its VM's statistics descriptors";
	static const char nothing[] = "has a VM but no statistics descriptors";
	const char *name = kvmstats_vmm_name(found);
	int error = kvmstats_vmm_error(found);

	if (!kvmstats_vmm_missing(found) || is_young(table, process))
		return;
	if (error == -EIO || error == -ENOTTY)
		log_once(process, name, kvmstats_vmm_source_count(found) ?
			 a_part : nothing, error);
	else if (error == -EOPNOTSUPP)
		log_once(process, name,
			 "has a VM in a thread with descriptors of its own, which only Linux 6.9 and later can copy",
			 0);
	else if (error)
		log_once(process, name,
			 "has a VM whose descriptors cannot be copied", error);
}

/*
 * A registration is of one process, and mainline's KVM does not say which vCPU's
 * statistics belong to which of its VMs.
 */
static void explain_several(const struct table *table, struct process *process,
			    const struct kvmstats_vmm *found)
{
	size_t vms = kvmstats_vmm_held(found, KVMSTATS_FD_VM);

	if (vms < 2)
		process->several = false;
	if (vms < 2 || process->several || is_young(table, process))
		return;
	log_warning("%s (pid %d): has %zu VMs, whose statistics cannot be told apart: they are shown as one VM, with one of the vCPUs of each number; the process should register its VMs itself",
		    process->vmm->name, process->pid, vms);
	process->several = true;
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
		log_once(process, "", "did not answer within 5 s; it will be asked again later", 0);
		return;
	case -EPERM:
		log_once(process, "", "could not be inspected", error);
		return;
	default:
		if (!table->logged)
			log_error("processes cannot be inspected: %s",
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

/* What a look at a known VM has brought. */
static int take_again(struct table *table, struct process *process, int ret)
{
	struct vmm *vmm = process->vmm;

	if (ret == -ENODATA || ret == -ESRCH) {
		drop(process);
		return 0;
	}
	if (ret < 0)
		return ret;
	explain(table, process, vmm->found);
	explain_several(table, process, vmm->found);
	kvmstats_vmm_settle(vmm->found);
	ret = ret ? vmm_renew(vmm) : 0;
	if (ret)
		log_once(process, "", "cannot be registered", ret);
	return 0;
}

static int take_first(struct table *table, struct process *process, int ret,
		      struct kvmstats_vmm *found)
{
	if (ret <= 0)
		return ret;
	explain(table, process, found);
	if (!kvmstats_vmm_source_count(found)) {
		kvmstats_vmm_free(found);
		return 0;
	}
	ret = vmm_new(found, &process->vmm);
	if (ret) {
		log_once(process, "", "cannot be registered", ret);
		kvmstats_vmm_free(found);
	}
	return 0;
}

static void schedule(struct table *table, struct process *process)
{
	uint64_t max_ns = WAIT_MAX_INTERVALS * table->interval_ns;

	process->wait_ns = process->wait_ns ? 2 * process->wait_ns :
					      table->interval_ns;
	if (process->wait_ns > max_ns)
		process->wait_ns = max_ns;
	process->look_ns = table->now_ns + process->wait_ns;
}

/* The lock is given up for the look itself. */
static void look_at(struct table *table, struct process *process)
{
	struct vmm *vmm = process->vmm;
	struct kvmstats_vmm *found;
	pid_t pid = process->pid;
	int ret;

	process->busy = true;
	pthread_mutex_unlock(&table->lock);
	ret = vmm ? kvmstats_vmm_look(vmm->found) :
	      kvmstats_finder_look(table->finder, pid, &found);
	pthread_mutex_lock(&table->lock);
	process->busy = false;
	ret = vmm ? take_again(table, process, ret) :
	      take_first(table, process, ret, found);
	schedule(table, process);
	if (ret)
		explain_failure(table, process, ret);
}

static void free_ended(struct table *table)
{
	for (size_t i = 0; i < table->count; i++) {
		struct process *process = &table->processes[i];

		if (!process->ended)
			continue;
		vmm_free(process->vmm);
		process->vmm = NULL;
		process->ended = false;
	}
}

void table_end(struct table *table, struct process *process)
{
	vmm_end(process->vmm);
	process->ended = true;
	process->look_ns = 0;
	process->wait_ns = 0;
	if (!table->running)
		free_ended(table);
}

/*
 * It lives as long as the table: the finder's worker is its child, and ends with the
 * thread that made it.
 */
static void *look_when_told(void *argument)
{
	struct table *table = argument;

	pthread_mutex_lock(&table->lock);
	for (;;) {
		while (!table->running && !table->stopping)
			pthread_cond_wait(&table->changed, &table->lock);
		if (table->stopping)
			break;
		for (size_t i = 0; i < table->count && !table->stopping; i++)
			if (table->processes[i].look_ns <= table->now_ns) {
				free_ended(table);
				look_at(table, &table->processes[i]);
			}
		free_ended(table);
		table->running = false;
		pthread_cond_broadcast(&table->changed);
	}
	pthread_mutex_unlock(&table->lock);
	for (size_t i = 0; i < table->count; i++)
		vmm_free(table->processes[i].vmm);
	kvmstats_finder_free(table->finder);
	return NULL;
}

int table_open(struct table *table)
{
	pthread_condattr_t attributes;
	int ret = kvmstats_cache_new(&table->cache);

	if (!ret)
		ret = kvmstats_finder_new(KVMSTATS_FINDER_VCPUS_TOO, table->cache, &table->finder);
	if (ret)
		return ret;
	pthread_mutex_init(&table->lock, NULL);
	pthread_condattr_init(&attributes);
	pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
	pthread_cond_init(&table->changed, &attributes);
	pthread_condattr_destroy(&attributes);
	return -pthread_create(&table->thread, NULL, look_when_told, table);
}

int table_scan(struct table *table, uint64_t now,
	       void (*meanwhile)(void *context), void *context)
{
	int ret;

	pthread_mutex_lock(&table->lock);
	ret = read_processes(table);
	table->now_ns = now;
	table->running = !ret;
	pthread_cond_broadcast(&table->changed);
	while (table->running) {
		struct timespec until;

		clock_gettime(CLOCK_MONOTONIC, &until);
		until.tv_nsec += MEANWHILE_NS;
		if (until.tv_nsec >= 1000000000) {
			until.tv_nsec -= 1000000000;
			until.tv_sec++;
		}
		if (pthread_cond_timedwait(&table->changed, &table->lock, &until))
			meanwhile(context);
	}
	pthread_mutex_unlock(&table->lock);
	return ret;
}

void table_free(struct table *table)
{
	pthread_mutex_lock(&table->lock);
	table->stopping = true;
	pthread_cond_broadcast(&table->changed);
	pthread_mutex_unlock(&table->lock);
	pthread_join(table->thread, NULL);
	free(table->processes);
	kvmstats_cache_free(table->cache);
}
