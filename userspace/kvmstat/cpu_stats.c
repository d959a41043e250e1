// SPDX-License-Identifier: GPL-2.0-only
/* cpu-stats: what each vCPU and its thread have done, as virsh cpu-stats */
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vm.h"

/* A thread that computes is seen in KVM_RUN only when it comes to wait. */
#define LOOKS		20
#define LOOK_PAUSE_US	10000

struct cpu_stats {
	struct request request;
	struct fleet fleet;
	const struct vm *vm;
	long pid;
	const char *threads;		/* --threads; NULL: find them */
	bool total_only;
	struct kvmstats_cpu *cpus;
	size_t count;
	struct kvmstats_param *params;	/* of all CPUs, then of the total */
	unsigned int nparams;
};

static int compare_cpus(const void *a, const void *b)
{
	const struct kvmstats_cpu *x = a, *y = b;
	int i = kvmstats_source_vcpu(x->source);
	int j = kvmstats_source_vcpu(y->source);

	return (i > j) - (i < j);
}

static int list_cpus(struct cpu_stats *stats)
{
	const struct vm *vm = stats->vm;

	stats->cpus = calloc(vm->count + 1, sizeof(*stats->cpus));
	if (!stats->cpus)
		return fail(STATUS_FAILED, "no memory");
	for (size_t i = 0; i < vm->count; i++) {
		const struct kvmstats_source *source = vm->watches[i].source;

		if (kvmstats_source_scope(source) == KVMSTATS_SCOPE_VCPU)
			stats->cpus[stats->count++].source = source;
	}
	if (!stats->count)
		return fail(STATUS_NOTHING,
			    "process %ld has no statistics descriptor of a vCPU",
			    stats->pid);
	qsort(stats->cpus, stats->count, sizeof(*stats->cpus), compare_cpus);
	return STATUS_OK;
}

static bool is_thread(long pid, unsigned long tid)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/%ld/task/%lu", pid, tid);
	return !access(path, F_OK);
}

/* One number for each vCPU, 0 for one whose thread is not known. */
static int take_threads(struct cpu_stats *stats)
{
	char *list = strdup(stats->threads), *rest = list, *number;
	int status = STATUS_OK;
	size_t given = 0;

	while (list && !status && (number = strsep(&rest, ","))) {
		unsigned long tid;

		if (!parse_number(number, INT_MAX, &tid))
			status = fail(STATUS_USAGE,
				      "\"%s\" is no thread number", number);
		else if (tid && !is_thread(stats->pid, tid))
			status = fail(STATUS_NOTHING,
				      "process %ld has no thread %lu",
				      stats->pid, tid);
		else if (given < stats->count)
			stats->cpus[given] = (struct kvmstats_cpu){
				stats->cpus[given].source, stats->pid, tid
			};
		given++;
	}
	free(list);
	if (!status && given != stats->count)
		status = fail(STATUS_USAGE,
			      "%zu threads for %zu vCPUs: give one for each, 0 if it is not known",
			      given, stats->count);
	return status;
}

/* What cannot be had is absent from the output, and the reason is said. */
static int find_threads(struct cpu_stats *stats)
{
	int found = 0;

	if (stats->threads)
		return take_threads(stats);
	for (int i = 0; i < LOOKS && found >= 0; i++) {
		found = kvmstats_cpu_threads(stats->pid, stats->cpus,
					     stats->count);
		if (found == (int)stats->count)
			return STATUS_OK;
		usleep(LOOK_PAUSE_US);
	}
	if (found == -ENOTUNIQ)
		fprintf(stderr, "kvmstat: process %ld has several VMs; see --threads\n",
			stats->pid);
	else if (found < 0)
		return fail(status_of(found), "threads of process %ld: %s",
			    stats->pid, strerror(-found));
	else
		fprintf(stderr, "kvmstat: %zu of %zu threads not found; see --threads\n",
			stats->count - found, stats->count);
	return STATUS_OK;
}

static int read_all(struct cpu_stats *stats)
{
	struct kvmstats_cpu *cpus = stats->cpus;
	size_t count = stats->count;
	struct kvmstats_param *total;
	int ret = kvmstats_cpu_stats(cpus, count, NULL, 0, 0, 1, 0);

	if (ret < 0)
		return ret;
	stats->nparams = ret;
	stats->params = calloc((count + 1) * ret + 1, sizeof(*stats->params));
	if (!stats->params)
		return -ENOMEM;
	total = stats->params + count * ret;
	ret = kvmstats_cpu_stats(cpus, count, total, stats->nparams, -1, 1, 0);
	if (ret < 0 || stats->total_only)
		return ret;
	return kvmstats_cpu_stats(cpus, count, stats->params, stats->nparams, 0,
				  count, 0);
}

