/* SPDX-License-Identifier: GPL-2.0-only */
/* The arithmetic of auto-converge, as QEMU has it by default. */
#ifndef MIGSIM_THROTTLE_H
#define MIGSIM_THROTTLE_H

#include <stdint.h>

struct throttle {
	unsigned int percent;	/* of the time that all vCPUs sleep */
	unsigned int high;	/* rounds in which too much was dirtied */
};

/* A round has ended. */
void throttle_round(struct throttle *throttle, uint64_t sent, uint64_t dirty);
/* Asleep for so long after each slice of running; 0 if not throttled. */
uint64_t throttle_sleep_ns(const struct throttle *throttle);

#define THROTTLE_SLICE_NS	10000000ull	/* of running */

#endif /* MIGSIM_THROTTLE_H */
