// SPDX-License-Identifier: GPL-2.0-only
#include <stdarg.h>

#include "agent.h"

void complain(const char *format, ...)
{
	va_list args;

	fputs("kvmstatd: ", stderr);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
}
