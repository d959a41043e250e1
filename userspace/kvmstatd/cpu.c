// SPDX-License-Identifier: GPL-2.0-only
/*
 * What the host's scheduler knows of VMMs and their vCPUs: clocks, and files of
 * /proc that are open to everybody, unless it is mounted with hidepid.
 *
 * Figures are read in a scrape: no process can delay that. Which thread runs which
 * vCPU is searched for in a thread of its own, one VM after the other: whoever
 * looks at what a process's threads wait in, waits for an exec to end.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "scrape.h"

/* Between two searches; doubled as long as not all vCPUs have been in a thread. */
#define FIRST_PAUSE_NS	1000000000ull
#define LAST_PAUSE_NS	(128 * FIRST_PAUSE_NS)

/* Files of threads that stay open: each takes a page of the kernel's memory. */
#define MAX_HELD	8192
#define MIN_BUDGET	4096	/* with fewer descriptors none does */

static size_t max_held;
static atomic_size_t held;

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

static bool has_ended(int pidfd)
{
	struct pollfd poll_fd = { .fd = pidfd, .events = POLLIN };

	return poll(&poll_fd, 1, 0) != 0;
}

/*
 * User and system time of all threads. The sum is exact, how it is divided is the
 * kernel's estimate. Under cpu_lock: neither part goes back.
 */
static bool read_process(struct vm *vm, struct cpu_time *time)
{
	uint64_t exact_ns, system_ns, *last = vm->process_ns;
	struct kvmstats_param params[2];

	if (vm->pidfd < 0 ||
	    kvmstats_cpu_stats(vm->identity.pid, NULL, 0, params, 2, -1, 1, 0) != 2 ||
	    has_ended(vm->pidfd))	/* the number may be another's */
		return false;
	system_ns = params[1].value.ul;
	exact_ns = params[0].value.ul + system_ns;
	if (exact_ns > last[0] + last[1]) {
		if (system_ns < last[1])
			system_ns = last[1];
		if (exact_ns - system_ns < last[0])
			system_ns = exact_ns - last[0];
		last[0] = exact_ns - system_ns;
		last[1] = system_ns;
	}
	memcpy(time->ns, last, sizeof(time->ns));
	return true;
}

uint64_t own_start_ticks(void)
{
	char text[1024];

	if (read_file("/proc/self/stat", text, sizeof(text)) <= 0)
		return 0;
	return number(strrchr(text, ')'), 22);
}

size_t cpu_reserve_fds(size_t budget)
{
	max_held = budget / 16 < MAX_HELD ? budget / 16 : MAX_HELD;
	if (budget < MIN_BUDGET)
		max_held = 0;
	return max_held;
}

void cpu_forget_thread(struct entry *entry)
{
	if (entry->sched_fd >= 0) {
		close(entry->sched_fd);
		held--;
	}
	entry->sched_fd = -1;
	entry->tid = 0;
}

/*
 * Time on a CPU, and time in a run queue. The file stays open: to open it costs
 * several times as much as to read it, and it is that thread's for ever.
 */
static bool read_thread(pid_t pid, struct entry *entry, struct cpu_time *time)
{
	char path[64], text[128], *end;
	int fd = entry->sched_fd;
	ssize_t length;

	if (fd < 0) {
		snprintf(path, sizeof(path), "/proc/%d/task/%d/schedstat", pid,
			 entry->tid);
		fd = open(path, O_RDONLY | O_CLOEXEC);
		if (fd < 0)
			return false;
	}
	length = pread(fd, text, sizeof(text) - 1, 0);
	if (entry->sched_fd < 0 && length > 0 && held < max_held) {
		entry->sched_fd = fd;
		held++;
	} else if (entry->sched_fd < 0) {
		close(fd);
	}
	if (length <= 0)
		return false;
	text[length] = 0;
	time->ns[0] = strtoull(text, &end, 10);
	time->ns[1] = strtoull(end, NULL, 10);
	return true;
}

/* Both are in the order of the vCPUs' numbers; entries may have come meanwhile. */
static void take_threads(struct vm *vm, const struct kvmstats_cpu *cpus,
			 size_t count)
{
	for (size_t i = 0, j = 0; i < vm->count && j < count; i++)
		if (vm->entries[i].vcpu == cpus[j].vcpu)
			vm->entries[i].tid = cpus[j++].tid;
}

/*
 * Which thread runs which vCPU; those that are known stay. Under cpu_lock, which
 * is let go meanwhile.
 */
