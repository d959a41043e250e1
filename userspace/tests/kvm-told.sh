#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# shellcheck disable=SC2119 # run_vmm needs no arguments here
# usage: kvm-told.sh BUILD-DIR - kvmstat and VMs that do as they are told: they
# are duplicated, made again, hide their statistics, come and go; see vmm.py

here=$(cd "$(dirname "$0")" && pwd)
build=$(cd "$1" && pwd)
kvmstat=$build/kvmstat/kvmstat
vmm=
. "$here/tap.sh"
# other VMs of this machine have another name
guest=told$$
# how many times slower than others this machine is
slow=${SLOW-1}
# shellcheck source=userspace/tests/vms.sh
. "$here/vms.sh"

# exits_shown: of each vCPU, by show
exits_shown()
{
	"$kvmstat" show --pid "$vmm" --fields '^exits$' --json |
		jq -c '[.sources[] | select(.scope == "vcpu") |
			.stats[].values[0]]'
}

# What the first two vCPUs have counted by their own descriptors: each entry, and what
# else made them exit meanwhile. They do not run any more.
two_counts()
{
	echo exits >&"${told[1]}"
	# shellcheck disable=SC2034 # whoever called has this one
	read -r first second _ <&"${told[0]}"
}

# However many descriptors and processes have it.
each_vm_once()
{
	local first second

	start_told && tell vm && tell vcpu && tell vcpu && tell hold &&
		tell again && tell dup && tell run 500 && tell fork 600 || return 1
	two_counts
	"$kvmstat" top --once --guest "$guest" --include-past --interval 0.1 \
		--fields '^exits$' >"$tap_dir/top"
	"$kvmstat" list --json >"$tap_dir/list"
	exits_shown >"$tap_dir/exits"
	end_told
	cat "$tap_dir/top" "$tap_dir/exits"
	grep -q '1 VM, 3 descriptors' "$tap_dir/top" &&
		grep -qE "^exits +$((first + second)) " "$tap_dir/top" &&
		[ "$(cat "$tap_dir/exits")" = "[$first,$second]" ] &&
		[ "$first" -ge 500 ] && [ "$second" -ge 500 ] &&
		jq -e --arg name "$guest" '[.processes[] | select(.guest == $name) |
			.vms == 1 and .vcpus == 2] == [true]' "$tap_dir/list"
}

# Same process, same numbers, another VM.
vm_made_again()
{
	local first second

	start_told && tell vm && tell vcpu && tell vcpu && tell run 5 || return 1
	"$kvmstat" record --pid "$vmm" --json --interval 0.2 --fields '^exits$' \
		>"$tap_dir/record" 2>/dev/null &
	recorder=$!
	wait_until "$recorder" has_new_sample && tell remake 2 && tell run 700 &&
		two_counts && [ "$first" -ge 700 ] && [ "$second" -ge 700 ] &&
		wait_until "$recorder" last_exits_are "$first" "$second" &&
		events_are found sample gone found sample
	local status=$?
	# nothing of the first is held any more: two sources, and where the kernel makes
	# them for us that of the VM and the descriptor by which we know it
	find "/proc/$recorder/fd" -lname 'anon_inode:kvm*' -printf '%l\n' >"$tap_dir/held"
	[ "$(wc -l <"$tap_dir/held")" -le 4 ] || status=1
	end_told
	wait "$recorder"
	cut -c 1-100 "$tap_dir/record" | uniq -w 15
	cat "$tap_dir/held"
	return $status
}

last_exits_are()
{
	tail -n 1 "$tap_dir/record" | jq -e --argjson a "$1" --argjson b "$2" \
		'[.sources[].stats[].values[0]] == [$a, $b]' >/dev/null 2>&1
}

# The lines of two VMs of one process have different keys.
two_vms_of_a_process()
{
	start_told && tell vm && tell vcpu 0 && tell vm && tell vcpu 0 || return 1
	"$kvmstat" record --pid "$vmm" --count 1 --interval 0.1 \
		--fields '^exits$' >"$tap_dir/csv"
	end_told
	cat "$tap_dir/csv"
	[ "$(cut -d, -f5-11 "$tap_dir/csv" | sort | uniq -d | wc -l)" = 0 ] &&
		[ "$(grep -c ,exits, "$tap_dir/csv")" = 2 ]
}

