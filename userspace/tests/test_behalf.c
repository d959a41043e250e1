// SPDX-License-Identifier: GPL-2.0-only
/* Registrations on behalf of another process, and who may make them. */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "line.h"

/* Somebody who has a VM, as far as the protocol is concerned. */
static pid_t start_vmm(uint64_t *start_ticks)
{
	char number[16];
	pid_t pid = fork();

	if (!pid) {
		pause();
		_exit(0);
	}
	snprintf(number, sizeof(number), "%d", pid);
	*start_ticks = process_start_ticks(number);
	assert_true(*start_ticks > 0);
	return pid;
}

static void end_vmm(pid_t pid)
{
	assert_int_equal(kill(pid, SIGKILL), 0);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
}

static int receive(struct line *line)
{
	struct kvmstats_source *sources[KVMSTATS_MAX_MESSAGE_FDS];

	return kvmstats_peer_receive(line->peer, NULL, sources, NULL);
}

/* A message about @pid, with one descriptor that is none of KVM's. */
static void send_about(struct line *line, pid_t pid, uint64_t start_ticks,
		       bool on_behalf)
{
	struct wire_message message = {
		.num_fds = 1, .pid = pid, .on_behalf = on_behalf,
		.start_time_ticks = start_ticks, .name = "guest",
	};
	char bytes[WIRE_MESSAGE_BYTES];
	int fd = dup(STDIN_FILENO);

	send_fds(line->raw_fd, bytes, wire_encode(&message, bytes), &fd, 1);
	close(fd);
}

static void refused_unless_allowed(void **state)
{
	struct line *line = *state;
	uint64_t start_ticks;
	pid_t vmm = start_vmm(&start_ticks);

	send_about(line, vmm, start_ticks, true);
	assert_int_equal(receive(line), -EPERM);
	assert_int_equal(kvmstats_peer_pidfd(line->peer), -1);
	assert_int_equal(kvmstats_peer_is_on_behalf(line->peer), 0);
	assert_int_equal(kvmstats_peer_vm_pid(line->peer), 0);
	assert_string_equal(kvmstats_peer_name(line->peer), "");
	end_vmm(vmm);
}

/* The pidfd is that of the process with the VM; the credentials are not. */
static void watches_the_other(void **state)
{
	struct line *line = *state;
	struct pollfd poll_fd = { .events = POLLIN };
	uint64_t start_ticks;
	pid_t vmm = start_vmm(&start_ticks);

	kvmstats_peer_allow_on_behalf(line->peer);
	send_about(line, vmm, start_ticks, true);
	assert_int_equal(receive(line), 0);
	assert_int_equal(kvmstats_peer_is_on_behalf(line->peer), 1);
	assert_int_equal(kvmstats_peer_vm_pid(line->peer), vmm);
	assert_int_equal(kvmstats_peer_pid(line->peer), getpid());
	assert_int_equal(kvmstats_peer_start_ticks(line->peer), start_ticks);
	poll_fd.fd = kvmstats_peer_pidfd(line->peer);
	assert_int_equal(poll(&poll_fd, 1, 0), 0);
	end_vmm(vmm);
	assert_int_equal(poll(&poll_fd, 1, 30000), 1);
}

/* Its number may be another's by now, or nobody's. */
static void no_such_process(void **state)
{
	struct line *line = *state;
	uint64_t start_ticks;
	pid_t vmm = start_vmm(&start_ticks);

	kvmstats_peer_allow_on_behalf(line->peer);
	send_about(line, vmm, start_ticks + 1, true);
	assert_int_equal(receive(line), -ESRCH);
	end_vmm(vmm);
	send_about(line, vmm, start_ticks, true);
	assert_int_equal(receive(line), -ESRCH);
	send_about(line, 0, start_ticks, true);
	assert_int_equal(receive(line), -ESRCH);
	send_about(line, -1, start_ticks, true);
	assert_int_equal(receive(line), -ESRCH);
	assert_int_equal(kvmstats_peer_vm_pid(line->peer), 0);
}

static void one_process_a_connection(void **state)
{
	struct line *line = *state;
	uint64_t start_ticks, other_ticks;
	pid_t vmm = start_vmm(&start_ticks);
	pid_t other = start_vmm(&other_ticks);

	kvmstats_peer_allow_on_behalf(line->peer);
	send_about(line, vmm, start_ticks, true);
	assert_int_equal(receive(line), 0);
	send_about(line, vmm, start_ticks, true);
	assert_int_equal(receive(line), 0);
	send_about(line, other, start_ticks, true);
	assert_int_equal(receive(line), -EBADMSG);
	send_about(line, vmm, start_ticks + 1, true);
	assert_int_equal(receive(line), -EBADMSG);
	send_about(line, vmm, start_ticks, false);
	assert_int_equal(receive(line), -EBADMSG);
	end_vmm(vmm);
	end_vmm(other);
}

/* What a sender says of its own number means nothing, allowed or not. */
static void own_vm_is_the_peers(void **state)
{
	struct line *line = *state;

	kvmstats_peer_allow_on_behalf(line->peer);
	send_about(line, 1, process_start_ticks("self"), false);
	assert_int_equal(receive(line), 0);
	assert_int_equal(kvmstats_peer_is_on_behalf(line->peer), 0);
	assert_int_equal(kvmstats_peer_vm_pid(line->peer), getpid());
	assert_int_equal(kvmstats_peer_start_ticks(line->peer),
			 process_start_ticks("self"));
	assert_true(kvmstats_peer_pidfd(line->peer) >= 0);
}

