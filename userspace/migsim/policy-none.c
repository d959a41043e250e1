// SPDX-License-Identifier: GPL-2.0-only
#include "sim.h"

const struct policy policy_none = {
	.name = "none",
	.help = "the guest runs as fast as it can",
};
