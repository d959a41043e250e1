/* SPDX-License-Identifier: GPL-2.0-only */
/* What the guest is to the rest of migsim. */
#ifndef MIGSIM_GUEST_H
#define MIGSIM_GUEST_H

#ifndef __ASSEMBLER__
#include <assert.h>
#include <stddef.h>
#include <stdint.h>

#include "sim.h"
#endif

#define GUEST_CODE	0x1000		/* in the control slot */
#define GUEST_BLOCKS	0x2000		/* a page for each vCPU */
#define GUEST_RAM	0x100000	/* the logged slot */
/* A write there says: so much is done, now I wait for the timer. */
#define GUEST_PORT	0x3f9
#define GUEST_MMIO	0xf0000000
/* And there: others have not come yet, let them run. */
#define GUEST_PORT_YIELD	0x3fa
#define GUEST_MMIO_YIELD	8	/* beyond GUEST_MMIO */
#define GUEST_STEPS	1000		/* additions that make a unit of computing */

#define BLOCK_PROGRESS	0
#define BLOCK_BATCH	4
#define BLOCK_BASE	8
#define BLOCK_PAGES	12
#define BLOCK_HOT	16
#define BLOCK_SEED	20
#define BLOCK_MEET	24
#define BLOCK_LEFT	28
#define BLOCK_MET	32
#define BLOCK_BLOCKS	36

/* Of a vCPU that nobody waits for: more often than any other has met. */
#define NEVER_MEETS	0x40000000

#ifndef __ASSEMBLER__

/*
 * The guest's half of a vCPU. It lies in a slot without dirty logging, so that
 * counting the progress dirties nothing; and it is copied when all is stopped,
 * as a device's state would be.
 */
struct guest_block {
	_Atomic uint32_t progress;	/* units done, modulo 2^32 */
	uint32_t batch;			/* units between two timer ticks */
	uint32_t base;			/* address of the first page */
	uint32_t pages;			/* number of pages */
	uint32_t hot;			/* the part that most accesses go to */
	uint32_t seed;			/* not 0 */
	uint32_t meet;			/* ticks from one meeting to the next, or 0 */
	uint32_t left;			/* of these */
	_Atomic uint32_t met;		/* how often it has come to a meeting */
	uint32_t blocks;		/* of the machine */
};

static_assert(offsetof(struct guest_block, progress) == BLOCK_PROGRESS, "");
static_assert(offsetof(struct guest_block, batch) == BLOCK_BATCH, "");
static_assert(offsetof(struct guest_block, base) == BLOCK_BASE, "");
static_assert(offsetof(struct guest_block, pages) == BLOCK_PAGES, "");
static_assert(offsetof(struct guest_block, hot) == BLOCK_HOT, "");
static_assert(offsetof(struct guest_block, seed) == BLOCK_SEED, "");
static_assert(offsetof(struct guest_block, meet) == BLOCK_MEET, "");
static_assert(offsetof(struct guest_block, left) == BLOCK_LEFT, "");
static_assert(offsetof(struct guest_block, met) == BLOCK_MET, "");
static_assert(offsetof(struct guest_block, blocks) == BLOCK_BLOCKS, "");

/* The guest's code, not bound to a place. */
extern const uint8_t migsim_code[], migsim_code_end[];
extern const uint8_t migsim_write_seq[], migsim_write_random[],
		     migsim_write_skewed[], migsim_read_seq[],
		     migsim_read_random[], migsim_read_skewed[],
		     migsim_compute[];

/* 0, or -1 with errno set and the failing step in *step */
int guest_vm_init(struct machine *machine, const char **step);
int guest_vcpu_init(struct vcpu *vcpu, const char **step);
/* Copies the code to its place in the control slot. */
void guest_load(struct machine *machine);
uint64_t guest_entry(const struct workload *workload);
/* Has the guest left because it waits for its timer? */
bool guest_waits(const struct vcpu *vcpu);
/* Because it waits for others? */
bool guest_yields(const struct vcpu *vcpu);

#endif /* __ASSEMBLER__ */
#endif /* MIGSIM_GUEST_H */
