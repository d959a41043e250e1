// SPDX-License-Identifier: GPL-2.0-only
/* The finder with processes that have no VM, and its worker. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "../lib/finder.h"
#include "held_file.h"

static void links(void **state)
{
	struct kvm_file file;

	(void)state;
	assert_true(kvm_file_from_link("anon_inode:kvm-vm", &file));
	assert_int_equal(file.kind, KVMSTATS_FD_VM);
	assert_int_equal(file.vcpu, -1);
	assert_true(kvm_file_from_link("anon_inode:kvm-vcpu:12", &file));
	assert_int_equal(file.kind, KVMSTATS_FD_VCPU);
	assert_int_equal(file.vcpu, 12);
	assert_true(kvm_file_from_link("anon_inode:kvm-vm-stats", &file));
	assert_int_equal(file.kind, KVMSTATS_FD_VM_STATS);
	assert_true(kvm_file_from_link("anon_inode:kvm-vcpu-stats:0", &file));
	assert_int_equal(file.kind, KVMSTATS_FD_VCPU_STATS);
	assert_false(kvm_file_from_link("anon_inode:kvm-vcpu:", &file));
	assert_false(kvm_file_from_link("anon_inode:kvm-vcpu:1x", &file));
	assert_false(kvm_file_from_link("anon_inode:kvm-vm-", &file));
	assert_false(kvm_file_from_link("/anon_inode:kvm-vm", &file));
	assert_false(kvm_file_from_link("", &file));
}

static void same_files(void **state)
{
	pid_t pid = getpid();
	int fds[2], again;

	(void)state;
	assert_int_equal(pipe(fds), 0);
	again = dup(fds[0]);
	if (same_file(pid, fds[0], pid, fds[0]) < 0)
		skip();
	assert_int_equal(same_file(pid, fds[0], pid, again), 1);
	assert_int_equal(same_file(pid, fds[0], pid, fds[1]), 0);
	close(again);
	assert_int_equal(same_file(pid, fds[0], pid, again), -EBADF);
	close(fds[0]);
	close(fds[1]);
}

static void nothing_there(void **state)
{
	unsigned int fds = count_open_fds();
	struct kvmstats_finder *finder;
	struct kvmstats_vmm *vmm;
	pid_t child = fork();

	(void)state;
	if (!child)
		_exit(0);
	assert_int_equal(kvmstats_finder_new(3, NULL, &finder), -EINVAL);
	assert_int_equal(kvmstats_finder_new(0, NULL, &finder), 0);
	assert_int_equal(kvmstats_finder_look(finder, getpid(), &vmm), 0);
	assert_null(vmm);
	assert_int_equal(waitpid(child, NULL, 0), child);
	assert_int_equal(kvmstats_finder_look(finder, child, &vmm), -ESRCH);
	assert_int_equal(kvmstats_finder_look(finder, -1, &vmm), -ESRCH);
	assert_int_equal(kvmstats_finder_look(finder, INT32_MAX, &vmm),
			 -ESRCH);
	kvmstats_finder_free(finder);
	kvmstats_finder_free(NULL);
	assert_int_equal(count_open_fds(), fds);
}

struct result {
	int error;
	unsigned int given;
	char name[KVMSTATS_MAX_VM_NAME + 1];
};

static int keep(void *context, const struct answer *answer, int *fds,
		size_t count)
{
	struct result *result = context;

	(void)fds;
	(void)count;
	result->error = answer->count ? answer->errors[0] : answer->error;
	result->given = answer->count ? answer->given[0] : 0;
	strcpy(result->name, answer->name);
	return 0;
}

static int ask_about(struct worker *worker, pid_t pid, int number,
		     struct result *result)
{
	struct ask ask = {
		.about = ASK_TAKE, .pid = pid, .count = 1,
		.files[0] = { .kind = KVMSTATS_FD_VM, .vcpu = -1,
			      .number = number },
		.wanted[0] = ASK_COPY | ASK_STATS,
	};
	int pidfd = syscall(SYS_pidfd_open, pid, 0);
	int ret;

	assert_true(pidfd >= 0);
	memset(result, 0, sizeof(*result));
	ret = worker_ask(worker, &ask, pidfd, keep, result);
	close(pidfd);
	return ret;
}

/* What is no VM by now is neither kept nor asked for statistics. */
static void something_else_by_now(void **state)
{
	struct worker worker = { 0 };
	struct result result;

	(void)state;
	assert_int_equal(ask_about(&worker, getpid(), 0, &result), 0);
	assert_int_equal(result.error, -EBADF);
	assert_int_equal(result.given, 0);
	assert_int_equal(ask_about(&worker, getpid(), 999, &result), 0);
	assert_int_equal(result.error, -EBADF);
	worker_stop(&worker);
}

