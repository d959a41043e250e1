// SPDX-License-Identifier: GPL-2.0-only
/*
 * kvm_dirty_quota_test
 *
 * The interface of dirty quota: the capability and each of its errors, the
 * statistics, when a vCPU exits for its quota, with what, and what makes it go
 * on.
 *
 * Usage: kvm_dirty_quota_test [PART-OF-A-TEST'S-NAME]
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include "kvm_dirty_quota_util.h"
#include "kvm_test_harness.h"

/* More than two page tables or logs of a CPU hold. */
#define NR_PAGES	1300

/* ---- the capability ---- */

static int enable_raw(int fd, const struct kvm_enable_cap *cap)
{
	return ioctl(fd, KVM_ENABLE_CAP, cap) ? errno : 0;
}

static struct kvm_vm *create_empty_vm(void)
{
	return vm_create(VM_MODE_DEFAULT, 0, O_RDWR);
}

TEST(capability)
{
	struct kvm_vm *vm = create_empty_vm();

	TEST_ASSERT_EQ(kvm_check_cap(KVM_CAP_DIRTY_QUOTA), 1);
	TEST_ASSERT_EQ(ioctl(vm_get_fd(vm), KVM_CHECK_EXTENSION,
			     KVM_CAP_DIRTY_QUOTA), 1);
}

/* A refused call leaves the VM as it was: the right one then succeeds. */
static void check_invalid(const struct kvm_enable_cap *cap)
{
	struct kvm_vm *vm = create_empty_vm();

	TEST_ASSERT_EQ(enable_raw(vm_get_fd(vm), cap), EINVAL);
	TEST_ASSERT_EQ(dq_enable(vm_get_fd(vm)), 0);
	kvm_vm_free(vm);
}

TEST(flags)
{
	struct kvm_enable_cap cap = { .cap = KVM_CAP_DIRTY_QUOTA };
	unsigned int bit;

	for (bit = 0; bit < 32; bit++) {
		cap.flags = 1U << bit;
		check_invalid(&cap);
	}
}

/* None of them means anything. */
TEST(args)
{
	static const uint64_t values[] = { 1, 1ULL << 32, UINT64_MAX };
	unsigned int i, k;

	for (i = 0; i < 4; i++) {
		for (k = 0; k < ARRAY_SIZE(values); k++) {
			struct kvm_enable_cap cap = {
				.cap = KVM_CAP_DIRTY_QUOTA,
			};

			cap.args[i] = values[k];
			check_invalid(&cap);
		}
	}
}

TEST(vcpu_fd)
{
	struct kvm_enable_cap cap = { .cap = KVM_CAP_DIRTY_QUOTA };
	struct dq_config config = { .enable = true };
	struct dq_vm d;

	dq_create(&d, &config);
	TEST_ASSERT_EQ(enable_raw(d.vcpus[0].fd, &cap), EINVAL);
	dq_destroy(&d);
	config.enable = false;
	dq_create(&d, &config);
	TEST_ASSERT_EQ(enable_raw(d.vcpus[0].fd, &cap), EINVAL);
}

/* It is on or off, so that there is nothing wrong with saying it again. */
TEST(twice)
{
	struct kvm_vm *vm = create_empty_vm();

	TEST_ASSERT_EQ(dq_enable(vm_get_fd(vm)), 0);
	TEST_ASSERT_EQ(dq_enable(vm_get_fd(vm)), 0);
	vm_vcpu_add(vm, 0);
	TEST_ASSERT_EQ(dq_enable(vm_get_fd(vm)), EBUSY);
}

/* A new vCPU has no limit, and userspace gives it one before it runs. */
TEST(no_default)
{
	struct dq_config config = { .nr_vcpus = 3, .enable = true };
	struct dq_vm d;
	unsigned int i;

	dq_create(&d, &config);
	for (i = 0; i < d.nr_vcpus; i++)
		TEST_ASSERT_EQ(d.vcpus[i].run->dirty_quota, 0);
	dq_do(&d.vcpus[1], DQ_WRITE, 0, 100);
	dq_set_quota(&d.vcpus[2], 1);
	dq_tell(&d.vcpus[2], DQ_WRITE, 100, 100);
	TEST_ASSERT_EQ(dq_run(&d.vcpus[2]), DQ_FULL);
	TEST_ASSERT_EQ(dq_count(&d.vcpus[2]), 1);
}

