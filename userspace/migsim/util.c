// SPDX-License-Identifier: GPL-2.0-only
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "sim.h"

static void complain(const char *format, va_list args)
{
	fflush(stdout);
	fputs("migsim: ", stderr);
	vfprintf(stderr, format, args);
	fputc('\n', stderr);
}

void die(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	complain(format, args);
	va_end(args);
	exit(EXIT_FAILED);
}

void die_unavailable(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	complain(format, args);
	va_end(args);
	exit(EXIT_UNAVAILABLE);
}

void *allocate(size_t bytes)
{
	void *memory = calloc(1, bytes);

	if (!memory)
		die("%zu bytes: %s", bytes, strerror(ENOMEM));
	return memory;
}

uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * NS_PER_S + now.tv_nsec;
}

static struct timespec timespec_of(uint64_t ns)
{
	return (struct timespec){
		.tv_sec = ns / NS_PER_S, .tv_nsec = ns % NS_PER_S
	};
}

void sleep_ns(uint64_t ns)
{
	struct timespec time = timespec_of(ns);

	while (nanosleep(&time, &time) < 0 && errno == EINTR)
		;
}

void cond_init(pthread_cond_t *cond)
{
	pthread_condattr_t attributes;

	pthread_condattr_init(&attributes);
	pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
	pthread_cond_init(cond, &attributes);
	pthread_condattr_destroy(&attributes);
}

void cond_wait_until(pthread_cond_t *cond, pthread_mutex_t *lock,
		     uint64_t until_ns)
{
	struct timespec until = timespec_of(until_ns);

	pthread_cond_timedwait(cond, lock, &until);
}
