// SPDX-License-Identifier: GPL-2.0-only
/*
 * kvmstat_test KVMSTAT
 *
 * What the command shows of a VM is what its statistics files hold, number by
 * number: on a machine of the other byte order, or another width, than those
 * that the command was written on.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <kvmstats.h>

#include "bare.h"
#include "kvm_test_harness.h"
#include "processor.h"

/* An architecture may know a simpler one. */
#ifndef SIMPLE_GUEST
#define SIMPLE_GUEST	guest_exit_loop
#define SIMPLE_STAT	EXIT_STAT
#endif

#define NR_ROUNDS	50
#define OUTPUT_SIZE	0x40000

static const char *kvmstat;

static void __attribute__((noreturn)) run_command(int out, char *const *argv)
{
	dup2(out, STDOUT_FILENO);
	execv(kvmstat, argv);
	perror(kvmstat);
	_exit(127);
}

static pid_t start(char *const *argv, int *out)
{
	int ends[2];
	pid_t pid;

	TEST_ASSERT(!pipe2(ends, O_CLOEXEC), "pipe");
	pid = stats_fork();
	if (!pid)
		run_command(ends[1], argv);
	close(ends[1]);
	*out = ends[0];
	return pid;
}

/* What it prints until it ends, which must be a success. */
static char *collect(pid_t pid, int out)
{
	char *text = calloc(1, OUTPUT_SIZE);
	size_t len = 0;
	ssize_t ret;

	TEST_ASSERT(text, "out of memory");
	while ((ret = read(out, text + len, OUTPUT_SIZE - 1 - len)) > 0)
		len += ret;
	close(out);
	stats_join(pid);
	return text;
}

static char *get_output(char *const *argv)
{
	int out;
	pid_t pid = start(argv, &out);

	return collect(pid, out);
}

/* Take @token, which comes next; what follows it. */
static const char *take(const char *text, const char *token)
{
	TEST_ASSERT(!strncmp(text, token, strlen(token)),
		    "\"%s\" where %.40s is", token, text);
	return text + strlen(token);
}

static const char *find(const char *text, const char *token)
{
	const char *found = strstr(text, token);

	TEST_ASSERT(found, "no %s in %.200s", token, text);
	return found + strlen(token);
}

static const char *check_number(const char *text, const char *name,
				uint64_t expected)
{
	size_t len = strspn(text, "-0123456789");

	TEST_ASSERT(len && strtoull(text, NULL, 10) == expected,
		    "%s is shown as %.20s, but is %llu", name, text,
		    (unsigned long long)expected);
	return text + len;
}

/* {"name":"...", ... "values":[1,2,3]} */
static const char *check_stat(const char *text, const struct stats_file *s,
			      uint32_t index)
{
	const struct kvm_stats_desc *d = stats_desc(s, index);
	uint64_t *values = calloc(d->size, sizeof(*values));
	uint32_t i;

	TEST_ASSERT(values, "out of memory");
	stats_read(s, d, values);
	text = take(find(text, "{\"name\":\""), d->name);
	text = take(text, "\",");
	text = check_number(find(text, "\"exponent\":"), "the exponent",
			    (int64_t)d->exponent);
	text = check_number(find(text, "\"size\":"), "the size", d->size);
	text = find(text, "\"values\":[");
	for (i = 0; i < d->size; i++)
		text = check_number(i ? take(text, ",") : text, d->name,
				    values[i]);
	free(values);
	return find(take(text, "]"), "}");
}

/* Every statistic of the file, in its order, and no more. */
static const char *check_source(const char *text, const struct stats_file *s)
{
	uint32_t i;

	text = take(find(text, "\"id\":\""), stats_id(s));
	text = find(take(text, "\","), "\"stats\":[");
	for (i = 0; i < s->header.num_desc; i++)
		text = check_stat(i ? take(text, ",") : text, s, i);
	return take(text, "]}");
}

static struct kvm_vm *setup(struct stats_file *vm_stats,
			    struct stats_file *vcpu_stats)
{
	struct kvm_vm *vm = guest_setup(vcpu_stats, SIMPLE_GUEST);
	int i;

	stats_open(vm_stats, stats_get_fd(vm_get_fd(vm)));
	for (i = 0; i < NR_ROUNDS; i++)
		TEST_ASSERT(!_vcpu_run(vm, STATS_VCPU_ID), "KVM_RUN");
	TEST_STAT_EQ(vcpu_stats, SIMPLE_STAT, NR_ROUNDS);
	return vm;
}

