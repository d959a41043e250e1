/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * kselftest's harness for tests of KVM: each test runs in a process of its own,
 * with a time limit.  A test that fails, hangs or trips an assertion of the
 * library is one failed result and leaves nothing behind for the next.
 *
 * TEST_ASSERT() may be used wherever the library is, also in other threads and
 * processes of the test.  It never skips a test: what the library exits with
 * when access was denied is a failure for the harness.  SKIP() is for the body
 * of a test only, not for FIXTURE_SETUP(), after which the body runs all the
 * same.
 */
#ifndef SELFTEST_KVM_TEST_HARNESS_H
#define SELFTEST_KVM_TEST_HARNESS_H

#include "kvm_util.h"

/* The harness has its own. */
#undef ARRAY_SIZE
#undef ASSERT_EQ
#include "kselftest_harness.h"

/* Enough for a debug kernel on an emulated CPU that shares its host. */
#undef TEST_TIMEOUT_DEFAULT
#define TEST_TIMEOUT_DEFAULT	120

/*
 * Only a kernel without KVM or without the capability is a reason to skip; a
 * device that may not be opened is a fault of whoever runs the test.
 */
static inline void kvm_test_require_cap(long cap, const char *name)
{
	int fd = open("/dev/kvm", O_RDWR);

	if (fd >= 0 && ioctl(fd, KVM_CHECK_EXTENSION, cap) > 0) {
		close(fd);
		return;
	}
	ksft_print_header();
	if (fd >= 0)
		ksft_exit_skip("this kernel lacks %s\n", name);
	if (errno == ENOENT || errno == ENODEV)
		ksft_exit_skip("/dev/kvm: %s\n", strerror(errno));
	ksft_exit_fail_msg("/dev/kvm: %s\n", strerror(errno));
}

/* "!tables" is every test that is not named like "tables". */
static inline bool kvm_test_is_named(const char *name, const char *pattern)
{
	if (*pattern == '!')
		return !strstr(name, pattern + 1);
	return strstr(name, pattern);
}

static inline void kvm_test_select(const char *pattern)
{
	struct __fixture_metadata *f;
	struct __test_metadata **t;
	unsigned int nr = 0;

	for (f = __fixture_list; f; f = f->next) {
		for (t = &f->tests; *t; ) {
			if (kvm_test_is_named((*t)->name, pattern)) {
				t = &(*t)->next;
				nr++;
			} else {
				*t = (*t)->next;
			}
		}
	}
	if (!nr)
		ksft_exit_fail_msg("no test is named like '%s'\n", pattern);
}

/*
 * The program's only argument, if there is one, is a part of the names of the
 * tests to run.
 */
static inline int kvm_test_run(int argc, char *argv[], long cap,
			       const char *cap_name)
{
	setvbuf(stdout, NULL, _IOLBF, 0);
	kvm_test_require_cap(cap, cap_name);
	if (argc > 1)
		kvm_test_select(argv[1]);
	return test_harness_run(argc, argv);
}

#define KVM_TEST_HARNESS_MAIN(cap)					\
	static void __attribute__((constructor))			\
	__constructor_order_last(void)					\
	{								\
		if (!__constructor_order)				\
			__constructor_order = _CONSTRUCTOR_ORDER_BACKWARD; \
	}								\
	int main(int argc, char *argv[])				\
	{								\
		exit(kvm_test_run(argc, argv, cap, #cap));		\
	}

#endif /* SELFTEST_KVM_TEST_HARNESS_H */
