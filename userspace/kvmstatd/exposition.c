// SPDX-License-Identifier: GPL-2.0-only
/*
 * The text of a scrape. A metric's lines stand together, as the formats want
 * it: for each family, the rows of its scope. Names, labels and bounds are
 * ready-made; only numbers are formatted here.
 */
#include <stdlib.h>
#include <string.h>

#include "exposition.h"
#include "scrape.h"

#define NANO		1000000000ull
#define NANO_DIGITS	9

/* Two digits a division: this is where a scrape spends its time. */
static inline void put_pair(char *out, unsigned int pair)
{
	out[0] = '0' + pair / 10;
	out[1] = '0' + pair % 10;
}

char *put_u64(char *out, uint64_t value)
{
	char digits[U64_TEXT_SIZE];
	char *first = digits + sizeof(digits);
	size_t length;

	while (value >= 100) {
		first -= 2;
		put_pair(first, value % 100);
		value /= 100;
	}
	if (value >= 10) {
		first -= 2;
		put_pair(first, value);
	} else {
		*--first = '0' + value;
	}
	length = digits + sizeof(digits) - first;
	memcpy(out, first, length);
	return out + length;
}

char *put_nano(char *out, uint64_t value)
{
	uint64_t fraction = value % NANO;
	char digits[U64_TEXT_SIZE];
	int length;

	out = put_u64(out, value / NANO);
	if (!fraction)
		return out;
	/* a leading one keeps the zeros that follow it */
	put_u64(digits, NANO + fraction);
	length = NANO_DIGITS;
	while (digits[length] == '0')
		length--;
	*out++ = '.';
	memcpy(out, digits + 1, length);
	return out + length;
}

void le_text(char text[LE_TEXT_SIZE], double bound)
{
	int precision = 0, exponent;

	/* the fewest digits that read back as the same number */
	do {
		snprintf(text, LE_TEXT_SIZE, "%.*e", precision, bound);
	} while (strtod(text, NULL) != bound && precision++ < 17);
	exponent = atoi(strchr(text, 'e') + 1);
	if (exponent < -4 || exponent >= 6)
		return;
	precision = precision > exponent ? precision - exponent : 0;
	snprintf(text, LE_TEXT_SIZE, "%.*f", precision, bound);
	/* a float has a point, says OpenMetrics */
	if (!precision)
		strcat(text, ".0");
}

static void escape(FILE *out, const char *text, const char *special)
{
	for (; *text; text++) {
		if (*text == '\n') {
			fputs("\\n", out);
			continue;
		}
		if (strchr(special, *text))
			fputc('\\', out);
		fputc(*text, out);
	}
}

void escape_label(FILE *out, const char *text)
{
	escape(out, text, "\\\"");
}

void escape_help(FILE *out, const char *text)
{
	escape(out, text, "\\");
}

/* A line: a sample's name, all labels and the longest number. */
#define LINE_BYTES 4096

static inline char *put(char *out, const char *bytes, size_t length)
{
	memcpy(out, bytes, length);
	return out + length;
}

static inline char *put_text(char *out, const struct text *text)
{
	return put(out, text->bytes, text->length);
}

static char *put_value(char *out, const struct column *column, uint64_t value)
{
	switch (column->value) {
	case VALUE_PLAIN:
		return put_u64(out, value);
	case VALUE_NANO:
		return put_nano(out, value);
	default:
		return out + kvmstats_desc_format(column->desc, value, out,
						  KVMSTATS_MAX_TEXT_SIZE);
	}
}

/* Behind the row at scrape->line - 1, which the family has not. */
static void skip_row(struct scrape *scrape, const struct family *family,
		     const struct row *row)
{
	scrape->line = family->scope == KVMSTATS_SCOPE_DEVICE ?
		       scrape->device_end[row->schema] + 1 : scrape->line + 1;
}

/* Rows of the family's scope from @line - 1 on, while there is room. */
static char *put_scalars(struct scrape *scrape, const struct family *family,
			 char *out, const char *end)
{
	const struct rows *rows = &scrape->rows[family->scope];

	while (scrape->line <= rows->count && end - out >= LINE_BYTES) {
		const struct row *row = &rows->row[scrape->line - 1];
		const struct column *column = family->columns[row->schema];

		if (!column) {
			skip_row(scrape, family, row);
			continue;
		}
		scrape->line++;
		out = put_text(out, &family->sample);
		out = put_text(out, row->labels);
		out = put_value(out, column, row->sample[column->word]);
		*out++ = '\n';
	}
	return out;
}

