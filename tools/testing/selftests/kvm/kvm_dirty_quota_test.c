// SPDX-License-Identifier: GPL-2.0-only
/*
 * kvm_dirty_quota_test
 *
 * The interface of dirty quota: the capability and each of its errors, the
 * default that vCPUs start with, the statistics.
 *
 * Usage: kvm_dirty_quota_test [PART-OF-A-CASE-NAME]
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>

#include "kvm_dirty_quota_util.h"

#define NR_PAGES	100

static int enable_raw(int fd, const struct kvm_enable_cap *cap)
{
	return ioctl(fd, KVM_ENABLE_CAP, cap) ? errno : 0;
}

static struct kvm_vm *create_empty_vm(void)
{
	return vm_create(VM_MODE_DEFAULT, 0, O_RDWR);
}

static void check_errno(const char *what, int found, int expected)
{
	STATS_CHECK(found == expected, "%s: %s, expected %s", what,
		    strerror(found), strerror(expected));
}

static void test_capability(enum stats_scope scope)
{
	struct kvm_vm *vm = create_empty_vm();
	int ret;

	dq_check_equal("KVM_CHECK_EXTENSION on /dev/kvm",
		       kvm_check_cap(KVM_CAP_DIRTY_QUOTA), 1);
	ret = ioctl(vm_get_fd(vm), KVM_CHECK_EXTENSION, KVM_CAP_DIRTY_QUOTA);
	dq_check_equal("KVM_CHECK_EXTENSION on the VM", ret, 1);
}

/* A refused call leaves the VM as it was: the right one then succeeds. */
static void check_invalid(const char *what, const struct kvm_enable_cap *cap)
{
	struct kvm_vm *vm = create_empty_vm();

	check_errno(what, enable_raw(vm_get_fd(vm), cap), EINVAL);
	check_errno("the right call after it", dq_enable(vm_get_fd(vm), 5), 0);
	kvm_vm_free(vm);
}

static void test_flags(enum stats_scope scope)
{
	struct kvm_enable_cap cap = { .cap = KVM_CAP_DIRTY_QUOTA };
	unsigned int bit;

	for (bit = 0; bit < 32; bit++) {
		cap.flags = 1U << bit;
		check_invalid("an unknown flag", &cap);
	}
}

static void test_spare_args(enum stats_scope scope)
{
	static const uint64_t values[] = { 1, 1ULL << 32, UINT64_MAX };
	char what[32];
	unsigned int i, k;

	for (i = 1; i < 4; i++) {
		for (k = 0; k < ARRAY_SIZE(values); k++) {
			struct kvm_enable_cap cap = {
				.cap = KVM_CAP_DIRTY_QUOTA,
			};

			cap.args[i] = values[k];
			snprintf(what, sizeof(what), "args[%u] set", i);
			check_invalid(what, &cap);
		}
	}
}

static void test_vcpu_fd(enum stats_scope scope)
{
	struct kvm_enable_cap cap = { .cap = KVM_CAP_DIRTY_QUOTA };
	struct dq_config config = { .enable = true };
	struct dq_vm d;

	dq_create(&d, &config);
	check_errno("on a vCPU, enabled", enable_raw(d.vcpus[0].fd, &cap),
		    EINVAL);
	dq_destroy(&d);
	config.enable = false;
	dq_create(&d, &config);
	check_errno("on a vCPU", enable_raw(d.vcpus[0].fd, &cap), EINVAL);
}

/* The first call counts. */
static void test_twice(enum stats_scope scope)
{
	struct kvm_vm *vm = create_empty_vm();

	check_errno("first", dq_enable(vm_get_fd(vm), 7), 0);
	check_errno("again", dq_enable(vm_get_fd(vm), 7), EEXIST);
	check_errno("another quota", dq_enable(vm_get_fd(vm), 8), EEXIST);
	vm_vcpu_add(vm, 0);
	dq_check_equal("quota of the vCPU", vcpu_state(vm, 0)->dirty_quota, 7);
	check_errno("with a vCPU", dq_enable(vm_get_fd(vm), 8), EEXIST);
}

