// SPDX-License-Identifier: LGPL-2.1-or-later
/* All vCPUs of a VM in one descriptor, and each of them by itself. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "source.h"

static size_t record_bytes(const struct kvmstats_source *all)
{
	return all->more->records.words * 8;
}

size_t kvmstats_vcpus_record_words(const struct kvmstats_source *all)
{
	return source_has_records(all) ? all->more->records.words : 0;
}

int kvmstats_vcpus_number(const struct kvmstats_source *all,
			  const uint64_t *record)
{
	(void)all;
	return vcpu_from_uapi(*record);
}

const uint64_t *kvmstats_vcpus_values(const struct kvmstats_source *all,
				      const uint64_t *record)
{
	return record + all->more->records.values_word;
}

int kvmstats_vcpus_sample(const struct kvmstats_source *all, uint64_t *records,
			  size_t words)
{
	size_t room, most;
	ssize_t length;

	if (!source_has_records(all))
		return -EINVAL;
	room = words / all->more->records.words;
	if (!room)
		return -ENOSPC;
	/* no file is larger */
	most = KVMSTATS_MAX_OFFSET / record_bytes(all) + 1;
	if (room > most)
		room = most;
	length = source_pread(all, records, room * record_bytes(all),
			      record_offset(all, 0));
	if (length < 0)
		return length;
	if (length % record_bytes(all))
		return -EIO;
	return length / record_bytes(all);
}

/* 1 and *number, 0 if there is no such record, or -errno. */
static int read_number(const struct kvmstats_source *all, size_t index,
		       uint64_t *number)
{
	ssize_t length;

	if (index > KVMSTATS_MAX_OFFSET / record_bytes(all))
		return 0;
	length = source_pread(all, number, sizeof(*number),
			      record_offset(all, index));
	if (length <= 0)
		return length;
	return length == sizeof(*number) ? 1 : -EIO;
}

int kvmstats_vcpus_number_at(const struct kvmstats_source *all, size_t index)
{
	uint64_t number;
	int ret;

	if (!source_has_records(all))
		return -EINVAL;
	ret = read_number(all, index, &number);
	if (ret <= 0)
		return ret ? ret : -ENODATA;
	return vcpu_from_uapi(number);
}

uint64_t vcpus_end(const struct kvmstats_source *all)
{
	size_t low = 0, high = 1;
	uint64_t number;

	/* there are @low at least, and less than @high in the end */
	while (read_number(all, high - 1, &number) == 1) {
		low = high;
		high *= 2;
	}
	while (high - low > 1) {
		size_t middle = low + (high - low) / 2;

		if (read_number(all, middle - 1, &number) == 1)
			low = middle;
		else
			high = middle;
	}
	return record_offset(all, low);
}

/* As the kernel calls the vCPU in the descriptor of its own. */
static char *make_id(const struct kvmstats_source *all, int vcpu)
{
	size_t size_bytes = strlen(all->id) + sizeof("/vcpu-2147483647");
	char *id = malloc(size_bytes);

	if (id)
		snprintf(id, size_bytes, "%s/vcpu-%d", all->id, vcpu);
	return id;
}

int kvmstats_vcpus_source(struct kvmstats_source *all, size_t index,
			  struct kvmstats_source **result)
{
	struct kvmstats_source *source;
	int vcpu;

	vcpu = kvmstats_vcpus_number_at(all, index);
	if (vcpu < 0)
		return vcpu;
	source = source_new(-1, vcpu, true);
	if (!source)
		return -ENOMEM;
	source->id = make_id(all, vcpu);
	if (!source->id) {
		free(source->more);
		free(source);
		return -ENOMEM;
	}
	source->schema = kvmstats_schema_ref(all->schema);
	source->more->records = all->more->records;
	source->more->index = index;
	source->more->all = all;
	atomic_fetch_add_explicit(&all->refs, 1, memory_order_relaxed);
	*result = source;
	return 0;
}

/* ---- the image of one */

static uint32_t align8(uint32_t offset)
{
	return (offset + 7) / 8 * 8;
}

static uint64_t image_layout(const struct kvmstats_schema *schema,
			     struct uapi_header *header)
{
	*header = (struct uapi_header){
		.name_size = schema->header.name_size,
		.num_desc = schema->header.num_desc,
		.id_offset = sizeof(*header),
	};
	header->desc_offset = align8(header->id_offset + header->name_size);
	header->data_offset = align8(header->desc_offset +
				     descs_size_bytes(header));
	return header->data_offset + (uint64_t)schema->words * 8;
}

int64_t vcpu_image(const struct kvmstats_source *source, void *image,
		   size_t size_bytes)
{
	const struct kvmstats_schema *schema = source->schema;
	struct uapi_header header;
	uint64_t needed = image_layout(schema, &header);
	char *bytes = image;
	uint64_t *sample;
	int ret;

	if (!image || size_bytes < needed)
		return needed;
	sample = malloc(schema->words * 8 + 1);
	if (!sample)
		return -ENOMEM;
	ret = kvmstats_source_sample(source, sample, schema->words);
	if (!ret) {
		memset(bytes, 0, needed);
		memcpy(bytes, &header, sizeof(header));
		snprintf(bytes + header.id_offset, header.name_size, "%s",
			 source->id);
		memcpy(bytes + header.desc_offset, schema->raw,
		       descs_size_bytes(&header));
		memcpy(bytes + header.data_offset, sample, schema->words * 8);
	}
	free(sample);
	return ret ? ret : (int64_t)needed;
}
