/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef KVMSTAT_TOP_H
#define KVMSTAT_TOP_H

#include "view.h"

struct prompt;

struct top {
	struct request request;
	struct fleet fleet;
	struct view view;
	struct screen_lines lines;
	const struct prompt *prompt;	/* NULL: none is open */
	char answer[KVMSTATS_MAX_VM_NAME + 1];
	size_t answer_length;
	char message[160];		/* until the next key */
	bool help, batch, once, quit;
	struct output output;		/* of tables without a screen */
	size_t tables;			/* written */
};

/* top_batch.c: tables without a screen */
extern const struct fleet_ops top_batch_ops;
int top_run_batch(struct top *top);
/* A line of the table: a row of the view, or what is below the last. */
void top_row_line(void *context, size_t index, char line[LINE_BYTES]);
size_t top_count_guests(const struct fleet *fleet);

#endif /* KVMSTAT_TOP_H */
