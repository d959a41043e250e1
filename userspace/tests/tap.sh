# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash
# For scripts that are tests: TAP on standard output. Sourced.

tap_count=0
tap_dir=$(mktemp -d) || exit 1
trap 'rm -rf "$tap_dir"' EXIT

# check NAME COMMAND...: one test; what the command printed explains a failure. After
# the first that waited in vain for as long as limit_s, the others wait less: a fault
# that all of them have is not to take as many times that long.
check()
{
	local name=$1 verdict=ok begin=$SECONDS

	shift
	tap_count=$((tap_count + 1))
	"$@" >"$tap_dir/out" 2>&1 || verdict="not ok"
	echo "$verdict $tap_count - $name"
	[ "$verdict" = ok ] && return
	sed 's/^/# /' "$tap_dir/out"
	[ $((SECONDS - begin)) -lt "${limit_s:-300}" ] || limit_s=20
}

# skip NAME REASON
skip()
{
	tap_count=$((tap_count + 1))
	echo "ok $tap_count - $1 # SKIP $2"
}

tap_done()
{
	echo "1..$tap_count"
}

# status_is N COMMAND...
status_is()
{
	local expected=$1 status=0

	shift
	"$@" || status=$?
	[ $status -eq "$expected" ] && return
	echo "exit status $status, expected $expected: $*"
	return 1
}

# waits_for_room PID: in ppoll, for its output alone: nobody reads
waits_for_room()
{
	[ "$(cut -d' ' -f3 "/proc/$1/syscall" 2>/dev/null)" = 0x1 ]
}
