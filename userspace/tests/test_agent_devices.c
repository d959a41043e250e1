// SPDX-License-Identifier: GPL-2.0-only
/* kvmstatd: what VMs publish themselves, honest ones and others. */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../kvmstatd/registrations.h"
#include "../kvmstatd/sources.h"
#include "agent.h"
#include "line.h"

static struct settings settings;

struct fixture {
	struct registry registry;
	struct receiver receiver;
	unsigned int fds_before;
};

static int open_agent(void **state)
{
	static struct fixture fixture;

	settings = (struct settings){
		.max_vms = 100, .max_vms_per_uid = 100, .max_fds_per_vm = 100,
		.max_devices_per_vm = 64, .max_messages = 100,
	};
	fixture.fds_before = count_open_fds();
	*state = &fixture;
	return registry_open(&fixture.registry, &settings.filters) ||
	       receiver_open(&fixture.receiver, &fixture.registry, &settings,
			     -1) ||
	       registry_reserve_names(&fixture.registry, fixture.receiver.cache,
				      &settings.filters);
}

static int close_agent(void **state)
{
	struct fixture *fixture = *state;

	close_wait();
	receiver_close(&fixture->receiver);
	registry_close(&fixture->registry);
	assert_no_leak(fixture->fds_before);
	return 0;
}

static struct kvmstats_source *open_device(struct fixture *fixture,
					   const struct kvmstats_device *device)
{
	struct kvmstats_source *source;

	assert_int_equal(kvmstats_source_open(dup(kvmstats_device_fd(device)),
					      fixture->receiver.cache, &source),
			 0);
	return source;
}

static int add_device(struct fixture *fixture, struct vm *vm,
		      const struct kvmstats_device *device)
{
	return agent_add(&fixture->registry, vm, open_device(fixture, device),
			 &settings);
}

static struct kvmstats_device *publish(const char *class_name, const char *name,
				       const struct kvmstats_stat *stats,
				       size_t count)
{
	struct kvmstats_publisher *publisher;
	struct kvmstats_device *device;

	assert_int_equal(kvmstats_publisher_new(class_name, stats, count,
						&publisher), 0);
	assert_int_equal(kvmstats_device_new(publisher, name, &device), 0);
	kvmstats_publisher_free(publisher);
	return device;
}

static char *text_of(struct fixture *fixture, enum exposition format)
{
	return agent_text(&fixture->registry, format, &settings, 1 << 20);
}

static size_t occurrences(const char *text, const char *what)
{
	size_t count = 0;

	while ((text = strstr(text, what))) {
		text += strlen(what);
		count++;
	}
	return count;
}

/* All lines, and @count of one that only begins so. */
static void expect(const char *text, const char *what, size_t count)
{
	if (occurrences(text, what) != count)
		fail_msg("%zu times, not %zu: %s in\n%s", occurrences(text, what),
			 count, what, text);
}

#define HELP	"\n# HELP kvm_block_idle_time_seconds_total "
#define UNIT	"\n# UNIT kvm_block_write_queue_time_seconds "
#define WRITE	"\nkvm_block_write_"
#define DRIVE0	"{vm=\"guest\",device=\"drive0\""
#define ODD	"{vm=\"guest\",device=\"a \\\"b\\\" \\\\\""

