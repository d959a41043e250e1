/* SPDX-License-Identifier: GPL-2.0-only */
/* Writes nothing but valid JSON, if what is opened is closed. */
#ifndef COMMON_JSON_H
#define COMMON_JSON_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

struct json {
	FILE *out;
	bool comma;
};

void json_open(struct json *json, char bracket);
void json_close(struct json *json, char bracket);
void json_key(struct json *json, const char *key);
void json_string(struct json *json, const char *text);
void json_u64(struct json *json, uint64_t number);
void json_i64(struct json *json, int64_t number);
void json_null(struct json *json);
void json_bool(struct json *json, bool value);
void json_member_string(struct json *json, const char *key, const char *text);
void json_member_u64(struct json *json, const char *key, uint64_t number);
void json_member_i64(struct json *json, const char *key, int64_t number);

#endif /* COMMON_JSON_H */
