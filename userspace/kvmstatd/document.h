/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef KVMSTATD_DOCUMENT_H
#define KVMSTATD_DOCUMENT_H

/*
 * Prints the tables of docs/metrics.md, from those that scrapes are made with, and
 * the metrics of recorded descriptors. 0, or -1 after saying why not.
 */
int document_print(char * const images[]);

#endif /* KVMSTATD_DOCUMENT_H */
