#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# usage: agent-soak.sh BUILD-DIR - an hour of kvmstatd's life in seconds: as
# many scrapes as Prometheus makes in it, while VMs come and go; then it has
# not grown. SOAK_SCRAPES=N: other lengths.

here=$(dirname "$0")
build=$1
scrapes=${SOAK_SCRAPES:-240}
vms=20
agent=
. "$here/tap.sh"

start_agent()
{
	"$build/kvmstatd/kvmstatd" --socket "$tap_dir/socket" \
		--listen 127.0.0.1:0 2>"$tap_dir/err" &
	agent=$!
	for _ in $(seq 100); do
		url=$(sed -n 's|.*serving \(http://.*\)|\1|p' "$tap_dir/err")
		[ -z "$url" ] || return 0
		sleep 0.05
	done
	return 1
}

value()
{
	curl -q -sS --noproxy '*' --max-time 20 "$url" |
		sed -n "s/^$1 //p"
}

# until_is VALUE NAME
until_is()
{
	for _ in $(seq 600); do
		[ "$(value "$2")" != "$1" ] || return 0
		sleep 0.02
	done
	echo "$2 does not become $1: $(value "$2")"
	return 1
}

# The number of its descriptors, when it is at rest.
descriptors()
{
	find "/proc/$agent/fd" -mindepth 1 | wc -l
}

memory_kib()
{
	sed -n 's/^VmRSS:[^0-9]*\([0-9]*\).*/\1/p' "/proc/$agent/status"
}

# One generation of VMs: born, scraped, dead.
generation()
{
	coproc VMMS { exec "$build/tests/agent_vmms" "$tap_dir/socket" $vms 2; }
	local pid=$VMMS_PID

	read -r -u "${VMMS[0]}" && until_is $vms kvmstatd_vms || return 1
	for _ in $(seq 6); do
		value kvmstatd_vms >/dev/null
	done
	kill -9 -- "-$pid"
	wait "$pid" 2>/dev/null
	until_is 0 kvmstatd_vms
}

generations()
{
	for _ in $(seq "$1"); do
		generation || return 1
	done
}

settled()
{
	for _ in $(seq 200); do
		[ "$(descriptors)" -gt "$1" ] || return 0
		sleep 0.05
	done
	find "/proc/$agent/fd" -printf '%l\n'
	return 1
}

# The first generations fill what is kept for later: pools, arenas, schemas.
no_growth()
{
	local fds kib

	fds=$(descriptors)
	generations 10 || return 1
	kib=$(memory_kib)
	generations $(((scrapes + 7) / 8)) || return 1
	echo "$(value kvmstatd_scrapes_total) scrapes, $(value kvmstatd_registrations_total) VMs, $kib KiB before, $(memory_kib) KiB after"
	settled "$fds" && [ "$(memory_kib)" -le $((kib + 256)) ] &&
		[ "$(value kvmstatd_read_errors_total)" = 0 ]
}

# As many connections at once as there are descriptors for, three each, until
# it were ten thousand.
crowd()
{
	coproc VMMS { exec "$build/tests/agent_vmms" "$tap_dir/socket" "$1" 0 same; }
	local pid=$VMMS_PID

	read -r -u "${VMMS[0]}" && until_is "$1" kvmstatd_vms || return 1
	kill -9 -- "-$pid"
	wait "$pid" 2>/dev/null
	until_is 0 kvmstatd_vms && settled 40
}

ten_thousand_registrations()
{
	local limit many before

	before=$(value kvmstatd_registrations_total)
	limit=$(ulimit -Hn)
	many=$(((limit - 1000) / 4))
	[ "$many" -le 10000 ] || many=10000
	while [ $(($(value kvmstatd_registrations_total) - before)) -lt 10000 ]; do
		crowd $many || return 1
	done
}

clean_end()
{
	kill "$agent" && wait "$agent"
}

trap '[ -z "$agent" ] || kill -9 "$agent" 2>/dev/null; rm -rf "$tap_dir"' EXIT
ulimit -n "$(ulimit -Hn)"
check "start" start_agent
check "an hour of births, scrapes and deaths" no_growth
check "ten thousand registrations" ten_thousand_registrations
check "end" clean_end
tap_done