/* {vm="a"} becomes {vm="a",index="0"} */
static char *put_indexed(char *out, const struct text *labels,
			 unsigned int index)
{
	static const char between[] = ",index=\"";

	out = put(out, labels->bytes, labels->length - 2);
	out = put(out, between, sizeof(between) - 1);
	out = put_u64(out, index);
	return put(out, "\"} ", 3);
}

static char *put_vectors(struct scrape *scrape, const struct family *family,
			 char *out, const char *end)
{
	const struct rows *rows = &scrape->rows[family->scope];

	while (scrape->line <= rows->count && end - out >= LINE_BYTES) {
		const struct row *row = &rows->row[scrape->line - 1];
		const struct column *column = family->columns[row->schema];

		if (!column) {
			skip_row(scrape, family, row);
			continue;
		}
		if (scrape->bucket == column->size) {
			scrape->line++;
			scrape->bucket = 0;
			continue;
		}
		out = put_text(out, &family->sample);
		out = put_indexed(out, row->labels, scrape->bucket);
		out = put_value(out, column,
				row->sample[column->word + scrape->bucket++]);
		*out++ = '\n';
	}
	return out;
}

static void add_saturated(uint64_t *sum, uint64_t value)
{
	*sum = value > UINT64_MAX - *sum ? UINT64_MAX : *sum + value;
}

/* Buckets can be added up only if they are the same ones. */
static bool same_buckets(const struct column *one, const struct column *other)
{
	return other && (one == other ||
	       (one->size == other->size && one->value == other->value &&
		kvmstats_desc_exponent(one->desc) ==
		kvmstats_desc_exponent(other->desc) &&
		kvmstats_desc_bucket_size(one->desc) ==
		kvmstats_desc_bucket_size(other->desc)));
}

/* Rows that become one histogram: one vCPU, or all of a VM. */
static size_t rows_of(const struct scrape *scrape, const struct family *family,
		      size_t first)
{
	const struct rows *rows = &scrape->rows[family->scope];
	size_t end = first + 1;

	if (family->scope != KVMSTATS_SCOPE_VCPU || scrape->per_vcpu)
		return 1;
	while (end < rows->count && rows->row[end].vm == rows->row[first].vm)
		end++;
	return end - first;
}

/* The column of the first of the rows that has one; their sum. */
static const struct column *sum_rows(struct scrape *scrape,
				     const struct family *family,
				     const struct row *row, size_t count)
{
	const struct column *first = NULL;

	for (size_t i = 0; i < count; i++) {
		const struct column *column = family->columns[row[i].schema];

		if (!first && column) {
			first = column;
			memset(scrape->sum, 0, column->size * 8ul);
		}
		if (!first || !same_buckets(first, column))
			continue;
		for (unsigned int j = 0; j < column->size; j++)
			add_saturated(&scrape->sum[j],
				      row[i].sample[column->word + j]);
	}
	return first;
}

static const struct text *labels_of(const struct scrape *scrape,
				    const struct family *family,
				    const struct row *row)
{
	return scrape->per_vcpu || family->scope == KVMSTATS_SCOPE_DEVICE ?
	       row->labels : &scrape->vms[row->vm]->labels;
}

/*
 * The bucket's line, or behind the last bucket that of the count. Reasons are
 * counted by themselves, and those that never occur have no line.
 */
static char *put_bucket(struct scrape *scrape, const struct family *family,
			const struct column *column,
			const struct text *labels, char *out)
{
	unsigned int bucket = scrape->bucket++;

	if (family->kind == FAMILY_REASONS) {
		if (!scrape->sum[bucket])
			return out;
		scrape->running = 0;
	}
	if (bucket == column->size) {
		out = put_text(out, &family->count);
		out = put_text(out, labels);
	} else {
		add_saturated(&scrape->running, scrape->sum[bucket]);
		out = put_text(out, &family->sample);
		out = put(out, labels->bytes, labels->length - 2);
		out = put_text(out, &column->ends[bucket]);
	}
	out = put_u64(out, scrape->running);
	*out++ = '\n';
	return out;
}

/*
 * The kernel keeps no sum of the values, and without it OpenMetrics has no
 * place for the count, which is that of the last bucket anyway.
 */
