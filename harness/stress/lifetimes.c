// SPDX-License-Identifier: GPL-2.0-only
/*
 * lifetimes [-s SECONDS] [-r SEED] [PART-OF-A-CASE-NAME]
 *
 * A statistics fd keeps its VM: whoever has the last reference, and however it
 * goes, the file can be read until then, says the same, and then nothing is
 * left. Each holder that there is has a case; in the case "random" processes
 * and threads do all of it for SECONDS, one process being killed after another.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/io_uring.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lifetimes.h"

struct options options = { .seconds = 20 };

static long vms_before;

/* --- one holder at a time --- */

static void own(struct file *f, bool vcpu)
{
	struct vmm vmm;

	vmm_create(&vmm, 1);
	f->fd = vmm_open(&vmm, vcpu ? 0 : -1, &f->ref);
	vmm_close(&vmm);
}

/* A VM is there, and KVM's own lists say so: else the end proves nothing. */
static void check_kept(struct file *f)
{
	CHECK(count_vms() > vms_before, "the VM is not there");
	stats_read_all(&f->ref, f->fd);
}

static void check_all_gone(void)
{
	wait_for_vms(vms_before);
}

static void test_owner(long vcpu)
{
	struct file f;

	own(&f, vcpu);
	check_kept(&f);
	close(f.fd);
	check_all_gone();
}

static void test_vmm_after_file(long vcpu)
{
	struct stats_ref ref;
	struct vmm vmm;
	int fd;

	vmm_create(&vmm, 2);
	fd = vmm_open(&vmm, vcpu ? 1 : -1, &ref);
	close(fd);
	CHECK(count_vms() > vms_before, "the VM is not there");
	vmm_close(&vmm);
	check_all_gone();
}

static void test_dup(long vcpu)
{
	struct file f;
	int fd;

	own(&f, vcpu);
	fd = dup(f.fd);
	close(f.fd);
	f.fd = fd;
	check_kept(&f);
	close(fd);
	check_all_gone();
}

/* Reads until it is told to end, if it is not killed. */
static _Noreturn void be_child(struct file *f, int told_fd)
{
	char byte;

	CHECK(!fcntl(told_fd, F_SETFL, O_NONBLOCK), "F_SETFL");
	while (read(told_fd, &byte, 1) < 0)
		stats_read_all(&f->ref, f->fd);
	_exit(0);
}

/* The child has it last, and is killed, or exits. */
static void test_child(long killed)
{
	struct file f;
	int tell[2];
	pid_t pid;

	own(&f, true);
	CHECK(!pipe(tell), "pipe: %s", strerror(errno));
	pid = start_process();
	if (!pid)
		be_child(&f, tell[0]);
	check_kept(&f);
	close(f.fd);
	sleep_ms(5);
	CHECK(count_vms() > vms_before, "the VM is not there");
	if (killed) {
		end_process(pid);
	} else {
		CHECK(write(tell[1], "x", 1) == 1, "write: %s", strerror(errno));
		join_process(pid);
	}
	check_all_gone();
}

/* In a queue whose reader has gone; in a queue that is closed as a whole. */
static void test_queue(long vcpu)
{
	int socks[2];
	struct file f;

	own(&f, vcpu);
	CHECK(!socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, socks),
	      "socketpair: %s", strerror(errno));
	send_fd(socks[0], f.fd, "x", 1);
	close(f.fd);
	close(socks[0]);
	CHECK(count_vms() > vms_before, "the VM is not there");
	close(socks[1]);
	check_all_gone();
}

/* In flight when the receiver is killed, which has not read it. */
static void test_receiver_dies(long vcpu)
{
	int socks[2];
	struct file f;
	pid_t pid;

	own(&f, vcpu);
	CHECK(!socketpair(AF_UNIX, SOCK_SEQPACKET, 0, socks), "socketpair: %s",
	      strerror(errno));
	pid = start_process();
	if (!pid) {
		close(f.fd);
		close(socks[0]);
		for (;;)
			pause();
	}
	close(socks[1]);
	send_fd(socks[0], f.fd, "x", 1);
	send_fd(socks[0], f.fd, "x", 1);
	check_kept(&f);
	close(f.fd);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	close(socks[0]);
	check_all_gone();
}

