/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef BENCH_FLEET_H
#define BENCH_FLEET_H

#include <stddef.h>

#define FLEET_VCPUS_PER_VM	4

/*
 * Statistics descriptors of @count vCPUs, in as many real VMs as they need.
 * The descriptors keep the VMs; nothing else of them stays open. What cannot
 * be had ends the program, with the reason.
 */
void fleet_make(int *fds, size_t count);

void die(const char *format, ...)
	__attribute__((__format__(__printf__, 1, 2), noreturn));

#endif /* BENCH_FLEET_H */