static char *put_histograms(struct scrape *scrape, const struct family *family,
			    char *out, const char *end)
{
	const struct rows *rows = &scrape->rows[family->scope];
	bool has_count = family->kind == FAMILY_HISTOGRAM &&
			 scrape->format == PROMETHEUS;

	while (scrape->line <= rows->count && end - out >= LINE_BYTES) {
		const struct row *row = &rows->row[scrape->line - 1];
		size_t count = rows_of(scrape, family, scrape->line - 1);
		const struct text *labels = labels_of(scrape, family, row);
		const struct column *column;
		unsigned int lines;

		if (count == 1 && !family->columns[row->schema]) {
			skip_row(scrape, family, row);
			continue;
		}
		/* made again only if the client took a part of it */
		column = sum_rows(scrape, family, row, count);
		lines = column ? column->size + has_count : 0;
		while (scrape->bucket < lines && end - out >= LINE_BYTES)
			out = put_bucket(scrape, family, column, labels,
					 out);
		if (scrape->bucket < lines)
			break;
		scrape->line += count;
		scrape->bucket = 0;
		scrape->running = 0;
	}
	return out;
}

static char *put_lines(struct scrape *scrape, const struct family *family,
		       char *out, const char *end)
{
	switch (family->kind) {
	case FAMILY_SCALAR:
		return put_scalars(scrape, family, out, end);
	case FAMILY_VECTOR:
		return put_vectors(scrape, family, out, end);
	default:
		return put_histograms(scrape, family, out, end);
	}
}

static void next_part(struct scrape *scrape)
{
	scrape->part++;
	scrape->position = 0;
	scrape->line = 0;
}

/* There may be metrics of devices that no VM has any more. */
static bool is_shown(const struct scrape *scrape, const struct family *family)
{
	const struct rows *rows = &scrape->rows[family->scope];
	size_t first = 0;

	if (family->hidden || family->scope != KVMSTATS_SCOPE_DEVICE)
		return !family->hidden;
	while (first < rows->count) {
		size_t schema = rows->row[first].schema;

		if (family->columns[schema])
			return true;
		first = scrape->device_end[schema];
	}
	return false;
}

static char *put_families(struct scrape *scrape, char *out, const char *end)
{
	const struct plan *plan = scrape->plan;
	const struct family *family;

	if (scrape->position == plan->count) {
		next_part(scrape);
		return out;
	}
	family = &plan->families[scrape->position];
	if (!scrape->line && !is_shown(scrape, family)) {
		scrape->position++;
		return out;
	}
	if (!scrape->line) {
		scrape->line++;
		return put_text(out, &family->head[scrape->format]);
	}
	out = put_lines(scrape, family, out, end);
	if (scrape->line > scrape->rows[family->scope].count) {
		scrape->position++;
		scrape->line = 0;
	}
	return out;
}

static char *put_info(struct scrape *scrape, char *out)
{
	static const char *const heads[] = {
		[PROMETHEUS] = "# HELP kvm_vm_info Name, UUID, process and user of a VM\n"
			       "# TYPE kvm_vm_info gauge\n",
		[OPENMETRICS] = "# HELP kvm_vm Name, UUID, process and user of a VM\n"
				"# TYPE kvm_vm info\n",
	};
	const char *head = heads[scrape->format];
	const struct vm *vm;

	if (!scrape->line++)
		return put(out, head, strlen(head));
	if (scrape->position == scrape->num_vms) {
		next_part(scrape);
		return out;
	}
	vm = scrape->vms[scrape->position++];
	return put_text(out, &vm->info);
}

static char *put_start_of(char *out, const struct vm *vm)
{
	static const char name[] = "kvm_vm_start_time_seconds";
	uint64_t start_ms = vm->identity.start_ms;

	if (!start_ms)
		return out;
	out = put(out, name, sizeof(name) - 1);
	out = put_text(out, &vm->labels);
	return out + sprintf(out, "%ju.%03ju\n", (uintmax_t)start_ms / 1000,
			     (uintmax_t)start_ms % 1000);
}

static char *put_start(struct scrape *scrape, char *out)
{
	static const char head[] =
		"# HELP kvm_vm_start_time_seconds Start time of the VM's process, in seconds since the beginning of 1970 (UTC)\n"
		"# TYPE kvm_vm_start_time_seconds gauge\n";
	static const char unit[] = "# UNIT kvm_vm_start_time_seconds seconds\n";

	if (scrape->plan->start_hidden) {
		next_part(scrape);
		return out;
	}
	if (!scrape->line++) {
		out = put(out, head, sizeof(head) - 1);
		return scrape->format == PROMETHEUS ? out :
		       put(out, unit, sizeof(unit) - 1);
	}
	if (scrape->position == scrape->num_vms) {
		next_part(scrape);
		return out;
	}
	return put_start_of(out, scrape->vms[scrape->position++]);
}

