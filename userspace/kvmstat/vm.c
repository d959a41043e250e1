// SPDX-License-Identifier: GPL-2.0-only
#include <dirent.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "vm.h"

/* cpu_time, wait_time, timeslices: more of them a process can keep from us. */
#define PARAMS_OF_THREAD	3

uint64_t clock_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000000000ull + now.tv_nsec;
}

static void find_owner(struct vm *vm)
{
	struct stat st;
	char path[64];

	snprintf(path, sizeof(path), "/proc/%ld", vm->pid);
	if (vm->pid && !stat(path, &st)) {
		vm->uid = st.st_uid;
		vm->gid = st.st_gid;
	}
}

/* The command's name is the process's own choice: nothing of it may act. */
void vm_command(long pid, char name[KVMSTATS_MAX_VM_NAME + 1])
{
	char path[64];
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%ld/comm", pid);
	file = fopen(path, "re");
	name[0] = 0;
	if (file && fgets(name, KVMSTATS_MAX_VM_NAME + 1, file))
		name[strcspn(name, "\n")] = 0;
	if (file)
		fclose(file);
	kvmstats_text_clean(name);
}

/* NULL without memory. The name of @vmm is its own, or else its command's. */
struct vm *vm_new(const char *name, struct kvmstats_vmm *vmm)
{
	struct vm *vm = calloc(1, sizeof(*vm));
	char command[KVMSTATS_MAX_VM_NAME + 1];

	if (!vm)
		return NULL;
	vm->uid = -1;
	vm->gid = -1;
	vm->cpu.run = NAN;
	vm->cpu.wait = NAN;
	if (vmm) {
		vm->pid = kvmstats_vmm_pid(vmm);
		find_owner(vm);
		name = kvmstats_vmm_name(vmm);
		if (!*name) {
			vm_command(vm->pid, command);
			name = command;
		}
	}
	vm->name = strdup(name);
	if (!vm->name) {
		free(vm);
		return NULL;
	}
	vm->vmm = vmm;
	return vm;
}

int vm_accept(int listen_fd, struct vm **result)
{
	struct vm *vm = calloc(1, sizeof(*vm));
	int ret = vm ? kvmstats_peer_accept(listen_fd, &vm->peer) : -ENOMEM;

	if (ret) {
		free(vm);
		return ret;
	}
	vm->cpu.run = NAN;
	vm->cpu.wait = NAN;
	vm->pid = kvmstats_peer_pid(vm->peer);
	vm->uid = kvmstats_peer_uid(vm->peer);
	vm->gid = kvmstats_peer_gid(vm->peer);
	if (!kvmstats_peer_uid(vm->peer) ||
	    kvmstats_peer_uid(vm->peer) == geteuid())
		kvmstats_peer_allow_on_behalf(vm->peer);
	kvmstats_peer_allow_vcpus(vm->peer);
	*result = vm;
	return 0;
}

const char *vm_name(const struct vm *vm)
{
	const char *name = vm->peer ? kvmstats_peer_name(vm->peer) : vm->name;

	return *name ? name : "(no name)";
}

const char *vm_uuid(const struct vm *vm)
{
	if (vm->vmm)
		return kvmstats_vmm_uuid(vm->vmm);
	return vm->peer ? kvmstats_peer_uuid(vm->peer) : "";
}

int vm_pidfd(const struct vm *vm)
{
	if (vm->peer)
		return kvmstats_peer_pidfd(vm->peer);
	return vm->vmm ? kvmstats_vmm_pidfd(vm->vmm) : -1;
}

void watch_end(struct watch *watch)
{
	if (watch->owned)
		kvmstats_source_close(watch->source);
	free(watch->memory);
	memset(watch, 0, sizeof(*watch));
}

static void next_interval(struct watch *watch)
{
	uint64_t *swap = watch->before;

	watch->before = watch->now;
	watch->now = swap;
	watch->before_ns = watch->now_ns;
}

static void compare_interval(struct watch *watch)
{
	watch->restarts = kvmstats_schema_delta(kvmstats_source_schema(watch->source),
						watch->before, watch->now,
						watch->delta);
}

static void watch_sample(struct watch *watch)
{
	struct kvmstats_schema *schema = kvmstats_source_schema(watch->source);

	next_interval(watch);
	watch->error = kvmstats_source_sample(watch->source, watch->now,
					      kvmstats_schema_words(schema));
	watch->now_ns = clock_ns();
	if (!watch->error)
		compare_interval(watch);
}