/* Where it is not enabled, what userspace writes means nothing. */
static void check_not_limited(struct dq_vm *d)
{
	struct dq_vcpu *v = &d->vcpus[0];

	TEST_ASSERT_EQ(v->run->dirty_quota, 0);
	dq_set_quota(v, 1);
	dq_do(v, DQ_WRITE, 0, 100);
	dq_check_charged(d, 0, 100);
	TEST_ASSERT_EQ(v->run->dirty_quota, 1);
	TEST_STAT_EQ(&v->stats, "dirty_quota", 0);
	TEST_STAT_EQ(&v->stats, "dirty_quota_exits", 0);
}

TEST(not_enabled)
{
	struct dq_config config = {};
	struct dq_vm d;

	dq_create(&d, &config);
	check_not_limited(&d);
}

/* It was too late, so nothing limits the vCPU. */
TEST(busy)
{
	struct dq_config config = {};
	struct dq_vm d;

	dq_create(&d, &config);
	TEST_ASSERT_EQ(dq_enable(vm_get_fd(d.vm)), EBUSY);
	check_not_limited(&d);
	TEST_ASSERT_EQ(dq_enable(vm_get_fd(d.vm)), EBUSY);
}

/* Also a vCPU that has been closed has seen the VM without the quota. */
TEST(busy_closed)
{
	struct kvm_vm *vm = create_empty_vm();
	int fd = ioctl(vm_get_fd(vm), KVM_CREATE_VCPU, 0);

	TEST_ASSERT(fd >= 0, "KVM_CREATE_VCPU");
	close(fd);
	TEST_ASSERT_EQ(dq_enable(vm_get_fd(vm)), EBUSY);
}

/* A vCPU that could not be created does not count. */
TEST(failed_vcpu)
{
	struct kvm_vm *vm = create_empty_vm();

	TEST_ASSERT(ioctl(vm_get_fd(vm), KVM_CREATE_VCPU, -1L) < 0,
		    "a vCPU with the id -1");
	TEST_ASSERT_EQ(dq_enable(vm_get_fd(vm)), 0);
}

/* ---- kvm_run and the statistics ---- */

/* What is behind the old end of struct kvm_run is in the mapping. */
TEST(layout)
{
	int fd = open("/dev/kvm", O_RDWR);
	int size = ioctl(fd, KVM_GET_VCPU_MMAP_SIZE, NULL);
	struct kvm_run *run;

	TEST_ASSERT(size >= (int)sizeof(*run), "the mapping has %d bytes",
		    size);
	TEST_ASSERT_EQ(offsetof(struct kvm_run, dirty_quota),
		       offsetof(struct kvm_run, s) + sizeof(run->s));
	TEST_ASSERT_EQ(offsetof(struct kvm_run, dirty_quota_full.dirty_count),
		       offsetof(struct kvm_run, padding));
	TEST_ASSERT_EQ(offsetof(struct kvm_run, dirty_quota_full.dirty_quota),
		       offsetof(struct kvm_run, padding) + sizeof(uint64_t));
	TEST_ASSERT_EQ(KVM_EXIT_DIRTY_QUOTA_FULL, 51000);
	TEST_ASSERT_EQ(KVM_CAP_DIRTY_QUOTA, 51000);
}

/* The VM's own statistics have no sum of these. */
TEST(statistics)
{
	static const struct stats_known known[] = {
		{ "pages_dirtied",	STATS_COUNTER },
		{ "dirty_quota_exits",	STATS_COUNTER },
		{ "dirty_quota",	STATS_INSTANT },
	};
	struct stats_file s;
	size_t i;

	stats_setup(&s, STATS_VCPU);
	stats_check_known(&s, known, ARRAY_SIZE(known));
	for (i = 0; i < ARRAY_SIZE(known); i++)
		TEST_STAT_EQ(&s, known[i].name, 0);
	stats_close(&s);
	stats_setup(&s, STATS_VM);
	for (i = 0; i < ARRAY_SIZE(known); i++)
		TEST_ASSERT(!stats_find(&s, known[i].name), "the VM has %s",
			    known[i].name);
}

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
	TEST_ASSERT_EQ(dq_run(v), DQ_FULL);
	TEST_ASSERT_EQ(v->run->dirty_quota_full.dirty_count, count);
	TEST_ASSERT_EQ(v->run->dirty_quota_full.dirty_quota, quota);
}

/* Userspace owns the quota: the kernel never writes it. */
TEST(not_written)
{
	struct dq_vm d;
	struct dq_vcpu *v = setup(&d, 50);
	int i;

	for (i = 0; i < 3; i++) {
		check_exit(v, 50, 50);
		TEST_ASSERT_EQ(v->run->dirty_quota, 50);
	}
	dq_set_quota(v, 0);
	dq_run_to_end(v);
	TEST_ASSERT_EQ(v->run->dirty_quota, 0);
}