/* It died, for whatever reason. */
static void dead_worker_is_replaced(void **state)
{
	struct worker worker = { 0 };
	struct result result;
	pid_t dead;

	(void)state;
	assert_int_equal(ask_about(&worker, getpid(), 0, &result), 0);
	dead = worker.pid;
	assert_int_equal(kill(dead, SIGKILL), 0);
	assert_int_equal(waitpid(dead, NULL, 0), dead);
	assert_true(ask_about(&worker, getpid(), 0, &result) < 0);
	assert_int_equal(ask_about(&worker, getpid(), 0, &result), 0);
	assert_int_not_equal(worker.pid, dead);
	worker_stop(&worker);
}

static double seconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec + now.tv_nsec / 1e9;
}

/* A descriptor whose close never returns costs neither us nor the worker. */
static void close_that_never_returns(void **state)
{
	struct worker worker = { 0 };
	struct held_file file;
	struct result result;
	double begin;

	(void)state;
	if (!held_file_start(&file, false))
		skip();
	begin = seconds();
	for (int i = 0; i < 20; i++) {
		assert_int_equal(ask_about(&worker, file.holder, 100, &result),
				 0);
		assert_int_equal(result.error, -EBADF);
	}
	worker_stop(&worker);
	assert_true(seconds() - begin < KVMSTATS_FINDER_PATIENCE_MS / 1000.);
	/* it cannot die, but the next one is there */
	assert_int_not_equal(worker.stuck[0] + worker.stuck[STUCK_MAX - 1], 0);
	assert_int_equal(ask_about(&worker, getpid(), 0, &result), 0);
	held_file_stop(&file);
	worker_stop(&worker);
}

/* 5.10 lets its files be listed; newer kernels let nobody see them. */
static void look_at_stuck(pid_t pid)
{
	struct kvmstats_finder *finder;
	struct kvmstats_vmm *vmm;
	double begin = seconds();
	int ret;

	assert_int_equal(kvmstats_finder_new(0, NULL, &finder), 0);
	ret = kvmstats_finder_look(finder, pid, &vmm);
	assert_true(ret == 0 || ret == -ETIME);
	assert_int_equal(finder_is_slow(finder, pid), ret == -ETIME);
	assert_true(seconds() - begin < 2 * KVMSTATS_FINDER_PATIENCE_MS / 1000.);
	kvmstats_finder_free(finder);
}

static void *ask_when(void *pid)
{
	process_start_ticks_in_time(*(pid_t *)pid);
	return NULL;
}

/* Of one more than there are threads to wait, nothing is said at once. */
static void when_it_began(pid_t pid)
{
	pthread_t threads[KVMSTATS_MAX_CLOSE_THREADS];
	double begin = seconds();
	size_t i;

	for (i = 0; i < KVMSTATS_MAX_CLOSE_THREADS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, ask_when,
						&pid), 0);
	while (i--)
		pthread_join(threads[i], NULL);
	assert_true(seconds() - begin < 2 * KVMSTATS_FINDER_PATIENCE_MS / 1000.);
	begin = seconds();
	process_start_ticks_in_time(pid);
	assert_true(seconds() - begin < KVMSTATS_FINDER_PATIENCE_MS / 2000.);
}

/*
 * What clocks tell, and the scheduler, is there at once. The rest of a thread's
 * figures is waited for, but not again before it was there.
 */
static void cpu_time_in_an_exec(void **state)
{
	struct kvmstats_cpu cpu = { .vcpu = 0 };
	struct kvmstats_param params[6];
	struct held_file file;
	int first, again;
	double begin;

	(void)state;
	if (!held_file_start(&file, true))
		skip();
	held_file_wait_exec(&file);
	cpu.pid = file.holder;
	cpu.tid = file.holder;
	begin = seconds();
	assert_int_equal(kvmstats_cpu_stats(file.holder, NULL, 0, params, 6, -1, 1, 0), 2);
	assert_int_equal(kvmstats_cpu_stats(0, &cpu, 1, params, 3, 0, 1,
					    KVMSTATS_CPU_STATS_GUEST), 3);
	assert_true(seconds() - begin < 1);
	first = kvmstats_cpu_stats(0, &cpu, 1, params, 6, 0, 1,
				   KVMSTATS_CPU_STATS_GUEST);
	assert_true(seconds() - begin < 2 * KVMSTATS_FINDER_PATIENCE_MS / 1000.);
	begin = seconds();
	again = kvmstats_cpu_stats(0, &cpu, 1, params, 6, 0, 1,
				   KVMSTATS_CPU_STATS_GUEST);
	assert_true(seconds() - begin < KVMSTATS_FINDER_PATIENCE_MS / 2000.);
	/* 5.10 lets them be read; newer kernels do not */
	assert_true(first == 6 || first == 3);
	assert_int_equal(again, first);
	cpu.pid = getpid();
	cpu.tid = cpu.pid;
	assert_int_equal(kvmstats_cpu_stats(0, &cpu, 1, params, 6, 0, 1,
					    KVMSTATS_CPU_STATS_GUEST), 6);
	held_file_stop(&file);
}

/*
 * A process in an exec that does not come to its end, as closing a file of its
 * owner's does not: what compares its files, or looks at what its threads wait
 * in, waits as well.
 */