/* {vm="a"} becomes {vm="a",mode="user"} */
static char *put_process(char *out, const struct vm *vm,
			 const struct cpu_time *time)
{
	static const char *const ends[] = { ",mode=\"user\"} ", ",mode=\"system\"} " };
	const char *name = host_metrics[HOST_PROCESS].name;

	for (int i = 0; i < 2; i++) {
		out = put(out, name, strlen(name));
		out = put(out, "_total", 6);
		out = put(out, vm->labels.bytes, vm->labels.length - 2);
		out = put(out, ends[i], strlen(ends[i]));
		out = put_nano(out, time->ns[i]);
		*out++ = '\n';
	}
	return out;
}

static char *put_host_head(struct scrape *scrape,
			   const struct host_metric *metric, char *out)
{
	const char *end = scrape->format == PROMETHEUS ? "_total" : "";

	out += sprintf(out, "# HELP %s%s %s\n# TYPE %s%s counter\n",
		       metric->name, end, metric->help, metric->name, end);
	if (scrape->format == OPENMETRICS)
		out += sprintf(out, "# UNIT %s seconds\n", metric->name);
	return out;
}

/* @scrape->line - 1: the row, or the VM */
static char *put_host_lines(struct scrape *scrape, enum host_family family,
			    char *out, const char *end)
{
	const struct rows *rows = &scrape->rows[KVMSTATS_SCOPE_VCPU];
	const char *name = host_metrics[family].name;
	size_t count = family == HOST_PROCESS ? scrape->num_vms : rows->count;

	while (scrape->line <= count && end - out >= LINE_BYTES) {
		size_t i = scrape->line++ - 1;

		if (family == HOST_PROCESS) {
			if (scrape->process_cpu[i].known)
				out = put_process(out, scrape->vms[i],
						  &scrape->process_cpu[i].time);
		} else if (rows->row[i].has_cpu) {
			out = put(out, name, strlen(name));
			out = put(out, "_total", 6);
			out = put_text(out, rows->row[i].labels);
			out = put_nano(out, scrape->thread_cpu[i].ns[family]);
			*out++ = '\n';
		}
	}
	if (scrape->line > count) {
		scrape->position++;
		scrape->line = 0;
	}
	return out;
}

static char *put_host(struct scrape *scrape, char *out, const char *end)
{
	enum host_family family = scrape->position;

	if (family == HOST_FAMILIES || !scrape->process_cpu) {
		next_part(scrape);
		return out;
	}
	if (scrape->plan->host_hidden[family]) {
		scrape->position++;
		return out;
	}
	if (!scrape->line) {
		scrape->line++;
		return put_host_head(scrape, &host_metrics[family], out);
	}
	return put_host_lines(scrape, family, out, end);
}

static char *put_tail(struct scrape *scrape, char *out, const char *end)
{
	size_t left = scrape->tail.length - scrape->position;
	size_t length = left < (size_t)(end - out) ? left : (size_t)(end - out);

	out = put(out, scrape->tail.bytes + scrape->position, length);
	scrape->position += length;
	if (scrape->position == scrape->tail.length)
		next_part(scrape);
	return out;
}

/* @end is at least STEP_BYTES away. */
static char *step(struct scrape *scrape, char *out, const char *end)
{
	switch (scrape->part) {
	case PART_INFO:
		return put_info(scrape, out);
	case PART_START:
		return put_start(scrape, out);
	case PART_HOST:
		return put_host(scrape, out, end);
	case PART_FAMILIES:
		return put_families(scrape, out, end);
	case PART_TAIL:
		return put_tail(scrape, out, end);
	default:
		return out;
	}
}

static size_t take_spill(struct scrape *scrape, char *out, size_t room)
{
	size_t left = scrape->spill_end - scrape->spill_at;
	size_t length = left < room ? left : room;

	memcpy(out, scrape->spill + scrape->spill_at, length);
	scrape->spill_at += length;
	return length;
}

size_t scrape_read(struct scrape *scrape, char *out, size_t room)
{
	char *start = out, *end = out + room;

	out += take_spill(scrape, out, room);
	while (end - out >= STEP_BYTES && scrape->part != PART_END)
		out = step(scrape, out, end);
	/* a small buffer is served from one that is large enough */
	while (out == start && scrape->part != PART_END) {
		char *spill = scrape->spill;

		scrape->spill_at = 0;
		scrape->spill_end = step(scrape, spill, spill + STEP_BYTES) -
				    spill;
		out += take_spill(scrape, out, room);
	}
	scrape->counters->text_bytes += out - start;
	return out - start;
}
