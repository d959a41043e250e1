// SPDX-License-Identifier: GPL-2.0-only
/* What programs publish: right ones, and what hostile ones hand over. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "line.h"

static const struct kvmstats_stat stats[] = {
	{ .name = "packets", .type = KVMSTATS_CUMULATIVE },
	{ .name = "wait_ns", .type = KVMSTATS_CUMULATIVE,
	  .unit = KVMSTATS_UNIT_SECONDS, .exponent = -9 },
	{ .name = "queued", .type = KVMSTATS_INSTANT, .size = 3 },
	{ .name = "longest", .type = KVMSTATS_PEAK,
	  .unit = KVMSTATS_UNIT_BYTES },
	{ .name = "sizes", .type = KVMSTATS_LOG_HIST,
	  .unit = KVMSTATS_UNIT_BYTES, .size = 8 },
	{ .name = "fill", .type = KVMSTATS_LINEAR_HIST, .size = 4,
	  .bucket_size = 10 },
};

#define STATS (sizeof(stats) / sizeof(*stats))

static struct kvmstats_device *make_device(const char *class_name,
					   const char *name)
{
	struct kvmstats_publisher *publisher;
	struct kvmstats_device *device;

	assert_int_equal(kvmstats_publisher_new(class_name, stats, STATS,
						&publisher), 0);
	assert_int_equal(kvmstats_device_new(publisher, name, &device), 0);
	kvmstats_publisher_free(publisher);
	return device;
}

static uint64_t value_of(const struct kvmstats_source *source, const char *name,
			 unsigned int element)
{
	struct kvmstats_schema *schema = kvmstats_source_schema(source);
	const struct kvmstats_desc *desc = kvmstats_schema_find(schema, name);
	uint64_t sample[32];

	assert_non_null(desc);
	assert_int_equal(kvmstats_source_sample(source, sample, 32), 0);
	return kvmstats_desc_value(desc, sample, element);
}

/* Described, sent, received and read, and only then changed. */
static void through_a_socket(void **state)
{
	struct kvmstats_source *sources[KVMSTATS_MAX_MESSAGE_FDS];
	struct kvmstats_device *device;
	const struct kvmstats_desc *desc;
	struct kvmstats_schema *schema;
	struct kvmstats_sender *sender;
	struct kvmstats_peer *peer;
	struct line *line = *state;
	unsigned int rejected;
	char id[64];

	SKIP_IN_VALGRIND();
	device = make_device("net", "a \"b\"/c:d");
	assert_int_equal(kvmstats_sender_new("guest", "", &sender), 0);
	assert_int_equal(kvmstats_sender_add_device(sender, device), 0);
	assert_int_equal(kvmstats_sender_connect(sender, line->path), 0);
	assert_int_equal(kvmstats_sender_flush(sender), 1);
	assert_int_equal(kvmstats_peer_accept(line->listen_fd, &peer), 0);
	assert_int_equal(kvmstats_peer_receive(peer, NULL, sources, &rejected), 1);
	assert_int_equal(rejected, 0);
	kvmstats_sender_free(sender);

	assert_int_equal(kvmstats_source_scope(sources[0]), KVMSTATS_SCOPE_DEVICE);
	assert_int_equal(kvmstats_source_vcpu(sources[0]), -1);
	assert_string_equal(kvmstats_source_class(sources[0]), "net");
	assert_string_equal(kvmstats_source_device(sources[0]), "a \"b\"/c:d");
	snprintf(id, sizeof(id), "kvm-%d/net:a \"b\"/c:d", getpid());
	assert_string_equal(kvmstats_source_id(sources[0]), id);
	schema = kvmstats_source_schema(sources[0]);
	assert_int_equal(kvmstats_schema_count(schema), STATS);
	assert_int_equal(kvmstats_schema_words(schema), 18);
	for (size_t i = 0; i < STATS; i++) {
		desc = kvmstats_schema_desc(schema, i);
		assert_string_equal(kvmstats_desc_name(desc), stats[i].name);
		assert_int_equal(kvmstats_desc_type(desc), stats[i].type);
		assert_int_equal(kvmstats_desc_unit(desc), stats[i].unit);
		assert_int_equal(kvmstats_desc_exponent(desc), stats[i].exponent);
		assert_int_equal(kvmstats_desc_base(desc), 10);
		assert_int_equal(kvmstats_desc_size(desc),
				 stats[i].size ? stats[i].size : 1);
		assert_int_equal(kvmstats_desc_bucket_size(desc),
				 stats[i].bucket_size);
	}
	assert_int_equal(value_of(sources[0], "packets", 0), 0);

	assert_int_equal(kvmstats_device_add(device, 0, 0, 5), 0);
	assert_int_equal(kvmstats_device_add(device, 0, 0, UINT64_MAX), 0);
	assert_int_equal(kvmstats_device_set(device, 2, 1, UINT64_MAX), 0);
	assert_int_equal(kvmstats_device_raise(device, 3, 0, 70), 0);
	assert_int_equal(kvmstats_device_raise(device, 3, 0, 69), 0);
	for (uint64_t value = 1; value; value *= 2)
		assert_int_equal(kvmstats_device_count(device, 4, value), 0);
	assert_int_equal(kvmstats_device_count(device, 4, 0), 0);
	assert_int_equal(kvmstats_device_count(device, 5, 39), 0);
	assert_int_equal(kvmstats_device_count(device, 5, 40), 0);
	assert_int_equal(kvmstats_device_count(device, 5, 29), 0);
	assert_int_equal(value_of(sources[0], "packets", 0), 4);
	assert_int_equal(value_of(sources[0], "queued", 0), 0);
	assert_int_equal(value_of(sources[0], "queued", 1), UINT64_MAX);
	assert_int_equal(value_of(sources[0], "longest", 0), 70);
	for (int i = 0; i < 7; i++)
		assert_int_equal(value_of(sources[0], "sizes", i), 1);
	assert_int_equal(value_of(sources[0], "sizes", 7), 58);
	assert_int_equal(value_of(sources[0], "fill", 2), 1);
	assert_int_equal(value_of(sources[0], "fill", 3), 2);

	/* what is read stays when the device has gone */
	kvmstats_device_free(device);
	assert_int_equal(value_of(sources[0], "packets", 0), 4);
	kvmstats_source_close(sources[0]);
	kvmstats_peer_free(peer);
}

