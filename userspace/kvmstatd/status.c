// SPDX-License-Identifier: GPL-2.0-only
/* The page for people. No scripts, and no text of others without escapes. */
#include <stdlib.h>

#include "exposition.h"
#include "http.h"

#define MAX_SHOWN 1000

static const char page_head[] =
	"<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
	"<meta name=\"viewport\" content=\"width=device-width\">\n"
	"<title>kvmstatd</title>\n<style>\n"
	"body { font: 1rem/1.5 sans-serif; margin: 2rem auto; max-width: 70rem; padding: 0 1rem; }\n"
	"table { border-collapse: collapse; width: 100%; }\n"
	"th, td { text-align: left; padding: .25rem .75rem; border-bottom: 1px solid #ccc; }\n"
	"td { overflow-wrap: anywhere; }\n"
	"td.n, th.n { text-align: right; }\n"
	"dl { display: grid; grid-template-columns: max-content auto; gap: 0 1rem; }\n"
	"dd { margin: 0; }\n"
	"</style>\n</head>\n<body>\n<h1>kvmstatd</h1>\n"
	"<p><a href=\"/metrics\">/metrics</a> <a href=\"/healthz\">/healthz</a></p>\n";

static void age(FILE *out, uint64_t since_ns)
{
	uint64_t seconds = (clock_ns() - since_ns) / 1000000000;

	if (seconds < 120)
		fprintf(out, "%ju s", (uintmax_t)seconds);
	else if (seconds < 7200)
		fprintf(out, "%ju min", (uintmax_t)seconds / 60);
	else if (seconds < 172800)
		fprintf(out, "%ju h", (uintmax_t)seconds / 3600);
	else
		fprintf(out, "%ju d", (uintmax_t)seconds / 86400);
}

static void fact(FILE *out, const char *name, uint64_t value)
{
	fprintf(out, "<dt>%s</dt><dd>%ju</dd>\n", name, (uintmax_t)value);
}

static void put_scrape(FILE *out, const struct counters *counters)
{
	fputs("<dt>last scrape</dt><dd id=\"last\">", out);
	if (counters->last_scrape_ns) {
		age(out, counters->last_scrape_ns);
		fprintf(out, " ago, %.1f ms to read all",
			counters->last_sample_ns / 1e6);
	} else {
		fputs("none yet", out);
	}
	fputs("</dd>\n", out);
}

static void put_facts(FILE *out, const struct registry *registry)
{
	const struct counters *counters = &registry->counters;

	fputs("<dl>\n<dt>version</dt><dd>" KVMSTATS_VERSION "</dd>\n", out);
	fact(out, "VMs", registry->count);
	fact(out, "descriptors", registry->fds);
	put_scrape(out, counters);
	fact(out, "scrapes", counters->scrapes);
	fact(out, "scrapes refused or cut",
	     counters->scrapes_refused + counters->scrapes_cut);
	fact(out, "VMs that have gone", counters->ended);
	fact(out, "read errors", counters->read_errors);
	fact(out, "descriptors rejected", counters->fds_rejected);
	for (int i = REJECT_NONE + 1; i < REJECTS; i++)
		if (counters->rejected[i])
			fprintf(out, "<dt>connections rejected: %s</dt><dd>%ju</dd>\n",
				reject_names[i],
				(uintmax_t)counters->rejected[i]);
	fputs("</dl>\n", out);
}

static void cell(FILE *out, const char *text)
{
	fputs("<td>", out);
	escape_html(out, text);
	fputs("</td>", out);
}

static void put_vm(FILE *out, const struct vm *vm)
{
	fputs("<tr>", out);
	cell(out, vm->key);
	cell(out, vm->identity.uuid);
	fprintf(out, "<td class=\"n\">%d</td><td class=\"n\">%u</td>",
		vm->identity.pid, vm->identity.uid);
	fprintf(out, "<td>%s</td><td class=\"n\">%zu</td>",
		vm->identity.on_behalf ? "helper" : "VMM", vm->count);
	fprintf(out, "<td class=\"n\">%ju</td><td>",
		(uintmax_t)vm->read_errors);
	age(out, vm->since_ns);
	fputs("</td></tr>\n", out);
}

static void put_vms(FILE *out, const struct registry *registry)
{
	size_t shown = registry->count < MAX_SHOWN ? registry->count :
		       MAX_SHOWN;

	if (!registry->count) {
		fputs("<p>No VM is registered.</p>\n", out);
		return;
	}
	fputs("<table>\n<tr><th>VM</th><th>UUID</th>", out);
	fputs("<th class=\"n\">process</th><th class=\"n\">user</th>", out);
	fputs("<th>registered by</th><th class=\"n\">descriptors</th>", out);
	fputs("<th class=\"n\">errors</th><th>for</th></tr>\n", out);
	for (size_t i = 0; i < shown; i++)
		put_vm(out, registry->vms[i]);
	fputs("</table>\n", out);
	if (shown < registry->count)
		fprintf(out, "<p>%zu more are not shown.</p>\n",
			registry->count - shown);
}

char *status_page(struct registry *registry, size_t *length)
{
	char *page = NULL;
	FILE *out = open_memstream(&page, length);

	if (!out)
		return NULL;
	fputs(page_head, out);
	pthread_mutex_lock(&registry->lock);
	put_facts(out, registry);
	put_vms(out, registry);
	pthread_mutex_unlock(&registry->lock);
	fputs("</body>\n</html>\n", out);
	if (!fclose(out))
		return page;
	free(page);
	return NULL;
}
