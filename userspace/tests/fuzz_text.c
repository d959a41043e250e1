// SPDX-License-Identifier: GPL-2.0-only
/*
 * Texts that others have a hand in: the first byte says which. A process
 * chooses its command's name in /proc/PID/stat; a name of a descriptor in
 * /proc/self/fd can be any path.
 */
#include <stdlib.h>
#include <string.h>

#include "../lib/internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size_bytes);

static void use_link(const char *text)
{
	int vcpu;

	if (scope_from_link(text, &vcpu))
		return;
	if (strncmp(text, "anon_inode:kvm-", 15) || vcpu < -1)
		abort();
}

/* The command's name is the only field that can hold a parenthesis. */
static void use_stat(const char *text)
{
	uint64_t ticks = start_ticks_from_stat(text);

	if (ticks && !strchr(text, ')'))
		abort();
}

/* What passes holds nothing that a terminal would obey. */
static void use_text(const char *text, size_t length)
{
	if (!wire_text_ok(text, length))
		return;
	for (size_t i = 0; i < length; i++)
		if ((unsigned char)text[i] < 0x20 || text[i] == 0x7f)
			abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size_bytes)
{
	char *text;

	if (!size_bytes)
		return 0;
	/* memory that ends with the text */
	text = malloc(size_bytes);
	if (!text)
		abort();
	memcpy(text, bytes + 1, size_bytes - 1);
	text[size_bytes - 1] = 0;
	if (*bytes == 'l')
		use_link(text);
	else if (*bytes == 's')
		use_stat(text);
	else
		use_text(text, size_bytes - 1);
	free(text);
	return 0;
}
