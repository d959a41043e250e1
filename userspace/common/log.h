/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Messages of the daemons on standard error, a line each, in one write(2): other
 * processes may write to the same file. Where that is the journal, each line says
 * its priority. Any thread.
 */
#ifndef COMMON_LOG_H
#define COMMON_LOG_H

#include <pthread.h>
#include <stdint.h>

/* The numbers of syslog(3), as the journal has them. */
enum log_level {
	LOG_LEVEL_NONE = -1,	/* no such level */
	LOG_LEVEL_ERROR = 3,
	LOG_LEVEL_WARNING = 4,
	LOG_LEVEL_INFO = 6,
	LOG_LEVEL_DEBUG = 7
};

/* What a caller in a loop may print: @lines in a minute. */
struct log_limit {
	unsigned int lines;
	pthread_mutex_t lock;
	uint64_t since_ns;	/* monotonic; 0: never used */
	unsigned int printed, suppressed;
};

#define LOG_LIMIT(lines)	{ lines, .lock = PTHREAD_MUTEX_INITIALIZER }

/* What lines begin with, and the least important level that is printed. */
void log_open(const char *program, enum log_level level);
void log_set_level(enum log_level level);
/* "error", "warning", "info", "debug", or LOG_LEVEL_NONE */
enum log_level log_level_of(const char *name);

#define __log_printf(format, first) \
	__attribute__((__format__(__printf__, format, first)))

void log_error(const char *format, ...) __log_printf(1, 2);
void log_warning(const char *format, ...) __log_printf(1, 2);
void log_info(const char *format, ...) __log_printf(1, 2);
void log_debug(const char *format, ...) __log_printf(1, 2);
/* The same within @limit, which then says how much it left out. */
void log_limited(struct log_limit *limit, enum log_level level,
		 const char *format, ...) __log_printf(3, 4);

#endif /* COMMON_LOG_H */