/*
 * Two sockets, each in the other's queue, and the file with them: nobody can
 * reach them, and only the collector of sockets can end it.
 */
static void make_cycle(int fd)
{
	int socks[2];

	CHECK(!socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, socks),
	      "socketpair: %s", strerror(errno));
	send_fd(socks[0], fd, "x", 1);
	send_fd(socks[0], socks[0], "x", 1);
	send_fd(socks[0], socks[1], "x", 1);
	send_fd(socks[1], socks[1], "x", 1);
	send_fd(socks[1], fd, "x", 1);
	close(socks[0]);
	close(socks[1]);
}

static void test_cycle(long vcpu)
{
	struct file f;

	own(&f, vcpu);
	make_cycle(f.fd);
	check_kept(&f);
	close(f.fd);
	check_all_gone();
}

static int read_fixed(struct uring *ring, unsigned char *bytes, size_t size)
{
	struct io_uring_sqe *sqe = uring_sqe(ring);

	sqe->opcode = IORING_OP_READ;
	sqe->flags = IOSQE_FIXED_FILE;
	sqe->fd = 0;
	sqe->addr = (uintptr_t)bytes;
	sqe->len = size;
	return uring_submit(ring);
}

/* As a registered file, which has no descriptor. */
static void test_uring(long vcpu)
{
	static _Alignas(8) unsigned char bytes[16384];
	struct uring ring;
	struct file f;
	int got;

	own(&f, vcpu);
	CHECK(uring_open(&ring), "io_uring_setup: %s", strerror(errno));
	CHECK(!uring_register(&ring, IORING_REGISTER_FILES, &f.fd, 1),
	      "IORING_REGISTER_FILES: %s", strerror(errno));
	close(f.fd);
	CHECK(count_vms() > vms_before, "the VM is not there");
	got = read_fixed(&ring, bytes, sizeof(bytes));
	CHECK(got == (int)f.ref.schema->size, "a registered file: %d", got);
	stats_check(&f.ref, 0, bytes, got, true);
	uring_close(&ring);
	check_all_gone();
}

/* A mapping keeps the vCPU's file, and that keeps the VM; not our file. */
static void test_mapping(long unused)
{
	struct kvm_run *run;
	struct file f;
	struct vmm vmm;

	(void)unused;
	vmm_create(&vmm, 1);
	f.fd = vmm_open(&vmm, 0, &f.ref);
	run = map_run(vmm.vcpu_fds[0]);
	vmm_close(&vmm);
	close(f.fd);
	CHECK(count_vms() > vms_before, "the VM is not there");
	unmap_run(run);
	check_all_gone();
}

/* Held by a thread in the middle of read() calls, closed by another. */
static void *read_until_closed(void *arg)
{
	static _Alignas(8) unsigned char bytes[16384];
	struct file *f = arg;
	ssize_t got;

	while ((got = pread(f->fd, bytes, sizeof(bytes), 0)) > 0)
		stats_check(&f->ref, 0, bytes, got, true);
	CHECK(got < 0 && errno == EBADF, "the end was %zd (%s)", got,
	      strerror(errno));
	return NULL;
}

static void test_closed_in_read(long vcpu)
{
	pthread_t thread;
	struct file f;

	for (unsigned int i = 0; i < 20; i++) {
		own(&f, vcpu);
		CHECK(!pthread_create(&thread, NULL, read_until_closed, &f),
		      "pthread_create");
		usleep(300 * i);
		close(f.fd);
		pthread_join(thread, NULL);
	}
	check_all_gone();
}

/* --- a VMM that is killed while its vCPU runs, and read meanwhile --- */

