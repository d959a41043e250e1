// SPDX-License-Identifier: LGPL-2.1-or-later
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "cpu_stats.h"

#define KVM_PREFIX	"kvm."

void set_param(struct kvmstats_param *param, const char *field, uint64_t value)
{
	memset(param, 0, sizeof(*param));
	strcpy(param->field, field);
	param->type = KVMSTATS_PARAM_ULLONG;
	param->value.ul = value;
}

/* A parameter is one number: histograms are not among them. */
static bool fits_param(const struct kvmstats_desc *desc)
{
	return kvmstats_desc_size(desc) == 1 && !kvmstats_desc_is_hist(desc) &&
	       strlen(kvmstats_desc_name(desc)) + strlen(KVM_PREFIX) <
	       KVMSTATS_MAX_FIELD_SIZE;
}

static void set_kvm_param(struct kvmstats_param *param,
			  const struct kvmstats_desc *desc,
			  const uint64_t *sample)
{
	char field[KVMSTATS_MAX_FIELD_SIZE] = KVM_PREFIX;

	strcat(field, kvmstats_desc_name(desc));
	set_param(param, field, kvmstats_desc_value(desc, sample, 0));
}

static size_t count_params(const struct kvmstats_cpu *cpu)
{
	const struct kvmstats_schema *schema;
	size_t count = SCHED_PARAMS;

	if (!cpu->source)
		return cpu->tid ? count : 0;
	schema = kvmstats_source_schema(cpu->source);
	for (size_t i = 0; i < kvmstats_schema_count(schema); i++)
		if (fits_param(kvmstats_schema_desc(schema, i)))
			count++;
	return count;
}

/* What the largest needs. */
struct room {
	size_t params, words;
};

static struct room measure(const struct kvmstats_cpu *cpus, size_t cpu_count)
{
	struct room room = { 0 };

	for (size_t i = 0; i < cpu_count; i++) {
		const struct kvmstats_source *source = cpus[i].source;
		size_t params = count_params(&cpus[i]), words = 0;

		if (source)
			words = kvmstats_schema_words(kvmstats_source_schema(source));
		if (params > room.params)
			room.params = params;
		if (words > room.words)
			room.words = words;
	}
	return room;
}

/* One CPU's parameters, and what is needed on the way. */
struct scratch {
	struct room room;
	size_t wanted;			/* parameters, from the first on */
	uint64_t *sample;
	struct kvmstats_param *params;
	unsigned int *types;		/* of the statistics, for the total */
	size_t count;
};

static void scratch_free(struct scratch *scratch)
{
	free(scratch->sample);
	free(scratch->params);
	free(scratch->types);
}

static int scratch_init(struct scratch *scratch, struct room room,
			size_t wanted)
{
	memset(scratch, 0, sizeof(*scratch));
	scratch->room = room;
	scratch->wanted = wanted;
	scratch->sample = calloc(room.words + 1, sizeof(*scratch->sample));
	scratch->params = calloc(room.params + 1, sizeof(*scratch->params));
	scratch->types = calloc(room.params + 1, sizeof(*scratch->types));
	if (scratch->sample && scratch->params && scratch->types)
		return 0;
	scratch_free(scratch);
	return -ENOMEM;
}

static int read_cpu(struct scratch *scratch, const struct kvmstats_cpu *cpu)
{
	const struct kvmstats_schema *schema;
	int ret;

	scratch->count = 0;
	if (cpu->tid)
		scratch->count = sched_params(cpu->pid, cpu->tid,
					      scratch->params, scratch->wanted);
	for (size_t i = 0; i < scratch->count; i++)
		scratch->types[i] = KVMSTATS_CUMULATIVE;
	if (!cpu->source)
		return 0;
	ret = kvmstats_source_sample(cpu->source, scratch->sample,
				     scratch->room.words);
	if (ret)
		return ret;
	schema = kvmstats_source_schema(cpu->source);
	for (size_t i = 0; i < kvmstats_schema_count(schema); i++) {
		const struct kvmstats_desc *desc;

		desc = kvmstats_schema_desc(schema, i);
		if (!fits_param(desc))
			continue;
		scratch->types[scratch->count] = kvmstats_desc_type(desc);
		set_kvm_param(&scratch->params[scratch->count++], desc,
			      scratch->sample);
	}
	return 0;
}

static size_t smaller(size_t a, size_t b)
{
	return a < b ? a : b;
}

static int fill_cpus(const struct kvmstats_cpu *cpus, unsigned int count,
		     struct kvmstats_param *params, unsigned int nparams,
		     struct scratch *scratch)
{
	size_t most = 0;

	for (unsigned int i = 0; i < count; i++) {
		int ret = read_cpu(scratch, &cpus[i]);
		size_t filled = smaller(scratch->count, nparams);

		if (ret)
			return ret;
		memcpy(params + (size_t)i * nparams, scratch->params,
		       filled * sizeof(*params));
		if (filled > most)
			most = filled;
	}
	return most;
}

/* Mostly at the same place. */
static const struct kvmstats_param *
find_param(const struct scratch *scratch, const char *field, size_t place)
{
	if (place < scratch->count &&
	    !strcmp(scratch->params[place].field, field))
		return &scratch->params[place];
	for (size_t i = 0; i < scratch->count; i++)
		if (!strcmp(scratch->params[i].field, field))
			return &scratch->params[i];
	return NULL;
}

