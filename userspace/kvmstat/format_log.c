// SPDX-License-Identifier: GPL-2.0-only
/* record --format log: one line a sample, one column a statistic, all VMs */
#include <stdlib.h>
#include <string.h>

#include "view.h"
#include "record.h"

#define BANNER_EVERY	20
#define TIME_WIDTH	24

struct columns {
	struct view view;
	char *banner;		/* the last that was printed */
	unsigned int lines;	/* below it */
};

struct columns *columns_new(void)
{
	return calloc(1, sizeof(struct columns));
}

void columns_free(struct columns *columns)
{
	if (!columns)
		return;
	view_release(&columns->view);
	free(columns->banner);
	free(columns);
}

/* The name of its column; sums over vCPUs, from debugfs, are marked. */
static void label_of(const struct view *view, const struct row *row,
		     char label[LINE_BYTES])
{
	snprintf(label, LINE_BYTES, "%s%s", kvmstats_desc_name(row->desc),
		 view->pools[row->pool].sum ? "(debugfs)" : "");
}

static int width_of(const struct view *view, const struct row *row)
{
	char label[LINE_BYTES];
	int width;

	label_of(view, row, label);
	width = strlen(label);
	return width < 9 ? 9 : width;
}

/* NULL without memory. */
static char *make_banner(const struct view *view)
{
	char *text = NULL, label[LINE_BYTES];
	size_t length;
	FILE *out = open_memstream(&text, &length);

	if (!out)
		return NULL;
	fprintf(out, "%-*s", TIME_WIDTH, "time");
	for (size_t i = 0; i < view->row_count; i++) {
		label_of(view, &view->rows[i], label);
		fprintf(out, " %*s", width_of(view, &view->rows[i]), label);
	}
	fputc('\n', out);
	fclose(out);
	return text;
}

/* The columns are those of the statistics that the VMs have at the time. */
static bool print_banner(FILE *out, struct columns *columns)
{
	char *banner = make_banner(&columns->view);

	if (!banner)
		return false;
	if (!columns->banner || strcmp(banner, columns->banner) ||
	    columns->lines >= BANNER_EVERY) {
		fputs(banner, out);
		columns->lines = 0;
	}
	free(columns->banner);
	columns->banner = banner;
	return true;
}

static void print_value(FILE *out, const struct view *view,
			const struct row *row)
{
	const struct kvmstats_desc *desc = row->desc;
	char text[SI_TEXT_SIZE];
	double value = row->has_rate ? row->growth : row->total;

	/* of booleans, how many are true */
	if (!*unit_letter(desc) || kvmstats_desc_is_hist(desc))
		fprintf(out, " %*.0f", width_of(view, row), value);
	else
		fprintf(out, " %*s", width_of(view, row),
			si_text(text, kvmstats_desc_to_unit(desc, value),
				unit_letter(desc)));
}

static bool any_growth(const struct view *view)
{
	for (size_t i = 0; i < view->row_count; i++)
		if (view->rows[i].growth)
			return true;
	return false;
}

/* Counters and histograms by their growth, all else by its value. */
bool columns_last(FILE *out, struct columns *columns,
		  const struct fleet *fleet, const struct vm *vm,
		  uint64_t wall_ns)
{
	struct view *view = &columns->view;
	const struct request *request = fleet->request;
	char time[40];

	view->fleet = fleet;
	view->only = vm;
	view->zeros = true;
	view->sort = SORT_NAME;
	view->fields = request->fields;
	view_build(view);
	/* a line without some of the columns would be taken for all */
	if (view->no_memory)
		return false;
	if (request->skip_zero && !any_growth(view))
		return true;
	if (!print_banner(out, columns))
		return false;
	iso_time(time, wall_ns);
	fprintf(out, "%-*s", TIME_WIDTH, time);
	for (size_t i = 0; i < view->row_count; i++)
		print_value(out, view, &view->rows[i]);
	if (vm)
		fprintf(out, "  last of VM %s (pid %ld)", vm_name(vm), vm->pid);
	fputc('\n', out);
	columns->lines++;
	return true;
}

const char *columns_banner(const struct columns *columns)
{
	return columns->banner;
}

bool columns_sample(FILE *out, struct columns *columns,
		    const struct fleet *fleet, uint64_t wall_ns)
{
	return columns_last(out, columns, fleet, NULL, wall_ns);
}
