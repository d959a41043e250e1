#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# usage: cpu-stats.sh BUILD-DIR - kvmstat cpu-stats with a VM on /dev/kvm, beside
# what /proc says

here=$(dirname "$0")
build=$1
kvmstat=$build/kvmstat/kvmstat
demo=
limit_s=60		# for what never comes
. "$here/tap.sh"

# demo-vmm starts one thread after the other; kernels have threads of their own
# in the process (kvm-nx-lpage-recovery).
threads_of_demo()
{
	grep -lx demo-vmm /proc/"$demo"/task/*/comm 2>/dev/null |
		cut -d/ -f5 | sort -n | sed 1d | paste -sd,
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

text_of_cpu_stats()
{
	"$kvmstat" cpu-stats --pid "$demo" --threads "$(threads_of_demo)" \
		>"$tap_dir/text" &&
		[ "$(grep -c '^vcpu[0-3] (thread [0-9]*)$' "$tap_dir/text")" = 4 ] &&
		grep -qE '^  cpu_time +[0-9]+$' "$tap_dir/text" &&
		grep -qx 'total of 4' "$tap_dir/text" &&
		"$kvmstat" cpu-stats --pid "$demo" --total 2>/dev/null |
		head -n 1 | grep -qx 'total of 4'
}

bad_threads()
{
	status_is 2 "$kvmstat" cpu-stats --pid "$demo" --threads 0,0 &&
		status_is 2 "$kvmstat" cpu-stats --pid "$demo" --threads a,b,c,d &&
		status_is 3 "$kvmstat" cpu-stats --pid "$demo" --threads 1,0,0,0 &&
		status_is 2 "$kvmstat" cpu-stats &&
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
check "as text" text_of_cpu_stats
check "mistakes are named" bad_threads
check "the manual's example" example_of_cpu_stats
tap_done
