// SPDX-License-Identifier: GPL-2.0-only
/*
 * qmp SOCKET COMMAND...
 *
 * Send JSON commands to QEMU's monitor, one after the other, and print each
 * answer on a line of its own. Exit status 1 if QEMU answers with an error.
 */
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define CONNECT_TRIES		200
#define CONNECT_PAUSE_US	(100 * 1000)

static int connect_to(const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd, tries;

	snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
	for (tries = 0; tries < CONNECT_TRIES; tries++) {
		fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
		if (!connect(fd, (struct sockaddr *)&address, sizeof(address)))
			return fd;
		close(fd);
		usleep(CONNECT_PAUSE_US);
	}
	perror(path);
	return -1;
}

static int begins(const char *line, const char *with)
{
	return !strncmp(line, with, strlen(with));
}

/* QEMU prints one object a line; events come in between. */
static int answer(FILE *from, int show)
{
	static char line[1 << 20];

	while (fgets(line, sizeof(line), from)) {
		if (begins(line, "{\"error\"")) {
			fputs(line, stderr);
			return -1;
		}
		if (begins(line, "{\"return\"")) {
			if (show)
				fputs(line, stdout);
			return 0;
		}
	}
	fprintf(stderr, "qmp: connection closed\n");
	return -1;
}

static int ask(FILE *from, int fd, const char *command, int show)
{
	if (dprintf(fd, "%s\n", command) < 0) {
		perror("qmp: write");
		return -1;
	}
	return answer(from, show);
}

int main(int argc, char **argv)
{
	FILE *from;
	int fd, i;

	if (argc < 3) {
		fprintf(stderr, "usage: qmp SOCKET COMMAND...\n");
		return 2;
	}
	fd = connect_to(argv[1]);
	from = fd < 0 ? NULL : fdopen(fd, "r");
	if (!from || ask(from, fd, "{\"execute\":\"qmp_capabilities\"}", 0))
		return 1;
	for (i = 2; i < argc; i++)
		if (ask(from, fd, argv[i], 1))
			return 1;
	return 0;
}
