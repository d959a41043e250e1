// SPDX-License-Identifier: GPL-2.0-only
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "exposition.h"
#include "scrape.h"
#include "sources.h"
#include "store.h"

const char *const reject_names[REJECTS] = {
	[REJECT_NONE]		= "",
	[REJECT_CREDENTIALS]	= "credentials",
	[REJECT_MALFORMED]	= "malformed",
	[REJECT_SILENT]		= "silent",
	[REJECT_VMS]		= "too_many_vms",
	[REJECT_DESCRIPTORS]	= "too_many_descriptors",
	[REJECT_MESSAGES]	= "too_many_messages",
	[REJECT_BEHALF]		= "on_behalf",
	[REJECT_CLOSING]	= "too_many_to_close",
	[REJECT_RESOURCES]	= "out_of_resources",
};

const char *const phase_names[PHASES] = {
	[PHASE_HEAD]	= "head",
	[PHASE_IDLE]	= "idle",
	[PHASE_READING]	= "reading",
};

/* ------------------------------------------------------------------- VMs */

void identity_free(struct identity *identity)
{
	free(identity->name);
	free(identity->uuid);
}

/* The kernel's time of boot, which a clock that is slewed does not move. */
static uint64_t boot_time_s(void)
{
	FILE *file = fopen("/proc/stat", "re");
	unsigned long long seconds = 0;
	char *line = NULL;
	size_t room = 0;

	while (file && getline(&line, &room, file) >= 0)
		if (sscanf(line, "btime %llu", &seconds) == 1)
			break;
	free(line);
	if (file)
		fclose(file);
	return seconds;
}

uint64_t identity_start_ms(const struct identity *identity)
{
	uint64_t boot_s = identity->start_ticks ? boot_time_s() : 0;

	if (!boot_s)
		return 0;
	return boot_s * 1000 + identity->start_ticks * 1000 /
	       sysconf(_SC_CLK_TCK);
}

static int make_labels(struct vm *vm)
{
	FILE *out = open_memstream(&vm->labels.bytes, &vm->labels.length);

	if (!out)
		return -ENOMEM;
	fputs("{vm=\"", out);
	escape_label(out, vm->key);
	fputs("\"} ", out);
	return fclose(out) ? -ENOMEM : 0;
}

static void put_label(FILE *out, const char *name, const char *value)
{
	fprintf(out, ",%s=\"", name);
	escape_label(out, value);
	fputc('"', out);
}

static int make_info(struct vm *vm, const char *id)
{
	const struct identity *identity = &vm->identity;
	FILE *out = open_memstream(&vm->info.bytes, &vm->info.length);

	if (!out)
		return -ENOMEM;
	fprintf(out, "kvm_vm_info%.*s", (int)vm->labels.length - 2,
		vm->labels.bytes);
	put_label(out, "name", identity->name);
	put_label(out, "uuid", identity->uuid);
	fprintf(out, ",pid=\"%d\",uid=\"%u\",registered_by=\"%s\"",
		identity->pid, identity->uid,
		identity->on_behalf ? "helper" : "vmm");
	put_label(out, "id", id);
	fputs("} 1\n", out);
	return fclose(out) ? -ENOMEM : 0;
}

int vm_set_id(struct vm *vm, struct kvmstats_source *const *sources,
	      size_t count)
{
	char vm_id[KVMSTATS_MAX_NAME_SIZE];
	const char *id = "";

	if (vm->info.bytes)
		return 0;
	/* what a VM publishes has an id of its own choice */
	for (size_t i = 0; i < count && !*id; i++)
		if (kvmstats_source_scope(sources[i]) != KVMSTATS_SCOPE_DEVICE)
			id = kvmstats_source_id(sources[i]);
	snprintf(vm_id, sizeof(vm_id), "%.*s", (int)strcspn(id, "/"), id);
	return make_info(vm, vm_id);
}

struct vm *vm_new(struct identity *identity, char *key)
{
	struct vm *vm = calloc(1, sizeof(*vm));

	if (!vm || !key) {
		free(vm);
		free(key);
		identity_free(identity);
		return NULL;
	}
	vm->refs = 1;
	vm->identity = *identity;
	vm->pidfd = -1;
	vm->key = key;
	vm->since_ns = clock_ns();
	if (!make_labels(vm))
		return vm;
	vm_unref(vm);
	return NULL;
}

