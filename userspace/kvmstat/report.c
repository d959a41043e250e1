// SPDX-License-Identifier: GPL-2.0-only
/* listen --json: one object a line, each complete by itself */
#include <time.h>

#include "vm.h"

static uint64_t wall_clock_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return now.tv_sec * 1000000000ull + now.tv_nsec;
}

static void json_vm(struct json *json, const struct vm *vm)
{
	json_key(json, "vm");
	json_open(json, '{');
	json_member_string(json, "name", kvmstats_peer_name(vm->peer));
	json_member_string(json, "uuid", kvmstats_peer_uuid(vm->peer));
	json_member_i64(json, "pid", kvmstats_peer_pid(vm->peer));
	json_member_u64(json, "uid", kvmstats_peer_uid(vm->peer));
	json_member_u64(json, "gid", kvmstats_peer_gid(vm->peer));
	json_member_u64(json, "descriptors", vm->count);
	json_member_u64(json, "rejected", vm->rejected);
	json_close(json, '}');
}

static void begin(struct json *json, const struct vm *vm, const char *event)
{
	json_open(json, '{');
	json_member_string(json, "event", event);
	json_member_u64(json, "time_ns", wall_clock_ns());
	json_vm(json, vm);
}

static void end(struct json *json)
{
	json_close(json, '}');
	fputc('\n', json->out);
}

static void json_stat(struct json *json, const struct watch *watch,
		      const struct kvmstats_desc *desc)
{
	json_open(json, '{');
	json_desc(json, desc);
	json_elements(json, "values", desc, watch->now);
	/* of a statistic that does not count, this is its value again */
	json_elements(json, "delta", desc, watch->delta);
	json_close(json, '}');
}

static void json_watch(struct json *json, const struct watch *watch)
{
	struct kvmstats_schema *schema = kvmstats_source_schema(watch->source);

	json_open(json, '{');
	json_scope(json, watch->source);
	json_member_u64(json, "interval_ns", watch->now_ns - watch->before_ns);
	json_member_i64(json, "restarts", watch->restarts);
	json_key(json, "stats");
	json_open(json, '[');
	for (size_t i = 0; i < kvmstats_schema_count(schema); i++)
		json_stat(json, watch, kvmstats_schema_desc(schema, i));
	json_close(json, ']');
	json_close(json, '}');
}

void report_sample(FILE *out, const struct vm *vm)
{
	struct json json = { .out = out };

	begin(&json, vm, "sample");
	json_key(&json, "sources");
	json_open(&json, '[');
	for (size_t i = 0; i < vm->count; i++)
		json_watch(&json, &vm->watches[i]);
	json_close(&json, ']');
	end(&json);
}

void report_event(FILE *out, const struct vm *vm, const char *event,
		  const char *reason)
{
	struct json json = { .out = out };

	begin(&json, vm, event);
	json_member_string(&json, "reason", reason);
	end(&json);
}
