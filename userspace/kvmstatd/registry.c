// SPDX-License-Identifier: GPL-2.0-only
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "store.h"

const char *const reject_names[REJECTS] = {
	[REJECT_CREDENTIALS]	= "credentials",
	[REJECT_MALFORMED]	= "malformed",
	[REJECT_SILENT]		= "silent",
	[REJECT_VMS]		= "too_many_vms",
	[REJECT_DESCRIPTORS]	= "too_many_descriptors",
	[REJECT_MESSAGES]	= "too_many_messages",
	[REJECT_BEHALF]		= "on_behalf",
};

static int plan_again(struct registry *registry, const struct filter *filter)
{
	struct plan *plan = plan_new(registry->schemas, registry->scopes,
				     registry->num_schemas, filter);

	if (!plan)
		return -ENOMEM;
	plan_unref(registry->plan);
	registry->plan = plan;
	return 0;
}

int registry_open(struct registry *registry, const struct filter *filter)
{
	memset(registry, 0, sizeof(*registry));
	pthread_mutex_init(&registry->lock, NULL);
	registry->next_serial = 1;
	registry->counters.heartbeat_ns = clock_ns();
	if (kvmstats_batch_new(0, &registry->batch))
		return -ENOMEM;
	return plan_again(registry, filter);
}

void registry_close(struct registry *registry)
{
	for (size_t i = 0; i < registry->count; i++)
		vm_unref(registry->vms[i]);
	free(registry->vms);
	for (size_t i = 0; i < registry->num_schemas; i++)
		kvmstats_schema_unref(registry->schemas[i]);
	plan_unref(registry->plan);
	kvmstats_batch_free(registry->batch);
	pthread_mutex_destroy(&registry->lock);
}

int registry_set_filter(struct registry *registry, const struct filter *filter)
{
	int ret;

	pthread_mutex_lock(&registry->lock);
	ret = plan_again(registry, filter);
	pthread_mutex_unlock(&registry->lock);
	return ret;
}

static bool key_in_use(const struct registry *registry, const char *key)
{
	for (size_t i = 0; i < registry->count; i++)
		if (!strcmp(registry->vms[i]->key, key))
			return true;
	return false;
}

/*
 * The name, for as long as no other VM has it. It is fixed for the life of
 * the VM: series that change their name are worth nothing.
 */
static char *choose_key(const struct registry *registry,
			const struct identity *identity, const char *wanted)
{
	const char *name = *identity->name ? identity->name : identity->uuid;
	char *key;

	if (wanted && !key_in_use(registry, wanted))
		return strdup(wanted);
	if (!*name)
		name = "unnamed";
	if (!key_in_use(registry, name))
		return strdup(name);
	for (unsigned int attempt = 1;; attempt++) {
		int ret = attempt == 1 ?
			asprintf(&key, "%s#%d", name, identity->pid) :
			asprintf(&key, "%s#%d.%u", name, identity->pid, attempt);

		if (ret < 0)
			return NULL;
		if (!key_in_use(registry, key))
			return key;
		free(key);
	}
}

static int make_room(struct registry *registry)
{
	size_t room = registry->room ? 2 * registry->room : 16;
	struct vm **vms;

	if (registry->count < registry->room)
		return 0;
	vms = realloc(registry->vms, room * sizeof(*vms));
	if (!vms)
		return -ENOMEM;
	registry->vms = vms;
	registry->room = room;
	return 0;
}

static int add_locked(struct registry *registry, struct identity *identity,
		      const char *key, struct vm **result)
{
	struct vm *vm;

	if (make_room(registry)) {
		identity_free(identity);
		return -ENOMEM;
	}
	vm = vm_new(identity, choose_key(registry, identity, key));
	if (!vm)
		return -ENOMEM;
	vm->serial = registry->next_serial++;
	vm->registered = true;
	registry->vms[registry->count++] = vm_ref(vm);
	registry->counters.registrations++;
	*result = vm;
	return 0;
}

int registry_add(struct registry *registry, struct identity *identity,
		 const char *key, struct vm **vm)
{
	int ret;

	pthread_mutex_lock(&registry->lock);
	ret = add_locked(registry, identity, key, vm);
	pthread_mutex_unlock(&registry->lock);
	return ret;
}

