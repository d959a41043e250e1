// SPDX-License-Identifier: GPL-2.0-only
/* show, schema and dump: look once at descriptors that are at hand */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vm.h"

/* All that is to be shown: one sample of each source, and where it is from. */
struct look {
	struct request request;
	struct fleet fleet;
	FILE *out;
	struct json json;
	bool values;		/* else the schema only */
	bool has_reasons;	/* any of them, with --exits */
};

static void print_origin(FILE *out, const struct vm *vm,
			 const struct watch *watch)
{
	char label[LABEL_TEXT_SIZE];

	source_label(label, watch->source);
	fprintf(out, "# %s %s", label, kvmstats_source_id(watch->source));
	if (vm->peer)
		fprintf(out, " (of %s, process %ld)", vm_name(vm), vm->pid);
	else if (vm->pid)
		fprintf(out, " (descriptor %ld of process %ld)", watch->fd,
			vm->pid);
	fputc('\n', out);
}

static void print_desc(FILE *out, const struct kvmstats_desc *desc)
{
	char type[SI_TEXT_SIZE], unit[SI_TEXT_SIZE];

	fprintf(out, "%-30s %-12s %-8s", kvmstats_desc_name(desc),
		type_text(type, kvmstats_desc_type(desc)),
		unit_text(unit, kvmstats_desc_unit(desc)));
}

/* In the unscaled unit, or raw with a mark if there is no way to convert. */
static const char *exact_text(const struct kvmstats_desc *desc, uint64_t raw,
			      char text[KVMSTATS_MAX_TEXT_SIZE])
{
	if (kvmstats_desc_format(desc, raw, text, KVMSTATS_MAX_TEXT_SIZE) < 0)
		snprintf(text, KVMSTATS_MAX_TEXT_SIZE, "raw:%ju",
			 (uintmax_t)raw);
	return text;
}

/* The most frequent first; of equal ones, in the manual's order. */
static void print_reasons(FILE *out, const struct kvmstats_desc *desc,
			  const uint64_t *sample)
{
	uint64_t most = UINT64_MAX;

	while (most) {
		uint64_t next = 0;

		for (unsigned int i = 0; i < kvmstats_desc_size(desc); i++) {
			uint64_t count = kvmstats_desc_value(desc, sample, i);

			if (count == most)
				fprintf(out, "  %s: %ju\n",
					kvmstats_desc_reason(desc, i),
					(uintmax_t)count);
			else if (count < most && count > next)
				next = count;
		}
		most = next;
	}
}

static void print_bucket(FILE *out, const struct kvmstats_desc *desc,
			 unsigned int bucket, uint64_t count)
{
	char from[KVMSTATS_MAX_TEXT_SIZE], to[KVMSTATS_MAX_TEXT_SIZE];
	uint64_t low, high;

	if (!count)
		return;
	if (kvmstats_desc_bucket_bounds(desc, bucket, &low, &high)) {
		fprintf(out, "  bucket %u: %ju\n", bucket, (uintmax_t)count);
		return;
	}
	if (high == UINT64_MAX)
		strcpy(to, "...");
	else
		exact_text(desc, high, to);
	fprintf(out, "  %s to %s: %ju\n", exact_text(desc, low, from), to,
		(uintmax_t)count);
}

/* Between which values it lies for certain; nothing for an empty histogram. */
static void print_quantile(FILE *out, const struct kvmstats_desc *desc,
			   const uint64_t *sample, const char *name,
			   uint32_t ppm)
{
	char from[KVMSTATS_MAX_TEXT_SIZE], to[KVMSTATS_MAX_TEXT_SIZE] = "...";
	uint64_t low, high;

	if (kvmstats_desc_quantile(desc, sample, ppm, &low, &high))
		return;
	if (high != UINT64_MAX)
		exact_text(desc, high, to);
	fprintf(out, ", %s %s to %s", name, exact_text(desc, low, from), to);
}

static void print_hist(FILE *out, const struct kvmstats_desc *desc,
		       const uint64_t *sample)
{
	fprintf(out, " %ju values",
		(uintmax_t)kvmstats_desc_hist_count(desc, sample));
	if (kvmstats_desc_has_reasons(desc)) {
		fputc('\n', out);
		print_reasons(out, desc, sample);
		return;
	}
	print_quantile(out, desc, sample, "median", 500000);
	print_quantile(out, desc, sample, "p99", 990000);
	fputc('\n', out);
	for (unsigned int i = 0; i < kvmstats_desc_size(desc); i++)
		print_bucket(out, desc, i, kvmstats_desc_value(desc, sample, i));
}

static void print_value(FILE *out, const struct kvmstats_desc *desc,
			const uint64_t *sample)
{
	char text[KVMSTATS_MAX_TEXT_SIZE];

	print_desc(out, desc);
	if (kvmstats_desc_is_hist(desc)) {
		print_hist(out, desc, sample);
		return;
	}
	for (unsigned int i = 0; i < kvmstats_desc_size(desc); i++)
		fprintf(out, " %s",
			exact_text(desc, kvmstats_desc_value(desc, sample, i), text));
	fputc('\n', out);
}