static void block_metrics(void **state)
{
	struct fixture *fixture = *state;
	struct vm *vm = agent_add_vm(&fixture->registry, "guest", 4711);
	struct kvmstats_block_request request;
	struct kvmstats_block *blocks[2];
	char *text;

	for (int i = 0; i < 2; i++) {
		assert_int_equal(kvmstats_block_new(i ? "a \"b\" \\" : "drive0",
						    NULL, &blocks[i]), 0);
		assert_int_equal(add_device(fixture, vm,
					    kvmstats_block_device(blocks[i])), 0);
	}
	text = text_of(fixture, PROMETHEUS);
	expect(text, "\nkvm_block_read_ios_total{vm=\"guest\",device=\"drive0\"} 0\n", 1);
	free(text);
	for (int i = 0; i < 3; i++) {
		kvmstats_block_submit(blocks[1], &request, KVMSTATS_BLOCK_WRITE,
				      4096);
		kvmstats_block_complete(blocks[1], &request, 0);
	}
	kvmstats_block_invalid(blocks[0], KVMSTATS_BLOCK_FLUSH);
	kvmstats_block_tick(blocks[0]);
	kvmstats_block_tick(blocks[1]);
	text = text_of(fixture, PROMETHEUS);
	expect(text, WRITE "ios_total" DRIVE0 "} 0\n", 1);
	expect(text, WRITE "ios_total" ODD "} 3\n", 1);
	expect(text, WRITE "bytes_total" ODD "} 12288\n", 1);
	expect(text, "\nkvm_block_flush_invalid_total" DRIVE0 "} 1\n", 1);
	expect(text, WRITE "size_hist_bytes_bucket" ODD ",le=\"8191.0\"} 3\n", 1);
	expect(text, WRITE "size_hist_bytes_bucket" DRIVE0 ",le=\"+Inf\"} 0\n", 1);
	expect(text, WRITE "size_hist_bytes_count" ODD "} 3\n", 1);
	expect(text, "\n# TYPE kvm_block_read_depth_1m gauge\n", 1);
	expect(text, HELP "Statistic idle_time_ns of a block device (cumulative)\n", 1);
	free(text);
	text = text_of(fixture, OPENMETRICS);
	expect(text, UNIT "seconds" WRITE "queue_time_seconds_total{vm=\"guest\",", 1);
	free(text);
	/* the id is the kernel's, and there is none */
	text = text_of(fixture, PROMETHEUS);
	expect(text, ",registered_by=\"vmm\",id=\"\"} 1\n", 1);
	free(text);
	agent_remove(&fixture->registry, vm);
	/* without a device there is no word of them */
	text = text_of(fixture, PROMETHEUS);
	expect(text, "kvm_block_", 0);
	free(text);
	for (int i = 0; i < 2; i++)
		kvmstats_block_free(blocks[i]);
}

static const struct kvmstats_stat packets[] = {
	{ .name = "packets", .type = KVMSTATS_CUMULATIVE },
	{ .name = "lanes", .type = KVMSTATS_INSTANT, .size = 3 },
};

/* In every order and in pieces of every size. */
static void pieces(void **state)
{
	static const size_t rooms[] = { 1, 7, 4095, 70000 };
	struct fixture *fixture = *state;
	struct kvmstats_device *device[6];
	struct kvmstats_block *block;
	struct vm *vms[2];
	struct image image;
	char *whole;

	assert_int_equal(kvmstats_block_new("d", NULL, &block), 0);
	for (int i = 0; i < 2; i++) {
		struct kvmstats_source *source;

		vms[i] = agent_add_vm(&fixture->registry, i ? "b" : "a", i);
		for (int j = 0; j < 3; j++) {
			char name[8];

			snprintf(name, sizeof(name), "n%d", 2 - j);
			device[3 * i + j] = publish("net", name, packets, 1 + i);
			add_device(fixture, vms[i], device[3 * i + j]);
			kvmstats_device_add(device[3 * i + j], 0, 0, 10 * i + j);
		}
		add_device(fixture, vms[i], kvmstats_block_device(block));
		image_fill(&image);
		assert_int_equal(image_open(&image, &source), 0);
		assert_int_equal(agent_add(&fixture->registry, vms[i], source,
					   &settings), 0);
	}
	whole = text_of(fixture, OPENMETRICS);
	expect(whole, "\nkvm_net_packets_total{vm=", 6);
	expect(whole, "\nkvm_net_packets_total{vm=\"b\",device=\"n0\"} 12\n", 1);
	expect(whole, "\nkvm_net_lanes{vm=\"b\",device=\"n1\",index=\"2\"} 0\n", 1);
	expect(whole, "\nkvm_net_lanes{vm=", 9);
	expect(whole, "\nkvm_block_read_ios_total{vm=", 2);
	expect(whole, "\nkvm_vcpu_events_total{vm=\"a\",vcpu=\"3\"} 100\n", 1);
	*strstr(whole, "# HELP kvmstatd_vms") = 0;
	for (size_t i = 0; i < sizeof(rooms) / sizeof(*rooms); i++) {
		char *text = agent_text(&fixture->registry, OPENMETRICS,
					&settings, rooms[i]);

		*strstr(text, "# HELP kvmstatd_vms") = 0;
		assert_string_equal(text, whole);
		free(text);
	}
	free(whole);
	for (int i = 0; i < 2; i++)
		agent_remove(&fixture->registry, vms[i]);
	for (int i = 0; i < 6; i++)
		kvmstats_device_free(device[i]);
	kvmstats_block_free(block);
}

