// SPDX-License-Identifier: GPL-2.0-only
/* record --format csv: one line for each statistic of each source */
#include <math.h>

#include "record.h"

static const char *const fields[] = {
	"time", "time_ns", "monotonic_ns", "interval_ns", "vm", "uuid", "pid",
	"scope", "vcpu", "fd", "statistic", "type", "unit", "value", "growth", "rate",
	"p50_low", "p50_high", "p99_low", "p99_high", "device",
};

/* The first line of a file. */
const char *csv_header(void)
{
	static char line[256];
	size_t length = 0;

	for (size_t i = 0; i < sizeof(fields) / sizeof(*fields); i++)
		length += snprintf(line + length, sizeof(line) - length,
				   "%s%s", i ? "," : "", fields[i]);
	snprintf(line + length, sizeof(line) - length, "\n");
	return line;
}

struct line {
	FILE *out;
	const struct watch *watch;
	const struct kvmstats_desc *desc;
};

/* As RFC 4180 has it: quoted where need be, quotation marks doubled. */
static void put_text(FILE *out, const char *text)
{
	bool quote = false;

	for (const char *p = text; *p; p++)
		quote = quote || *p == '"' || *p == ',';
	if (!quote) {
		fputs(text, out);
		return;
	}
	fputc('"', out);
	for (; *text; text++) {
		if (*text == '"')
			fputc('"', out);
		fputc(*text, out);
	}
	fputc('"', out);
}

/* Exact in the unscaled unit; the bare number if there is no way to convert. */
static void put_value(const struct line *line, uint64_t raw)
{
	char text[KVMSTATS_MAX_TEXT_SIZE];

	if (kvmstats_desc_format(line->desc, raw, text, sizeof(text)) < 0)
		fprintf(line->out, "%ju", (uintmax_t)raw);
	else
		fputs(text, line->out);
}

static void put_rate(const struct line *line, uint64_t growth, bool counts)
{
	const struct watch *watch = line->watch;
	double rate = kvmstats_rate(growth, watch->now_ns - watch->before_ns);

	if (!counts)
		rate = kvmstats_desc_to_unit(line->desc, rate);
	/* a scale that no number has */
	if (isfinite(rate))
		fprintf(line->out, "%.9g", rate);
}

/* Two fields; empty if nothing was counted, the second if it has no end. */
static void put_quantile(const struct line *line, uint32_t ppm)
{
	uint64_t low, high;
	int ret = kvmstats_desc_quantile(line->desc, line->watch->delta, ppm, &low,
					 &high);

	fputc(',', line->out);
	if (!ret)
		put_value(line, low);
	fputc(',', line->out);
	if (!ret && high != UINT64_MAX)
		put_value(line, high);
}

static void put_hist(const struct line *line)
{
	const struct watch *watch = line->watch;
	uint64_t growth = kvmstats_desc_hist_count(line->desc, watch->delta);

	fprintf(line->out, "%ju,%ju,",
		(uintmax_t)kvmstats_desc_hist_count(line->desc, watch->now),
		(uintmax_t)growth);
	put_rate(line, growth, true);
	put_quantile(line, 500000);
	put_quantile(line, 990000);
}

static void put_numbers(const struct line *line)
{
	const struct watch *watch = line->watch;
	uint64_t growth = kvmstats_desc_value(line->desc, watch->delta, 0);

	if (kvmstats_desc_is_hist(line->desc)) {
		put_hist(line);
		return;
	}
	put_value(line, kvmstats_desc_value(line->desc, watch->now, 0));
	fputc(',', line->out);
	if (is_counter(line->desc)) {
		put_value(line, growth);
		fputc(',', line->out);
		put_rate(line, growth, false);
	} else {
		fputc(',', line->out);
	}
	fputs(",,,,", line->out);
}

static void put_desc(FILE *out, const struct kvmstats_desc *desc)
{
	char type[SI_TEXT_SIZE], unit[SI_TEXT_SIZE];

	put_text(out, kvmstats_desc_name(desc));
	fprintf(out, ",%s,%s,", type_text(type, kvmstats_desc_type(desc)),
		unit_text(unit, kvmstats_desc_unit(desc)));
}

static void put_watch(FILE *out, const struct watch *watch, const char *prefix,
		      const struct request *request)
{
	struct kvmstats_schema *schema = kvmstats_source_schema(watch->source);
	int vcpu = kvmstats_source_vcpu(watch->source);
	bool device = kvmstats_source_scope(watch->source) ==
		      KVMSTATS_SCOPE_DEVICE;
	struct line line = { .out = out, .watch = watch };
	char label[LABEL_TEXT_SIZE];

	for (size_t i = 0; i < kvmstats_schema_count(schema); i++) {
		line.desc = kvmstats_schema_desc(schema, i);
		if (!filter_passes(&request->fields, line.desc) ||
		    (request->skip_zero && all_zero(line.desc, watch->delta)))
			continue;
		fputs(prefix, out);
		fprintf(out, "%s,", scope_text(watch->source));
		if (vcpu >= 0)
			fprintf(out, "%d", vcpu);
		fputc(',', out);
		if (watch->fd >= 0)
			fprintf(out, "%ld", watch->fd);
		fputc(',', out);
		put_desc(out, line.desc);
		put_numbers(&line);
		fputc(',', out);
		if (device) {
			source_label(label, watch->source);
			put_text(out, label);
		}
		fputc('\n', out);
	}
}

/* What all lines of a source begin with. */
static void put_prefix(FILE *out, const struct vm *vm,
		       const struct watch *watch, uint64_t wall_ns)
{
	char time[40];

	iso_time(time, wall_ns);
	fprintf(out, "%s,%ju,%ju,%ju,", time, (uintmax_t)wall_ns,
		(uintmax_t)watch->now_ns,
		(uintmax_t)(watch->now_ns - watch->before_ns));
	put_text(out, vm_name(vm));
	fputc(',', out);
	put_text(out, vm_uuid(vm));
	if (vm->pid)
		fprintf(out, ",%ld,", vm->pid);
	else
		fputs(",,", out);
}

void csv_sample(FILE *out, const struct vm *vm, const struct request *request,
		uint64_t wall_ns)
{
	char prefix[2 * (2 * KVMSTATS_MAX_VM_NAME + 3) + 160];

	for (size_t i = 0; i < vm->count; i++) {
		FILE *memory = fmemopen(prefix, sizeof(prefix), "w");

		if (!memory)
			return;
		put_prefix(memory, vm, &vm->watches[i], wall_ns);
		fclose(memory);
		put_watch(out, &vm->watches[i], prefix, request);
	}
}
