// SPDX-License-Identifier: GPL-2.0-only
/* kvmstatd-discover: the worker. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../kvmstatd/discover.h"
#include "image.h"

static void nothing_here(struct worker *worker, pid_t pid)
{
	struct inquiry inquiry = { .pid = pid };
	struct look look;

	assert_int_equal(worker_ask(worker, &inquiry, &look), 0);
	assert_int_equal(look.answer.outcome, FOUND_NOTHING);
	assert_int_equal(look.count, 0);
	look_end(&look);
}

/* A process that has no VM, one that has ended, and one that never was. */
static void worker_answers(void **state)
{
	unsigned int fds = count_open_fds();
	struct worker worker = { 0 };
	pid_t child = fork();

	(void)state;
	if (!child)
		_exit(0);
	nothing_here(&worker, getpid());
	nothing_here(&worker, child);
	assert_int_equal(waitpid(child, NULL, 0), child);
	nothing_here(&worker, child);
	nothing_here(&worker, -1);
	worker_stop(&worker);
	assert_int_equal(count_open_fds(), fds);
}

/* It died, for whatever reason. */
static void dead_worker_is_replaced(void **state)
{
	struct inquiry inquiry = { .pid = getpid() };
	struct worker worker = { 0 };
	struct look look;
	pid_t dead;

	(void)state;
	nothing_here(&worker, getpid());
	dead = worker.pid;
	assert_int_equal(kill(dead, SIGKILL), 0);
	assert_int_equal(waitpid(dead, NULL, 0), dead);
	assert_true(worker_ask(&worker, &inquiry, &look) < 0);
	nothing_here(&worker, getpid());
	worker_stop(&worker);
}

int main(void)
{
	TEST_LIST = {
		cmocka_unit_test(worker_answers),
		cmocka_unit_test(dead_worker_is_replaced),
	};

	return RUN(tests);
}