static void no_such_value(void **state)
{
	struct kvmstats_device *device = make_device("net", "n");

	(void)state;
	assert_int_equal(kvmstats_device_add(device, STATS, 0, 1), -EINVAL);
	assert_int_equal(kvmstats_device_add(device, 0, 1, 1), -EINVAL);
	assert_int_equal(kvmstats_device_set(device, 2, 3, 1), -EINVAL);
	assert_int_equal(kvmstats_device_raise(device, 99, 0, 1), -EINVAL);
	assert_int_equal(kvmstats_device_count(device, 0, 1), -EINVAL);
	assert_int_equal(kvmstats_device_count(device, 99, 1), -EINVAL);
	kvmstats_device_free(device);
	kvmstats_device_free(NULL);
	kvmstats_publisher_free(NULL);
}

static int describe(const char *class_name, struct kvmstats_stat stat)
{
	struct kvmstats_publisher *publisher = NULL;
	int ret = kvmstats_publisher_new(class_name, &stat, 1, &publisher);

	assert_int_equal(!ret, !!publisher);
	kvmstats_publisher_free(publisher);
	return ret;
}

#define NAMED(text) ((struct kvmstats_stat){ .name = (text) })
#define TEN "abcdefghij"

static void descriptions(void **state)
{
	static const char *const classes[] = {
		"", "vm", "vcpu", "Net", "1net", "net_1", "net-1", "n t",
		TEN "abcdef",
	};
	static const char *const names[] = {
		"", "Packets", "1st", "_x", "a-b", "a.b", "a b", "\xc3\xa4",
		TEN TEN TEN TEN "abcdefgh",
	};
	struct kvmstats_stat twice[2] = { stats[0], stats[0] };
	struct kvmstats_publisher *publisher;

	(void)state;
	for (size_t i = 0; i < sizeof(classes) / sizeof(*classes); i++)
		assert_int_equal(describe(classes[i], stats[0]), -EINVAL);
	assert_int_equal(describe(TEN "abcde", stats[0]), 0);
	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++)
		assert_int_equal(describe("net", NAMED(names[i])), -EINVAL);
	assert_int_equal(describe("net", NAMED(NULL)), -EINVAL);
	assert_int_equal(describe("net", NAMED(TEN TEN TEN TEN "abcdefg")), 0);
	assert_int_equal(describe("net", (struct kvmstats_stat){
		.name = "a", .type = 5 }), -EINVAL);
	assert_int_equal(describe("net", (struct kvmstats_stat){
		.name = "a", .unit = 5 }), -EINVAL);
	assert_int_equal(describe("net", (struct kvmstats_stat){
		.name = "a", .exponent = 65 }), -EINVAL);
	assert_int_equal(describe("net", (struct kvmstats_stat){
		.name = "a", .bucket_size = 1 }), -EINVAL);
	assert_int_equal(describe("net", (struct kvmstats_stat){
		.name = "a", .type = KVMSTATS_LINEAR_HIST }), -EINVAL);
	assert_int_equal(describe("net", (struct kvmstats_stat){
		.name = "a", .reserved = { 0, 0, 0, 1 } }), -EINVAL);
	assert_int_equal(describe("net", (struct kvmstats_stat){
		.name = "a", .size = 2048 }), 0);
	assert_int_equal(describe("net", (struct kvmstats_stat){
		.name = "a", .size = 2049 }), -EINVAL);
	assert_int_equal(describe("net", (struct kvmstats_stat){
		.name = "a", .type = KVMSTATS_LOG_HIST, .size = 65 }), 0);
	assert_int_equal(describe("net", (struct kvmstats_stat){
		.name = "a", .type = KVMSTATS_LOG_HIST, .size = 66 }), -EINVAL);
	assert_int_equal(kvmstats_publisher_new("net", twice, 2, &publisher),
			 -EINVAL);
	assert_int_equal(kvmstats_publisher_new("net", stats, 0, &publisher),
			 -EINVAL);
	assert_int_equal(kvmstats_publisher_new("net", stats, 257, &publisher),
			 -E2BIG);
}