static void print_schema_row(FILE *out, const struct kvmstats_desc *desc)
{
	print_desc(out, desc);
	fprintf(out, " %u^%d size %u", kvmstats_desc_base(desc),
		kvmstats_desc_exponent(desc), kvmstats_desc_size(desc));
	if (kvmstats_desc_bucket_size(desc))
		fprintf(out, " bucket_size %u", kvmstats_desc_bucket_size(desc));
	fputc('\n', out);
}

static bool is_shown(struct look *look, const struct watch *watch,
		     const struct kvmstats_desc *desc)
{
	if (look->request.exits && !kvmstats_desc_has_reasons(desc))
		return false;
	look->has_reasons = true;
	return filter_passes(&look->request.fields, desc) &&
	       !(look->request.skip_zero && all_zero(desc, watch->now));
}

static void print_stat(struct look *look, const struct watch *watch,
		       const struct kvmstats_desc *desc)
{
	if (look->values)
		print_value(look->out, desc, watch->now);
	else
		print_schema_row(look->out, desc);
}

static void json_stat(struct look *look, const struct watch *watch,
		      const struct kvmstats_desc *desc)
{
	struct json *json = &look->json;

	json_open(json, '{');
	json_desc(json, desc);
	if (look->values) {
		json_elements(json, "values", desc, watch->now);
		json_quantiles(json, desc, watch->now);
	}
	json_close(json, '}');
}

static void print_stats(struct look *look, const struct watch *watch,
			void (*print)(struct look *look,
				      const struct watch *watch,
				      const struct kvmstats_desc *desc))
{
	struct kvmstats_schema *schema = kvmstats_source_schema(watch->source);

	for (size_t i = 0; i < kvmstats_schema_count(schema); i++) {
		const struct kvmstats_desc *desc;

		desc = kvmstats_schema_desc(schema, i);
		if (is_shown(look, watch, desc))
			print(look, watch, desc);
	}
}

static void json_number(struct json *json, const char *key, int64_t number,
			bool known)
{
	json_key(json, key);
	if (known)
		json_i64(json, number);
	else
		json_null(json);
}

static void print_source(struct look *look, const struct vm *vm,
			 const struct watch *watch)
{
	struct json *json = &look->json;

	if (!look->request.as_json) {
		print_origin(look->out, vm, watch);
		print_stats(look, watch, print_stat);
		return;
	}
	json_open(json, '{');
	json_scope(json, watch->source);
	json_number(json, "pid", vm->pid, vm->pid);
	json_number(json, "fd", watch->fd, watch->fd >= 0);
	json_member_string(json, "name", vm_name(vm));
	json_member_string(json, "uuid", vm_uuid(vm));
	json_key(json, "stats");
	json_open(json, '[');
	print_stats(look, watch, json_stat);
	json_close(json, ']');
	json_close(json, '}');
}

static void print_sources(struct look *look)
{
	const struct fleet *fleet = &look->fleet;

	for (size_t i = 0; i < fleet->count; i++)
		for (size_t j = 0; j < fleet->vms[i]->count; j++)
			print_source(look, fleet->vms[i],
				     &fleet->vms[i]->watches[j]);
}

static int check_matched(const struct look *look)
{
	const struct filter *fields = &look->request.fields;

	if (look->request.exits && !look->has_reasons)
		return fail(STATUS_NOTHING, "nothing here counts exits by reason: %s",
			    "that needs a vCPU, and a kernel with KVM_CAP_EXIT_REASONS");
	return filter_matched(fields) ? STATUS_OK : filter_fail(fields);
}

/* Nothing was read half: all samples are there before a byte is printed. */
static int print_all(struct look *look)
{
	struct json *json = &look->json;

	look->out = stdout;
	json->out = stdout;
	if (!look->request.as_json) {
		print_sources(look);
		return check_matched(look);
	}
	json_open(json, '{');
	json_member_u64(json, "time_ns", wall_clock_ns());
	json_member_u64(json, "monotonic_ns", clock_ns());
	json_key(json, "sources");
	json_open(json, '[');
	print_sources(look);
	json_close(json, ']');
	json_close(json, '}');
	putchar('\n');
	return check_matched(look);
}

static size_t count_shown(const struct fleet *fleet)
{
	size_t shown = 0;

	for (size_t i = 0; i < fleet->count; i++)
		shown += fleet_shows(fleet, fleet->vms[i]) &&
			 fleet->vms[i]->count;
	return shown;
}

static void drop_others(struct fleet *fleet)
{
	for (size_t i = 0; i < fleet->count; i++)
		if (!fleet_shows(fleet, fleet->vms[i]))
			vm_close_sources(fleet->vms[i]);
}

