/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef BENCH_HEAP_H
#define BENCH_HEAP_H

#include <stddef.h>

/* What this program's malloc and its kin did, libraries included. */
struct heap {
	size_t calls;		/* allocations made so far */
	size_t live_bytes;	/* held now, rounded up as malloc does */
};

extern struct heap heap;

/* The C library's own, which no header of it names. */
void *__libc_malloc(size_t size_bytes);
void *__libc_calloc(size_t count, size_t size_bytes);
void *__libc_realloc(void *old, size_t size_bytes);
void __libc_free(void *memory);

#endif /* BENCH_HEAP_H */
