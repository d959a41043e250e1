#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# usage: kvm.sh BUILD-DIR [KVMSTAT] - with real VMs on this machine's /dev/kvm;
# with another kvmstat than that of BUILD-DIR, without what is slow

here=$(cd "$(dirname "$0")" && pwd)
build=$(cd "$1" && pwd)
kvmstat=${2-$build/kvmstat/kvmstat}
vmm=
. "$here/tap.sh"
# shellcheck source=userspace/tests/top.sh
. "$here/top.sh"
PATH=$(dirname "$kvmstat"):$PATH
# other VMs of this machine have another name
guest=vm$$

# shellcheck source=userspace/tests/vms.sh
. "$here/vms.sh"

# A VM that holds its descriptors and tells nobody.
start_vmm()
{
	run_vmm
	wait_until "$vmm" shows_four_vcpus && return
	cat "$tap_dir/vmm" "$tap_dir/show"
	return 1
}

every_source()
{
	python3 - "$tap_dir/show" "$vmm" <<'END'
import json, sys
sources = json.load(open(sys.argv[1]))["sources"]
pid = sys.argv[2]
assert [s["vcpu"] for s in sources] == [None, 0, 1, 2, 3], sources
assert sources[0]["id"] == "kvm-" + pid
assert sources[4]["id"] == f"kvm-{pid}/vcpu-3"
names = {stat["name"] for stat in sources[1]["stats"]}
assert "exits" in names or "halt_wakeup" in names, names
END
}

listed()
{
	"$kvmstat" list | grep -E "^ *$vmm .* $guest +1 +4 +1 +4 +0  $guest\$"
}

image_of_live()
{
	mkdir "$tap_dir/live"
	"$kvmstat" dump --pid "$vmm" --output "$tap_dir/live" &&
		"$kvmstat" show --image "$tap_dir/live/0-vm.bin" >/dev/null &&
		cmp <("$kvmstat" schema --pid "$vmm" | sed 's/ (.*//') \
		<("$kvmstat" schema --image "$tap_dir/live/0-vm.bin" \
			--image "$tap_dir/live/1-vcpu0.bin" \
			--image "$tap_dir/live/2-vcpu1.bin" \
			--image "$tap_dir/live/3-vcpu2.bin" \
			--image "$tap_dir/live/4-vcpu3.bin")
}

other_user_denied()
{
	status_is 4 "$build/demo/asuser" 65534 65534 "$tap_dir/kvmstat" show \
		--pid "$vmm" &&
		grep -q 'needs the rights of a debugger' "$tap_dir/out"
}

lists_no_stats()
{
	"$kvmstat" list | grep -qE "^ *$vmm .* 4 +0 +0  "
}

# Where the kernel gives statistics to others than the VMM, all are shown;
# mainline does not, and that is said.
vmm_without_stats()
{
	local status

	run_vmm --no-stats
	wait_until "$vmm" lists_no_stats ||
		{ stop_vmm; cat "$tap_dir/vmm"; return 1; }
	"$kvmstat" show --json --pid "$vmm" >"$tap_dir/none" 2>"$tap_dir/said"
	status=$?
	stop_vmm
	cat "$tap_dir/none" "$tap_dir/said"
	if [ $status = 0 ]; then
		[ "$(grep -o '"scope"' "$tap_dir/none" | wc -l)" = 5 ]
	else
		[ $status = 3 ] && grep -q 'Input/output error: .* makes none for others' \
			"$tap_dir/said"
	fi
}

# Counters are monotonous, instants are not negative: two looks.
values_move()
{
	python3 - "$kvmstat" "$vmm" <<'END'
import json, subprocess, sys, time
def look():
    out = subprocess.check_output([sys.argv[1], "show", "--json", "--pid",
                                   sys.argv[2]])
    return {(s["vcpu"], t["name"]): t for s in json.loads(out)["sources"]
            for t in s["stats"]}
before, deadline = look(), time.monotonic() + 60
while time.monotonic() < deadline:
    after = look()
    if all(after[0, n]["values"] != before[0, n]["values"]
           for n in ("halt_wakeup", "halt_wait_ns", "halt_wait_hist")):
        break
    time.sleep(0.1)
else:
    sys.exit("the halting vCPU's statistics do not move")
for key, stat in after.items():
    if stat["type"] in ("cumulative", "log_hist"):
        assert all(a >= b for a, b in zip(stat["values"],
                                          before[key]["values"])), key
END
}

