// SPDX-License-Identifier: GPL-2.0-only
/* The terminal of top. The only file that knows ncurses. */
#include "view.h"

#ifdef HAVE_NCURSESW

#include <curses.h>
#include <poll.h>
#include <termios.h>
#include <unistd.h>

#include "guard.h"

#define TOP_LINES	2	/* title and heading */
#define ESCAPE_DELAY_MS	25

static SCREEN *screen;
static int guard_fd = -1;

const char *screen_open(void)
{
	const char *problem;

	if (!isatty(STDIN_FILENO) || !isatty(STDOUT_FILENO))
		return "top needs a terminal; without one, use top --batch";
	problem = guard_check_terminal();
	if (problem)
		return problem;
	guard_fd = guard_start();
	screen = newterm(NULL, stdout, stdin);
	if (!screen) {
		guard_stop(guard_fd);
		return "the terminal cannot be set up";
	}
	set_escdelay(ESCAPE_DELAY_MS);
	cbreak();
	noecho();
	nonl();
	nodelay(stdscr, TRUE);
	keypad(stdscr, TRUE);
	curs_set(0);
	return NULL;
}

/* Stopped (^S) it would take nothing, and we could not end: no ^S any more. */
static void resume_output(void)
{
	struct termios modes;

	if (tcgetattr(STDOUT_FILENO, &modes))
		return;
	modes.c_iflag &= ~IXON;
	tcsetattr(STDOUT_FILENO, TCSANOW, &modes);
}

void screen_close(void)
{
	if (!screen)
		return;
	resume_output();
	endwin();
	delscreen(screen);
	screen = NULL;
	guard_stop(guard_fd);
}

int screen_key(void)
{
	static const struct { int code; enum screen_key key; } keys[] = {
		{ ERR, SCREEN_NONE }, { KEY_UP, SCREEN_UP },
		{ KEY_DOWN, SCREEN_DOWN }, { KEY_PPAGE, SCREEN_PAGE_UP },
		{ KEY_NPAGE, SCREEN_PAGE_DOWN }, { KEY_HOME, SCREEN_HOME },
		{ KEY_END, SCREEN_END }, { KEY_BACKSPACE, SCREEN_ERASE },
		{ 0x7f, SCREEN_ERASE }, { '\b', SCREEN_ERASE }, { '\r', SCREEN_ENTER },
		{ '\n', SCREEN_ENTER }, { KEY_ENTER, SCREEN_ENTER },
		{ 0x1b, SCREEN_ESCAPE }, { KEY_RESIZE, SCREEN_RESIZED },
	};
	int code = getch();

	for (size_t i = 0; i < sizeof(keys) / sizeof(*keys); i++)
		if (keys[i].code == code)
			return keys[i].key;
	return code > 0xff ? SCREEN_OTHER : code;
}

size_t screen_room(void)
{
	int room = LINES - TOP_LINES - 1;

	return room > 0 ? room : 0;
}

int screen_columns(void)
{
	return COLS;
}

/* Bytes of @line that fit: characters are counted, none is cut. */
static int fitting_bytes(const char *line)
{
	int columns = 0, bytes = 0;

	for (; line[bytes]; bytes++) {
		columns += (line[bytes] & 0xc0) != 0x80;
		if (columns > COLS)
			break;
	}
	return bytes;
}

static void put_line(int y, const char *line, int attributes)
{
	if (y >= LINES)
		return;
	move(y, 0);
	clrtoeol();
	attrset(attributes);
	addnstr(line, fitting_bytes(line));
	attrset(A_NORMAL);
}

void screen_draw(struct screen_lines *lines, const sigset_t *while_waiting)
{
	struct pollfd terminal = { .fd = STDOUT_FILENO, .events = POLLOUT };
	size_t room = screen_room();
	char line[LINE_BYTES];

	/* stopped (^S): the next picture will do */
	if (poll(&terminal, 1, 0) == 0)
		return;
	if (lines->first + room > lines->count)
		lines->first = lines->count > room ? lines->count - room : 0;
	put_line(0, lines->title, A_BOLD);
	put_line(1, lines->heading, A_STANDOUT);
	for (size_t i = 0; i < room; i++) {
		line[0] = 0;
		if (lines->first + i < lines->count)
			lines->line(lines->context, lines->first + i, line);
		put_line(TOP_LINES + i, line, A_NORMAL);
	}
	if (LINES > TOP_LINES)
		put_line(LINES - 1, lines->status, A_BOLD);
	curs_set(lines->prompting);
	signals_begin_drawing(while_waiting);
	refresh();
	signals_end_drawing();
}

#else

const char *screen_open(void)
{
	return "this kvmstat was built without ncurses; use top --batch";
}

void screen_close(void)
{
}

int screen_key(void)
{
	return SCREEN_NONE;
}

size_t screen_room(void)
{
	return 0;
}

int screen_columns(void)
{
	return 0;
}

void screen_draw(struct screen_lines *lines, const sigset_t *while_waiting)
{
	(void)lines;
	(void)while_waiting;
}

#endif
