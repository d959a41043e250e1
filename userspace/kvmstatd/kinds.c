// SPDX-License-Identifier: GPL-2.0-only
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "kinds.h"

/* The main thread alone changes what it is made of; scrapes need not wait. */
int kinds_plan(struct registry *registry, size_t num_kinds,
	       const struct filters *filters)
{
	struct plan *before = registry->plan;
	struct plan *plan = plan_new(registry->kinds, num_kinds,
				     &filters->metrics, before);

	if (!plan)
		return -ENOMEM;
	pthread_mutex_lock(&registry->lock);
	registry->plan = plan;
	registry->num_kinds = num_kinds;
	pthread_mutex_unlock(&registry->lock);
	plan_unref(before);
	return 0;
}

/*
 * Where a new kind goes. Of what programs publish there are only so many; one
 * that no VM has any more makes room.
 */
static int free_kind(const struct registry *registry, enum kvmstats_scope scope)
{
	size_t count = registry->num_kinds, published = 0;
	int unused = -ENOSPC;

	for (size_t i = 0; i < count; i++) {
		if (registry->kinds[i].scope != KVMSTATS_SCOPE_DEVICE)
			continue;
		published++;
		if (!registry->users[i])
			unused = i;
	}
	if (scope == KVMSTATS_SCOPE_DEVICE && published >= MAX_PUBLISHED)
		return unused;
	return count < MAX_SCHEMAS ? (int)count : -ENOSPC;
}

int kinds_index(struct registry *registry, struct vm *vm,
		const struct kvmstats_source *source,
		const struct filters *filters)
{
	const char *class_name = kvmstats_source_class(source);
	struct source_kind *kinds = registry->kinds, before;
	struct source_kind kind = {
		.schema = kvmstats_source_schema(source),
		.scope = kvmstats_source_scope(source),
	};
	size_t count = registry->num_kinds;
	int place, ret;

	/* what it has are vCPUs */
	if (kind.scope == KVMSTATS_SCOPE_VCPUS)
		kind.scope = KVMSTATS_SCOPE_VCPU;
	for (size_t i = 0; i < count; i++)
		if (kinds[i].schema == kind.schema &&
		    kinds[i].scope == kind.scope &&
		    !strcmp(kinds[i].class_name, class_name))
			return i;
	if (vm && kind.scope == KVMSTATS_SCOPE_DEVICE &&
	    vm->new_kinds == KINDS_PER_VM)
		return -EDQUOT;
	place = free_kind(registry, kind.scope);
	if (place < 0)
		return place;
	if (vm && kind.scope == KVMSTATS_SCOPE_DEVICE)
		vm->new_kinds++;
	strcpy(kind.class_name, class_name);
	before = kinds[place];
	kinds[place] = kind;
	ret = kinds_plan(registry, (size_t)place < count ? count : count + 1,
			 filters);
	if (ret) {
		kinds[place] = before;
		return ret;
	}
	kvmstats_schema_ref(kind.schema);
	if ((size_t)place < count)
		kvmstats_schema_unref(before.schema);
	return place;
}

int registry_reserve_names(struct registry *registry,
			   struct kvmstats_cache *cache,
			   const struct filters *filters)
{
	struct kvmstats_source *source;
	struct kvmstats_block *block;
	int ret = kvmstats_block_new("none", NULL, &block), fd;

	if (ret)
		return ret;
	fd = dup(kvmstats_device_fd(kvmstats_block_device(block)));
	ret = fd < 0 ? -errno : kvmstats_source_open(fd, cache, &source);
	kvmstats_block_free(block);
	if (ret) {
		if (fd >= 0)
			close(fd);
		return ret;
	}
	ret = kinds_index(registry, NULL, source, filters);
	if (ret >= 0) {
		registry->users[ret]++;
		registry->reserved++;
	}
	kvmstats_source_close(source);
	return ret < 0 ? ret : 0;
}
