// SPDX-License-Identifier: GPL-2.0-only
/* A vCPU of the shared VM: its thread, and what must hold at each exit. */
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "fuzz-runner.h"

struct wishes wishes;

static uint64_t largest(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

static uint64_t limit_of(uint64_t quota)
{
	return quota ?: UINT64_MAX;
}

static void check_full(struct runner *r)
{
	const struct quota_full *full = (const void *)
		((const unsigned char *)r->run + QUOTA_EXIT_OFFSET);

	r->exits++;
	CHECK(full->dirty_quota % TAG_DIVISOR == TAG,
	      "an exit with quota %llu, which nobody wrote",
	      (unsigned long long)full->dirty_quota);
	CHECK(full->dirty_count == r->count &&
	      full->dirty_count >= full->dirty_quota,
	      "an exit with count %llu, quota %llu; pages_dirtied is %llu",
	      (unsigned long long)full->dirty_count,
	      (unsigned long long)full->dirty_quota,
	      (unsigned long long)r->count);
}

static void check_exit(struct runner *r, bool ran)
{
	if (ran && r->run->exit_reason == QUOTA_EXIT_FULL)
		check_full(r);
	else if (ran && is_burst_end(r->run))
		__atomic_add_fetch(&r->bursts, 1, __ATOMIC_RELAXED);
	else if (ran)
		CHECK(r->run->exit_reason == KVM_EXIT_MMIO, "exit reason %u",
		      r->run->exit_reason);
	CHECK(stats_value(&r->ref, "dirty_quota_exits") == r->exits,
	      "dirty_quota_exits is %llu after %llu exits",
	      (unsigned long long)stats_value(&r->ref, "dirty_quota_exits"),
	      (unsigned long long)r->exits);
}

static void begin_run(struct runner *r)
{
	pthread_mutex_lock(&r->lock);
	r->most = limit_of(r->written);
	pthread_mutex_unlock(&r->lock);
}

/* The count may be at the largest quota that there was, and no page above. */
static void end_run(struct runner *r, uint64_t before, bool ran)
{
	uint64_t most;

	stats_read_all(&r->ref, r->stats_fd);
	r->count = stats_value(&r->ref, "pages_dirtied");
	pthread_mutex_lock(&r->lock);
	most = r->most - (wrong == WRONG_BOUND);
	pthread_mutex_unlock(&r->lock);
	CHECK(r->count <= largest(before, most),
	      "%llu pages dirtied, %llu before, largest quota %llu",
	      (unsigned long long)r->count, (unsigned long long)before,
	      (unsigned long long)most);
	check_exit(r, ran);
}

/*
 * Linux 5.10 on arm64 looks for the memory slot twice in a fault, and the second
 * time it may just be on its way out.
 */
static bool run_once(struct runner *r)
{
#if defined(__aarch64__)
	const int in_flux = EFAULT;
#else
	const int in_flux = EINTR;
#endif

	if (!ioctl(r->fd, KVM_RUN, 0))
		return true;
	CHECK(errno == EINTR || errno == in_flux, "KVM_RUN: %s",
	      strerror(errno));
	return false;
}

static void park(struct runner *r)
{
	__atomic_store_n(&r->parked, true, __ATOMIC_SEQ_CST);
	while (__atomic_load_n(&wishes.pause, __ATOMIC_SEQ_CST) &&
	       !__atomic_load_n(&wishes.stop, __ATOMIC_SEQ_CST))
		sleep_ms(1);
	__atomic_store_n(&r->parked, false, __ATOMIC_SEQ_CST);
}

static void *run_vcpu_thread(void *arg)
{
	struct runner *r = arg;
	uint64_t before;

	DOING("vCPU %u of the shared VM", r->nr);
	while (!__atomic_load_n(&wishes.stop, __ATOMIC_SEQ_CST)) {
		/* before the look at what is wanted: see kick() */
		__atomic_store_n(&r->run->immediate_exit, 0, __ATOMIC_SEQ_CST);
		if (__atomic_load_n(&wishes.pause, __ATOMIC_SEQ_CST)) {
			park(r);
			continue;
		}
		before = r->count;
		begin_run(r);
		end_run(r, before, run_once(r));
		sched_yield();
	}
	return NULL;
}

void kick(struct runner *r)
{
	__atomic_store_n(&r->run->immediate_exit, 1, __ATOMIC_SEQ_CST);
	pthread_kill(r->thread, SIGUSR1);
}

void write_quota(struct runner *r, uint64_t quota)
{
	pthread_mutex_lock(&r->lock);
	CHECK(*run_quota(r->run) == r->written,
	      "the quota is %llu, %llu was written",
	      (unsigned long long)*run_quota(r->run),
	      (unsigned long long)r->written);
	r->written = quota;
	r->most = largest(r->most, limit_of(quota));
	__atomic_store_n(run_quota(r->run), quota, __ATOMIC_RELAXED);
	pthread_mutex_unlock(&r->lock);
}

void make_runner(struct worker *w, struct runner *r, int vm_fd,
		 const char *vm_id, unsigned int nr)
{
	const struct guest_start start = {
		.random = rng_next(&w->rng) | 1,
		.page_mask = NR_PAGES - 1,
		.burst = 1 + rng_below(&w->rng, 3000),
	};

	memset(r, 0, sizeof(*r));
	r->nr = nr;
	pthread_mutex_init(&r->lock, NULL);
	r->fd = create_guest_vcpu(vm_fd, nr, &start);
	r->run = map_run(r->fd);
	r->stats_fd = get_stats_fd(r->fd);
	stats_ref_init(&r->ref, r->stats_fd, vm_id, nr);
}

void start_runner(struct runner *r)
{
	CHECK(!pthread_create(&r->thread, NULL, run_vcpu_thread, r),
	      "pthread_create");
}

void end_runner(struct runner *r)
{
	struct timespec soon = { 0 };
	uint64_t end = now_ms() + PATIENCE_MS;

	do {
		CHECK(now_ms() < end, "vCPU %u does not stop", r->nr);
		kick(r);
		clock_gettime(CLOCK_REALTIME, &soon);
		soon.tv_nsec += 5000000;
		soon.tv_sec += soon.tv_nsec / 1000000000;
		soon.tv_nsec %= 1000000000;
	} while (pthread_timedjoin_np(r->thread, NULL, &soon));
	unmap_run(r->run);
	close(r->fd);
	close(r->stats_fd);
}

static bool is_parked(const struct runner *r, uint64_t unused)
{
	(void)unused;
	return __atomic_load_n(&r->parked, __ATOMIC_SEQ_CST);
}

static bool has_gone_on(const struct runner *r, uint64_t bursts)
{
	return __atomic_load_n(&r->bursts, __ATOMIC_RELAXED) > bursts;
}

static void wait_until(struct runner *r, uint64_t arg, bool kicking,
		       bool (*is_so)(const struct runner *r, uint64_t arg))
{
	uint64_t end = now_ms() + PATIENCE_MS;

	while (!is_so(r, arg)) {
		CHECK(now_ms() < end, "vCPU %u does not %s", r->nr,
		      kicking ? "stop" : "go on without a quota");
		if (kicking)
			kick(r);
		sleep_ms(1);
	}
}

void wait_until_parked(struct runner *r)
{
	wait_until(r, 0, true, is_parked);
}

void wait_until_gone_on(struct runner *r, uint64_t bursts)
{
	wait_until(r, bursts, false, has_gone_on);
}
