// SPDX-License-Identifier: GPL-2.0-only
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "vm.h"

uint64_t clock_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000000000ull + now.tv_nsec;
}

int vm_accept(int listen_fd, struct vm **result)
{
	struct vm *vm = calloc(1, sizeof(*vm));
	int ret = vm ? kvmstats_peer_accept(listen_fd, &vm->peer) : -ENOMEM;

	if (ret)
		free(vm);
	else
		*result = vm;
	return ret;
}

const char *vm_name(const struct vm *vm)
{
	const char *name = kvmstats_peer_name(vm->peer);

	return *name ? name : "(no name)";
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
	watch->memory = calloc(3 * words + 1, sizeof(uint64_t));
	if (!watch->memory)
		return -ENOMEM;
	watch->before = watch->memory;
	watch->now = watch->before + words;
	watch->delta = watch->now + words;
	watch->source = source;
	watch_sample(watch);
	memset(watch->delta, 0, words * sizeof(uint64_t));
	return watch->error;
}

static int compare_watches(const void *a, const void *b)
{
	const struct watch *x = a, *y = b;
	int i = kvmstats_source_vcpu(x->source);
	int j = kvmstats_source_vcpu(y->source);

	return (i > j) - (i < j);
}

static int add_sources(struct vm *vm, struct kvmstats_source **sources,
		       int count)
{
	struct watch *watches = realloc(vm->watches, (vm->count + count + 1) *
					sizeof(*watches));
	int failed = 0;

	if (!watches) {
		for (int i = 0; i < count; i++)
			kvmstats_source_close(sources[i]);
		return -ENOMEM;
	}
	vm->watches = watches;
	for (int i = 0; i < count; i++) {
		if (watch_start(&watches[vm->count], sources[i])) {
			kvmstats_source_close(sources[i]);
			free(watches[vm->count].memory);
			failed++;
		} else {
			vm->count++;
		}
	}
	qsort(watches, vm->count, sizeof(*watches), compare_watches);
	return failed ? -EIO : 0;
}

/* Everything that is there. 0: there may be more later; else -errno. */
int vm_receive(struct vm *vm, struct kvmstats_cache *cache)
{
	struct kvmstats_source *sources[KVMSTATS_MESSAGE_FDS];
	unsigned int rejected;
	int ret;

	ret = kvmstats_peer_receive(vm->peer, cache, sources, &rejected);
	vm->rejected += rejected;
	if (ret > 0)
		ret = add_sources(vm, sources, ret);
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
