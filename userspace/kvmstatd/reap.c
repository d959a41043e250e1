// SPDX-License-Identifier: GPL-2.0-only
/*
 * When a VMM ends, our descriptor is the last reference to its VM, and closing
 * it tears the VM down: seconds for a large one. The library's pool does it.
 */
#include <stdlib.h>
#include <string.h>

#include "agent.h"
#include "store.h"

struct corpse {
	bool stored;		/* systemd has been told to forget them */
	size_t count;
	struct kvmstats_source *sources[];
};

/* systemd's copies first, or closing them would tear the VM down there. */
static void bury(void *argument)
{
	struct corpse *corpse = argument;

	if (corpse->stored)
		store_wait();
	for (size_t i = 0; i < corpse->count; i++)
		kvmstats_source_close(corpse->sources[i]);
	free(corpse);
}

void reap(struct kvmstats_source **sources, size_t count, bool stored)
{
	struct corpse *corpse;

	if (!count)
		return;
	corpse = malloc(sizeof(*corpse) + count * sizeof(*sources));
	if (corpse) {
		corpse->stored = stored;
		corpse->count = count;
		memcpy(corpse->sources, sources, count * sizeof(*sources));
		if (!kvmstats_close_call(KVMSTATS_CLOSE_VM, bury, corpse))
			return;
		free(corpse);
	}
	for (size_t i = 0; i < count; i++)
		kvmstats_source_close(sources[i]);
}

/* At the end of the program, and of a test. */
void reap_wait(void)
{
	kvmstats_close_wait(KVMSTATS_CLOSE_VM);
}
