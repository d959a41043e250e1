// SPDX-License-Identifier: GPL-2.0-only
/* What is alike on all architectures: one piece of code, seven entries. */
#include <string.h>

#include "guest.h"

void guest_load(struct machine *machine)
{
	memcpy(machine->control + GUEST_CODE, migsim_code,
	       migsim_code_end - migsim_code);
}

uint64_t guest_entry(const struct workload *workload)
{
	static const uint8_t *const entries[WORKS][PATTERNS] = {
		[WORK_WRITE] = { migsim_write_seq, migsim_write_random,
				 migsim_write_skewed },
		[WORK_READ] = { migsim_read_seq, migsim_read_random,
				migsim_read_skewed },
		[WORK_COMPUTE] = { migsim_compute },
	};

	return GUEST_CODE + (entries[workload->work][workload->pattern] -
			     migsim_code);
}
