// SPDX-License-Identifier: GPL-2.0-only
#include <errno.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "log.h"

#define LINE_BYTES	1024
#define LIMIT_NS	60000000000ull

static const char *program = "";
static bool to_journal;
static _Atomic enum log_level threshold = LOG_LEVEL_INFO;

/* systemd says which file is the journal; it may have been redirected since. */
static bool is_journal(void)
{
	const char *text = getenv("JOURNAL_STREAM");
	unsigned long long dev, ino;
	struct stat st;

	return text && sscanf(text, "%llu:%llu", &dev, &ino) == 2 &&
	       !fstat(STDERR_FILENO, &st) && st.st_dev == dev && st.st_ino == ino;
}

void log_open(const char *name, enum log_level level)
{
	program = name;
	to_journal = is_journal();
	threshold = level;
}

void log_set_level(enum log_level level)
{
	threshold = level;
}

enum log_level log_level_of(const char *name)
{
	static const struct {
		const char *name;
		enum log_level level;
	} levels[] = {
		{ "error", LOG_LEVEL_ERROR }, { "warning", LOG_LEVEL_WARNING },
		{ "info", LOG_LEVEL_INFO }, { "debug", LOG_LEVEL_DEBUG },
	};

	for (size_t i = 0; i < sizeof(levels) / sizeof(*levels); i++)
		if (!strcmp(levels[i].name, name))
			return levels[i].level;
	return LOG_LEVEL_NONE;
}

static void write_line(enum log_level level, const char *format, va_list args)
{
	char line[LINE_BYTES];
	size_t length, room;
	int error = errno;

	if (level > threshold)
		return;
	length = to_journal ? snprintf(line, sizeof(line), "<%d>", level) :
		 snprintf(line, sizeof(line), "%s: ", program);
	errno = error;
	vsnprintf(line + length, sizeof(line) - length - 1, format, args);
	length = strlen(line);
	line[length++] = '\n';
	for (room = 0; room < length;) {
		ssize_t written = write(STDERR_FILENO, line + room, length - room);

		if (written < 0 && errno != EINTR)
			break;	/* nobody to tell */
		room += written > 0 ? written : 0;
	}
	errno = error;
}

static void __log_printf(2, 3)
write_at(enum log_level level, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	write_line(level, format, args);
	va_end(args);
}

#define DEFINE_LOG(name, level) \
void name(const char *format, ...) \
{ \
	va_list args; \
\
	va_start(args, format); \
	write_line(level, format, args); \
	va_end(args); \
}

DEFINE_LOG(log_error, LOG_LEVEL_ERROR)
DEFINE_LOG(log_warning, LOG_LEVEL_WARNING)
DEFINE_LOG(log_info, LOG_LEVEL_INFO)
DEFINE_LOG(log_debug, LOG_LEVEL_DEBUG)

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000000000ull + now.tv_nsec;
}

void log_limited(struct log_limit *limit, enum log_level level,
		 const char *format, ...)
{
	uint64_t now = now_ns();
	unsigned int suppressed = 0;
	bool print;
	va_list args;

	if (level > threshold)
		return;
	pthread_mutex_lock(&limit->lock);
	if (!limit->since_ns || now - limit->since_ns >= LIMIT_NS) {
		suppressed = limit->suppressed;
		limit->since_ns = now;
		limit->printed = 0;
		limit->suppressed = 0;
	}
	print = limit->printed < limit->lines;
	limit->printed += print;
	limit->suppressed += !print;
	pthread_mutex_unlock(&limit->lock);
	if (suppressed)
		write_at(level, "%u similar messages were left out",
			 suppressed);
	if (!print)
		return;
	va_start(args, format);
	write_line(level, format, args);
	va_end(args);
}
