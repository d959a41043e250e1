/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What survives our restart: systemd keeps boxes (systemd.h) for us, and
 * in each the descriptors of some VMs, with who they are. systemd compares each file
 * that it is given with all that it has, so there are few boxes: the first 256 VMs
 * have one each, later ones share them. A VM comes into a box without a word to
 * systemd; when one ends, or something of it is replaced, its box is made anew without
 * that, at once or, when there is much of it, within some seconds.
 *
 * All but store_wait by the main thread only: systemd takes what it is told in
 * order. Nothing happens without systemd.
 */
#ifndef KVMSTATD_STORE_H
#define KVMSTATD_STORE_H

#include "registry.h"
#include "systemd.h"

struct receiver;

/* Takes back what a predecessor left; then what is added is kept. */
void store_open(struct receiver *receiver, struct inherited *inherited);
void store_close(void);

/*
 * Descriptors of @vm that are about to become the registry's. True if there was
 * no room: store_again, when they are.
 */
bool store_add(struct registry *registry, struct vm *vm,
	       struct kvmstats_source *const *sources, size_t count);
/* Hold what the VM has now, and nothing else, soon: some were replaced, for example. */
void store_again(struct registry *registry, struct vm *vm);
/*
 * @vm has ended. Its @sources, which were the registry's, are closed as soon as
 * the store has no copy of them any more.
 */
void store_forget(struct registry *registry, struct vm *vm,
		  struct kvmstats_source **sources, size_t count);
/*
 * Makes boxes anew that have what they should not have. Returns in how many
 * milliseconds to call it again: @otherwise_ms if none is left.
 */
int store_renew(struct registry *registry, int otherwise_ms);
/* The same at once, at the end of the program: what comes after it finds no more. */
void store_flush(struct registry *registry);
/* The copies of what was forgotten before this are closed. Any thread. */
void store_wait(void);

#endif /* KVMSTATD_STORE_H */
