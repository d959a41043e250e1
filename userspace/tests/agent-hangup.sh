#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# usage: agent-hangup.sh BUILD-DIR - an agent that gets no pidfd of a VMM learns from
# the statistics when a VM has come to its end (KVM_CAP_STATS_FD_HANGUP)
#
# Needs /dev/kvm of a kernel with the series. That pidfd_open fails is a filter's
# doing, as of a container.

here=$(cd "$(dirname "$0")" && pwd)
build=$1
. "$here/tap.sh"
. "$here/agent-lib.sh"

pidfd_open=434

start_blind_agent()
{
	: >"$tap_dir/agent.err"
	"$build/tests/refuse" 38 $pidfd_open -- "$build/kvmstatd/kvmstatd" \
		--socket "$tap_dir/socket" --listen 127.0.0.1:0 \
		2>"$tap_dir/agent.err" &
	agent=$!
	wait_until find_url && wait_until test -S "$tap_dir/socket" && return
	cat "$tap_dir/agent.err"
	return 1
}

start_vmm()
{
	rm -f "$tap_dir/ask" "$tap_dir/answer"
	mkfifo "$tap_dir/ask" "$tap_dir/answer"
	python3 "$here/vmm.py" <"$tap_dir/ask" >"$tap_dir/answer" &
	vmm=$!
	exec 8>"$tap_dir/ask" 9<"$tap_dir/answer"
}

# tell LINE...
tell()
{
	local line answer

	for line; do
		echo "$line" >&8
		read -r -t 60 answer <&9 || return 1
		[ "$answer" = "done" ] || { echo "$line: $answer"; return 1; }
	done
}

has_vm()
{
	has '^kvm_vm_info\{.*name="vmm"'
}

has_no_vm()
{
	! has_vm
}

registered()
{
	tell vm "vcpu 0" "vcpu 1" "register $tap_dir/socket" && wait_until has_vm
}

ended()
{
	tell close && wait_until has_no_vm &&
		grep "VM .* has gone: it can never run again" "$tap_dir/agent.err"
}

# Longer than a connection may stay that never brought anything.
stays_connected()
{
	sleep 12
	! grep refused "$tap_dir/agent.err" && registered
}

# The agent learns at once that one has ended and that there is another.
replaced()
{
	local round

	for round in 1 2 3 4 5; do
		kill -STOP "$agent"
		tell "remake $round" "register $tap_dir/socket"
		kill -CONT "$agent"
		wait_until has "^kvmstatd_vms_ended_total $((round + 2))\$" &&
			wait_until has "^kvmstatd_descriptors $round\$" &&
			has_vm || return 1
	done
}

# A pidfd would not tell: the process lives on as another program.
executed()
{
	local start

	tell "fork 100" exec
	start=$SECONDS
	wait_until has_no_vm && [ $((SECONDS - start)) -lt 60 ] &&
		[ "$(cat "/proc/$vmm/comm")" = cat ] && exec 8>&- && wait "$vmm"
}

# The child has all of it open, and the connection, but cannot run the VM.
inherited()
{
	local start

	tell "fork 100" && exec 8>&- && wait "$vmm"
	start=$SECONDS
	wait_until has_no_vm && [ $((SECONDS - start)) -lt 60 ]
}

no_descriptors_left()
{
	local links

	wait_until nothing_of_kvm && return
	links=$(readlink "/proc/$agent"/fd/*)
	echo "$links"
	return 1
}

nothing_of_kvm()
{
	! readlink "/proc/$agent"/fd/* | grep -q kvm-
}

# a machine that was just booted has not even this
ip link set lo up 2>/dev/null || ifconfig lo up 2>/dev/null
check "an agent without pidfds" start_blind_agent
start_vmm
check "a VM is registered" registered
check "its end is noticed, though its VMM lives" ended
check "nothing of it stays open" no_descriptors_left
check "another VM on the same connection" stays_connected
check "its end is noticed, too" ended
check "a third" registered
check "others take its place at once" replaced
check "the end of the last one" ended
check "a VM that a child has open" registered
check "it ends with the VMM, not with the child" inherited
start_vmm
check "a VM whose VMM will be another program" registered
check "it ends with exec" executed
check "nothing of any stays open" no_descriptors_left
kill "$agent"
tap_done
