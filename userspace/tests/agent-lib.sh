# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash
# shellcheck disable=SC2119,SC2120 # start_agent needs no arguments
# shellcheck disable=SC2154 # build and tap_dir are the caller's
# For the suites of kvmstatd: an agent, VMs for it, and what it says. Sourced.

limit_s=300

# wait_until COMMAND...: for as long as the agent lives
wait_until()
{
	local end=$((SECONDS + limit_s))

	while ! "$@"; do
		kill -0 "$agent" && [ $SECONDS -lt $end ] || return 1
		sleep 0.05
	done
}

# What an earlier one said is not this one's.
start_agent()
{
	: >"$tap_dir/agent.err"
	"$build/kvmstatd/kvmstatd" --socket "$tap_dir/socket" \
		--listen 127.0.0.1:0 "$@" 2>"$tap_dir/agent.err" &
	agent=$!
	wait_until find_url
}

find_url()
{
	url=$(sed -n 's|.*serving \(https*://.*\)/metrics|\1|p' "$tap_dir/agent.err")
	[ -n "$url" ]
}

# SIGTERM is a clean end: status 0, the socket removed, no word of anything.
stop_agent()
{
	local status

	kill "$agent"
	wait "$agent"
	status=$?
	agent=
	cat "$tap_dir/agent.err"
	[ $status = 0 ] && [ ! -e "$tap_dir/socket" ] &&
		! grep -vE ' (serving |VMs register at |VM ".*" (is registered|has gone): |registration .* is refused: )' \
			"$tap_dir/agent.err"
}

get()
{
	curl -q -sS --noproxy '*' --max-time 20 "$@"
}

metrics()
{
	get "$url/metrics"
}

# has PATTERN: a line of the metrics matches
has()
{
	metrics >"$tap_dir/metrics" && grep -qE "$1" "$tap_dir/metrics"
}

# start_vmms VMS VCPUS [same]: VMs without guests, and wait for their series
start_vmms()
{
	mkfifo "$tap_dir/hold"
	"$build/tests/agent_vmms" "$tap_dir/socket" "$@" <"$tap_dir/hold" \
		>"$tap_dir/vmms" 2>&1 &
	vmms=$!
	exec 7>"$tap_dir/hold"
	wait_until grep -q ready "$tap_dir/vmms" &&
		wait_until has "^kvmstatd_vms $1\$"
}

stop_vmms()
{
	exec 7>&-
	rm -f "$tap_dir/hold"
	wait "$vmms"
	vmms=
} 2>/dev/null

write_config()
{
	printf '# of the test\n%s\n' "$@" >"$tap_dir/config"
}

as_root()
{
	if [ "$(id -u)" = 0 ]; then
		check "$@"
	else
		skip "$1" "not root"
	fi
}
