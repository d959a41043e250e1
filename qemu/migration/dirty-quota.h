/*
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Dirty quota: limits on what vCPUs dirty while a migration copies memory
 */

#ifndef QEMU_MIGRATION_DIRTY_QUOTA_H
#define QEMU_MIGRATION_DIRTY_QUOTA_H

#include "qapi/qapi-types-migration.h"

/* Once, when the migration object is made */
void dirty_quota_init(void);

/*
 * Limit what vCPUs dirty until the migration stops the guest or ends. Nothing
 * happens if they are limited already, or if the guest has been stopped. Called
 * with the BQL held.
 */
void dirty_quota_start(void);

/* Of the current migration or the last one; the caller frees it */
DirtyQuotaInfo *dirty_quota_info(void);

#endif
