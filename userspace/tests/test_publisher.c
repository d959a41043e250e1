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

/* ------------------------------------------------------------ hostile ones */

#define SEALS (F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL)

static void fill(struct image *image)
{
	image_fill(image);
	strcpy((char *)image->bytes + IMAGE_ID_AT, "kvm-77/block:a");
}

static int make_file(const struct image *image, const char *name,
		     unsigned int flags, int seals)
{
	int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING | flags);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, image->bytes, image->size_bytes),
			 image->size_bytes);
	assert_int_equal(fcntl(fd, F_ADD_SEALS, seals), 0);
	return fd;
}

static void assert_refused(int fd, int error)
{
	struct kvmstats_source *source = NULL;

	assert_int_equal(kvmstats_source_open(fd, NULL, &source), error);
	assert_null(source);
	close(fd);
}

static void refuse(const struct image *image, int error)
{
	assert_refused(make_file(image, "kvmstats:x", 0, SEALS), error);
}

/* Right in all but one thing, and right. */
static void files(void **state)
{
	struct kvmstats_source *source;
	struct image image;
	char path[64];
	int fd;

	(void)state;
	fill(&image);
	assert_refused(make_file(&image, "kvmstats", 0, SEALS), -ENODEV);
	assert_refused(make_file(&image, "kvm-vm-stats", 0, SEALS), -ENODEV);
	assert_refused(make_file(&image, "kvmstats:x", 0, SEALS & ~F_SEAL_GROW),
		       -ENODEV);
	assert_refused(make_file(&image, "kvmstats:x", 0,
				 SEALS & ~F_SEAL_SHRINK), -ENODEV);
	assert_refused(make_file(&image, "kvmstats:x", 0, SEALS & ~F_SEAL_SEAL),
		       -ENODEV);
	fd = make_file(&image, "kvmstats:x", 0, SEALS);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	assert_refused(open(path, O_PATH | O_CLOEXEC), -ENODEV);
	assert_refused(open(path, O_WRONLY | O_CLOEXEC), -ENODEV);
	assert_int_equal(kvmstats_source_open(open(path, O_RDONLY | O_CLOEXEC),
					      NULL, &source), 0);
	assert_string_equal(kvmstats_source_device(source), "a");
	kvmstats_source_close(source);
	close(fd);
}

/* A read of those waits for what the machine may not have. */
static void huge_pages(void **state)
{
	int fd = memfd_create("kvmstats:x", MFD_CLOEXEC | MFD_ALLOW_SEALING |
			      MFD_HUGETLB);

	(void)state;
	if (fd < 0)
		skip();
	assert_int_equal(fcntl(fd, F_ADD_SEALS, SEALS), 0);
	assert_refused(fd, -ENODEV);
}

static void ids(void **state)
{
	static const char *const bad[] = {
		"kvm-77", "kvm-77/vcpu-3", "kvm-77/vm:a", "kvm-77/vcpu:a",
		"kvm-77/block:", "kvm-77/:a", "kvm-77/Block:a", "kvm-77/block",
		"kvm-77x/block:a", "77/block:a", "kvm-77/abcdefghijklmnop:a",
		"kvm-77:block/a",
	};
	struct image image;

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		fill(&image);
		strcpy((char *)image.bytes + IMAGE_ID_AT, bad[i]);
		refuse(&image, -EPROTO);
	}
}

static void contents(void **state)
{
	struct image image;

	(void)state;
	fill(&image);
	image.size_bytes -= 8;		/* sealed, but too short */
	refuse(&image, -EPROTO);
	fill(&image);
	image_header(&image)->num_desc = UINT32_MAX;
	refuse(&image, -E2BIG);
	fill(&image);
	image_header(&image)->num_desc = 257;
	refuse(&image, -E2BIG);
	fill(&image);
	image_header(&image)->name_size = 136;
	refuse(&image, -E2BIG);
	fill(&image);
	image_desc(&image, 3)->offset = 2048 * 8;
	refuse(&image, -E2BIG);
	fill(&image);
	strcpy(image_name(&image, 2), "events");
	refuse(&image, -EPROTO);
	fill(&image);
	strcpy(image_name(&image, 2), "Level");
	refuse(&image, -EPROTO);
	fill(&image);
	strcpy(image_name(&image, 2), "le\"vel");
	refuse(&image, -EPROTO);
	fill(&image);
	image_header(&image)->data_offset = IMAGE_DESCS_AT;
	refuse(&image, -EPROTO);
}

