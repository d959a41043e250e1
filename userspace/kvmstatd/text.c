// SPDX-License-Identifier: GPL-2.0-only
#include <stdlib.h>
#include <string.h>

#include "text.h"

#define NANO		1000000000ull
#define NANO_DIGITS	9

/* Two digits a division: this is where a scrape spends its time. */
static inline void put_pair(char *out, unsigned int pair)
{
	out[0] = '0' + pair / 10;
	out[1] = '0' + pair % 10;
}

char *put_u64(char *out, uint64_t value)
{
	char digits[U64_TEXT_SIZE];
	char *first = digits + sizeof(digits);
	size_t length;

	while (value >= 100) {
		first -= 2;
		put_pair(first, value % 100);
		value /= 100;
	}
	if (value >= 10) {
		first -= 2;
		put_pair(first, value);
	} else {
		*--first = '0' + value;
	}
	length = digits + sizeof(digits) - first;
	memcpy(out, first, length);
	return out + length;
}

char *put_nano(char *out, uint64_t value)
{
	uint64_t fraction = value % NANO;
	char digits[U64_TEXT_SIZE];
	int length;

	out = put_u64(out, value / NANO);
	if (!fraction)
		return out;
	/* a leading one keeps the zeros that follow it */
	put_u64(digits, NANO + fraction);
	length = NANO_DIGITS;
	while (digits[length] == '0')
		length--;
	*out++ = '.';
	memcpy(out, digits + 1, length);
	return out + length;
}

void le_text(char text[LE_TEXT_SIZE], double bound)
{
	int precision = 0, exponent;

	/* the fewest digits that read back as the same number */
	do {
		snprintf(text, LE_TEXT_SIZE, "%.*e", precision, bound);
	} while (strtod(text, NULL) != bound && precision++ < 17);
	exponent = atoi(strchr(text, 'e') + 1);
	if (exponent < -4 || exponent >= 6)
		return;
	precision = precision > exponent ? precision - exponent : 0;
	snprintf(text, LE_TEXT_SIZE, "%.*f", precision, bound);
	/* a float has a point, says OpenMetrics */
	if (!precision)
		strcat(text, ".0");
}

static void escape(FILE *out, const char *text, const char *special)
{
	for (; *text; text++) {
		if (*text == '\n') {
			fputs("\\n", out);
			continue;
		}
		if (strchr(special, *text))
			fputc('\\', out);
		fputc(*text, out);
	}
}

void escape_label(FILE *out, const char *text)
{
	escape(out, text, "\\\"");
}

void escape_help(FILE *out, const char *text)
{
	escape(out, text, "\\");
}

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
