// SPDX-License-Identifier: GPL-2.0-only
/*
 * A VM whose every page that it dirties is foretold. Its one vCPU is run by
 * the worker itself, so that nothing happens at the same time; the model runs
 * the guest's program, and says which bits of the dirty log are set, what is
 * charged, and how and when each KVM_RUN ends.
 */
#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "fuzz.h"

#define MAX_PAGES	256ull
#define SLOT		1	/* at first; lists give it other numbers */
#define NR_SLOTS	4

enum run_end {
	END_BURST,
	END_MMIO,
	END_FULL,
	END_EINTR,
};

static bool is_logged(const struct machine *m)
{
	return m->present && m->flags & KVM_MEM_LOG_DIRTY_PAGES;
}

void machine_close(struct machine *m)
{
	if (m->vm_fd < 0)
		return;
	unmap_run(m->run);
	close(m->vcpu_fd);
	close(m->stats_fd);
	close(m->vm_fd);
	munmap(m->memory, MAX_PAGES * PAGE_BYTES);
	m->vm_fd = -1;
}

/* KVM_GET_DIRTY_LOG takes nothing away then, and bits may be set at first. */
static void set_manual(struct worker *w, struct machine *m)
{
	struct kvm_enable_cap cap = {
		.cap = KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2,
		.args[0] = KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE,
	};

	m->initially_set = false;
	if (!one_in(&w->rng, 3))
		return;
	cap.args[0] |= KVM_DIRTY_LOG_INITIALLY_SET;
	m->initially_set = true;
	CALL(m->vm_fd, KVM_ENABLE_CAP, &cap);
}

static void make_machine(struct worker *w)
{
	struct machine *m = &w->machine;

	machine_close(m);
	memset(m, 0, sizeof(*m));
	m->start.random = rng_next(&w->rng) | 1;
	m->start.page_mask = (MAX_PAGES >> rng_below(&w->rng, 4)) - 1;
	m->start.burst = 1 + rng_below(&w->rng, 400);
	m->random = m->start.random;
	m->left = m->start.burst;
	m->slot = SLOT;
	m->memory = map_pages(MAX_PAGES * PAGE_BYTES);
	m->vm_fd = create_guest_vm(true);
	set_manual(w, m);
	m->vcpu_fd = create_guest_vcpu(m->vm_fd, 0, &m->start);
	m->run = map_run(m->vcpu_fd);
	m->stats_fd = get_stats_fd(m->vcpu_fd);
	stats_ref_init(&m->ref, m->stats_fd, NULL, 0);
}

static struct machine *machine(struct worker *w)
{
	if (!own_kernel)
		return NULL;
	if (w->machine.vm_fd < 0)
		make_machine(w);
	return &w->machine;
}

static void do_new_machine(struct worker *w)
{
	if (own_kernel)
		make_machine(w);
}

/* --- the model of the guest --- */

static bool is_used_up(const struct machine *m)
{
	return m->quota && m->count >= m->quota + (wrong == WRONG_LATE);
}

static bool is_memory(const struct machine *m, uint64_t page)
{
	return m->present && !(m->flags & KVM_MEM_READONLY) &&
	       page >= m->first_page && page < m->first_page + m->nr_pages;
}

/* True if it is charged. */
static bool mark(struct machine *m, uint64_t page)
{
	if (!is_logged(m) || (m->bits[page] && wrong != WRONG_REWRITE))
		return false;
	m->bits[page] = true;
	m->count++;
	return true;
}

/* The write of which the random number is known; END_BURST if it is done. */
static enum run_end model_write(struct machine *m)
{
	uint64_t page = guest_page(m->random, m->start.page_mask);

	if (!is_memory(m, page))
		return END_MMIO;
	page -= m->first_page;
	if (mark(m, page) && is_used_up(m))
		return END_FULL;
	m->words[page] = m->random;
	return END_BURST;
}

/* The guest goes on where it was; how does it leave? */
static enum run_end model_guest(struct machine *m)
{
	enum run_end end;

	for (;; m->at = AT_RANDOM) {
		if (m->at == AT_RANDOM) {
			m->random = guest_next(m->random);
			m->at = AT_WRITE;
		}
		if (m->at == AT_WRITE) {
			end = model_write(m);
			if (end == END_FULL)
				return end;
			m->at = AT_COUNT;
			if (end == END_MMIO)
				return end;
		}
		if (--m->left)
			continue;
		m->left = m->start.burst;
		m->at = AT_RANDOM;
		return END_BURST;
	}
}

static enum run_end model_run(struct machine *m)
{
	enum run_end end = END_FULL;

