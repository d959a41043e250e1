// SPDX-License-Identifier: GPL-2.0-only
/* show, schema and dump: look once at descriptors that are at hand */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "kvmstat.h"

struct request {
	struct collection collection;
	const char *output;	/* dump: directory */
	bool as_json;
};

static void print_origin(FILE *out, const struct origin *origin)
{
	char label[SI_TEXT_SIZE];

	source_label(label, origin->source);
	fprintf(out, "# %s %s", label, kvmstats_source_id(origin->source));
	if (origin->pid)
		fprintf(out, " (descriptor %ld of process %ld)", origin->fd,
			origin->pid);
	fputc('\n', out);
}

static void print_desc(FILE *out, const struct kvmstats_desc *desc)
{
	char type[SI_TEXT_SIZE], unit[SI_TEXT_SIZE];

	fprintf(out, "%-30s %-12s %-8s", kvmstats_desc_name(desc),
		type_text(type, kvmstats_desc_type(desc)),
		unit_text(unit, kvmstats_desc_unit(desc)));
}

/* In the base unit, or raw with a mark if there is no way to convert. */
static const char *exact_text(const struct kvmstats_desc *desc, uint64_t raw,
			      char text[KVMSTATS_TEXT_SIZE])
{
	if (kvmstats_format(desc, raw, text, KVMSTATS_TEXT_SIZE) < 0)
		snprintf(text, KVMSTATS_TEXT_SIZE, "raw:%ju",
			 (uintmax_t)raw);
	return text;
}

