// SPDX-License-Identifier: GPL-2.0-only
/*
 * kvm_dirty_quota_exit_test
 *
 * When a vCPU exits for its quota, with what, and what makes it go on.
 *
 * Usage: kvm_dirty_quota_exit_test [-s SECONDS] [PART-OF-A-CASE-NAME]
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include "kvm_dirty_quota_util.h"

#define NR_PAGES	1300

/* One vCPU with the capability enabled, which is told to write all pages. */
static struct dq_vcpu *setup(struct dq_vm *d, uint64_t quota)
{
	struct dq_config config = {
		.nr_pages = NR_PAGES,
		.enable = true,
		.quota = quota,
	};

	dq_create(d, &config);
	dq_tell(&d->vcpus[0], DQ_WRITE, 0, NR_PAGES);
	return &d->vcpus[0];
}

static void check_exit(struct dq_vcpu *v, uint64_t count, uint64_t quota)
{
	dq_check_equal("end of KVM_RUN", dq_run(v), DQ_FULL);
	dq_check_equal("dirty_count", v->run->dirty_quota_full.dirty_count,
		       count);
	dq_check_equal("dirty_quota", v->run->dirty_quota_full.dirty_quota,
		       quota);
}

/* Exit after each @quota pages, never with one page more or less. */
static void check_arithmetic(uint64_t quota)
{
	struct dq_vcpu *v;
	struct dq_vm d;

	stats_doing("a quota of %llu pages", (unsigned long long)quota);
	v = setup(&d, quota);
	v->raise_by = quota;
	dq_run_to_end(v);
	dq_settle(v);
	dq_check_equal("exits for the quota", v->full_exits, NR_PAGES / quota);
	dq_check_equal("pages_dirtied", dq_count(v), NR_PAGES);
	dq_check_equal("bits", dq_harvest(&d), NR_PAGES);
	dq_check_bits(&d, 0, 1, NR_PAGES);
	dq_destroy(&d);
}

static void test_quota_small(enum stats_scope scope)
{
	check_arithmetic(1);
	check_arithmetic(2);
	check_arithmetic(3);
}

/* About the size of a page table, and of the logs that CPUs keep. */
static void test_quota_table_size(enum stats_scope scope)
{
	check_arithmetic(511);
	check_arithmetic(512);
	check_arithmetic(513);
}

/* The last page of all uses it up, or the one that is never written. */
static void test_quota_edge(enum stats_scope scope)
{
	check_arithmetic(NR_PAGES);
	check_arithmetic(NR_PAGES + 1);
}

static void test_quota_random(enum stats_scope scope)
{
	int i;

	srandom(time(NULL));
	for (i = 0; i < 10; i++)
		check_arithmetic(1 + random() % NR_PAGES);
}

/*
 * At the exit the log has exactly the pages that were paid for.  The last of
 * them is yet to be written: if its bit is taken away before the guest goes on,
 * it is dirtied once more.
 */
static void test_bits_at_exit(enum stats_scope scope)
{
	struct dq_vm d;
	struct dq_vcpu *v = setup(&d, 7);
	unsigned int i;

	for (i = 0; i < 20; i++) {
		check_exit(v, 7 * (i + 1), 7 * (i + 1));
		dq_check_equal("pages touched", v->work->touched, 6 * (i + 1));
		dq_check_equal("bits", dq_harvest(&d), 7);
		dq_check_bits(&d, 6 * i, 1, 7);
		dq_set_quota(v, 7 * (i + 2));
	}
}

/* Without a raise the guest does not execute a single instruction. */
static void test_reentry(enum stats_scope scope)
{
	struct dq_vm d;
	struct dq_vcpu *v = setup(&d, 33);
	uint64_t touched;
	int i;

	check_exit(v, 33, 33);
	touched = v->work->touched;
	dq_harvest(&d);
	for (i = 0; i < 200; i++)
		check_exit(v, 33, 33);
	dq_check_equal("pages touched", v->work->touched, touched);
	dq_check_equal("bits", dq_harvest(&d), 0);
}

