/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef KVMSTATS_LIB_CPU_STATS_H
#define KVMSTATS_LIB_CPU_STATS_H

#include "internal.h"

/* What a thread can have: cpu_time and the like */
#define SCHED_PARAMS	6

/* cpu_stats_sched.c: @params has room for SCHED_PARAMS, the first are @wanted */
size_t sched_params(pid_t pid, pid_t tid, struct kvmstats_param *params,
		    size_t wanted);
size_t params_from_schedstat(const char *text, struct kvmstats_param *params);
size_t params_from_stat(const char *text, long ticks_a_second,
			struct kvmstats_param *params);

/* cpu_stats_host.c: the bounds have been checked */
int host_cpu_stats(pid_t pid, struct kvmstats_param *params,
		   unsigned int nparams, int start_cpu, unsigned int ncpus);

/* cpu_stats.c */
void set_param(struct kvmstats_param *param, const char *field,
	       uint64_t value);
bool cpus_reserved_are_zero(const struct kvmstats_cpu *cpus, size_t cpu_count);

/* cpu_stats_threads.c */
int vcpu_of_name(const char *comm);
bool run_from_syscall(const char *text, int *fd);

#endif /* KVMSTATS_LIB_CPU_STATS_H */