/*
 * Whoever does not know the count can read the statistic, or take an exit with a
 * quota of 1: at once if there is a count, else with the first page.
 */
TEST(count)
{
	struct dq_vm d;
	struct dq_vcpu *v = setup(&d, 1);
	uint64_t count;

	check_exit(v, 1, 1);
	for (count = 7; count < NR_PAGES; count += 100) {
		dq_set_quota(v, count);
		check_exit(v, count, count);
		dq_set_quota(v, 1);
		check_exit(v, count, 1);
		TEST_STAT_EQ(&v->stats, "pages_dirtied", count);
	}
	/* And so it is when the guest has stopped anywhere. */
	dq_set_quota(v, 0);
	dq_run_to_end(v);
	dq_settle(v);
	count = stats_value(&v->stats, "pages_dirtied");
	dq_set_quota(v, 1);
	check_exit(v, count, 1);
}

/* ---- when it exits ---- */

/* Exit after each @quota pages, never with one page more or less. */
static void check_arithmetic(uint64_t quota)
{
	struct dq_vcpu *v;
	struct dq_vm d;

	v = setup(&d, quota);
	v->raise_by = quota;
	dq_run_to_end(v);
	dq_settle(v);
	TEST_ASSERT_EQ(v->full_exits, NR_PAGES / quota);
	dq_check_charged(&d, 0, NR_PAGES);
	dq_check_bits(&d, 0, 1, NR_PAGES);
	dq_destroy(&d);
}

TEST(quota_small)
{
	check_arithmetic(1);
	check_arithmetic(2);
	check_arithmetic(3);
}

/* About the size of a page table, and of the logs that CPUs keep. */
TEST(quota_table_size)
{
	check_arithmetic(511);
	check_arithmetic(512);
	check_arithmetic(513);
}

/* The last page of all uses it up, or the one that is never written. */
TEST(quota_edge)
{
	check_arithmetic(NR_PAGES);
	check_arithmetic(NR_PAGES + 1);
}

TEST(quota_random)
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
TEST(bits_at_exit)
{
	struct dq_vm d;
	struct dq_vcpu *v = setup(&d, 7);
	unsigned int i;

	for (i = 0; i < 20; i++) {
		check_exit(v, 7 * (i + 1), 7 * (i + 1));
		TEST_ASSERT_EQ(v->work->touched, 6 * (i + 1));
		TEST_ASSERT_EQ(dq_harvest(&d), 7);
		dq_check_bits(&d, 6 * i, 1, 7);
		dq_set_quota(v, 7 * (i + 2));
	}
}

/* Without a raise the guest does not execute a single instruction. */
TEST(reentry)
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
	TEST_ASSERT_EQ(v->work->touched, touched);
	TEST_ASSERT_EQ(dq_harvest(&d), 0);
}

TEST(raise_by_one)
{
	struct dq_vm d;
	struct dq_vcpu *v = setup(&d, 1);
	uint64_t quota;

	for (quota = 1; quota < 50; quota++) {
		check_exit(v, quota, quota);
		dq_set_quota(v, quota + 1);
	}
}

TEST(lower)
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
TEST(lower_idle)
{
	struct dq_vm d;
	struct dq_vcpu *v = setup(&d, 0);

	dq_run_to_end(v);
	dq_set_quota(v, 10);
	dq_tell(v, DQ_IDLE, 0, 0);
	check_exit(v, NR_PAGES, 10);
}

/* What is dirty already costs nothing, but there is nothing left to pay. */
TEST(same_as_count)
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
	TEST_ASSERT_EQ(dq_count(v), NR_PAGES);
	TEST_STAT_EQ(&v->stats, "dirty_quota", quota);
	TEST_ASSERT_EQ(v->full_exits, 1);
}

TEST(off)
{
	check_no_limit(0);
}

TEST(highest)
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
TEST(raise_while_running)
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
	TEST_ASSERT_EQ(v->full_exits, 0);
	TEST_ASSERT_EQ(dq_count(v), 1200);
	TEST_ASSERT_EQ(dq_harvest(&d), 1200);
}

TEST(off_while_running)
{
	struct dq_vm d;
	struct dq_vcpu *v = start_endless(&d, 61, 60);

	dq_set_quota(v, 0);
	WRITE_ONCE(v->work->first, 60);
	dq_wait_touched(v, 200);
	dq_stop(v);
	dq_join(v);
	TEST_ASSERT_EQ(v->full_exits, 0);
	TEST_ASSERT_EQ(dq_count(v), 120);
}