void watch_take(struct watch *watch, const uint64_t *values, uint64_t now_ns)
{
	struct kvmstats_schema *schema = kvmstats_source_schema(watch->source);

	next_interval(watch);
	memcpy(watch->now, values,
	       kvmstats_schema_words(schema) * sizeof(*values));
	watch->now_ns = now_ns;
	compare_interval(watch);
}

int watch_open(struct watch *watch, struct kvmstats_source *source,
	       const uint64_t *values, uint64_t now_ns, uint64_t since_ns)
{
	size_t words = kvmstats_schema_words(kvmstats_source_schema(source));

	memset(watch, 0, sizeof(*watch));
	watch->memory = calloc(4 * words + 1, sizeof(uint64_t));
	if (!watch->memory)
		return -ENOMEM;
	watch->before = watch->memory;
	watch->now = watch->before + words;
	watch->delta = watch->now + words;
	watch->base = watch->delta + words;
	watch->source = source;
	watch->fd = -1;
	if (values) {
		watch->now_ns = since_ns;
		watch_take(watch, values, now_ns);
	} else {
		watch_sample(watch);
	}
	if (since_ns)
		return watch->error;
	/* no growth yet, but the values of what does not count */
	kvmstats_schema_delta(kvmstats_source_schema(source), watch->now, watch->now,
			      watch->delta);
	memcpy(watch->base, watch->now, words * sizeof(uint64_t));
	return watch->error;
}

static int compare_watches(const void *a, const void *b)
{
	const struct watch *x = a, *y = b;
	int order = kvmstats_source_compare(x->source, y->source);

	return order ? order : (x->fd > y->fd) - (x->fd < y->fd);
}

int vm_append(struct vm *vm, struct watch *watch)
{
	struct watch *watches = realloc(vm->watches, (vm->count + 1) *
					sizeof(*watches));

	if (!watches) {
		watch_end(watch);
		return -ENOMEM;
	}
	vm->watches = watches;
	watches[vm->count++] = *watch;
	qsort(watches, vm->count, sizeof(*watches), compare_watches);
	return 0;
}

int vm_add(struct vm *vm, struct kvmstats_source *source, long fd, bool owned)
{
	struct watch watch;
	int ret;

	if (kvmstats_source_scope(source) == KVMSTATS_SCOPE_VCPUS)
		return vm_add_vcpus(vm, source, fd, owned);
	ret = watch_open(&watch, source, NULL, 0, 0);
	if (ret) {
		free(watch.memory);
		if (owned)
			kvmstats_source_close(source);
		return ret;
	}
	watch.owned = owned;
	watch.fd = fd;
	return vm_append(vm, &watch);
}

static bool has_source(const struct vm *vm, const struct kvmstats_source *source)
{
	for (size_t i = 0; i < vm->count; i++)
		if (vm->watches[i].source == source)
			return true;
	return vm_has_vcpus(vm, source);
}

int vm_add_found(struct vm *vm)
{
	int ret = 0;

	/* better than sums */
	for (size_t i = 0; i < vm->count; i++)
		if (kvmstats_source_is_sum(vm->watches[i].source) &&
		    kvmstats_vmm_source_count(vm->vmm))
			vm->watches[i].error = -ENODATA;
	vm_drop_failed(vm);
	for (size_t i = 0; i < kvmstats_vmm_source_count(vm->vmm); i++) {
		struct kvmstats_source *source =
			kvmstats_vmm_source(vm->vmm, i);
		int error = 0;

		if (!has_source(vm, source))
			error = vm_add(vm, source,
				       kvmstats_vmm_source_number(vm->vmm, i),
				       false);
		ret = error ? error : ret;
	}
	return ret;
}

/* Numbers of processes are the kernel's own in the first namespace only. */
static bool is_first_pid_namespace(void)
{
	struct stat st;

	return !stat("/proc/self/ns/pid", &st) && st.st_ino == 0xeffffffc;
}

static bool has_thread(long pid, long tid)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/%ld/task/%ld", pid, tid);
	return !access(path, F_OK);
}

/* The kernel names the directory TID-FD: the thread that made the VM. */
int vm_add_debugfs(struct vm *vm, const char *place,
		   struct kvmstats_cache *cache)
{
	struct kvmstats_source *source;
	struct dirent *entry;
	char path[300];
	DIR *dir;
	int ret = -ESRCH;

