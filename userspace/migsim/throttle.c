// SPDX-License-Identifier: GPL-2.0-only
#include "throttle.h"

#define TRIGGER_PERCENT		50	/* dirtied, of what was sent */
#define TRIGGER_ROUNDS		2
#define FIRST_PERCENT		20
#define STEP_PERCENT		10
#define MOST_PERCENT		99

static unsigned int next_percent(unsigned int percent)
{
	if (!percent)
		return FIRST_PERCENT;
	percent += STEP_PERCENT;
	return percent < MOST_PERCENT ? percent : MOST_PERCENT;
}

void throttle_round(struct throttle *throttle, uint64_t sent, uint64_t dirty)
{
	if (dirty * 100 <= sent * TRIGGER_PERCENT)
		return;
	if (++throttle->high < TRIGGER_ROUNDS)
		return;
	throttle->high = 0;
	throttle->percent = next_percent(throttle->percent);
}

uint64_t throttle_sleep_ns(const struct throttle *throttle)
{
	return THROTTLE_SLICE_NS * throttle->percent /
	       (100 - throttle->percent);
}