# It is not passed over, whichever command looks.
without_statistics_is_said()
{
	local status

	start_told && tell vm && tell bare || return 1
	"$kvmstat" list >"$tap_dir/list" 2>&1
	status_is 3 "$kvmstat" top --once --guest "$guest" >"$tap_dir/top" 2>&1
	status=$?
	"$kvmstat" record --guest "$guest" --json --interval 0.1 --duration 3 \
		>"$tap_dir/record" 2>"$tap_dir/said"
	end_told
	cat "$tap_dir/list" "$tap_dir/top" "$tap_dir/record" "$tap_dir/said"
	[ $status = 0 ] && grep -q "$guest: .*no statistics" "$tap_dir/list" &&
		grep -q 'makes none for others' "$tap_dir/top" &&
		jq -es '[.[] | select(.event == "incomplete").reason |
			test("makes none for others")] == [true]' "$tap_dir/record"
}

# Where the kernel makes them for others, nothing is missing.
kernel_makes_them()
{
	start_told && tell vm && tell bare && "$kvmstat" show --pid "$vmm" >/dev/null
	local status=$?
	end_told
	return $status
}

# What the VMM did with the CPUs, by guest: this one does nothing but run.
time_by_guest()
{
	run_vmm
	wait_until "$vmm" shows_four_vcpus || return 1
	"$kvmstat" top --once --by-guest --guest "$guest" --interval 2 \
		>"$tap_dir/top"
	stop_vmm
	cat "$tap_dir/top"
	grep -qE '^Guest .*CurAvg/s +%CPU +%wait$' "$tap_dir/top" &&
		awk -v name="$guest" '$1 == name { cpu = $(NF - 1); wait = $NF }
			END { exit !(cpu > 10 && cpu < 900 && wait >= 0 &&
			wait != "-") }' "$tap_dir/top"
}

# A part is no whole: it is counted, and no success.
too_few_numbers()
{
	start_told && for _ in $(seq 40); do tell vm && tell vcpu 0; done || return 1
	(ulimit -n 32; status_is 1 "$kvmstat" top --once --interval 0.1 \
		--pid "$vmm" >"$tap_dir/top" 2>&1)
	local status=$?
	(ulimit -Sn 32; "$kvmstat" top --once --interval 0.1 --pid "$vmm" |
		grep -qE '(4|8)0 descriptors') || status=1
	end_told
	cat "$tap_dir/top"
	[ $status = 0 ] && grep -q 'did not fit into this process' "$tap_dir/top"
}

# Longer than the VM lives, and than the time between two looks.
long_interval()
{
	"$kvmstat" record --guest "$guest" --json --interval 3600 --duration 1200 \
		--until-gone >"$tap_dir/record" 2>"$tap_dir/said" &
	recorder=$!
	run_vmm
	wait_until "$recorder" grep -q '"event":"found"' "$tap_dir/record" || return 1
	sleep 2
	stop_vmm
	status_is 0 wait "$recorder" && events_are found sample gone &&
		jq -es '[.[] | select(.event == "sample") |
			.sources[0].interval_ns > 4e8] == [true]' "$tap_dir/record" &&
		return
	cut -c 1-300 "$tap_dir/record" "$tap_dir/said"
	return 1
}

# One that is found at the time of a sample has its first after an interval.
first_interval()
{
	"$kvmstat" record --guest "$guest" --json --interval 4 --duration 20 \
		>"$tap_dir/record" 2>/dev/null &
	recorder=$!
	sleep 1
	run_vmm
	wait_until "$recorder" has_new_sample
	kill "$recorder"
	stop_vmm
	wait "$recorder"
	jq -es '[.[] | select(.event == "sample") | .sources[0].interval_ns][0] >
		2e8' "$tap_dir/record"
}

