// SPDX-License-Identifier: GPL-2.0-only
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "scrape.h"
#include "sources.h"

/* All vCPUs of a VM by one read. */
struct joint_read {
	const struct vm *vm;
	uint64_t *records;	/* with room for one more than the VM has entries */
	int count;		/* that were read, or -errno */
};

/* What one pass over all descriptors needs. */
struct pass {
	struct registry *registry;
	struct scrape *scrape;
	struct kvmstats_read *reads;
	size_t count;		/* of reads */
	struct joint_read *joint;
	size_t num_joint;
	size_t words;		/* in all samples */
	struct kvmstats_source **lost;
	size_t num_lost;
};

static size_t joint_words(const struct vm *vm)
{
	return (vm->num_joined + 1) * kvmstats_vcpus_record_words(vm->vcpus);
}

static size_t count_words(const struct registry *registry, size_t *rows)
{
	size_t words = 0;

	memset(rows, 0, KVMSTATS_SCOPES * sizeof(*rows));
	for (size_t i = 0; i < registry->count; i++) {
		const struct vm *vm = registry->vms[i];

		for (size_t j = 0; j < vm->count && !vm->hidden; j++) {
			size_t schema = vm->entries[j].schema;

			if (!vm->entries[j].joined)
				words += kvmstats_schema_words(registry->kinds[schema].schema);
			rows[registry->kinds[schema].scope]++;
		}
		if (vm->vcpus && !vm->hidden)
			words += joint_words(vm);
	}
	return words;
}

static bool allocate(struct pass *pass)
{
	struct registry *registry = pass->registry;
	struct scrape *scrape = pass->scrape;
	size_t rows[KVMSTATS_SCOPES], words = count_words(registry, rows);
	size_t all_rows = 0;
	bool good = true;

	for (int scope = 0; scope < KVMSTATS_SCOPES; scope++) {
		all_rows += rows[scope];
		scrape->rows[scope].row = calloc(rows[scope] + 1,
						 sizeof(struct row));
		good = good && scrape->rows[scope].row;
	}
	scrape->device_end = calloc(MAX_SCHEMAS, sizeof(*scrape->device_end));
	pass->reads = calloc(all_rows + 1, sizeof(*pass->reads));
	pass->joint = calloc(registry->count + 1, sizeof(*pass->joint));
	scrape->samples = malloc((words + 1) * sizeof(*scrape->samples));
	scrape->vms = calloc(registry->count + 1, sizeof(*scrape->vms));
	scrape->joined = calloc(registry->num_pairs + 1, sizeof(*scrape->joined));
	scrape->sum = calloc(registry->plan->largest_histogram + 1,
			     sizeof(*scrape->sum));
	return good && pass->reads && pass->joint && scrape->device_end && scrape->samples &&
	       scrape->vms && scrape->joined && scrape->sum;
}

static bool is_read(const struct entry *entry)
{
	return entry->source && !entry->covered;
}

static void plan_reads(struct pass *pass)
{
	struct registry *registry = pass->registry;
	uint64_t *sample = pass->scrape->samples;

	for (size_t i = 0; i < registry->count; i++) {
		const struct vm *vm = registry->vms[i];

		for (size_t j = 0; j < vm->count && !vm->hidden; j++) {
			size_t schema = vm->entries[j].schema;
			struct kvmstats_read *read;

			if (!is_read(&vm->entries[j]))
				continue;
			read = &pass->reads[pass->count++];
			read->source = vm->entries[j].source;
			read->sample = sample;
			read->words = kvmstats_schema_words(registry->kinds[schema].schema);
			sample += read->words;
		}
		if (!vm->vcpus || vm->hidden)
			continue;
		pass->joint[pass->num_joint++] = (struct joint_read){
			.vm = vm, .records = sample,
		};
		sample += joint_words(vm);
	}
}

