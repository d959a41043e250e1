// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Kernel bytes become objects here and nowhere else. Nothing in them is
 * trusted: a descriptor can be an imitation, a recording can be damaged.
 */
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "internal.h"

struct block {
	uint64_t start, end;
};

static bool overlap(const struct block *a, const struct block *b)
{
	return a->start < b->end && b->start < a->end;
}

static size_t desc_stride(const struct uapi_header *header)
{
	return sizeof(struct uapi_desc) + header->name_size;
}

size_t descs_size_bytes(const struct uapi_header *header)
{
	return header->num_desc * desc_stride(header);
}

static int check_limits(const struct uapi_header *header)
{
	if (!header->name_size)
		return -EPROTO;
	if (header->name_size > KVMSTATS_MAX_NAME_SIZE ||
	    header->num_desc > KVMSTATS_MAX_STATS)
		return -E2BIG;
	if (header->id_offset % 8 || header->desc_offset % 8 ||
	    header->data_offset % 8)
		return -EPROTO;
	if (header->id_offset > KVMSTATS_MAX_OFFSET ||
	    header->desc_offset > KVMSTATS_MAX_OFFSET ||
	    header->data_offset > KVMSTATS_MAX_OFFSET)
		return -E2BIG;
	return 0;
}

int header_from_uapi(const void *bytes, struct uapi_header *header)
{
	memcpy(header, bytes, sizeof(*header));
	/* of a file with one list of values it means nothing */
	header->flags &= ~UAPI_FLAG_VCPUS;
	return check_limits(header);
}

int vcpus_header_from_uapi(const void *bytes, struct uapi_header *header,
			   struct records *records)
{
	struct uapi_vcpus_header uapi;

	memcpy(&uapi, bytes, sizeof(uapi));
	if (!(uapi.header.flags & UAPI_FLAG_VCPUS) || uapi.header.num_desc)
		return -EPROTO;
	if (uapi.record_size % 8 || uapi.values_offset % 8 ||
	    uapi.values_offset < 8 || uapi.record_size < uapi.values_offset)
		return -EPROTO;
	if (uapi.record_size > KVMSTATS_MAX_OFFSET)
		return -E2BIG;
	*header = uapi.header;
	header->num_desc = uapi.num_desc;
	records->words = uapi.record_size / 8;
	records->values_word = uapi.values_offset / 8;
	return check_limits(header);
}

int check_records(const struct kvmstats_schema *schema,
		  const struct records *records)
{
	return schema->words > records->words - records->values_word ?
	       -EPROTO : 0;
}

int vcpu_from_uapi(uint64_t number)
{
	return number > INT_MAX ? -EPROTO : (int)number;
}

static size_t header_bytes(const struct uapi_header *header)
{
	return header->flags & UAPI_FLAG_VCPUS ?
	       sizeof(struct uapi_vcpus_header) : sizeof(*header);
}

/* A terminated, non-empty text of printable ASCII. */
static bool name_ok(const char *name, size_t size_bytes)
{
	size_t length = strnlen(name, size_bytes);

	if (!length || length == size_bytes)
		return false;
	for (size_t i = 0; i < length; i++)
		if (name[i] < 0x20 || name[i] > 0x7e)
			return false;
	return true;
}

int id_from_uapi(const void *bytes, const struct uapi_header *header, char *id)
{
	if (!name_ok(bytes, header->name_size))
		return -EPROTO;
	strcpy(id, bytes);
	return 0;
}

/* The name stays where it is: @bytes must live as long as @desc. */
int desc_from_uapi(const void *bytes, const struct uapi_header *header,
		   struct kvmstats_desc *desc)
{
	const char *name = (const char *)bytes + sizeof(struct uapi_desc);
	struct uapi_desc uapi;

	memcpy(&uapi, bytes, sizeof(uapi));
	if (!uapi.size || uapi.offset % 8)
		return -EPROTO;
	if (!name_ok(name, header->name_size))
		return -EPROTO;
	desc->name = name;
	desc->flags = uapi.flags;
	desc->bucket_size = uapi.bucket_size;
	desc->word = uapi.offset / 8;
	desc->exponent = uapi.exponent;
	desc->size = uapi.size;
	return 0;
}

static int parse_descs(struct kvmstats_schema *schema)
{
	const struct uapi_header *header = &schema->header;

	for (uint32_t i = 0; i < header->num_desc; i++) {
		struct kvmstats_desc *desc = &schema->descs[i];
		int ret = desc_from_uapi(schema->raw + i * desc_stride(header),
					 header, desc);

		if (ret)
			return ret;
		if (schema->words < desc->word + (size_t)desc->size)
			schema->words = desc->word + (size_t)desc->size;
	}
	return 0;
}

static struct block make_block(uint64_t start, uint64_t size_bytes)
{
	return (struct block){ start, start + size_bytes };
}

/* Only now: the data block ends where its last statistic does. */
static int check_blocks(const struct kvmstats_schema *schema)
{
	const struct uapi_header *header = &schema->header;
	const struct block blocks[] = {
		make_block(0, header_bytes(header)),
		make_block(header->id_offset, header->name_size),
		make_block(header->desc_offset, descs_size_bytes(header)),
		make_block(header->data_offset, (uint64_t)schema->words * 8),
	};

	for (int i = 0; i < 4; i++)
		if (blocks[i].end > KVMSTATS_MAX_OFFSET)
			return -E2BIG;
	for (int i = 0; i < 4; i++)
		for (int j = 0; j < i; j++)
			if (overlap(&blocks[i], &blocks[j]))
				return -EPROTO;
	return 0;
}

static struct kvmstats_schema *schema_alloc(const struct uapi_header *header)
{
	struct kvmstats_schema *schema = calloc(1, sizeof(*schema));
	size_t count = header->num_desc;

	if (!schema)
		return NULL;
	atomic_init(&schema->refs, 1);
	schema->header = *header;
	/* one more than needed: malloc(0) may be NULL */
	schema->raw = malloc(descs_size_bytes(header) + 1);
	schema->descs = calloc(count + 1, sizeof(*schema->descs));
	schema->by_name = calloc(count + 1, sizeof(*schema->by_name));
	if (schema->raw && schema->descs && schema->by_name)
		return schema;
	kvmstats_schema_unref(schema);
	return NULL;
}

/* @descs has descs_size_bytes(header) bytes; @header has been checked. */
int schema_from_uapi(const struct uapi_header *header, const void *descs,
		     struct kvmstats_schema **result)
{
	struct kvmstats_schema *schema = schema_alloc(header);
	int ret;

	if (!schema)
		return -ENOMEM;
	memcpy(schema->raw, descs, descs_size_bytes(header));
	ret = parse_descs(schema);
	if (!ret)
		ret = check_blocks(schema);
	if (ret) {
		kvmstats_schema_unref(schema);
		return ret;
	}
	schema_index_names(schema);
	*result = schema;
	return 0;
}