/* Schemas that nobody has any more are not kept, or there would be no end. */
static void cache_forgets(void **state)
{
	struct kvmstats_source *source, *kept;
	struct kvmstats_cache *cache;
	struct image image;
	int fd;

	(void)state;
	assert_int_equal(kvmstats_cache_new(&cache), 0);
	fill(&image);
	assert_int_equal(kvmstats_source_open(make_file(&image, "kvmstats:x", 0,
							SEALS), cache, &kept), 0);
	for (int i = 0; i < 1000; i++) {
		sprintf(image_name(&image, 2), "level%d", i);
		fd = make_file(&image, "kvmstats:x", 0, SEALS);
		assert_int_equal(kvmstats_source_open(fd, cache, &source), 0);
		kvmstats_source_close(source);
		assert_in_range(kvmstats_cache_count(cache), 2, 2);
	}
	kvmstats_source_close(kept);
	kvmstats_cache_free(cache);
}

struct scribbler {
	unsigned char *map;
	size_t size_bytes;
	struct image right;
	atomic_bool stop;
};

/* Right and wrong bytes take turns, anywhere, as fast as they can. */
static void *scribble(void *argument)
{
	struct scribbler *scribbler = argument;
	unsigned int seed = 1;

	while (!atomic_load(&scribbler->stop)) {
		size_t at = rand_r(&seed) % scribbler->size_bytes;

		__atomic_store_n(&scribbler->map[at], (unsigned char)rand_r(&seed),
				 __ATOMIC_RELAXED);
		__atomic_store_n(&scribbler->map[at], scribbler->right.bytes[at],
				 __ATOMIC_RELAXED);
	}
	return NULL;
}

static void changes_while_read(void **state)
{
	int opens = getenv("IN_VALGRIND") ? 200 : 20000, good = 0;
	struct scribbler scribbler = { .stop = false };
	struct kvmstats_cache *cache;
	pthread_t thread;
	int fd;

	(void)state;
	fill(&scribbler.right);
	scribbler.size_bytes = scribbler.right.size_bytes;
	fd = memfd_create("kvmstats:x", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	assert_int_equal(write(fd, scribbler.right.bytes, scribbler.size_bytes),
			 scribbler.size_bytes);
	scribbler.map = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd,
			     0);
	assert_ptr_not_equal(scribbler.map, MAP_FAILED);
	assert_int_equal(fcntl(fd, F_ADD_SEALS, SEALS), 0);
	assert_int_equal(kvmstats_cache_new(&cache), 0);
	assert_int_equal(pthread_create(&thread, NULL, scribble, &scribbler), 0);
	for (int i = 0; i < opens; i++) {
		struct kvmstats_source *source;
		uint64_t sample[KVMSTATS_MAX_PUBLISHED_WORDS];
		int copy = dup(fd);

		if (kvmstats_source_open(copy, cache, &source)) {
			close(copy);
			continue;
		}
		good++;
		/* it has passed: its schema does not change any more */
		for (int j = 0; j < 3; j++)
			assert_int_equal(kvmstats_source_sample(source, sample,
								KVMSTATS_MAX_PUBLISHED_WORDS),
					 0);
		kvmstats_source_close(source);
	}
	atomic_store(&scribbler.stop, true);
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_true(good > 0);
	assert_in_range(kvmstats_cache_count(cache), 0, 2);
	kvmstats_cache_free(cache);
	munmap(scribbler.map, 4096);
	close(fd);
}

/* One that has gone through the ring reads as any other. */
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
		cmocka_unit_test(files),
		cmocka_unit_test(huge_pages),
		cmocka_unit_test(ids),
		cmocka_unit_test(contents),
		cmocka_unit_test(cache_forgets),
		cmocka_unit_test(changes_while_read),
		cmocka_unit_test(in_a_batch),
		cmocka_unit_test(recorded),
	};

	return RUN(tests);
}
