// SPDX-License-Identifier: GPL-2.0-only
/*
 * fuzz [-r SEED] [-s SECONDS] [-n OPERATIONS] [-t THREADS] [-1] [-w FAULT|all]
 *
 * Random operations on everything that the statistics fd, the dirty quota and
 * lists of memory slots offer, against a model that says what must come of each.
 *
 * What each thread does is a function of the seed and its number; the times at
 * which threads meet are not. With -1 there is one thread, and a VM that it
 * runs itself: such a run is the same each time. -n: operations of a thread.
 *
 * -w makes the model wrong in the named way and passes if that is noticed; "all"
 * tries each (TAP). A fuzzer that notices nothing proves nothing.
 */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fuzz.h"

enum wrong wrong;

static const char * const wrong_names[NR_WRONG] = {
	"nothing", "byte", "counter", "size", "fault", "seek", "enabled",
	"default", "rewrite", "late", "harvest", "bound", "sum", "carry",
	"hangup", "order",
};

static struct {
	uint64_t seed, max_ops, seconds;
	unsigned int nr_threads;
	bool single;
} options = { .nr_threads = 3 };

static void no_op(int signal_nr)
{
	(void)signal_nr;
}

void fuzz_op(struct worker *w, struct op *ops, unsigned int nr)
{
	const size_t used = strlen(doing);
	unsigned int total = 0, i, at;

	for (i = 0; i < nr; i++)
		total += ops[i].weight;
	at = rng_below(&w->rng, total);
	for (i = 0; at >= ops[i].weight; i++)
		at -= ops[i].weight;
	snprintf(doing + used, sizeof(doing) - used, " (%s)", ops[i].name);
	ops[i].run(w);
	__atomic_add_fetch(&ops[i].done, 1, __ATOMIC_RELAXED);
}

void fuzz_report(const struct op *ops, unsigned int nr)
{
	for (unsigned int i = 0; i < nr; i++)
		printf("# %-20s %10llu\n", ops[i].name,
		       (unsigned long long)ops[i].done);
}

static uint64_t total_done(const struct op *ops, unsigned int nr)
{
	uint64_t done = 0;

	for (unsigned int i = 0; i < nr; i++)
		done += ops[i].done;
	return done;
}

static void begin(struct worker *w)
{
	unsigned int i;

	rng_start(&w->rng, options.seed, w->nr);
	make_zones(w);
	w->has_ring = uring_open(&w->ring);
	for (i = 0; i < NR_VMS; i++)
		w->boxes[i].vm_fd = -1;
	for (i = 0; i < NR_FILES; i++)
		w->files[i].fd = -1;
	w->machine.vm_fd = -1;
}

static void end(struct worker *w)
{
	unsigned int i;

	for (i = 0; i < NR_FILES; i++)
		close_file(&w->files[i]);
	for (i = 0; i < NR_VMS; i++)
		close_box(&w->boxes[i]);
	machine_close(&w->machine);
	if (w->has_ring)
		uring_close(&w->ring);
}

static bool is_over(const struct worker *w)
{
	return (w->max_ops && w->nr_ops >= w->max_ops) ||
	       (w->end_ms && now_ms() >= w->end_ms);
}

static void *fuzz(void *arg)
{
	struct worker *w = arg;

	begin(w);
	for (; !is_over(w); w->nr_ops++) {
		unsigned int table = rng_below(&w->rng, 8);

		DOING("thread %u, operation %llu", w->nr,
		      (unsigned long long)w->nr_ops);
		if (table < 4)
			fuzz_op(w, file_ops, nr_file_ops);
		else if (table < 5)
			fuzz_op(w, ioctl_ops, nr_ioctl_ops);
		else
			fuzz_op(w, quota_ops, nr_quota_ops);
	}
	end(w);
	return NULL;
}

/* Of those that are in what the files contain. */
static void spoil_schemas(void)
{
	if (wrong == WRONG_BYTE)
		vcpu_schema.fixed[vcpu_schema.header.desc_offset + 70] ^= 1;
	for (unsigned int i = 0; i < vcpu_schema.nr_words; i++)
		if (wrong == WRONG_COUNTER &&
		    !strcmp(vcpu_schema.names[i], "dirty_quota"))
			vcpu_schema.kinds[i] = STATS_GROWS;
}

