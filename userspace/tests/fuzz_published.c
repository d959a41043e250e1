// SPDX-License-Identifier: GPL-2.0-only
/* A sealed file of any bytes: open it as a reader would, and read it. */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "../lib/published.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size_bytes);

static void use_source(const struct kvmstats_source *source)
{
	struct kvmstats_schema *schema = kvmstats_source_schema(source);
	uint64_t sample[KVMSTATS_MAX_PUBLISHED_WORDS];
	size_t count = kvmstats_schema_count(schema);

	if (count > KVMSTATS_MAX_PUBLISHED_STATS ||
	    kvmstats_source_scope(source) != KVMSTATS_SCOPE_DEVICE ||
	    !published_class_ok(kvmstats_source_class(source)) ||
	    !published_device_ok(kvmstats_source_device(source)) ||
	    kvmstats_source_sample(source, sample, KVMSTATS_MAX_PUBLISHED_WORDS))
		abort();
	for (size_t i = 0; i < count; i++) {
		const struct kvmstats_desc *desc = kvmstats_schema_desc(schema, i);

		/* names are there once */
		if (kvmstats_schema_find(schema, kvmstats_desc_name(desc)) != desc)
			abort();
		kvmstats_desc_value(desc, sample, kvmstats_desc_size(desc) - 1);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size_bytes)
{
	struct kvmstats_source *source;
	int fd = memfd_create("kvmstats:fuzz", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	if (fd < 0 || write(fd, bytes, size_bytes) != (ssize_t)size_bytes ||
	    fcntl(fd, F_ADD_SEALS, F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL))
		abort();
	if (kvmstats_source_open(fd, NULL, &source)) {
		close(fd);
		return 0;
	}
	use_source(source);
	kvmstats_source_close(source);
	return 0;
}
