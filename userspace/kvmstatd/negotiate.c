// SPDX-License-Identifier: GPL-2.0-only
/* Accept and Accept-Encoding, with their weights (RFC 9110, section 12.5). */
#include <stddef.h>
#include <string.h>
#include <strings.h>

#include "http.h"

#define BLANKS " \t"

struct slice {
	const char *start;
	size_t length;
};

/* The next element of a list; commas in quotes are none. */
static bool next_element(const char **list, char separator,
			 struct slice *element)
{
	bool quoted = false;
	const char *p = *list;

	p += strspn(p, BLANKS);
	element->start = p;
	for (; *p && (quoted || *p != separator); p++)
		if (*p == '"')
			quoted = !quoted;
	element->length = p - element->start;
	while (element->length &&
	       strchr(BLANKS, element->start[element->length - 1]))
		element->length--;
	*list = *p ? p + 1 : p;
	return *p || element->length;
}

static bool is(const struct slice *slice, const char *text)
{
	return slice->length == strlen(text) &&
	       !strncasecmp(slice->start, text, slice->length);
}

/* Thousandths: 1, 0.5, .25 and what else clients write; -1: no weight. */
static int parse_weight(const struct slice *slice)
{
	int weight = 0, scale = 1000;
	bool point = false;

	for (size_t i = 0; i < slice->length; i++) {
		char c = slice->start[i];

		if (c == '.' && !point) {
			point = true;
		} else if (c >= '0' && c <= '9') {
			if (point)
				scale /= 10;
			weight = point ? weight + (c - '0') * scale :
				 (c - '0') * 1000;
		} else {
			return -1;
		}
	}
	return weight > 1000 ? 1000 : weight;
}

/* One element of the list: what, with which weight and version. */
struct range {
	struct slice what, version;
	int weight;
};

static void take_parameter(struct range *range, struct slice parameter)
{
	const char *equals = memchr(parameter.start, '=', parameter.length);
	struct slice name, value;

	if (!equals)
		return;
	name = (struct slice){ parameter.start, equals - parameter.start };
	value.start = equals + 1;
	value.length = parameter.length - name.length - 1;
	if (is(&name, "q")) {
		range->weight = parse_weight(&value);
	} else if (is(&name, "version")) {
		if (value.length > 1 && *value.start == '"') {
			value.start++;
			value.length -= 2;
		}
		range->version = value;
	}
}

static bool next_range(const char **list, struct range *range)
{
	struct slice element, parameter;
	char text[512];
	const char *p = text;

	if (!next_element(list, ',', &element))
		return false;
	/* longer than any real one: not understood */
	if (element.length >= sizeof(text))
		element.length = 0;
	memcpy(text, element.start, element.length);
	text[element.length] = 0;
	*range = (struct range){ .weight = 1000 };
	if (!next_element(&p, ';', &range->what))
		return true;
	while (next_element(&p, ';', &parameter))
		take_parameter(range, parameter);
	/* the slices point into the list, which outlives this function */
	range->what.start = element.start;
	if (range->version.length)
		range->version.start = element.start +
				      (range->version.start - text);
	return true;
}

static bool version_is(const struct range *range, const char *version)
{
	return !range->version.length || is(&range->version, version);
}

/* The more precise a range is, the more it counts, whatever its place. */
struct best {
	int precision, weight;
};

static void better(struct best *best, int precision, int weight)
{
	if (precision < best->precision)
		return;
	if (precision > best->precision || weight > best->weight)
		best->weight = weight;
	best->precision = precision;
}

enum exposition negotiate_format(const char *accept)
{
	struct best open = { 0 }, text = { 0 };
	struct range range;

	while (accept && next_range(&accept, &range)) {
		if (is(&range.what, "application/openmetrics-text")) {
			if (version_is(&range, "1.0.0"))
				better(&open, 3, range.weight);
		} else if (is(&range.what, "application/*")) {
			better(&open, 2, range.weight);
		} else if (is(&range.what, "text/plain")) {
			if (version_is(&range, "0.0.4"))
				better(&text, 3, range.weight);
		} else if (is(&range.what, "text/*")) {
			better(&text, 2, range.weight);
		} else if (is(&range.what, "*/*")) {
			better(&open, 1, range.weight);
			better(&text, 1, range.weight);
		}
	}
	/* who does not care gets what people can read in a browser */
	if (open.weight == text.weight)
		return open.precision > text.precision && open.weight > 0 ?
		       OPENMETRICS : PROMETHEUS;
	return open.weight > text.weight ? OPENMETRICS : PROMETHEUS;
}

bool negotiate_gzip(const char *accept_encoding)
{
	struct best gzip = { 0 }, identity = { 0 };
	struct range range;

	while (accept_encoding && next_range(&accept_encoding, &range)) {
		if (is(&range.what, "gzip") || is(&range.what, "x-gzip"))
			better(&gzip, 2, range.weight);
		else if (is(&range.what, "*"))
			better(&gzip, 1, range.weight);
		else if (is(&range.what, "identity"))
			better(&identity, 2, range.weight);
	}
	return gzip.weight > 0 && gzip.weight >= identity.weight;
}