/* Another class of that name is another device; the same one is the same. */
static void made_again(void **state)
{
	struct fixture *fixture = *state;
	struct vm *vm = agent_add_vm(&fixture->registry, "v", 1);
	struct kvmstats_device *old = publish("net", "n", packets, 2);
	struct kvmstats_device *new = publish("net", "n", packets, 1);
	struct kvmstats_device *other = publish("tap", "n", packets, 1);
	char *text;

	kvmstats_device_add(old, 0, 0, 1);
	kvmstats_device_add(new, 0, 0, 2);
	kvmstats_device_add(other, 0, 0, 3);
	add_device(fixture, vm, old);
	add_device(fixture, vm, other);
	add_device(fixture, vm, new);
	assert_int_equal(vm->devices, 2);
	assert_int_equal(vm->device_words, 2);
	assert_int_equal(fixture->registry.fds, 2);
	text = text_of(fixture, PROMETHEUS);
	expect(text, "\nkvm_net_packets_total{vm=\"v\",device=\"n\"} 2\n", 1);
	expect(text, "\nkvm_tap_packets_total{vm=\"v\",device=\"n\"} 3\n", 1);
	expect(text, "kvm_net_lanes", 0);
	free(text);
	agent_remove(&fixture->registry, vm);
	kvmstats_device_free(old);
	kvmstats_device_free(new);
	kvmstats_device_free(other);
}

/* Who comes first with the name of what others count takes it from nobody. */
static void stolen_names(void **state)
{
	static const struct kvmstats_stat stats[] = {
		{ .name = "read_ios", .type = KVMSTATS_INSTANT },
		{ .name = "read_bytes", .type = KVMSTATS_CUMULATIVE,
		  .unit = KVMSTATS_UNIT_SECONDS },
		{ .name = "write_ios_total", .type = KVMSTATS_CUMULATIVE },
		{ .name = "idle_time_ns", .type = KVMSTATS_LOG_HIST, .size = 3,
		  .unit = KVMSTATS_UNIT_SECONDS, .exponent = -9 },
	};
	struct fixture *fixture = *state;
	struct vm *evil = agent_add_vm(&fixture->registry, "evil", 1);
	struct vm *good = agent_add_vm(&fixture->registry, "good", 2);
	struct kvmstats_device *device = publish("block", "d", stats, 4);
	struct kvmstats_block *block;
	char *text;

	assert_int_equal(add_device(fixture, evil, device), 0);
	assert_int_equal(kvmstats_block_new("d", NULL, &block), 0);
	assert_int_equal(add_device(fixture, good, kvmstats_block_device(block)),
			 0);
	text = text_of(fixture, PROMETHEUS);
	expect(text, "\n# TYPE kvm_block_read_ios_total counter\n", 1);
	expect(text, "\nkvm_block_read_ios_total{vm=\"good\",device=\"d\"} 0\n", 1);
	expect(text, "\nkvm_block_read_ios_instant{vm=\"evil\",device=\"d\"} 0\n", 1);
	expect(text, "\nkvm_block_read_bytes_total{vm=\"good\",device=\"d\"} 0\n", 1);
	expect(text, "\nkvm_block_idle_time_seconds_total{vm=\"good\",device=\"d\"} 0", 1);
	expect(text, "\nkvm_block_write_ios_total{vm=\"good\",device=\"d\"} 0\n", 1);
	expect(text, "\nkvm_block_write_ios_total{vm=\"evil\"", 0);
	free(text);
	agent_remove(&fixture->registry, evil);
	agent_remove(&fixture->registry, good);
	kvmstats_device_free(device);
	kvmstats_block_free(block);
}