	dir = opendir(place);
	if (!dir)
		return -errno;
	if (!is_first_pid_namespace()) {
		closedir(dir);
		return -EXDEV;
	}
	while ((entry = readdir(dir))) {
		char *end;
		long tid = strtol(entry->d_name, &end, 10);
		int error;

		if (tid <= 0 || *end != '-' || !has_thread(vm->pid, tid))
			continue;
		snprintf(path, sizeof(path), "%s/%s", place, entry->d_name);
		error = kvmstats_source_open_debugfs(path, cache, &source);
		if (!error)
			error = vm_add(vm, source, atoi(end + 1), true);
		if (error || ret == -ESRCH)
			ret = error;
	}
	closedir(dir);
	return ret;
}

/* The finder closes their sources: before that, forget them. */
void vm_drop_gone(struct vm *vm)
{
	for (size_t i = 0; i < kvmstats_vmm_gone_count(vm->vmm); i++) {
		struct kvmstats_source *gone = kvmstats_vmm_gone(vm->vmm, i);

		for (size_t j = 0; j < vm->count; j++)
			if (vm->watches[j].source == gone)
				vm->watches[j].error = -ENODATA;
		vcpus_fail(vm, gone, -ENODATA);
	}
	vm_drop_failed(vm);
}

static bool is_single_vcpu(const struct watch *watch)
{
	return !watch->all && kvmstats_source_scope(watch->source) ==
	       KVMSTATS_SCOPE_VCPU;
}

/*
 * A VMM that sends a descriptor of all vCPUs also sends that of each, for readers
 * that do not know it; a connection is one VM's.
 */
static int receive_source(struct vm *vm, struct kvmstats_source *source, long fd)
{
	enum kvmstats_scope scope = kvmstats_source_scope(source);

	if (scope == KVMSTATS_SCOPE_VCPU && vm->vcpus_count) {
		kvmstats_source_close(source);
		return vcpus_refresh(vm);
	}
	for (size_t i = 0; i < vm->count && scope == KVMSTATS_SCOPE_VCPUS; i++)
		if (is_single_vcpu(&vm->watches[i]))
			vm->watches[i].error = -ENODATA;
	vm_drop_failed(vm);
	return vm_add(vm, source, fd, true);
}

/* Everything that is there. 0: there may be more later; else -errno. */
int vm_receive(struct vm *vm, struct kvmstats_cache *cache)
{
	struct kvmstats_source *sources[KVMSTATS_MAX_MESSAGE_FDS];
	unsigned int rejected;
	int ret, failed = 0;

	ret = kvmstats_peer_receive(vm->peer, cache, sources, &rejected);
	vm->rejected += rejected;
	for (int i = 0; i < ret; i++) {
		/* the number here: over there it is not known, or none */
		int error = receive_source(vm, sources[i],
					   kvmstats_source_fd(sources[i]));

		failed = error ? error : failed;
	}
	if (failed)
		return failed;
	return ret == -EAGAIN ? 0 : ret;
}

/* An open descriptor keeps the memory of a VM that has ended. */
void vm_close_sources(struct vm *vm)
{
	for (size_t i = 0; i < vm->count; i++)
		watch_end(&vm->watches[i]);
	vm->count = 0;
	vcpus_drop(vm, true);
}

void vm_free(struct vm *vm)
{
	vm_close_sources(vm);
	free(vm->watches);
	free(vm->vcpus);
	kvmstats_peer_free(vm->peer);
	kvmstats_vmm_free(vm->vmm);
	free(vm->name);
	free(vm);
}

void vm_sample(struct vm *vm)
{
	for (size_t i = 0; i < vm->count; i++)
		if (!vm->watches[i].all)
			watch_sample(&vm->watches[i]);
	vcpus_sample(vm);
}

void vm_drop_failed(struct vm *vm)
{
	size_t kept = 0;

	for (size_t i = 0; i < vm->count; i++) {
		if (vm->watches[i].error)
			watch_end(&vm->watches[i]);
		else
			vm->watches[kept++] = vm->watches[i];
	}
	vm->count = kept;
	vcpus_drop(vm, false);
}

void vm_reset(struct vm *vm, bool include_past)
{
	for (size_t i = 0; i < vm->count; i++) {
		struct watch *watch = &vm->watches[i];
		struct kvmstats_schema *schema =
			kvmstats_source_schema(watch->source);
		size_t bytes = kvmstats_schema_words(schema) * sizeof(uint64_t);

		if (include_past)
			memset(watch->base, 0, bytes);
		else
			memcpy(watch->base, watch->now, bytes);
	}
}

/* ---- how long the VMM's threads ran, and waited to run */

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
