// SPDX-License-Identifier: GPL-2.0-only
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "document.h"
#include "scrape.h"

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
	struct kvmstats_schema *schemas[MAX_IMAGES];
	enum kvmstats_scope scopes[MAX_IMAGES];
	const struct filter all = { 0 };
	struct plan *plan;

	for (size_t i = 0; i < count; i++) {
		schemas[i] = kvmstats_source_schema(sources[i]);
		scopes[i] = kvmstats_source_scope(sources[i]);
	}
	plan = plan_new(schemas, scopes, count, &all);
	if (!plan)
		return -1;
	fputs(list_head, out);
	for (size_t i = 0; i < plan->count; i++)
		put_family(out, plan, &plan->families[i], images);
	plan_unref(plan);
	return 0;
}

int document_print(char * const images[])
{
	struct kvmstats_source *sources[MAX_IMAGES];
	size_t count = 0;
	int ret = 0;

	fputs(self_head, stdout);
	self_document(stdout);
	for (; images[count] && count < MAX_IMAGES && !ret; count++) {
		ret = open_image(images[count], &sources[count]);
		if (ret) {
			complain("%s: %s", images[count], strerror(-ret));
			break;
		}
	}
	if (count && !ret)
		ret = put_images(stdout, images, count, sources);
	while (count--)
		kvmstats_source_close(sources[count]);
	return ret ? -1 : 0;
}