# In the last tenth of an interval VMs are looked for as well.
short_life_before_a_sample()
{
	"$kvmstat" record --guest "$guest" --json --interval $((20 * slow)) \
		--duration $((60 * slow)) --until-gone >"$tap_dir/record" \
		2>/dev/null &
	recorder=$!
	sleep $((168 * slow / 10))
	"$tap_dir/$guest" --seconds $((24 * slow / 10)).4 >/dev/null
	kill "$recorder"
	wait "$recorder"
	cut -c 1-100 "$tap_dir/record"
	events_are found sample gone
}

# Nobody reads its output.
batch_ends_by_signal()
{
	mkfifo "$tap_dir/fifo"
	# shellcheck disable=SC2217 # it is not to read
	sleep 600 <"$tap_dir/fifo" &
	sleeper=$!
	run_vmm
	wait_until "$vmm" shows_four_vcpus || return 1
	"$kvmstat" top --batch --interval 0.01 --all --split --pid "$vmm" \
		>"$tap_dir/fifo" &
	top=$!
	wait_until "$top" waits_for_room "$top" && kill "$top" &&
		timeout 20 tail --pid=$top -f /dev/null
	local status=$?
	kill -9 "$top" 2>/dev/null
	kill "$sleeper"
	stop_vmm
	return $status
}

# Before the first table of a long interval. On a slow machine the VM has to live
# longer to be seen at all.
once_of_a_short_life()
{
	local life_s

	for life_s in 1 5 25; do
		"$tap_dir/$guest" --seconds $life_s &
		vmm=$!
		wait_until "$vmm" shows_four_vcpus && "$kvmstat" top --once \
			--pid "$vmm" --interval 60 --include-past >"$tap_dir/top" &&
			break
		wait "$vmm"
	done
	grep -qE '^exits +[1-9]' "$tap_dir/top"
}

# Its end is not the end of the interval of the others.
once_while_another_ends()
{
	local short

	run_vmm
	"$tap_dir/$guest" --seconds $((4 * slow)) >/dev/null 2>&1 &
	short=$!
	wait_until "$vmm" shows_four_vcpus || return 1
	"$kvmstat" top --once --guest "$guest" --interval $((6 * slow)) \
		--fields '^exits$' >"$tap_dir/top"
	wait "$short"
	stop_vmm
	cat "$tap_dir/top"
	grep -q ' 1 VM, ' "$tap_dir/top" && grep -qE '^exits +[1-9]' "$tap_dir/top"
}

nothing_is_no_success()
{
	status_is 3 "$kvmstat" top --once --guest "no$guest" --interval 0.1 &&
		status_is 3 "$kvmstat" record --guest "no$guest" --duration 0.2 &&
		status_is 3 "$kvmstat" show --guest "no$guest"
}

# No longer than half an interval: what there was by then.
short_duration()
{
	run_vmm
	wait_until "$vmm" shows_four_vcpus || return 1
	"$kvmstat" record --pid "$vmm" --interval 60 --duration 0.5 \
		--fields '^exits$' >"$tap_dir/csv"
	local status=$?
	stop_vmm
	[ $status = 0 ] && [ "$(grep -c ,exits, "$tap_dir/csv")" = 4 ]
}

# shellcheck disable=SC2046 # several numbers
trap 'kill -9 $(jobs -p) 2>/dev/null; wait 2>/dev/null; rm -rf "$tap_dir"' EXIT
cp "$build/demo/demo-vmm" "$tap_dir/$guest"
check "each VM once, whoever has it" each_vm_once
check "a VM that is made again" vm_made_again
check "two VMs of one process" two_vms_of_a_process
if start_told && tell vm && tell bare &&
	"$kvmstat" show --pid "$vmm" >/dev/null 2>&1; then
	end_told
	check "statistics are made for us" kernel_makes_them
else
	end_told
	check "a VM without statistics is said" without_statistics_is_said
fi
check "CPU time by guest" time_by_guest
check "too few descriptors are counted" too_few_numbers
check "an interval longer than the VM's life" long_interval
check "the first interval is one" first_interval
check "a short life before a sample" short_life_before_a_sample
check "SIGTERM ends top whose output is blocked" batch_ends_by_signal
check "top --once of a VM that ends" once_of_a_short_life
check "top --once while another VM ends" once_while_another_ends
check "nothing shown is no success" nothing_is_no_success
check "a duration shorter than the interval" short_duration
tap_done
