#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# usage: kvm.sh BUILD-DIR - with a real VM on this machine's /dev/kvm

here=$(dirname "$0")
build=$1
kvmstat=$build/kvmstat/kvmstat
vmm=
. "$here/tap.sh"

# Nothing here may depend on how fast the machine is: what is waited for is an
# event, and this only ends the wait for one that never comes.
limit_s=60

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
	"$build/demo/demo-vmm" --seconds 36000 "$@" >"$tap_dir/vmm" 2>&1 &
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
	"$kvmstat" list | grep -E "^ *$vmm .* demo-vmm +1 +4 +1 +4\$"
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
		--pid "$vmm"
}

lists_no_stats()
{
	"$kvmstat" list | grep -qE "^ *$vmm .* 4 +0 +0\$"
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
		[ $status = 3 ] && grep -q 'kernel gives us none: Input/output' \
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

trap '[ -z "$vmm" ] || kill -9 "$vmm"; rm -rf "$tap_dir"' EXIT
cp "$kvmstat" "$tap_dir/" && chmod 755 "$tap_dir"
check "descriptors of a process by its number" start_vmm
check "every source has its place" every_source
check "the process is listed" listed
check "values move" values_move
check "a recorded image has the live schema" image_of_live
check_as_root "another user is denied" other_user_denied
stop_vmm
check "a VMM without descriptors" vmm_without_stats
check "listen as JSON" listens_as_json
check "a death is no closed connection" every_death_is_one
check_as_root "the demonstration's own verdict" demo_script
tap_done
