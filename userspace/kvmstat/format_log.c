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

static int width_of(const struct row *row)
{
	int width = strlen(kvmstats_desc_name(row->desc));

	return width < 9 ? 9 : width;
}

/* NULL without memory. */
static char *make_banner(const struct view *view)
{
	char *text = NULL;
	size_t length;
	FILE *out = open_memstream(&text, &length);

	if (!out)
		return NULL;
	fprintf(out, "%-*s", TIME_WIDTH, "time");
	for (size_t i = 0; i < view->row_count; i++)
		fprintf(out, " %*s", width_of(&view->rows[i]),
			kvmstats_desc_name(view->rows[i].desc));
	fputc('\n', out);
	fclose(out);
	return text;
}

/* The columns are those of the statistics that the VMs have at the time. */
static void print_banner(FILE *out, struct columns *columns)
{
	char *banner = make_banner(&columns->view);

	if (!banner)
		return;
	if (!columns->banner || strcmp(banner, columns->banner) ||
	    columns->lines >= BANNER_EVERY) {
		fputs(banner, out);
		columns->lines = 0;
	}
	free(columns->banner);
	columns->banner = banner;
}

static void print_value(FILE *out, const struct row *row)
{
	const struct kvmstats_desc *desc = row->desc;
	char text[SI_TEXT_SIZE];
	double value = row->has_rate ? row->growth : row->total;

	if (kvmstats_desc_unit(desc) == KVMSTATS_UNIT_NONE ||
	    kvmstats_desc_is_hist(desc))
		fprintf(out, " %*.0f", width_of(row), value);
	else
		fprintf(out, " %*s", width_of(row),
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
void columns_last(FILE *out, struct columns *columns,
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
	if (request->skip_zero && !any_growth(view))
		return;
	print_banner(out, columns);
	iso_time(time, wall_ns);
	fprintf(out, "%-*s", TIME_WIDTH, time);
	for (size_t i = 0; i < view->row_count; i++)
		print_value(out, &view->rows[i]);
	fputc('\n', out);
	columns->lines++;
}

void columns_sample(FILE *out, struct columns *columns,
		    const struct fleet *fleet, uint64_t wall_ns)
{
	columns_last(out, columns, fleet, NULL, wall_ns);
}
