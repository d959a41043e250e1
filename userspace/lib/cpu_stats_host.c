// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * CPU time of a whole VMM: as virDomainGetCPUStats of libvirt was specified,
 * by the host's CPUs, and user and system time in all.
 */
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "cpu_stats.h"

#define FILE_BYTES	65536

/* The rest of a line behind @count fields and a blank, or NULL. */
static char *skip_fields(char *line, int count)
{
	while (line && count--) {
		line = strchr(line, ' ');
		line = line ? line + 1 : NULL;
	}
	return line;
}

static bool has_word(const char *list, const char *word)
{
	size_t length = strlen(word);

	while (list) {
		size_t own = strcspn(list, ",\n ");

		if (own == length && !strncmp(list, word, length))
			return true;
		list = list[own] == ',' ? list + own + 1 : NULL;
	}
	return false;
}

/* "2:cpu,cpuacct:/machine/vm1": the path, or false. Changes @text. */
static bool cgroup_from_text(char *text, char path[PATH_MAX])
{
	char *save;

	for (char *line = strtok_r(text, "\n", &save); line;
	     line = strtok_r(NULL, "\n", &save)) {
		char *names = strchr(line, ':');
		char *place = names ? strchr(names + 1, ':') : NULL;

		if (!place)
			continue;
		*place++ = 0;
		if (has_word(names + 1, "cpuacct")) {
			snprintf(path, PATH_MAX, "%s", place);
			return true;
		}
	}
	return false;
}

/* What both paths begin with, whole components: in @path. */
static void keep_common(char path[PATH_MAX], const char *other)
{
	size_t length = 0;

	for (size_t i = 0; ; i++) {
		bool ends = !path[i] || path[i] == '/';

		if (ends && (!other[i] || other[i] == '/'))
			length = i;
		if (!path[i] || path[i] != other[i])
			break;
	}
	path[length] = 0;
	if (!length)
		strcpy(path, "/");
}

/*
 * libvirt puts emulator, vCPUs and I/O threads into cgroups of their own: the
 * VM's is what all threads have in common. 0 or -errno.
 */
static int cgroup_of(pid_t pid, char path[PATH_MAX])
{
	char name[64], text[4096], other[PATH_MAX];
	struct dirent *entry;
	bool found = false;
	DIR *dir;

	snprintf(name, sizeof(name), "/proc/%d/task", pid);
	dir = opendir(name);
	if (!dir)
		return errno == ENOENT ? -ESRCH : -errno;
	while ((entry = readdir(dir))) {
		snprintf(name, sizeof(name), "/proc/%d/task/%.16s/cgroup", pid,
			 entry->d_name);
		if (*entry->d_name == '.' ||
		    read_proc(name, text, sizeof(text)) <= 0 ||
		    !cgroup_from_text(text, other))
			continue;
		if (!found)
			strcpy(path, other);
		else
			keep_common(path, other);
		found = true;
	}
	closedir(dir);
	if (!found)
		return -EOPNOTSUPP;
	/* all processes' time is nobody's */
	return strcmp(path, "/") ? 0 : -ENODATA;
}

/* Where the controller is mounted, and which of its directories. */
static int find_mount(char mount[PATH_MAX], char root[PATH_MAX])
{
	char *text = malloc(FILE_BYTES), *save;
	int ret = -EOPNOTSUPP;

	if (!text)
		return -ENOMEM;
	if (read_proc("/proc/self/mountinfo", text, FILE_BYTES) <= 0) {
		free(text);
		return ret;
	}
	for (char *line = strtok_r(text, "\n", &save); line && ret;
	     line = strtok_r(NULL, "\n", &save)) {
		char *kind = strstr(line, " - cgroup ");
		char *options = kind ? skip_fields(kind + 1, 3) : NULL;
		char *place = skip_fields(line, 3);

		if (!options || !place || !has_word(options, "cpuacct") ||
		    sscanf(place, "%4095s %4095s", root, mount) != 2)
			continue;
		ret = 0;
	}
	free(text);
	return ret;
}

