// SPDX-License-Identifier: GPL-2.0-only
#include <dirent.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "image.h"

struct uapi_header *image_header(struct image *image)
{
	return (struct uapi_header *)image->bytes;
}

struct uapi_desc *image_desc(struct image *image, unsigned int index)
{
	size_t at = IMAGE_DESCS_AT + index * IMAGE_STRIDE;

	return (struct uapi_desc *)(image->bytes + at);
}

char *image_name(struct image *image, unsigned int index)
{
	return (char *)(image_desc(image, index) + 1);
}

uint64_t *image_data(struct image *image)
{
	return (uint64_t *)(image->bytes + IMAGE_DATA_AT);
}

static void set_desc(struct image *image, unsigned int index, const char *name,
		     struct uapi_desc desc)
{
	*image_desc(image, index) = desc;
	strcpy(image_name(image, index), name);
}

void image_fill(struct image *image)
{
	memset(image, 0, sizeof(*image));
	*image_header(image) = (struct uapi_header){
		.name_size = IMAGE_NAME_SIZE, .num_desc = 4,
		.id_offset = IMAGE_ID_AT, .desc_offset = IMAGE_DESCS_AT,
		.data_offset = IMAGE_DATA_AT,
	};
	strcpy((char *)image->bytes + IMAGE_ID_AT, "kvm-77/vcpu-3");
	set_desc(image, 0, "wait_ns", (struct uapi_desc){
		.flags = FLAGS(KVMSTATS_CUMULATIVE, KVMSTATS_UNIT_SECONDS, 0),
		.exponent = -9, .size = 1, .offset = 8 });
	set_desc(image, 1, "events", (struct uapi_desc){ .size = 1 });
	set_desc(image, 2, "level", (struct uapi_desc){
		.flags = KVMSTATS_INSTANT, .size = 1, .offset = 16 });
	set_desc(image, 3, "hist", (struct uapi_desc){
		.flags = FLAGS(KVMSTATS_LOG_HIST, KVMSTATS_UNIT_SECONDS, 0),
		.exponent = -9, .size = 5, .offset = 32 });
	for (int i = 0; i < 9; i++)
		image_data(image)[i] = 100 + i;
	image->size_bytes = IMAGE_DATA_AT + 9 * 8;
}

struct uapi_vcpus_header *image_vcpus_header(struct image *image)
{
	return (struct uapi_vcpus_header *)image->bytes;
}

void image_add_vcpu(struct image *image, uint64_t number)
{
	uint64_t *record = (uint64_t *)(image->bytes + image->size_bytes);
	size_t index = (image->size_bytes - IMAGE_DATA_AT) / 8 /
		       VCPUS_RECORD_WORDS;

	record[0] = number;
	for (int i = 1; i < VCPUS_RECORD_WORDS; i++)
		record[i] = 1000 * index + 100 + i;
	image->size_bytes += VCPUS_RECORD_WORDS * 8;
}

void image_fill_vcpus(struct image *image)
{
	struct uapi_vcpus_header *header = image_vcpus_header(image);
	unsigned char *id = image->bytes + IMAGE_ID_AT;

	image_fill(image);
	memmove(id + VCPUS_SHIFT, id, IMAGE_DATA_AT - VCPUS_SHIFT - IMAGE_ID_AT);
	header->header.flags = UAPI_FLAG_VCPUS;
	header->header.id_offset += VCPUS_SHIFT;
	header->header.desc_offset += VCPUS_SHIFT;
	header->num_desc = header->header.num_desc;
	header->header.num_desc = 0;
	header->record_size = VCPUS_RECORD_WORDS * 8;
	header->values_offset = 8;
	header->pad = 0;
	strcpy((char *)id + VCPUS_SHIFT, "kvm-77");
	image->size_bytes = IMAGE_DATA_AT;
	image_add_vcpu(image, 3);
	image_add_vcpu(image, 700);
}

struct kvmstats_source *image_open_vcpus_file(const struct image *image)
{
	struct kvmstats_source *source;

	assert_int_equal(source_load_vcpus(image_file(image), NULL, &source), 0);
	return source;
}

int image_open(const struct image *image, struct kvmstats_source **source)
{
	return kvmstats_source_open_image(image->bytes, image->size_bytes,
					  NULL, source);
}

int image_file(const struct image *image)
{
	int fd = memfd_create("image", MFD_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, image->bytes, image->size_bytes),
			 image->size_bytes);
	return fd;
}

struct kvmstats_source *image_open_file(const struct image *image)
{
	struct kvmstats_source *source;

	assert_int_equal(source_load(image_file(image), -1, NULL, &source), 0);
	return source;
}

unsigned int count_open_fds(void)
{
	DIR *dir = opendir("/proc/self/fd");
	unsigned int count = 0;

	assert_non_null(dir);
	while (readdir(dir))
		count++;
	closedir(dir);
	return count;
}
