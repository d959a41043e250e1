#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# usage: cpu-stats.sh BUILD-DIR - kvmstat cpu-stats with a VM on /dev/kvm, beside
# what /proc says

here=$(cd "$(dirname "$0")" && pwd)
build=$(cd "$1" && pwd)
kvmstat=$build/kvmstat/kvmstat
demo=
. "$here/tap.sh"
# other VMs of this machine have another name
guest=cpu$$
# shellcheck source=userspace/tests/vms.sh
. "$here/vms.sh"

# demo-vmm names its threads, and starts one after the other.
threads_of_demo()
{
	grep -lxE 'vcpu[0-9]+' /proc/"$demo"/task/*/comm 2>/dev/null |
		cut -d/ -f5 | sort -n | paste -sd,
}

start_demo()
{
	local end=$((SECONDS + limit_s))

	"$build/demo/demo-vmm" --seconds 36000 >"$tap_dir/demo" 2>&1 &
	demo=$!
	until [[ $(threads_of_demo) == *,*,*,* ]]; do
		kill -0 "$demo" || return 1
		[ $SECONDS -lt $end ] || return 1
		sleep 0.05
	done
}

# Whether it has statistics does not matter here.
unknown_name()
{
	status_is 3 "$kvmstat" cpu-stats --guest "no$guest" 2>"$tap_dir/err"
	cat "$tap_dir/err"
	grep -qx "kvmstat: no VM is named no$guest" "$tap_dir/err"
}

# The vCPU that halts is seen in KVM_RUN, and it is the first.
finds_the_halting_thread()
{
	"$kvmstat" cpu-stats --pid "$demo" --json >"$tap_dir/found" &&
		python3 - "$tap_dir/found" "$(threads_of_demo)" <<'END'
import json, sys
report = json.load(open(sys.argv[1]))
tids = [int(t) for t in sys.argv[2].split(",")]
for cpu, tid in zip(report["cpus"], tids):
    assert cpu["thread"] in (None, tid), (cpu["thread"], tids)
    assert ("cpu_time" in cpu["params"]) == (cpu["thread"] is not None), cpu
first = report["cpus"][0]
assert first["thread"] == tids[0] and first["params"]["cpu_time"] > 0, first
if None in [c["thread"] for c in report["cpus"]]:
    assert "cpu_time" not in report["total"]["params"], report["total"]
END
}

# They are those of the kernel, before and after.
given_threads()
{
	python3 - "$kvmstat" "$demo" "$(threads_of_demo)" <<'END'
import json, subprocess, sys
kvmstat, pid, tids = sys.argv[1:]
def look():
    return [open(f"/proc/{pid}/task/{t}/schedstat").read().split()
            for t in tids.split(",")]
before = look()
report = json.loads(subprocess.check_output(
    [kvmstat, "cpu-stats", "--pid", pid, "--json", "--threads", tids]))
after = look()
cpus = [c["params"] for c in report["cpus"]]
total = report["total"]["params"]
assert len(cpus) == 4
for column, name in enumerate(("cpu_time", "wait_time", "timeslices")):
    for cpu, low, high in zip(cpus, before, after):
        assert int(low[column]) <= cpu[name] <= int(high[column]), (name, cpu)
    # the total is from a moment before
    assert total[name] <= sum(c[name] for c in cpus), name
for name in "user_time", "system_time", "vcpu_time", "kvm.exits":
    assert 0 <= total[name] <= sum(c[name] for c in cpus), name
assert total["cpu_time"] > 0 and total["kvm.exits"] > 0, total
END
}

# All threads of the VMM. /proc says it in ticks, and divides it by an estimate that
# never goes back, as ours may.
time_of_the_vmm()
{
	python3 - "$kvmstat" "$demo" <<'END'
import json, os, subprocess, sys
kvmstat, pid = sys.argv[1:]
def look():
    fields = open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()
    return [int(n) * 1e9 / os.sysconf("SC_CLK_TCK") for n in fields[11:13]]
before = look()
report = json.loads(subprocess.check_output(
    [kvmstat, "cpu-stats", "--pid", pid, "--json"]))
after = look()
params = report["host"]["total"]["params"]
assert list(params) == ["user", "system"], params
# what runs has run since /proc's last look at it
slack = 8e9 / os.sysconf("SC_CLK_TCK")
assert sum(before) <= sum(params.values()) <= sum(after) + slack, (before, params, after)
slack += sum(after) / 20
for name, low, high in zip(params, before, after):
    assert low - slack <= params[name] <= high + slack, (name, low, params, high)
threads = [cpu["thread"] for cpu in report["cpus"]]
assert None not in threads and len(set(threads)) == 4, threads
END
}

# By the host's CPUs, from the VM's cgroup: with a cgroup of its own, and where
# only cgroup v2 is mounted.
by_host_cpus()
{
	local group=/sys/fs/cgroup/cpuacct/kvmstat-$$ status

	mkdir "$group" && echo "$demo" >"$group/cgroup.procs" || return 1
	sleep 0.5
	"$kvmstat" cpu-stats --pid "$demo" --json >"$tap_dir/host" 2>"$tap_dir/err"
	status=$?
	cat "$group/cpuacct.usage_percpu" >"$tap_dir/after"
	echo "$demo" >/sys/fs/cgroup/cpuacct/cgroup.procs
	rmdir "$group"
	cat "$tap_dir/host" "$tap_dir/err" "$tap_dir/after"
	[ $status = 0 ] && jq -e --arg after "$(cat "$tap_dir/after")" '
		($after | split(" ") | map(select(. != "") | tonumber)) as $most |
		[.host.cpus[].params.usage] as $said |
		($said | length) == ($most | length) and ($said | add) > 1e8 and
		([range($most | length)] | all($said[.] <= $most[.]))' \
		"$tap_dir/host"
}

only_cgroup_v2()
{
	unshare -m sh -c 'umount -l /sys/fs/cgroup/cpuacct 2>/dev/null
		umount -l /sys/fs/cgroup/cpu,cpuacct 2>/dev/null
		exec "$@"' sh "$kvmstat" cpu-stats --pid "$demo" --json \
		>"$tap_dir/host" 2>"$tap_dir/err" &&
		grep -q 'only the cpuacct controller of cgroup v1 has it' "$tap_dir/err" &&
		jq -e '.host.cpus == [] and .host.total.params.user >= 0' \
			"$tap_dir/host"
}

shows_bare_vcpus()
{
	"$kvmstat" cpu-stats --pid "$bare" --json >"$tap_dir/bare" \
		2>"$tap_dir/said" &&
		jq -e '(.cpus | length) == 4 and
			(.cpus | all(.params.cpu_time > 0)) and
			.total.params.cpu_time > 0' "$tap_dir/bare"
}

# QEMU 7.2 on mainline: no statistics, and its threads all the same.
without_statistics()
{
	local status

	"$build/demo/demo-vmm" --no-stats --seconds 36000 >/dev/null 2>&1 &
	bare=$!
	wait_until "$bare" shows_bare_vcpus
	status=$?
	kill -9 $bare
	cat "$tap_dir/bare" "$tap_dir/said"
	# where the kernel makes them for us, they are not missing
	grep -q '"kvm.exits"' "$tap_dir/bare" ||
		grep -q "process $bare: no statistics, " "$tap_dir/said" || status=1
	return $status
}

# A VM that several descriptors stand for is one; by its name as well. Its one
# thread has the name that VMMs give to that of vCPU 0.
duplicated_vm()
{
	local status

	start_told && tell vm && tell vcpu && tell again && tell dup &&
		tell name vcpu0 || return 1
	"$kvmstat" cpu-stats --guest "$guest" --json >"$tap_dir/dup" \
		2>"$tap_dir/said"
	status=$?
	tid=$vmm
	end_told
	cat "$tap_dir/dup" "$tap_dir/said"
	[ $status = 0 ] && ! grep -q 'several VMs' "$tap_dir/said" &&
		jq -e --argjson tid "$tid" '[.cpus[].thread] == [$tid]' \
			"$tap_dir/dup"
}

# Those of two VMs have the same numbers.
several_vms()
{
	local status

	start_told && tell vm && tell vcpu 0 && tell vm && tell vcpu 1 || return 1
	"$kvmstat" cpu-stats --guest "$guest" >/dev/null 2>"$tap_dir/said"
	status=$?
	end_told
	cat "$tap_dir/said"
	[ $status = 0 ] && grep -q 'several VMs' "$tap_dir/said"
}

# Where no others are: the only one need not be named, and of two the choice is shown.
only_vm()
{
	# shellcheck disable=SC2016 # the inner shell's
	unshare -m --pid --fork --mount-proc bash -c '
		. "$1/tap.sh"
		kvmstat=$2/kvmstat/kvmstat
		status_is 3 "$kvmstat" cpu-stats || exit 1
		"$2/demo/demo-vmm" --seconds 36000 >/dev/null &
		one=$!
		until "$kvmstat" cpu-stats --total 2>/dev/null; do
			kill -0 $one || exit 1
			sleep 0.1
		done
		[ "$("$kvmstat" cpu-stats --json 2>/dev/null | jq .pid)" = $one ] || exit 1
		"$2/demo/demo-vmm" --seconds 36000 >/dev/null &
		two=$!
		until ! "$kvmstat" cpu-stats --total 2>"$3/several"; do
			kill -0 $two || exit 1
			sleep 0.1
		done
		status_is 2 "$kvmstat" cpu-stats || exit 1
		grep -qx "kvmstat: several VMs; choose by --pid or --guest: demo-vmm (pid $one), demo-vmm (pid $two)" \
			"$3/several" || exit 1
		"$kvmstat" cpu-stats --guest demo-vmm 2>&1 |
			grep -qx "kvmstat: several VMs are named demo-vmm; choose by --pid: .*pid $one), .*pid $two)"
	' bash "$here" "$build" "$tap_dir"
}

text_of_cpu_stats()
{
	"$kvmstat" cpu-stats --pid "$demo" --threads "$(threads_of_demo)" \
		>"$tap_dir/text" &&
		[ "$(grep -c '^vcpu[0-3] (thread [0-9]*)$' "$tap_dir/text")" = 4 ] &&
		grep -qE '^  cpu_time +[0-9]+$' "$tap_dir/text" &&
		grep -qx 'total of 4' "$tap_dir/text" &&
		"$kvmstat" cpu-stats --pid "$demo" --total 2>/dev/null |
		grep -qx 'total of 4'
}

bad_threads()
{
	status_is 2 "$kvmstat" cpu-stats --pid "$demo" --threads 0,0 &&
		status_is 2 "$kvmstat" cpu-stats --pid "$demo" --threads a,b,c,d &&
		status_is 3 "$kvmstat" cpu-stats --pid "$demo" --threads 1,0,0,0 &&
		status_is 2 "$kvmstat" cpu-stats --pid "$demo" --guest x &&
		status_is 2 "$kvmstat" cpu-stats --pid "$demo" --pid "$demo" &&
		status_is 3 "$kvmstat" cpu-stats --pid $$
}

example()
{
	sed -n '/^\.\\" example: wait$/,/^\.Ed/{/^\./d;p}' \
		"$here/../man/kvmstat.1"
}

example_of_cpu_stats()
{
	mkdir "$tap_dir/path" &&
		printf '#!/bin/sh\necho %s\n' "$demo" >"$tap_dir/path/pidof" &&
		chmod +x "$tap_dir/path/pidof" &&
		PATH=$tap_dir/path:$build/kvmstat:$PATH \
			bash -c "$(example)" >"$tap_dir/example" &&
		grep -q '^vcpu0 (thread' "$tap_dir/example" &&
		grep -q '^  cpu_time' "$tap_dir/example"
}

trap '[ -z "$demo" ] || kill -9 "$demo"; rm -rf "$tap_dir"' EXIT
check "a VMM with four vCPUs" start_demo
check "the thread that halts is found" finds_the_halting_thread
check "threads that are given" given_threads
check "time of the whole VMM" time_of_the_vmm
if [ "$(id -u)" = 0 ]; then
	if [ -w /sys/fs/cgroup/cpuacct/cgroup.procs ]; then
		check "by the host's CPUs, cgroup v1" by_host_cpus
	else
		skip "by the host's CPUs, cgroup v1" "no cpuacct of cgroup v1"
	fi
	check "by the host's CPUs, cgroup v2" only_cgroup_v2
else
	skip "by the host's CPUs" "needs root, to make a cgroup"
fi
check "without statistics" without_statistics
check "a VM that is duplicated, by its name" duplicated_vm
check "several VMs" several_vms
if [ "$(id -u)" = 0 ]; then
	check "the only VM, and a choice" only_vm
else
	skip "the only VM, and a choice" "needs root, to be alone"
fi
if [ "$(id -u)" = 0 ]; then
	check "a name that no VM has" unknown_name
else
	skip "a name that no VM has" "not root: there are processes that cannot be inspected"
fi
check "as text" text_of_cpu_stats
check "mistakes are named" bad_threads
check "the manual's example" example_of_cpu_stats
tap_done
