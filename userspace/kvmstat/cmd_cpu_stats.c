// SPDX-License-Identifier: GPL-2.0-only
/*
 * cpu-stats: CPU time by the host's CPUs, as virsh cpu-stats, and what each vCPU
 * and its thread have done
 */
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
	struct kvmstats_param *params;	/* of all vCPUs, then of the total */
	unsigned int nparams;
	struct kvmstats_param host_total[2];
	struct kvmstats_param *host;	/* one for each of the host's CPUs */
	int host_cpus;			/* 0: not known */
	int host_error;
};

static int compare_cpus(const void *a, const void *b)
{
	const struct kvmstats_cpu *x = a, *y = b;

	return (x->vcpu > y->vcpu) - (x->vcpu < y->vcpu);
}

static const struct kvmstats_source *source_of(const struct vm *vm, int vcpu)
{
	for (size_t i = 0; i < vm->count; i++)
		if (kvmstats_source_vcpu(vm->watches[i].source) == vcpu)
			return vm->watches[i].source;
	return NULL;
}

/* The vCPUs that the process has, whether their statistics can be had or not. */
static int list_cpus(struct cpu_stats *stats)
{
	const struct vm *vm = stats->vm;
	size_t count = kvmstats_vmm_held(vm->vmm, KVMSTATS_FD_VCPU);

	stats->cpus = calloc(count + 1, sizeof(*stats->cpus));
	if (!stats->cpus)
		return fail(STATUS_FAILED, "no memory");
	for (size_t i = 0; i < count; i++) {
		int vcpu = kvmstats_vmm_vcpu(vm->vmm, i);

		stats->cpus[stats->count++] = (struct kvmstats_cpu){
			.source = source_of(vm, vcpu), .pid = stats->pid,
			.vcpu = vcpu,
		};
	}
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
				      "\"%s\" is not a thread number", number);
		else if (tid && !is_thread(stats->pid, tid))
			status = fail(STATUS_NOTHING,
				      "process %ld has no thread %lu",
				      stats->pid, tid);
		else if (given < stats->count)
			stats->cpus[given].tid = tid;
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
		say("process %ld has several VMs; see --threads", stats->pid);
	else if (found < 0)
		return fail(status_of(found), "threads of process %ld: %s",
			    stats->pid, strerror(-found));
	else
		say("%zu of %zu threads not found; see --threads",
		    stats->count - found, stats->count);
	return STATUS_OK;
}

/* 0 or -errno; what the host's CPUs did may not be known. */
static int read_host(struct cpu_stats *stats)
{
	int ret = kvmstats_cpu_stats(stats->pid, NULL, 0, stats->host_total, 2,
				     -1, 1, 0);

	if (ret < 0 || stats->total_only)
		return ret < 0 ? ret : 0;
	stats->host_cpus = kvmstats_cpu_stats(stats->pid, NULL, 0, NULL, 0, 0,
					      0, 0);
	stats->host = calloc(stats->host_cpus, sizeof(*stats->host));
	if (!stats->host)
		return -ENOMEM;
	stats->host_error = kvmstats_cpu_stats(stats->pid, NULL, 0, stats->host,
					       1, 0, stats->host_cpus, 0);
	if (stats->host_error >= 0)
		return 0;
	stats->host_cpus = 0;
	say("no CPU time by host CPU: %s", stats->host_error == -EOPNOTSUPP ?
	    "only the cpuacct controller of cgroup v1 has it" :
	    stats->host_error == -ENODATA ? "the VMM is in the root cgroup" :
	    strerror(-stats->host_error));
	return 0;
}

static int read_guest(struct cpu_stats *stats)
{
	const unsigned int guest = KVMSTATS_CPU_STATS_GUEST;
	struct kvmstats_cpu *cpus = stats->cpus;
	size_t count = stats->count;
	struct kvmstats_param *total;
	int ret = kvmstats_cpu_stats(0, cpus, count, NULL, 0, 0, 1, guest);

	if (ret < 0)
		return ret;
	stats->nparams = ret;
	stats->params = calloc((count + 1) * ret + 1, sizeof(*stats->params));
	if (!stats->params)
		return -ENOMEM;
	if (!ret)
		return 0;
	total = stats->params + count * ret;
	ret = kvmstats_cpu_stats(0, cpus, count, total, stats->nparams, -1, 1,
				 guest);
	if (ret < 0 || stats->total_only)
		return ret;
	return kvmstats_cpu_stats(0, cpus, count, stats->params,
				  stats->nparams, 0, count, guest);
}

static int read_all(struct cpu_stats *stats)
{
	int ret = read_host(stats);

	return ret ? ret : read_guest(stats);
}

static void print_params(const struct cpu_stats *stats,
			 const struct kvmstats_param *params,
			 unsigned int nparams)
{
	for (unsigned int i = 0; i < nparams && params[i].type; i++)
		if (params[i].value.ul || !stats->request.skip_zero)
			printf("  %-34s %20ju\n", params[i].field,
			       (uintmax_t)params[i].value.ul);
}

static void print_text(const struct cpu_stats *stats)
{
	const struct kvmstats_param *params = stats->params;

	puts("VMM");
	print_params(stats, stats->host_total, 2);
	for (int i = 0; i < stats->host_cpus; i++) {
		printf("host CPU %d\n", i);
		print_params(stats, &stats->host[i], 1);
	}
	for (size_t i = 0; i < stats->count; i++, params += stats->nparams) {
		if (stats->total_only)
			continue;
		printf("vcpu%d", stats->cpus[i].vcpu);
		if (stats->cpus[i].tid)
			printf(" (thread %d)", stats->cpus[i].tid);
		putchar('\n');
		print_params(stats, params, stats->nparams);
	}
	printf("total of %zu\n", stats->count);
	print_params(stats, params, stats->nparams);
}

