/* SPDX-License-Identifier: GPL-2.0-only */
/* What kvmstatd says of itself, and the tables of docs/metrics.md. */
#ifndef KVMSTATD_SELF_H
#define KVMSTATD_SELF_H

#include "registry.h"

/* The last lines of a scrape. 0, or -1 without memory. */
int self_write(struct registry *registry, enum exposition format,
	       struct text *text);
/* To standard output; @images are recorded descriptors, with a NULL at the end. */
int self_print_document(char *const images[]);

#endif /* KVMSTATD_SELF_H */
