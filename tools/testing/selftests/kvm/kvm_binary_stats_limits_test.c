// SPDX-License-Identifier: GPL-2.0-only
/*
 * kvm_binary_stats_limits_test
 *
 * KVM_GET_STATS_FD when file descriptors or memory run out, very often, and from
 * several threads at once.
 *
 * Usage: kvm_binary_stats_limits_test [PART-OF-A-CASE-NAME]
 */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <sys/resource.h>

#include "kvm_stats_util.h"

static int lowest_free_fd(void)
{
	int fd = dup(STDERR_FILENO);

	STATS_CHECK(fd >= 0, "dup: %s", strerror(errno));
	close(fd);
	return fd;
}

#define NR_FREE_FDS	16

/*
 * A descriptor that was reserved and never used is in no list of open files,
 * but it is not free any more.
 */
static void check_free_fds(int lowest)
{
	int i, fds[NR_FREE_FDS];

	for (i = 0; i < NR_FREE_FDS; i++)
		fds[i] = dup(STDERR_FILENO);
	for (i = 0; i < NR_FREE_FDS; i++) {
		STATS_CHECK(fds[i] == lowest + i,
			    "file descriptor %d is still taken", lowest + i);
		close(fds[i]);
	}
}

/* Nothing else than EMFILE, and nothing is left open, however often. */
static void test_emfile(enum stats_scope scope)
{
	int owner_fd = stats_owner_fd(stats_create_vm(), scope);
	struct rlimit old, limit;
	int i, ret, lowest = lowest_free_fd();
	unsigned int nr_fds;

	nr_fds = stats_count_fds();
	STATS_CHECK(!getrlimit(RLIMIT_NOFILE, &old), "getrlimit");
	limit = old;
	limit.rlim_cur = lowest;
	STATS_CHECK(!setrlimit(RLIMIT_NOFILE, &limit), "setrlimit");
	for (i = 0; i < 1000; i++) {
		ret = ioctl(owner_fd, KVM_GET_STATS_FD, NULL);
		STATS_CHECK(ret == -1 && errno == EMFILE, "got %d (%s)", ret,
			    ret < 0 ? strerror(errno) : "");
	}
	STATS_CHECK(!setrlimit(RLIMIT_NOFILE, &old), "setrlimit");
	STATS_CHECK(stats_count_fds() == nr_fds, "%u file descriptors, not %u",
		    stats_count_fds(), nr_fds);
	check_free_fds(lowest);
	stats_check_file(stats_get_fd(owner_fd), getpid(), scope);
}

#define IGNORE_GFP_WAIT	"/sys/kernel/debug/failslab/ignore-gfp-wait"
#define FAIL_NTH	"/proc/thread-self/fail-nth"

static bool write_file(const char *path, const char *text)
{
	ssize_t len = strlen(text);
	int fd = open(path, O_WRONLY);
	bool ok = fd >= 0 && write(fd, text, len) == len;

	if (fd >= 0)
		close(fd);
	return ok;
}

/*
 * KVM_GET_STATS_FD with its @nth allocation failing.  Returns false if it does
 * not make so many.
 */
static bool ioctl_fails_nth(int owner_fd, int nth, int *nr_failed)
{
	int ret, error, fd = open(FAIL_NTH, O_RDWR);
	char text[16] = "";

	STATS_CHECK(fd >= 0, "%s: %s", FAIL_NTH, strerror(errno));
	snprintf(text, sizeof(text), "%d", nth);
	STATS_CHECK(write(fd, text, strlen(text)) > 0, "%s: %s", FAIL_NTH,
		    strerror(errno));
	ret = ioctl(owner_fd, KVM_GET_STATS_FD, NULL);
	error = errno;
	/*
	 * Where copies to and from userspace can fail, too, a failure that is
	 * left hits one of these, and there is none left then.
	 */
	STATS_CHECK(pread(fd, text, sizeof(text) - 1, 0) > 0 || errno == EFAULT,
		    "%s: %s", FAIL_NTH, strerror(errno));
	STATS_CHECK(pwrite(fd, "0", 1, 0) == 1 || errno == EFAULT, "%s: %s",
		    FAIL_NTH, strerror(errno));
	close(fd);
	STATS_CHECK(ret >= 0 || error == ENOMEM, "allocation %d failed: %s",
		    nth, strerror(error));
	if (ret >= 0)
		close(ret);
	else
		(*nr_failed)++;
	return atoi(text) == 0;
}

