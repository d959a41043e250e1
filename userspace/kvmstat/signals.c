// SPDX-License-Identifier: GPL-2.0-only
/* Signals, the end of --duration, and whatever waits for a reader until one of them. */
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <unistd.h>

#include "vm.h"

#define GRACE_US	100000	/* for a last write that may wait */
#define REPEAT_US	50000	/* a first signal may come just before the write */

atomic_bool interrupted, hung_up;

static const int ends[] = { SIGINT, SIGTERM, SIGQUIT, SIGHUP };
static atomic_bool drawing;
static bool caught;
static uint64_t end_ns = UINT64_MAX;	/* monotonic: of --duration */

/*
 * A terminal can be stopped in the middle of a picture (^S): no signal gets the
 * terminal's library out of there. The guard restores the terminal then.
 */
static void on_signal(int number)
{
	(void)number;
	if (drawing)
		_exit(0);
	interrupted = true;
}

static void on_hangup(int number)
{
	(void)number;
	hung_up = true;
}

/*
 * Signals come in only while ppoll waits: no window in which one is lost. The
 * change of a window's size is among them, for those with a handler for it.
 */
void signals_catch(sigset_t *while_waiting, bool hangup_reopens)
{
	struct sigaction action = { .sa_handler = on_signal };
	sigset_t block;

	caught = true;
	sigemptyset(&block);
	for (size_t i = 0; i < sizeof(ends) / sizeof(*ends); i++)
		sigaddset(&block, ends[i]);
	sigaddset(&block, SIGWINCH);
	sigprocmask(SIG_BLOCK, &block, while_waiting);
	for (size_t i = 0; i < sizeof(ends) / sizeof(*ends); i++) {
		sigdelset(while_waiting, ends[i]);
		if (ends[i] == SIGHUP && hangup_reopens)
			action.sa_handler = on_hangup;
		sigaction(ends[i], &action, NULL);
	}
	sigdelset(while_waiting, SIGWINCH);
}

void signals_end_at(uint64_t at_ns)
{
	end_ns = at_ns;
}

/* A file takes what it is given; the reader of a pipe or a terminal may be slow. */
bool signals_may_wait(int fd)
{
	struct stat st;

	return fstat(fd, &st) < 0 || !S_ISREG(st.st_mode);
}

/* Why no more is to be waited for: -EINTR, -ETIME or 0. */
static int is_over(void)
{
	if (interrupted)
		return -EINTR;
	return clock_ns() >= end_ns ? -ETIME : 0;
}

/* For PIPE_BUF bytes, at least. 0, also for an error that the write will tell, or as is_over. */
static int await_room(const sigset_t *while_waiting, int fd)
{
	struct pollfd poll_fd = { .fd = fd, .events = POLLOUT };
	int over, ret;

	do {
		struct timespec left = { 0 };
		uint64_t now_ns = clock_ns();

		over = is_over();
		if (!over && end_ns > now_ns) {
			left.tv_sec = (end_ns - now_ns) / 1000000000;
			left.tv_nsec = (end_ns - now_ns) % 1000000000;
		}
		ret = ppoll(&poll_fd, 1, end_ns == UINT64_MAX && !over ? NULL : &left,
			    while_waiting);
		if (ret > 0 || (ret < 0 && errno != EINTR))
			return 0;
	} while (!over);
	return over;
}

static void on_alarm(int number)
{
	(void)number;
}

/*
 * A terminal has room as far as poll knows, and a write to it waits all the same; so does
 * one to a pipe that others fill. SIGALRM gets us out at the end of --duration, or soon
 * when nothing is to be waited for. True: it is set.
 */
static bool limit_write(bool is_last, sigset_t *mask)
{
	struct sigaction action = { .sa_handler = on_alarm };
	struct itimerval timer = { .it_interval.tv_usec = REPEAT_US };
	uint64_t now_ns = clock_ns(), us = GRACE_US;

	if (!is_last && end_ns == UINT64_MAX)
		return false;
	if (!is_last && end_ns > now_ns)
		us += (end_ns - now_ns) / 1000;
	timer.it_value.tv_sec = us / 1000000;
	timer.it_value.tv_usec = us % 1000000;
	sigaction(SIGALRM, &action, NULL);
	sigdelset(mask, SIGALRM);
	setitimer(ITIMER_REAL, &timer, NULL);
	return true;
}

