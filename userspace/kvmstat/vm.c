// SPDX-License-Identifier: GPL-2.0-only
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "vm.h"

uint64_t clock_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000000000ull + now.tv_nsec;
}

/* Takes over @pidfd; NULL without memory. */
struct vm *vm_new(long pid, int pidfd, const char *name)
{
	struct vm *vm = calloc(1, sizeof(*vm));

	if (!vm)
		return NULL;
	vm->name = strdup(name);
	if (!vm->name) {
		free(vm);
		return NULL;
	}
	vm->pid = pid;
	vm->pidfd = pidfd;
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
	vm->pidfd = -1;
	vm->pid = kvmstats_peer_pid(vm->peer);
	if (!kvmstats_peer_uid(vm->peer) ||
	    kvmstats_peer_uid(vm->peer) == geteuid())
		kvmstats_peer_allow_on_behalf(vm->peer);
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
	return vm->peer ? kvmstats_peer_uuid(vm->peer) : "";
}

/* -1: unknown */
long vm_uid(const struct vm *vm)
{
	if (vm->peer)
		return kvmstats_peer_uid(vm->peer);
	return vm->pid ? proc_owner(vm->pid, NULL) : -1;
}

long vm_gid(const struct vm *vm)
{
	long gid = -1;

	if (vm->peer)
		return kvmstats_peer_gid(vm->peer);
	if (vm->pid)
		proc_owner(vm->pid, &gid);
	return gid;
}

int vm_pidfd(const struct vm *vm)
{
	return vm->peer ? kvmstats_peer_pidfd(vm->peer) : vm->pidfd;
}

static void watch_end(struct watch *watch)
{
	kvmstats_source_close(watch->source);
	free(watch->memory);
	memset(watch, 0, sizeof(*watch));
}

static void watch_sample(struct watch *watch)
{
	struct kvmstats_schema *schema = kvmstats_source_schema(watch->source);
	uint64_t *swap = watch->before;

	watch->before = watch->now;
	watch->now = swap;
	watch->before_ns = watch->now_ns;
	watch->error = kvmstats_source_sample(watch->source, watch->now,
					      kvmstats_schema_words(schema));
	watch->now_ns = clock_ns();
	if (!watch->error)
		watch->restarts = kvmstats_delta(schema, watch->before,
						 watch->now, watch->delta);
}

/* The first sample is what the first interval starts from. */
static int watch_start(struct watch *watch, struct kvmstats_source *source)
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
	watch_sample(watch);
	/* no growth yet, but the values of what does not count */
	kvmstats_delta(kvmstats_source_schema(source), watch->now, watch->now,
		       watch->delta);
	memcpy(watch->base, watch->now, words * sizeof(uint64_t));
	watch->fd = -1;
	return watch->error;
}

static int compare_watches(const void *a, const void *b)
{
	const struct watch *x = a, *y = b;
	int i = kvmstats_source_vcpu(x->source);
	int j = kvmstats_source_vcpu(y->source);

	return i != j ? (i > j) - (i < j) : (x->fd > y->fd) - (x->fd < y->fd);
}

/* Takes over @source, on failure too. 0 or -errno. */
int vm_add(struct vm *vm, struct kvmstats_source *source, long fd)
{
	struct watch *watches = realloc(vm->watches, (vm->count + 1) *
					sizeof(*watches));
	int ret = -ENOMEM;

	if (watches) {
		vm->watches = watches;
		ret = watch_start(&watches[vm->count], source);
	}
	if (ret) {
		if (watches)
			free(watches[vm->count].memory);
		kvmstats_source_close(source);
		return ret;
	}
	watches[vm->count++].fd = fd;
	qsort(watches, vm->count, sizeof(*watches), compare_watches);
	return 0;
}

bool vm_has_fd(const struct vm *vm, long fd)
{
	for (size_t i = 0; i < vm->count; i++)
		if (vm->watches[i].fd == fd)
			return true;
	return false;
}

/* Everything that is there. 0: there may be more later; else -errno. */
int vm_receive(struct vm *vm, struct kvmstats_cache *cache)
{
	struct kvmstats_source *sources[KVMSTATS_MESSAGE_FDS];
	unsigned int rejected;
	int ret, failed = 0;

	ret = kvmstats_peer_receive(vm->peer, cache, sources, &rejected);
	vm->rejected += rejected;
	for (int i = 0; i < ret; i++) {
		int error = vm_add(vm, sources[i], -1);

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
}

void vm_free(struct vm *vm)
{
	vm_close_sources(vm);
	free(vm->watches);
	kvmstats_peer_free(vm->peer);
	if (vm->pidfd >= 0)
		close(vm->pidfd);
	free(vm->name);
	free(vm);
}

void vm_sample(struct vm *vm)
{
	for (size_t i = 0; i < vm->count; i++)
		watch_sample(&vm->watches[i]);
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

static bool in_group(const struct group *group, const struct watch *watch)
{
	return kvmstats_source_schema(watch->source) == group->schema &&
	       kvmstats_source_scope(watch->source) == group->scope;
}

/* A watch begins a group if none before it belongs to that group. */
static bool begins_group(const struct vm *vm, const struct group *group,
			 size_t position)
{
	for (size_t i = 0; i < position; i++)
		if (in_group(group, &vm->watches[i]))
			return false;
	return true;
}

static bool group_fill(struct group *group, size_t position)
{
	const struct vm *vm = group->vm;
	size_t words = kvmstats_schema_words(group->schema);
	uint64_t total_ns = 0;

	group->count = 0;
	group->watches = calloc(vm->count, sizeof(*group->watches));
	group->sum = calloc(words + 1, sizeof(*group->sum));
	if (!group->watches || !group->sum) {
		group_free(group);
		return false;
	}
	for (size_t i = position; i < vm->count; i++) {
		const struct watch *watch = &vm->watches[i];

		if (!in_group(group, watch))
			continue;
		group->watches[group->count++] = watch;
		kvmstats_fold(group->schema, KVMSTATS_SUM, group->sum,
			      watch->delta);
		total_ns += watch->now_ns - watch->before_ns;
	}
	group->sum_ns = total_ns / group->count;
	return true;
}

bool group_next(const struct vm *vm, size_t *position, struct group *group)
{
	for (; *position < vm->count; ++*position) {
		struct kvmstats_source *source = vm->watches[*position].source;

		group->vm = vm;
		group->schema = kvmstats_source_schema(source);
		group->scope = kvmstats_source_scope(source);
		if (begins_group(vm, group, *position))
			return group_fill(group, (*position)++);
	}
	return false;
}

void group_free(struct group *group)
{
	free(group->watches);
	free(group->sum);
	group->watches = NULL;
	group->sum = NULL;
}
