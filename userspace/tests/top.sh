# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash
# A terminal for programs that draw on one. Sourced after tap.sh. Nothing here
# depends on how fast the machine is: what is waited for is a text.

: "${tap_dir:?}"
limit_s=300

terminal()
{
	tmux -S "$tap_dir/terminal" -f /dev/null "$@"
}

# A shell without settings of the user's.
terminal_begin()
{
	env -i PATH="$PATH" LANG=C.UTF-8 HOME="$tap_dir" \
		ASAN_OPTIONS="${ASAN_OPTIONS-}:handle_segv=0" \
		tmux -S "$tap_dir/terminal" -f /dev/null new-session -d \
		-x "$1" -y "$2" "exec bash --norc --noprofile"
	terminal set-option -g status off >/dev/null
	wait_for '^bash.*[#$] *$'
}

terminal_end()
{
	terminal kill-server 2>/dev/null || :
	while terminal list-sessions >/dev/null 2>&1; do
		sleep 0.05
	done
	rm -f "$tap_dir/terminal"
}

terminal_works()
{
	command -v tmux >/dev/null || { echo "# no tmux" >&2; return 1; }
}

screen()
{
	terminal capture-pane -p
}

shows()
{
	screen | grep -qE -- "$1"
}

wait_for()
{
	local end=$((SECONDS + limit_s))

	until shows "$1"; do
		if [ $SECONDS -ge $end ]; then
			echo "not seen: $1"
			screen
			return 1
		fi
		sleep 0.03
	done
}

wait_until_not()
{
	local end=$((SECONDS + limit_s))

	while shows "$1"; do
		[ $SECONDS -lt $end ] || { screen; return 1; }
		sleep 0.03
	done
}

send()
{
	terminal send-keys "$@"
}

send_line()
{
	terminal send-keys -l "$1" && terminal send-keys Enter
}

resize()
{
	terminal resize-window -x "$1" -y "$2"
}

# First and last line are where they belong in a window of so many rows: the
# program has seen its size, not only the terminal.
wait_for_size()
{
	local end=$((SECONDS + limit_s))

	until [ "$(screen | sed -n "1p;${1}p" | cut -c 1-7 | tr '\n' :)" = \
		"kvm sta:h: help:" ]; do
		[ $SECONDS -lt $end ] || { screen; return 1; }
		sleep 0.03
	done
}

# 1 while a program has the screen for itself
alternate()
{
	terminal display-message -p '#{alternate_on}'
}

# The foreground process of the terminal, not its child, the guard, whose number
# may be the lower one.
top_pid()
{
	local tty

	tty=$(terminal display-message -p '#{pane_tty}')
	ps -o pid=,ppid=,stat=,args= -t "${tty#/dev/}" |
		awk '$3 ~ /\+/ && $4 ~ /kvmstat/ { parent[$1] = $2 }
		END { for (pid in parent)
			if (!(parent[pid] in parent)) print pid }'
}

# ended_well STATUS: the program has gone, and the terminal is as it was
ended_well()
{
	local end=$((SECONDS + limit_s))

	until [ "$(alternate)" = 0 ]; do
		[ $SECONDS -lt $end ] || { echo "alternate screen"; return 1; }
		sleep 0.03
	done
	send_line "echo \"status \$?\"; stty -a | grep -oE '.(echo|icanon|isig) ' | tr -d '\\n'; echo end"
	wait_for "^status $1\$" && wait_for '^ (isig|icanon|echo) .*end$' ||
		return 1
	if shows '-(echo|icanon|isig) ' ||
		[ "$(terminal display-message -p '#{cursor_flag}')" = 0 ]; then
		echo "modes or cursor are not as before"
		screen
		return 1
	fi
	send_line "clear" && wait_until_not '^status'
}
