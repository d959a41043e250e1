// SPDX-License-Identifier: GPL-2.0-only
/* A message of the transport; what is accepted must encode to itself. */
#include <stdlib.h>
#include <string.h>

#include "../lib/internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size_bytes);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size_bytes)
{
	unsigned char again[WIRE_MESSAGE_BYTES];
	struct wire_message message, copy;
	size_t length;

	if (message_from_wire(bytes, size_bytes, &message))
		return 0;
	/* a NUL is a control character: the texts are whole */
	length = wire_encode(&message, again);
	if (message_from_wire(again, length, &copy) ||
	    strcmp(message.name, copy.name) || strcmp(message.uuid, copy.uuid))
		abort();
	return 0;
}
