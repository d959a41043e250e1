// SPDX-License-Identifier: GPL-2.0-only
/* Samples of many sources in one call: both ways, and how one is chosen. */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "image.h"

#define SOURCES	300	/* two whole rings, and a part of one */
#define WORDS	9

struct many {
	struct kvmstats_source *source[SOURCES];
	struct kvmstats_read read[SOURCES];
	uint64_t sample[SOURCES][WORDS];
};

/* Each with a file of its own and values that are its own. */
static int many_open(void **state)
{
	struct many *many = calloc(1, sizeof(*many));
	struct image image;

	image_fill(&image);
	for (int i = 0; i < SOURCES; i++) {
		image_data(&image)[0] = 1000 + i;
		many->source[i] = image_open_file(&image);
		many->read[i] = (struct kvmstats_read){
			many->source[i], many->sample[i], WORDS, 1, { 0 } };
	}
	*state = many;
	return 0;
}

static int many_close(void **state)
{
	struct many *many = *state;

	for (int i = 0; i < SOURCES; i++)
		kvmstats_source_close(many->source[i]);
	free(many);
	return 0;
}

static void assert_all_read(struct many *many)
{
	for (int i = 0; i < SOURCES; i++) {
		assert_int_equal(many->read[i].result, 0);
		assert_int_equal(many->sample[i][0], 1000 + i);
		assert_int_equal(many->sample[i][8], 108);
		many->read[i].result = 1;
	}
	memset(many->sample, 0, sizeof(many->sample));
}

static void sample_all(struct kvmstats_batch *batch, struct many *many)
{
	assert_int_equal(kvmstats_batch_sample(batch, many->read, SOURCES),
			 SOURCES);
	assert_all_read(many);
}

static struct kvmstats_batch *new_batch(unsigned int flags)
{
	struct kvmstats_batch *batch;

	assert_int_equal(kvmstats_batch_new(flags, &batch), 0);
	return batch;
}

/* Without io_uring there is nothing to test about it. */
static struct kvmstats_batch *new_uring_batch(void)
{
	struct kvmstats_batch *batch = new_batch(KVMSTATS_BATCH_URING);

	if (!kvmstats_batch_uses_uring(batch)) {
		kvmstats_batch_free(batch);
		skip();
	}
	return batch;
}

static void arguments(void **state)
{
	struct kvmstats_batch *batch = NULL;

	(void)state;
	assert_int_equal(kvmstats_batch_new(3, &batch), -EINVAL);
	assert_int_equal(kvmstats_batch_new(4, &batch), -EINVAL);
	assert_null(batch);
	kvmstats_batch_free(NULL);
	batch = new_batch(0);
	assert_int_equal(kvmstats_batch_sample(batch, NULL, 0), 0);
	assert_int_equal(kvmstats_batch_sample(batch, NULL, 1ull << 31),
			 -EINVAL);
	kvmstats_batch_free(batch);
}

/* A field that this version does not know: refused, one by one. */
static void reserved_is_zero(enum kvmstats_batch_method method, struct many *many)
{
	struct kvmstats_batch *batch = new_batch(method);

	many->read[7].reserved[4] = 1;
	assert_int_equal(kvmstats_batch_sample(batch, many->read, SOURCES),
			 SOURCES - 1);
	assert_int_equal(many->read[7].result, -EINVAL);
	many->read[7].reserved[4] = 0;
	sample_all(batch, many);
	kvmstats_batch_free(batch);
}

static void reserved_fields(void **state)
{
	reserved_is_zero(KVMSTATS_BATCH_PREAD, *state);
	reserved_is_zero(KVMSTATS_BATCH_URING, *state);
}

static void plain(void **state)
{
	struct kvmstats_batch *batch = new_batch(KVMSTATS_BATCH_PREAD);

	assert_int_equal(kvmstats_batch_uses_uring(batch), 0);
	sample_all(batch, *state);
	kvmstats_batch_free(batch);
}

static void uring(void **state)
{
	struct kvmstats_batch *batch = new_uring_batch();

	for (int i = 0; i < 10; i++)
		sample_all(batch, *state);
	assert_int_equal(kvmstats_batch_uses_uring(batch), 1);
	kvmstats_batch_free(batch);
}

/* What lies at the source's descriptor number from now on. */
static void replace(struct kvmstats_source *source, int fd)
{
	assert_true(fd >= 0);
	assert_true(dup2(fd, kvmstats_source_fd(source)) >= 0);
	close(fd);
}