static void json_params(struct json *json, const struct cpu_stats *stats,
			const struct kvmstats_param *params,
			unsigned int nparams)
{
	json_key(json, "params");
	json_open(json, '{');
	for (unsigned int i = 0; i < nparams && params[i].type; i++)
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
	json_member_i64(json, "vcpu", cpu->vcpu);
	json_key(json, "thread");
	if (cpu->tid)
		json_i64(json, cpu->tid);
	else
		json_null(json);
	json_params(json, stats, stats->params + index * stats->nparams,
		    stats->nparams);
	json_close(json, '}');
}

static void json_host(struct json *json, const struct cpu_stats *stats)
{
	json_key(json, "host");
	json_open(json, '{');
	json_key(json, "total");
	json_open(json, '{');
	json_params(json, stats, stats->host_total, 2);
	json_close(json, '}');
	json_key(json, "cpus");
	json_open(json, '[');
	for (int i = 0; i < stats->host_cpus; i++) {
		json_open(json, '{');
		json_member_i64(json, "cpu", i);
		json_params(json, stats, &stats->host[i], 1);
		json_close(json, '}');
	}
	json_close(json, ']');
	json_close(json, '}');
}

static void print_json(const struct cpu_stats *stats)
{
	struct json json = { .out = stdout };

	json_open(&json, '{');
	json_member_i64(&json, "pid", stats->pid);
	json_host(&json, stats);
	json_key(&json, "cpus");
	json_open(&json, '[');
	for (size_t i = 0; i < stats->count && !stats->total_only; i++)
		json_cpu(&json, stats, i);
	json_close(&json, ']');
	json_key(&json, "total");
	json_open(&json, '{');
	json_params(&json, stats, stats->params +
		    stats->count * stats->nparams, stats->nparams);
	json_close(&json, '}');
	json_close(&json, '}');
	putchar('\n');
}

/* Without it there is no kvm.NAME, and all else; of devices nothing is shown anyway. */
static void say_problem(const struct cpu_stats *stats)
{
	char text[512];

	vm_problem(stats->vm, text, sizeof(text));
	if (kvmstats_vmm_missing(stats->vm->vmm))
		say("%s", text);
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
	say_problem(stats);
	if (stats->request.as_json)
		print_json(stats);
	else
		print_text(stats);
	return fleet_check_complete(&stats->fleet);
}

static int fail_several(const struct cpu_stats *stats)
{
	const struct fleet *fleet = &stats->fleet;
	const char *guest = stats->request.guest;
	char list[400] = "";

	for (size_t i = 0; i < fleet->count; i++) {
		const struct vm *vm = fleet->vms[i];
		size_t length = strlen(list);

		if (!vm->vmm || !fleet_names(fleet, vm))
			continue;
		/* as many as can be read */
		if (length > sizeof(list) - 100) {
			strcpy(list + length, ", ...");
			break;
		}
		snprintf(list + length, sizeof(list) - length - 6, "%s%.60s (pid %ld)",
			 length ? ", " : "", vm_name(vm), vm->pid);
	}
	return guest ? fail(STATUS_USAGE, "several VMs are named %s; choose by --pid: %s",
			    guest, list) :
		       fail(STATUS_USAGE, "several VMs; choose by --pid or --guest: %s",
			    list);
}

/* The one VM that is named, or the only one; it need not have statistics. */
static int choose_vm(struct cpu_stats *stats)
{
	const struct fleet *fleet = &stats->fleet;

	for (size_t i = 0; i < fleet->count; i++) {
		const struct vm *vm = fleet->vms[i];

		if (!vm->vmm || !fleet_names(fleet, vm))
			continue;
		if (stats->vm)
			return fail_several(stats);
		stats->vm = vm;
	}
	if (!stats->vm)
		return fleet_fail_empty(fleet);
	stats->pid = stats->vm->pid;
	return STATUS_OK;
}

static int open_and_show(struct cpu_stats *stats)
{
	static const struct fleet_ops ops = { .input = NULL };
	int status;

	stats->request.without_statistics = true;
	status = fleet_open(&stats->fleet, &stats->request, &ops, stats);
	if (!status)
		status = choose_vm(stats);
	if (!status)
		status = show(stats);
	fleet_close(&stats->fleet);
	free(stats->cpus);
	free(stats->params);
	free(stats->host);
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
	if (!status && (stats.request.target_count > 1 ||
			(stats.request.target_count && stats.request.guest)))
		status = usage_error(command, "name one VM, with --pid or --guest");
	if (!status)
		status = open_and_show(&stats);
	request_free(&stats.request);
	return status;
}

static const struct opt cpu_stats_opts[] = {
	COMMON('p'), COMMON('g'),
	{ 'T', "threads", "TID,...", "the vCPUs' threads, 0 for unknown" },
	{ 't', "total", NULL, "only the total of all vCPUs" },
	COMMON('z'), COMMON('j'),
	{ 0 }
};

const struct command cmd_cpu_stats = {
	"cpu-stats", " [--pid PID | --guest NAME] [OPTIONS]",
	"show CPU time: of the VMM, by host CPU and by vCPU",
	cpu_stats_opts, run_cpu_stats
};
