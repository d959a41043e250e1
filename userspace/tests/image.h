/* SPDX-License-Identifier: GPL-2.0-only */
/* Images of statistics descriptors, right ones and wrong ones, for tests. */
#ifndef TEST_IMAGE_H
#define TEST_IMAGE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "../lib/internal.h"

#define IMAGE_BYTES	4096
#define IMAGE_NAME_SIZE	48
#define IMAGE_ID_AT	24
#define IMAGE_DESCS_AT	72
#define IMAGE_DATA_AT	2048
#define IMAGE_STRIDE	(sizeof(struct uapi_desc) + IMAGE_NAME_SIZE)

#define FLAGS(type, unit, base) ((type) | (unit) << 4 | (base) << 8)

struct image {
	_Alignas(8) unsigned char bytes[IMAGE_BYTES];
	size_t size_bytes;
};

/*
 * Four statistics in 8 + 1 words: "events" (0), "wait_ns" (1), "level" (2),
 * and "hist" (4 to 8, logarithmic); word 3 belongs to none.
 */
void image_fill(struct image *image);
/*
 * All vCPUs in one: the same statistics of vCPUs 3 and 700, and an element in each
 * record that belongs to none. Element i of a record, which begins with the number,
 * is 1000 times the number of the record plus 100 plus i.
 */
#define VCPUS_SHIFT	(sizeof(struct uapi_vcpus_header) - sizeof(struct uapi_header))
#define VCPUS_RECORD_WORDS	11	/* number, nine, none */

void image_fill_vcpus(struct image *image);
/* One record more, in the image. */
void image_add_vcpu(struct image *image, uint64_t number);
struct uapi_vcpus_header *image_vcpus_header(struct image *image);
struct kvmstats_source *image_open_vcpus_file(const struct image *image);

struct uapi_header *image_header(struct image *image);
struct uapi_desc *image_desc(struct image *image, unsigned int index);
char *image_name(struct image *image, unsigned int index);
uint64_t *image_data(struct image *image);
int image_open(const struct image *image, struct kvmstats_source **source);

/* A file in memory with these bytes, to be closed. */
int image_file(const struct image *image);
/*
 * A source that reads a file of these bytes, to be closed: past the checks of
 * what a descriptor is, so that its reads are real ones. The file can be
 * changed through the source's descriptor.
 */
struct kvmstats_source *image_open_file(const struct image *image);

/* The number of descriptors that this process has open. */
unsigned int count_open_fds(void);

#define TEST_LIST const struct CMUnitTest tests[]
#define RUN(tests) cmocka_run_group_tests(tests, NULL, NULL)

#endif /* TEST_IMAGE_H */
