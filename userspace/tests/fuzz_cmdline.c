// SPDX-License-Identifier: GPL-2.0-only
/* A VMM's command line: what is made of it can be sent, whatever it is. */
#include <stdlib.h>
#include <string.h>

#include "../kvmstatd/discover.h"
#include "../lib/internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size_bytes);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size_bytes)
{
	char *cmdline = malloc(size_bytes + 1);
	struct kvmstats_sender *sender;
	struct vm_names names;

	if (!cmdline)
		return 0;
	memcpy(cmdline, bytes, size_bytes);
	cmdline[size_bytes] = 0;
	names_from_cmdline(cmdline, size_bytes, 1, &names);
	free(cmdline);
	if (!*names.name ||
	    kvmstats_sender_new(names.name, names.uuid, &sender))
		abort();
	kvmstats_sender_free(sender);
	return 0;
}
