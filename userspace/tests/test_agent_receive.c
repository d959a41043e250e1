// SPDX-License-Identifier: GPL-2.0-only
/*
 * kvmstatd's registration socket, and clients that do not behave. The same
 * program under the thread sanitizer has scrapes going on meanwhile.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent_receiver.h"

static void a_vm_comes_and_goes(void **state)
{
	struct agent *agent = *state;
	const struct identity *identity;
	int fd;

	SKIP_IN_VALGRIND();
	NEED_KVM();
	fd = connect_raw(agent->path);
	/* a connection without descriptors has no name yet */
	say(fd, "guest", 0, NULL, 0);
	turn(agent);
	assert_int_equal(agent->registry.count, 0);
	register_vm(fd, "guest");
	turn(agent);
	assert_int_equal(agent->registry.count, 1);
	assert_int_equal(agent->registry.fds, 1);
	identity = &agent->registry.vms[0]->identity;
	assert_string_equal(identity->name, "guest");
	assert_string_equal(identity->uuid, "u");
	assert_int_equal(identity->pid, getpid());
	assert_int_equal(identity->uid, getuid());
	assert_int_equal(identity->start_ticks, process_start_ticks("self"));
	close(fd);
	turn(agent);
	assert_int_equal(agent->registry.count, 0);
	assert_int_equal(agent->registry.counters.ended, 1);
}

static void junk(void **state)
{
	struct agent *agent = *state;
	int fd, other;

	NEED_KVM();
	fd = connect_raw(agent->path);
	other = connect_raw(agent->path);
	send_fds(fd, "junk", 4, &fd, 1);
	register_vm(other, "fine");
	turn(agent);
	assert_true(hung_up(fd));
	assert_false(hung_up(other));
	assert_int_equal(rejected(agent, REJECT_MALFORMED), 1);
	assert_int_equal(agent->registry.count, 1);
	close(fd);
	close(other);
}

/* Pipes that block, files, sockets: closed. They make no VM. */
static void foreign_descriptors(void **state)
{
	struct agent *agent = *state;
	int fd = connect_raw(agent->path);
	int fds[4];

	assert_int_equal(pipe(fds), 0);
	fds[2] = dup(fd);
	fds[3] = dup(0);
	say(fd, "guest", 4, fds, 4);
	turn(agent);
	assert_int_equal(agent->registry.counters.fds_rejected, 4);
	assert_int_equal(agent->registry.count, 0);
	assert_int_equal(agent->registry.fds, 0);
	for (int i = 0; i < 4; i++)
		close(fds[i]);
	close(fd);
}

static void another_name(void **state)
{
	struct agent *agent = *state;
	int fd = connect_raw(agent->path);

	say(fd, "one", 0, NULL, 0);
	say(fd, "two", 0, NULL, 0);
	turn(agent);
	assert_true(hung_up(fd));
	assert_int_equal(agent->registry.count, 0);
	assert_int_equal(rejected(agent, REJECT_MALFORMED), 1);
	close(fd);
}

/* As if it had connected long ago. */
static void is_given_up(struct agent *agent, int fd)
{
	agent->receiver.conns->since_ns -= 3600000000000ull;
	agent->receiver.swept_ns = 0;
	turn(agent);
	assert_true(hung_up(fd));
	assert_int_equal(rejected(agent, REJECT_SILENT), 1);
	close(fd);
}

static void silence(void **state)
{
	struct agent *agent = *state;
	int fd = connect_raw(agent->path);

	turn(agent);
	assert_false(hung_up(fd));
	is_given_up(agent, fd);
}

static void too_many_messages(void **state)
{
	struct agent *agent = *state;
	int fd = connect_raw(agent->path);

	settings.max_messages = 3;
	for (int i = 0; i < 4; i++)
		say(fd, "guest", 0, NULL, 0);
	turn(agent);
	assert_true(hung_up(fd));
	assert_int_equal(rejected(agent, REJECT_MESSAGES), 1);
	close(fd);
}

/*
 * Whoever has too much is refused once, and not shown in part again and again: until
 * the limits change.
 */