static void device_names(void **state)
{
	struct kvmstats_publisher *publisher;
	struct kvmstats_device *device;
	char name[KVMSTATS_MAX_DEVICE + 2];

	(void)state;
	assert_int_equal(kvmstats_publisher_new("net", stats, STATS, &publisher),
			 0);
	memset(name, 'n', sizeof(name));
	name[sizeof(name) - 1] = 0;
	assert_int_equal(kvmstats_device_new(publisher, name, &device), -EINVAL);
	assert_int_equal(kvmstats_device_new(publisher, "", &device), -EINVAL);
	assert_int_equal(kvmstats_device_new(publisher, "a\tb", &device),
			 -EINVAL);
	name[sizeof(name) - 2] = 0;
	assert_int_equal(kvmstats_device_new(publisher, name, &device), 0);
	kvmstats_device_free(device);
	kvmstats_publisher_free(publisher);
}

/* Whoever receives it can read it, and nothing else. */
static void sealed(void **state)
{
	struct kvmstats_device *device = make_device("net", "n");
	int fd = kvmstats_device_fd(device);

	(void)state;
	assert_int_equal(pwrite(fd, "x", 1, 0), -1);
	assert_int_equal(errno, EPERM);
	assert_int_equal(ftruncate(fd, 0), -1);
	assert_int_equal(ftruncate(fd, 1 << 20), -1);
	assert_int_equal(fallocate(fd, FALLOC_FL_PUNCH_HOLE |
				   FALLOC_FL_KEEP_SIZE, 0, 4096), -1);
	assert_ptr_equal(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED,
			      fd, 0), MAP_FAILED);
	assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE), -1);
	kvmstats_device_free(device);
}

static void in_a_batch(void **state)
{
	struct kvmstats_device *device = make_device("net", "n");
	struct kvmstats_source *source;
	struct kvmstats_batch *batch;
	struct kvmstats_read reads[40] = { 0 };
	uint64_t samples[40][32];

	(void)state;
	assert_int_equal(kvmstats_device_add(device, 0, 0, 7), 0);
	assert_int_equal(kvmstats_source_open(dup(kvmstats_device_fd(device)),
					      NULL, &source), 0);
	assert_int_equal(kvmstats_batch_new(KVMSTATS_BATCH_URING, &batch), 0);
	for (int i = 0; i < 40; i++)
		reads[i] = (struct kvmstats_read){ source, samples[i], 32, 1, { 0 } };
	assert_int_equal(kvmstats_batch_sample(batch, reads, 40), 40);
	for (int i = 0; i < 40; i++) {
		assert_int_equal(reads[i].result, 0);
		assert_int_equal(samples[i][0], 7);
	}
	kvmstats_batch_free(batch);
	kvmstats_source_close(source);
	kvmstats_device_free(device);
}

/* What was recorded is opened again as what it was. */
static void recorded(void **state)
{
	struct kvmstats_device *device = make_device("net", "n:1");
	struct kvmstats_source *source, *again;
	unsigned char image[4096];
	int64_t length;

	(void)state;
	assert_int_equal(kvmstats_source_open(dup(kvmstats_device_fd(device)),
					      NULL, &source), 0);
	length = kvmstats_source_image(source, image, sizeof(image));
	assert_in_range(length, 1, sizeof(image));
	assert_int_equal(kvmstats_source_open_image(image, length, NULL, &again),
			 0);
	assert_int_equal(kvmstats_source_scope(again), KVMSTATS_SCOPE_DEVICE);
	assert_string_equal(kvmstats_source_class(again), "net");
	assert_string_equal(kvmstats_source_device(again), "n:1");
	kvmstats_source_close(source);
	kvmstats_source_close(again);
	kvmstats_device_free(device);
}

int main(void)
{
	TEST_LIST = {
		ON_LINE(through_a_socket),
		cmocka_unit_test(no_such_value),
		cmocka_unit_test(descriptions),
		cmocka_unit_test(device_names),
		cmocka_unit_test(sealed),
		cmocka_unit_test(in_a_batch),
		cmocka_unit_test(recorded),
	};

	return RUN(tests);
}
