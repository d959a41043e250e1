// SPDX-License-Identifier: GPL-2.0-only
/* In place of the C library's allocator, which does the work behind it. */
#include <malloc.h>
#include <stdlib.h>

#include "heap.h"

struct heap heap;

static void *counted(void *memory)
{
	heap.calls++;
	heap.live_bytes += malloc_usable_size(memory);
	return memory;
}

void *malloc(size_t size_bytes)
{
	return counted(__libc_malloc(size_bytes));
}

void *calloc(size_t count, size_t size_bytes)
{
	return counted(__libc_calloc(count, size_bytes));
}

void *realloc(void *old, size_t size_bytes)
{
	heap.live_bytes -= malloc_usable_size(old);
	return counted(__libc_realloc(old, size_bytes));
}

void free(void *memory)
{
	heap.live_bytes -= malloc_usable_size(memory);
	__libc_free(memory);
}
