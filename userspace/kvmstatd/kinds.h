/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The kinds of sources that there are, and the plan of their metrics. By the main
 * thread only.
 */
#ifndef KVMSTATD_KINDS_H
#define KVMSTATD_KINDS_H

#include "registry.h"

/* New ones that a VM may bring in its life: each is work for all. */
#define KINDS_PER_VM	16

/* A new plan, of the first @num_kinds kinds. 0 or -ENOMEM. */
int kinds_plan(struct registry *registry, size_t num_kinds,
	       const struct filters *filters);
/*
 * The number of the kind of @source, or -ENOMEM; for what a program publishes,
 * -EDQUOT if @vm, which has brought it (or NULL), has brought too many new ones in
 * its life, -ENOSPC if all VMs together have as many as there can be. A new one makes
 * a new plan.
 */
int kinds_index(struct registry *registry, struct vm *vm,
		const struct kvmstats_source *source,
		const struct filters *filters);

#endif /* KVMSTATD_KINDS_H */
