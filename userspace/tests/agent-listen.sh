#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# shellcheck disable=SC2119 # start_agent needs no arguments
# usage: agent-listen.sh BUILD-DIR - where kvmstatd listens, and what of that it removes
# again

here=$(dirname "$0")
build=$1
agent=''
holder=''
. "$here/tap.sh"
. "$here/agent-lib.sh"

cannot_listen()
{
	status_is 1 "$build/kvmstatd/kvmstatd" --socket "$tap_dir/s" \
		--listen 192.0.2.1:1 && grep -q '192.0.2.1:1: ' "$tap_dir/out" &&
		[ ! -e "$tap_dir/s" ] || return 1
	status_is 1 "$build/kvmstatd/kvmstatd" --socket "$tap_dir/no/s" &&
		grep -q "no/s: the directory $tap_dir/no does not exist: create it" "$tap_dir/out" &&
		status_is 1 "$build/kvmstatd/kvmstatd" --socket "$tap_dir/s" \
			--listen "unix:$tap_dir/no/h" && [ ! -e "$tap_dir/s" ] &&
		grep -q "no/h: the directory $tap_dir/no does not exist: create it" "$tap_dir/out" &&
		(cd "$tap_dir" && mkdir gone && cd gone && rmdir "$tap_dir/gone" &&
			status_is 1 "$build/kvmstatd/kvmstatd" --socket s) &&
		grep -q -- '--socket s: the directory \. does not exist' "$tap_dir/out" || return 1
	status_is 1 "$build/kvmstatd/kvmstatd" --socket "$tap_dir/s" \
		--listen 127.0.0.1:99999 && [ ! -e "$tap_dir/s" ] &&
		grep -q 'port must be a number from 0 to 65535, not "99999"' "$tap_dir/out" || return 1
	status_is 1 "$build/kvmstatd/kvmstatd" --socket "$tap_dir/s" --listen ::1:0 &&
		grep -q 'an IPv6 address must be in brackets' "$tap_dir/out"
}