static void test_raise_by_one(enum stats_scope scope)
{
	struct dq_vm d;
	struct dq_vcpu *v = setup(&d, 1);
	uint64_t quota;

	for (quota = 1; quota < 50; quota++) {
		check_exit(v, quota, quota);
		dq_set_quota(v, quota + 1);
	}
}

static void test_lower(enum stats_scope scope)
{
	struct dq_vm d;
	struct dq_vcpu *v = setup(&d, 100);

	check_exit(v, 100, 100);
	dq_set_quota(v, 50);
	check_exit(v, 100, 50);
	dq_set_quota(v, 1);
	check_exit(v, 100, 1);
	dq_set_quota(v, 101);
	check_exit(v, 101, 101);
}

/* Below the count although no page is dirtied any more. */
static void test_lower_idle(enum stats_scope scope)
{
	struct dq_vm d;
	struct dq_vcpu *v = setup(&d, 0);

	dq_run_to_end(v);
	dq_set_quota(v, 10);
	dq_tell(v, DQ_IDLE, 0, 0);
	check_exit(v, NR_PAGES, 10);
}

/* What is dirty already costs nothing, but there is nothing left to pay. */
static void test_same_as_count(enum stats_scope scope)
{
	struct dq_vm d;
	struct dq_vcpu *v = setup(&d, NR_PAGES + 1);

	dq_do(v, DQ_WRITE, 0, NR_PAGES);
	dq_do(v, DQ_WRITE, 0, NR_PAGES);
	dq_set_quota(v, NR_PAGES);
	check_exit(v, NR_PAGES, NR_PAGES);
}

static void check_no_limit(uint64_t quota)
{
	struct dq_vm d;
	struct dq_vcpu *v = setup(&d, 40);

	check_exit(v, 40, 40);
	dq_set_quota(v, quota);
	dq_run_to_end(v);
	dq_settle(v);
	dq_check_equal("pages_dirtied", dq_count(v), NR_PAGES);
	dq_check_equal("dirty_quota", stats_value(&v->stats, "dirty_quota"),
		       quota);
	dq_check_equal("exits for the quota", v->full_exits, 1);
}

static void test_off(enum stats_scope scope)
{
	check_no_limit(0);
}

static void test_max(enum stats_scope scope)
{
	check_no_limit(UINT64_MAX);
}

/* The guest writes @span pages over and over, and goes on when told where. */
static struct dq_vcpu *start_endless(struct dq_vm *d, uint64_t quota,
				     uint64_t span)
{
	struct dq_vcpu *v = setup(d, quota);

	dq_tell_endless(v, DQ_WRITE, 0, span);
	dq_start(v);
	dq_wait_touched(v, 3 * span);
	return v;
}

/* No exit, no kick: the raise is all that userspace does. */
static void test_raise_while_running(enum stats_scope scope)
{
	struct dq_vm d;
	struct dq_vcpu *v = start_endless(&d, 61, 60);
	int i;

	for (i = 1; i < 20; i++) {
		dq_set_quota(v, 60 * i + 61);
		WRITE_ONCE(v->work->first, 60 * i);
		dq_wait_touched(v, 130);
	}
	dq_stop(v);
	dq_join(v);
	dq_check_equal("exits for the quota", v->full_exits, 0);
	dq_check_equal("pages_dirtied", dq_count(v), 1200);
	dq_check_equal("bits", dq_harvest(&d), 1200);
}

static void test_off_while_running(enum stats_scope scope)
{
	struct dq_vm d;
	struct dq_vcpu *v = start_endless(&d, 61, 60);

	dq_set_quota(v, 0);
	WRITE_ONCE(v->work->first, 60);
	dq_wait_touched(v, 200);
	dq_stop(v);
	dq_join(v);
	dq_check_equal("exits for the quota", v->full_exits, 0);
	dq_check_equal("pages_dirtied", dq_count(v), 120);
}

static void *run_to_exit(void *v)
{
	check_exit(v, 61, 10);
	return NULL;
}

/* Lowered while it runs: the next page that it dirties ends that. */
static void test_lower_while_running(enum stats_scope scope)
{
	struct dq_vm d;
	struct dq_vcpu *v = setup(&d, 100);

	dq_tell_endless(v, DQ_WRITE, 0, 60);
	STATS_CHECK(!pthread_create(&v->thread, NULL, run_to_exit, v),
		    "pthread_create");
	dq_wait_touched(v, 180);
	dq_set_quota(v, 10);
	WRITE_ONCE(v->work->first, 1);
	stats_doing("waiting for the exit");
	pthread_join(v->thread, NULL);
}

