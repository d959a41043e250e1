// SPDX-License-Identifier: GPL-2.0-only
/*
 * kvmstatd: what a scrape says. Run from the directory above; with UPDATE=1 in
 * the environment the recorded scrapes are written anew.
 */
#include <regex.h>
#include <stdlib.h>
#include <string.h>

#include "agent.h"

#define DATA "tests/data/"

static struct settings settings = { .max_fds_per_vm = 100 };

struct fixture {
	struct registry registry;
	struct kvmstats_cache *cache;
	unsigned int fds_before;
};

static int open_registry(void **state)
{
	static struct fixture fixture;

	fixture.fds_before = count_open_fds();
	settings = (struct settings){ .max_fds_per_vm = 100 };
	*state = &fixture;
	return registry_open(&fixture.registry, &settings.filters) ||
	       kvmstats_cache_new(&fixture.cache);
}

static int close_registry(void **state)
{
	struct fixture *fixture = *state;

	close_wait();
	registry_close(&fixture->registry);
	kvmstats_cache_free(fixture->cache);
	assert_int_equal(count_open_fds(), fixture->fds_before);
	return 0;
}

/* A recorded image; the last digit of its vCPU is made @vcpu. */
static struct kvmstats_source *recorded(struct fixture *fixture,
					const char *file, char vcpu)
{
	struct kvmstats_source *source;
	unsigned char bytes[16384];
	FILE *stream = fopen(file, "re");
	size_t size_bytes;
	char *id;

	if (!stream)
		fail_msg("%s", file);
	size_bytes = fread(bytes, 1, sizeof(bytes), stream);
	fclose(stream);
	id = memmem(bytes, size_bytes, "/vcpu-0", 7);
	if (id)
		id[6] = vcpu;
	assert_int_equal(kvmstats_source_open_image(bytes, size_bytes,
						    fixture->cache, &source),
			 0);
	return source;
}

static char *scrape(struct fixture *fixture, enum exposition format)
{
	return agent_text(&fixture->registry, format, &settings, 1 << 20);
}

/* What kvmstatd says of itself has times in it. */
static void cut_tail(char *text)
{
	char *tail = strstr(text, "# HELP kvmstatd_vms");

	assert_non_null(tail);
	*tail = 0;
}

static void compare_golden(const char *text, const char *path)
{
	char *golden = calloc(1, 1 << 20);
	FILE *file = fopen(path, getenv("UPDATE") ? "w+e" : "re");

	if (!file)
		fail_msg("%s", path);
	if (getenv("UPDATE")) {
		fputs(text, file);
		rewind(file);
	}
	assert_true(fread(golden, 1, (1 << 20) - 1, file) > 0);
	fclose(file);
	assert_string_equal(text, golden);
	free(golden);
}

/* VMs of two kernels, two vCPUs, a name that needs escapes. */
static void add_recorded(struct fixture *fixture, struct vm *vms[2])
{
	struct registry *registry = &fixture->registry;
	const char *file = DATA "x86_64-6.18-vcpu0.bin";

	vms[0] = agent_add_vm(registry, "guest1", 4711);
	agent_add(registry, vms[0], recorded(fixture, file, '1'), &settings);
	agent_add(registry, vms[0], recorded(fixture, file, '0'), &settings);
	agent_add(registry, vms[0],
		  recorded(fixture, DATA "x86_64-6.18-vm.bin", '0'), &settings);
	vms[1] = agent_add_vm(registry, "a \"q\" \\ <b>", 4712);
	file = DATA "x86_64-5.10-vcpu0.bin";
	agent_add(registry, vms[1], recorded(fixture, file, '0'), &settings);
	agent_add(registry, vms[1],
		  recorded(fixture, DATA "x86_64-5.10-vm.bin", '0'), &settings);
}

