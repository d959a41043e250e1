// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * A small number for each thread, its own while it lives, so that it can count
 * in memory that no other thread writes. Whoever comes when all are taken gets
 * one that is shared.
 */
#include <pthread.h>

#include "thread_slot.h"

static _Atomic uint64_t taken;		/* a bit for each */
static _Thread_local int own = -1;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static pthread_key_t key;
static bool have_key;

_Static_assert(THREAD_SLOTS == 64, "one word of bits");

/* release: the next owner sees all that this one has written. */
static void give_back(void *value)
{
	uint64_t bit = 1ull << ((intptr_t)value - 1);

	own = -1;
	atomic_fetch_and_explicit(&taken, ~bit, memory_order_release);
}

static void make_key(void)
{
	have_key = !pthread_key_create(&key, give_back);
}

/* A program that was loaded, and is unloaded while its threads go on. */
__attribute__((destructor)) static void drop_key(void)
{
	if (have_key)
		pthread_key_delete(key);
}

static int take(void)
{
	uint64_t before = atomic_load_explicit(&taken, memory_order_relaxed);
	int slot;

	do {
		if (!~before)
			return THREAD_SLOT_SHARED;
		slot = __builtin_ctzll(~before);
	} while (!atomic_compare_exchange_weak_explicit(&taken, &before,
							before | 1ull << slot,
							memory_order_acquire,
							memory_order_relaxed));
	return slot;
}

int thread_slot(void)
{
	if (own >= 0)
		return own;
	pthread_once(&once, make_key);
	own = have_key ? take() : THREAD_SLOT_SHARED;
	if (own != THREAD_SLOT_SHARED &&
	    pthread_setspecific(key, (void *)(intptr_t)(own + 1))) {
		give_back((void *)(intptr_t)(own + 1));
		own = THREAD_SLOT_SHARED;
	}
	return own;
}
