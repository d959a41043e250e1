// SPDX-License-Identifier: GPL-2.0-only
/* Is everything there that was here? */
#include <string.h>

#include "sim.h"

void compare_page(struct comparison *comparison, const uint8_t *ours,
		  const uint8_t *theirs)
{
	uint64_t page = comparison->pages++;

	if (!memcmp(ours, theirs, PAGE_BYTES))
		return;
	if (!comparison->differing++)
		comparison->first = page;
}

static void compare_area(struct sim *sim, struct comparison *comparison,
			 const uint8_t *ours, size_t bytes)
{
	uint8_t theirs[PAGE_BYTES];

	for (size_t offset = 0; offset < bytes; offset += PAGE_BYTES) {
		link_read(&sim->link, theirs, PAGE_BYTES);
		compare_page(comparison, ours + offset, theirs);
	}
}

void compare_memories(struct sim *sim, struct comparison *comparison)
{
	const struct machine *machine = &sim->machine;

	*comparison = (struct comparison){ .first = NO_PAGE };
	link_ask_dump(&sim->link);
	compare_area(sim, comparison, machine->ram,
		     machine->ram_pages * PAGE_BYTES);
	compare_area(sim, comparison, machine->control,
		     machine->control_bytes);
}
