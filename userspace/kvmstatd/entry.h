/* SPDX-License-Identifier: GPL-2.0-only */
/* One descriptor of a VM: what its series are called, and where it stands. */
#ifndef KVMSTATD_ENTRY_H
#define KVMSTATD_ENTRY_H

#include "registry.h"

/*
 * Sets the labels; class and device of @entry are copied to behind them. 0 or
 * -ENOMEM. The labels are the VM's to free.
 */
int entry_make_labels(const struct vm *vm, struct entry *entry);
/* Where @entry is, or belongs. */
size_t entry_position(const struct vm *vm, const struct entry *entry,
		      bool *present);
/* 0 or -ENOMEM. */
int entry_insert(struct vm *vm, size_t position, const struct entry *entry);

#endif /* KVMSTATD_ENTRY_H */
