// SPDX-License-Identifier: GPL-2.0-only
/* kvmstatd-discover: names from command lines, and the worker. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../kvmstatd/discover.h"
#include "image.h"

static void names_are(const char *cmdline, size_t length, const char *name,
		      const char *uuid)
{
	char *copy = malloc(length + 1);
	struct vm_names names;

	/* as from /proc: a NUL behind it, and nothing more */
	assert_non_null(copy);
	memcpy(copy, cmdline, length);
	copy[length] = 0;
	names_from_cmdline(copy, length, 42, &names);
	free(copy);
	assert_string_equal(names.name, name);
	assert_string_equal(names.uuid, uuid);
}

#define NAMES_ARE(cmdline, name, uuid) \
	names_are(cmdline, sizeof(cmdline), name, uuid)

static void names_of_command_lines(void **state)
{
	(void)state;
	NAMES_ARE("qemu\0-name\0guest=g1,debug-threads=on\0-uuid\0u-1", "g1",
		  "u-1");
	NAMES_ARE("qemu\0--name\0g2,process=x\0--uuid\0u-2", "g2", "u-2");
	NAMES_ARE("qemu\0-name\0debug-threads=on,guest=a,,b", "a,b", "");
	NAMES_ARE("qemu\0-name\0a,,b,guest=c", "c", "");
	NAMES_ARE("lkvm\0run\0--name\0k", "k", "");
	/* the last one counts, as for QEMU */
	NAMES_ARE("qemu\0-name\0one\0-name\0two", "two", "");
	/* none, or none that may be sent on */
	NAMES_ARE("qemu\0-name\0debug-threads=on", "pid-42", "");
	NAMES_ARE("qemu\0-name", "pid-42", "");
	NAMES_ARE("qemu\0-name\0", "pid-42", "");
	NAMES_ARE("qemu\0-name\0\033[2J\0-uuid\0\n", "pid-42", "");
	NAMES_ARE("qemu\0-name\0\377", "pid-42", "");
	NAMES_ARE("qemu\0-names\0x\0name\0y\0---name\0z", "pid-42", "");
	names_are("", 0, "pid-42", "");
	/* cut off in the middle */
	names_are("qemu\0-name\0guest", 11, "pid-42", "");
	names_are("qemu\0-name\0guest=abc", 19, "ab", "");
}

static void long_names(void **state)
{
	char cmdline[300] = "q\0-name\0";
	char name[KVMSTATS_NAME_MAX + 1];

	(void)state;
	memset(cmdline + 8, 'n', KVMSTATS_NAME_MAX);
	memset(name, 'n', KVMSTATS_NAME_MAX);
	name[KVMSTATS_NAME_MAX] = 0;
	names_are(cmdline, sizeof(cmdline), name, "");
	cmdline[8 + KVMSTATS_NAME_MAX] = 'n';
	names_are(cmdline, sizeof(cmdline), "pid-42", "");
}

static void own_names(void **state)
{
	struct vm_names names;

	(void)state;
	names_of_process(getpid(), &names);
	assert_memory_equal(names.name, "pid-", 4);
	names_of_process(0, &names);
	assert_string_equal(names.name, "pid-0");
}

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
		cmocka_unit_test(names_of_command_lines),
		cmocka_unit_test(long_names),
		cmocka_unit_test(own_names),
		cmocka_unit_test(worker_answers),
		cmocka_unit_test(dead_worker_is_replaced),
	};

	return RUN(tests);
}