/* Each vCPU has its own; what one does to its quota is no other's business. */
static void test_two_vcpus(enum stats_scope scope)
{
	struct dq_config config = {
		.nr_vcpus = 2,
		.enable = true,
		.quota = 10,
	};
	struct dq_vm d;

	dq_create(&d, &config);
	dq_set_quota(&d.vcpus[1], 0);
	dq_tell(&d.vcpus[0], DQ_WRITE, 0, 100);
	check_exit(&d.vcpus[0], 10, 10);
	dq_do(&d.vcpus[1], DQ_WRITE, 100, 200);
	check_exit(&d.vcpus[0], 10, 10);
	dq_check_equal("pages_dirtied of the other", dq_count(&d.vcpus[1]),
		       200);
	dq_check_equal("exits of the other",
		       stats_value(&d.vcpus[1].stats, "dirty_quota_exits"), 0);
}

static void test_immediate_exit(enum stats_scope scope)
{
	struct dq_vm d;
	struct dq_vcpu *v = setup(&d, 3);
	int i;

	check_exit(v, 3, 3);
	v->run->immediate_exit = 1;
	for (i = 0; i < 10; i++)
		dq_check_equal("end of KVM_RUN", dq_run(v), DQ_SIGNAL);
	dq_check_equal("dirty_quota_exits",
		       stats_value(&v->stats, "dirty_quota_exits"), 1);
	v->run->immediate_exit = 0;
	check_exit(v, 3, 3);
	/* A run that comes to nothing finds it used up; it is raised then. */
	v->run->immediate_exit = 1;
	dq_check_equal("end of KVM_RUN", dq_run(v), DQ_SIGNAL);
	v->run->immediate_exit = 0;
	dq_set_quota(v, 5);
	check_exit(v, 5, 5);
}

static void no_op(int sig)
{
}

/* SIGUSR1 is let in by KVM_RUN alone, where it waits already. */
static void pend_signal(struct dq_vcpu *v)
{
	struct {
		struct kvm_signal_mask mask;
		uint8_t bits[8];
	} none = { .mask.len = 8 };
	sigset_t set;

	signal(SIGUSR1, no_op);
	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	sigprocmask(SIG_BLOCK, &set, NULL);
	raise(SIGUSR1);
	STATS_CHECK(!ioctl(v->fd, KVM_SET_SIGNAL_MASK, &none),
		    "KVM_SET_SIGNAL_MASK: %s", strerror(errno));
}

/* Whichever KVM_RUN tells first, it must tell the other as well. */
static void test_pending_signal(enum stats_scope scope)
{
	struct dq_vm d;
	struct dq_vcpu *v = setup(&d, 3);
	enum dq_end end;

	check_exit(v, 3, 3);
	pend_signal(v);
	end = dq_run(v);
	if (end == DQ_SIGNAL) {
		check_exit(v, 3, 3);
		return;
	}
	dq_check_equal("end of KVM_RUN", end, DQ_FULL);
	dq_set_quota(v, 4);
	dq_check_equal("end of KVM_RUN", dq_run(v), DQ_SIGNAL);
}

static void guest_work_and_ask(uint64_t nr)
{
	struct dq_work *w = dq_guest_my_work(nr);

	for (;;) {
		dq_guest_do_work(w);
		w->answer = dq_guest_ask();
	}
}

/*
 * What the device answers is taken before the exit for the quota: userspace
 * may use that part of kvm_run otherwise, or save the vCPU's state.
 */
