// SPDX-License-Identifier: GPL-2.0-only
/* What kvmstatd says of itself. docs/metrics.md comes from the same table. */
#include <dirent.h>
#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../common/log.h"
#include "exposition.h"
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
	return registry_num_vms(registry);
}

static uint64_t get_fds(const struct registry *registry)
{
	return registry->fds;
}

static uint64_t get_several(const struct registry *registry)
{
	uint64_t count = 0;

	for (size_t i = 0; i < registry->count; i++)
		count += registry->vms[i]->several;
	return count;
}

static uint64_t get_waiting(const struct registry *registry)
{
	return registry->num_waiting;
}

static uint64_t get_schemas(const struct registry *registry)
{
	return registry->num_kinds - registry->reserved;
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
	ASKED("processes_with_several_vms", get_several,
	      "Processes whose VMs a helper registered as one, as it cannot tell them apart"),
	ASKED("descriptors", get_fds, "Statistics descriptors that are open"),
	ASKED("devices_left_out", get_waiting,
	      "Devices of VMs that are not shown until a limit allows it"),
	ASKED("schemas", get_schemas,
	      "Different lists of statistics that were seen"),
	COUNTER("registrations", NULL, registrations, "Registrations of VMs that were accepted"),
	COUNTER("vms_ended", NULL, ended, "VMs that are no longer registered"),
	GAUGE("registrations_waiting", NULL, parked,
	      "Registrations waiting until kvmstatd has descriptors left"),
	COUNTER("vms_not_stored", NULL, not_stored,
		"VMs that systemd cannot keep over a restart"),
	COUNTER("descriptors_accepted", NULL, fds_accepted,
		"Descriptors that were accepted"),
	COUNTER("descriptors_rejected", NULL, fds_rejected,
		"Descriptors refused: no statistics descriptors, or too many"),
	COUNTER("descriptors_replaced", NULL, fds_replaced,
		"Descriptors replaced by a later one for the same vCPU"),
	COUNTER("descriptor_reads", NULL, reads,
		"Samples taken, one for each descriptor and scrape"),
	COUNTER("read_errors", NULL, read_errors,
		"Samples that failed; the descriptor is then closed"),
	COUNTER("scrapes", NULL, scrapes, "Scrapes begun"),
	COUNTER("scrapes_refused", NULL, scrapes_refused,
		"Scrapes answered with 503 because too many were under way"),
	COUNTER("scrapes_cut", NULL, scrapes_cut,
		"Scrapes cut off because the client was too slow"),
	COUNTER("http_unauthorized", NULL, http_unauthorized,
		"HTTP requests refused for a missing or wrong password"),
	COUNTER("scrape_text_bytes", "bytes", text_bytes,
		"Bytes of text in all scrapes, before compression"),
	COUNTER("sampling_seconds", "seconds", sample_ns,
		"Time spent reading descriptors, in all scrapes"),
	GAUGE("last_sampling_seconds", "seconds", last_sample_ns,
	      "Time spent reading descriptors, in this scrape"),
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

/* Counters with a label, whose values have names. */
struct labelled {
	const char *name, *label, *help;
	const char *const *values;
	int first, count;
	size_t offset;		/* of an array in struct counters */
};

static const struct labelled labelled[] = {
	{ "kvmstatd_registrations_rejected", "reason",
	  "Registrations refused, by reason", reject_names,
	  REJECT_NONE + 1, REJECTS, offsetof(struct counters, rejected) },
	{ "kvmstatd_http_connections_cut", "phase",
	  "HTTP connections closed because they took too long, or were idle when others needed the place",
	  phase_names, 0, PHASES, offsetof(struct counters, http_cut) },
};

#define LABELLED_COUNT (sizeof(labelled) / sizeof(*labelled))
#define BUILD_HELP "Version of the running kvmstatd"

static void write_labelled(FILE *out, enum exposition format,
			   const struct labelled *metric,
			   const struct counters *counters)
{
	const _Atomic uint64_t *values = (const _Atomic uint64_t *)
		((const char *)counters + metric->offset);

	write_head(out, format, metric->name, "counter", NULL, metric->help);
	for (int i = metric->first; i < metric->count; i++)
		fprintf(out, "%s_total{%s=\"%s\"} %ju\n", metric->name,
			metric->label, metric->values[i],
			(uintmax_t)values[i]);
}

/* ----------------------------- the process, as all exporters call its metrics */

static double cpu_seconds(void)
{
	struct rusage usage;

	getrusage(RUSAGE_SELF, &usage);
	return usage.ru_utime.tv_sec + usage.ru_stime.tv_sec +
	       (usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

static double open_fds(void)
{
	double count = -3;	/* the directory itself, and two dots */
	struct stat st;
	DIR *dir;

	/* Linux 6.2 and later say it without a list */
	if (!stat("/proc/self/fd", &st) && st.st_size)
		return st.st_size;
	dir = opendir("/proc/self/fd");
	if (!dir)
		return 0;
	while (readdir(dir))
		count++;
	closedir(dir);
	return count;
}

static double max_fds(void)
{
	struct rlimit limit;

	return getrlimit(RLIMIT_NOFILE, &limit) ? 0 : limit.rlim_cur;
}

/* Field @number of /proc/self/statm, in bytes. */
static double memory_bytes(int number)
{
	FILE *file = fopen("/proc/self/statm", "re");
	unsigned long pages[2] = { 0, 0 };

	if (!file)
		return 0;
	if (fscanf(file, "%lu %lu", &pages[0], &pages[1]) != 2)
		pages[number] = 0;
	fclose(file);
	return (double)pages[number] * sysconf(_SC_PAGESIZE);
}

static double virtual_bytes(void)
{
	return memory_bytes(0);
}

static double resident_bytes(void)
{
	return memory_bytes(1);
}

/* Said once, so that it does not move with the clock. */
static double start_seconds(void)
{
	static atomic_ullong start_ms;
	unsigned long long none = 0;
	struct identity self = { .start_ticks = own_start_ticks() };

	atomic_compare_exchange_strong(&start_ms, &none,
				       identity_start_ms(&self));
	return start_ms / 1e3;
}

static const struct process_metric {
	const char *name, *type, *unit, *help;
	double (*get)(void);
} process_metrics[] = {
	{ "process_cpu_seconds", "counter", "seconds",
	  "User and system CPU time of kvmstatd", cpu_seconds },
	{ "process_open_fds", "gauge", NULL,
	  "Descriptors that kvmstatd has open", open_fds },
	{ "process_max_fds", "gauge", NULL,
	  "Descriptors that kvmstatd may have open", max_fds },
	{ "process_virtual_memory_bytes", "gauge", "bytes",
	  "Virtual memory of kvmstatd", virtual_bytes },
	{ "process_resident_memory_bytes", "gauge", "bytes",
	  "Resident memory of kvmstatd", resident_bytes },
	{ "process_start_time_seconds", "gauge", "seconds",
	  "Start time of kvmstatd, in seconds since the beginning of 1970 (UTC)", start_seconds },
};

#define PROCESS_COUNT (sizeof(process_metrics) / sizeof(*process_metrics))

static void write_process(FILE *out, enum exposition format,
			  const struct process_metric *metric)
{
	bool is_counter = !strcmp(metric->type, "counter");

	write_head(out, format, metric->name, metric->type, metric->unit,
		   metric->help);
	fprintf(out, "%s%s %.17g\n", metric->name, is_counter ? "_total" : "",
		metric->get());
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
	for (size_t i = 0; i < LABELLED_COUNT; i++)
		write_labelled(out, format, &labelled[i], &registry->counters);
	for (size_t i = 0; i < PROCESS_COUNT; i++)
		write_process(out, format, &process_metrics[i]);
	write_build(out, format);
	if (format == OPENMETRICS)
		fputs("# EOF\n", out);
	return fclose(out);
}

/* ------------------------------------------------- tables of docs/metrics.md */

static void document_self(FILE *out)
{
	for (size_t i = 0; i < METRIC_COUNT; i++) {
		const struct self_metric *metric = &metrics[i];
		bool is_counter = !strcmp(metric->type, "counter");

		fprintf(out, "| `%s%s` | %s | %s |\n", metric->name,
			is_counter ? "_total" : "", metric->type, metric->help);
	}
	for (size_t i = 0; i < LABELLED_COUNT; i++) {
		const struct labelled *metric = &labelled[i];

		fprintf(out, "| `%s_total` | counter | %s: ", metric->name,
			metric->help);
		for (int j = metric->first; j < metric->count; j++)
			fprintf(out, "%s`%s`", j > metric->first ? ", " : "",
				metric->values[j]);
		fputs(" |\n", out);
	}
	for (size_t i = 0; i < PROCESS_COUNT; i++)
		fprintf(out, "| `%s%s` | %s | %s |\n", process_metrics[i].name,
			strcmp(process_metrics[i].type, "counter") ? "" :
			"_total", process_metrics[i].type,
			process_metrics[i].help);
	fputs("| `kvmstatd_build_info` | info | " BUILD_HELP " |\n", out);
}

#define MAX_IMAGES	16
#define IMAGE_BYTES	(256u << 10)

static const char self_head[] =
	"\n## kvmstatd itself\n\n"
	"| metric | type | meaning |\n"
	"|---|---|---|\n";

static const char list_head[] =
	"\n## What known kernels count\n\n"
	"Others have others; the rules above hold for them all.\n\n"
	"| metric | type | kernel's name | kernels |\n"
	"|---|---|---|---|\n";

static size_t read_file(const char *path, void *bytes)
{
	FILE *file = fopen(path, "re");
	size_t length = 0;

	if (!file)
		return 0;
	length = fread(bytes, 1, IMAGE_BYTES, file);
	fclose(file);
	return length;
}

static int open_image(const char *path, struct kvmstats_source **source)
{
	void *bytes = malloc(IMAGE_BYTES);
	size_t length;
	int ret;

	if (!bytes)
		return -ENOMEM;
	errno = 0;
	length = read_file(path, bytes);
	ret = errno ? -errno :
	      kvmstats_source_open_image(bytes, length, NULL, source);
	free(bytes);
	return ret;
}

/* "tests/data/x86_64-6.18-vm.bin" is of "x86_64-6.18" */
static void put_kernel(FILE *out, const char *path)
{
	const char *slash = strrchr(path, '/');
	const char *name = slash ? slash + 1 : path;
	const char *end = strrchr(name, '-');

	fprintf(out, "%.*s", end ? (int)(end - name) : (int)strlen(name), name);
}

static void put_family(FILE *out, const struct plan *plan,
		       const struct family *family, char *const *images)
{
	const char *between = "";
	const char *name = family->kind == FAMILY_HISTOGRAM ? family->name :
			   family->sample.bytes;

	fprintf(out, "| `%s` | %s | `%s` | ", name,
		metric_type(family->kind, family->type), family->stat);
	for (size_t i = 0; i < plan->num_schemas; i++) {
		if (!family->columns[i])
			continue;
		fputs(between, out);
		put_kernel(out, images[i]);
		between = ", ";
	}
	fputs(" |\n", out);
}

static int put_images(FILE *out, char *const *images, size_t count,
		      struct kvmstats_source **sources)
{
	struct source_kind kinds[MAX_IMAGES] = { 0 };
	const struct filter all = { 0 };
	struct plan *plan;

	for (size_t i = 0; i < count; i++) {
		kinds[i].schema = kvmstats_source_schema(sources[i]);
		kinds[i].scope = kvmstats_source_scope(sources[i]);
		strcpy(kinds[i].class_name, kvmstats_source_class(sources[i]));
	}
	plan = plan_new(kinds, count, &all, NULL);
	if (!plan)
		return -1;
	fputs(list_head, out);
	for (size_t i = 0; i < plan->count; i++)
		put_family(out, plan, &plan->families[i], images);
	plan_unref(plan);
	return 0;
}

int self_print_document(char * const images[])
{
	struct kvmstats_source *sources[MAX_IMAGES];
	size_t count = 0;
	int ret = 0;

	fputs(self_head, stdout);
	document_self(stdout);
	for (; images[count] && count < MAX_IMAGES && !ret; count++) {
		ret = open_image(images[count], &sources[count]);
		if (ret) {
			log_error("%s: %s", images[count], strerror(-ret));
			break;
		}
	}
	if (count && !ret)
		ret = put_images(stdout, images, count, sources);
	while (count--)
		kvmstats_source_close(sources[count]);
	return ret ? -1 : 0;
}
