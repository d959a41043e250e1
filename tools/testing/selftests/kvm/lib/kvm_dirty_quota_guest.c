// SPDX-License-Identifier: GPL-2.0-only
/*
 * Tests of dirty quota: what runs in the guest.
 */
#include <linux/compiler.h>

#include "kvm_dirty_quota_internal.h"

struct dq_work dq_works[DQ_MAX_VCPUS];
uint64_t dq_page_size;

#if defined(__x86_64__)

void dq_guest_done(void)
{
	asm volatile("outl %%eax, %%dx" : : "a"(0), "d"(DQ_PORT) : "memory");
}

uint64_t dq_guest_ask(void)
{
	uint32_t value;

	asm volatile("inl %%dx, %%eax"
		     : "=a"(value) : "d"(DQ_PORT) : "memory");
	return value;
}

#elif defined(__aarch64__)

void dq_guest_done(void)
{
	WRITE_ONCE(*(uint32_t *)DQ_MMIO_GPA, 0);
}

uint64_t dq_guest_ask(void)
{
	return READ_ONCE(*(uint32_t *)DQ_MMIO_GPA);
}

#endif

struct dq_work *dq_guest_my_work(uint64_t nr)
{
	return &dq_works[nr];
}

static void touch(struct dq_work *w, uint64_t page)
{
	uint64_t *word = (uint64_t *)(DQ_GPA + page * dq_page_size);

	if (w->action == DQ_WRITE)
		WRITE_ONCE(*word, w->touched);
	else
		READ_ONCE(*word);
}

/* Marsaglia's xorshift: never 0, if and only if it does not start so. */
static uint64_t next_random(uint64_t x)
{
	x ^= x << 13;
	x ^= x >> 7;
	return x ^ x << 17;
}

void dq_guest_do_work(struct dq_work *w)
{
	uint64_t at, i, random = w->random;

	if (w->action == DQ_IDLE)
		return;
	for (i = 0; i < w->nr && !READ_ONCE(w->stop); i++) {
		random = next_random(random);
		at = (random ?: i) % w->span;
		touch(w, READ_ONCE(w->first) + at * w->step);
		WRITE_ONCE(w->touched, w->touched + 1);
	}
}

void dq_guest_work(uint64_t nr)
{
	for (;;) {
		dq_guest_do_work(&dq_works[nr]);
		dq_guest_done();
	}
}
