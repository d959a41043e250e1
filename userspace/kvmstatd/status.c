// SPDX-License-Identifier: GPL-2.0-only
/* The page for people. No scripts, and no text of others without escapes. */
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>

#include "exposition.h"
#include "http.h"

#define MAX_SHOWN 1000

/* On a narrow screen each VM is a block, and each value has its heading. */
static const char page_head[] =
	"<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
	"<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
	"<title>kvmstatd</title>\n<style>\n"
	"body { font: 1rem/1.5 sans-serif; margin: 2rem auto; max-width: 75rem; padding: 0 1rem; }\n"
	"table { border-collapse: collapse; width: 100%; }\n"
	"th, td { text-align: left; padding: .25rem .75rem; border-bottom: 1px solid #ccc; }\n"
	"td { overflow-wrap: anywhere; }\n"
	"td.n, th.n { text-align: right; white-space: nowrap; }\n"
	"td.u { font-family: monospace; font-size: .875rem; }\n"
	"dl { display: grid; grid-template-columns: max-content auto; gap: 0 1rem; }\n"
	"dd { margin: 0; }\n"
	"@media (max-width: 50rem) {\n"
		"table, tbody, tr, td { display: block; }\n"
	"tr { border-bottom: 2px solid #ccc; padding: .5rem 0; }\n"
	"tr.h { display: none; }\n"
	"th, td, td.n { border: 0; padding: 0 0 0 9rem; text-align: left; white-space: normal; }\n"
	"td::before { content: attr(data-label); color: #555; float: left; margin-left: -9rem; }\n"
	"}\n"
	"</style>\n</head>\n<body>\n<h1>kvmstatd</h1>\n"
	"<p><a href=\"/metrics\">/metrics</a> <a href=\"/healthz\">/healthz</a></p>\n";

void escape_html(FILE *out, const char *text)
{
	for (; *text; text++) {
		switch (*text) {
		case '&':
			fputs("&amp;", out);
			break;
		case '<':
			fputs("&lt;", out);
			break;
		case '>':
			fputs("&gt;", out);
			break;
		case '"':
			fputs("&quot;", out);
			break;
		default:
			fputc(*text, out);
		}
	}
}

static void put_age(FILE *out, uint64_t since_ns)
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

static void put_number(FILE *out, const char *name, uint64_t value)
{
	fprintf(out, "<dt>%s</dt><dd>%ju</dd>\n", name, (uintmax_t)value);
}

static void put_scrape(FILE *out, const struct counters *counters)
{
	fputs("<dt>last scrape</dt><dd id=\"last\">", out);
	if (counters->last_scrape_ns) {
		put_age(out, counters->last_scrape_ns);
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
	struct utsname name;

	fputs("<dl>\n<dt>version</dt><dd>" KVMSTATS_VERSION "</dd>\n", out);
	if (!uname(&name)) {
		fputs("<dt>host</dt><dd>", out);
		escape_html(out, name.nodename);
		fputs(", Linux ", out);
		escape_html(out, name.release);
		fputs("</dd>\n", out);
	}
	fputs("<dt>running for</dt><dd>", out);
	put_age(out, registry->opened_ns);
	fputs("</dd>\n", out);
	put_number(out, "VMs", registry_num_vms(registry));
	put_number(out, "descriptors", registry->fds);
	if (counters->parked)
		put_number(out, "registrations that wait for descriptors",
			   counters->parked);
	put_scrape(out, counters);
	put_number(out, "scrapes", counters->scrapes);
	put_number(out, "scrapes refused or cut",
		   counters->scrapes_refused + counters->scrapes_cut);
	put_number(out, "VMs that have gone", counters->ended);
	put_number(out, "read errors", counters->read_errors);
	put_number(out, "descriptors rejected", counters->fds_rejected);
	for (int i = REJECT_NONE + 1; i < REJECTS; i++)
		if (counters->rejected[i])
			fprintf(out, "<dt>registrations refused: %s</dt><dd>%ju</dd>\n",
				reject_names[i],
				(uintmax_t)counters->rejected[i]);
	fputs("</dl>\n", out);
}

static const char *const headings[] = {
	"VM", "UUID", "process", "user", "registered by", "descriptors",
	"errors", "registered for",
};

static bool is_number(int column)
{
	return column == 2 || column == 5 || column == 6 || column == 7;
}

static void begin_cell(FILE *out, int column)
{
	fprintf(out, "<td data-label=\"%s\"%s>", headings[column],
		column == 1 ? " class=\"u\"" :
		is_number(column) ? " class=\"n\"" : "");
}

/* A text of others may turn the direction of what follows: not beyond its element. */
static void put_text(FILE *out, int column, const char *text)
{
	begin_cell(out, column);
	fputs("<bdi>", out);
	escape_html(out, text);
	fputs("</bdi></td>", out);
}

static void put_user(FILE *out, uid_t uid)
{
	const struct passwd *user = getpwuid(uid);

	begin_cell(out, 3);
	if (user)
		escape_html(out, user->pw_name);
	else
		fprintf(out, "%u", uid);
	fputs("</td>", out);
}

/* With those of its partner, but of a device that both have the one that is shown. */
static size_t count_entries(const struct vm *vm)
{
	size_t count = vm->count + (vm->partner ? vm->partner->count : 0);

	for (size_t i = 0; i < vm->count; i++)
		count -= vm->entries[i].covered;
	return count;
}

static void put_vm(FILE *out, const struct vm *vm)
{
	uint64_t errors = vm->read_errors +
			  (vm->partner ? vm->partner->read_errors : 0);

	fputs("<tr>", out);
	put_text(out, 0, vm->key);
	put_text(out, 1, vm->identity.uuid);
	begin_cell(out, 2);
	fprintf(out, "%d</td>", vm->identity.pid);
	put_user(out, vm->identity.uid);
	put_text(out, 4, vm->identity.on_behalf ? "helper" : "VMM");
	begin_cell(out, 5);
	fprintf(out, "%zu</td>", count_entries(vm));
	begin_cell(out, 6);
	fprintf(out, "%ju</td>", (uintmax_t)errors);
	begin_cell(out, 7);
	put_age(out, vm->since_ns);
	fputs("</td></tr>\n", out);
}

static void put_vms(FILE *out, const struct registry *registry)
{
	size_t count = registry_num_vms(registry), shown = 0;

	if (!registry->count) {
		fputs("<p>No VM is registered.</p>\n", out);
		return;
	}
	fputs("<table>\n<tr class=\"h\">", out);
	for (size_t i = 0; i < sizeof(headings) / sizeof(*headings); i++)
		fprintf(out, "<th%s>%s</th>", is_number(i) ? " class=\"n\"" : "",
			headings[i]);
	fputs("</tr>\n", out);
	for (size_t i = 0; i < registry->count && shown < MAX_SHOWN; i++) {
		if (registry->vms[i]->partner && !registry->vms[i]->identity.on_behalf)
			continue;
		put_vm(out, registry->vms[i]);
		shown++;
	}
	fputs("</table>\n", out);
	if (shown < count)
		fprintf(out, "<p>%zu more are not shown.</p>\n", count - shown);
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