static void too_many_devices(void **state)
{
	struct fixture *fixture = *state;
	struct vm *vm = agent_add_vm(&fixture->registry, "v", 1);
	struct kvmstats_device *device;
	char name[16];

	for (int i = 0; i <= 64; i++) {
		snprintf(name, sizeof(name), "n%d", i);
		device = publish("net", name, packets, 2);
		assert_int_equal(add_device(fixture, vm, device),
				 i < 64 ? 0 : -ENOSPC);
		kvmstats_device_free(device);
	}
	agent_remove(&fixture->registry, vm);
}

/* What has no room costs its VM nothing else, whichever limit it is. */
static void leaves_out(void **state)
{
	struct fixture *fixture = *state;
	struct kvmstats_device *device, *other = publish("net", "n0", packets, 2);
	struct vm *vm = agent_add_vm(&fixture->registry, "v", 1);
	struct kvmstats_source *sources[3];
	struct image image;
	bool changed;
	char *text;

	settings.max_devices_per_vm = 1;
	assert_int_equal(add_device(fixture, vm, other), 0);
	device = publish("net", "n1", packets, 1);
	sources[0] = open_device(fixture, device);
	image_fill(&image);
	assert_int_equal(image_open(&image, &sources[1]), 0);
	sources[2] = open_device(fixture, other);
	assert_int_equal(registry_add_sources(&fixture->registry, vm, sources, 3,
					      &settings, &changed), 0);
	assert_true(changed);
	assert_int_equal(fixture->registry.counters.fds_rejected, 1);
	/* what has no room does not count as one that the VM has brought */
	assert_int_equal(vm->new_kinds, 1);
	/* the store still has the one in whose place it waits */
	sources[0] = open_device(fixture, device);
	assert_int_equal(registry_add_sources(&fixture->registry, vm, sources, 1,
					      &settings, &changed), 0);
	assert_true(changed);
	assert_int_equal(vm->waiting->count, 1);
	text = text_of(fixture, PROMETHEUS);
	expect(text, "device=\"n0\"} 0\n", 1);
	expect(text, "device=\"n1\"", 0);
	free(text);
	settings.max_devices_per_vm = 64;
	settings.max_fds_per_vm = vm->count;
	assert_int_equal(add_device(fixture, vm, device), -ENOSPC);
	assert_int_equal(vm->count, 2);
	/* SIGHUP, and another limit */
	settings.max_fds_per_vm++;
	receiver_reconsider(&fixture->receiver);
	registry_try_waiting(&fixture->registry, &settings);
	assert_int_equal(vm->count, 3);
	text = text_of(fixture, PROMETHEUS);
	expect(text, "device=\"n1\"} 0\n", 1);
	free(text);
	agent_remove(&fixture->registry, vm);
	kvmstats_device_free(device);
	kvmstats_device_free(other);
}