	if (m->run->immediate_exit)
		return END_EINTR;
	if (!is_used_up(m))
		end = model_guest(m);
	m->exits += end == END_FULL;
	return end;
}

/* --- KVM against the model --- */

static enum run_end what_ended(const struct machine *m, bool ran)
{
	if (!ran)
		return END_EINTR;
	if (m->run->exit_reason == QUOTA_EXIT_FULL)
		return END_FULL;
	if (is_burst_end(m->run))
		return END_BURST;
	CHECK(m->run->exit_reason == KVM_EXIT_MMIO, "exit reason %u",
	      m->run->exit_reason);
	return END_MMIO;
}

static void check_value(struct machine *m, const char *name, uint64_t want)
{
	uint64_t got = stats_value(&m->ref, name);

	CHECK(got == want, "%s is %llu, the model says %llu", name,
	      (unsigned long long)got, (unsigned long long)want);
}

static void check_full(struct machine *m)
{
	const struct quota_full *full = (const void *)
		((const unsigned char *)m->run + QUOTA_EXIT_OFFSET);

	CHECK(full->dirty_count == m->count && full->dirty_quota == m->quota,
	      "exit with count %llu quota %llu, the model says %llu, %llu",
	      (unsigned long long)full->dirty_count,
	      (unsigned long long)full->dirty_quota,
	      (unsigned long long)m->count, (unsigned long long)m->quota);
	check_value(m, "dirty_quota", m->quota);
}

static void check_mmio(const struct machine *m)
{
	uint64_t gpa = DATA_GPA + PAGE_BYTES *
		       guest_page(m->random, m->start.page_mask);
	uint32_t data;

	memcpy(&data, m->run->mmio.data, sizeof(data));
	CHECK(m->run->mmio.phys_addr == gpa && m->run->mmio.is_write &&
	      m->run->mmio.len == 4 && data == m->random,
	      "MMIO of %#x at %#llx, the model says %#x at %#llx", data,
	      (unsigned long long)m->run->mmio.phys_addr, m->random,
	      (unsigned long long)gpa);
}

static void check_run(struct machine *m, enum run_end got, enum run_end want)
{
	static const char * const names[] = { "burst", "MMIO", "full", "EINTR" };

	CHECK(got == want,
	      "KVM_RUN ended with %s, the model says %s (count %llu, quota %llu)",
	      names[got], names[want], (unsigned long long)m->count,
	      (unsigned long long)m->quota);
	stats_read_all(&m->ref, m->stats_fd);
	check_value(m, "pages_dirtied", m->count);
	check_value(m, "dirty_quota_exits", m->exits);
	if (got == END_FULL)
		check_full(m);
	if (got == END_MMIO)
		check_mmio(m);
	CHECK(*run_quota(m->run) == m->quota, "KVM has written the quota");
}

static void do_run(struct worker *w)
{
	struct machine *m = machine(w);
	enum run_end want;

	if (!m)
		return;
	m->run->immediate_exit = one_in(&w->rng, 10);
	want = model_run(m);
	check_run(m, what_ended(m, run_vcpu(m->vcpu_fd, m->run)), want);
}

static void do_set_quota(struct worker *w)
{
	struct machine *m = machine(w);
	const uint64_t quotas[] = { 0, 1, UINT64_MAX, UINT64_MAX - 1, 1ull << 63 };

	if (!m)
		return;
	if (one_in(&w->rng, 6))
		m->quota = quotas[rng_below(&w->rng, ARRAY_SIZE(quotas))];
	else
		m->quota = m->count + rng_below(&w->rng, 60) - 5;
	__atomic_store_n(run_quota(m->run), m->quota, __ATOMIC_RELAXED);
}

static void check_log(struct machine *m, const uint64_t *log)
{
	for (uint64_t page = 0; page < m->nr_pages; page++)
		CHECK((log[page / 64] >> page % 64 & 1) == m->bits[page],
		      "page %llu is %s in the log, the model says otherwise",
		      (unsigned long long)page,
		      m->bits[page] ? "clear" : "set");
}

static void do_harvest(struct worker *w)
{
	struct machine *m = machine(w);
	uint64_t bitmap[MAX_PAGES / 64] = { 0 };
	struct kvm_dirty_log log = { .dirty_bitmap = bitmap };
	int error;

	if (!m)
		return;
	log.slot = m->slot;
	error = ioctl(m->vm_fd, KVM_GET_DIRTY_LOG, &log) ? errno : 0;
	CHECK(error == (is_logged(m) ? 0 : ENOENT), "KVM_GET_DIRTY_LOG: %s",
	      strerror(error));
	if (error)
		return;
	check_log(m, bitmap);
	if (!m->initially_set && wrong != WRONG_HARVEST)
		memset(m->bits, 0, sizeof(m->bits));
}

