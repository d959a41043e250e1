// SPDX-License-Identifier: GPL-2.0-only
/* asuser UID GID PROGRAM ...: run as that user, in no other group */
#include <errno.h>
#include <grp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static long parse_id(const char *text)
{
	char *end;
	long value = strtol(text, &end, 10);

	if (end == text || *end || value < 0) {
		fprintf(stderr, "asuser: \"%s\" is no number\n", text);
		exit(2);
	}
	return value;
}

int main(int argc, char **argv)
{
	if (argc < 4) {
		fputs("usage: asuser UID GID PROGRAM [ARGUMENT...]\n", stderr);
		return 2;
	}
	if (setgroups(0, NULL) < 0 || setgid(parse_id(argv[2])) < 0 ||
	    setuid(parse_id(argv[1])) < 0) {
		fprintf(stderr, "asuser: %s\n", strerror(errno));
		return 1;
	}
	execvp(argv[3], argv + 3);
	fprintf(stderr, "asuser: %s: %s\n", argv[3], strerror(errno));
	return 1;
}
