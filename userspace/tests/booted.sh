#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# shellcheck disable=SC2015 # each left side is a test of its own
# usage: booted.sh KVMSTAT VMM [SCHEMA]
#
# The static command in a booted kernel, with a VMM of ours that runs a guest
# of four vCPUs: the first of them halts. For busybox. SCHEMA: what the schema
# of the VM and of its first vCPU must be, to the byte.
here=$(dirname "$0")
kvmstat=$1
vmm=$2
schema=${3-}
pid=
limit_s=300		# for what never comes
. "$here/tap.sh"

# wait_for COMMAND...: until it succeeds, for as long as the VMM lives
wait_for()
{
	tries=$((limit_s * 10))
	while ! "$@"; do
		kill -0 "$pid" && [ $tries -gt 0 ] || return 1
		tries=$((tries - 1))
		sleep 0.1
	done
}

halts()
{
	"$kvmstat" show --pid "$pid" --fields '^halt_wait_ns$' --skip-zero |
		grep -q '^halt_wait_ns'
}

start_vmm()
{
	"$vmm" --seconds 36000 >"$tap_dir/vmm" 2>&1 &
	pid=$!
	wait_for halts
}

listed()
{
	"$kvmstat" list >"$tap_dir/list" && cat "$tap_dir/list" &&
		grep -qE "^ *$pid +0 +.*demo.* +1 +4 +1 +4 +0 " "$tap_dir/list"
}

schema_is_known()
{
	"$kvmstat" schema --pid "$pid" | sed 's/^# vcpu[1-9].*/END/; /^END/,$d' |
		sed 's/^\(# [a-z0-9]*\) .*/\1/' >"$tap_dir/schema"
	sed 's/^\(# [a-z0-9]*\) .*/\1/' "$schema" >"$tap_dir/expected"
	cmp "$tap_dir/schema" "$tap_dir/expected" && return
	diff "$tap_dir/schema" "$tap_dir/expected" | head -n 20
	return 1
}

shows_all()
{
	"$kvmstat" show --pid "$pid" >"$tap_dir/show" &&
		[ "$(grep -c "^# vm kvm-$pid" "$tap_dir/show")" = 1 ] &&
		[ "$(grep -c "^# vcpu[0-3] kvm-$pid/vcpu-" "$tap_dir/show")" = 4 ] &&
		"$kvmstat" show --json --pid "$pid" >"$tap_dir/json" &&
		[ "$(grep -o '"scope":"[a-z]*"' "$tap_dir/json" | sort | uniq -c |
			tr -s ' \n' ' ')" = ' 4 "scope":"vcpu" 1 "scope":"vm" ' ]
}

# The values of the second record are no smaller, and the vCPU has halted on.
records()
{
	"$kvmstat" record --pid "$pid" --interval 0.5 --count 3 --format json \
		--fields '^halt_wakeup$' | grep '"event":"sample"' \
		>"$tap_dir/record"
	sed 's/.*"vcpu":0,[^]]*"name":"halt_wakeup"[^]]*"values":\[\([0-9]*\)\].*/\1/' \
		"$tap_dir/record" >"$tap_dir/values"
	cat "$tap_dir/values"
	[ "$(wc -l <"$tap_dir/values")" = 3 ] &&
		sort -nu "$tap_dir/values" | cmp - "$tap_dir/values" &&
		"$kvmstat" record --pid "$pid" --count 1 --interval 0.1 \
			>"$tap_dir/csv" && [ "$(wc -l <"$tap_dir/csv")" -gt 20 ]
}

threads()
{
	for vcpu in 0 1 2 3; do
		grep -lx "vcpu$vcpu" "/proc/$pid/task/"*/comm | cut -d/ -f5
	done | tr '\n' ',' | sed 's/,$//'
}

# Scheduler figures of every vCPU, and so of all of them together.
cpu_stats()
{
	"$kvmstat" cpu-stats --pid "$pid" --threads "$(threads)" \
		>"$tap_dir/cpu" && cat "$tap_dir/cpu" &&
		[ "$(grep -cE '^vcpu[0-3] \(thread [0-9]+\)$' "$tap_dir/cpu")" = 4 ] &&
		[ "$(grep -cE '^  cpu_time +[1-9][0-9]*$' "$tap_dir/cpu")" = 5 ] &&
		[ "$(grep -cE '^  vcpu_time +[0-9]+$' "$tap_dir/cpu")" = 5 ] &&
		[ "$(grep -cE '^  kvm.exits +[1-9][0-9]*$' "$tap_dir/cpu")" = 5 ]
}

# What waits in KVM_RUN is found without being told, and is the right one.
finds_a_thread()
{
	first=$(threads)
	"$kvmstat" cpu-stats --pid "$pid" >"$tap_dir/cpu" || return 1
	grep '^vcpu' "$tap_dir/cpu"
	grep -qx "vcpu0 (thread ${first%%,*})" "$tap_dir/cpu"
}

thread_is_found()
{
	wait_for finds_a_thread
}

dumps()
{
	mkdir "$tap_dir/dump" &&
		"$kvmstat" dump --pid "$pid" --output "$tap_dir/dump" &&
		"$kvmstat" schema --image "$tap_dir/dump/0-vm.bin" \
			--image "$tap_dir/dump/1-vcpu0.bin" >/dev/null
}

listens()
{
	"$kvmstat" listen --interval 0.2 --until-gone --expect halt_wakeup \
		"$tap_dir/socket" >"$tap_dir/table" 2>"$tap_dir/err" &
	listen=$!
	old=$pid
	"$vmm" --seconds 2 --socket "$tap_dir/socket" --name a-guest \
		>"$tap_dir/vmm" 2>&1 && wait $listen && pid=$old &&
		grep -q 'VM a-guest (pid .*) sent: 5 descriptors' "$tap_dir/table" &&
		grep -q 'VM a-guest (pid .*) gone: process ended' "$tap_dir/table" &&
		return
	cat "$tap_dir/table" "$tap_dir/err" "$tap_dir/vmm"
	return 1
}

# A static command has nothing that it could load.
run_is_refused()
{
	status=0
	"$kvmstat" run -- "$vmm" >"$tap_dir/said" 2>&1 || status=$?
	cat "$tap_dir/said"
	[ $status = 125 ] && grep -q 'libkvmstats-preload.so' "$tap_dir/said"
}

ends_with_vmm()
{
	"$kvmstat" record --pid "$pid" --interval 0.2 >"$tap_dir/record" &
	record=$!
	sleep 0.5
	kill -9 "$pid"
	wait $record && ! "$kvmstat" show --pid "$pid"
}

trap '[ -z "$pid" ] || kill -9 "$pid" 2>/dev/null; rm -rf "$tap_dir"' EXIT
check "a VMM that holds its descriptors" start_vmm
check "list: its process" listed
[ -z "$schema" ] || check "schema: as recorded" schema_is_known
check "show: the VM and four vCPUs" shows_all
check "record: every interval" records
check "cpu-stats: threads that are given" cpu_stats
check "cpu-stats: a thread that waits" thread_is_found
check "dump: images that can be read" dumps
check "listen: a VM comes and goes" listens
check "run: refused by a static build" run_is_refused
check "record: ends with the VMM" ends_with_vmm
tap_done