/* The descriptors inherited. */
TEST(fd)
{
	char fd[2][16];
	char *const argv[] = {
		"kvmstat", "show", "--json", "--fd", fd[0], "--fd", fd[1], NULL
	};
	struct stats_file vm_stats, vcpu_stats;
	const char *text;

	setup(&vm_stats, &vcpu_stats);
	fcntl(vm_stats.fd, F_SETFD, 0);
	fcntl(vcpu_stats.fd, F_SETFD, 0);
	sprintf(fd[0], "%d", vm_stats.fd);
	sprintf(fd[1], "%d", vcpu_stats.fd);
	text = find(get_output(argv), "\"sources\":[");
	text = check_source(text, &vm_stats);
	text = check_source(text, &vcpu_stats);
	take(text, "]}\n");
}

/* The descriptors taken from this process. */
TEST(pid)
{
	char pid[16];
	char *const argv[] = {
		"kvmstat", "show", "--json", "--pid", pid, NULL
	};
	struct stats_file vm_stats, vcpu_stats;
	const char *text;

	setup(&vm_stats, &vcpu_stats);
	sprintf(pid, "%d", getpid());
	text = find(get_output(argv), "\"sources\":[");
	text = check_source(text, &vm_stats);
	text = check_source(text, &vcpu_stats);
	take(text, "]}\n");
}

/* One VM with one vCPU, and a statistics descriptor of each. */
TEST(list)
{
	char *const argv[] = { "kvmstat", "list", "--json", NULL };
	struct stats_file vm_stats, vcpu_stats;
	const char *text;

	setup(&vm_stats, &vcpu_stats);
	text = take(get_output(argv), "{\"processes\":[{\"pid\":");
	text = check_number(text, "the process", getpid());
	text = find(text, "\"guest\":\"");
	text = take(find(text, "\""), ",\"uuid\":\"\",\"vms\":1,\"vcpus\":1,");
	text = take(text, "\"vm_stats_fds\":1,\"vcpu_stats_fds\":1,\"device_fds\":0,");
	take(text, "\"descriptors\":2,\"problem\":null}],\"hidden\":0}\n");
}

static struct kvmstats_sender *new_sender(const struct stats_file *vm_stats,
					  const struct stats_file *vcpu_stats)
{
	struct kvmstats_sender *sender;

	TEST_ASSERT(!kvmstats_sender_new("bare", "", &sender), "no sender");
	TEST_ASSERT(!kvmstats_sender_add_stats(sender, dup(vm_stats->fd)) &&
		    !kvmstats_sender_add_stats(sender, dup(vcpu_stats->fd)),
		    "the sender does not take the descriptors");
	return sender;
}

/* The descriptors sent; the guest runs until kvmstat has seen enough of it. */
TEST(listen)
{
	char path[] = "/tmp/kvmstat_test-XXXXXX";
	char *const argv[] = {
		"kvmstat", "listen", "--json", "--interval", "0.2", "--count",
		"3", "--expect", SIMPLE_STAT, path, NULL
	};
	struct stats_file vm_stats, vcpu_stats;
	struct kvm_vm *vm = setup(&vm_stats, &vcpu_stats);
	struct kvmstats_sender *sender = new_sender(&vm_stats, &vcpu_stats);
	int out, ret;
	pid_t pid;

	close(mkstemp(path));
	unlink(path);
	pid = start(argv, &out);
	STATS_WAIT(!kvmstats_sender_connect(sender, path),
		   "for kvmstat to listen");
	ret = kvmstats_sender_flush(sender);
	TEST_ASSERT(ret == 2, "%d descriptors sent", ret);
	runner_start(vm);
	find(collect(pid, out), "2 descriptors accepted, 0 rejected");
	unlink(path);
}

int main(int argc, char *argv[])
{
	if (argc != 2) {
		fprintf(stderr, "usage: kvmstat_test KVMSTAT\n");
		return 2;
	}
	kvmstat = argv[1];
	setvbuf(stdout, NULL, _IOLBF, 0);
	kvm_test_require_cap(KVM_CAP_BINARY_STATS_FD, "KVM_CAP_BINARY_STATS_FD");
	return test_harness_run(argc, argv);
}
