/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * VMs whose vCPUs are all in one descriptor. Each vCPU is an entry like any other, but
 * its values are a record of what one read of that descriptor brings. By the main
 * thread, but for vcpus_lose.
 */
#ifndef KVMSTATD_VCPUS_H
#define KVMSTATD_VCPUS_H

#include "registry.h"

/*
 * Takes over @source on success: 0, or -ENOSPC or -ENOMEM if not all vCPUs had room.
 * The descriptors of single vCPUs are closed, and *@changed is set if there were any.
 */
int vcpus_add(struct registry *registry, struct vm *vm,
	      struct kvmstats_source *source, int kind,
	      const struct settings *settings, bool *changed);
/*
 * Of a message: what brings no more than the descriptor of all vCPUs does is closed,
 * and the vCPUs that are new have their entries afterwards. Returns how many sources are
 * left; -ENOSPC or -ENOMEM if not all vCPUs had room: then all are closed.
 */
int vcpus_drop_single(struct registry *registry, struct vm *vm,
		      struct kvmstats_source **sources, size_t count,
		      const struct settings *settings);
/* The vCPUs that a scrape has seen and that have no entries yet. */
void vcpus_add_seen(struct registry *registry, const struct settings *settings);
/* It cannot be read any more: the caller closes what is returned. Under the lock. */
struct kvmstats_source *vcpus_lose(struct registry *registry, struct vm *vm);

#endif /* KVMSTATD_VCPUS_H */
