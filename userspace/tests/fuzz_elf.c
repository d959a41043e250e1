// SPDX-License-Identifier: GPL-2.0-only
/* The head of a file that "kvmstat run" is to start. */
#define KVMSTATS_LIBDIR ""
#include "../kvmstat/run_vmm.c"

/* Of what is around the parser, and is not called. */
atomic_bool interrupted;

void signals_catch(sigset_t *while_waiting, bool hangup_reopens)
{
	(void)while_waiting;
	(void)hangup_reopens;
	abort();
}

int fail(enum status status, const char *format, ...)
{
	(void)status;
	(void)format;
	abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size_bytes);

/* Who is said to be loaded by an interpreter has a header that says so. */
static bool names_interpreter(const unsigned char *head)
{
	const uint32_t type = PT_INTERP;

	return memmem(head, HEAD_BYTES, &type, sizeof(type));
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size_bytes)
{
	unsigned char *head = calloc(1, HEAD_BYTES);
	struct program program = { 0 };

	if (!head)
		abort();
	memcpy(head, bytes, size_bytes < HEAD_BYTES ? size_bytes : HEAD_BYTES);
	if (parse_program(head, &program)) {
		if (program.script || program.dynamic || program.class)
			abort();
	} else if (program.script == !memcmp(head, ELFMAG, SELFMAG) ||
		   (program.dynamic && !names_interpreter(head))) {
		abort();
	}
	free(head);
	return 0;
}
