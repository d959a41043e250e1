// SPDX-License-Identifier: GPL-2.0-only
/* What kvmstatd says of itself. docs/metrics.md comes from the same table. */
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "scrape.h"

/*
 * Of a counter the name is without _total. An @offset into struct counters, or
 * a function for what has to be asked for.
 */
struct self_metric {
	const char *name, *type, *unit, *help;
	size_t offset;
	uint64_t (*get)(const struct registry *registry);
};

static uint64_t get_vms(const struct registry *registry)
{
	return registry->count;
}

static uint64_t get_fds(const struct registry *registry)
{
	return registry->fds;
}

static uint64_t get_schemas(const struct registry *registry)
{
	return registry->num_schemas;
}

#define COUNTER(name, unit, field, help) \
	{ "kvmstatd_" name, "counter", unit, help, \
	  offsetof(struct counters, field), NULL }
#define GAUGE(name, unit, field, help) \
	{ "kvmstatd_" name, "gauge", unit, help, \
	  offsetof(struct counters, field), NULL }
#define ASKED(name, get, help) \
	{ "kvmstatd_" name, "gauge", NULL, help, 0, get }

static const struct self_metric metrics[] = {
	ASKED("vms", get_vms, "VMs that are registered"),
	ASKED("descriptors", get_fds, "Statistics descriptors that are open"),
	ASKED("schemas", get_schemas,
	      "Different lists of statistics that were seen"),
	COUNTER("registrations", NULL, registrations, "VMs that were accepted"),
	COUNTER("vms_ended", NULL, ended, "VMs that have gone"),
	COUNTER("descriptors_accepted", NULL, fds_accepted,
		"Descriptors that were accepted"),
	COUNTER("descriptors_rejected", NULL, fds_rejected,
		"Descriptors that were closed: no KVM statistics, or too many"),
	COUNTER("descriptors_replaced", NULL, fds_replaced,
		"Descriptors that came again for the same vCPU"),
	COUNTER("descriptor_reads", NULL, reads, "Samples that were taken"),
	COUNTER("read_errors", NULL, read_errors,
		"Samples that failed; the descriptor is closed then"),
	COUNTER("scrapes", NULL, scrapes, "Scrapes that were begun"),
	COUNTER("scrapes_refused", NULL, scrapes_refused,
		"Scrapes answered with 503: too many at once"),
	COUNTER("scrapes_cut", NULL, scrapes_cut,
		"Scrapes given up: the client was too slow"),
	COUNTER("scrape_text_bytes", "bytes", text_bytes,
		"Text of scrapes before compression"),
	COUNTER("sampling_seconds", "seconds", sample_ns,
		"Time taken to read all descriptors, in all scrapes"),
	GAUGE("last_sampling_seconds", "seconds", last_sample_ns,
	      "Time taken to read all descriptors, in this scrape"),
};

#define METRIC_COUNT (sizeof(metrics) / sizeof(*metrics))

static uint64_t get(const struct self_metric *metric,
		    const struct registry *registry)
{
	const char *counters = (const char *)&registry->counters;

	if (metric->get)
		return metric->get(registry);
	return *(const _Atomic uint64_t *)(counters + metric->offset);
}

static void write_head(FILE *out, enum exposition format, const char *name,
		       const char *type, const char *unit, const char *help)
{
	const char *end = format == PROMETHEUS && !strcmp(type, "counter") ?
		"_total" : "";

	fprintf(out, "# HELP %s%s %s\n# TYPE %s%s %s\n", name, end, help, name,
		end, type);
	if (unit && format == OPENMETRICS)
		fprintf(out, "# UNIT %s %s\n", name, unit);
}

static void write_metric(FILE *out, enum exposition format,
			 const struct self_metric *metric,
			 const struct registry *registry)
{
	bool is_counter = !strcmp(metric->type, "counter");
	uint64_t value = get(metric, registry);

	write_head(out, format, metric->name, metric->type, metric->unit,
		   metric->help);
	fprintf(out, "%s%s ", metric->name, is_counter ? "_total" : "");
	if (metric->unit && !strcmp(metric->unit, "seconds"))
		fprintf(out, "%ju.%09ju\n", (uintmax_t)value / 1000000000,
			(uintmax_t)value % 1000000000);
	else
		fprintf(out, "%ju\n", (uintmax_t)value);
}

#define REJECTED_NAME "kvmstatd_registrations_rejected"
#define REJECTED_HELP "Connections that were closed, by reason"
#define BUILD_HELP "What is running"

static void write_rejected(FILE *out, enum exposition format,
			   const struct counters *counters)
{
	write_head(out, format, REJECTED_NAME, "counter", NULL, REJECTED_HELP);
	for (int i = 0; i < REJECTS; i++)
		fprintf(out, REJECTED_NAME "_total{reason=\"%s\"} %ju\n",
			reject_names[i], (uintmax_t)counters->rejected[i]);
}

static void write_build(FILE *out, enum exposition format)
{
	if (format == PROMETHEUS)
		write_head(out, format, "kvmstatd_build_info", "gauge", NULL,
			   BUILD_HELP);
	else
		write_head(out, format, "kvmstatd_build", "info", NULL,
			   BUILD_HELP);
	fputs("kvmstatd_build_info{version=\"" KVMSTATS_VERSION "\"} 1\n", out);
}

int self_write(struct registry *registry, enum exposition format,
	       struct text *text)
{
	FILE *out = open_memstream(&text->bytes, &text->length);

	if (!out)
		return -1;
	pthread_mutex_lock(&registry->lock);
	for (size_t i = 0; i < METRIC_COUNT; i++)
		write_metric(out, format, &metrics[i], registry);
	pthread_mutex_unlock(&registry->lock);
	write_rejected(out, format, &registry->counters);
	write_build(out, format);
	if (format == OPENMETRICS)
		fputs("# EOF\n", out);
	return fclose(out);
}

/* Rows of a table in Markdown. */
void self_document(FILE *out)
{
	for (size_t i = 0; i < METRIC_COUNT; i++) {
		const struct self_metric *metric = &metrics[i];
		bool is_counter = !strcmp(metric->type, "counter");

		fprintf(out, "| `%s%s` | %s | %s |\n", metric->name,
			is_counter ? "_total" : "", metric->type, metric->help);
	}
	fprintf(out, "| `%s_total` | counter | %s: ", REJECTED_NAME,
		REJECTED_HELP);
	for (int i = 0; i < REJECTS; i++)
		fprintf(out, "%s`%s`", i ? ", " : "", reject_names[i]);
	fputs(" |\n| `kvmstatd_build_info` | info | " BUILD_HELP " |\n", out);
}