/* The text of the file that has a number of nanoseconds for each CPU. */
static int read_usage(pid_t pid, char text[FILE_BYTES])
{
	char mount[PATH_MAX], root[PATH_MAX], path[PATH_MAX];
	char file[3 * PATH_MAX];
	size_t length;
	int ret = find_mount(mount, root);

	if (!ret)
		ret = cgroup_of(pid, path);
	if (ret)
		return ret;
	length = strcmp(root, "/") ? strlen(root) : 0;
	if (strncmp(path, root, length))
		return -ENODATA;
	snprintf(file, sizeof(file), "%s%s/cpuacct.usage_percpu", mount,
		 path + length);
	ret = read_proc(file, text, FILE_BYTES);
	return ret < 0 ? ret : 0;
}

static int host_cpus(void)
{
	long cpus = sysconf(_SC_NPROCESSORS_CONF);

	return cpus < 1 ? 1 : cpus;
}

static int fill_usage(pid_t pid, struct kvmstats_param *params,
		      unsigned int nparams, unsigned int start_cpu,
		      unsigned int ncpus)
{
	char *text = malloc(FILE_BYTES), *p = text;
	unsigned int cpu = 0;
	int ret = text ? read_usage(pid, text) : -ENOMEM;

	while (!ret && cpu < start_cpu + ncpus) {
		char *end;
		uint64_t usage_ns = strtoull(p, &end, 10);

		if (end == p)
			break;
		if (cpu >= start_cpu)
			set_param(params + (size_t)(cpu - start_cpu) * nparams,
				  KVMSTATS_CPU_USAGE, usage_ns);
		p = end;
		cpu++;
	}
	free(text);
	return ret ? ret : 1;
}

/* The clocks of a process as the kernel numbers them (linux/posix-timers.h). */
enum { CLOCK_BOTH, CLOCK_USER, CLOCK_EXACT };

static int read_clock(pid_t pid, int which, uint64_t *ns)
{
	struct timespec time;

	if (clock_gettime((clockid_t)(~(unsigned int)pid << 3 | which), &time))
		return errno == EINVAL ? -ESRCH : -errno;
	*ns = time.tv_sec * 1000000000ull + time.tv_nsec;
	return 0;
}

/*
 * Of all threads and those that have ended. The sum is exact; how it is divided,
 * the kernel knows by ticks only, and does as here for /proc/PID/stat, which cannot
 * be read while the process is in an exec.
 */
static int fill_host_total(pid_t pid, struct kvmstats_param *params,
			   unsigned int nparams)
{
	uint64_t user_ns, both_ns, exact_ns, system_ns;
	int ret;

	if (pid <= 0 || pid > INT_MAX >> 3)	/* no clock has its number */
		return -ESRCH;
	ret = read_clock(pid, CLOCK_USER, &user_ns);
	if (!ret)
		ret = read_clock(pid, CLOCK_BOTH, &both_ns);
	if (!ret)
		ret = read_clock(pid, CLOCK_EXACT, &exact_ns);
	if (ret)
		return ret;
	system_ns = user_ns >= both_ns ? 0 : user_ns ?
		    exact_ns * ((double)(both_ns - user_ns) / both_ns) : exact_ns;
	set_param(&params[0], KVMSTATS_CPU_USER, exact_ns - system_ns);
	if (nparams > 1)
		set_param(&params[1], KVMSTATS_CPU_SYSTEM, system_ns);
	return nparams > 1 ? 2 : 1;
}

int host_cpu_stats(pid_t pid, struct kvmstats_param *params,
		   unsigned int nparams, int start_cpu, unsigned int ncpus)
{
	int cpus;

	if (!params && !ncpus)
		return start_cpu ? -EINVAL : host_cpus();
	if (!params)
		return ncpus > 1 ? -EINVAL : start_cpu < 0 ? 2 : 1;
	if (!ncpus)
		return -EINVAL;
	if (start_cpu < 0) {
		memset(params, 0, nparams * sizeof(*params));
		return fill_host_total(pid, params, nparams);
	}
	cpus = host_cpus();
	if (start_cpu >= cpus || ncpus > (unsigned int)(cpus - start_cpu))
		return -EINVAL;
	memset(params, 0, (size_t)nparams * ncpus * sizeof(*params));
	return fill_usage(pid, params, nparams, start_cpu, ncpus);
}
