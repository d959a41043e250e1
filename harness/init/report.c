// SPDX-License-Identifier: GPL-2.0-only
/*
 * Two channels to the host. A virtio port has one opener at a time, and init
 * keeps both open from the start, so no test can write to them. A machine
 * without virtio has serial ports for it, which only keep out those that do not
 * look for them.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include "init.h"

#define OPEN_TRIES	500
#define OPEN_PAUSE_US	(20 * 1000)

static int verdict_fd = -1;
static int output_fd = -1;
static char nonce[64];

/* Bytes are to arrive as they are, without a carriage return in each line */
static void set_raw(int fd)
{
	struct termios termios;

	if (tcgetattr(fd, &termios))
		return;
	cfmakeraw(&termios);
	tcsetattr(fd, TCSANOW, &termios);
	ioctl(fd, TIOCEXCL);
}

/* The ports appear once the driver has talked to the host */
static int open_port(const char *path)
{
	int fd, tries;

	for (tries = 0; tries < OPEN_TRIES; tries++) {
		fd = open(path, O_WRONLY | O_NOCTTY | O_CLOEXEC);
		if (fd >= 0) {
			set_raw(fd);
			return fd;
		}
		usleep(OPEN_PAUSE_US);
	}
	fprintf(stderr, "init: %s: %s\n", path, strerror(errno));
	return -1;
}

int report_open(const struct params *params)
{
	snprintf(nonce, sizeof(nonce), "%s", params->nonce);
	verdict_fd = open_port(params->verdict_path);
	output_fd = open_port(params->output_path);
	return verdict_fd < 0 || output_fd < 0 ? -1 : 0;
}

static void write_all(int fd, const char *data, size_t len)
{
	while (len) {
		ssize_t done = write(fd, data, len);

		if (done < 0 && errno == EINTR)
			continue;
		if (done <= 0)
			return;
		data += done;
		len -= done;
	}
}

/* One write a line, so that the host never sees half of one */
void report_line(const char *format, ...)
{
	char line[512];
	va_list args;
	int head, len;

	head = snprintf(line, sizeof(line), "%s ", nonce);
	va_start(args, format);
	len = vsnprintf(line + head, sizeof(line) - head - 1, format, args);
	va_end(args);
	len += head;
	if (len > (int)sizeof(line) - 2)
		len = sizeof(line) - 2;
	line[len++] = '\n';
	write_all(verdict_fd, line, len);
}

/* A serial port may have more to send than was sent when the machine ends */
void report_drain(void)
{
	tcdrain(verdict_fd);
	tcdrain(output_fd);
	tcdrain(STDOUT_FILENO);
}

void report_output(const char *name, const char *line)
{
	static char out[LINE_SIZE + 256];
	int len = snprintf(out, sizeof(out), "%s\t%s\n", name, line);

	if (len >= (int)sizeof(out))
		len = sizeof(out) - 1;
	write_all(output_fd, out, len);
	write_all(STDOUT_FILENO, line, strlen(line));
	write_all(STDOUT_FILENO, "\n", 1);
}
