/* SPDX-License-Identifier: GPL-2.0-only */
/* A request in QEMU's own accounting; all are missing if it is not linked in. */
#ifndef BENCH_QEMU_ACCT_H
#define BENCH_QEMU_ACCT_H

#pragma weak qemu_acct_setup
#pragma weak qemu_acct_plain
#pragma weak qemu_acct_full
#pragma weak qemu_acct_published

void qemu_acct_setup(void);
void qemu_acct_plain(void);
void qemu_acct_full(void);
void qemu_acct_published(void);		/* of the series only */

#endif /* BENCH_QEMU_ACCT_H */