/* Whole words of 64 pages, any of their bits. */
static void do_clear(struct worker *w)
{
	struct machine *m = machine(w);
	uint64_t bitmap[MAX_PAGES / 64], words, first;
	struct kvm_clear_dirty_log log = { .dirty_bitmap = bitmap };
	int error;

	if (!m || !m->nr_pages)
		return;
	log.slot = m->slot;
	words = m->nr_pages / 64;
	first = rng_below(&w->rng, words);
	log.first_page = first * 64;
	log.num_pages = 64 * (1 + rng_below(&w->rng, words - first));
	for (unsigned int i = 0; i < ARRAY_SIZE(bitmap); i++)
		bitmap[i] = rng_next(&w->rng) | rng_next(&w->rng);
	error = ioctl(m->vm_fd, KVM_CLEAR_DIRTY_LOG, &log) ? errno : 0;
	CHECK(error == (is_logged(m) ? 0 : ENOENT), "KVM_CLEAR_DIRTY_LOG: %s",
	      strerror(error));
	for (uint64_t i = 0; !error && i < log.num_pages; i++)
		if (bitmap[i / 64] >> i % 64 & 1)
			m->bits[log.first_page + i] = false;
}

/* --- the slot --- */

static void change_slot(struct machine *m, uint32_t flags, uint64_t first_page,
			uint64_t nr_pages)
{
	int error = set_slot(m->vm_fd, m->slot, flags,
			     DATA_GPA + first_page * PAGE_BYTES, m->memory,
			     nr_pages * PAGE_BYTES);

	CHECK(!error, "slot of %llu pages at %llu, flags %#x: %s",
	      (unsigned long long)nr_pages, (unsigned long long)first_page,
	      flags, strerror(error));
	m->present = nr_pages;
	m->flags = flags;
	m->first_page = first_page;
	m->nr_pages = nr_pages;
}

static void do_new_slot(struct worker *w)
{
	struct machine *m = machine(w);
	uint32_t flags = 0;

	if (!m)
		return;
	if (m->present)
		change_slot(m, 0, m->first_page, 0);
	if (one_in(&w->rng, 6))
		return;
	if (!one_in(&w->rng, 5))
		flags |= KVM_MEM_LOG_DIRTY_PAGES;
	if (one_in(&w->rng, 12))
		flags |= KVM_MEM_READONLY;
	memset(m->bits, flags & KVM_MEM_LOG_DIRTY_PAGES && m->initially_set,
	       sizeof(m->bits));
	change_slot(m, flags, one_in(&w->rng, 3) ? rng_below(&w->rng, 64) : 0,
		    64 * (1 + rng_below(&w->rng, MAX_PAGES / 64)));
}

static void do_move_slot(struct worker *w)
{
	struct machine *m = machine(w);

	if (m && m->present)
		change_slot(m, m->flags, rng_below(&w->rng, 64), m->nr_pages);
}

/* The log begins anew when it is switched on. */
static void do_toggle_log(struct worker *w)
{
	struct machine *m = machine(w);

	if (!m || !m->present)
		return;
	change_slot(m, m->flags ^ KVM_MEM_LOG_DIRTY_PAGES, m->first_page,
		    m->nr_pages);
	memset(m->bits, is_logged(m) && m->initially_set, sizeof(m->bits));
}

/* --- lists --- */

static void add_entry(struct region_list *l, const struct machine *m,
		      unsigned int slot, uint32_t flags, uint64_t first_page,
		      uint64_t nr_pages)
{
	l->entries[l->nent++] = (struct kvm_userspace_memory_region) {
		.slot = slot,
		.flags = flags,
		.guest_phys_addr = DATA_GPA + first_page * PAGE_BYTES,
		.memory_size = nr_pages * PAGE_BYTES,
		.userspace_addr = nr_pages ? (uintptr_t)m->memory : 0,
	};
}

/* Pages keep their bits if they stay, may be written as before, and had a log. */
static void model_list(struct machine *m, uint32_t flags, uint64_t first_page,
		       uint64_t nr_pages)
{
	bool stays = first_page == m->first_page &&
		     !((flags ^ m->flags) & KVM_MEM_READONLY);
	uint64_t kept = is_logged(m) && stays && wrong != WRONG_CARRY ?
			m->nr_pages : 0;

	for (uint64_t page = 0; page < MAX_PAGES; page++)
		if (page >= kept || page >= nr_pages)
			m->bits[page] = flags & KVM_MEM_LOG_DIRTY_PAGES &&
					m->initially_set;
}