ten_samples_and_a_wakeup()
{
	[ "$(grep -c '"event":"sample".*"sources":\[{' "$tap_dir/json")" -ge 10 ] &&
		grep '"event":"sample"' "$tap_dir/json" |
		grep -qE '"name":"halt_wakeup"[^}]*"delta":\[[1-9]'
}

listens_as_json()
{
	"$kvmstat" listen --json --interval 0.2 --until-gone \
		--expect halt_wakeup "$tap_dir/socket" >"$tap_dir/json" &
	listen=$!
	wait_until "$listen" test -S "$tap_dir/socket" || return 1
	run_vmm --socket "$tap_dir/socket" --name 'a "name"' --uuid 0-1
	vmm_pid=$vmm
	wait_until "$vmm" ten_samples_and_a_wakeup
	stop_vmm
	status_is 0 wait "$listen"
	listen_status=$?
	[ $listen_status = 0 ] && python3 - "$tap_dir/json" "$vmm_pid" <<'END'
import json, sys
events = [json.loads(line) for line in open(sys.argv[1])]
# a table may be due between the VMM's connection and what it sends
while events[0]["event"] == "sample" and not events[0]["sources"]:
    events.pop(0)
samples = [e for e in events if e["event"] == "sample"]
assert events[0]["event"] == "sent" and len(samples) >= 10, events[0]
vm = samples[0]["vm"]
assert (vm["name"], vm["uuid"], vm["pid"]) == ('a "name"', "0-1",
                                               int(sys.argv[2])), vm
assert vm["descriptors"] == 5 and vm["rejected"] == 0, vm
previous = {}
for sample in samples:
    for source in sample["sources"]:
        for stat in source["stats"]:
            key = source["vcpu"], stat["name"]
            if key in previous and stat["type"] == "cumulative":
                growth = stat["values"][0] - previous[key]
                assert stat["delta"] == [growth], (key, stat, growth)
            previous[key] = stat["values"][0]
END
}

dies_watched()
{
	"$kvmstat" listen --interval 0.05 --until-gone "$tap_dir/socket" \
		>"$tap_dir/table" &
	listen=$!
	wait_until "$listen" test -S "$tap_dir/socket" || return 1
	run_vmm --socket "$tap_dir/socket"
	wait_until "$vmm" grep -q ' sent: ' "$tap_dir/table"
	stop_vmm
	status_is 0 wait "$listen" || return 1
	grep ' gone: ' "$tap_dir/table"
	grep -q ' gone: process ended$' "$tap_dir/table"
}

# Tables come faster than a VM is torn down: the reason is the same each time.
every_death_is_one()
{
	for _ in $(seq 8); do
		dies_watched || return 1
	done
}

# Two lives of one VM in one record.
record_births_and_deaths()
{
	"$kvmstat" record --guest "$guest" --json --interval 0.2 \
		>"$tap_dir/record" &
	recorder=$!
	for _ in 1 2; do
		run_vmm
		wait_until "$recorder" has_new_sample || return 1
		stop_vmm
		wait_until "$recorder" last_is gone || return 1
	done
	kill "$recorder" && status_is 0 wait "$recorder" &&
		events_are found sample gone found sample gone
}

record_ends_with_vm()
{
	run_vmm
	wait_until "$vmm" shows_four_vcpus || return 1
	"$kvmstat" record --pid "$vmm" --interval 0.1 --skip-zero \
		>"$tap_dir/record" 2>"$tap_dir/said" &
	recorder=$!
	wait_until "$recorder" grep -q ,exits, "$tap_dir/record" || return 1
	stop_vmm
	status_is 0 wait "$recorder" && grep -q 'gone: process ended' "$tap_dir/said"
}

# Who holds copies of a VM's descriptors, as a recorder does, is no VM.
readers_are_no_vms()
{
	run_vmm
	wait_until "$vmm" shows_four_vcpus || return 1
	"$kvmstat" record --pid "$vmm" --interval 0.1 >"$tap_dir/record" &
	recorder=$!
	wait_until "$recorder" grep -q ,exits, "$tap_dir/record" &&
		"$kvmstat" top --once --by-guest --interval 0.1 >"$tap_dir/guests"
	stop_vmm
	wait "$recorder"
	cat "$tap_dir/guests"
	grep -q "^$guest (" "$tap_dir/guests" &&
		! grep -q "($recorder)" "$tap_dir/guests"
}

