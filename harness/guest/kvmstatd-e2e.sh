#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# usage: kvmstatd-e2e.sh BUILD-DIR [emulated] - from VMs to the answers of a Prometheus
#
# Two QEMUs that know nothing of statistics, one found by kvmstatd-discover and
# one with our preloaded library, the demonstration VMM, and a disk; kvmstatd as a user
# without a capability, the helper as another one with one. For a kernel with
# the series under test and its host's root, or any machine with /dev/kvm; runs
# as root, in namespaces of its own as far as the kernel has them. Emulated: without
# promtool, which takes 40 s a time there to read text whose syntax no kernel changes.

here=$(cd "$(dirname "$0")" && pwd)
top=$(dirname "$(dirname "$here")")
build=$1
place=${2-}
if [ "${3-}" != isolated ]; then
	spaces=(--pid --fork --kill-child --mount-proc)
	! unshare --net true 2>/dev/null || spaces+=(--net)
	exec unshare "${spaces[@]}" "$0" "$build" "${place:-native}" isolated
fi
. "$top/userspace/tests/tap.sh"
agent_uid=65534
helper_uid=65533
kernel=series
socket=$tap_dir/run/register.sock
dashboard=$top/userspace/kvmstatd/dashboard/kvmstatd.json
export AGENT=http://127.0.0.1:9976 PROMETHEUS=http://127.0.0.1:9090
export KVMSTAT=$build/kvmstat/kvmstat

# e2e COMMAND...: what it prints; the status is its verdict
e2e()
{
	local line

	echo "$@" >&8
	while IFS= read -r line <&9; do
		case $line in
		holds) return 0 ;;
		fails) return 1 ;;
		*) echo "$line" ;;
		esac
	done
	return 1
}

start_e2e()
{
	mkfifo "$tap_dir/ask" "$tap_dir/answer"
	"$here/kvmstatd-e2e.py" <"$tap_dir/ask" >"$tap_dir/answer" 2>&1 &
	exec 8>"$tap_dir/ask" 9<"$tap_dir/answer"
}

as_user()
{
	exec "$build/demo/asuser" "$1" "$1" "${@:2}"
}

wait_until()
{
	local end=$((SECONDS + 300))

	until "$@"; do
		[ $SECONDS -lt $end ] || return 1
		sleep 0.1
	done
}

start_agent()
{
	as_user $agent_uid "$build/kvmstatd/kvmstatd" --socket "$socket" \
		--mode 0666 --listen "${AGENT#http://}" \
		--helper-uid $helper_uid 2>"$tap_dir/agent" &
	agent=$!
	wait_until test -S "$socket" || { cat "$tap_dir/agent"; return 1; }
}

start_helper()
{
	setpriv --reuid $helper_uid --regid $helper_uid --clear-groups \
		--inh-caps=-all,+sys_ptrace --ambient-caps=+sys_ptrace \
		"$build/discover/kvmstatd-discover" --socket "$socket" \
		--interval 0.5 2>"$tap_dir/helper" &
	helper=$!
}

# No disk, no network, no display. The BIOS halts in the end.
qemu_options=(-accel kvm -M pc -smp 2 -m 64 -nodefaults -display none
	-no-user-config -monitor none -serial none)

# with_library NAME: QEMU, registering itself
with_library()
{
	exec env LD_PRELOAD="$build/preload/libkvmstats-preload.so" \
		KVMSTATS_SOCKET="$socket" KVMSTATS_NAME="$1" \
		qemu-system-x86_64 "${qemu_options[@]}" >"$tap_dir/qemu-$1" 2>&1
}

forbidden()
{
	grep -q "(pid $found): .*kernel makes none for other processes" \
		"$tap_dir/helper"
}

# Mainline gives them to the VMM only: there, both have the library.
found()
{
	qemu-system-x86_64 "${qemu_options[@]}" -name guest=found \
		>"$tap_dir/qemu-found" 2>&1 &
	found=$!
	wait_until known found || { cat "$tap_dir/helper" "$tap_dir/agent"; return 1; }
	forbidden || return 0
	kernel=mainline
	kill $found
	with_library found &
	found=$!
	e2e registered found
}

known()
{
	forbidden || grep -q "^kvmstatd-discover: $1 (pid .*: registered, 4 " \
		"$tap_dir/helper"
}

loaded()
{
	with_library loaded &
	loaded=$!
	e2e registered loaded || { cat "$tap_dir/qemu-loaded" "$tap_dir/agent"; return 1; }
}