static void golden(void **state)
{
	static const char *const paths[] = {
		[PROMETHEUS] = DATA "agent-prometheus.txt",
		[OPENMETRICS] = DATA "agent-openmetrics.txt",
	};
	struct fixture *fixture = *state;
	struct vm *vms[2];

	add_recorded(fixture, vms);
	for (int format = 0; format < EXPOSITIONS; format++) {
		char *text = scrape(fixture, format);

		cut_tail(text);
		compare_golden(text, paths[format]);
		free(text);
	}
	agent_remove(&fixture->registry, vms[0]);
	agent_remove(&fixture->registry, vms[1]);
}

/* However little a client takes at once. */
static void pieces(void **state)
{
	static const size_t rooms[] = { 1, 7, 4095, STEP_BYTES, 70000 };
	struct fixture *fixture = *state;
	struct vm *vms[2];

	add_recorded(fixture, vms);
	for (int per_vcpu = 0; per_vcpu < 2; per_vcpu++) {
		char *whole;

		settings.vcpu_histograms = per_vcpu;
		whole = scrape(fixture, OPENMETRICS);
		cut_tail(whole);
		for (size_t i = 0; i < sizeof(rooms) / sizeof(*rooms); i++) {
			char *text = agent_text(&fixture->registry, OPENMETRICS,
						&settings, rooms[i]);

			cut_tail(text);
			assert_string_equal(text, whole);
			free(text);
		}
		free(whole);
	}
	agent_remove(&fixture->registry, vms[0]);
	agent_remove(&fixture->registry, vms[1]);
}

static void histogram_sums(void **state)
{
	struct fixture *fixture = *state;
	struct registry *registry = &fixture->registry;
	struct vm *vm = agent_add_vm(registry, "v", 1);
	struct image image;
	char *text;

	image_fill(&image);
	agent_add(registry, vm, made(&image), &settings);
	strcpy((char *)image.bytes + IMAGE_ID_AT, "kvm-77/vcpu-4");
	image_data(&image)[5] = UINT64_MAX - 104;
	agent_add(registry, vm, made(&image), &settings);
	text = scrape(fixture, PROMETHEUS);
	assert_true(has(text, "_bucket{vm=\"v\",le=\"0.0\"} 208\n"));
	/* and more would be beyond 64 bits */
	assert_true(has(text, "_bucket{vm=\"v\",le=\"1e-09\"} 18446744073709551615\n"));
	assert_true(has(text, "_bucket{vm=\"v\",le=\"+Inf\"} 18446744073709551615\n"));
	assert_true(has(text, "_count{vm=\"v\"} 18446744073709551615\n"));
	free(text);
	settings.vcpu_histograms = true;
	text = scrape(fixture, PROMETHEUS);
	assert_true(has(text, "_bucket{vm=\"v\",vcpu=\"3\",le=\"+Inf\"} 530\n"));
	assert_true(has(text, "_count{vm=\"v\",vcpu=\"3\"} 530\n"));
	free(text);
	text = scrape(fixture, OPENMETRICS);
	assert_null(strstr(text, "_count{"));
	assert_string_equal(text + strlen(text) - 6, "# EOF\n");
	free(text);
	agent_remove(registry, vm);
}