/* Number 7 of each ten has something else wrong. */
static void damage(struct many *many, struct kvmstats_source *recorded)
{
	int ends[2];

	assert_int_equal(pipe(ends), 0);
	close(ends[1]);
	replace(many->source[7], ends[0]);
	replace(many->source[17], open("/", O_RDONLY | O_DIRECTORY));
	assert_int_equal(ftruncate(kvmstats_source_fd(many->source[27]),
				   IMAGE_DATA_AT + 8 * WORDS - 1), 0);
	assert_int_equal(ftruncate(kvmstats_source_fd(many->source[37]), 0), 0);
	many->read[47].words = WORDS - 1;
	replace(many->source[57], open("/dev/null", O_WRONLY));
	many->read[127].words = 0;
	many->read[128].source = recorded;
}

static int expected_result(int i)
{
	switch (i) {
	case 7: return -ESPIPE;
	case 17: return -EISDIR;
	case 27: case 37: return -EIO;
	case 47: case 127: return -ENOSPC;
	case 57: return -EBADF;
	default: return 0;
	}
}

static void assert_others_unharmed(struct kvmstats_batch *batch,
				   struct many *many)
{
	memset(many->sample, 0, sizeof(many->sample));
	assert_int_equal(kvmstats_batch_sample(batch, many->read, SOURCES),
			 SOURCES - 7);
	for (int i = 0; i < SOURCES; i++) {
		assert_int_equal(many->read[i].result, expected_result(i));
		if (!many->read[i].result && i != 128)
			assert_int_equal(many->sample[i][0], 1000 + i);
	}
	assert_int_equal(many->sample[128][0], 100);
	assert_int_equal(many->sample[47][0], 0);
}

static void failures_stay_alone(void **state)
{
	struct many *many = *state;
	struct kvmstats_source *recorded;
	struct image image;

	image_fill(&image);
	assert_int_equal(image_open(&image, &recorded), 0);
	damage(many, recorded);
	for (unsigned int flags = 0; flags <= KVMSTATS_BATCH_URING; flags++) {
		struct kvmstats_batch *batch = new_batch(flags);

		assert_others_unharmed(batch, many);
		assert_others_unharmed(batch, many);
		kvmstats_batch_free(batch);
	}
	kvmstats_source_close(recorded);
}

/* A source without statistics: nothing to read. */
static void empty_source(void **state)
{
	struct kvmstats_read read = { 0 };
	struct kvmstats_batch *batch;
	struct kvmstats_source *source;
	struct image image;

	(void)state;
	image_fill(&image);
	image_header(&image)->num_desc = 0;
	source = image_open_file(&image);
	read.source = source;
	batch = new_batch(KVMSTATS_BATCH_URING);
	assert_int_equal(kvmstats_batch_sample(batch, &read, 1), 1);
	kvmstats_batch_free(batch);
	kvmstats_source_close(source);
}

/* A clock for the library that makes one of the two ways look slow. */
static bool clock_lies;
static unsigned int clock_calls, slow_way;

/* One try of the faster way is disturbed: that must not count. */
static uint64_t try_ns(unsigned int number)
{
	if (number == 4 || number == 5)
		return 20000000;
	return number % 2 == slow_way ? 9000000 : 1000;
}

int clock_gettime(clockid_t clock, struct timespec *time)
{
	static uint64_t now_ns;

	if (!clock_lies)
		return syscall(SYS_clock_gettime, clock, time);
	/* two calls for each try: before and after */
	if (clock_calls % 2)
		now_ns += try_ns(clock_calls / 2);
	clock_calls++;
	time->tv_sec = now_ns / 1000000000;
	time->tv_nsec = now_ns % 1000000000;
	return 0;
}

static void choose(struct many *many, unsigned int slow, int uses_uring)
{
	struct kvmstats_batch *batch = new_batch(0);

	if (!kvmstats_batch_uses_uring(batch)) {
		kvmstats_batch_free(batch);
		skip();
	}
	/* too few to tell, or to be worth it */
	for (int i = 0; i < 100; i++)
		assert_int_equal(kvmstats_batch_sample(batch, many->read, 15),
				 15);
	assert_int_equal(kvmstats_batch_uses_uring(batch), 1);
	clock_calls = 0;
	slow_way = slow;
	clock_lies = true;
	for (int i = 0; i < 8; i++)
		sample_all(batch, many);
	clock_lies = false;
	assert_int_equal(clock_calls, 32);
	assert_int_equal(kvmstats_batch_uses_uring(batch), uses_uring);
	kvmstats_batch_free(batch);
}

static void faster_way_is_kept(void **state)
{
	choose(*state, 0, 1);
	choose(*state, 1, 0);
}

/* Runs in a child: no cmocka there. */
static bool good_in_child(struct kvmstats_batch *batch, struct many *many,
			  int uses_uring)
{
	memset(many->sample, 0, sizeof(many->sample));
	return kvmstats_batch_sample(batch, many->read, SOURCES) == SOURCES &&
	       many->sample[SOURCES - 1][0] == 1000 + SOURCES - 1 &&
	       kvmstats_batch_uses_uring(batch) == uses_uring;
}

static void assert_child_good(pid_t child)
{
	int status;

	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
}