/* One more than are known would be a new vCPU. */
static void read_joint(struct pass *pass)
{
	for (size_t i = 0; i < pass->num_joint; i++) {
		struct joint_read *joint = &pass->joint[i];

		joint->count = kvmstats_vcpus_sample(joint->vm->vcpus,
						     joint->records,
						     joint_words(joint->vm));
	}
}

static void add_row(struct pass *pass, const struct entry *entry,
		    const uint64_t *sample)
{
	enum kvmstats_scope scope = pass->registry->kinds[entry->schema].scope;
	struct rows *rows = &pass->scrape->rows[scope];

	rows->row[rows->count++] = (struct row){
		.labels = entry->labels, .sample = sample,
		.vm = pass->scrape->num_vms, .vcpu = entry->vcpu,
		.schema = entry->schema,
	};
}

/*
 * A descriptor that cannot be read will not come back. Its labels stay: scrapes
 * that are under way have them in their rows.
 */
static bool make_room_for_lost(struct pass *pass, struct vm *vm)
{
	struct kvmstats_source **lost;

	vm->read_errors++;
	pass->registry->counters.read_errors++;
	lost = realloc(pass->lost, (pass->num_lost + 1) * sizeof(*lost));
	if (lost)
		pass->lost = lost;
	return lost;
}

static void lose(struct pass *pass, struct vm *vm, struct entry *entry)
{
	if (!make_room_for_lost(pass, vm))
		return;
	pass->lost[pass->num_lost++] = entry->source;
	pass->registry->fds--;
	entry->source = NULL;
}

/* False if it could not be read; there are never less records than before. */
static bool take_joint(struct pass *pass, struct vm *vm,
		       const struct joint_read *joint)
{
	if (joint->count < 0 || (size_t)joint->count < vm->num_joined) {
		if (make_room_for_lost(pass, vm))
			pass->lost[pass->num_lost++] = vcpus_lose(pass->registry,
								  vm);
		return false;
	}
	if ((size_t)joint->count > vm->num_joined) {
		vm->more_vcpus = true;
		pass->registry->more_vcpus = true;
	}
	return true;
}

static const uint64_t *joint_sample(const struct vm *vm, const struct entry *entry,
				    const struct joint_read *joint)
{
	size_t words = kvmstats_vcpus_record_words(vm->vcpus);

	return kvmstats_vcpus_values(vm->vcpus,
				     joint->records + entry->record * words);
}

static void take_results(struct pass *pass)
{
	struct registry *registry = pass->registry;
	struct scrape *scrape = pass->scrape;
	const struct joint_read *joint = pass->joint;
	bool joined = false;
	size_t next = 0;

	for (size_t i = 0; i < registry->count; i++) {
		struct vm *vm = registry->vms[i];

		if (vm->hidden)
			continue;
		if (vm->vcpus)
			joined = take_joint(pass, vm, joint++);
		for (size_t j = 0; j < vm->count; j++) {
			if (vm->entries[j].joined && joined)
				add_row(pass, &vm->entries[j],
					joint_sample(vm, &vm->entries[j],
						     joint - 1));
			if (!is_read(&vm->entries[j]))
				continue;
			if (pass->reads[next].result)
				lose(pass, vm, &vm->entries[j]);
			else
				add_row(pass, &vm->entries[j],
					pass->reads[next].sample);
			next++;
		}
		if (vm->partner && !vm->identity.on_behalf && !vm->statistics)
			scrape->joined[scrape->num_joined++] = vm_ref(vm);
		else if (vm->info.bytes)
			scrape->vms[scrape->num_vms++] = vm_ref(vm);
	}
}

/*
 * Of devices, whose schemas can be many, a metric looks only at the rows that
 * have it: those of one schema stand together.
 */