static void test_enomem(enum stats_scope scope)
{
	int nth, nr_failed = 0, owner_fd, lowest;
	unsigned int nr_fds;

	if (!stats_find_debugfs() || access(FAIL_NTH, W_OK) ||
	    access(IGNORE_GFP_WAIT, W_OK))
		stats_skip("needs CONFIG_FAILSLAB and debugfs");
	owner_fd = stats_owner_fd(stats_create_vm(), scope);
	nr_fds = stats_count_fds();
	lowest = lowest_free_fd();
	STATS_CHECK(write_file(IGNORE_GFP_WAIT, "N"), "%s: %s",
		    IGNORE_GFP_WAIT, strerror(errno));
	for (nth = 1; ioctl_fails_nth(owner_fd, nth, &nr_failed); nth++)
		STATS_CHECK(nth < 1000, "no end of allocations");
	STATS_CHECK(nr_failed, "%d allocations failed and nobody noticed",
		    nth - 1);
	STATS_CHECK(stats_count_fds() == nr_fds, "%u file descriptors, not %u",
		    stats_count_fds(), nr_fds);
	check_free_fds(lowest);
	stats_check_file(stats_get_fd(owner_fd), getpid(), scope);
}

static void test_many_opens(enum stats_scope scope)
{
	int owner_fd = stats_owner_fd(stats_create_vm(), scope);
	unsigned int nr_fds = stats_count_fds();
	int i, fd = -1, first = -1;

	for (i = 0; i < 5000; i++) {
		fd = stats_get_fd(owner_fd);
		if (first < 0)
			first = fd;
		STATS_CHECK(fd == first, "open %d gave fd %d, not %d", i, fd,
			    first);
		close(fd);
	}
	STATS_CHECK(stats_count_fds() == nr_fds, "%u file descriptors, not %u",
		    stats_count_fds(), nr_fds);
}

/* Open, read and close until the owner is closed under it. */
static void *open_read_close(void *owner_fd)
{
	static __thread char buf[65536];
	ssize_t got;
	int fd;

	for (;;) {
		fd = ioctl((long)owner_fd, KVM_GET_STATS_FD, NULL);
		if (fd < 0)
			break;
		got = pread(fd, buf, sizeof(buf), 0);
		STATS_CHECK(got > 0, "pread: %s",
			    got ? strerror(errno) : "empty");
		close(fd);
	}
	/* By now another thread may have a file of that number. */
	STATS_CHECK(errno == EBADF || errno == ENOTTY, "KVM_GET_STATS_FD: %s",
		    strerror(errno));
	return NULL;
}

/* Several threads, while vCPUs are added and then all of it is closed. */
static void test_threads(enum stats_scope scope)
{
	struct kvm_vm *vm = stats_create_vm();
	long owner_fd = stats_owner_fd(vm, scope);
	unsigned int nr_fds = stats_count_fds();
	pthread_t threads[4];
	int i;

	for (i = 0; i < ARRAY_SIZE(threads); i++)
		STATS_CHECK(!pthread_create(&threads[i], NULL, open_read_close,
					    (void *)owner_fd),
			    "pthread_create");
	for (i = 1; i <= 4; i++) {
		vm_vcpu_add(vm, STATS_VCPU_ID + i);
		usleep(20000);
	}
	kvm_vm_free(vm);
	for (i = 0; i < ARRAY_SIZE(threads); i++)
		pthread_join(threads[i], NULL);
	STATS_CHECK(stats_count_fds() < nr_fds, "%u file descriptors, not less than %u",
		    stats_count_fds(), nr_fds);
}

static const struct stats_case cases[] = {
	{ "emfile",		test_emfile,		STATS_BOTH },
	{ "enomem",		test_enomem,		STATS_BOTH },
	{ "many_opens",		test_many_opens,	STATS_BOTH },
	{ "threads",		test_threads,		STATS_BOTH },
};

int main(int argc, char *argv[])
{
	return stats_run_cases(cases, ARRAY_SIZE(cases), argv[1]);
}
