// SPDX-License-Identifier: LGPL-2.1-or-later
/* What the scheduler knows of a thread, by /proc. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cpu_stats.h"

#define NS_A_SECOND	1000000000ull

/* Run time and time waiting to run, both in nanoseconds, and how often. */
size_t params_from_schedstat(const char *text, struct kvmstats_param *params)
{
	uint64_t run_ns, wait_ns, slices;

	if (sscanf(text, "%" SCNu64 " %" SCNu64 " %" SCNu64, &run_ns, &wait_ns,
		   &slices) != 3)
		return 0;
	set_param(&params[0], KVMSTATS_CPU_TIME, run_ns);
	set_param(&params[1], KVMSTATS_CPU_WAIT_TIME, wait_ns);
	set_param(&params[2], KVMSTATS_CPU_TIMESLICES, slices);
	return 3;
}

static uint64_t ticks_to_ns(uint64_t ticks, long ticks_a_second)
{
	uint64_t tick_ns = NS_A_SECOND / ticks_a_second;

	return ticks > UINT64_MAX / tick_ns ? UINT64_MAX : ticks * tick_ns;
}

/* Of proc(5)'s fields 14, 15 and 43: utime, stime, guest_time. */
size_t params_from_stat(const char *text, long ticks_a_second,
			struct kvmstats_param *params)
{
	static const struct {
		int number;
		const char *name;
	} fields[] = {
		{ 14, KVMSTATS_CPU_USER_TIME },
		{ 15, KVMSTATS_CPU_SYSTEM_TIME },
		{ 43, KVMSTATS_CPU_VCPU_TIME },
	};
	const size_t all = sizeof(fields) / sizeof(*fields);
	const char *p = strrchr(text, ')');	/* the name may hold any byte */
	size_t found = 0;

	if (ticks_a_second <= 0 || ticks_a_second > 1000000)
		return 0;
	for (int field = 2; p && found < all; field++) {
		if (field == fields[found].number) {
			uint64_t ticks = strtoull(p, NULL, 10);

			set_param(&params[found], fields[found].name,
				  ticks_to_ns(ticks, ticks_a_second));
			found++;
		}
		p = strchr(p + 1, ' ');
	}
	return found == all ? all : 0;
}

/*
 * Of a thread that has ended there is nothing, of one in an exec what can be read
 * at once: stat is only read for those that want more.
 */
size_t sched_params(pid_t pid, pid_t tid, struct kvmstats_param *params,
		    size_t wanted)
{
	char path[64], text[1024];
	size_t count = 0;

	snprintf(path, sizeof(path), "/proc/%d/task/%d/schedstat", pid, tid);
	if (read_proc(path, text, sizeof(text)) > 0)
		count = params_from_schedstat(text, params);
	if (count >= wanted)
		return count;
	snprintf(path, sizeof(path), "task/%d/stat", tid);
	if (read_proc_in_time(pid, path, text, sizeof(text)) > 0)
		count += params_from_stat(text, sysconf(_SC_CLK_TCK),
					  params + count);
	return count;
}
