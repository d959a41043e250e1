// SPDX-License-Identifier: GPL-2.0-only
/* The kernel command line is the only input that a boot needs. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "init.h"

static void take(char *to, size_t size, const char *word, const char *key)
{
	size_t len = strlen(key);

	if (!strncmp(word, key, len))
		snprintf(to, size, "%s", word + len);
}

static void take_word(struct params *params, const char *word)
{
	take(params->nonce, sizeof(params->nonce), word, "kvmstats.nonce=");
	take(params->verdict_path, sizeof(params->verdict_path), word,
	     "kvmstats.verdict=");
	take(params->output_path, sizeof(params->output_path), word,
	     "kvmstats.output=");
	if (!strcmp(word, "kvmstats.root=host"))
		params->host_root = true;
	if (!strcmp(word, "kvmstats.end=poweroff"))
		params->power_off = true;
}

void params_read(struct params *params)
{
	static char line[4096];
	char *word, *rest = line;
	int fd = open("/proc/cmdline", O_RDONLY | O_CLOEXEC);
	ssize_t len = read(fd, line, sizeof(line) - 1);

	close(fd);
	if (len > 0)
		line[len] = '\0';
	memset(params, 0, sizeof(*params));
	strcpy(params->verdict_path, "/dev/vport0p1");
	strcpy(params->output_path, "/dev/vport0p2");
	while ((word = strsep(&rest, "\n ")))
		take_word(params, word);
}
