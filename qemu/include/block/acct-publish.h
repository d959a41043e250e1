/*
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Publish what BlockBackends account for
 *
 * Copyright (c) 2026 kvmstats developers
 */

#ifndef BLOCK_ACCT_PUBLISH_H
#define BLOCK_ACCT_PUBLISH_H

/* To be called in the main loop, or at least with the BQL held */
typedef struct BlockAcctPublisher BlockAcctPublisher;

/*
 * @added is called for each BlockBackend, with a descriptor of its statistics,
 * which stays the publisher's.
 */
BlockAcctPublisher *block_acct_publisher_new(void (*added)(void *opaque,
                                                           int fd),
                                             void *opaque);
/*
 * From now on, under @name, which says what it is attached to. A BlockBackend
 * has one publisher at a time. @owner: for block_acct_unpublish().
 */
void block_acct_publish(BlockAcctPublisher *p, BlockBackend *blk,
                        const char *name, void *owner);
/* All that @owner has; whether it had any */
bool block_acct_unpublish(BlockAcctPublisher *p, void *owner);
/* Call @added for all that there are */
void block_acct_publish_again(BlockAcctPublisher *p);
/* Unpublishes all. Takes NULL. */
void block_acct_publisher_free(BlockAcctPublisher *p);

#endif
