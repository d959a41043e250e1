// SPDX-License-Identifier: GPL-2.0-only
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "../common/log.h"
#include "entry.h"
#include "vcpus.h"

static struct log_limit limit = LOG_LIMIT(20);

/* What is to be closed when the locks are given up. */
struct replaced {
	struct kvmstats_source **sources;
	size_t count;
};

/* Of a vCPU that has a descriptor of its own it takes the place. */
static int add_vcpu(struct registry *registry, struct vm *vm, int vcpu,
		    const struct settings *settings, struct replaced *replaced)
{
	struct entry entry = {
		.vcpu = vcpu, .class_name = "", .device = "",
		.schema = vm->vcpus_schema, .sched_fd = -1, .joined = true,
		.record = vm->num_joined,
	};
	bool present;
	size_t position = entry_position(vm, &entry, &present);
	struct entry *old = &vm->entries[position];

	if (present) {
		if (old->source) {
			replaced->sources[replaced->count++] = old->source;
			registry->fds--;
		}
		registry->users[old->schema]--;
		old->source = NULL;
		old->schema = entry.schema;
		old->joined = true;
		old->record = entry.record;
	} else {
		if (vm->count >= settings->max_fds_per_vm)
			return -ENOSPC;
		if (entry_make_labels(vm, &entry))
			return -ENOMEM;
		if (entry_insert(vm, position, &entry)) {
			free(entry.labels);
			return -ENOMEM;
		}
	}
	registry->users[entry.schema]++;
	vm->num_joined++;
	return 0;
}

/* vCPUs do not go, and their records are in the order of their creation. */
static int add_new(struct registry *registry, struct vm *vm,
		   const struct settings *settings, struct replaced *replaced)
{
	int vcpu, ret = 0;

	vm->more_vcpus = false;
	while (!ret && vm->vcpus) {
		vcpu = kvmstats_vcpus_number_at(vm->vcpus, vm->num_joined);
		if (vcpu < 0)
			return vcpu == -ENODATA ? 0 : vcpu;
		ret = add_vcpu(registry, vm, vcpu, settings, replaced);
	}
	return ret;
}

/* All other threads wait while entries come: scrapes, and the search for threads. */
static void lock(struct registry *registry)
{
	pthread_mutex_lock(&registry->lock);
	pthread_mutex_lock(&registry->cpu_lock);
}

static void unlock(struct registry *registry)
{
	pthread_mutex_unlock(&registry->cpu_lock);
	pthread_mutex_unlock(&registry->lock);
}

/* As if its vCPUs had been lost; they get their places again. */
static struct kvmstats_source *take_out(struct registry *registry, struct vm *vm)
{
	struct kvmstats_source *source = vm->vcpus;

	if (!source)
		return NULL;
	for (size_t i = 0; i < vm->count; i++)
		vm->entries[i].joined = false;
	registry->fds--;
	vm->vcpus = NULL;
	vm->num_joined = 0;
	return source;
}

struct kvmstats_source *vcpus_lose(struct registry *registry, struct vm *vm)
{
	return take_out(registry, vm);
}

int vcpus_add(struct registry *registry, struct vm *vm,
	      struct kvmstats_source *source, int kind,
	      const struct settings *settings, bool *changed)
{
	struct replaced replaced = {
		.sources = calloc(vm->count + 2, sizeof(*replaced.sources)),
	};
	struct kvmstats_source *old;
	int ret;

	if (!replaced.sources)
		return -ENOMEM;
	lock(registry);
	old = take_out(registry, vm);
	if (old)
		replaced.sources[replaced.count++] = old;
	vm->vcpus = source;
	vm->vcpus_schema = kind;
	registry->fds++;
	ret = add_new(registry, vm, settings, &replaced);
	if (ret)	/* it stays the caller's */
		take_out(registry, vm);
	unlock(registry);
	registry->counters.fds_replaced += replaced.count;
	*changed |= replaced.count > 0;
	close_sources(replaced.sources, replaced.count, false);
	free(replaced.sources);
	return ret;
}

static int refresh(struct registry *registry, struct vm *vm,
		   const struct settings *settings)
{
	struct replaced replaced = {
		.sources = calloc(vm->count + 1, sizeof(*replaced.sources)),
	};
	int ret;

	if (!replaced.sources)
		return -ENOMEM;
	lock(registry);
	ret = add_new(registry, vm, settings, &replaced);
	unlock(registry);
	close_sources(replaced.sources, replaced.count, false);
	free(replaced.sources);
	return ret;
}

static bool brings_all(struct kvmstats_source *const *sources, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (kvmstats_source_scope(sources[i]) == KVMSTATS_SCOPE_VCPUS)
			return true;
	return false;
}

/* A scrape may lose it at any moment: what a vCPU brings by then is too late. */
static bool has_all(struct registry *registry, const struct vm *vm)
{
	bool has;

	pthread_mutex_lock(&registry->lock);
	has = vm->vcpus;
	pthread_mutex_unlock(&registry->lock);
	return has;
}

int vcpus_drop_single(struct registry *registry, struct vm *vm,
		      struct kvmstats_source **sources, size_t count,
		      const struct settings *settings)
{
	struct kvmstats_source *single[KVMSTATS_MAX_MESSAGE_FDS];
	size_t kept = 0, dropped = 0;
	int ret;

	if (!has_all(registry, vm) && !brings_all(sources, count))
		return count;
	for (size_t i = 0; i < count; i++) {
		if (kvmstats_source_scope(sources[i]) == KVMSTATS_SCOPE_VCPU)
			single[dropped++] = sources[i];
		else
			sources[kept++] = sources[i];
	}
	close_sources(single, dropped, false);
	registry->counters.fds_accepted += dropped;
	registry->counters.fds_replaced += dropped;
	ret = dropped ? refresh(registry, vm, settings) : 0;
	if (!ret)
		return kept;
	close_sources(sources, kept, false);
	return ret;
}

void vcpus_add_seen(struct registry *registry, const struct settings *settings)
{
	if (!registry->more_vcpus)
		return;
	registry->more_vcpus = false;
	for (size_t i = 0; i < registry->count; i++) {
		struct vm *vm = registry->vms[i];
		int ret = vm->more_vcpus ? refresh(registry, vm, settings) : 0;

		if (ret)
			log_limited(&limit, LOG_LEVEL_WARNING,
				    "a new vCPU of VM \"%s\" has no room: %s",
				    vm->key, ret == -ENOSPC ?
				    "there are as many as --max-fds-per-vm allows" :
				    strerror(-ret));
	}
}