/* 64 disks have room; 64 of the largest that there can be have not. */
static void too_many_values(void **state)
{
	static const struct kvmstats_stat large = {
		.name = "a", .size = KVMSTATS_MAX_PUBLISHED_WORDS,
	};
	struct fixture *fixture = *state;
	struct vm *vm = agent_add_vm(&fixture->registry, "v", 1);
	struct kvmstats_device *device;
	struct kvmstats_block *block;
	char name[16];

	for (int i = 0; i < 64; i++) {
		snprintf(name, sizeof(name), "d%d", i);
		assert_int_equal(kvmstats_block_new(name, NULL, &block), 0);
		assert_int_equal(add_device(fixture, vm,
					    kvmstats_block_device(block)), 0);
		kvmstats_block_free(block);
	}
	agent_remove(&fixture->registry, vm);
	vm = agent_add_vm(&fixture->registry, "v", 1);
	for (int i = 0; i <= 16; i++) {
		snprintf(name, sizeof(name), "n%d", i);
		device = publish("net", name, &large, 1);
		assert_int_equal(add_device(fixture, vm, device),
				 i < 16 ? 0 : -ENOSPC);
		kvmstats_device_free(device);
	}
	agent_remove(&fixture->registry, vm);
}

static struct kvmstats_device *publish_nth(int n, const char *name)
{
	char text[16];
	struct kvmstats_stat stat = { .name = text };

	snprintf(text, sizeof(text), "a%d", n);
	return publish("net", name, &stat, 1);
}

/* One VM has so many schemas, all have so many; what is given up is free again. */
static void schemas(void **state)
{
	struct fixture *fixture = *state;
	struct kvmstats_device *device;
	struct vm *vm;

	for (int round = 0; round < 10; round++) {
		vm = agent_add_vm(&fixture->registry, "v", 1);
		for (int i = 0; i <= 16; i++) {
			/* always the same device: the one before is given up */
			device = publish_nth(100 * round + i, "n");
			assert_int_equal(add_device(fixture, vm, device),
					 i < 16 ? 0 : -ENOSPC);
			kvmstats_device_free(device);
		}
		agent_remove(&fixture->registry, vm);
		close_wait();
	}
	/* what nobody has any more leaves the cache when something new comes */
	device = publish_nth(10000, "n");
	kvmstats_source_close(open_device(fixture, device));
	kvmstats_device_free(device);
	assert_in_range(fixture->registry.num_kinds, 1, MAX_PUBLISHED + 1);
	assert_in_range(kvmstats_cache_count(fixture->receiver.cache), 1,
			MAX_PUBLISHED + 2);
}

static struct vm *add_vm_of(struct fixture *fixture, uid_t uid, int pid)
{
	struct vm *vm = agent_add_vm(&fixture->registry, "v", pid);

	vm->identity.uid = uid;
	return vm;
}

/* @from and as many devices that follow, of which each has its own list. */
static size_t add_many(struct fixture *fixture, struct vm *vm, int from, int count)
{
	struct kvmstats_device *device;
	size_t taken = 0;
	char name[16];

	for (int i = from; i < from + count; i++) {
		snprintf(name, sizeof(name), "n%d", i);
		device = publish_nth(i, name);
		taken += !add_device(fixture, vm, device);
		kvmstats_device_free(device);
	}
	return taken;
}