demo()
{
	"$build/demo/demo-vmm" --name demo --socket "$socket" --seconds 36000 \
		2>"$tap_dir/demo" &
	demo=$!
	e2e registered demo || { cat "$tap_dir/demo" "$tap_dir/agent"; return 1; }
}

# A disk in use; its backend is a VM of its own to the agent.
disk()
{
	# shellcheck disable=SC2016 # uri is nbdkit's
	nbdkit -U - --filter="$build/nbdkit/nbdkit-kvmstats-filter.so" memory 64M \
		kvmstats-vm=disk kvmstats-device=vda kvmstats-socket="$socket" \
		--run 'while qemu-img bench -c 50 -f raw "$uri"; do sleep 0.3; done' \
		>"$tap_dir/disk" 2>&1 &
	e2e registered disk || { cat "$tap_dir/disk" "$tap_dir/agent"; return 1; }
}

prometheus()
{
	cat >"$tap_dir/prometheus.yml" <<-END
	global:
	  scrape_interval: 500ms
	scrape_configs:
	  - job_name: kvmstatd
	    static_configs:
	      - targets: ["${AGENT#http://}"]
	END
	[ "$place" = emulated ] || promtool check config "$tap_dir/prometheus.yml" ||
		return 1
	command prometheus --config.file="$tap_dir/prometheus.yml" \
		--storage.tsdb.path="$tap_dir/tsdb" --log.level=warn \
		--web.listen-address="${PROMETHEUS#http://}" \
		>"$tap_dir/prometheus" 2>&1 &
	e2e prometheus_up || { cat "$tap_dir/prometheus"; return 1; }
}

registered_by()
{
	e2e metrics | grep "^kvm_vm_info{.*name=\"$1\".*registered_by=\"$2\""
}

promtool_text()
{
	e2e metrics >"$tap_dir/text" && promtool check metrics <"$tap_dir/text"
}

# "check metrics" knows the older format only; this reads the newer one.
promtool_openmetrics()
{
	e2e openmetrics >"$tap_dir/openmetrics" &&
		promtool tsdb create-blocks-from openmetrics \
		"$tap_dir/openmetrics" "$tap_dir/blocks" >"$tap_dir/out2" 2>&1
	status=$?
	tail -n 5 "$tap_dir/out2"
	[ $status = 0 ] && [ -n "$(ls "$tap_dir/blocks")" ]
}

dies()
{
	kill -9 "$1"
	wait "$1" 2>/dev/null
	e2e vanishes "$2"
}

agent_is_unprivileged()
{
	grep -E '^(Uid|CapPrm)' "/proc/$agent/status"
	grep -qE "^Uid:.$agent_uid.$agent_uid" "/proc/$agent/status" &&
		grep -qE '^CapPrm:.0*$' "/proc/$agent/status"
}

helper_has_one_capability()
{
	grep -E '^(Uid|CapPrm)' "/proc/$helper/status"
	grep -qE "^Uid:.$helper_uid.$helper_uid" "/proc/$helper/status" &&
		grep -qE '^CapPrm:.0*80000$' "/proc/$helper/status"
}

ip link set lo up 2>/dev/null || ifconfig lo up
mkdir "$tap_dir/run" && chmod 755 "$tap_dir" && chmod 1777 "$tap_dir/run"
start_e2e
check "the agent starts" start_agent
start_helper
check "a QEMU that knows nothing of this" found
check "a QEMU with the preloaded library" loaded
check "the demonstration VMM registers itself" demo
check "a disk of nbdkit's" disk
check "Prometheus scrapes" prometheus
check "it knows all four" e2e vms demo disk found loaded
check "found by the helper, but where the kernel forbids it" \
	registered_by found "$([ $kernel = mainline ] && echo vmm || echo helper)"
check "the VMM's own word is preferred" registered_by demo vmm
check "the agent has no capability" agent_is_unprivileged
check "the helper has one" helper_has_one_capability
check "values of the first QEMU" e2e values "$found" found
check "values of the second QEMU" e2e values "$loaded" loaded
check "values of the demonstration" e2e values "$demo" demo
check "a quantile" e2e quantile "$demo" demo
if [ "$place" != emulated ]; then
	check "promtool: text format" promtool_text
	check "promtool: OpenMetrics" promtool_openmetrics
fi
check "the dashboard's expressions" e2e dashboard "$dashboard" $kernel
check "health" e2e health
check "a QEMU is killed: gone within a second" dies "$loaded" loaded
check "found one is killed: gone within a second" dies "$found" found
check "Prometheus has two left" e2e vms demo disk
tap_done
