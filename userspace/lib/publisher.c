// SPDX-License-Identifier: LGPL-2.1-or-later
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "published.h"

#define LINE	64		/* of the cache: values of two devices share none */

struct kvmstats_publisher {
	char class_name[KVMSTATS_MAX_CLASS + 1];
	struct uapi_header header;
	struct kvmstats_schema *schema;
};

struct kvmstats_device {
	int fd;
	void *map;
	size_t map_bytes;
	atomic_uint_least64_t *data;	/* in it */
	struct kvmstats_schema *schema;
};

static int describe(const struct kvmstats_stat *stat, uint32_t *offset,
		    unsigned char *bytes)
{
	struct uapi_desc desc = {
		.flags = stat->type | stat->unit << 4,
		.exponent = stat->exponent,
		.size = stat->size ? stat->size : 1,
		.offset = *offset,
		.bucket_size = stat->bucket_size,
	};

	for (size_t i = 0; i < sizeof(stat->reserved) / sizeof(int); i++)
		if (stat->reserved[i])
			return -EINVAL;
	if (stat->type > KVMSTATS_LOG_HIST || stat->unit > KVMSTATS_UNIT_BOOLEAN ||
	    stat->exponent < -64 || stat->exponent > 64 ||
	    stat->size > KVMSTATS_MAX_PUBLISHED_WORDS || !stat->name ||
	    strnlen(stat->name, KVMSTATS_MAX_STAT_NAME + 1) >
	    KVMSTATS_MAX_STAT_NAME)
		return -EINVAL;
	if (stat->type == KVMSTATS_LINEAR_HIST ? !stat->bucket_size :
						 stat->bucket_size)
		return -EINVAL;
	memcpy(bytes, &desc, sizeof(desc));
	strcpy((char *)bytes + sizeof(desc), stat->name);
	*offset += desc.size * 8u;
	return 0;
}

/* The reader's own checks decide whether it is right. */
static int make_schema(struct kvmstats_publisher *publisher,
		       const struct kvmstats_stat *stats, size_t count)
{
	struct uapi_header *header = &publisher->header;
	size_t stride = sizeof(struct uapi_desc) + PUBLISHED_NAME_SIZE;
	unsigned char *descs = calloc(count, stride);
	uint32_t offset = 0;
	int ret = descs ? 0 : -ENOMEM;

	*header = (struct uapi_header){
		.name_size = PUBLISHED_NAME_SIZE, .num_desc = count,
		.id_offset = sizeof(*header),
		.desc_offset = sizeof(*header) + PUBLISHED_NAME_SIZE,
	};
	header->data_offset = (header->desc_offset + count * stride + LINE - 1) /
			      LINE * LINE;
	for (size_t i = 0; i < count && !ret; i++)
		ret = describe(&stats[i], &offset, descs + i * stride);
	if (!ret)
		ret = schema_from_uapi(header, descs, &publisher->schema);
	if (!ret)
		ret = published_check_schema(publisher->schema);
	free(descs);
	return ret == -EPROTO ? -EINVAL : ret;
}

int kvmstats_publisher_new(const char *class_name,
			   const struct kvmstats_stat *stats, size_t count,
			   struct kvmstats_publisher **result)
{
	struct kvmstats_publisher *publisher;
	int ret;

	if (!published_class_ok(class_name) || !count)
		return -EINVAL;
	if (count > KVMSTATS_MAX_PUBLISHED_STATS)
		return -E2BIG;
	publisher = calloc(1, sizeof(*publisher));
	if (!publisher)
		return -ENOMEM;
	strcpy(publisher->class_name, class_name);
	ret = make_schema(publisher, stats, count);
	if (ret) {
		kvmstats_publisher_free(publisher);
		return ret;
	}
	*result = publisher;
	return 0;
}

void kvmstats_publisher_free(struct kvmstats_publisher *publisher)
{
	if (!publisher)
		return;
	kvmstats_schema_unref(publisher->schema);
	free(publisher);
}

