// SPDX-License-Identifier: GPL-2.0-only
/* JSON lines: one object a line, each complete by itself */
#include <time.h>

#include "vm.h"

uint64_t wall_clock_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return now.tv_sec * 1000000000ull + now.tv_nsec;
}

/* UTC, to the millisecond. */
void iso_time(char text[40], uint64_t wall_ns)
{
	time_t seconds = wall_ns / 1000000000;
	char date[32];
	struct tm tm;

	gmtime_r(&seconds, &tm);
	strftime(date, sizeof(date), "%Y-%m-%dT%H:%M:%S", &tm);
	snprintf(text, 40, "%s.%03uZ", date,
		 (unsigned int)(wall_ns / 1000000 % 1000));
}

static void json_vm(struct json *json, const struct vm *vm)
{
	json_key(json, "vm");
	json_open(json, '{');
	json_member_string(json, "name", vm->peer ?
			   kvmstats_peer_name(vm->peer) : vm->name);
	json_member_string(json, "uuid", vm_uuid(vm));
	json_member_i64(json, "pid", vm->pid);
	json_member_i64(json, "uid", vm->uid);
	json_member_i64(json, "gid", vm->gid);
	json_member_u64(json, "descriptors", vm->count);
	json_member_u64(json, "rejected", vm->rejected);
	json_close(json, '}');
}

static void begin(struct json *json, const struct vm *vm, const char *event)
{
	json_open(json, '{');
	json_member_string(json, "event", event);
	json_member_u64(json, "time_ns", wall_clock_ns());
	json_member_u64(json, "monotonic_ns", clock_ns());
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
	json_quantiles(json, desc, watch->delta);
	json_close(json, '}');
}

static bool is_shown(const struct request *request, const struct watch *watch,
		     const struct kvmstats_desc *desc)
{
	return filter_passes(&request->fields, desc) &&
	       !(request->skip_zero && all_zero(desc, watch->delta));
}

static void json_watch(struct json *json, const struct watch *watch,
		       const struct request *request)
{
	struct kvmstats_schema *schema = kvmstats_source_schema(watch->source);

	json_open(json, '{');
	json_scope(json, watch->source);
	json_key(json, "fd");
	if (watch->fd >= 0)
		json_i64(json, watch->fd);
	else
		json_null(json);
	json_member_u64(json, "interval_ns", watch->now_ns - watch->before_ns);
	json_member_i64(json, "restarts", watch->restarts);
	json_key(json, "stats");
	json_open(json, '[');
	for (size_t i = 0; i < kvmstats_schema_count(schema); i++) {
		const struct kvmstats_desc *desc;

		desc = kvmstats_schema_desc(schema, i);
		if (is_shown(request, watch, desc))
			json_stat(json, watch, desc);
	}
	json_close(json, ']');
	json_close(json, '}');
}

void report_sample(FILE *out, const struct vm *vm,
		   const struct request *request)
{
	struct json json = { .out = out };

	begin(&json, vm, "sample");
	json_key(&json, "sources");
	json_open(&json, '[');
	for (size_t i = 0; i < vm->count; i++)
		json_watch(&json, &vm->watches[i], request);
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
