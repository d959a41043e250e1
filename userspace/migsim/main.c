// SPDX-License-Identifier: GPL-2.0-only
/*
 * migsim - does a migration converge, and what does the guest pay for it?
 *
 * A guest of its own, with real dirty logging, is copied to another process
 * over a link of limited speed, under one of several policies.
 */
#include "guest.h"

static void print_help(void)
{
	fputs(options_help(), stdout);
	puts("\npolicies");
	for (int i = 0; policies[i]; i++)
		printf("  %-14s %s\n", policies[i]->name, policies[i]->help);
}

static int parse(struct sim *sim, int argc, char **argv)
{
	char error[256];
	int ret = options_parse(&sim->options, argc, argv, error,
				sizeof(error));

	if (ret > 0)
		print_help();
	else if (ret < 0)
		fprintf(stderr, "migsim: %s\nmigsim --help says more\n", error);
	return ret;
}

/* The guest's speed while nobody disturbs it. */
static void measure_baseline(struct sim *sim)
{
	struct reporter *reporter = &sim->reporter;
	uint64_t start, before[MAX_VCPUS];
	double seconds;

	sleep_ns(sim->options.warmup_ms * NS_PER_MS);
	meter_read(sim);
	start = now_ns();
	for (unsigned int i = 0; i < sim->machine.vcpus; i++)
		before[i] = reporter->meters[i].units;
	sleep_ns(sim->options.baseline_ms * NS_PER_MS);
	meter_read(sim);
	seconds = (now_ns() - start) / 1e9;
	for (unsigned int i = 0; i < sim->machine.vcpus; i++)
		reporter->baseline[i] = (reporter->meters[i].units -
					 before[i]) / seconds;
}

static void run(struct sim *sim, struct result *result)
{
	report_open(sim);
	link_open(&sim->link, &sim->options,
		  GUEST_BLOCKS + sim->options.vcpu_count * PAGE_BYTES);
	machine_open(sim);
	machine_start(sim);
	measure_baseline(sim);
	migrate(sim, result);
	compare_memories(sim, &result->comparison);
	link_close(&sim->link);
	report_result(sim, result);
}

int main(int argc, char **argv)
{
	static struct sim sim;
	static struct result result;
	int ret = parse(&sim, argc, argv);

	if (ret)
		return ret > 0 ? EXIT_CONVERGED : EXIT_USAGE;
	run(&sim, &result);
	if (result.comparison.differing)
		return EXIT_FAILED;
	return result.converged ? EXIT_CONVERGED : EXIT_NOT_CONVERGED;
}
