// SPDX-License-Identifier: GPL-2.0-only
#include "sim.h"

const struct policy policy_stop_and_copy = {
	.name = "stop-and-copy",
	.help = "the guest stops, everything is copied: no live migration",
	.at_once = true,
};