static void receive_files(int sock, struct file *files, unsigned int nr)
{
	uint64_t end = now_ms() + 20000;
	struct letter letter;

	for (unsigned int i = 0; i < nr; ) {
		files[i].fd = receive_fd(sock, &letter, sizeof(letter));
		if (files[i].fd >= 0) {
			take_letter(&files[i], &letter);
			i++;
		}
		CHECK(now_ms() < end, "the VMM sends nothing");
	}
}

static void test_killed_vmm(long round)
{
	struct file files[2];
	uint64_t bursts, last;
	int socks[2];
	pid_t pid;

	(void)round;
	CHECK(!socketpair(AF_UNIX, SOCK_SEQPACKET, 0, socks), "socketpair: %s",
	      strerror(errno));
	pid = start_process();
	if (!pid)
		run_for_ever(socks[1]);
	receive_files(socks[0], files, 2);
	bursts = stats_value(&files[1].ref, "exits");
	for (uint64_t end = now_ms() + 300; now_ms() < end; ) {
		stats_read_all(&files[0].ref, files[0].fd);
		stats_read_all(&files[1].ref, files[1].fd);
	}
	last = stats_value(&files[1].ref, "exits");
	CHECK(last > bursts, "the guest does not run");
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	stats_read_all(&files[1].ref, files[1].fd);
	last = stats_value(&files[1].ref, "exits");
	sleep_ms(20);
	check_kept(&files[0]);
	check_kept(&files[1]);
	CHECK(stats_value(&files[1].ref, "exits") == last,
	      "a dead VMM's guest runs");
	close(files[0].fd);
	check_kept(&files[1]);
	close(files[1].fd);
	check_all_gone();
}

/* --- all of it at random --- */

static void test_random(long unused)
{
	(void)unused;
	random_life(options.seed, options.seconds);
	check_all_gone();
}

static const struct test_case cases[] = {
	{ "owner.vm",			test_owner, 0 },
	{ "owner.vcpu",			test_owner, 1 },
	{ "vmm_after_file.vm",		test_vmm_after_file, 0 },
	{ "vmm_after_file.vcpu",	test_vmm_after_file, 1 },
	{ "dup.vm",			test_dup, 0 },
	{ "dup.vcpu",			test_dup, 1 },
	{ "child_exits",		test_child, 0 },
	{ "child_killed",		test_child, 1 },
	{ "queue.vm",			test_queue, 0 },
	{ "queue.vcpu",			test_queue, 1 },
	{ "receiver_dies.vm",		test_receiver_dies, 0 },
	{ "receiver_dies.vcpu",		test_receiver_dies, 1 },
	{ "socket_cycle.vm",		test_cycle, 0 },
	{ "socket_cycle.vcpu",		test_cycle, 1 },
	{ "io_uring.vm",		test_uring, 0 },
	{ "io_uring.vcpu",		test_uring, 1 },
	{ "mapping",			test_mapping, 0 },
	{ "closed_in_read.vm",		test_closed_in_read, 0 },
	{ "closed_in_read.vcpu",	test_closed_in_read, 1 },
	{ "killed_vmm",			test_killed_vmm, 0 },
	{ "killed_vmm_again",		test_killed_vmm, 1 },
	{ "random",			test_random, 0 },
};

int main(int argc, char **argv)
{
	int letter;

	options.seed = random_seed();
	while ((letter = getopt(argc, argv, "s:r:")) != -1) {
		if (letter == 's')
			options.seconds = strtoull(optarg, NULL, 0);
		else if (letter == 'r')
			options.seed = strtoull(optarg, NULL, 0);
		else
			return 2;
	}
	snprintf(rerun, sizeof(rerun), "lifetimes -s %llu -r %llu",
		 (unsigned long long)options.seconds,
		 (unsigned long long)options.seed);
	kvm_open();
	learn_schemas();
	wait_for_vms(count_vms());
	vms_before = count_vms();
	printf("# seed %llu\n", (unsigned long long)options.seed);
	return run_cases(cases, ARRAY_SIZE(cases), argv[optind],
			 options.seconds + 100);
}