/* Exits by reason: counters, summed over vCPUs, of what has occurred. */
static void exit_reasons(void **state)
{
	struct fixture *fixture = *state;
	struct registry *registry = &fixture->registry;
	struct vm *vm = agent_add_vm(registry, "v", 1);
	struct image image;
	char *text;

	image_fill(&image);
	strcpy(image_name(&image, 3), "exit_reasons_svm");
	*image_desc(&image, 3) = (struct uapi_desc){
		.flags = KVMSTATS_LINEAR_HIST, .size = 80, .offset = 32,
		.bucket_size = 1,
	};
	image.size_bytes = IMAGE_DATA_AT + 84 * 8;
	memset(image_data(&image) + 4, 0, 80 * 8);
	image_data(&image)[4 + 45] = 7;
	image_data(&image)[4 + 77] = 1;
	agent_add(registry, vm, made(&image), &settings);
	strcpy((char *)image.bytes + IMAGE_ID_AT, "kvm-77/vcpu-4");
	image_data(&image)[4 + 48] = 5;
	agent_add(registry, vm, made(&image), &settings);
	text = scrape(fixture, OPENMETRICS);
	assert_true(has(text, "# TYPE kvm_vcpu_exit_reasons_svm counter\n"));
	assert_true(has(text, "\nkvm_vcpu_exit_reasons_svm_total{vm=\"v\",reason=\"HLT\"} 14\n"
			"kvm_vcpu_exit_reasons_svm_total{vm=\"v\",reason=\"IOIO\"} 5\n"
			"kvm_vcpu_exit_reasons_svm_total{vm=\"v\",reason=\"bucket 77\"} 2\n# "));
	free(text);
	settings.vcpu_histograms = true;
	text = scrape(fixture, PROMETHEUS);
	assert_true(has(text, "# TYPE kvm_vcpu_exit_reasons_svm_total counter\n"));
	assert_true(has(text, "_total{vm=\"v\",vcpu=\"3\",reason=\"HLT\"} 7\n"
			"kvm_vcpu_exit_reasons_svm_total{vm=\"v\",vcpu=\"3\",reason=\"bucket 77\"} 1\n"
			"kvm_vcpu_exit_reasons_svm_total{vm=\"v\",vcpu=\"4\",reason=\"HLT\"} 7\n"));
	assert_null(strstr(text, "svm_count"));
	free(text);
	agent_remove(registry, vm);
}

/* Statistics whose metrics would have one name: each gets its own. */
static void collisions(void **state)
{
	struct fixture *fixture = *state;
	struct registry *registry = &fixture->registry;
	struct vm *vm = agent_add_vm(registry, "v", 1);
	struct image image;
	char *text;

	image_fill(&image);
	strcpy(image_name(&image, 0), "level_ns");
	image_desc(&image, 0)->flags = FLAGS(KVMSTATS_INSTANT,
					     KVMSTATS_UNIT_SECONDS, 0);
	strcpy(image_name(&image, 1), "level.x");
	strcpy(image_name(&image, 2), "level_x");
	strcpy(image_name(&image, 3), "level");
	agent_add(registry, vm, made(&image), &settings);
	text = scrape(fixture, OPENMETRICS);
	assert_true(has(text, "\nkvm_vcpu_level_seconds{vm=\"v\",vcpu=\"3\"} 0.000000101\n"));
	assert_true(has(text, "\nkvm_vcpu_level_x_total{vm=\"v\",vcpu=\"3\"} 100\n"));
	assert_true(has(text, "\nkvm_vcpu_level_x_instant{vm=\"v\",vcpu=\"3\"} 102\n"));
	assert_true(has(text, "\nkvm_vcpu_level_log_hist_seconds_bucket{"));
	free(text);
	agent_remove(registry, vm);
}

/* A VM's statistic and a vCPU's may have one name, and other types. */
static void scopes(void **state)
{
	struct fixture *fixture = *state;
	struct registry *registry = &fixture->registry;
	struct vm *vm = agent_add_vm(registry, "v", 1);
	struct image image;
	char *text;

	image_fill(&image);
	agent_add(registry, vm, made(&image), &settings);
	strcpy((char *)image.bytes + IMAGE_ID_AT, "kvm-77");
	image_desc(&image, 1)->flags = KVMSTATS_INSTANT;
	agent_add(registry, vm, made(&image), &settings);
	text = scrape(fixture, OPENMETRICS);
	assert_true(has(text, "# TYPE kvm_vm_events gauge\n"));
	assert_true(has(text, "# TYPE kvm_vcpu_events counter\n"));
	assert_true(has(text, "\nkvm_vm_events{vm=\"v\"} 100\n"));
	assert_true(has(text, "\nkvm_vm_hist_seconds_bucket{vm=\"v\",le=\"+Inf\"} 530\n"));
	free(text);
	agent_remove(registry, vm);
}