/* As write. A signal that is not blocked in @while_waiting ends it. */
static ssize_t write_limited(const sigset_t *while_waiting, bool is_last, int fd,
			     const char *text, size_t length)
{
	const struct itimerval none = { 0 };
	sigset_t mask = *while_waiting, blocked;
	bool limited = limit_write(is_last, &mask);
	ssize_t written;
	int error;

	sigprocmask(SIG_SETMASK, &mask, &blocked);
	written = write(fd, text, length);
	error = errno;
	sigprocmask(SIG_SETMASK, &blocked, NULL);
	if (limited)
		setitimer(ITIMER_REAL, &none, NULL);
	errno = error;
	return written;
}

/*
 * All that a turn had to say, so that nothing is shown half. A reader that does not
 * read can hold us here: a signal that is not blocked in @while_waiting gets us out
 * (NULL for a file), and so does the end of --duration. What fits then is written all
 * the same. 0, -EINTR, -ETIME or -errno.
 */
int signals_write(const sigset_t *while_waiting, int fd, const char *text,
		  size_t length)
{
	int ret = 0, over = 0;

	while (length && !ret) {
		size_t part = while_waiting && length > PIPE_BUF ? PIPE_BUF : length;
		ssize_t written;

		if (while_waiting)
			ret = await_room(while_waiting, fd);
		if (ret)
			break;
		over = while_waiting ? is_over() : 0;
		written = while_waiting ?
			  write_limited(while_waiting, over, fd, text, part) :
			  write(fd, text, part);
		if (written < 0 && errno != EINTR)
			ret = -errno;
		else if (written < (ssize_t)part)
			ret = over;
		if (written > 0) {
			text += written;
			length -= written;
		}
	}
	return length ? ret : 0;
}

/*
 * A message, whether signals are caught or not: it waits for a reader
 * no longer than the command may. The reader can be that of the output, which has just
 * been given up.
 */
int signals_say(int fd, const char *text)
{
	sigset_t mask;

	sigprocmask(SIG_BLOCK, NULL, &mask);
	for (size_t i = 0; caught && i < sizeof(ends) / sizeof(*ends); i++)
		sigdelset(&mask, ends[i]);
	return signals_write(&mask, fd, text, strlen(text));
}

int signals_pause(const sigset_t *while_waiting, unsigned int ms)
{
	const struct timespec time = {
		.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000L,
	};

	ppoll(NULL, 0, &time, while_waiting);
	return is_over();
}

const char *write_error_text(int error)
{
	if (error == -ETIME)
		return "not read by the end of --duration; the last sample or a part is lost";
	return strerror(-error);
}

void signals_release(const sigset_t *while_waiting)
{
	sigprocmask(SIG_SETMASK, while_waiting, NULL);
}

void signals_restore(const sigset_t *while_waiting)
{
	for (size_t i = 0; i < sizeof(ends) / sizeof(*ends); i++)
		signal(ends[i], SIG_DFL);
	signals_release(while_waiting);
}

static sigset_t before_drawing;

void signals_begin_drawing(const sigset_t *while_waiting)
{
	sigset_t mask = *while_waiting;

	/* the size is looked at between two pictures */
	sigaddset(&mask, SIGWINCH);
	drawing = true;
	sigprocmask(SIG_SETMASK, &mask, &before_drawing);
}

void signals_end_drawing(void)
{
	sigprocmask(SIG_SETMASK, &before_drawing, NULL);
	drawing = false;
}

int output_open(struct output *output, int fd, const char *name)
{
	output->fd = fd;
	output->name = name;
	output->may_wait = signals_may_wait(fd);
	output->out = open_memstream(&output->text, &output->length);
	return output->out ? 0 : -ENOMEM;
}

int output_flush(struct output *output, const sigset_t *while_waiting)
{
	int ret;

	if (fflush(output->out) == EOF)
		return -ENOMEM;
	ret = signals_write(output->may_wait ? while_waiting : NULL, output->fd,
			    output->text, ftello(output->out));
	rewind(output->out);
	output->failed = ret < 0;
	return ret;
}

const char *output_what(const struct output *output, const char *command)
{
	return output->failed ? output->name : command;
}

void output_close(struct output *output)
{
	if (output->out)
		fclose(output->out);
	free(output->text);
	output->out = NULL;
	output->text = NULL;
}
