// SPDX-License-Identifier: GPL-2.0-only
/* A VMM's command line: what is made of it can be sent, whatever it is. */
#include <stdlib.h>
#include <string.h>

#include "../lib/internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size_bytes);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size_bytes)
{
	char name[KVMSTATS_MAX_VM_NAME + 1], uuid[KVMSTATS_MAX_VM_NAME + 1];
	char *cmdline = malloc(size_bytes + 1);
	struct kvmstats_sender *sender;

	if (!cmdline)
		return 0;
	memcpy(cmdline, bytes, size_bytes);
	cmdline[size_bytes] = 0;
	kvmstats_cmdline_names(cmdline, size_bytes, name, uuid);
	free(cmdline);
	if (kvmstats_sender_new(name, uuid, &sender))
		abort();
	kvmstats_sender_free(sender);
	return 0;
}