/* However many connections one user has, others have room; what had none, later. */
static void schemas_of_a_user(void **state)
{
	struct fixture *fixture = *state;
	struct vm *hogs[4], *late, *other;
	char *text;

	for (int i = 0; i < 4; i++) {
		hogs[i] = add_vm_of(fixture, 1000, i);
		assert_int_equal(add_many(fixture, hogs[i], 16 * i, 16),
				 i < KINDS_PER_UID / 16 ? 16 : 0);
	}
	other = add_vm_of(fixture, 1001, 5);
	assert_int_equal(add_many(fixture, other, 100, 16), 16);
	late = add_vm_of(fixture, 1000, 6);
	assert_int_equal(add_many(fixture, late, 200, 1), 0);
	/* the same device once more is no second one that waits */
	assert_int_equal(add_many(fixture, late, 200, 1), 0);
	assert_int_equal(late->waiting->count, 1);
	text = text_of(fixture, PROMETHEUS);
	expect(text, "\nkvm_net_a200_total{", 0);
	expect(text, "\nkvmstatd_devices_left_out 33\n", 1);
	free(text);
	/* nothing has ended */
	registry_try_waiting(&fixture->registry, &settings);
	assert_int_equal(fixture->registry.num_waiting, 33);
	agent_remove(&fixture->registry, hogs[2]);
	agent_remove(&fixture->registry, hogs[3]);
	registry_try_waiting(&fixture->registry, &settings);
	assert_int_equal(fixture->registry.num_waiting, 1);
	agent_remove(&fixture->registry, hogs[0]);
	registry_try_waiting(&fixture->registry, &settings);
	assert_int_equal(fixture->registry.num_waiting, 0);
	text = text_of(fixture, PROMETHEUS);
	expect(text, "\nkvm_net_a200_total{", 1);
	expect(text, "\nkvmstatd_devices_left_out 0\n", 1);
	free(text);
	agent_remove(&fixture->registry, hogs[1]);
	agent_remove(&fixture->registry, late);
	agent_remove(&fixture->registry, other);
	assert_int_equal(fixture->registry.fds, 0);
}

/* What another still has of what one has brought is that one's no more. */
static void schemas_of_others(void **state)
{
	struct fixture *fixture = *state;
	struct vm *first[2], *other, *late;

	for (int i = 0; i < 2; i++) {
		first[i] = add_vm_of(fixture, 1000, i);
		assert_int_equal(add_many(fixture, first[i], 16 * i, 16), 16);
	}
	other = add_vm_of(fixture, 1001, 2);
	assert_int_equal(add_many(fixture, other, 0, 32), 32);
	late = add_vm_of(fixture, 1000, 3);
	assert_int_equal(add_many(fixture, late, 100, 1), 0);
	/* half of them stay their user's */
	agent_remove(&fixture->registry, first[0]);
	registry_try_waiting(&fixture->registry, &settings);
	assert_int_equal(fixture->registry.num_waiting, 0);
	assert_int_equal(add_many(fixture, late, 101, 15), 15);
	agent_remove(&fixture->registry, late);
	late = add_vm_of(fixture, 1000, 4);
	assert_int_equal(add_many(fixture, late, 200, 16), 16);
	assert_int_equal(add_many(fixture, add_vm_of(fixture, 1000, 5), 300, 1), 0);
	/* the other answers for what it has taken over, and may have more of its own */
	assert_int_equal(add_many(fixture, other, 400, 16), 16);
	assert_int_equal(add_many(fixture, add_vm_of(fixture, 1001, 6), 500, 1), 0);
	while (fixture->registry.count)
		agent_remove(&fixture->registry, fixture->registry.vms[0]);
}

/* Together VMs have no more than that, and then honest ones still have theirs. */
static void schemas_of_all(void **state)
{
	struct fixture *fixture = *state;
	struct kvmstats_block *block;
	struct kvmstats_source *source;
	struct image image;
	struct vm *vms[MAX_PUBLISHED / 16 + 1];

	for (int i = 0; i <= MAX_PUBLISHED / 16; i++) {
		vms[i] = add_vm_of(fixture, 1000 + i, i);
		assert_int_equal(add_many(fixture, vms[i], 16 * i, 16),
				 i < MAX_PUBLISHED / 16 ? 16 : 0);
	}
	assert_int_equal(kvmstats_block_new("d", NULL, &block), 0);
	assert_int_equal(add_device(fixture, vms[2],
				    kvmstats_block_device(block)), 0);
	image_fill(&image);
	assert_int_equal(image_open(&image, &source), 0);
	assert_int_equal(agent_add(&fixture->registry, vms[2], source, &settings),
			 0);
	for (int i = 0; i <= MAX_PUBLISHED / 16; i++)
		agent_remove(&fixture->registry, vms[i]);
	kvmstats_block_free(block);
}