static void exec_that_never_returns(void **state)
{
	struct pair pair = { .places = { { 0, 0 } }, .same = -1 };
	struct pairs pairs = { .list = &pair, .count = 1 };
	struct kvmstats_cpu cpu = { .vcpu = 0 };
	struct worker worker = { 0 };
	struct held_file file;
	double begin;

	(void)state;
	if (!held_file_start(&file, true))
		skip();
	held_file_wait_exec(&file);
	pair.places[1] = (struct place){ file.holder, 0 };
	begin = seconds();
	cpu.pid = file.holder;
	assert_int_equal(kvmstats_cpu_threads(file.holder, &cpu, 1), -ETIME);
	assert_int_equal(worker_compare(&worker, &pairs), -ETIME);
	assert_true(seconds() - begin < 3 * KVMSTATS_FINDER_PATIENCE_MS / 1000.);
	look_at_stuck(file.holder);
	when_it_began(file.holder);
	held_file_stop(&file);
	worker_stop(&worker);
	/* whoever waited for it does not any more */
	for (int i = 0; !process_start_ticks_in_time(getpid()); i++) {
		assert_int_not_equal(i, 60000);
		usleep(1000);
	}
	assert_int_equal(process_start_ticks_in_time(getpid()),
			 process_start_ticks("self"));
}

/* Of more pairs than one question holds, each has its own answer. */
static void pairs_are_compared(void **state)
{
	struct worker worker = { 0 };
	struct pairs pairs = { 0 };
	int fds[2], again;

	(void)state;
	assert_int_equal(pipe(fds), 0);
	again = dup(fds[0]);
	if (same_file(getpid(), 0, getpid(), 0) < 0)
		skip();
	for (int i = 0; i < 2 * ASK_FILES + 1; i++) {
		struct pair pair = {
			.places = { { 0, fds[0] },
				    { i % 3 ? 0 : getpid(),
				      i % 2 ? again : fds[1] } },
			.same = -1,
		};

		assert_int_equal(pairs_add(&pairs, &pair), 0);
	}
	assert_int_equal(worker_compare(&worker, &pairs), 0);
	for (size_t i = 0; i < pairs.count; i++)
		assert_int_equal(pairs.list[i].same, i % 2);
	worker_stop(&worker);
	free(pairs.list);
	close(fds[0]);
	close(fds[1]);
	close(again);
}

/* Each of them is a process that cannot die: there is an end to that. */
static void no_more_than_so_many_stuck(void **state)
{
	struct worker worker = { 0 };
	struct result result;

	(void)state;
	for (int i = 0; i < STUCK_MAX; i++) {
		worker.stuck[i] = fork();
		if (!worker.stuck[i]) {
			pause();
			_exit(0);
		}
	}
	assert_int_equal(ask_about(&worker, getpid(), 0, &result), -EBUSY);
	for (int i = 0; i < STUCK_MAX; i++) {
		siginfo_t info;

		kill(worker.stuck[i], SIGKILL);
		/* dead, and still to be seen to */
		waitid(P_PID, worker.stuck[i], &info, WEXITED | WNOWAIT);
	}
	assert_int_equal(ask_about(&worker, getpid(), 0, &result), 0);
	for (int i = 0; i < STUCK_MAX; i++)
		assert_int_equal(worker.stuck[i], 0);
	worker_stop(&worker);
}

/* Another process of the same number is no reason not to look. */
static void slow_is_the_process(void **state)
{
	unsigned int fds = count_open_fds();
	struct kvmstats_finder *finder;
	pid_t child = fork();

	(void)state;
	if (!child) {
		pause();
		_exit(0);
	}
	assert_int_equal(kvmstats_finder_new(0, NULL, &finder), 0);
	finder_remember_slow(finder, getpid());
	finder_remember_slow(finder, child);
	assert_true(finder_is_slow(finder, getpid()));
	assert_true(finder_is_slow(finder, child));
	kill(child, SIGKILL);
	assert_int_equal(waitpid(child, NULL, 0), child);
	assert_true(finder_is_slow(finder, getpid()));
	assert_false(finder_is_slow(finder, child));
	for (int i = 0; i < 2 * SLOW_MAX; i++)
		finder_remember_slow(finder, 1);
	kvmstats_finder_free(finder);
	assert_int_equal(count_open_fds(), fds);
}

int main(void)
{
	TEST_LIST = {
		cmocka_unit_test(links),
		cmocka_unit_test(same_files),
		cmocka_unit_test(nothing_there),
		cmocka_unit_test(something_else_by_now),
		cmocka_unit_test(dead_worker_is_replaced),
		cmocka_unit_test(pairs_are_compared),
		cmocka_unit_test(no_more_than_so_many_stuck),
		cmocka_unit_test(slow_is_the_process),
		cmocka_unit_test(close_that_never_returns),
		cmocka_unit_test(cpu_time_in_an_exec),
		cmocka_unit_test(exec_that_never_returns),
	};

	return RUN(tests);
}
