// SPDX-License-Identifier: GPL-2.0-only
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../common/log.h"
#include "sources.h"
#include "store.h"

static struct log_limit vcpu_limit = LOG_LIMIT(20), room_limit = LOG_LIMIT(20);
static const char too_many[] =
	"it has as many vCPUs and devices as --max-fds-per-vm allows: raise that, then send SIGHUP";

/* --------------------------------------------------------------- entries */

/*
 * The labels of all series of a descriptor, in one piece of memory, which is the
 * VM's to free; behind them class and name of a device.
 */
static int make_labels(const struct vm *vm, struct entry *entry)
{
	/* the bracket and the blank are written anew behind the number or name */
	size_t length = vm->labels.length, device = strlen(entry->device);
	size_t room = length;
	size_t class_bytes = device ? strlen(entry->class_name) + 1 : 0;
	struct text *labels;
	char *out, *names;

	if (entry->vcpu >= 0)
		room += snprintf(NULL, 0, ",vcpu=\"%d\"", entry->vcpu) + 1;
	else if (device)
		room += sizeof(",device=\"\"") + 2 * device;
	labels = malloc(sizeof(*labels) + room + class_bytes + (device ? device + 1 : 0));
	if (!labels)
		return -ENOMEM;
	labels->bytes = (char *)(labels + 1);
	names = labels->bytes + room;
	memcpy(labels->bytes, vm->labels.bytes, length);
	out = labels->bytes + length - 2;
	if (entry->vcpu >= 0) {
		out += sprintf(out, ",vcpu=\"%d\"} ", entry->vcpu);
	} else if (*entry->device) {
		out += sprintf(out, ",device=\"");
		/* as escape_label does: it has no line ends */
		for (const char *p = entry->device; *p; p++) {
			if (*p == '"' || *p == '\\')
				*out++ = '\\';
			*out++ = *p;
		}
		out += sprintf(out, "\"} ");
	} else {
		out += 2;
	}
	labels->length = out - labels->bytes;
	entry->class_name = device ? strcpy(names, entry->class_name) : "";
	entry->device = device ? strcpy(names + class_bytes, entry->device) : "";
	entry->labels = labels;
	return 0;
}

static int entry_scope(const struct entry *entry)
{
	if (*entry->device)
		return KVMSTATS_SCOPE_DEVICE;
	return entry->vcpu < 0 ? KVMSTATS_SCOPE_VM : KVMSTATS_SCOPE_VCPU;
}

/* As kvmstats_source_compare: an entry may have lost its source. */
static int compare_entries(const struct entry *a, const struct entry *b)
{
	int x = entry_scope(a), y = entry_scope(b);

	if (x == y) {
		x = a->vcpu;
		y = b->vcpu;
	}
	if (x != y)
		return x < y ? -1 : 1;
	x = strcmp(a->class_name, b->class_name);
	return x ? x : strcmp(a->device, b->device);
}

