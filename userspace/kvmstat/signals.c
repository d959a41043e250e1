// SPDX-License-Identifier: GPL-2.0-only
/* Signals, the end of --duration, and whatever waits for a reader until one of them. */
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vm.h"

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

/*
 * All that a turn had to say, so that nothing is shown half. A reader that does not
 * read can hold us here: a signal that is not blocked in @while_waiting gets us out
 * (NULL for a file), and so does the end of --duration. What fits then is written all
 * the same. Where others write, too, or on a terminal, the write itself may wait:
 * signals come in there as well. 0, -EINTR, -ETIME or -errno.
 */
int signals_write(const sigset_t *while_waiting, int fd, const char *text,
		  size_t length)
{
	sigset_t blocked;
	int ret = 0;

	while (length && !ret) {
		size_t part = while_waiting && length > PIPE_BUF ? PIPE_BUF : length;
		ssize_t written;

		if (while_waiting) {
			ret = await_room(while_waiting, fd);
			if (ret)
				break;
			sigprocmask(SIG_SETMASK, while_waiting, &blocked);
		}
		written = write(fd, text, part);
		if (written < 0)
			ret = errno == EINTR ? 0 : -errno;
		if (while_waiting)
			sigprocmask(SIG_SETMASK, &blocked, NULL);
		if (written > 0) {
			text += written;
			length -= written;
		}
	}
	return ret;
}

/*
 * A message on standard error, whether signals are caught or not: it waits for a reader
 * no longer than the command may. The reader can be that of the output, which has just
 * been given up.
 */
void signals_say(const char *text)
{
	sigset_t mask;

	sigprocmask(SIG_BLOCK, NULL, &mask);
	for (size_t i = 0; caught && i < sizeof(ends) / sizeof(*ends); i++)
		sigdelset(&mask, ends[i]);
	signals_write(&mask, STDERR_FILENO, text, strlen(text));
}

bool signals_would_wait(int fd)
{
	struct pollfd poll_fd = { .fd = fd, .events = POLLOUT };

	return is_over() && !poll(&poll_fd, 1, 0);
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