static void unknown_kinds(void **state)
{
	struct fixture *fixture = *state;
	struct registry *registry = &fixture->registry;
	struct vm *vm = agent_add_vm(registry, "v", 1);
	struct image image;
	char *text;

	image_fill(&image);
	image_desc(&image, 0)->flags = FLAGS(9, KVMSTATS_UNIT_SECONDS, 5);
	image_desc(&image, 1)->flags = FLAGS(KVMSTATS_CUMULATIVE, 9, 0);
	image_desc(&image, 2)->flags = FLAGS(KVMSTATS_INSTANT,
					     KVMSTATS_UNIT_BYTES, 1);
	image_desc(&image, 2)->exponent = 10;
	/* a linear histogram without a width */
	image_desc(&image, 3)->flags = KVMSTATS_LINEAR_HIST;
	image_desc(&image, 3)->exponent = 0;
	agent_add(registry, vm, made(&image), &settings);
	text = scrape(fixture, OPENMETRICS);
	assert_true(has(text, "# TYPE kvm_vcpu_wait_ns unknown\n"));
	assert_true(has(text, "\nkvm_vcpu_wait_ns{vm=\"v\",vcpu=\"3\"} 101\n"));
	assert_true(has(text, "\nkvm_vcpu_level_bytes{vm=\"v\",vcpu=\"3\"} 104448\n"));
	assert_true(has(text, "# UNIT kvm_vcpu_level_bytes bytes\n"));
	assert_true(has(text, "\nkvm_vcpu_hist{vm=\"v\",vcpu=\"3\",index=\"4\"} 108\n"));
	free(text);
	text = scrape(fixture, PROMETHEUS);
	assert_true(has(text, "# TYPE kvm_vcpu_wait_ns untyped\n"));
	assert_null(strstr(text, "# UNIT"));
	free(text);
	agent_remove(registry, vm);
}

static void same_names(void **state)
{
	struct fixture *fixture = *state;
	struct registry *registry = &fixture->registry;
	struct vm *vms[5];

	vms[0] = agent_add_vm(registry, "v", 1);
	vms[1] = agent_add_vm(registry, "v", 2);
	vms[2] = agent_add_vm(registry, "v", 2);
	vms[3] = agent_add_vm(registry, "", 2);
	vms[4] = agent_add_vm(registry, "v#2", 9);
	assert_string_equal(vms[0]->key, "v");
	assert_string_equal(vms[1]->key, "v#2");
	assert_string_equal(vms[2]->key, "v#2.3");
	assert_string_equal(vms[3]->key, "00-11");
	assert_string_equal(vms[4]->key, "v#2#9");
	agent_remove(registry, vms[0]);
	vms[0] = agent_add_vm(registry, "v", 3);
	assert_string_equal(vms[0]->key, "v");
	for (int i = 0; i < 5; i++)
		agent_remove(registry, vms[i]);
}

static void filters(void **state)
{
	struct fixture *fixture = *state;
	struct registry *registry = &fixture->registry;
	struct vm *vm = agent_add_vm(registry, "v", 1);
	regex_t regex;
	struct image image;
	char *text;

	image_fill(&image);
	agent_add(registry, vm, made(&image), &settings);
	assert_int_equal(regcomp(&regex, "^(kvm_vcpu_(events_total|level))$",
				 REG_EXTENDED), 0);
	settings.filters.metrics.include = &regex;
	assert_int_equal(registry_set_filters(registry, &settings.filters), 0);
	text = scrape(fixture, PROMETHEUS);
	assert_true(has(text, "\nkvm_vcpu_events_total{"));
	assert_null(strstr(text, "kvm_vcpu_wait_seconds"));
	free(text);
	settings.filters.metrics = (struct filter){ .exclude = &regex };
	assert_int_equal(registry_set_filters(registry, &settings.filters), 0);
	text = scrape(fixture, PROMETHEUS);
	assert_null(strstr(text, "kvm_vcpu_events_total"));
	assert_true(has(text, "\nkvm_vcpu_wait_seconds_total{"));
	free(text);
	settings.filters.metrics.exclude = NULL;
	regfree(&regex);
	agent_remove(registry, vm);
}