static void write_pages(struct dq_vcpu *v)
{
	dq_do(v, DQ_WRITE, 0, NR_PAGES);
	dq_check_equal("pages_dirtied", dq_count(v), NR_PAGES);
	dq_check_equal("bits", dq_harvest(v->d), NR_PAGES);
}

static void check_not_limited(struct dq_vm *d)
{
	struct dq_vcpu *v = &d->vcpus[0];

	dq_check_equal("quota of a new vCPU", v->run->dirty_quota, 0);
	dq_set_quota(v, 1);
	write_pages(v);
	dq_check_equal("quota that userspace wrote", v->run->dirty_quota, 1);
	dq_check_equal("dirty_quota",
		       stats_value(&v->stats, "dirty_quota"), 0);
	dq_check_equal("dirty_quota_exits",
		       stats_value(&v->stats, "dirty_quota_exits"), 0);
}

/* It was too late, so nothing limits the vCPU. */
static void test_busy(enum stats_scope scope)
{
	struct dq_config config = {};
	struct dq_vm d;

	dq_create(&d, &config);
	check_errno("with a vCPU", dq_enable(vm_get_fd(d.vm), 3), EBUSY);
	check_not_limited(&d);
	check_errno("after it ran", dq_enable(vm_get_fd(d.vm), 3), EBUSY);
}

/* Also a vCPU that has been closed has seen the VM without the quota. */
static void test_busy_closed(enum stats_scope scope)
{
	struct kvm_vm *vm = create_empty_vm();
	int fd = ioctl(vm_get_fd(vm), KVM_CREATE_VCPU, 0);

	STATS_CHECK(fd >= 0, "KVM_CREATE_VCPU: %s", strerror(errno));
	close(fd);
	check_errno("with a closed vCPU", dq_enable(vm_get_fd(vm), 3), EBUSY);
}

/* A vCPU that could not be created does not count. */
static void test_failed_vcpu(enum stats_scope scope)
{
	struct kvm_vm *vm = create_empty_vm();

	STATS_CHECK(ioctl(vm_get_fd(vm), KVM_CREATE_VCPU, -1L) < 0,
		    "a vCPU with the id -1");
	check_errno("after it", dq_enable(vm_get_fd(vm), 3), 0);
	vm_vcpu_add(vm, 0);
	dq_check_equal("quota of the vCPU", vcpu_state(vm, 0)->dirty_quota, 3);
}

static void test_not_enabled(enum stats_scope scope)
{
	struct dq_config config = {};
	struct dq_vm d;

	dq_create(&d, &config);
	check_not_limited(&d);
}

/* Each vCPU takes it, the one that is created last as well. */
static void test_default(enum stats_scope scope)
{
	static const uint64_t values[] = { 0, 1, 42, 1ULL << 40, UINT64_MAX };
	struct dq_config config = { .enable = true, .nr_vcpus = 3 };
	struct dq_vm d;
	unsigned int i, k;

	for (i = 0; i < ARRAY_SIZE(values); i++) {
		config.quota = values[i];
		dq_create(&d, &config);
		for (k = 0; k < d.nr_vcpus; k++)
			dq_check_equal("quota of a new vCPU",
				       d.vcpus[k].run->dirty_quota, values[i]);
		dq_destroy(&d);
	}
}

/* And it is in force, with no write by userspace. */
static void test_default_in_force(enum stats_scope scope)
{
	struct dq_config config = { .enable = true, .quota = 42 };
	struct dq_vcpu *v;
	struct dq_vm d;

	dq_create(&d, &config);
	v = &d.vcpus[0];
	v->raise_by = 42;
	write_pages(v);
	dq_check_equal("exits for the quota", v->full_exits, NR_PAGES / 42);
	dq_check_equal("dirty_quota", stats_value(&v->stats, "dirty_quota"),
		       42 * (NR_PAGES / 42 + 1));
}