/* This process gets EPERM from system call @number: what a sandbox does. */
static bool forbid(long number)
{
	struct sock_filter filter[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS,
			 offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = { 4, filter };

	return !prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) &&
	       !prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
}

static void forbidden_from_the_start(void **state)
{
	struct kvmstats_batch *batch;
	pid_t child = fork();

	if (!child)
		_exit(!(forbid(SYS_io_uring_setup) &&
			!kvmstats_batch_new(KVMSTATS_BATCH_URING, &batch) &&
			good_in_child(batch, *state, 0)));
	assert_child_good(child);
}

static void forbidden_later(void **state)
{
	pid_t child = fork();

	if (!child) {
		struct kvmstats_batch *batch;

		if (kvmstats_batch_new(KVMSTATS_BATCH_URING, &batch))
			_exit(1);
		_exit(!(good_in_child(batch, *state,
				      kvmstats_batch_uses_uring(batch)) &&
			forbid(SYS_io_uring_enter) &&
			good_in_child(batch, *state, 0) &&
			good_in_child(batch, *state, 0)));
	}
	assert_child_good(child);
}

#ifdef KVMSTATS_URING

#include <liburing.h>

static unsigned int submissions, interrupted, refused, first_head;

/*
 * In the library's place of the real one: a signal comes first, and from the
 * @refused-th call on the kernel has no memory, after it took half.
 */
int io_uring_submit_and_wait(struct io_uring *ring, unsigned int wait)
{
	__typeof__(io_uring_submit_and_wait) *real =
		dlsym(RTLD_NEXT, "io_uring_submit_and_wait");
	unsigned int half = (ring->sq.sqe_tail - ring->sq.sqe_head) / 2;
	int ret;

	if (!submissions++)
		first_head = *ring->sq.khead;
	if (submissions == interrupted)
		return -EINTR;
	if (!refused || submissions < refused)
		return real(ring, wait);
	if (submissions > refused)
		return -EAGAIN;
	ring->sq.sqe_tail -= half;
	ret = real(ring, 0);
	ring->sq.sqe_tail += half;
	return ret;
}

/* Parent and child go on with the same batch, each with a ring of its own. */
static void forked_child(void **state)
{
	struct kvmstats_batch *batch = new_uring_batch();
	struct many *many = *state;
	pid_t child;

	sample_all(batch, many);
	child = fork();
	if (!child) {
		submissions = 0;
		_exit(!(good_in_child(batch, many, 1) &&
			submissions == 3 && !first_head));
	}
	for (int i = 0; i < 10; i++)
		sample_all(batch, many);
	assert_child_good(child);
	sample_all(batch, many);
	assert_int_equal(kvmstats_batch_uses_uring(batch), 1);
	kvmstats_batch_free(batch);
}

static void signals(void **state)
{
	struct kvmstats_batch *batch = new_uring_batch();

	submissions = 0;
	interrupted = 2;
	sample_all(batch, *state);
	interrupted = 0;
	assert_int_equal(submissions, 4);
	assert_int_equal(kvmstats_batch_uses_uring(batch), 1);
	kvmstats_batch_free(batch);
}

/* What the kernel did not take is read in the plain way, and never again. */
static void ring_fails_half_way(void **state)
{
	struct kvmstats_batch *batch = new_uring_batch();

	submissions = 0;
	refused = 2;
	sample_all(batch, *state);
	refused = 0;
	assert_int_equal(submissions, 3);
	assert_int_equal(kvmstats_batch_uses_uring(batch), 0);
	sample_all(batch, *state);
	assert_int_equal(submissions, 3);
	kvmstats_batch_free(batch);
}

#endif

/* The ring's memory and descriptor are all there is, and both go. */
static void nothing_is_left(void **state)
{
	unsigned int before = count_open_fds();
	struct kvmstats_batch *batch = new_uring_batch();

	assert_int_equal(count_open_fds(), before + 1);
	sample_all(batch, *state);
	assert_int_equal(count_open_fds(), before + 1);
	kvmstats_batch_free(batch);
	assert_int_equal(count_open_fds(), before);
}

#define ON_MANY(test) \
	cmocka_unit_test_setup_teardown(test, many_open, many_close)

int main(void)
{
	TEST_LIST = {
		cmocka_unit_test(arguments),
		ON_MANY(reserved_fields),
		ON_MANY(plain),
		ON_MANY(uring),
		ON_MANY(failures_stay_alone),
		cmocka_unit_test(empty_source),
		ON_MANY(faster_way_is_kept),
		ON_MANY(forbidden_from_the_start),
		ON_MANY(forbidden_later),
		ON_MANY(nothing_is_left),
#ifdef KVMSTATS_URING
		ON_MANY(forked_child),
		ON_MANY(signals),
		ON_MANY(ring_fails_half_way),
#endif
	};

	return RUN(tests);
}
