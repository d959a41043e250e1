// SPDX-License-Identifier: GPL-2.0-only
#include "kvmstat.h"

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

/* The members that describe a statistic; an object is open. */
void json_desc(struct json *json, const struct kvmstats_desc *desc)
{
	char text[SI_TEXT_SIZE];

	json_member_string(json, "name", kvmstats_desc_name(desc));
	json_member_string(json, "type",
			   type_text(text, kvmstats_desc_type(desc)));
	json_member_string(json, "unit",
			   unit_text(text, kvmstats_desc_unit(desc)));
	json_member_u64(json, "base", kvmstats_desc_base(desc));
	json_member_i64(json, "exponent", kvmstats_desc_exponent(desc));
	json_member_u64(json, "size", kvmstats_desc_size(desc));
	json_member_u64(json, "bucket_size", kvmstats_desc_bucket_size(desc));
	if (!kvmstats_desc_has_reasons(desc))
		return;
	json_key(json, "reasons");
	json_open(json, '[');
	for (unsigned int i = 0; i < kvmstats_desc_size(desc); i++)
		json_string(json, kvmstats_desc_reason(desc, i));
	json_close(json, ']');
}

void json_elements(struct json *json, const char *key,
		   const struct kvmstats_desc *desc, const uint64_t *sample)
{
	json_key(json, key);
	json_open(json, '[');
	for (unsigned int i = 0; i < kvmstats_desc_size(desc); i++)
		json_u64(json, kvmstats_desc_value(desc, sample, i));
	json_close(json, ']');
}

void json_scope(struct json *json, const struct kvmstats_source *source)
{
	int vcpu = kvmstats_source_vcpu(source);

	json_member_string(json, "scope", scope_text(source));
	json_key(json, "vcpu");
	if (vcpu < 0)
		json_null(json);
	else
		json_i64(json, vcpu);
	if (kvmstats_source_scope(source) == KVMSTATS_SCOPE_DEVICE) {
		json_member_string(json, "class", kvmstats_source_class(source));
		json_member_string(json, "device",
				   kvmstats_source_device(source));
	}
	json_member_string(json, "id", kvmstats_source_id(source));
}

static void json_range(struct json *json, const char *key, uint64_t low,
		       uint64_t high)
{
	json_key(json, key);
	json_open(json, '[');
	json_u64(json, low);
	if (high == UINT64_MAX)
		json_null(json);
	else
		json_u64(json, high);
	json_close(json, ']');
}

/* Members for a histogram: between which raw values its quantiles lie. */
void json_quantiles(struct json *json, const struct kvmstats_desc *desc,
		    const uint64_t *sample)
{
	uint64_t low, high;

	if (!kvmstats_desc_is_hist(desc))
		return;
	json_member_u64(json, "count", kvmstats_desc_hist_count(desc, sample));
	if (!kvmstats_desc_quantile(desc, sample, 500000, &low, &high))
		json_range(json, "p50", low, high);
	if (!kvmstats_desc_quantile(desc, sample, 990000, &low, &high))
		json_range(json, "p99", low, high);
}