static bool sort_devices(struct scrape *scrape)
{
	struct rows *rows = &scrape->rows[KVMSTATS_SCOPE_DEVICE];
	size_t *end = scrape->device_end, before = 0;
	struct row *sorted;

	if (!rows->count)
		return true;
	sorted = calloc(rows->count, sizeof(*sorted));
	if (!sorted)
		return false;
	for (size_t i = 0; i < rows->count; i++)
		end[rows->row[i].schema]++;
	/* each is first where its rows begin, and moves on with every row */
	for (size_t i = 0; i < MAX_SCHEMAS; i++) {
		size_t count = end[i];

		end[i] = before;
		before += count;
	}
	for (size_t i = 0; i < rows->count; i++)
		sorted[end[rows->row[i].schema]++] = rows->row[i];
	free(rows->row);
	rows->row = sorted;
	return true;
}

static bool sample_locked(struct pass *pass)
{
	struct registry *registry = pass->registry;
	uint64_t start_ns = clock_ns();

	if (!allocate(pass))
		return false;
	plan_reads(pass);
	kvmstats_batch_sample(registry->batch, pass->reads, pass->count);
	read_joint(pass);
	take_results(pass);
	if (!sort_devices(pass->scrape))
		return false;
	pass->scrape->plan = plan_ref(registry->plan);
	registry->counters.reads += pass->count + pass->num_joint;
	registry->counters.last_sample_ns = clock_ns() - start_ns;
	registry->counters.sample_ns += registry->counters.last_sample_ns;
	return true;
}

struct scrape *scrape_new(struct registry *registry, enum exposition format,
			  const struct settings *settings)
{
	struct scrape *scrape = calloc(1, sizeof(*scrape));
	struct pass pass = { .registry = registry, .scrape = scrape };
	bool good;

	if (!scrape)
		return NULL;
	scrape->counters = &registry->counters;
	scrape->format = format;
	scrape->per_vcpu = settings->vcpu_histograms;
	scrape->started_ns = clock_ns();
	pthread_mutex_lock(&registry->lock);
	good = sample_locked(&pass);
	pthread_mutex_unlock(&registry->lock);
	free(pass.reads);
	free(pass.joint);
	close_sources(pass.lost, pass.num_lost, false);
	free(pass.lost);
	if (good && !settings->no_cpu_time && !scrape->plan->no_cpu)
		cpu_sample(registry, scrape);
	registry->counters.scrapes++;
	registry->counters.last_scrape_ns = clock_ns();
	if (good && !self_write(registry, format, &scrape->tail))
		return scrape;
	scrape_free(scrape);
	return NULL;
}

void scrape_free(struct scrape *scrape)
{
	if (!scrape)
		return;
	for (size_t i = 0; i < scrape->num_vms; i++)
		vm_unref(scrape->vms[i]);
	for (size_t i = 0; i < scrape->num_joined; i++)
		vm_unref(scrape->joined[i]);
	plan_unref(scrape->plan);
	free(scrape->joined);
	free(scrape->vms);
	for (int scope = 0; scope < KVMSTATS_SCOPES; scope++)
		free(scrape->rows[scope].row);
	free(scrape->device_end);
	free(scrape->samples);
	free(scrape->sum);
	free(scrape->process_cpu);
	free(scrape->thread_cpu);
	free(scrape->tail.bytes);
	free(scrape);
}

/* ---- Accept and Accept-Encoding, with their weights (RFC 9110, section 12.5) */

#define BLANKS " \t"

struct slice {
	const char *start;
	size_t length;
};

/* The next element of a list; commas in quotes are none. */
static bool next_element(const char **list, char separator,
			 struct slice *element)
{
	bool quoted = false;
	const char *p = *list;

	p += strspn(p, BLANKS);
	element->start = p;
	for (; *p && (quoted || *p != separator); p++)
		if (*p == '"')
			quoted = !quoted;
	element->length = p - element->start;
	while (element->length &&
	       strchr(BLANKS, element->start[element->length - 1]))
		element->length--;
	*list = *p ? p + 1 : p;
	return *p || element->length;
}

static bool is(const struct slice *slice, const char *text)
{
	return slice->length == strlen(text) &&
	       !strncasecmp(slice->start, text, slice->length);
}