/* Its number, or -ENOSPC, -ENOMEM. A new one makes a new plan. */
static int schema_index(struct registry *registry,
			const struct kvmstats_source *source,
			const struct filter *filter)
{
	struct kvmstats_schema *schema = kvmstats_source_schema(source);
	enum kvmstats_scope scope = kvmstats_source_scope(source);
	size_t count = registry->num_schemas;
	int ret;

	for (size_t i = 0; i < count; i++)
		if (registry->schemas[i] == schema &&
		    registry->scopes[i] == scope)
			return i;
	if (count == MAX_SCHEMAS)
		return -ENOSPC;
	registry->schemas[count] = kvmstats_schema_ref(schema);
	registry->scopes[count] = scope;
	registry->num_schemas++;
	ret = plan_again(registry, filter);
	if (!ret)
		return count;
	registry->num_schemas--;
	kvmstats_schema_unref(schema);
	return ret;
}

/* Where @vcpu is, or belongs. */
static size_t entry_position(const struct vm *vm, int vcpu, bool *present)
{
	size_t low = 0, high = vm->count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (vm->entries[middle].vcpu < vcpu)
			low = middle + 1;
		else
			high = middle;
	}
	*present = low < vm->count && vm->entries[low].vcpu == vcpu;
	return low;
}

static int insert_entry(struct vm *vm, size_t position,
			const struct entry *entry)
{
	struct entry *entries = realloc(vm->entries, (vm->count + 1) *
					sizeof(*entries));

	if (!entries)
		return -ENOMEM;
	vm->entries = entries;
	memmove(entries + position + 1, entries + position,
		(vm->count - position) * sizeof(*entries));
	entries[position] = *entry;
	vm->count++;
	return 0;
}

/*
 * Of two descriptors of one vCPU the later one counts: that vCPU was taken
 * away and is new.
 */
static int add_source(struct registry *registry, struct vm *vm,
		      struct kvmstats_source *source,
		      const struct settings *settings,
		      struct kvmstats_source **replaced)
{
	struct entry entry = {
		.source = source, .vcpu = kvmstats_source_vcpu(source),
	};
	int schema = schema_index(registry, source, &settings->filter);
	bool present;
	size_t position = entry_position(vm, entry.vcpu, &present);

	if (schema < 0)
		return schema;
	entry.schema = schema;
	if (present) {
		*replaced = vm->entries[position].source;
		entry.labels = vm->entries[position].labels;
		vm->entries[position] = entry;
		return 0;
	}
	if (vm->count >= settings->max_fds_per_vm)
		return -ENOSPC;
	if (vm_set_id(vm, source))
		return -ENOMEM;
	entry.labels = vm_labels(vm, entry.vcpu);
	if (!entry.labels || insert_entry(vm, position, &entry)) {
		free(entry.labels);
		return -ENOMEM;
	}
	registry->fds++;
	return 0;
}

int registry_add_sources(struct registry *registry, struct vm *vm,
			 struct kvmstats_source **sources, size_t count,
			 const struct settings *settings)
{
	struct counters *counters = &registry->counters;
	size_t to_close = 0, i;
	int ret = 0;

	pthread_mutex_lock(&registry->lock);
	for (i = 0; i < count && !ret; i++) {
		struct kvmstats_source *replaced = NULL;

		ret = add_source(registry, vm, sources[i], settings, &replaced);
		if (ret) {
			sources[to_close++] = sources[i];
			continue;
		}
		counters->fds_accepted++;
		if (replaced) {
			sources[to_close++] = replaced;
			counters->fds_replaced++;
		}
	}
	pthread_mutex_unlock(&registry->lock);
	counters->fds_rejected += ret ? 1 + count - i : 0;
	while (i < count)
		sources[to_close++] = sources[i++];
	reap(sources, to_close, false);
	return ret;
}

static void take_out(struct registry *registry, struct vm *vm)
{
	for (size_t i = 0; i < registry->count; i++) {
		if (registry->vms[i] != vm)
			continue;
		memmove(registry->vms + i, registry->vms + i + 1,
			(--registry->count - i) * sizeof(*registry->vms));
		return;
	}
}

/* The labels stay, for scrapes that are under way. */
static size_t take_sources(struct vm *vm, struct kvmstats_source **sources)
{
	size_t count = 0;

	for (size_t i = 0; i < vm->count; i++) {
		if (vm->entries[i].source)
			sources[count++] = vm->entries[i].source;
		vm->entries[i].source = NULL;
	}
	return count;
}

void registry_remove(struct registry *registry, struct vm *vm)
{
	struct kvmstats_source **sources;
	size_t count;

	pthread_mutex_lock(&registry->lock);
	take_out(registry, vm);
	vm->registered = false;
	registry->fds -= vm->count;
	sources = calloc(vm->count + 1, sizeof(*sources));
	count = sources ? take_sources(vm, sources) : 0;
	registry->counters.ended++;
	pthread_mutex_unlock(&registry->lock);
	store_forget(vm->serial);
	reap(sources, count, true);
	free(sources);
	vm_unref(vm);
}