static void add(struct kvmstats_param *into, const struct kvmstats_param *param,
		unsigned int type)
{
	uint64_t a = into->value.ul, b = param->value.ul;

	if (type == KVMSTATS_PEAK)
		into->value.ul = a > b ? a : b;
	else
		into->value.ul = a > UINT64_MAX - b ? UINT64_MAX : a + b;
}

/* What one CPU does not have, the total does not have: it would be a part. */
static void add_cpu(struct scratch *total, const struct scratch *cpu)
{
	size_t kept = 0;

	for (size_t i = 0; i < total->count; i++) {
		struct kvmstats_param param = total->params[i];
		const struct kvmstats_param *same;

		same = find_param(cpu, param.field, i);
		if (!same)
			continue;
		add(&param, same, total->types[i]);
		total->types[kept] = total->types[i];
		total->params[kept++] = param;
	}
	total->count = kept;
}

static int sum_cpus(const struct kvmstats_cpu *cpus, size_t cpu_count,
		    struct scratch *total, struct scratch *scratch)
{
	bool first = true;

	for (size_t i = 0; i < cpu_count; i++) {
		int ret;

		if (!cpus[i].source && !cpus[i].tid)
			continue;
		ret = read_cpu(first ? total : scratch, &cpus[i]);
		if (ret)
			return ret;
		if (!first)
			add_cpu(total, scratch);
		first = false;
	}
	return 0;
}

static int fill_total(const struct kvmstats_cpu *cpus, size_t cpu_count,
		      struct kvmstats_param *params, unsigned int nparams,
		      struct scratch *scratch)
{
	struct scratch total;
	size_t filled;
	int ret = scratch_init(&total, scratch->room, nparams);

	if (ret)
		return ret;
	ret = sum_cpus(cpus, cpu_count, &total, scratch);
	filled = ret ? 0 : smaller(total.count, nparams);
	memcpy(params, total.params, filled * sizeof(*params));
	scratch_free(&total);
	return ret ? ret : (int)filled;
}

static int fill(const struct kvmstats_cpu *cpus, size_t cpu_count,
		struct kvmstats_param *params, unsigned int nparams,
		int start_cpu, unsigned int ncpus)
{
	struct scratch scratch;
	int ret = scratch_init(&scratch, measure(cpus, cpu_count), nparams);

	if (ret)
		return ret;
	memset(params, 0, (size_t)nparams * ncpus * sizeof(*params));
	if (start_cpu < 0)
		ret = fill_total(cpus, cpu_count, params, nparams, &scratch);
	else
		ret = fill_cpus(cpus + start_cpu,
				ncpus, params, nparams, &scratch);
	scratch_free(&scratch);
	return ret;
}

static int check_bounds(size_t cpu_count, unsigned int nparams, int start_cpu,
			unsigned int ncpus)
{
	if (cpu_count > KVMSTATS_MAX_CPUS ||
	    ncpus > KVMSTATS_MAX_CPUS ||
	    nparams > KVMSTATS_MAX_CPU_PARAMS)
		return -E2BIG;
	if (start_cpu < -1 || (start_cpu == -1 && ncpus != 1))
		return -EINVAL;
	return 0;
}

/* How much is there? The total has no more parameters than a CPU. */
static int query(const struct kvmstats_cpu *cpus, size_t cpu_count,
		 int start_cpu, unsigned int ncpus)
{
	if (ncpus > 1)
		return -EINVAL;
	if (!ncpus)
		return start_cpu ? -EINVAL : (int)cpu_count;
	return smaller(measure(cpus, cpu_count).params, INT_MAX);
}

bool cpus_reserved_are_zero(const struct kvmstats_cpu *cpus, size_t cpu_count)
{
	const size_t count = sizeof(cpus->reserved) / sizeof(*cpus->reserved);

	for (size_t i = 0; i < cpu_count; i++)
		for (size_t j = 0; j < count; j++)
			if (cpus[i].reserved[j])
				return false;
	return true;
}

int kvmstats_cpu_stats(pid_t pid, const struct kvmstats_cpu *cpus,
		       size_t cpu_count, struct kvmstats_param *params,
		       unsigned int nparams, int start_cpu, unsigned int ncpus,
		       unsigned int flags)
{
	int ret = check_bounds(cpu_count, nparams, start_cpu, ncpus);

	if (ret)
		return ret;
	if (flags & ~KVMSTATS_CPU_STATS_GUEST || !params != !nparams)
		return -EINVAL;
	if (!flags)
		return cpus || cpu_count ? -EINVAL :
		       host_cpu_stats(pid, params, nparams, start_cpu, ncpus);
	if (!cpus_reserved_are_zero(cpus, cpu_count))
		return -EINVAL;
	if (!params)
		return query(cpus, cpu_count, start_cpu, ncpus);
	if (!ncpus || (start_cpu >= 0 && ((size_t)start_cpu >= cpu_count ||
					  ncpus > cpu_count - start_cpu)))
		return -EINVAL;
	return fill(cpus, cpu_count, params, nparams, start_cpu, ncpus);
}