/* Thousandths: 1, 0.5, .25 and what else clients write; -1: no weight. */
static int parse_weight(const struct slice *slice)
{
	int weight = 0, scale = 1000;
	bool point = false;

	for (size_t i = 0; i < slice->length; i++) {
		char c = slice->start[i];

		if (c == '.' && !point) {
			point = true;
		} else if (c >= '0' && c <= '9') {
			if (point)
				scale /= 10;
			weight = point ? weight + (c - '0') * scale :
				 (c - '0') * 1000;
		} else {
			return -1;
		}
	}
	return weight > 1000 ? 1000 : weight;
}

/* One element of the list: what, with which weight and version. */
struct range {
	struct slice what, version;
	int weight;
};

static void take_parameter(struct range *range, struct slice parameter)
{
	const char *equals = memchr(parameter.start, '=', parameter.length);
	struct slice name, value;

	if (!equals)
		return;
	name = (struct slice){ parameter.start, equals - parameter.start };
	value.start = equals + 1;
	value.length = parameter.length - name.length - 1;
	if (is(&name, "q")) {
		range->weight = parse_weight(&value);
	} else if (is(&name, "version")) {
		if (value.length > 1 && *value.start == '"') {
			value.start++;
			value.length -= 2;
		}
		range->version = value;
	}
}

static bool next_range(const char **list, struct range *range)
{
	struct slice element, parameter;
	char text[512];
	const char *p = text;

	if (!next_element(list, ',', &element))
		return false;
	/* longer than any real one: not understood */
	if (element.length >= sizeof(text))
		element.length = 0;
	memcpy(text, element.start, element.length);
	text[element.length] = 0;
	*range = (struct range){ .weight = 1000 };
	if (!next_element(&p, ';', &range->what))
		return true;
	while (next_element(&p, ';', &parameter))
		take_parameter(range, parameter);
	/* the slices point into the list, which outlives this function */
	range->what.start = element.start;
	if (range->version.length)
		range->version.start = element.start +
				      (range->version.start - text);
	return true;
}

static bool version_is(const struct range *range, const char *version)
{
	return !range->version.length || is(&range->version, version);
}

/* The more precise a range is, the more it counts, whatever its place. */
struct best {
	int precision, weight;
};

static void better(struct best *best, int precision, int weight)
{
	if (precision < best->precision)
		return;
	if (precision > best->precision || weight > best->weight)
		best->weight = weight;
	best->precision = precision;
}

enum exposition negotiate_format(const char *accept)
{
	struct best open = { 0 }, text = { 0 };
	struct range range;

	while (accept && next_range(&accept, &range)) {
		if (is(&range.what, "application/openmetrics-text")) {
			if (version_is(&range, "1.0.0"))
				better(&open, 3, range.weight);
		} else if (is(&range.what, "application/*")) {
			better(&open, 2, range.weight);
		} else if (is(&range.what, "text/plain")) {
			if (version_is(&range, "0.0.4"))
				better(&text, 3, range.weight);
		} else if (is(&range.what, "text/*")) {
			better(&text, 2, range.weight);
		} else if (is(&range.what, "*/*")) {
			better(&open, 1, range.weight);
			better(&text, 1, range.weight);
		}
	}
	/* who does not care gets what people can read in a browser */
	if (open.weight == text.weight)
		return open.precision > text.precision && open.weight > 0 ?
		       OPENMETRICS : PROMETHEUS;
	return open.weight > text.weight ? OPENMETRICS : PROMETHEUS;
}

bool negotiate_gzip(const char *accept_encoding)
{
	struct best gzip = { 0 }, identity = { 0 };
	struct range range;

	while (accept_encoding && next_range(&accept_encoding, &range)) {
		if (is(&range.what, "gzip") || is(&range.what, "x-gzip"))
			better(&gzip, 2, range.weight);
		else if (is(&range.what, "*"))
			better(&gzip, 1, range.weight);
		else if (is(&range.what, "identity"))
			better(&identity, 2, range.weight);
	}
	return gzip.weight > 0 && gzip.weight >= identity.weight;
}