show_by_socket()
{
	"$kvmstat" show --socket "$tap_dir/socket" --wait 50 --json \
		>"$tap_dir/shown" 2>/dev/null &
	reader=$!
	wait_until "$reader" test -S "$tap_dir/socket" || return 1
	run_vmm --socket "$tap_dir/socket" --name registered --uuid 0-1
	status_is 0 wait "$reader" || return 1
	stop_vmm
	[ ! -e "$tap_dir/socket" ] &&
		jq -e '[.sources[] | select(.name == "registered" and
			.uuid == "0-1")] | length == 5' "$tap_dir/shown"
}

nobody_registers()
{
	status_is 3 "$kvmstat" show --socket "$tap_dir/socket" --wait 0.1 &&
		[ ! -e "$tap_dir/socket" ] &&
		status_is 3 "$kvmstat" show --guest "no$guest"
}

# The VM and its observer are the same user, who is not root.
own_process_without_root()
{
	local status

	mknod -m 666 "$tap_dir/kvm" c 10 232
	# shellcheck disable=SC2016 # the inner shell's
	unshare -m sh -c 'mount --bind "$1/kvm" /dev/kvm && shift &&
		exec "$@"' sh "$tap_dir" "$build/demo/asuser" 65534 65534 \
		"$tap_dir/$guest" --seconds 36000 2>"$tap_dir/vmm" &
	vmm=$!
	wait_until "$vmm" shows_four_vcpus &&
		"$build/demo/asuser" 65534 65534 "$tap_dir/kvmstat" top --once \
			--interval 0.1 --pid "$vmm" | grep -E '^exits +[1-9]'
	status=$?
	stop_vmm
	return $status
}

# The distribution's QEMU, stopped: it has a VM and a vCPU, and may keep no
# statistics descriptors. Then that is said; with our kernel they are made.
qemu_keeps_none()
{
	local status qemu

	qemu-system-x86_64 -accel kvm -M pc -m 32 -nodefaults -display none \
		-no-user-config -S -name "guest=q$guest,debug-threads=on" &
	qemu=$!
	wait_until "$qemu" lists_guest "q$guest" || { kill "$qemu"; return 1; }
	"$kvmstat" show --guest "q$guest" --json >"$tap_dir/none" 2>"$tap_dir/said"
	status=$?
	kill "$qemu"
	wait "$qemu"
	cat "$tap_dir/none" "$tap_dir/said"
	if [ $status = 0 ]; then
		jq -e '.sources | map(.scope) == ["vm", "vcpu"]' "$tap_dir/none"
	else
		[ $status = 3 ] && grep -q 'keeps none of its statistics descriptors, and this kernel makes none for others' \
			"$tap_dir/said" && jq -e '.status == 3' "$tap_dir/none"
	fi
}

lists_guest()
{
	"$kvmstat" list --json | jq -e --arg name "$1" \
		'.processes[] | select(.guest == $name and .vcpus == 1)' >/dev/null
}

# A screen on which a VM appears, counts, is sorted, and ends.
top_lives()
{
	terminal_begin 90 40 &&
		send_line "clear; $kvmstat top --guest $guest --interval 0.2" &&
		wait_for '^no VM with statistics' || return 1
	run_vmm
	wait_for "^kvm statistics - 1 VM, 5 descriptors" &&
		wait_for '^exits +[0-9]+ +[0-9.]+ +[1-9][0-9]*' &&
		send b && wait_for "^$guest \($vmm\) +[1-9]" && send b &&
		send x && wait_for "^  $guest vcpu3 +[1-9]" && send x &&
		send l && wait_for '^halt_wait_hist .*s-[0-9.]+[mu]?s' &&
		send l && send o && wait_for '^insn_emulation|^exits' || return 1
	stop_vmm
	wait_for 'gone: process ended' && wait_for '^no VM with' && send q &&
		ended_well 0
}

# example NAME: as a reader of the page would copy it, but shorter and here
example()
{
	sed -n '/^\.\\" example: '"$1"'$/,/^\.Ed/{/^\./d;s/\\e$/\\/;p}' \
		"$here/../man/kvmstat.1" | sed -e "s|/tmp|$tap_dir/dumped|" \
		-e "s|/var/log/|$tap_dir/|" -e "s|/run/|$tap_dir/|" \
		-e "s/guest1/$guest/" -e 's/--interval 10/--interval 0.2/' \
		-e 's/--duration 86400/--duration 1/' \
		-e 's/^kvmstat top/& --once --interval 0.1/'
}