# listens_at ADDRESS URL...: an agent there answers at all of these
listens_at()
{
	local address=$1 port at

	shift
	: >"$tap_dir/other.err"
	"$build/kvmstatd/kvmstatd" --socket "$tap_dir/other" --listen "$address" \
		2>"$tap_dir/other.err" &
	agent=$!
	wait_until grep -q ' serving ' "$tap_dir/other.err" || return 1
	port=$(sed -n 's|.* serving http://.*:\([0-9]*\)/metrics|\1|p' "$tap_dir/other.err" | head -n 1)
	for at; do
		[ "$(get "http://$at:$port/healthz")" = ok ] || return 1
	done
	kill "$agent"
	wait "$agent" && [ ! -e "$tap_dir/other" ]
}

# A name with two addresses, for which only root can arrange.
all_of_a_name()
{
	[ "$(id -u)" = 0 ] && [ -n "$1" ] || return 0
	printf '127.0.0.1 both\n::1 both\n' >"$tap_dir/hosts"
	printf '#!/bin/sh\nmount --bind %s /etc/hosts && exec %s "$@"\n' \
		"$tap_dir/hosts" "$build/kvmstatd/kvmstatd" >"$tap_dir/with-hosts"
	chmod +x "$tap_dir/with-hosts"
	: >"$tap_dir/other.err"
	unshare -m "$tap_dir/with-hosts" --socket "$tap_dir/other" \
		--listen both:0 2>"$tap_dir/other.err" &
	agent=$!
	wait_until grep -q ' serving .*::1' "$tap_dir/other.err" &&
		grep -q ' serving http://127' "$tap_dir/other.err" || return 1
	kill "$agent"
	wait "$agent"
}

# What has no IPv6 here is not asked there.
addresses()
{
	local six=

	! grep -qs ' lo$' /proc/net/if_inet6 || six='[::1]'
	listens_at localhost:0 127.0.0.1 && all_of_a_name "$six" &&
		listens_at 0 127.0.0.1 ${six:+"$six"} && listens_at :0 127.0.0.1 ${six:+"$six"} &&
		listens_at '*:0' 127.0.0.1 ${six:+"$six"} &&
		listens_at '127.0.0.1:0' 127.0.0.1 &&
		{ [ -z "$six" ] || listens_at '[::1]:0' '[::1]'; } &&
		by_path
}

by_path()
{
	: >"$tap_dir/other.err"
	"$build/kvmstatd/kvmstatd" --socket "$tap_dir/other" \
		--listen "unix:$tap_dir/http" 2>"$tap_dir/other.err" &
	agent=$!
	wait_until grep -q " serving HTTP at $tap_dir/http" "$tap_dir/other.err" &&
		[ "$(get --unix-socket "$tap_dir/http" http://x/healthz)" = ok ] || return 1
	kill "$agent"
	wait "$agent" && [ ! -e "$tap_dir/http" ]
}

# Only what it bound, and still is what it bound, is removed.
others_files()
{
	local first

	: >"$tap_dir/other.err"
	write_config "socket = $tap_dir/one"
	"$build/kvmstatd/kvmstatd" --config "$tap_dir/config" --listen 127.0.0.1:0 \
		2>"$tap_dir/other.err" &
	agent=$!
	wait_until grep -q ' serving ' "$tap_dir/other.err" || return 1
	echo precious >"$tap_dir/precious"
	write_config "socket = $tap_dir/precious"
	kill -HUP "$agent"
	wait_until grep -q 'socket: the change takes effect only when kvmstatd is restarted' \
		"$tap_dir/other.err" || return 1
	# another agent takes over by hand
	rm "$tap_dir/one"
	first=$agent
	"$build/kvmstatd/kvmstatd" --socket "$tap_dir/one" --listen 127.0.0.1:0 \
		2>"$tap_dir/second.err" &
	agent=$!
	wait_until grep -q ' serving ' "$tap_dir/second.err" || return 1
	kill "$first"
	wait "$first" && [ -S "$tap_dir/one" ] && [ -f "$tap_dir/precious" ] || return 1
	# and does not give it away
	status_is 1 "$build/kvmstatd/kvmstatd" --socket "$tap_dir/one" \
		--listen 127.0.0.1:0 && [ -S "$tap_dir/one" ] || return 1
	kill -9 "$agent"
	wait "$agent"
	# a stale one is replaced, by one of several that start at once
	for i in 1 2 3 4; do
		"$build/kvmstatd/kvmstatd" --socket "$tap_dir/one" --listen 127.0.0.1:0 \
			2>"$tap_dir/many.$i" &
		echo $! >"$tap_dir/pid.$i"
	done
	agent=$(cat "$tap_dir/pid.1")
	sleep 1
	grep -l ' serving ' "$tap_dir"/many.? >"$tap_dir/serving"
	for i in 1 2 3 4; do
		kill "$(cat "$tap_dir/pid.$i")" 2>/dev/null
		wait "$(cat "$tap_dir/pid.$i")"
	done
	cat "$tap_dir"/many.?
	[ "$(wc -l <"$tap_dir/serving")" = 1 ] && [ ! -e "$tap_dir/one" ]
} 2>/dev/null

# serves_at PATH: an agent can listen there, and ends
serves_at()
{
	: >"$tap_dir/other.err"
	"$build/kvmstatd/kvmstatd" --socket "$1" --listen 127.0.0.1:0 \
		2>"$tap_dir/other.err" &
	agent=$!
	if ! wait_until grep -q ' serving ' "$tap_dir/other.err"; then
		cat "$tap_dir/other.err"
		return 1
	fi
	kill "$agent"
	wait "$agent" && [ ! -e "$1" ] && [ ! -e "$1.lock" ]
}

# A socket whose agent was killed
leave_stale()
{
	: >"$tap_dir/other.err"
	"$build/kvmstatd/kvmstatd" --socket "$1" --listen 127.0.0.1:0 \
		2>"$tap_dir/other.err" &
	agent=$!
	wait_until grep -q ' serving ' "$tap_dir/other.err" || return 1
	kill -9 "$agent"
	wait "$agent"
	[ -S "$1" ]
} 2>/dev/null

# holds_lock USER FILE: until holder is ended
holds_lock()
{
	"$build/demo/asuser" "$1" "$1" flock --no-fork "$2" sleep 3600 &
	holder=$!
	until grep -q " $holder .*:$(stat -Lc %i "$2") " /proc/locks; do
		kill -0 "$holder" || return 1
		sleep 0.05
	done
}

end_holder()
{
	kill -9 "$holder"
	wait "$holder"
	holder=
} 2>/dev/null

# Nobody else's lock prevents the start, and nobody else's file is the lock.
locks()
{
	local dir=$tap_dir/shared at=$tap_dir/shared/s

	chmod 755 "$tap_dir"
	install -d -m 1777 "$dir"
	leave_stale "$at" && holds_lock 65534 "$dir" || return 1
	serves_at "$at" || return 1
	end_holder
	# what somebody puts in the lock's place is not followed, and not removed
	echo precious >"$tap_dir/target"
	ln -s "$tap_dir/target" "$at.lock"
	refused_for "$at.lock, is no file of this user" && [ "$(cat "$tap_dir/target")" = precious ] &&
		[ -L "$at.lock" ] || return 1
	rm "$at.lock"
	install -o 65534 -g 65534 -m 666 /dev/null "$at.lock"
	refused_for "$at.lock, is no file of this user" && [ -e "$at.lock" ] || return 1
	rm "$at.lock"
	# one of our own, by whichever way to the directory
	ln -s "$dir" "$tap_dir/way"
	install -m 666 /dev/null "$at.lock"
	holds_lock 0 "$tap_dir/way/s.lock" || return 1
	refused_for "process $holder keeps the lock $at.lock" &&
		[ -e "$at.lock" ] || return 1
	end_holder
	# and a file that is left over is no lock
	serves_at "$at"
}

# refused_for PATTERN: an agent at $at does not start, and says why
refused_for()
{
	local status=0

	status_is 1 timeout 60 "$build/kvmstatd/kvmstatd" --socket "$at" \
		--listen 127.0.0.1:0 2>"$tap_dir/other.err" || status=1
	cat "$tap_dir/other.err"
	grep -q "$1" "$tap_dir/other.err" && return $status
}

# Without options: root has /run/kvmstatd, others what their session has.
without_options()
{
	chmod 755 "$tap_dir"
	: >"$tap_dir/other.err"
	install -d -o 65534 -g 65534 -m 700 "$tap_dir/session"
	XDG_RUNTIME_DIR=$tap_dir/session "$build/demo/asuser" 65534 65534 \
		"$build/kvmstatd/kvmstatd" --listen 127.0.0.1:0 2>"$tap_dir/other.err" &
	agent=$!
	wait_until grep -q "register at $tap_dir/session/kvmstatd/register.sock" \
		"$tap_dir/other.err" || return 1
	kill "$agent"
	wait "$agent" || return 1
	XDG_RUNTIME_DIR='' status_is 1 "$build/demo/asuser" 65534 65534 \
		"$build/kvmstatd/kvmstatd" && grep -q -- '--socket PATH is needed' "$tap_dir/out"
}

# shellcheck disable=SC2046,SC2086 # numbers
trap 'kill -9 $agent $holder 2>/dev/null; rm -rf "$tap_dir"' EXIT

check "addresses that cannot be had" cannot_listen
check "addresses of all kinds" addresses
check "what is not ours is not touched" others_files
as_root "locks of others" locks
as_root "without options" without_options
tap_done
