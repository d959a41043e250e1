// SPDX-License-Identifier: GPL-2.0-only
#ifdef HAVE_NCURSESW

#include <curses.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <term.h>
#include <termios.h>
#include <unistd.h>

#include "guard.h"

static pid_t guard_pid;
static TERMINAL *looked_at;

const char *guard_check_terminal(void)
{
	int error;

	if (setupterm(NULL, STDOUT_FILENO, &error) != OK)
		return "the type of this terminal (TERM) is not known; use top --batch";
	looked_at = cur_term;
	if (!cursor_address || !clear_screen)
		return "this terminal (TERM) cannot place its cursor; use top --batch";
	return NULL;
}

/* In one piece: the shell is writing, too, now that it is its turn again. */
static struct {
	char bytes[256];
	size_t count;
} output;

static int put_byte(int byte)
{
	if (output.count == sizeof(output.bytes))
		return EOF;
	output.bytes[output.count++] = byte;
	return byte;
}

static void put_string(const char *string)
{
	if (string)
		tputs(string, 1, put_byte);
}

/* What an orderly end does: attributes, cursor, the screen from before. */
static bool restore(const struct termios *modes)
{
	tcsetattr(STDOUT_FILENO, TCSADRAIN, modes);
	put_string(exit_attribute_mode);
	put_string(cursor_normal);
	put_string(keypad_local);
	put_string(exit_ca_mode);
	return write(STDOUT_FILENO, output.bytes, output.count) ==
	       (ssize_t)output.count;
}

/*
 * Nothing but the terminal may stay open here: a statistics descriptor would
 * keep a dead VM's memory. The group of its own is for signals that the
 * terminal sends to all of a group.
 */
static void watch(int pipe_fd, const struct termios *modes)
{
	sigset_t all;
	char byte;

	setpgid(0, 0);
	sigfillset(&all);
	sigprocmask(SIG_BLOCK, &all, NULL);
	dup2(pipe_fd, STDIN_FILENO);
	syscall(SYS_close_range, 3u, ~0u, 0u);
	if (read(STDIN_FILENO, &byte, 1) == 0 && !restore(modes))
		_exit(1);
	_exit(0);
}

int guard_start(void)
{
	struct termios modes;
	int fds[2];

	if (tcgetattr(STDOUT_FILENO, &modes) < 0 || pipe2(fds, O_CLOEXEC) < 0)
		return -1;
	guard_pid = fork();
	if (!guard_pid)
		watch(fds[0], &modes);
	close(fds[0]);
	if (guard_pid > 0)
		return fds[1];
	close(fds[1]);
	return -1;
}

void guard_stop(int guard_fd)
{
	ssize_t written;

	del_curterm(looked_at);
	if (guard_fd < 0)
		return;
	written = write(guard_fd, "", 1);
	close(guard_fd);
	if (written == 1)
		waitpid(guard_pid, NULL, 0);
}

#else

/* Not used; a file must not be empty. */
extern int guard_is_absent;

#endif