run_example()
{
	mkdir -p "$tap_dir/dumped"
	example "$1" >"$tap_dir/example" && [ -s "$tap_dir/example" ] &&
		bash -e -o pipefail "$tap_dir/example" >"$tap_dir/example.out" &&
		cat "$tap_dir/example.out" "$tap_dir/kvmstat.csv" 2>/dev/null |
		grep -qE "$2" && return
	echo "example \"$1\" has no line like $2:"
	cat "$tap_dir/example.out"
	return 1
}

run_socket_example()
{
	example socket >"$tap_dir/example"
	bash -e "$tap_dir/example" >"$tap_dir/example.out" &
	reader=$!
	wait_until "$reader" test -S "$tap_dir/kvmstat.sock" || return 1
	"$tap_dir/$guest" --seconds 2.5 --socket "$tap_dir/kvmstat.sock"
	status_is 0 wait "$reader" && grep -q '"event":"gone"' "$tap_dir/example.out" &&
		return
	echo "example \"socket\" does not say that the VM has gone:"
	cat "$tap_dir/example.out"
	return 1
}

examples()
{
	run_vmm
	wait_until "$vmm" shows_four_vcpus && run_example screen "^  $guest vcpu" &&
		run_example once '^exits +[1-9]' &&
		run_example latencies '^halt_wait_hist .*s-' &&
		run_example day '"?,exits,cumulative,none,[1-9]' &&
		run_example exits '^[1-9][0-9]*$' &&
		run_example dump '^remote_tlb_flush ' && stop_vmm &&
		run_socket_example
}

# It knows no pidfd_getfd: the VM registers.
in_valgrind()
{
	valgrind -q --leak-check=full --error-exitcode=9 \
		--suppressions="$here/valgrind.supp" "$build/kvmstat/kvmstat" \
		record --socket "$tap_dir/socket" --interval 0.1 --until-gone \
		--json --output "$tap_dir/valgrind.json" &
	recorder=$!
	wait_until "$recorder" test -S "$tap_dir/socket" || return 1
	"$tap_dir/$guest" --seconds 36000 --socket "$tap_dir/socket" &
	local vmm=$!
	wait_until "$recorder" grep -qs '"event":"sample"' "$tap_dir/valgrind.json"
	kill -9 "$vmm"
	status_is 0 wait "$recorder" &&
		grep -q '"event":"sample"' "$tap_dir/valgrind.json"
}

demo_script()
{
	"$here/../demo/run-demo.sh" --bin "$build/demo" --seconds 6 --no-lockdown \
		--expect "exits halt_exits halt_wait_ns halt_wait_hist"
}

# These start programs as another user.
check_as_root()
{
	if [ "$(id -u)" = 0 ]; then
		check "$@"
	else
		skip "$1" "not root"
	fi
}

# shellcheck disable=SC2046 # several numbers
trap 'kill -9 $(jobs -p) 2>/dev/null; wait 2>/dev/null; terminal_end; rm -rf "$tap_dir"' EXIT
cp "$kvmstat" "$tap_dir/kvmstat" && cp "$build/demo/demo-vmm" "$tap_dir/$guest" &&
	chmod 755 "$tap_dir"
check "descriptors of a process by its number" start_vmm
check "every source has its place" every_source
check "the process is listed" listed
check "values move" values_move
check "a recorded image has the live schema" image_of_live
check_as_root "another user is denied" other_user_denied
stop_vmm
check "a VMM without descriptors" vmm_without_stats
check "listen as JSON" listens_as_json
check "a record of births and deaths" record_births_and_deaths
check "a record ends with its VM" record_ends_with_vm
check "readers are no VMs" readers_are_no_vms
check "show by a socket" show_by_socket
check "nobody registers, nobody has that name" nobody_registers
check_as_root "no root for one's own VM" own_process_without_root
check "a VMM of the distribution" qemu_keeps_none
check "top sees a VM come and go" top_lives
check "examples of the manual" examples
if [ $# -eq 1 ]; then
	check "a death is no closed connection" every_death_is_one
	check "record in valgrind" in_valgrind
	check_as_root "the demonstration's own verdict" demo_script
fi
tap_done