struct vm *vm_ref(struct vm *vm)
{
	vm->refs++;
	return vm;
}

void vm_unref(struct vm *vm)
{
	if (!vm || --vm->refs)
		return;
	for (size_t i = 0; i < vm->count; i++) {
		cpu_forget_thread(&vm->entries[i]);
		kvmstats_source_close(vm->entries[i].source);
		free(vm->entries[i].labels);
	}
	kvmstats_source_close(vm->vcpus);
	for (size_t i = 0; vm->waiting && i < vm->waiting->count; i++)
		kvmstats_source_close(vm->waiting->sources[i]);
	free(vm->waiting);
	free(vm->entries);
	identity_free(&vm->identity);
	free(vm->key);
	free(vm->labels.bytes);
	free(vm->info.bytes);
	free(vm);
}

/* ----------------------------------------------------------------- kinds */

/* The main thread alone changes what it is made of; scrapes need not wait. */
static int make_plan(struct registry *registry, size_t num_kinds,
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
static int free_kind(const struct registry *registry, enum kvmstats_scope scope,
		     uid_t uid)
{
	size_t count = registry->num_kinds, published = 0, of_user = 0;
	int unused = -ENOSPC;

	for (size_t i = registry->reserved; i < count; i++) {
		if (registry->kinds[i].scope != KVMSTATS_SCOPE_DEVICE)
			continue;
		published++;
		if (!registry->users[i])
			unused = i;
		else if (registry->kind_uids[i] == uid)
			of_user++;
	}
	if (scope == KVMSTATS_SCOPE_DEVICE && of_user >= KINDS_PER_UID)
		return -EUSERS;
	if (scope == KVMSTATS_SCOPE_DEVICE && published >= MAX_PUBLISHED)
		return unused;
	return count < MAX_SCHEMAS ? (int)count : -ENFILE;
}

/* Of what a helper has found: the process's, not the helper's. */
static uid_t find_owner(const struct vm *vm)
{
	uid_t uid = vm->identity.uid;
	char path[32], line[256];
	FILE *file;

	if (!vm->identity.on_behalf)
		return uid;
	snprintf(path, sizeof(path), "/proc/%d/status", vm->identity.pid);
	file = fopen(path, "re");
	while (file && fgets(line, sizeof(line), file))
		if (sscanf(line, "Uid: %u", &uid) == 1)
			break;
	if (file)
		fclose(file);
	return uid;
}

/* Each device that waits asks, each second. */
static uid_t owner_of(struct vm *vm)
{
	if (!vm->owner_known)
		vm->owner = find_owner(vm);
	vm->owner_known = true;
	return vm->owner;
}

void registry_leave_kind(struct registry *registry, size_t kind)
{
	if (!--registry->users[kind]) {
		registry->retry = true;
	} else if (registry->kinds[kind].scope == KVMSTATS_SCOPE_DEVICE) {
		registry->kind_left[kind] = true;
		registry->any_left = true;
	}
}

/* Each kind that someone has left: another who has it, unless its user still does. */
static void find_heirs(struct registry *registry, bool *has_heir, uid_t *heirs)
{
	for (size_t i = 0; i < registry->count; i++) {
		struct vm *vm = registry->vms[i];

		/* devices are behind all others */
		for (size_t j = vm->count; j-- > 0 && *vm->entries[j].device;) {
			size_t kind = vm->entries[j].schema;

			if (!registry->kind_left[kind])
				continue;
			has_heir[kind] = true;
			heirs[kind] = owner_of(vm);
			if (heirs[kind] == registry->kind_uids[kind])
				registry->kind_left[kind] = false;
		}
	}
}

void registry_pass_kinds(struct registry *registry)
{
	bool has_heir[MAX_SCHEMAS] = { false };
	uid_t heirs[MAX_SCHEMAS];

	if (!registry->any_left)
		return;
	registry->any_left = false;
	find_heirs(registry, has_heir, heirs);
	for (size_t i = registry->reserved; i < registry->num_kinds; i++) {
		if (!registry->kind_left[i])
			continue;
		registry->kind_left[i] = false;
		if (!has_heir[i])
			continue;
		registry->kind_uids[i] = heirs[i];
		registry->retry = true;
	}
}

int registry_kind(struct registry *registry, struct vm *vm,
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
	uid_t uid = 0;
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
	if (vm && kind.scope == KVMSTATS_SCOPE_DEVICE)
		uid = owner_of(vm);
	place = free_kind(registry, kind.scope, uid);
	if (place < 0)
		return place;
	if (vm && kind.scope == KVMSTATS_SCOPE_DEVICE)
		vm->new_kinds++;
	strcpy(kind.class_name, class_name);
	before = kinds[place];
	kinds[place] = kind;
	ret = make_plan(registry, (size_t)place < count ? count : count + 1,
			filters);
	if (ret) {
		kinds[place] = before;
		return ret;
	}
	registry->kind_uids[place] = uid;
	registry->kind_left[place] = false;
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
	ret = registry_kind(registry, NULL, source, filters);
	if (ret >= 0) {
		registry->users[ret]++;
		registry->reserved++;
	}
	kvmstats_source_close(source);
	return ret < 0 ? ret : 0;
}

/* -------------------------------------------------------------- registry */

int registry_open(struct registry *registry, const struct filters *filters)
{
	memset(registry, 0, sizeof(*registry));
	pthread_mutex_init(&registry->lock, NULL);
	pthread_mutex_init(&registry->cpu_lock, NULL);
	pthread_cond_init(&registry->search_due, NULL);
	registry->search_last = &registry->search_first;
	registry->next_serial = 1;
	registry->opened_ns = clock_ns();
	registry->counters.heartbeat_ns = registry->opened_ns;
	if (kvmstats_batch_new(0, &registry->batch))
		return -ENOMEM;
	return make_plan(registry, 0, filters);
}

void registry_close(struct registry *registry)
{
	cpu_stop(registry);
	for (size_t i = 0; i < registry->count; i++)
		vm_unref(registry->vms[i]);
	free(registry->vms);
	for (size_t i = 0; i < registry->num_kinds; i++)
		kvmstats_schema_unref(registry->kinds[i].schema);
	plan_unref(registry->plan);
	kvmstats_batch_free(registry->batch);
	pthread_cond_destroy(&registry->search_due);
	pthread_mutex_destroy(&registry->cpu_lock);
	pthread_mutex_destroy(&registry->lock);
}

int registry_set_filters(struct registry *registry,
			 const struct filters *filters)
{
	int ret = make_plan(registry, registry->num_kinds, filters);

	pthread_mutex_lock(&registry->lock);
	for (size_t i = 0; i < registry->count && !ret; i++)
		registry->vms[i]->hidden =
			!filter_passes(&filters->vms, registry->vms[i]->key);
	pthread_mutex_unlock(&registry->lock);
	return ret;
}

/* FNV-1a */
static struct vm **key_bucket(struct registry *registry, const char *key)
{
	uint32_t hash = 2166136261u;

	for (; *key; key++)
		hash = (hash ^ (unsigned char)*key) * 16777619u;
	return &registry->by_key[hash % KEY_BUCKETS];
}

/* That has the key alone, and may share it with a new one of this identity. */
static struct vm *find_partner(struct registry *registry, const char *key,
			       const struct identity *identity)
{
	struct vm *vm = *key_bucket(registry, key);

	while (vm && strcmp(vm->key, key))
		vm = vm->next_key;
	return vm && !vm->partner && identity->start_ticks &&
	       vm->identity.start_ticks == identity->start_ticks &&
	       vm->identity.pid == identity->pid &&
	       vm->identity.on_behalf != identity->on_behalf ? vm : NULL;
}

static void part(struct registry *registry, struct vm *vm)
{
	struct vm *partner = vm->partner;

	if (!partner)
		return;
	vm->partner = NULL;
	partner->partner = NULL;
	registry->num_pairs--;
	vm_cover(vm);
	vm_cover(partner);
}

size_t registry_num_vms(const struct registry *registry)
{
	return registry->count - registry->num_pairs;
}

static bool key_in_use(struct registry *registry, const char *key)
{
	const struct vm *vm = *key_bucket(registry, key);

	while (vm && strcmp(vm->key, key))
		vm = vm->next_key;
	return vm;
}

/*
 * The name, for as long as no other VM has it. It is fixed for the life of
 * the VM: series that change their name are worth nothing. The serial number is
 * not used again, so that no search is long.
 */
static char *choose_key(struct registry *registry,
			const struct identity *identity, const char *wanted,
			bool shared)
{
	const char *name = *identity->name ? identity->name : identity->uuid;
	unsigned int attempt = 0;
	char *key = NULL;

	if (wanted && (shared || !key_in_use(registry, wanted)))
		return strdup(wanted);
	if (!*name)
		name = "unnamed";
	if (!key_in_use(registry, name))
		return strdup(name);
	do {
		int ret;

		free(key);
		ret = !attempt ? asprintf(&key, "%s#%d", name, identity->pid) :
		      asprintf(&key, "%s#%d.%ju", name, identity->pid,
			       (uintmax_t)registry->next_serial + attempt - 1);
		if (ret < 0)
			return NULL;
		attempt++;
	} while (key_in_use(registry, key));
	return key;
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

static int enter_locked(struct registry *registry, struct identity *identity,
			const char *key, const struct filters *filters,
			struct vm **result)
{
	struct vm *vm, *partner = key ? find_partner(registry, key, identity) : NULL;
	struct vm **bucket;

	if (make_room(registry)) {
		identity_free(identity);
		return -ENOMEM;
	}
	vm = vm_new(identity, choose_key(registry, identity, key, partner));
	if (!vm)
		return -ENOMEM;
	if (partner) {
		vm->partner = partner;
		partner->partner = vm;
		registry->num_pairs++;
	}
	vm->serial = registry->next_serial++;
	vm->hidden = !filter_passes(&filters->vms, vm->key);
	bucket = key_bucket(registry, vm->key);
	vm->next_key = *bucket;
	*bucket = vm;
	registry->vms[registry->count++] = vm_ref(vm);
	registry->counters.registrations++;
	*result = vm;
	return 0;
}

int registry_add(struct registry *registry, struct identity *identity,
		 const char *key, const struct filters *filters,
		 struct vm **vm)
{
	int ret;

	pthread_mutex_lock(&registry->lock);
	ret = enter_locked(registry, identity, key, filters, vm);
	pthread_mutex_unlock(&registry->lock);
	return ret;
}

static void take_out(struct registry *registry, struct vm *vm)
{
	struct vm **link = key_bucket(registry, vm->key);

	while (*link != vm)
		link = &(*link)->next_key;
	*link = vm->next_key;
	for (size_t i = 0; i < registry->count; i++) {
		if (registry->vms[i] != vm)
			continue;
		memmove(registry->vms + i, registry->vms + i + 1,
			(--registry->count - i) * sizeof(*registry->vms));
		return;
	}
}

static size_t take_sources(struct registry *registry, struct vm *vm,
			   struct kvmstats_source **sources)
{
	size_t count = 0;

	for (size_t i = 0; i < vm->count; i++) {
		if (!vm->entries[i].source)
			continue;
		registry->fds--;
		if (sources)
			sources[count++] = vm->entries[i].source;
		else	/* without memory it is closed with the VM */
			continue;
		vm->entries[i].source = NULL;
	}
	if (vm->waiting) {
		registry->fds -= vm->waiting->count;
		registry->num_waiting -= vm->waiting->count;
	}
	for (size_t i = 0; sources && vm->waiting && i < vm->waiting->count; i++)
		sources[count++] = vm->waiting->sources[i];
	if (sources) {
		free(vm->waiting);
		vm->waiting = NULL;
	}
	if (vm->vcpus && sources)
		sources[count++] = vcpus_lose(registry, vm);
	else if (vm->vcpus)
		registry->fds--;
	return count;
}

void registry_remove(struct registry *registry, struct vm *vm)
{
	struct kvmstats_source **sources;
	size_t count;

	for (size_t i = 0; i < vm->count; i++)
		registry_leave_kind(registry, vm->entries[i].schema);
	pthread_mutex_lock(&registry->lock);
	part(registry, vm);
	take_out(registry, vm);
	sources = calloc(vm->count + 2 + (vm->waiting ? vm->waiting->count : 0),
			 sizeof(*sources));
	count = take_sources(registry, vm, sources);
	registry->counters.ended++;
	pthread_mutex_unlock(&registry->lock);
	store_forget(registry, vm, sources, count);
	free(sources);
	pthread_mutex_lock(&registry->cpu_lock);
	vm->pidfd = -1;
	pthread_mutex_unlock(&registry->cpu_lock);
	vm_unref(vm);
}
