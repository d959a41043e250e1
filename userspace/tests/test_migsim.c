// SPDX-License-Identifier: GPL-2.0-only
/* migsim's command line, comparison, and receiver. */
#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "image.h"

#include "../migsim/sim.h"

static struct options options;
static char error[256];

/* Words separated by blanks. */
static int parse(const char *line)
{
	static char copy[512];
	char *argv[32] = { "migsim" }, *rest = copy;
	int argc = 1;

	strcpy(copy, line);
	while (rest && *rest)
		argv[argc++] = strsep(&rest, " ");
	argv[argc] = NULL;
	error[0] = '\0';
	return options_parse(&options, argc, argv, error, sizeof(error));
}

/* Refused, and the complaint names the input at fault. */
static void assert_refused(const char *line, const char *named)
{
	if (parse(line) != -EINVAL)
		fail_msg("%s: accepted", line);
	if (!strstr(error, named))
		fail_msg("%s: complains of: %s", line, error);
}

static void defaults(void **state)
{
	(void)state;
	assert_int_equal(parse(""), 0);
	assert_ptr_equal(options.policy, &policy_none);
	assert_int_equal(options.vcpu_count, 2);
	assert_int_equal(options.vcpus[0].work, WORK_WRITE);
	assert_int_equal(options.vcpus[1].work, WORK_COMPUTE);
	assert_int_equal(options.memory_pages, 4096);
	assert_int_equal(options.bandwidth, 8 << 20);
	assert_true(options.lose_page == NO_PAGE);
	assert_int_equal(options.clear_pages, 64);
	assert_false(options.from_start);
	assert_int_equal(parse("--help"), 1);
	assert_int_equal(parse("--policy none --help"), 1);
}

static void all_options(void **state)
{
	(void)state;
	assert_int_equal(parse("--policy dirty-quota --memory-mib 64"), 0);
	assert_int_equal(options.interval_ms, 200);
	assert_ptr_equal(options.policy, &policy_dirty_quota);
	assert_int_equal(options.memory_pages, 16384);
	assert_int_equal(parse("--bandwidth 2560K --downtime-ms 100"), 0);
	assert_int_equal(options.bandwidth, 2560 * 1024);
	assert_int_equal(options.downtime_ms, 100);
	assert_int_equal(parse("--interval-ms 20 --quota-percent 75"), 0);
	assert_int_equal(options.interval_ms, 20);
	assert_int_equal(options.quota_percent, 75);
	assert_int_equal(parse("--from-start --clear-pages 0"), 0);
	assert_true(options.from_start);
	assert_int_equal(options.clear_pages, 0);
	assert_int_equal(parse("--policy stop-and-copy --clear-pages 4096"), 0);
	assert_true(options.policy->at_once);
	assert_int_equal(options.clear_pages, 4096);
	assert_int_equal(parse("--max-rounds 7 --max-seconds 9"), 0);
	assert_int_equal(options.max_rounds, 7);
	assert_int_equal(options.max_seconds, 9);
	assert_int_equal(parse("--lose-page 4095 --label a-1 --quiet"), 0);
	assert_int_equal(options.lose_page, 4095);
	assert_string_equal(options.label, "a-1");
	assert_true(options.quiet);
}

static void workloads(void **state)
{
	char line[128];

	(void)state;
	snprintf(line, sizeof(line), "--vcpu %s --vcpu %s --vcpu %s --vcpu %s",
		 "3*write:rate=500,set=7,pattern=skewed",
		 "read:rate=max,pattern=random", "compute", "compute:rate=9");
	assert_int_equal(parse(line), 0);
	assert_int_equal(options.vcpu_count, 6);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(options.vcpus[i].work, WORK_WRITE);
		assert_int_equal(options.vcpus[i].rate, 500);
		assert_int_equal(options.vcpus[i].set_pages, 7);
		assert_int_equal(options.vcpus[i].pattern, PATTERN_SKEWED);
		assert_string_equal(options.vcpus[i].text,
				    "write:rate=500,set=7,pattern=skewed");
	}
	assert_int_equal(options.vcpus[3].work, WORK_READ);
	assert_int_equal(options.vcpus[3].rate, 0);
	assert_int_equal(options.vcpus[3].set_pages, 1024);
	assert_int_equal(options.vcpus[4].set_pages, 0);
	assert_int_equal(options.vcpus[5].rate, 9);
	assert_int_equal(options.vcpus[5].meet_ms, 0);
	assert_int_equal(parse("--vcpu compute:rate=9,meet=10"), 0);
	assert_int_equal(options.vcpus[0].meet_ms, 10);
}