static void prepare(void)
{
	struct sigaction action = { .sa_handler = no_op };

	sigaction(SIGUSR1, &action, NULL);
	kvm_open();
	learn_schemas();
	spoil_schemas();
	snprintf(rerun, sizeof(rerun), "fuzz -r %llu %s-t %u -s %llu -n %llu",
		 (unsigned long long)options.seed, options.single ? "-1 " : "",
		 options.nr_threads, (unsigned long long)options.seconds,
		 (unsigned long long)options.max_ops);
}

static void run_threads(struct worker *workers)
{
	unsigned int i;

	if (!options.single && own_kernel)
		chaos_start(options.seed);
	for (i = 0; i < options.nr_threads; i++)
		CHECK(!pthread_create(&workers[i].thread, NULL, fuzz,
				      &workers[i]), "pthread_create");
	for (i = 0; i < options.nr_threads; i++)
		pthread_join(workers[i].thread, NULL);
	if (!options.single && own_kernel)
		chaos_stop();
}

static void report(void)
{
	uint64_t done = total_done(file_ops, nr_file_ops) +
			total_done(ioctl_ops, nr_ioctl_ops) +
			total_done(quota_ops, nr_quota_ops);

	fuzz_report(file_ops, nr_file_ops);
	fuzz_report(ioctl_ops, nr_ioctl_ops);
	fuzz_report(quota_ops, nr_quota_ops);
	chaos_report();
	printf("# seed %llu: %llu operations of %u threads, nothing found\n",
	       (unsigned long long)options.seed, (unsigned long long)done,
	       options.nr_threads);
}

static void run(void)
{
	struct worker *workers = calloc(options.nr_threads, sizeof(*workers));
	long before;

	prepare();
	before = count_vms();
	printf("# seed %llu\n", (unsigned long long)options.seed);
	fflush(stdout);
	alarm(options.seconds ? options.seconds + 200 : 0);
	for (unsigned int i = 0; i < options.nr_threads; i++) {
		workers[i].nr = i;
		workers[i].max_ops = options.max_ops;
		if (options.seconds)
			workers[i].end_ms = now_ms() + options.seconds * 1000;
	}
	run_threads(workers);
	DOING("after all");
	wait_for_vms(before);
	report();
	free(workers);
}

/* --- the wrong models --- */

static int status_with_wrong_model(void)
{
	pid_t pid = start_process();
	int status;

	if (!pid) {
		run();
		fflush(stdout);
		_exit(0);
	}
	waitpid(pid, &status, 0);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/* It must be noticed, and by a check: nothing else is a success. */
static void expect_notice(long which)
{
	int status;

	wrong = which;
	status = status_with_wrong_model();
	CHECK(status == EXIT_FAILED,
	      "the model was wrong (%s), and nobody noticed (status %d)",
	      wrong_names[wrong], status);
}

static int try_wrong(const char *name)
{
	static struct test_case cases[NR_WRONG];
	size_t nr = 0;

	for (unsigned int i = 1; i < NR_WRONG; i++) {
		if (strcmp(name, "all") && strcmp(name, wrong_names[i]))
			continue;
		cases[nr++] = (struct test_case){
			.name = wrong_names[i], .run = expect_notice, .arg = i,
		};
	}
	return run_cases(cases, nr, NULL, options.seconds + 250);
}

int main(int argc, char **argv)
{
	const char *wrong_name = NULL;
	int letter;

	options.seed = random_seed();
	while ((letter = getopt(argc, argv, "r:s:n:t:1w:")) != -1) {
		if (letter == 'r')
			options.seed = strtoull(optarg, NULL, 0);
		else if (letter == 's')
			options.seconds = strtoull(optarg, NULL, 0);
		else if (letter == 'n')
			options.max_ops = strtoull(optarg, NULL, 0);
		else if (letter == 't')
			options.nr_threads = strtoul(optarg, NULL, 0);
		else if (letter == '1')
			options.single = true;
		else if (letter == 'w')
			wrong_name = optarg;
		else
			return 2;
	}
	if (options.single)
		options.nr_threads = 1;
	if (!options.seconds && !options.max_ops)
		options.seconds = 60;
	if (wrong_name)
		return try_wrong(wrong_name);
	run();
	return 0;
}
