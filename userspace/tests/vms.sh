# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash
# VMs for the tests of kvmstat. Sourced after tap.sh, with $kvmstat, $here and
# $guest.

: "${tap_dir:?}" "${kvmstat:?}" "${guest:?}" "${here:?}"

# Nothing here may depend on how fast the machine is: what is waited for is an
# event, and this only ends the wait for one that never comes.
limit_s=300

# wait_until PID COMMAND...: for as long as the process lives
wait_until()
{
	local pid=$1 end=$((SECONDS + limit_s))

	shift
	while ! "$@"; do
		kill -0 "$pid" && [ $SECONDS -lt $end ] || return 1
		sleep 0.05
	done
}

# It lives until it is stopped, however long the tests take.
run_vmm()
{
	"$tap_dir/$guest" --seconds 36000 "$@" >"$tap_dir/vmm" 2>&1 &
	vmm=$!
}

stop_vmm()
{
	kill -9 "$vmm"
	wait "$vmm"
	vmm=
} 2>/dev/null

shows_four_vcpus()
{
	"$kvmstat" show --pid "$vmm" --json >"$tap_dir/show" 2>/dev/null &&
		[ "$(grep -o '"scope":"vcpu"' "$tap_dir/show" | wc -l)" = 4 ]
}

# events_are NAME...: the events of the record, samples as one; that a VM keeps
# a part of its statistics only, or was found before its last vCPU, is not among them
events_are()
{
	local events

	events=$(grep -o '^{"event":"[a-z ]*"' "$tap_dir/record" |
		grep -vE 'incomplete|grown' | uniq | cut -d'"' -f4 |
		tr '\n' ' ')
	[ "$events" = "$* " ] || { echo "$events"; return 1; }
}

last_is()
{
	tail -n 1 "$tap_dir/record" | grep -q "^{\"event\":\"$1\""
}

has_new_sample()
{
	last_is sample && grep -q "\"pid\":$vmm," "$tap_dir/record"
}

# A VMM of this name that does as it is told: vmm.py
start_told()
{
	coproc told { exec "$here/vmm.py" -name "$guest"; }
	# shellcheck disable=SC2154 # the coprocess's number
	vmm=$told_PID
}

# tell WORDS...
tell()
{
	echo "$@" >&"${told[1]}" && read -r answer <&"${told[0]}" &&
		[ "$answer" = "done" ]
}

end_told()
{
	pkill -P "$vmm"
	kill -9 "$vmm"
	wait "$vmm"
	return 0
} 2>/dev/null

# status COMMAND...: of the command, whose output goes to "said"
status()
{
	"$@" >"$tap_dir/said" 2>&1
	echo "status $?" >>"$tap_dir/said"
	cat "$tap_dir/said"
}

said()
{
	grep -qE -- "$1" "$tap_dir/said"
}