/* Where @entry is, or belongs. */
static size_t find_entry(const struct vm *vm, const struct entry *entry,
			 bool *present)
{
	size_t low = 0, high = vm->count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (compare_entries(&vm->entries[middle], entry) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	*present = low < vm->count &&
		   !compare_entries(&vm->entries[low], entry);
	return low;
}

void vm_cover(struct vm *vm)
{
	/* devices are behind all others */
	for (size_t i = vm->count; i-- > 0 && *vm->entries[i].device;) {
		bool present = false;

		if (vm->partner && vm->identity.on_behalf)
			find_entry(vm->partner, &vm->entries[i], &present);
		vm->entries[i].covered = present;
	}
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
 * All other threads wait while entries come, which may move them: scrapes, and the
 * search for threads.
 */
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

/* ------------------------------------------------- all vCPUs in one descriptor */

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
	size_t position = find_entry(vm, &entry, &present);
	struct entry *old = &vm->entries[position];

	if (present) {
		if (old->source) {
			replaced->sources[replaced->count++] = old->source;
			registry->fds--;
		}
		registry_leave_kind(registry, old->schema);
		old->source = NULL;
		old->schema = entry.schema;
		old->joined = true;
		old->record = entry.record;
	} else {
		if (vm->count >= settings->max_fds_per_vm)
			return -ENOSPC;
		if (make_labels(vm, &entry))
			return -ENOMEM;
		if (insert_entry(vm, position, &entry)) {
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

struct kvmstats_source *vcpus_lose(struct registry *registry, struct vm *vm)
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

/*
 * Takes over @source on success. The descriptors of single vCPUs are closed, and
 * *@changed is set if there were any.
 */
static int add_all_vcpus(struct registry *registry, struct vm *vm,
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
	old = vcpus_lose(registry, vm);
	if (old) {
		replaced.sources[replaced.count++] = old;
		vm->several |= vm->identity.on_behalf;
	}
	vm->vcpus = source;
	vm->vcpus_schema = kind;
	vm->statistics = true;	/* even if there is no vCPU yet */
	registry->fds++;
	ret = add_new(registry, vm, settings, &replaced);
	if (ret)	/* it stays the caller's */
		vcpus_lose(registry, vm);
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
		bool was_full = vm->full;
		int ret;

		if (!vm->more_vcpus)
			continue;
		ret = refresh(registry, vm, settings);
		vm->full = ret == -ENOSPC;
		/* each scrape sees it again */
		if (!ret || (vm->full && was_full))
			continue;
		registry->counters.fds_rejected++;
		log_limited(&vcpu_limit, LOG_LEVEL_WARNING,
			    "a new vCPU of VM \"%s\" is left out: %s", vm->key,
			    vm->full ? too_many : strerror(-ret));
	}
}

/* ------------------------------------------------------------- descriptors */

/* In words of its samples: what 64 disks have, and then half as much again. */
#define WORDS_PER_DEVICE 512

/* Words of all devices' samples with @source's; *@present: its name has an entry. */
static size_t device_words_with(const struct registry *registry, const struct vm *vm,
				const struct kvmstats_source *source, bool *present)
{
	struct entry entry = {
		.vcpu = -1, .class_name = kvmstats_source_class(source),
		.device = kvmstats_source_device(source),
	};
	size_t position = find_entry(vm, &entry, present);
	size_t words = vm->device_words +
		       kvmstats_schema_words(kvmstats_source_schema(source));
	size_t kind;

	if (!*present)
		return words;
	kind = vm->entries[position].schema;
	return words - kvmstats_schema_words(registry->kinds[kind].schema);
}

/*
 * What one VM may make all scrapes carry: 0, -E2BIG or -EMFILE. Before its kind is
 * looked for: one without room must not count as a new one that the VM has brought.
 */
static int check_room(const struct registry *registry, const struct vm *vm,
		      const struct kvmstats_source *source,
		      const struct settings *settings)
{
	unsigned long max = settings->max_devices_per_vm;
	bool present;
	size_t words;

	if (!*kvmstats_source_device(source))
		return 0;
	words = device_words_with(registry, vm, source, &present);
	if (vm->devices + !present > max || words > max * WORDS_PER_DEVICE)
		return -E2BIG;
	return present || vm->count < settings->max_fds_per_vm ? 0 : -EMFILE;
}

/*
 * Of two descriptors of one vCPU, or of one device, the later one counts: that
 * was taken away and is new.
 */
static int add_source(struct registry *registry, struct vm *vm,
		      struct kvmstats_source *source, int kind,
		      const struct settings *settings,
		      struct kvmstats_source **replaced)
{
	struct entry entry = {
		.source = source, .vcpu = kvmstats_source_vcpu(source),
		.class_name = kvmstats_source_class(source),
		.device = kvmstats_source_device(source), .schema = kind,
		.sched_fd = -1,
	};
	bool device = *entry.device, present;
	size_t device_words = device ? device_words_with(registry, vm, source,
							 &present) : 0;
	size_t position = find_entry(vm, &entry, &present);

	if (present) {
		struct entry *old = &vm->entries[position];

		*replaced = old->source;
		/* a helper says all that it has of a process, once */
		vm->several |= *replaced && !device && vm->identity.on_behalf;
		registry->fds += !*replaced;
		registry_leave_kind(registry, old->schema);
		registry->users[kind]++;
		if (device) {
			vm->device_words = device_words;
			registry->retry = true;
		}
		entry.labels = old->labels;
		entry.class_name = old->class_name;
		entry.device = old->device;
		cpu_forget_thread(old);
		*old = entry;
		return 0;
	}
	if (vm->count >= settings->max_fds_per_vm)
		return -ENOSPC;
	if (make_labels(vm, &entry))
		return -ENOMEM;
	if (insert_entry(vm, position, &entry)) {
		free(entry.labels);
		return -ENOMEM;
	}
	registry->users[kind]++;
	registry->fds++;
	vm->statistics |= !device;
	vm->devices += device;
	if (device)
		vm->device_words = device_words;
	return 0;
}

static int add_locked(struct registry *registry, struct vm *vm,
		      struct kvmstats_source *source, int kind,
		      const struct settings *settings,
		      struct kvmstats_source **replaced)
{
	int ret;

	lock(registry);
	ret = add_source(registry, vm, source, kind, settings, replaced);
	if (vm->partner)
		vm_cover(vm->identity.on_behalf ? vm : vm->partner);
	unlock(registry);
	return ret;
}

/* One that waited is no news. */
static void try_waiting(struct registry *registry, struct vm *vm,
			const struct settings *settings)
{
	struct waiting *waiting = vm->waiting;
	bool changed = false;

	vm->waiting = NULL;
	for (size_t i = 0; i < waiting->count; i++) {
		struct kvmstats_source *source = waiting->sources[i], *replaced = NULL;
		int kind, ret = check_room(registry, vm, source, settings);

		registry->num_waiting--;
		registry->fds--;
		kind = ret ? ret : registry_kind(registry, vm, source,
						 &settings->filters);
		ret = kind;
		if (kind >= 0)
			ret = add_locked(registry, vm, source, kind, settings,
					 &replaced);
		if (!ret) {
			registry->counters.fds_accepted++;
			log_limited(&room_limit, LOG_LEVEL_INFO,
				    "VM \"%s\": %s:%s, which was left out, has room now",
				    vm->key, kvmstats_source_class(source),
				    kvmstats_source_device(source));
		} else if (!wait_for_room(registry, vm, source, ret, settings)) {
			replaced = source;
		}
		changed = changed || replaced;
		close_sources(&replaced, replaced ? 1 : 0, false);
	}
	free(waiting);
	if (changed)
		store_again(registry, vm);
}

void registry_try_waiting(struct registry *registry, const struct settings *settings)
{
	registry_pass_kinds(registry);
	if (!registry->retry)
		return;
	registry->retry = false;
	for (size_t i = 0; i < registry->count && registry->num_waiting; i++)
		if (registry->vms[i]->waiting)
			try_waiting(registry, registry->vms[i], settings);
}

int registry_add_sources(struct registry *registry, struct vm *vm,
			 struct kvmstats_source **sources, size_t count,
			 const struct settings *settings, bool *changed)
{
	struct counters *counters = &registry->counters;
	/* a replaced one for each, and one that waited */
	struct kvmstats_source **to_close = calloc(2 * count + 1, sizeof(*to_close));
	size_t num_to_close = 0, i;
	int ret = to_close ? 0 : -ENOMEM;

	*changed = false;
	if (!to_close) {
		counters->fds_rejected += count;
		close_sources(sources, count, false);
		return ret;
	}
	pthread_mutex_lock(&registry->lock);
	ret = vm_set_id(vm, sources, count);
	pthread_mutex_unlock(&registry->lock);
	for (i = 0; i < count && !ret; i++) {
		struct kvmstats_source *replaced = NULL, *before = NULL;
		int kind = check_room(registry, vm, sources[i], settings);

		if (!kind)
			kind = registry_kind(registry, vm, sources[i],
					     &settings->filters);
		ret = kind;
		if (kind >= 0 && kvmstats_source_scope(sources[i]) ==
				 KVMSTATS_SCOPE_VCPUS)
			ret = add_all_vcpus(registry, vm, sources[i], kind,
					    settings, changed);
		else if (kind >= 0)
			ret = add_locked(registry, vm, sources[i], kind,
					 settings, &replaced);
		if (kvmstats_source_scope(sources[i]) == KVMSTATS_SCOPE_DEVICE)
			before = stop_waiting(registry, vm, sources[i]);
		if (before) {
			to_close[num_to_close++] = before;
			*changed = true;
		}
		if (ret && left_out(vm, sources[i], ret, settings)) {
			counters->fds_rejected++;
			if (!wait_for_room(registry, vm, sources[i], ret, settings)) {
				*changed = true;
				to_close[num_to_close++] = sources[i];
			}
			ret = 0;
			continue;
		}
		if (ret) {
			to_close[num_to_close++] = sources[i];
			continue;
		}
		counters->fds_accepted++;
		if (replaced) {
			to_close[num_to_close++] = replaced;
			counters->fds_replaced++;
			*changed = true;
		}
	}
	counters->fds_rejected += ret ? 1 + count - i : 0;
	while (i < count)
		to_close[num_to_close++] = sources[i++];
	close_sources(to_close, num_to_close, false);
	free(to_close);
	return ret;
}
