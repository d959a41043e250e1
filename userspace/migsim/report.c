// SPDX-License-Identifier: GPL-2.0-only
/* What a person reads, and the samples over time. */
#include <errno.h>
#include <string.h>

#include "guest.h"

/* Read often enough for 32 bits not to come round twice. */
void meter_read(struct sim *sim)
{
	for (unsigned int i = 0; i < sim->machine.vcpus; i++) {
		struct meter *meter = &sim->reporter.meters[i];
		uint32_t now = sim->machine.vcpu[i].block->progress;

		meter->units += (uint32_t)(now - meter->last);
		meter->last = now;
	}
}

static FILE *open_file(const char *path)
{
	FILE *file;

	if (!path)
		return NULL;
	file = strcmp(path, "-") ? fopen(path, "a") : stdout;
	if (!file)
		die("%s: %s", path, strerror(errno));
	return file;
}

void report_open(struct sim *sim)
{
	sim->reporter.csv = open_file(sim->options.csv);
	sim->reporter.json = open_file(sim->options.json);
	sim->reporter.samples = open_file(sim->options.samples);
}

static uint64_t all_dirtied(struct sim *sim)
{
	uint64_t pages = 0;

	for (unsigned int i = 0; i < sim->machine.vcpus; i++)
		pages += vcpu_dirtied(&sim->machine.vcpu[i]);
	return pages;
}

void report_start(struct sim *sim, uint64_t now_ns)
{
	struct reporter *reporter = &sim->reporter;

	reporter->start_ns = now_ns;
	reporter->sample_ns = now_ns;
	reporter->next_sample_ns = now_ns +
				   sim->options.sample_ms * NS_PER_MS;
	for (unsigned int i = 0; i < sim->machine.vcpus; i++)
		reporter->sampled[i] = reporter->meters[i].units;
	if (!sim->options.quiet)
		printf("%5s %9s %8s %8s %9s  %s\n", "round", "ms", "sent",
		       "dirtied", "KiB/s", sim->options.policy->name);
}

void report_round_begins(struct sim *sim)
{
	if (sim->reporter.samples)
		sim->reporter.dirtied_before = all_dirtied(sim);
}

void report_round(struct sim *sim, const struct round *round, bool last)
{
	char text[TEXT_BYTES] = "";
	double seconds = (round->end_ns - round->start_ns) / 1e9;

	if (sim->reporter.json)
		report_json_round(sim, round, last);
	if (sim->options.quiet)
		return;
	if (sim->options.policy->describe)
		sim->options.policy->describe(sim, text, sizeof(text));
	printf("%5u %9.1f %8ju %8ju %9.0f  %s\n", round->number,
	       seconds * 1000, (uintmax_t)round->sent_pages,
	       (uintmax_t)round->dirty_pages,
	       round->sent_pages * RECORD_BYTES / 1024 / seconds,
	       last ? "stopped" : text);
	fflush(stdout);
}

static double part_of(double during, double baseline)
{
	return baseline > 0 ? during / baseline : 0;
}

static void print_sample(struct sim *sim, uint64_t now_ns, uint64_t pages)
{
	struct reporter *reporter = &sim->reporter;
	double seconds = (now_ns - reporter->sample_ns) / 1e9;

	fprintf(reporter->samples, "sample,%s,%s,%.0f,%ju", sim->options.label,
		sim->options.policy->name,
		(now_ns - reporter->start_ns) / 1e6, (uintmax_t)pages);
	for (unsigned int i = 0; i < sim->machine.vcpus; i++) {
		uint64_t units = reporter->meters[i].units;

		fprintf(reporter->samples, ",%.3f",
			part_of((units - reporter->sampled[i]) / seconds,
				reporter->baseline[i]));
		reporter->sampled[i] = units;
	}
	fputc('\n', reporter->samples);
	fflush(reporter->samples);
}

void report_sample(struct sim *sim, uint64_t now_ns, uint64_t to_send)
{
	struct reporter *reporter = &sim->reporter;

	if (now_ns < reporter->next_sample_ns)
		return;
	meter_read(sim);
	if (reporter->samples)
		print_sample(sim, now_ns, to_send + all_dirtied(sim) -
					  reporter->dirtied_before);
	reporter->sample_ns = now_ns;
	reporter->next_sample_ns = now_ns +
				   sim->options.sample_ms * NS_PER_MS;
}

uint64_t progress_ppm(const struct vcpu_result *vcpu)
{
	return part_of(vcpu->during, vcpu->baseline) * 1e6 + 0.5;
}

static void print_vcpus(struct sim *sim, const struct result *result)
{
	printf("\n%4s %10s %10s %9s %8s %8s %9s  %s\n", "vCPU", "alone/s",
	       "during/s", "progress", "dirtied", "exits", "asleep", "work");
	for (unsigned int i = 0; i < sim->machine.vcpus; i++) {
		const struct vcpu_result *vcpu = &result->vcpu[i];

		printf("%4u %10.1f %10.1f %7.1f %% ", i, vcpu->baseline,
		       vcpu->during, progress_ppm(vcpu) / 1e4);
		if (sim->machine.vcpu[i].stats.dirtied)
			printf("%8ju %8ju", (uintmax_t)vcpu->dirtied,
			       (uintmax_t)vcpu->exits);
		else
			printf("%8s %8s", "-", "-");
		printf(" %6.0f ms  %s\n", vcpu->asleep_ns / 1e6,
		       sim->options.vcpus[i].text);
	}
}

static void print_comparison(const struct comparison *comparison)
{
	if (!comparison->differing)
		printf("compared %ju pages: all equal\n",
		       (uintmax_t)comparison->pages);
	else
		printf("compared %ju pages: %ju DIFFER, the first is page %ju\n",
		       (uintmax_t)comparison->pages,
		       (uintmax_t)comparison->differing,
		       (uintmax_t)comparison->first);
}

static void print_result(struct sim *sim, const struct result *result)
{
	print_vcpus(sim, result);
	printf("\n%s, %s: %s after %u round%s, ", sim->options.label,
	       sim->options.policy->name,
	       result->converged ? "converged" : "DID NOT CONVERGE",
	       result->rounds, result->rounds == 1 ? "" : "s");
	printf("total %.0f ms, downtime %.0f ms, sent %.1f MiB\n",
	       result->total_ns / 1e6, result->downtime_ns / 1e6,
	       result->sent_bytes / 1048576.0);
	print_comparison(&result->comparison);
}

void report_result(struct sim *sim, const struct result *result)
{
	if (sim->reporter.csv)
		report_csv(sim, result);
	if (sim->reporter.json)
		report_json(sim, result);
	if (!sim->options.quiet)
		print_result(sim, result);
	fflush(NULL);
}