static void search_threads(struct registry *registry, struct vm *vm)
{
	struct kvmstats_cpu *cpus = calloc(vm->count + 1, sizeof(*cpus));
	size_t count = 0;
	int found = -ENOMEM;

	for (size_t i = 0; cpus && i < vm->count; i++) {
		if (vm->entries[i].vcpu < 0)
			continue;
		cpus[count].pid = vm->identity.pid;
		cpus[count].vcpu = vm->entries[i].vcpu;
		cpus[count++].tid = vm->entries[i].tid;
	}
	vm->num_searched = vm->count;
	pthread_mutex_unlock(&registry->cpu_lock);
	if (cpus)
		found = kvmstats_cpu_threads(vm->identity.pid, cpus, count);
	pthread_mutex_lock(&registry->cpu_lock);
	if (found > 0)
		take_threads(vm, cpus, count);
	free(cpus);
	vm->pause_ns *= 2;
	if (found == (int)count || vm->pause_ns < FIRST_PAUSE_NS)
		vm->pause_ns = FIRST_PAUSE_NS;
	if (vm->pause_ns > LAST_PAUSE_NS)
		vm->pause_ns = LAST_PAUSE_NS;
	vm->search_ns = clock_ns() + vm->pause_ns;
	vm->searching = false;
}

static void *search(void *argument)
{
	struct registry *registry = argument;

	pthread_mutex_lock(&registry->cpu_lock);
	while (!registry->search_stopping) {
		struct vm *vm = registry->search_first;

		if (!vm) {
			pthread_cond_wait(&registry->search_due,
					  &registry->cpu_lock);
			continue;
		}
		registry->search_first = vm->next_search;
		if (!registry->search_first)
			registry->search_last = &registry->search_first;
		search_threads(registry, vm);
		vm_unref(vm);
	}
	pthread_mutex_unlock(&registry->cpu_lock);
	return NULL;
}

/* Soon, unless there was one lately with the same vCPUs. Under cpu_lock. */
static void want_search(struct registry *registry, struct vm *vm)
{
	if (vm->searching || (vm->count == vm->num_searched &&
			      clock_ns() < vm->search_ns))
		return;
	if (!registry->has_search_thread &&
	    pthread_create(&registry->search_thread, NULL, search, registry))
		return;	/* the next scrape tries again */
	registry->has_search_thread = true;
	vm->searching = true;
	vm->next_search = NULL;
	*registry->search_last = vm_ref(vm);
	registry->search_last = &vm->next_search;
	pthread_cond_signal(&registry->search_due);
}

void cpu_stop(struct registry *registry)
{
	struct vm *vm;

	pthread_mutex_lock(&registry->cpu_lock);
	registry->search_stopping = true;
	pthread_cond_signal(&registry->search_due);
	pthread_mutex_unlock(&registry->cpu_lock);
	if (registry->has_search_thread)
		pthread_join(registry->search_thread, NULL);
	while ((vm = registry->search_first)) {
		registry->search_first = vm->next_search;
		vm_unref(vm);
	}
}

/*
 * The rows of @vm begin at @row, in the order of its entries. False if the thread
 * of one is not known, or no more.
 */
static bool read_threads(struct scrape *scrape, struct vm *vm, size_t row)
{
	struct rows *rows = &scrape->rows[KVMSTATS_SCOPE_VCPU];
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
			     read_thread(vm->identity.pid, &vm->entries[i],
					 &scrape->thread_cpu[row]);
		if (r->has_cpu)
			continue;
		cpu_forget_thread(&vm->entries[i]);
		complete = false;
	}
	return complete;
}

void cpu_sample(struct registry *registry, struct scrape *scrape)
{
	struct rows *rows = &scrape->rows[KVMSTATS_SCOPE_VCPU];
	size_t row = 0;

	scrape->process_cpu = calloc(scrape->num_vms + 1,
				     sizeof(*scrape->process_cpu));
	scrape->thread_cpu = calloc(rows->count + 1, sizeof(*scrape->thread_cpu));
	if (!scrape->thread_cpu || !scrape->process_cpu) {
		free(scrape->process_cpu);
		scrape->process_cpu = NULL;
		return;
	}
	pthread_mutex_lock(&registry->cpu_lock);
	for (size_t i = 0; i < scrape->num_vms; i++) {
		struct vm *vm = scrape->vms[i];
		bool known = read_process(vm, &scrape->process_cpu[i].time);

		scrape->process_cpu[i].known = known;
		if (row == rows->count || rows->row[row].vm != i)
			continue;	/* it has no vCPU yet */
		if (known && !read_threads(scrape, vm, row))
			want_search(registry, vm);
		while (row < rows->count && rows->row[row].vm == i)
			row++;
	}
	pthread_mutex_unlock(&registry->cpu_lock);
}