static void print_bucket(FILE *out, const struct kvmstats_desc *desc,
			 unsigned int bucket, uint64_t count)
{
	char from[KVMSTATS_TEXT_SIZE], to[KVMSTATS_TEXT_SIZE];
	uint64_t low, high;

	if (!count)
		return;
	if (kvmstats_bucket_bounds(desc, bucket, &low, &high)) {
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

static void print_hist(FILE *out, const struct kvmstats_desc *desc,
		       const uint64_t *sample)
{
	fprintf(out, " %ju values\n",
		(uintmax_t)kvmstats_hist_count(desc, sample));
	for (unsigned int i = 0; i < kvmstats_desc_size(desc); i++)
		print_bucket(out, desc, i, kvmstats_value(desc, sample, i));
}

static void print_value(FILE *out, const struct kvmstats_desc *desc,
			const uint64_t *sample)
{
	char text[KVMSTATS_TEXT_SIZE];

	print_desc(out, desc);
	if (kvmstats_desc_is_hist(desc)) {
		print_hist(out, desc, sample);
		return;
	}
	for (unsigned int i = 0; i < kvmstats_desc_size(desc); i++)
		fprintf(out, " %s",
			exact_text(desc, kvmstats_value(desc, sample, i), text));
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

/* @sample NULL: the schema only */
static void print_source(FILE *out, const struct origin *origin,
			 const uint64_t *sample)
{
	struct kvmstats_schema *schema = kvmstats_source_schema(origin->source);

	print_origin(out, origin);
	for (size_t i = 0; i < kvmstats_schema_count(schema); i++) {
		const struct kvmstats_desc *desc;

		desc = kvmstats_schema_desc(schema, i);
		if (sample)
			print_value(out, desc, sample);
		else
			print_schema_row(out, desc);
	}
}

static void json_origin(struct json *json, const struct origin *origin)
{
	json_scope(json, origin->source);
	json_key(json, "pid");
	if (origin->pid)
		json_i64(json, origin->pid);
	else
		json_null(json);
	json_key(json, "fd");
	if (origin->fd >= 0)
		json_i64(json, origin->fd);
	else
		json_null(json);
}

static void json_source(struct json *json, const struct origin *origin,
			const uint64_t *sample)
{
	struct kvmstats_schema *schema = kvmstats_source_schema(origin->source);

	json_open(json, '{');
	json_origin(json, origin);
	json_key(json, "stats");
	json_open(json, '[');
	for (size_t i = 0; i < kvmstats_schema_count(schema); i++) {
		const struct kvmstats_desc *desc;

		desc = kvmstats_schema_desc(schema, i);
		json_open(json, '{');
		json_desc(json, desc);
		if (sample)
			json_elements(json, "values", desc, sample);
		json_close(json, '}');
	}
	json_close(json, ']');
	json_close(json, '}');
}

static uint64_t *take_sample(const struct origin *origin)
{
	size_t words;
	uint64_t *sample;
	int ret;

	words = kvmstats_schema_words(kvmstats_source_schema(origin->source));
	sample = calloc(words + 1, sizeof(*sample));
	ret = sample ? kvmstats_source_sample(origin->source, sample, words) :
	      -ENOMEM;
	if (!ret)
		return sample;
	fail(status_of(ret), "%s: %s", kvmstats_source_id(origin->source),
	     strerror(-ret));
	free(sample);
	return NULL;
}

static int print_one(FILE *out, struct json *json,
		     const struct origin *origin, bool values)
{
	uint64_t *sample = NULL;

	if (values) {
		sample = take_sample(origin);
		if (!sample)
			return STATUS_FAILED;
	}
	if (json)
		json_source(json, origin, sample);
	else
		print_source(out, origin, sample);
	free(sample);
	return STATUS_OK;
}

static int print_sources(const struct request *request, FILE *out, bool values)
{
	struct json json = { .out = out };
	struct json *as_json = request->as_json ? &json : NULL;
	int status = STATUS_OK;

	if (as_json) {
		json_open(&json, '{');
		json_key(&json, "sources");
		json_open(&json, '[');
	}
	for (size_t i = 0; i < request->collection.count && !status; i++)
		status = print_one(out, as_json,
				   &request->collection.origins[i], values);
	if (as_json) {
		json_close(&json, ']');
		json_close(&json, '}');
		fputc('\n', out);
	}
	return status;
}

/* All or nothing: a failure half way must not leave half an object. */
static int print_all(const struct request *request, bool values)
{
	size_t length = 0;
	char *text = NULL;
	FILE *out = open_memstream(&text, &length);
	int status;

	if (!out)
		return fail(STATUS_FAILED, "no memory");
	status = print_sources(request, out, values);
	if (fclose(out) == EOF)
		status = fail(STATUS_FAILED, "no memory");
	if (!status)
		fwrite(text, 1, length, stdout);
	free(text);
	return status;
}

static int collect_opt(struct request *request, int letter)
{
	switch (letter) {
	case 'p':
		return collect_pid(&request->collection, optarg);
	case 'f':
		return collect_fd(&request->collection, optarg);
	case 'i':
		return collect_image(&request->collection, optarg);
	case 'o':
		request->output = optarg;
		return STATUS_OK;
	default:
		request->as_json = true;
		return STATUS_OK;
	}
}

/* --json counts for the errors of what stands before it, too. */
static bool asks_json(int argc, char **argv)
{
	for (int i = 1; i < argc; i++)
		if (!strcmp(argv[i], "--json"))
			return true;
	return false;
}

static int parse(const struct command *command, int argc, char **argv,
		 struct request *request)
{
	int letter, status = STATUS_OK;

	if (asks_json(argc, argv))
		want_json();
	while (!status && (letter = next_opt(command, argc, argv)) != -1)
		status = collect_opt(request, letter);
	if (status)
		return status;
	if (optind < argc)
		return usage_error(command, "what is \"%s\"?", argv[optind]);
	if (!request->collection.count)
		return usage_error(command,
				   "say whose statistics: --pid, --fd or --image");
	return STATUS_OK;
}

static int run_print(const struct command *command, int argc, char **argv)
{
	struct request request = { 0 };
	int status = parse(command, argc, argv, &request);

	if (!status)
		status = print_all(&request, command == &cmd_show);
	collection_free(&request.collection);
	return status;
}

static int write_file(const char *path, const void *bytes, size_t size_bytes)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
	ssize_t written;

	if (fd < 0)
		return -errno;
	written = write(fd, bytes, size_bytes);
	if (close(fd) < 0)
		return -errno;
	return (size_t)written == size_bytes ? 0 : -EIO;
}

static int dump_one(const char *directory, const struct origin *origin,
		    size_t index)
{
	int64_t size_bytes = kvmstats_source_image(origin->source, NULL, 0);
	char label[SI_TEXT_SIZE], path[4096];
	void *bytes = malloc(size_bytes);
	int64_t ret = -ENOMEM;

	source_label(label, origin->source);
	snprintf(path, sizeof(path), "%s/%zu-%s.bin", directory, index, label);
	if (bytes)
		ret = kvmstats_source_image(origin->source, bytes, size_bytes);
	if (ret >= 0)
		ret = write_file(path, bytes, size_bytes);
	free(bytes);
	if (ret < 0)
		return fail(status_of(ret), "%s: %s", path, strerror(-ret));
	puts(path);
	return STATUS_OK;
}

static int run_dump(const struct command *command, int argc, char **argv)
{
	struct request request = { .output = "." };
	int status = parse(command, argc, argv, &request);

	for (size_t i = 0; !status && i < request.collection.count; i++)
		status = dump_one(request.output,
				  &request.collection.origins[i], i);
	collection_free(&request.collection);
	return status;
}

static const struct opt print_opts[] = {
	{ 'p', "pid", "PID", "of this process's VMs (needs a debugger's rights)" },
	{ 'f', "fd", "N", "of descriptor N, inherited from the caller" },
	{ 'i', "image", "FILE", "of a file that dump wrote" },
	{ 'j', "json", NULL, "for programs: one object" },
	{ 0 }
};

static const struct opt dump_opts[] = {
	{ 'p', "pid", "PID", "of this process's VMs (needs a debugger's rights)" },
	{ 'f', "fd", "N", "of descriptor N, inherited from the caller" },
	{ 'i', "image", "FILE", "of a file that dump wrote" },
	{ 'o', "output", "DIR", "write there (default: here)" },
	{ 0 }
};

const struct command cmd_show = {
	"show", " {--pid PID | --fd N | --image FILE}... [--json]",
	"show every statistic once, in base units", print_opts, run_print
};

const struct command cmd_schema = {
	"schema", " {--pid PID | --fd N | --image FILE}... [--json]",
	"show what statistics there are", print_opts, run_print
};

const struct command cmd_dump = {
	"dump", " {--pid PID | --fd N | --image FILE}... [--output DIR]",
	"write the bytes of statistics descriptors to files", dump_opts,
	run_dump
};