static int open_look(struct look *look)
{
	static const struct fleet_ops ops = { .input = NULL };
	struct fleet *fleet = &look->fleet;
	int status = fleet_open(fleet, &look->request, &ops, look);
	int ret = 0;

	if (!status && look->request.socket)
		ret = fleet_await(fleet, look->request.wait_ms);
	fleet_stop_listening(fleet);
	/* what is printed now may find nobody who reads it */
	if (!status && look->request.socket)
		signals_restore(&fleet->while_waiting);
	if (ret)
		status = fail(STATUS_FAILED, "wait: %s", strerror(-ret));
	if (!status && !count_shown(fleet))
		status = fleet_fail_empty(fleet);
	drop_others(fleet);
	return status;
}

static int parse(const struct command *command, int argc, char **argv,
		 struct request *request)
{
	int letter, status = STATUS_OK;

	request_init(request, command, argc, argv);
	while (!status && (letter = next_opt(command, argc, argv)) != -1)
		status = request_opt(request, letter);
	return status ? status : request_end(request, argc, argv);
}

static int run_look(const struct command *command, int argc, char **argv,
		    int (*act)(struct look *look))
{
	struct look look = { .values = command != &cmd_schema };
	int status = parse(command, argc, argv, &look.request);

	if (!status) {
		status = open_look(&look);
		if (!status) {
			fleet_explain(&look.fleet);
			status = act(&look);
		}
		if (!status)
			status = fleet_check_complete(&look.fleet);
		fleet_close(&look.fleet);
	}
	request_free(&look.request);
	return status;
}

static int run_print(const struct command *command, int argc, char **argv)
{
	return run_look(command, argc, argv, print_all);
}

static int write_file(const char *path, const void *bytes, size_t size_bytes)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
	int ret = 0;

	if (fd < 0)
		return -errno;
	while (size_bytes && !ret) {
		ssize_t written = write(fd, bytes, size_bytes);

		if (written < 0 && errno != EINTR)
			ret = -errno;
		if (written > 0) {
			bytes = (const char *)bytes + written;
			size_bytes -= written;
		}
	}
	if (close(fd) < 0 && !ret)
		ret = -errno;
	/* a part of an image is none, and would be in the way of the next */
	if (ret)
		unlink(path);
	return ret;
}

static int dump_one(const char *directory, const struct kvmstats_source *source,
		    size_t index)
{
	int64_t size_bytes = kvmstats_source_image(source, NULL, 0);
	char label[LABEL_TEXT_SIZE], path[4096];
	void *bytes = size_bytes < 0 ? NULL : malloc(size_bytes);
	int64_t ret = size_bytes < 0 ? size_bytes : -ENOMEM;

	source_label(label, source);
	/* a device's name is its VMM's choice: it is no way to another directory */
	for (char *p = label; *p; p++)
		if (*p == '/')
			*p = '_';
	snprintf(path, sizeof(path), "%s/%zu-%s.bin", directory, index, label);
	if (bytes)
		ret = kvmstats_source_image(source, bytes, size_bytes);
	if (ret >= 0)
		ret = write_file(path, bytes, size_bytes);
	free(bytes);
	if (ret < 0)
		return fail(status_of(ret), "%s: %s", path, strerror(-ret));
	puts(path);
	return STATUS_OK;
}

static int dump_all(struct look *look)
{
	const struct fleet *fleet = &look->fleet;
	const char *directory = look->request.output ? look->request.output :
				".";
	size_t index = 0;
	int status = STATUS_OK;

	for (size_t i = 0; i < fleet->count; i++)
		for (size_t j = 0; j < fleet->vms[i]->count && !status; j++)
			status = dump_one(directory,
					  fleet->vms[i]->watches[j].source,
					  index++);
	return status;
}

static int run_dump(const struct command *command, int argc, char **argv)
{
	return run_look(command, argc, argv, dump_all);
}

static const struct opt show_opts[] = {
	COMMON('p'), COMMON('g'), COMMON('S'), COMMON('m'), COMMON('w'),
	COMMON('f'), COMMON('I'), COMMON('F'), COMMON('z'), COMMON('j'),
	{ 'e', "exits", NULL, "only exits by reason" },
	{ 0 }
};

static const struct opt schema_opts[] = {
	COMMON('p'), COMMON('g'), COMMON('S'), COMMON('m'), COMMON('w'),
	COMMON('f'), COMMON('I'), COMMON('F'), COMMON('j'),
	{ 0 }
};

static const struct opt dump_opts[] = {
	COMMON('p'), COMMON('g'), COMMON('S'), COMMON('m'), COMMON('w'),
	COMMON('f'), COMMON('I'),
	{ 'o', "output", "DIR", "write there (default: here)" },
	{ 0 }
};

const struct command cmd_show = {
	"show", " [OPTIONS]",
	"show every statistic once, in unscaled units, of all VMs or those named",
	show_opts, run_print
};

const struct command cmd_schema = {
	"schema", " [OPTIONS]",
	"show which statistics there are", schema_opts, run_print
};

const struct command cmd_dump = {
	"dump", " [OPTIONS]",
	"write the bytes of statistics descriptors to files", dump_opts,
	run_dump
};