static void print_params(const struct cpu_stats *stats,
			 const struct kvmstats_param *params)
{
	for (unsigned int i = 0; i < stats->nparams && params[i].type; i++)
		if (params[i].value.ul || !stats->request.skip_zero)
			printf("  %-34s %20ju\n", params[i].field,
			       (uintmax_t)params[i].value.ul);
}

static void print_text(const struct cpu_stats *stats)
{
	const struct kvmstats_param *params = stats->params;

	for (size_t i = 0; i < stats->count; i++, params += stats->nparams) {
		if (stats->total_only)
			continue;
		printf("vcpu%d", kvmstats_source_vcpu(stats->cpus[i].source));
		if (stats->cpus[i].tid)
			printf(" (thread %d)", stats->cpus[i].tid);
		putchar('\n');
		print_params(stats, params);
	}
	printf("total of %zu\n", stats->count);
	print_params(stats, params);
}

static void json_params(struct json *json, const struct cpu_stats *stats,
			const struct kvmstats_param *params)
{
	json_key(json, "params");
	json_open(json, '{');
	for (unsigned int i = 0; i < stats->nparams && params[i].type; i++)
		if (params[i].value.ul || !stats->request.skip_zero)
			json_member_u64(json, params[i].field,
					params[i].value.ul);
	json_close(json, '}');
}

static void json_cpu(struct json *json, const struct cpu_stats *stats,
		     size_t index)
{
	const struct kvmstats_cpu *cpu = &stats->cpus[index];

	json_open(json, '{');
	json_member_u64(json, "cpu", index);
	json_member_i64(json, "vcpu", kvmstats_source_vcpu(cpu->source));
	json_key(json, "thread");
	if (cpu->tid)
		json_i64(json, cpu->tid);
	else
		json_null(json);
	json_params(json, stats, stats->params + index * stats->nparams);
	json_close(json, '}');
}

static void print_json(const struct cpu_stats *stats)
{
	struct json json = { .out = stdout };

	json_open(&json, '{');
	json_member_i64(&json, "pid", stats->pid);
	json_key(&json, "cpus");
	json_open(&json, '[');
	for (size_t i = 0; i < stats->count && !stats->total_only; i++)
		json_cpu(&json, stats, i);
	json_close(&json, ']');
	json_key(&json, "total");
	json_open(&json, '{');
	json_params(&json, stats, stats->params +
		    stats->count * stats->nparams);
	json_close(&json, '}');
	json_close(&json, '}');
	putchar('\n');
}

static int show(struct cpu_stats *stats)
{
	int ret, status = list_cpus(stats);

	if (!status)
		status = find_threads(stats);
	if (status)
		return status;
	ret = read_all(stats);
	if (ret < 0)
		return fail(status_of(ret), "process %ld: %s", stats->pid,
			    strerror(-ret));
	if (stats->request.as_json)
		print_json(stats);
	else
		print_text(stats);
	return STATUS_OK;
}

/* A VM of one process: what --pid names. */
static int open_and_show(struct cpu_stats *stats)
{
	static const struct fleet_ops ops = { .input = NULL };
	int status;

	status = fleet_open(&stats->fleet, &stats->request, &ops, stats);
	if (!status) {
		stats->vm = stats->fleet.vms[0];
		stats->pid = stats->vm->pid;
		status = show(stats);
	}
	fleet_close(&stats->fleet);
	free(stats->cpus);
	free(stats->params);
	return status;
}

static int take_opt(struct cpu_stats *stats, int letter)
{
	switch (letter) {
	case 't':
		stats->total_only = true;
		return STATUS_OK;
	case 'T':
		stats->threads = optarg;
		return STATUS_OK;
	default:
		return request_opt(&stats->request, letter);
	}
}

static int run_cpu_stats(const struct command *command, int argc, char **argv)
{
	struct cpu_stats stats = { 0 };
	int letter, status = STATUS_OK;

	request_init(&stats.request, command, argc, argv);
	while (!status && (letter = next_opt(command, argc, argv)) != -1)
		status = take_opt(&stats, letter);
	if (!status)
		status = request_end(&stats.request, argc, argv);
	if (!status && stats.request.wish_count != 1)
		status = usage_error(command, "one --pid is needed");
	if (!status)
		status = open_and_show(&stats);
	request_free(&stats.request);
	return status;
}

static const struct opt cpu_stats_opts[] = {
	COMMON('p'),
	{ 'T', "threads", "TID,...", "the vCPUs' threads, 0 for unknown" },
	{ 't', "total", NULL, "of all vCPUs together only" },
	COMMON('z'), COMMON('j'),
	{ 0 }
};

const struct command cmd_cpu_stats = {
	"cpu-stats", " --pid PID [OPTIONS]",
	"show what each vCPU has done, and how its thread was scheduled",
	cpu_stats_opts, run_cpu_stats
};