/* The VM ends while a client takes its time with the text. */
static void death_in_between(void **state)
{
	struct fixture *fixture = *state;
	struct registry *registry = &fixture->registry;
	struct scrape *scrape;
	struct vm *vms[2];
	char text[100];
	size_t total = 0, length;

	add_recorded(fixture, vms);
	scrape = scrape_new(registry, PROMETHEUS, &settings);
	assert_true(scrape_read(scrape, text, 100) > 0);
	agent_remove(registry, vms[0]);
	agent_remove(registry, vms[1]);
	close_wait();
	while ((length = scrape_read(scrape, text, 100)))
		total += length;
	assert_true(total > 10000);
	scrape_free(scrape);
}

static void vm_filters(void **state)
{
	struct fixture *fixture = *state;
	struct registry *registry = &fixture->registry;
	struct vm *vms[2] = {
		agent_add_vm(registry, "web", 1), agent_add_vm(registry, "db", 2),
	};
	struct image image;
	regex_t regex;
	char *text;

	image_fill(&image);
	agent_add(registry, vms[0], made(&image), &settings);
	agent_add(registry, vms[1], made(&image), &settings);
	assert_int_equal(regcomp(&regex, "^(web)$", REG_EXTENDED), 0);
	settings.filters.vms.exclude = &regex;
	assert_int_equal(registry_set_filters(registry, &settings.filters), 0);
	text = scrape(fixture, PROMETHEUS);
	assert_null(strstr(text, "{vm=\"web\""));
	assert_true(has(text, "kvm_vcpu_events_total{vm=\"db\""));
	assert_true(has(text, "\nkvmstatd_vms 2\n"));
	free(text);
	settings.filters.vms.exclude = NULL;
	assert_int_equal(registry_set_filters(registry, &settings.filters), 0);
	text = scrape(fixture, PROMETHEUS);
	assert_true(has(text, "kvm_vcpu_events_total{vm=\"web\""));
	free(text);
	regfree(&regex);
	agent_remove(registry, vms[0]);
	agent_remove(registry, vms[1]);
}

/* Names that are taken by what does not come from descriptors. */
static void reserved_names(void **state)
{
	struct fixture *fixture = *state;
	struct registry *registry = &fixture->registry;
	struct vm *vm = agent_add_vm(registry, "v", 1);
	struct image image;
	char *text;

	image_fill(&image);
	strcpy(image_name(&image, 0), "cpu_ns");
	image_desc(&image, 0)->flags = FLAGS(KVMSTATS_CUMULATIVE,
					     KVMSTATS_UNIT_SECONDS, 0);
	image_desc(&image, 0)->exponent = -9;
	agent_add(registry, vm, made(&image), &settings);
	strcpy((char *)image.bytes + IMAGE_ID_AT, "kvm-77");
	strcpy(image_name(&image, 2), "info");
	agent_add(registry, vm, made(&image), &settings);
	text = scrape(fixture, OPENMETRICS);
	assert_true(has(text, "\nkvm_vcpu_cpu_cumulative_seconds_total{"));
	assert_true(has(text, "\nkvm_vm_info_instant{"));
	free(text);
	agent_remove(registry, vm);
}

#define ON_REGISTRY(test) \
	cmocka_unit_test_setup_teardown(test, open_registry, close_registry)

int main(void)
{
	static TEST_LIST = {
		ON_REGISTRY(golden),
		ON_REGISTRY(pieces),
		ON_REGISTRY(histogram_sums),
		ON_REGISTRY(exit_reasons),
		ON_REGISTRY(collisions),
		ON_REGISTRY(scopes),
		ON_REGISTRY(unknown_kinds),
		ON_REGISTRY(same_names),
		ON_REGISTRY(filters),
		ON_REGISTRY(death_in_between),
		ON_REGISTRY(vm_filters),
		ON_REGISTRY(reserved_names),
	};

	return RUN(tests);
}
