// SPDX-License-Identifier: GPL-2.0-only
/*
 * kvmstatd: what a scrape says of descriptors that change, are lost or come again.
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent.h"

static struct settings settings;

struct fixture {
	struct registry registry;
	unsigned int fds_before;
};

static int open_registry(void **state)
{
	static struct fixture fixture;

	fixture.fds_before = count_open_fds();
	settings = (struct settings){ .max_fds_per_vm = 100 };
	*state = &fixture;
	return registry_open(&fixture.registry, &settings.filters);
}

static int close_registry(void **state)
{
	struct fixture *fixture = *state;

	close_wait();
	registry_close(&fixture->registry);
	assert_int_equal(count_open_fds(), fixture->fds_before);
	return 0;
}

static char *scrape(struct fixture *fixture, enum exposition format)
{
	return agent_text(&fixture->registry, format, &settings, 1 << 20);
}

/* One descriptor shrinks: it is closed and counted, the others are read. */
static void shrinking(void **state)
{
	struct fixture *fixture = *state;
	struct registry *registry = &fixture->registry;
	struct vm *vm = agent_add_vm(registry, "v", 1);
	struct kvmstats_source *source;
	struct image image;
	char *text;

	image_fill(&image);
	agent_add(registry, vm, made(&image), &settings);
	strcpy((char *)image.bytes + IMAGE_ID_AT, "kvm-77");
	source = image_open_file(&image);
	agent_add(registry, vm, source, &settings);
	text = scrape(fixture, PROMETHEUS);
	assert_true(has(text, "\nkvm_vm_events_total{vm=\"v\"} 100\n"));
	assert_true(has(text, "\nkvmstatd_descriptors 2\n"));
	free(text);
	assert_int_equal(ftruncate(kvmstats_source_fd(source),
				   IMAGE_DATA_AT + 8), 0);
	text = scrape(fixture, PROMETHEUS);
	assert_null(strstr(text, "kvm_vm_events_total{"));
	assert_true(has(text, "\nkvm_vcpu_events_total{vm=\"v\",vcpu=\"3\"} 100\n"));
	assert_true(has(text, "\nkvmstatd_read_errors_total 1\n"));
	assert_true(has(text, "\nkvmstatd_descriptors 1\n"));
	free(text);
	agent_remove(registry, vm);
}

static void changing(void **state)
{
	struct fixture *fixture = *state;
	struct registry *registry = &fixture->registry;
	struct vm *vm = agent_add_vm(registry, "v", 1);
	struct kvmstats_source *source;
	struct image image;
	uint64_t value = UINT64_MAX;
	char *text;

	image_fill(&image);
	source = image_open_file(&image);
	agent_add(registry, vm, source, &settings);
	/* all but the data is read once and never again */
	memset(image.bytes, 0xff, IMAGE_DATA_AT);
	assert_int_equal(pwrite(kvmstats_source_fd(source), image.bytes,
				IMAGE_DATA_AT, 0), IMAGE_DATA_AT);
	assert_int_equal(pwrite(kvmstats_source_fd(source), &value, 8,
				IMAGE_DATA_AT), 8);
	text = scrape(fixture, PROMETHEUS);
	assert_true(has(text, "_events_total{vm=\"v\"} 18446744073709551615\n") ||
		    has(text, "_events_total{vm=\"v\",vcpu=\"3\"} 18446744073709551615\n"));
	free(text);
	agent_remove(registry, vm);
}

/* A vCPU that was taken away and is back; no room for one more. */
static void replacing(void **state)
{
	struct fixture *fixture = *state;
	struct registry *registry = &fixture->registry;
	struct vm *vm = agent_add_vm(registry, "v", 1);
	struct image image;
	char *text;

	settings.max_fds_per_vm = 1;
	image_fill(&image);
	assert_int_equal(agent_add(registry, vm, made(&image), &settings), 0);
	image_data(&image)[0] = 7;
	assert_int_equal(agent_add(registry, vm, made(&image), &settings), 0);
	text = scrape(fixture, PROMETHEUS);
	assert_true(has(text, "\nkvm_vcpu_events_total{vm=\"v\",vcpu=\"3\"} 7\n"));
	assert_true(has(text, "\nkvmstatd_descriptors_replaced_total 1\n"));
	free(text);
	strcpy((char *)image.bytes + IMAGE_ID_AT, "kvm-77");
	assert_true(agent_add(registry, vm, made(&image), &settings) < 0);
	assert_int_equal(registry->fds, 1);
	agent_remove(registry, vm);
	assert_int_equal(registry->fds, 0);
}

/*
 * A descriptor is lost in one scrape while the text of an earlier one is still on
 * its way: its labels are in both.
 */
static void loss_in_between(void **state)
{
	struct fixture *fixture = *state;
	struct registry *registry = &fixture->registry;
	struct vm *vm = agent_add_vm(registry, "v", 1);
	struct kvmstats_source *source;
	struct scrape *first, *second;
	struct image image;
	char text[100];
	size_t length;

	image_fill(&image);
	source = image_open_file(&image);
	agent_add(registry, vm, source, &settings);
	first = scrape_new(registry, PROMETHEUS, &settings);
	assert_true(scrape_read(first, text, 100) > 0);
	assert_int_equal(ftruncate(kvmstats_source_fd(source), 8), 0);
	second = scrape_new(registry, PROMETHEUS, &settings);
	assert_int_equal(registry->fds, 0);
	while ((length = scrape_read(first, text, 100)))
		;
	scrape_free(first);
	agent_remove(registry, vm);
	while ((length = scrape_read(second, text, 100)))
		;
	scrape_free(second);
}

/* A descriptor that was lost comes again. */
static void lost_and_found(void **state)
{
	struct fixture *fixture = *state;
	struct registry *registry = &fixture->registry;
	struct vm *vm = agent_add_vm(registry, "v", 1);
	struct kvmstats_source *source;
	struct image image;
	char *text;

	image_fill(&image);
	source = image_open_file(&image);
	agent_add(registry, vm, source, &settings);
	assert_int_equal(ftruncate(kvmstats_source_fd(source), 8), 0);
	free(scrape(fixture, PROMETHEUS));
	assert_int_equal(registry->fds, 0);
	agent_add(registry, vm, made(&image), &settings);
	assert_int_equal(registry->fds, 1);
	text = scrape(fixture, PROMETHEUS);
	assert_non_null(strstr(text, "kvm_vcpu_events_total{vm=\"v\""));
	free(text);
	agent_remove(registry, vm);
	assert_int_equal(registry->fds, 0);
}

#define ON_REGISTRY(test) \
	cmocka_unit_test_setup_teardown(test, open_registry, close_registry)

int main(void)
{
	static TEST_LIST = {
		ON_REGISTRY(shrinking),
		ON_REGISTRY(changing),
		ON_REGISTRY(replacing),
		ON_REGISTRY(loss_in_between),
		ON_REGISTRY(lost_and_found),
	};

	return RUN(tests);
}
