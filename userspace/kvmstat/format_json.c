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

/* What describes a statistic. */
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