/* The last seal is ours to write through the mapping, and nobody else's. */
static int make_file(struct kvmstats_device *device, const char *name)
{
	static const int seals[] = {
		F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_FUTURE_WRITE, F_SEAL_SEAL,
	};

	device->fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
	/* with all its memory: a store must not be a SIGBUS later */
	if (device->fd < 0 || fallocate(device->fd, 0, 0, device->map_bytes) < 0)
		return -errno;
	device->map = mmap(NULL, device->map_bytes, PROT_READ | PROT_WRITE,
			   MAP_SHARED, device->fd, 0);
	if (device->map == MAP_FAILED) {
		device->map = NULL;
		return -errno;
	}
	/* a page that was never touched looks like a hole to a reader */
	memset(device->map, 0, device->map_bytes);
	for (int i = 0; i < 2; i++)
		if (fcntl(device->fd, F_ADD_SEALS, seals[i]) < 0)
			return -errno;
	return 0;
}

int kvmstats_device_new(const struct kvmstats_publisher *publisher,
			const char *name, struct kvmstats_device **result)
{
	const struct uapi_header *header = &publisher->header;
	struct kvmstats_device *device;
	char file[sizeof(PUBLISHED_FILE) + PUBLISHED_NAME_SIZE];
	int ret;

	if (!published_device_ok(name))
		return -EINVAL;
	device = calloc(1, sizeof(*device));
	if (!device)
		return -ENOMEM;
	device->schema = kvmstats_schema_ref(publisher->schema);
	device->map_bytes = header->data_offset + publisher->schema->words * 8;
	snprintf(file, sizeof(file), PUBLISHED_FILE "%s:%s",
		 publisher->class_name, name);
	ret = make_file(device, file);
	if (ret) {
		kvmstats_device_free(device);
		return ret;
	}
	memcpy(device->map, header, sizeof(*header));
	snprintf((char *)device->map + header->id_offset, PUBLISHED_NAME_SIZE,
		 "kvm-%d/%s:%s", getpid(), publisher->class_name, name);
	memcpy((char *)device->map + header->desc_offset,
	       publisher->schema->raw, descs_size_bytes(header));
	device->data = (void *)((char *)device->map + header->data_offset);
	*result = device;
	return 0;
}

void kvmstats_device_free(struct kvmstats_device *device)
{
	if (!device)
		return;
	if (device->map)
		munmap(device->map, device->map_bytes);
	if (device->fd >= 0)
		close(device->fd);
	kvmstats_schema_unref(device->schema);
	free(device);
}

int kvmstats_device_fd(const struct kvmstats_device *device)
{
	return device->fd;
}

static _Atomic uint64_t *element_at(const struct kvmstats_device *device,
				    size_t stat, unsigned int element)
{
	const struct kvmstats_desc *desc = kvmstats_schema_desc(device->schema,
								stat);

	return desc && element < desc->size ?
	       &device->data[desc->word + element] : NULL;
}

int kvmstats_device_add(struct kvmstats_device *device, size_t stat,
			unsigned int element, uint64_t amount)
{
	_Atomic uint64_t *value = element_at(device, stat, element);

	if (!value)
		return -EINVAL;
	atomic_fetch_add_explicit(value, amount, memory_order_relaxed);
	return 0;
}

int kvmstats_device_set(struct kvmstats_device *device, size_t stat,
			unsigned int element, uint64_t amount)
{
	_Atomic uint64_t *value = element_at(device, stat, element);

	if (!value)
		return -EINVAL;
	atomic_store_explicit(value, amount, memory_order_relaxed);
	return 0;
}

int kvmstats_device_raise(struct kvmstats_device *device, size_t stat,
			  unsigned int element, uint64_t amount)
{
	_Atomic uint64_t *value = element_at(device, stat, element);
	uint64_t before;

	if (!value)
		return -EINVAL;
	before = atomic_load_explicit(value, memory_order_relaxed);
	while (before < amount &&
	       !atomic_compare_exchange_weak_explicit(value, &before, amount,
						      memory_order_relaxed,
						      memory_order_relaxed))
		;
	return 0;
}

/* As the kernel does: the last bucket has all that is beyond. */
int kvmstats_device_count(struct kvmstats_device *device, size_t stat,
			  uint64_t value)
{
	const struct kvmstats_desc *desc = kvmstats_schema_desc(device->schema,
								stat);
	uint64_t bucket;

	if (!desc || !kvmstats_desc_is_hist(desc))
		return -EINVAL;
	if (kvmstats_desc_type(desc) == KVMSTATS_LOG_HIST)
		bucket = log_bucket(value);
	else
		bucket = value / desc->bucket_size;
	if (bucket >= desc->size)
		bucket = desc->size - 1;
	return kvmstats_device_add(device, stat, bucket, 1);
}

_Atomic uint64_t *device_values(const struct kvmstats_device *device)
{
	return device->data;
}
