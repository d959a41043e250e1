// SPDX-License-Identifier: GPL-2.0-only
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "kvmstat.h"

int proc_all(int (*found)(void *context, long pid), void *context)
{
	DIR *dir = opendir("/proc");
	struct dirent *entry;
	unsigned long pid;
	int ret = 0;

	if (!dir)
		return -errno;
	while (!ret && (entry = readdir(dir)))
		if (parse_number(entry->d_name, INT_MAX, &pid))
			ret = found(context, pid);
	closedir(dir);
	return ret;
}

long proc_owner(long pid, long *gid)
{
	struct stat st;
	char path[64];

	snprintf(path, sizeof(path), "/proc/%ld", pid);
	if (stat(path, &st) < 0)
		return -1;
	if (gid)
		*gid = st.st_gid;
	return st.st_uid;
}

/* The length that was read; a NUL is put behind it. */
static size_t read_proc(long pid, const char *name, char *text,
			size_t text_bytes)
{
	char path[64];
	size_t length = 0;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%ld/%s", pid, name);
	file = fopen(path, "re");
	if (file) {
		length = fread(text, 1, text_bytes - 1, file);
		fclose(file);
	}
	text[length] = 0;
	return length;
}

/* The command's name is the process's own choice: nothing of it may act. */
void proc_command(long pid, char *text, size_t text_bytes)
{
	size_t length = read_proc(pid, "comm", text, text_bytes);

	if (length && text[length - 1] == '\n')
		text[length - 1] = 0;
	kvmstats_text_clean(text);
}

void proc_guest(long pid, char *text, size_t text_bytes)
{
	char uuid[KVMSTATS_NAME_MAX + 1];

	kvmstats_process_names(pid, text, uuid);
	if (!*text)
		proc_command(pid, text, text_bytes);
}