/* It has inherited the connection, and uses it; ends with this process at the latest. */
static pid_t start_vmm_with(struct line *line, bool on_behalf)
{
	pid_t pid = fork();

	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		send_about(line, getpid(), process_start_ticks("self"), on_behalf);
		pause();
		_exit(0);
	}
	return pid;
}

static int receive_in_time(struct line *line)
{
	struct pollfd poll_fd = {
		.fd = kvmstats_peer_fd(line->peer), .events = POLLIN,
	};

	assert_int_equal(poll(&poll_fd, 1, 30000), 1);
	return receive(line);
}

/* The VM is that of who sends, as a VMM that may not connect gets a connection. */
static void connection_passed_on(void **state)
{
	struct line *line = *state;
	struct pollfd poll_fd = { .events = POLLIN };
	pid_t vmm = start_vmm_with(line, false);

	assert_int_equal(receive_in_time(line), 0);
	assert_int_equal(kvmstats_peer_is_on_behalf(line->peer), 0);
	assert_int_equal(kvmstats_peer_vm_pid(line->peer), vmm);
	assert_int_equal(kvmstats_peer_pid(line->peer), getpid());
	assert_true(kvmstats_peer_start_ticks(line->peer) > 0);
	poll_fd.fd = kvmstats_peer_pidfd(line->peer);
	assert_int_equal(poll(&poll_fd, 1, 0), 0);
	end_vmm(vmm);
	assert_int_equal(poll(&poll_fd, 1, 30000), 1);
}

/* A right to register for others is not passed on with it. */
static void right_is_not_passed_on(void **state)
{
	struct line *line = *state;
	pid_t vmm;

	kvmstats_peer_allow_on_behalf(line->peer);
	vmm = start_vmm_with(line, true);
	assert_int_equal(receive_in_time(line), -EPERM);
	assert_int_equal(kvmstats_peer_vm_pid(line->peer), 0);
	end_vmm(vmm);
}

/* Before the reader has accepted the connection, too. */
static void sent_before_accept(void **state)
{
	struct line *line = *state;
	struct line second = { .raw_fd = connect_raw(line->path) };
	pid_t vmm = start_vmm_with(&second, false);

	usleep(300000);
	assert_int_equal(kvmstats_peer_accept(line->listen_fd, &second.peer), 0);
	assert_int_equal(receive_in_time(&second), 0);
	assert_int_equal(kvmstats_peer_vm_pid(second.peer), vmm);
	end_vmm(vmm);
	kvmstats_peer_free(second.peer);
	close(second.raw_fd);
}

static void other_flags_are_malformed(void **state)
{
	struct wire_message message = { .pid = 1, .on_behalf = true };
	char bytes[WIRE_MESSAGE_BYTES];
	size_t size_bytes = wire_encode(&message, bytes);

	(void)state;
	assert_int_equal(message_from_wire(bytes, size_bytes, &message), 0);
	assert_true(message.on_behalf);
	for (int bit = 1; bit < 32; bit++) {
		bytes[20 + bit / 8] ^= 1 << bit % 8;
		assert_int_equal(message_from_wire(bytes, size_bytes, &message),
				 -EBADMSG);
		bytes[20 + bit / 8] ^= 1 << bit % 8;
	}
}

static void sender_on_behalf(void **state)
{
	struct line *line = *state;
	struct kvmstats_sender *sender;
	struct kvmstats_peer *peer;
	uint64_t start_ticks;
	pid_t vmm = start_vmm(&start_ticks);

	assert_int_equal(kvmstats_sender_new("g", "u", &sender), 0);
	assert_int_equal(kvmstats_sender_on_behalf(sender, 0, 1), -EINVAL);
	assert_int_equal(kvmstats_sender_on_behalf(sender, -1, 1), -EINVAL);
	assert_int_equal(kvmstats_sender_on_behalf(sender, vmm, 0), -EINVAL);
	assert_int_equal(kvmstats_sender_on_behalf(sender, vmm, start_ticks),
			 0);
	assert_int_equal(kvmstats_sender_connect(sender, line->path), 0);
	assert_int_equal(kvmstats_sender_flush(sender), 0);
	assert_int_equal(kvmstats_peer_accept(line->listen_fd, &peer), 0);
	kvmstats_peer_allow_on_behalf(peer);
	assert_int_equal(kvmstats_peer_receive(peer, NULL, NULL, NULL), 0);
	assert_int_equal(kvmstats_peer_vm_pid(peer), vmm);
	assert_int_equal(kvmstats_peer_start_ticks(peer), start_ticks);
	assert_string_equal(kvmstats_peer_name(peer), "g");
	kvmstats_peer_free(peer);
	kvmstats_sender_free(sender);
	end_vmm(vmm);
}

int main(void)
{
	TEST_LIST = {
		ON_LINE(refused_unless_allowed),
		ON_LINE(watches_the_other),
		ON_LINE(no_such_process),
		ON_LINE(one_process_a_connection),
		ON_LINE(own_vm_is_the_peers),
		ON_LINE(connection_passed_on),
		ON_LINE(right_is_not_passed_on),
		ON_LINE(sent_before_accept),
		cmocka_unit_test(other_flags_are_malformed),
		ON_LINE(sender_on_behalf),
	};

	return RUN(tests);
}