static void too_many_descriptors(void **state)
{
	struct agent *agent = *state;
	int fd;

	SKIP_IN_VALGRIND();
	NEED_KVM();
	fd = connect_raw(agent->path);
	settings.max_fds_per_vm = 3;
	register_vm(fd, "guest");
	say(fd, "guest", 1, vcpu_fds, 1);
	turn(agent);
	assert_int_equal(agent->registry.count, 1);
	for (int i = 0; i < 10; i++)
		say(fd, "guest", 3, vcpu_fds, 3);
	turn(agent);
	assert_int_equal(agent->registry.count, 0);
	assert_int_equal(agent->registry.fds, 0);
	assert_int_equal(rejected(agent, REJECT_DESCRIPTORS), 1);
	assert_false(hung_up(fd));
	/* it is no silent one, either */
	agent->receiver.conns->since_ns -= 3600000000000ull;
	agent->receiver.swept_ns = 0;
	turn(agent);
	assert_false(hung_up(fd));
	settings.max_fds_per_vm = 4;
	receiver_reconsider(&agent->receiver);
	turn(agent);
	assert_true(hung_up(fd));
	close(fd);
	fd = connect_raw(agent->path);
	register_vm(fd, "guest");
	say(fd, "guest", 3, vcpu_fds, 3);
	turn(agent);
	assert_int_equal(agent->registry.fds, 4);
	assert_int_equal(rejected(agent, REJECT_DESCRIPTORS), 1);
	close(fd);
}

/* The same of messages; more than another may send are not even received. */
static void too_many_messages_of_a_vm(void **state)
{
	struct agent *agent = *state;
	int fd;

	SKIP_IN_VALGRIND();
	NEED_KVM();
	fd = connect_raw(agent->path);
	settings.max_messages = 3;
	register_vm(fd, "guest");
	for (int i = 0; i < 20; i++)
		register_vm(fd, "guest");
	turn(agent);
	assert_int_equal(agent->registry.count, 0);
	assert_int_equal(rejected(agent, REJECT_MESSAGES), 1);
	assert_true(agent->receiver.conns->deaf);
	assert_false(hung_up(fd));
	close(fd);
	turn(agent);
	assert_int_equal(agent->receiver.count, 0);
}

/* One that has sent them in its long life may come again. */
static void many_messages_of_an_old_vm(void **state)
{
	struct agent *agent = *state;
	int fd;

	NEED_KVM();
	fd = connect_raw(agent->path);
	settings.max_messages = 3;
	register_vm(fd, "guest");
	turn(agent);
	agent->receiver.conns->since_ns -= 3600000000000ull;
	for (int i = 0; i < 3; i++)
		register_vm(fd, "guest");
	turn(agent);
	assert_int_equal(rejected(agent, REJECT_MESSAGES), 1);
	assert_true(hung_up(fd));
	close(fd);
	fd = connect_raw(agent->path);
	register_vm(fd, "guest");
	turn(agent);
	assert_int_equal(agent->registry.count, 1);
	close(fd);
}

static void too_many_vms(void **state)
{
	struct agent *agent = *state;
	int fds[4];

	NEED_KVM();
	settings.max_vms = 3;
	for (int i = 0; i < 4; i++) {
		fds[i] = connect_raw(agent->path);
		register_vm(fds[i], "guest");
		turn(agent);
	}
	assert_false(hung_up(fds[2]));
	assert_true(hung_up(fds[3]));
	assert_int_equal(agent->registry.count, 3);
	assert_int_equal(rejected(agent, REJECT_VMS), 1);
	for (int i = 0; i < 4; i++)
		close(fds[i]);
}

/* No descriptor is free for one more: it waits, and gets its turn. */
static void no_descriptor_left(void **state)
{
	struct agent *agent = *state;
	int one, two;

	NEED_KVM();
	one = connect_raw(agent->path);
	agent->receiver.fd_budget = 5;
	register_vm(one, "one");
	turn(agent);
	two = connect_raw(agent->path);
	register_vm(two, "two");
	turn(agent);
	assert_int_equal(agent->registry.count, 1);
	assert_true(agent->receiver.paused);
	close(one);
	turn(agent);
	assert_int_equal(agent->registry.count, 1);
	assert_string_equal(agent->registry.vms[0]->key, "two");
	close(two);
}