/* Another number, size, place or flags, all in one step. */
static void do_list(struct worker *w)
{
	struct machine *m = machine(w);
	unsigned int slot = SLOT + rng_below(&w->rng, NR_SLOTS);
	struct region_list l = { 0 };
	uint64_t first_page, nr_pages;
	uint32_t flags;
	int error;

	if (!m || !m->present)
		return;
	flags = m->flags;
	first_page = m->first_page;
	nr_pages = m->nr_pages;
	if (one_in(&w->rng, 4))
		flags ^= KVM_MEM_LOG_DIRTY_PAGES;
	if (one_in(&w->rng, 12))
		flags ^= KVM_MEM_READONLY;
	if (one_in(&w->rng, 6))
		first_page = rng_below(&w->rng, 64);
	if (one_in(&w->rng, 2))
		nr_pages = 64 * (1 + rng_below(&w->rng, MAX_PAGES / 64));
	if (slot != m->slot)
		add_entry(&l, m, m->slot, 0, 0, 0);
	add_entry(&l, m, slot, flags, first_page, nr_pages);
	error = ioctl(m->vm_fd, SET_REGION_LIST, &l) ? errno : 0;
	CHECK(!error, "a list of %u entries: %s, entry %d", l.nent,
	      strerror(error), (int)l.failed);
	model_list(m, flags, first_page, nr_pages);
	m->slot = slot;
	m->flags = flags;
	m->first_page = first_page;
	m->nr_pages = nr_pages;
}

/* One thing wrong, in a list that would otherwise change everything. */
static void do_bad_list(struct worker *w)
{
	struct machine *m = machine(w);
	struct region_list l = { .failed = 77 };
	unsigned int at = rng_below(&w->rng, 3);
	int want = EINVAL, error;
	uint32_t failed = at;

	if (!m || !m->present)
		return;
	add_entry(&l, m, m->slot, 0, 0, 0);
	for (unsigned int i = 0; i < 3; i++)
		add_entry(&l, m, SLOT + NR_SLOTS + i, 0, 64 * i, 64);
	switch (rng_below(&w->rng, 8)) {
	case 0:
		l.entries[at].flags = 1u << (2 + rng_below(&w->rng, 30));
		break;
	case 1:
		l.entries[at].guest_phys_addr++;
		break;
	case 2:
		l.entries[failed = at + 1].slot = l.entries[at].slot;
		break;
	case 3:
		l.entries[failed = at + 1].slot = 1 << 16;
		break;
	case 4:
		l.entries[failed = 2].guest_phys_addr = DATA_GPA;
		want = EEXIST;
		break;
	case 5:
		l.pad[rng_below(&w->rng, 5)] = 1u << rng_below(&w->rng, 32);
		failed = ~0u;
		break;
	case 6:
		l.nent += 1u << (9 + rng_below(&w->rng, 23));
		want = E2BIG;
		failed = ~0u;
		break;
	default:
		l.entries[failed = 3].slot = 0x7fff;
		break;
	}
	error = ioctl(m->vm_fd, SET_REGION_LIST, &l) ? errno : 0;
	CHECK(error == want && l.failed == failed,
	      "a bad list: %s, entry %d; the model says %s, entry %d",
	      strerror(error), (int)l.failed, strerror(want), (int)failed);
}

/* The last number that was written to each page, and nothing else. */
static void do_check_memory(struct worker *w)
{
	struct machine *m = machine(w);
	uint32_t word;

	for (uint64_t page = 0; m && page < MAX_PAGES; page++) {
		memcpy(&word, m->memory + page * PAGE_BYTES, sizeof(word));
		CHECK(word == m->words[page], "page %llu has %#x, not %#x",
		      (unsigned long long)page, word, m->words[page]);
	}
}

struct op quota_ops[] = {
	OP("new_machine",	1, do_new_machine),
	OP("run",		100, do_run),
	OP("set_quota",		40, do_set_quota),
	OP("harvest",		20, do_harvest),
	OP("clear",		15, do_clear),
	OP("new_slot",		8, do_new_slot),
	OP("move_slot",		4, do_move_slot),
	OP("toggle_log",		4, do_toggle_log),
	OP("list",		12, do_list),
	OP("bad_list",		3, do_bad_list),
	OP("check_memory",	6, do_check_memory),
};

const unsigned int nr_quota_ops = ARRAY_SIZE(quota_ops);