static void bad_workloads(void **state)
{
	static const char *const bad[] = {
		"", "jump", "write:", "write:rate", "write:rate=",
		"write:rate=0", "write:rate=-1", "write:rate=1000001",
		"write:rate=5x", "write:set=0", "write:set=524289",
		"write:pattern=zigzag", "write:speed=5", "compute:set=5",
		"compute:pattern=seq", "0*write", "x*write", "*write",
		"write:rate=5,", "123456789*write", "write:rate=max=5",
		"write:meet=10", "compute:rate=max,meet=10",
		"write:rate=5,meet=0", "write:rate=5,meet=10001",
	};
	char line[128];

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		snprintf(line, sizeof(line), "--vcpu %s", bad[i]);
		if (*bad[i])
			assert_refused(line, line);
	}
	assert_refused("--vcpu 65*compute", "65*compute");
	assert_refused("--vcpu 64*compute --vcpu compute", "more than 64");
	assert_refused("--memory-mib 1 --vcpu 2*write:set=129", "258 pages");
}

static void bad_options(void **state)
{
	static const char *const bad[] = {
		"--policy fast", "--memory-mib 0", "--memory-mib 2049",
		"--bandwidth 4095", "--bandwidth 5G", "--bandwidth K",
		"--bandwidth 99999999999999999999", "--bandwidth -1",
		"--downtime-ms 0", "--interval-ms 0", "--interval-ms 1001",
		"--quota-percent 0", "--quota-percent 101", "--baseline-ms 9",
		"--max-rounds 0", "--max-seconds 0", "--label A/b",
		"--lose-page x", "--sample-ms 1e3", "--warmup-ms 1.5",
		"--clear-pages 65", "--clear-pages 262208",
	};

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
		assert_refused(bad[i], bad[i]);
	assert_refused("--no-such-thing", "--no-such-thing");
	assert_refused("--bandwidth", "--bandwidth: needs an argument");
	assert_refused("extra", "extra: not an option");
	assert_refused("--lose-page 4096", "4096");
}

/* One bit, wherever it is. */
static void comparer_sees_a_bit(void **state)
{
	static uint8_t ours[PAGE_BYTES], theirs[PAGE_BYTES];
	struct comparison comparison = { .first = NO_PAGE };

	(void)state;
	for (size_t at = 0; at < PAGE_BYTES; at++)
		ours[at] = at * 7;
	memcpy(theirs, ours, sizeof(theirs));
	compare_page(&comparison, ours, theirs);
	assert_int_equal(comparison.differing, 0);
	assert_true(comparison.first == NO_PAGE);
	for (size_t at = 0; at < PAGE_BYTES; at++) {
		theirs[at] ^= 1 << at % 8;
		compare_page(&comparison, ours, theirs);
		theirs[at] ^= 1 << at % 8;
		assert_int_equal(comparison.differing, at + 1);
	}
	assert_int_equal(comparison.first, 1);
	assert_int_equal(comparison.pages, 1 + PAGE_BYTES);
}

static void *receive(void *fd)
{
	return (void *)(intptr_t)receiver_run(*(int *)fd, 4 * PAGE_BYTES,
					      PAGE_BYTES);
}

/* What the receiver says to one record; its exit status. */
static int receiver_status(uint32_t record, uint32_t page)
{
	struct record_header header = { .record = record, .page = page };
	static uint8_t content[PAGE_BYTES];
	pthread_t thread;
	void *status;
	int ends[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
	assert_int_equal(pthread_create(&thread, NULL, receive, &ends[1]), 0);
	assert_int_equal(write(ends[0], &header, sizeof(header)),
			 sizeof(header));
	send(ends[0], content, sizeof(content), MSG_NOSIGNAL);
	shutdown(ends[0], SHUT_WR);
	pthread_join(thread, &status);
	close(ends[0]);
	close(ends[1]);
	return (intptr_t)status;
}

static void receiver_refuses(void **state)
{
	(void)state;
	assert_int_equal(receiver_status(RECORD_PAGE, 3), 0);
	assert_int_equal(receiver_status(RECORD_PAGE, 4), EXIT_FAILED);
	assert_int_equal(receiver_status(RECORD_PAGE, UINT32_MAX), EXIT_FAILED);
	assert_int_equal(receiver_status(RECORD_CONTROL, 0), 0);
	assert_int_equal(receiver_status(RECORD_CONTROL, 1), EXIT_FAILED);
	assert_int_equal(receiver_status(RECORD_DUMP + 1, 0), EXIT_FAILED);
}

static void progress(void **state)
{
	struct vcpu_result vcpu = { .baseline = 200, .during = 50 };

	(void)state;
	assert_int_equal(progress_ppm(&vcpu), 250000);
	vcpu.baseline = 0;
	assert_int_equal(progress_ppm(&vcpu), 0);
}

int main(void)
{
	TEST_LIST = {
		cmocka_unit_test(defaults),
		cmocka_unit_test(all_options),
		cmocka_unit_test(workloads),
		cmocka_unit_test(bad_workloads),
		cmocka_unit_test(bad_options),
		cmocka_unit_test(comparer_sees_a_bit),
		cmocka_unit_test(receiver_refuses),
		cmocka_unit_test(progress),
	};

	return RUN(tests);
}
