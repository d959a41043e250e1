// SPDX-License-Identifier: GPL-2.0-only
/* Pre-copy: round after round what was dirtied in the last, then the rest. */
#include <stdlib.h>
#include <string.h>

#include "sim.h"

struct migration {
	struct sim *sim;
	struct result *result;
	uint64_t *to_send, *dirty;	/* bitmaps */
	uint64_t pages;			/* in to_send */
	uint64_t start_ns;
	struct round round;
};

static void begin_logging(struct migration *migration)
{
	struct machine *machine = &migration->sim->machine;
	size_t bytes = bitmap_bytes(machine->ram_pages);

	migration->to_send = allocate(bytes);
	migration->dirty = allocate(bytes);
	for (uint64_t page = 0; page < machine->ram_pages; page++)
		migration->to_send[page / 64] |= 1ull << page % 64;
	migration->pages = machine->ram_pages;
	machine_log(machine, true);
}

static void send_page(struct migration *migration, uint64_t page)
{
	struct sim *sim = migration->sim;

	link_page(&sim->link, RECORD_PAGE, page,
		  sim->machine.ram + page * PAGE_BYTES);
	migration->round.sent_pages++;
	report_sample(sim, now_ns(),
		      migration->pages - migration->round.sent_pages);
}

/* So that what is dirtied from now on is seen again; at the first word of a piece. */
static void clear_piece(struct migration *migration, uint64_t word)
{
	struct sim *sim = migration->sim;
	uint64_t pages = sim->options.clear_pages;
	uint64_t left = sim->machine.ram_pages - word * 64;

	if (!pages || word % (pages / 64))
		return;
	machine_clear(&sim->machine, word * 64, pages < left ? pages : left,
		      migration->to_send);
}

static void send_round(struct migration *migration)
{
	uint64_t words = bitmap_bytes(migration->sim->machine.ram_pages) / 8;

	link_resume(&migration->sim->link);
	for (uint64_t word = 0; word < words; word++) {
		uint64_t bits = migration->to_send[word];

		clear_piece(migration, word);
		for (; bits; bits &= bits - 1)
			send_page(migration, word * 64 + __builtin_ctzll(bits));
	}
	link_flush(&migration->sim->link);
}

static void begin_round(struct migration *migration)
{
	migration->round = (struct round){
		.number = migration->round.number + 1, .start_ns = now_ns(),
	};
	report_round_begins(migration->sim);
}

/* What was dirtied meanwhile is for the next round. */
static void end_round(struct migration *migration)
{
	uint64_t *sent = migration->to_send;

	migration->pages = machine_harvest(&migration->sim->machine,
					   migration->dirty);
	migration->to_send = migration->dirty;
	migration->dirty = sent;
	migration->round.end_ns = now_ns();
	migration->round.dirty_pages = migration->pages;
}

static bool fits_downtime(const struct migration *migration)
{
	struct sim *sim = migration->sim;
	uint64_t bytes = migration->pages * RECORD_BYTES +
			 sim->machine.control_bytes;

	return bytes <= (double)link_bandwidth(&sim->link) *
			sim->options.downtime_ms / 1000;
}

static bool may_go_on(const struct migration *migration)
{
	const struct options *options = &migration->sim->options;

	return migration->round.number < options->max_rounds &&
	       now_ns() - migration->start_ns < options->max_seconds * NS_PER_S;
}

static void pre_copy(struct migration *migration)
{
	struct sim *sim = migration->sim;

	for (;;) {
		begin_round(migration);
		send_round(migration);
		end_round(migration);
		report_round(sim, &migration->round, false);
		migration->result->converged = fits_downtime(migration);
		if (migration->result->converged || !may_go_on(migration))
			break;
		if (sim->options.policy->round_end)
			sim->options.policy->round_end(sim, &migration->round);
	}
}

static void send_control(struct sim *sim)
{
	const struct machine *machine = &sim->machine;

	for (size_t page = 0; page < machine->control_bytes / PAGE_BYTES; page++)
		link_page(&sim->link, RECORD_CONTROL, page,
			  machine->control + page * PAGE_BYTES);
}

/* Units of work a second while pages were copied and the guest ran. */
static void take_progress(struct migration *migration,
			  const struct meter *before, uint64_t stopped_ns)
{
	struct sim *sim = migration->sim;
	double seconds = (stopped_ns - migration->start_ns) / 1e9;

	meter_read(sim);
	for (unsigned int i = 0; i < sim->machine.vcpus; i++) {
		struct vcpu_result *vcpu = &migration->result->vcpu[i];

		vcpu->baseline = sim->reporter.baseline[i];
		vcpu->during = (sim->reporter.meters[i].units -
				before[i].units) / seconds;
		vcpu->dirtied = vcpu_dirtied(&sim->machine.vcpu[i]);
		vcpu->exits = vcpu_quota_exits(&sim->machine.vcpu[i]);
		vcpu->asleep_ns = vcpu_asleep_ns(&sim->machine.vcpu[i]);
	}
}

static void add_bitmap(struct migration *migration)
{
	uint64_t words = bitmap_bytes(migration->sim->machine.ram_pages) / 8;

	migration->pages = 0;
	for (uint64_t word = 0; word < words; word++) {
		migration->to_send[word] |= migration->dirty[word];
		migration->pages +=
			__builtin_popcountll(migration->to_send[word]);
	}
}

/* Returns when the guest had stopped. */
static uint64_t stop_and_copy(struct migration *migration)
{
	struct sim *sim = migration->sim;
	uint64_t stopped_ns, before = migration->pages;

	begin_round(migration);
	policy_thread_stop(sim); /* it talks to threads that end now */
	machine_stop(sim);
	stopped_ns = now_ns();
	migration->round.dirty_pages = machine_harvest(&sim->machine,
						       migration->dirty);
	add_bitmap(migration);
	/* The log still has what was to be sent. */
	if (sim->options.clear_pages)
		migration->round.dirty_pages = migration->pages - before;
	send_round(migration);
	send_control(sim);
	link_end(&sim->link);
	migration->round.end_ns = now_ns();
	report_round(sim, &migration->round, true);
	return stopped_ns;
}

void migrate(struct sim *sim, struct result *result)
{
	struct migration migration = {
		.sim = sim, .result = result, .start_ns = now_ns()
	};
	struct meter before[MAX_VCPUS];
	uint64_t stopped_ns;

	meter_read(sim);
	memcpy(before, sim->reporter.meters, sizeof(before));
	report_start(sim, migration.start_ns);
	link_start(&sim->link, sim->options.bandwidth);
	begin_logging(&migration);
	policy_thread_start(sim);
	result->converged = true;
	if (!sim->options.policy->at_once)
		pre_copy(&migration);
	stopped_ns = stop_and_copy(&migration);
	if (sim->options.policy->finish)
		sim->options.policy->finish(sim);
	result->rounds = migration.round.number;
	result->total_ns = migration.round.end_ns - migration.start_ns;
	result->downtime_ns = migration.round.end_ns - migration.round.start_ns;
	result->sent_bytes = sim->link.sent;
	take_progress(&migration, before, stopped_ns);
	machine_log(&sim->machine, false);
	free(migration.to_send);
	free(migration.dirty);
}