/* What is behind the old end of struct kvm_run is in the mapping. */
static void test_layout(enum stats_scope scope)
{
	int fd = open("/dev/kvm", O_RDWR);
	int size = ioctl(fd, KVM_GET_VCPU_MMAP_SIZE, NULL);
	struct kvm_run *run;

	STATS_CHECK(size >= (int)sizeof(*run), "the mapping has %d bytes",
		    size);
	dq_check_equal("offset of dirty_quota",
		       offsetof(struct kvm_run, dirty_quota),
		       offsetof(struct kvm_run, s) + sizeof(run->s));
	dq_check_equal("offset of dirty_count",
		       offsetof(struct kvm_run, dirty_quota_full.dirty_count),
		       offsetof(struct kvm_run, padding));
	dq_check_equal("offset of dirty_quota_full.dirty_quota",
		       offsetof(struct kvm_run, dirty_quota_full.dirty_quota),
		       offsetof(struct kvm_run, padding) + sizeof(uint64_t));
	dq_check_equal("KVM_EXIT_DIRTY_QUOTA_FULL", KVM_EXIT_DIRTY_QUOTA_FULL,
		       51000);
	dq_check_equal("KVM_CAP_DIRTY_QUOTA", KVM_CAP_DIRTY_QUOTA, 51000);
}

static void check_stat(const struct stats_file *s, const char *name,
		       uint32_t type)
{
	const struct kvm_stats_desc *d = stats_need(s, name);

	STATS_CHECK(d->flags == (type | KVM_STATS_UNIT_NONE) && !d->exponent &&
		    d->size == 1, "%s: flags %#x, exponent %d, size %u", name,
		    d->flags, d->exponent, d->size);
	dq_check_equal(name, stats_value(s, name), 0);
}

static void test_statistics(enum stats_scope scope)
{
	struct stats_file s;

	stats_setup(&s, STATS_VCPU);
	check_stat(&s, "pages_dirtied", KVM_STATS_TYPE_CUMULATIVE);
	check_stat(&s, "dirty_quota_exits", KVM_STATS_TYPE_CUMULATIVE);
	check_stat(&s, "dirty_quota", KVM_STATS_TYPE_INSTANT);
}

/* The VM's own statistics have no sum of these. */
static void test_no_vm_statistics(enum stats_scope scope)
{
	struct stats_file s;

	stats_setup(&s, STATS_VM);
	STATS_CHECK(!stats_find(&s, "pages_dirtied"), "pages_dirtied");
	STATS_CHECK(!stats_find(&s, "dirty_quota"), "dirty_quota");
}

/* Userspace owns the quota: the kernel writes it once, at creation. */
static void test_not_written(enum stats_scope scope)
{
	struct dq_config config = { .enable = true, .quota = 5 };
	struct dq_vcpu *v;
	struct dq_vm d;
	int i;

	dq_create(&d, &config);
	v = &d.vcpus[0];
	dq_set_quota(v, 50);
	dq_tell(v, DQ_WRITE, 0, NR_PAGES);
	for (i = 0; i < 3; i++) {
		dq_check_equal("end of KVM_RUN", dq_run(v), DQ_FULL);
		dq_check_equal("quota that userspace wrote",
			       v->run->dirty_quota, 50);
	}
	dq_set_quota(v, 0);
	dq_run_to_end(v);
	dq_check_equal("quota that userspace wrote", v->run->dirty_quota, 0);
}

static const struct stats_case cases[] = {
	{ "capability",		test_capability },
	{ "flags",		test_flags },
	{ "spare_args",		test_spare_args },
	{ "vcpu_fd",		test_vcpu_fd },
	{ "twice",		test_twice },
	{ "busy",		test_busy },
	{ "busy_closed",	test_busy_closed },
	{ "failed_vcpu",	test_failed_vcpu },
	{ "not_enabled",	test_not_enabled },
	{ "default",		test_default },
	{ "default_in_force",	test_default_in_force },
	{ "layout",		test_layout },
	{ "statistics",		test_statistics },
	{ "no_vm_statistics",	test_no_vm_statistics },
	{ "not_written",	test_not_written },
};

int main(int argc, char *argv[])
{
	return dq_run_cases(cases, ARRAY_SIZE(cases), argc, argv);
}
