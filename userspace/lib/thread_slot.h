/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef KVMSTATS_LIB_THREAD_SLOT_H
#define KVMSTATS_LIB_THREAD_SLOT_H

#include "internal.h"

#define THREAD_SLOTS		64
#define THREAD_SLOT_SHARED	THREAD_SLOTS

/* 0 to THREAD_SLOTS - 1, or THREAD_SLOT_SHARED, of the calling thread. */
int thread_slot(void);

#endif /* KVMSTATS_LIB_THREAD_SLOT_H */