/* ------------------------------------------------ others are never late */

struct victim {
	struct registry *registry;
	atomic_bool stop;
	uint64_t longest_ns;
};

static void *scrape_often(void *argument)
{
	struct victim *victim = argument;

	while (!atomic_load(&victim->stop)) {
		uint64_t start_ns = monotonic_ns();
		struct scrape *scrape = scrape_new(victim->registry, PROMETHEUS,
						   &settings);

		scrape_free(scrape);
		start_ns = monotonic_ns() - start_ns;
		if (start_ns > victim->longest_ns)
			victim->longest_ns = start_ns;
		usleep(100);
	}
	return NULL;
}

/* The most work that one user's VMs can make: all samples are still taken at once. */
static void heavy(void **state)
{
	static struct kvmstats_stat stats[KVMSTATS_MAX_PUBLISHED_STATS];
	static char names[KVMSTATS_MAX_PUBLISHED_STATS][32];
	struct fixture *fixture = *state;
	struct victim victim = { .registry = &fixture->registry };
	struct kvmstats_device *device;
	uint64_t start_ns;
	pthread_t thread;
	struct vm *vms[2];
	char name[16], *text;
	int count = KINDS_PER_UID;

	/* where all takes longer */
#ifdef __SANITIZE_THREAD__
	count = 8;
#endif
	if (getenv("IN_VALGRIND"))
		count = 4;
	assert_int_equal(pthread_create(&thread, NULL, scrape_often, &victim), 0);
	start_ns = monotonic_ns();
	for (int i = 0; i < 2; i++)
		vms[i] = agent_add_vm(&fixture->registry, i ? "b" : "a", i);
	for (int i = 0; i < count; i++) {
		for (int j = 0; j < KVMSTATS_MAX_PUBLISHED_STATS; j++) {
			sprintf(names[j], "a%d_%d", i, j);
			stats[j] = (struct kvmstats_stat){
				.name = names[j], .type = KVMSTATS_LOG_HIST,
				.unit = KVMSTATS_UNIT_SECONDS, .exponent = -9,
				.size = 8,
			};
		}
		snprintf(name, sizeof(name), "n%d", i);
		device = publish("net", name, stats, KVMSTATS_MAX_PUBLISHED_STATS);
		assert_int_equal(add_device(fixture, vms[i / 16], device), 0);
		kvmstats_device_free(device);
	}
	start_ns = monotonic_ns() - start_ns;
	text = text_of(fixture, PROMETHEUS);
	atomic_store(&victim.stop, true);
	assert_int_equal(pthread_join(thread, NULL), 0);
	print_message("# longest: samples of all %.1f ms; registering %.1f ms, %.1f MB of text\n",
		      victim.longest_ns / 1e6, start_ns / 1e6,
		      strlen(text) / 1e6);
	free(text);
	/* on a machine that has much else to do */
	assert_in_range(victim.longest_ns, 0, 60000000000);
	agent_remove(&fixture->registry, vms[0]);
	agent_remove(&fixture->registry, vms[1]);
}

#define ON_AGENT(test) \
	cmocka_unit_test_setup_teardown(test, open_agent, close_agent)

int main(void)
{
	TEST_LIST = {
		ON_AGENT(block_metrics),
		ON_AGENT(pieces),
		ON_AGENT(made_again),
		ON_AGENT(stolen_names),
		ON_AGENT(leaves_out),
		ON_AGENT(too_many_devices),
		ON_AGENT(too_many_values),
		ON_AGENT(schemas),
		ON_AGENT(schemas_of_a_user),
		ON_AGENT(schemas_of_others),
		ON_AGENT(schemas_of_all),
		ON_AGENT(heavy),
	};

	return RUN(tests);
}
