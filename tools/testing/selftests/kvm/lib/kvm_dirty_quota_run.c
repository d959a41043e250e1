// SPDX-License-Identifier: GPL-2.0-only
/*
 * Tests of dirty quota: running vCPUs.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <string.h>
#include <linux/compiler.h>

#include "kvm_dirty_quota_internal.h"

static void tell(struct dq_vcpu *v, const struct dq_work *work)
{
	struct dq_work *w = v->work;

	w->action = work->action;
	w->first = work->first;
	w->step = work->step;
	w->span = work->span;
	w->nr = work->nr;
	w->random = work->random;
	WRITE_ONCE(w->stop, 0);
}

void dq_tell(struct dq_vcpu *v, enum dq_action action, uint64_t first,
	     uint64_t nr)
{
	struct dq_work work = {
		.action = action,
		.first = first,
		.step = 1,
		.span = nr,
		.nr = nr,
	};

	tell(v, &work);
}

void dq_tell_endless(struct dq_vcpu *v, enum dq_action action, uint64_t first,
		     uint64_t span)
{
	dq_tell(v, action, first, span);
	v->work->nr = UINT64_MAX;
}

/* Only x86 has ports, and there it is one that the guest works with. */
static bool at_port(struct kvm_run *run)
{
	return run->exit_reason == KVM_EXIT_IO && run->io.port == DQ_PORT;
}

static bool at_page(struct kvm_run *run)
{
	return run->exit_reason == KVM_EXIT_MMIO &&
	       run->mmio.phys_addr - DQ_MMIO_GPA < (uint64_t)getpagesize();
}

static bool asks(struct kvm_run *run)
{
	if (at_port(run))
		return run->io.direction == KVM_EXIT_IO_IN;
	return at_page(run) && !run->mmio.is_write;
}

void *dq_answer(struct dq_vcpu *v, uint32_t value)
{
	struct kvm_run *run = v->run;
	void *data = run->mmio.data;

	if (run->exit_reason == KVM_EXIT_IO)
		data = (uint8_t *)run + run->io.data_offset;
	return memcpy(data, &value, sizeof(value));
}

/* What the exit says must be what the statistics say. */
static void check_full(struct dq_vcpu *v)
{
	uint64_t count = v->run->dirty_quota_full.dirty_count;
	uint64_t quota = v->run->dirty_quota_full.dirty_quota;

	STATS_CHECK(quota && count >= quota,
		    "an exit for the quota with count %llu and quota %llu",
		    (unsigned long long)count, (unsigned long long)quota);
	v->full_exits++;
	dq_check_equal("pages_dirtied at the exit", dq_count(v), count);
	dq_check_equal("dirty_quota at the exit",
		       stats_value(&v->stats, "dirty_quota"), quota);
	dq_check_equal("dirty_quota_exits at the exit",
		       stats_value(&v->stats, "dirty_quota_exits"),
		       v->full_exits);
}

enum dq_end dq_run(struct dq_vcpu *v)
{
	int ret = ioctl(v->fd, KVM_RUN, NULL);

	if (ret && errno == EINTR)
		return DQ_SIGNAL;
	STATS_CHECK(!ret, "KVM_RUN: %s", ret < 0 ? strerror(errno) : "not 0");
	if (v->run->exit_reason == KVM_EXIT_DIRTY_QUOTA_FULL) {
		check_full(v);
		return DQ_FULL;
	}
	if (asks(v->run))
		return DQ_ASK;
	STATS_CHECK(at_port(v->run) || at_page(v->run), "KVM_RUN: exit reason %u (%s)",
		    v->run->exit_reason, exit_reason_str(v->run->exit_reason));
	return DQ_DONE;
}

static void raise_quota(struct dq_vcpu *v)
{
	uint64_t count = v->run->dirty_quota_full.dirty_count;
	uint64_t quota = v->run->dirty_quota_full.dirty_quota;

	STATS_CHECK(v->raise_by,
		    "an exit for the quota (count %llu, quota %llu)",
		    (unsigned long long)count, (unsigned long long)quota);
	STATS_CHECK(count - quota <= v->max_overrun,
		    "quota %llu, count %llu: more than %llu over",
		    (unsigned long long)quota, (unsigned long long)count,
		    (unsigned long long)v->max_overrun);
	if (count - quota > v->overrun)
		v->overrun = count - quota;
	dq_set_quota(v, quota + v->raise_by);
}

void dq_run_to_end(struct dq_vcpu *v)
{
	enum dq_end end;

	while ((end = dq_run(v)) != DQ_DONE) {
		STATS_CHECK(end == DQ_FULL, "vCPU %u: end %d", v->id, end);
		raise_quota(v);
	}
}

void dq_settle(struct dq_vcpu *v)
{
	dq_tell(v, DQ_IDLE, 0, 0);
	dq_run_to_end(v);
}

void dq_do(struct dq_vcpu *v, enum dq_action action, uint64_t first,
	   uint64_t nr)
{
	dq_tell(v, action, first, nr);
	dq_run_to_end(v);
	dq_settle(v);
}

static void *run_thread(void *v)
{
	dq_run_to_end(v);
	return NULL;
}

void dq_start(struct dq_vcpu *v)
{
	STATS_CHECK(!pthread_create(&v->thread, NULL, run_thread, v),
		    "pthread_create");
}

void dq_stop(struct dq_vcpu *v)
{
	WRITE_ONCE(v->work->stop, 1);
}

void dq_join(struct dq_vcpu *v)
{
	stats_doing("waiting for vCPU %u", v->id);
	pthread_join(v->thread, NULL);
	v->run->immediate_exit = 0;
	dq_settle(v);
}

void dq_wait_touched(struct dq_vcpu *v, uint64_t nr)
{
	uint64_t start = READ_ONCE(v->work->touched);

	stats_doing("waiting for vCPU %u to touch %llu pages", v->id,
		    (unsigned long long)nr);
	while (READ_ONCE(v->work->touched) - start < nr)
		usleep(100);
}