static void *run_to_exit(void *v)
{
	check_exit(v, 61, 10);
	return NULL;
}

/* Lowered while it runs: the next page that it dirties ends that. */
TEST(lower_while_running)
{
	struct dq_vm d;
	struct dq_vcpu *v = setup(&d, 100);

	dq_tell_endless(v, DQ_WRITE, 0, 60);
	TEST_ASSERT(!pthread_create(&v->thread, NULL, run_to_exit, v),
		    "pthread_create");
	dq_wait_touched(v, 180);
	dq_set_quota(v, 10);
	WRITE_ONCE(v->work->first, 1);
	pthread_join(v->thread, NULL);
}

/* Each vCPU has its own; what one does to its quota is no other's business. */
TEST(two_vcpus)
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
	TEST_ASSERT_EQ(dq_count(&d.vcpus[1]), 200);
	TEST_STAT_EQ(&d.vcpus[1].stats, "dirty_quota_exits", 0);
}

TEST(immediate_exit)
{
	struct dq_vm d;
	struct dq_vcpu *v = setup(&d, 3);
	int i;

	check_exit(v, 3, 3);
	v->run->immediate_exit = 1;
	for (i = 0; i < 10; i++)
		TEST_ASSERT_EQ(dq_run(v), DQ_SIGNAL);
	TEST_STAT_EQ(&v->stats, "dirty_quota_exits", 1);
	v->run->immediate_exit = 0;
	check_exit(v, 3, 3);
	/* A run that comes to nothing finds it used up; it is raised then. */
	v->run->immediate_exit = 1;
	TEST_ASSERT_EQ(dq_run(v), DQ_SIGNAL);
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
	TEST_ASSERT(!ioctl(v->fd, KVM_SET_SIGNAL_MASK, &none),
		    "KVM_SET_SIGNAL_MASK");
}

/* Whichever KVM_RUN tells first, it must tell the other as well. */
TEST(pending_signal)
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
	TEST_ASSERT_EQ(end, DQ_FULL);
	dq_set_quota(v, 4);
	TEST_ASSERT_EQ(dq_run(v), DQ_SIGNAL);
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
TEST(pending_io)
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
	TEST_ASSERT_EQ(dq_run(v), DQ_ASK);
	data = dq_answer(v, 0xa5a5);
	dq_set_quota(v, 20);
	check_exit(v, 20, 20);
	memset(data, 0, sizeof(uint32_t));
	check_exit(v, 20, 20);
	dq_set_quota(v, 21);
	dq_tell(v, DQ_IDLE, 0, 0);
	TEST_ASSERT_EQ(dq_run(v), DQ_ASK);
	TEST_ASSERT_EQ(v->work->answer, 0xa5a5);
}

#define TRACEFS	"/sys/kernel/tracing"

static bool mount_tracefs(void)
{
	return !unshare(CLONE_NEWNS) &&
	       !mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) &&
	       !mount("tracefs", TRACEFS, "tracefs", 0, NULL);
}

/* A buffer of our own, so that nobody else's is disturbed. */
static bool create_trace(char *dir, size_t size)
{
	if (access(TRACEFS "/instances", F_OK) && !mount_tracefs())
		return false;
	snprintf(dir, size, TRACEFS "/instances/dirty_quota.%d", getpid());
	TEST_ASSERT(!mkdir(dir, 0700), "%s", dir);
	return true;
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
	TEST_ASSERT_EQ(write(fd, "1", 1), 1);
	check_exit(v, 1234, 777);
	TEST_ASSERT_EQ(write(fd, "0", 1), 1);
	check_exit(v, 1234, 777);
	close(fd);
}

/* Count and quota differ, so that it shows which is which. */
TEST(tracepoint)
{
	static char trace[16384];
	struct dq_vcpu *v;
	struct dq_vm d;
	char dir[128], *line;

	if (!create_trace(dir, sizeof(dir)))
		SKIP(return, "no tracefs: %s", strerror(errno));
	v = setup(&d, 1234);
	trace_one_exit(v, dir);
	read_trace(dir, trace, sizeof(trace));
	rmdir(dir);
	line = strstr(trace, "kvm_dirty_quota_exit:");
	TEST_ASSERT(line, "no trace of the exit");
	TEST_ASSERT(strstr(line, "vcpu 0 dirty_count 1234 dirty_quota 777"),
		    "%s", line);
	TEST_ASSERT(!strstr(line + 1, "kvm_dirty_quota_exit:"),
		    "more than one trace");
}

KVM_TEST_HARNESS_MAIN(KVM_CAP_DIRTY_QUOTA)