/* The same when it is connected already: what it sent is not lost. */
static void no_descriptor_for_a_message(void **state)
{
	struct agent *agent = *state;
	int one, two, five[5];

	NEED_KVM();
	for (int i = 0; i < 5; i++)
		five[i] = stats_fd;
	one = connect_raw(agent->path);
	two = connect_raw(agent->path);
	agent->receiver.fd_budget = 8;
	register_vm(one, "one");
	turn(agent);
	say(two, "two", 5, five, 5);
	turn(agent);
	assert_int_equal(agent->registry.count, 1);
	assert_int_equal(agent->registry.counters.parked, 1);
	/* however long: it has said something, and that waits here */
	agent->receiver.conns->since_ns = 0;
	agent->receiver.swept_ns = 0;
	turn(agent);
	assert_int_equal(agent->registry.counters.parked, 1);
	assert_false(hung_up(two));
	close(one);
	turn(agent);
	assert_int_equal(agent->registry.count, 1);
	assert_string_equal(agent->registry.vms[0]->key, "two");
	assert_int_equal(agent->registry.counters.parked, 0);
	for (int i = 0; i < REJECTS; i++)
		assert_int_equal(rejected(agent, i), 0);
	close(two);
}

/* A connection that brings no descriptor takes a place from others. */
static void empty_handed(void **state)
{
	struct agent *agent = *state;
	int fd = connect_raw(agent->path);

	say(fd, "guest", 0, NULL, 0);
	turn(agent);
	is_given_up(agent, fd);
}

static void a_process_ends(void **state)
{
	struct agent *agent = *state;
	int status, keep;
	pid_t child;

	SKIP_IN_VALGRIND();
	NEED_KVM();
	/* the connection lives on in this process */
	keep = connect_raw(agent->path);
	child = fork();
	if (!child) {
		int fd = connect_raw(agent->path);

		register_vm(fd, "child");
		dup2(fd, keep);
		pause();
		_exit(0);
	}
	for (int i = 0; i < 3000 && !agent->registry.count; i++)
		receiver_turn(&agent->receiver, 10);
	assert_int_equal(agent->registry.count, 1);
	assert_int_equal(agent->registry.vms[0]->identity.pid, child);
	kill(child, SIGKILL);
	assert_int_equal(waitpid(child, &status, 0), child);
	turn(agent);
	assert_int_equal(agent->registry.count, 0);
	close(keep);
}

/*
 * A VM that is made anew has its name, also if of the connection of the one before
 * not all was read that was sent before its end.
 */
static void made_again(void **state)
{
	struct agent *agent = *state;
	int one, two;

	SKIP_IN_VALGRIND();
	NEED_KVM();
	one = connect_raw(agent->path);
	register_vm(one, "guest");
	turn(agent);
	for (int i = 0; i < 10; i++)
		say(one, "guest", 0, NULL, 0);
	close(one);
	two = connect_raw(agent->path);
	register_vm(two, "guest");
	turn(agent);
	assert_int_equal(agent->registry.count, 1);
	assert_string_equal(agent->registry.vms[0]->key, "guest");
	assert_int_equal(agent->registry.counters.registrations, 2);
	close(two);
}

static void many(void **state)
{
	struct agent *agent = *state;
	int fds[100];

	NEED_KVM();
	for (int round = 0; round < 5; round++) {
		for (int i = 0; i < 100; i++) {
			fds[i] = connect_raw(agent->path);
			register_vm(fds[i], "same");
			receiver_turn(&agent->receiver, 0);
		}
		turn(agent);
		assert_int_equal(agent->registry.count, 100);
		for (int i = 0; i < 100; i++)
			close(fds[i]);
		turn(agent);
		assert_int_equal(agent->registry.count, 0);
	}
	assert_int_equal(agent->registry.counters.registrations, 500);
}

int main(void)
{
	static TEST_LIST = {
		ON_AGENT(a_vm_comes_and_goes),
		ON_AGENT(junk),
		ON_AGENT(foreign_descriptors),
		ON_AGENT(another_name),
		ON_AGENT(silence),
		ON_AGENT(too_many_messages),
		ON_AGENT(too_many_descriptors),
		ON_AGENT(too_many_messages_of_a_vm),
		ON_AGENT(many_messages_of_an_old_vm),
		ON_AGENT(too_many_vms),
		ON_AGENT(no_descriptor_left),
		ON_AGENT(no_descriptor_for_a_message),
		ON_AGENT(empty_handed),
		ON_AGENT(a_process_ends),
		ON_AGENT(made_again),
		ON_AGENT(many),
	};

	return cmocka_run_group_tests(tests, make_vm, NULL);
}
