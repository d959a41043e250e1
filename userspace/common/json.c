// SPDX-License-Identifier: GPL-2.0-only
#include "json.h"

static void separate(struct json *json)
{
	if (json->comma)
		fputc(',', json->out);
	json->comma = true;
}

void json_open(struct json *json, char bracket)
{
	separate(json);
	fputc(bracket, json->out);
	json->comma = false;
}

void json_close(struct json *json, char bracket)
{
	fputc(bracket, json->out);
	json->comma = true;
}

/* Texts are UTF-8 that was checked where it came in. */
static void quote(struct json *json, const char *text)
{
	fputc('"', json->out);
	for (; *text; text++) {
		unsigned char c = *text;

		if (c == '"' || c == '\\')
			fprintf(json->out, "\\%c", c);
		else if (c < 0x20)
			fprintf(json->out, "\\u%04x", c);
		else
			fputc(c, json->out);
	}
	fputc('"', json->out);
}

void json_key(struct json *json, const char *key)
{
	separate(json);
	quote(json, key);
	fputc(':', json->out);
	json->comma = false;
}

void json_string(struct json *json, const char *text)
{
	separate(json);
	quote(json, text);
}

void json_u64(struct json *json, uint64_t number)
{
	separate(json);
	fprintf(json->out, "%ju", (uintmax_t)number);
}

void json_i64(struct json *json, int64_t number)
{
	separate(json);
	fprintf(json->out, "%jd", (intmax_t)number);
}

void json_null(struct json *json)
{
	separate(json);
	fputs("null", json->out);
}

void json_bool(struct json *json, bool value)
{
	separate(json);
	fputs(value ? "true" : "false", json->out);
}

void json_member_string(struct json *json, const char *key, const char *text)
{
	json_key(json, key);
	json_string(json, text);
}

void json_member_u64(struct json *json, const char *key, uint64_t number)
{
	json_key(json, key);
	json_u64(json, number);
}

void json_member_i64(struct json *json, const char *key, int64_t number)
{
	json_key(json, key);
	json_i64(json, number);
}