static void test_pending_io(enum stats_scope scope)
{
	struct dq_config config = {
		.enable = true,
		.guest = guest_work_and_ask,
	};
	struct dq_vcpu *v;
	struct dq_vm d;
	void *data;

	dq_create(&d, &config);
	v = &d.vcpus[0];
	dq_tell(v, DQ_WRITE, 0, 20);
	dq_check_equal("end of KVM_RUN", dq_run(v), DQ_ASK);
	data = dq_answer(v, 0xa5a5);
	dq_set_quota(v, 20);
	check_exit(v, 20, 20);
	memset(data, 0, sizeof(uint32_t));
	check_exit(v, 20, 20);
	dq_set_quota(v, 21);
	dq_tell(v, DQ_IDLE, 0, 0);
	dq_check_equal("end of KVM_RUN", dq_run(v), DQ_ASK);
	dq_check_equal("the answer", v->work->answer, 0xa5a5);
}

#define TRACEFS	"/sys/kernel/tracing"

static bool mount_tracefs(void)
{
	return !unshare(CLONE_NEWNS) &&
	       !mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) &&
	       !mount("tracefs", TRACEFS, "tracefs", 0, NULL);
}

/* A buffer of our own, so that nobody else's is disturbed. */
static void create_trace(char *dir, size_t size)
{
	if (access(TRACEFS "/instances", F_OK) && !mount_tracefs())
		stats_skip("no tracefs: %s", strerror(errno));
	snprintf(dir, size, TRACEFS "/instances/dirty_quota.%d", getpid());
	STATS_CHECK(!mkdir(dir, 0700), "%s: %s", dir, strerror(errno));
}

static int open_trace(const char *dir, const char *name, int flags)
{
	char path[256];

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	return open(path, flags);
}

static void read_trace(const char *dir, char *buf, size_t size)
{
	int fd = open_trace(dir, "trace", O_RDONLY);
	size_t len = 0;
	ssize_t got;

	while (len + 1 < size &&
	       (got = read(fd, buf + len, size - len - 1)) > 0)
		len += got;
	buf[len] = '\0';
	close(fd);
}

/* Two exits with the tracepoint off, and one in between with it on. */
static void trace_one_exit(struct dq_vcpu *v, const char *dir)
{
	int fd = open_trace(dir, "events/kvm/kvm_dirty_quota_exit/enable",
			    O_WRONLY);

	check_exit(v, 1234, 1234);
	dq_set_quota(v, 777);
	dq_check_equal("write to enable", write(fd, "1", 1), 1);
	check_exit(v, 1234, 777);
	dq_check_equal("write to enable", write(fd, "0", 1), 1);
	check_exit(v, 1234, 777);
	close(fd);
}

/* Count and quota differ, so that it shows which is which. */
static void test_tracepoint(enum stats_scope scope)
{
	static char trace[16384];
	struct dq_vcpu *v;
	struct dq_vm d;
	char dir[128], *line;

	create_trace(dir, sizeof(dir));
	v = setup(&d, 1234);
	trace_one_exit(v, dir);
	read_trace(dir, trace, sizeof(trace));
	rmdir(dir);
	line = strstr(trace, "kvm_dirty_quota_exit:");
	STATS_CHECK(line, "no trace of the exit");
	STATS_CHECK(strstr(line, "vcpu 0 dirty_count 1234 dirty_quota 777"),
		    "%s", line);
	STATS_CHECK(!strstr(line + 1, "kvm_dirty_quota_exit:"),
		    "more than one trace");
}

static const struct stats_case cases[] = {
	{ "quota_small",	test_quota_small },
	{ "quota_table_size",	test_quota_table_size },
	{ "quota_edge",		test_quota_edge },
	{ "quota_random",	test_quota_random },
	{ "bits_at_exit",	test_bits_at_exit },
	{ "reentry",		test_reentry },
	{ "raise_by_one",	test_raise_by_one },
	{ "lower",		test_lower },
	{ "lower_idle",		test_lower_idle },
	{ "same_as_count",	test_same_as_count },
	{ "off",		test_off },
	{ "max",		test_max },
	{ "raise_while_running", test_raise_while_running },
	{ "off_while_running",	test_off_while_running },
	{ "lower_while_running", test_lower_while_running },
	{ "two_vcpus",		test_two_vcpus },
	{ "immediate_exit",	test_immediate_exit },
	{ "pending_signal",	test_pending_signal },
	{ "pending_io",		test_pending_io },
	{ "tracepoint",		test_tracepoint },
};

int main(int argc, char *argv[])
{
	return dq_run_cases(cases, ARRAY_SIZE(cases), argc, argv);
}
