// SPDX-License-Identifier: GPL-2.0-only
/* What a program reads: CSV and JSON lines. */
#include "../common/json.h"
#include "sim.h"

static const char *const csv_columns[] = {
	"label", "policy", "converged", "equal", "rounds", "total_ms",
	"downtime_ms", "sent_bytes", "vcpu", "work", "baseline_per_s",
	"during_per_s", "progress_ppm", "pages_dirtied", "dirty_quota_exits",
	"asleep_ms", "workload", NULL
};

/* The first column says what kind of line it is, in a stream of several. */
static void csv_header(FILE *out)
{
	fputs("run", out);
	for (int i = 0; csv_columns[i]; i++)
		fprintf(out, ",%s", csv_columns[i]);
	fputc('\n', out);
}

static bool at_start(FILE *file)
{
	return file == stdout || ftell(file) == 0;
}

static void csv_vcpu(struct sim *sim, const struct vcpu_result *vcpu,
		     unsigned int index)
{
	const struct workload *workload = &sim->options.vcpus[index];

	fprintf(sim->reporter.csv, ",%u,%s,%.1f,%.1f,%ju,%ju,%ju,%ju,\"%s\"\n",
		index, work_name(workload->work), vcpu->baseline, vcpu->during,
		(uintmax_t)progress_ppm(vcpu), (uintmax_t)vcpu->dirtied,
		(uintmax_t)vcpu->exits,
		(uintmax_t)(vcpu->asleep_ns / NS_PER_MS), workload->text);
}

void report_csv(struct sim *sim, const struct result *result)
{
	FILE *out = sim->reporter.csv;

	fseek(out, 0, SEEK_END);
	if (at_start(out))
		csv_header(out);
	for (unsigned int i = 0; i < sim->machine.vcpus; i++) {
		fprintf(out, "run,%s,%s,%d,%d,%u,%ju,%ju,%ju",
			sim->options.label, sim->options.policy->name,
			result->converged, !result->comparison.differing,
			result->rounds,
			(uintmax_t)(result->total_ns / NS_PER_MS),
			(uintmax_t)(result->downtime_ns / NS_PER_MS),
			(uintmax_t)result->sent_bytes);
		csv_vcpu(sim, &result->vcpu[i], i);
	}
}

static void json_begin(struct json *json, struct sim *sim, const char *event)
{
	*json = (struct json){ .out = sim->reporter.json };
	json_open(json, '{');
	json_member_string(json, "event", event);
	json_member_string(json, "label", sim->options.label);
	json_member_string(json, "policy", sim->options.policy->name);
}

static void json_end(struct json *json)
{
	json_close(json, '}');
	fputc('\n', json->out);
	fflush(json->out);
}

static void json_member_bool(struct json *json, const char *key, bool value)
{
	json_key(json, key);
	json_bool(json, value);
}

void report_json_round(struct sim *sim, const struct round *round, bool last)
{
	struct json json;

	json_begin(&json, sim, "round");
	json_member_u64(&json, "round", round->number);
	json_member_bool(&json, "stopped", last);
	json_member_u64(&json, "duration_ns", round->end_ns - round->start_ns);
	json_member_u64(&json, "sent_pages", round->sent_pages);
	json_member_u64(&json, "dirty_pages", round->dirty_pages);
	json_end(&json);
}

static void json_vcpu(struct json *json, struct sim *sim,
		      const struct vcpu_result *vcpu, unsigned int index)
{
	json_open(json, '{');
	json_member_u64(json, "vcpu", index);
	json_member_string(json, "workload", sim->options.vcpus[index].text);
	json_member_u64(json, "baseline_per_s", vcpu->baseline);
	json_member_u64(json, "during_per_s", vcpu->during);
	json_member_u64(json, "progress_ppm", progress_ppm(vcpu));
	if (sim->machine.vcpu[index].stats.dirtied) {
		json_member_u64(json, "pages_dirtied", vcpu->dirtied);
		json_member_u64(json, "dirty_quota_exits", vcpu->exits);
	}
	json_member_u64(json, "asleep_ns", vcpu->asleep_ns);
	json_close(json, '}');
}

void report_json(struct sim *sim, const struct result *result)
{
	struct json json;

	json_begin(&json, sim, "result");
	json_member_bool(&json, "converged", result->converged);
	json_member_u64(&json, "rounds", result->rounds);
	json_member_u64(&json, "total_ns", result->total_ns);
	json_member_u64(&json, "downtime_ns", result->downtime_ns);
	json_member_u64(&json, "sent_bytes", result->sent_bytes);
	json_member_u64(&json, "compared_pages", result->comparison.pages);
	json_member_u64(&json, "differing_pages", result->comparison.differing);
	json_key(&json, "vcpus");
	json_open(&json, '[');
	for (unsigned int i = 0; i < sim->machine.vcpus; i++)
		json_vcpu(&json, sim, &result->vcpu[i], i);
	json_close(&json, ']');
	json_end(&json);
}
