/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What a VM has: its descriptors, each of them an entry by which its series are
 * named. All vCPUs may be in one descriptor: then each is an entry like any other,
 * but its values are a record of what one read of that descriptor brings. By the
 * main thread, but for vcpus_lose.
 */
#ifndef KVMSTATD_SOURCES_H
#define KVMSTATD_SOURCES_H

#include "registry.h"

/*
 * Takes over @sources. 0, or -ENOSPC or -ENOMEM: not all had room. A device that has
 * none is left out and named in the log, and the VM keeps all else. *@changed is set
 * if one took the place of another, or was left out.
 */
int registry_add_sources(struct registry *registry, struct vm *vm,
			 struct kvmstats_source **sources, size_t count,
			 const struct settings *settings, bool *changed);
/*
 * Of a message: what brings no more than the descriptor of all vCPUs does is closed,
 * and the vCPUs that are new have their entries afterwards. Returns how many sources
 * are left; -ENOSPC or -ENOMEM if not all vCPUs had room: then all are closed.
 */
int vcpus_drop_single(struct registry *registry, struct vm *vm,
		      struct kvmstats_source **sources, size_t count,
		      const struct settings *settings);
/* What was left out is tried again if something has ended, or the limits are others. */
void registry_try_waiting(struct registry *registry, const struct settings *settings);

/* waiting.c */
/* Whether a device is left out for @error, and nothing else is. */
bool left_out(const struct vm *vm, const struct kvmstats_source *source, int error,
	      const struct settings *settings);
/*
 * What is left out waits until there may be room. Not if the VM has brought too many
 * lists in its life, nor more devices than it may have.
 */
bool wait_for_room(struct registry *registry, struct vm *vm,
		   struct kvmstats_source *source, int error,
		   const struct settings *settings);
/* Takes what waits under the name of @source off the list; the caller closes it. */
struct kvmstats_source *stop_waiting(struct registry *registry, struct vm *vm,
				     const struct kvmstats_source *source);

/* A helper's VM may have another partner, or one with other devices. Under the lock. */
void vm_cover(struct vm *vm);
/* The vCPUs that a scrape has seen and that have no entries yet. */
void vcpus_add_seen(struct registry *registry, const struct settings *settings);
/*
 * As if its vCPUs had been lost; they get their places again. The caller closes what
 * is returned; NULL: there was none. Under the lock.
 */
struct kvmstats_source *vcpus_lose(struct registry *registry, struct vm *vm);

#endif /* KVMSTATD_SOURCES_H */
