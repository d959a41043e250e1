#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# shellcheck disable=SC2119 # start_agent needs no arguments
# usage: agent-again.sh BUILD-DIR - no VM is lost for good: agents that begin later or
# anew, without systemd, and that have no descriptors left

here=$(dirname "$0")
build=$(cd "$1" && pwd)
agent=''
vmm=''
vmms=''
all=()
. "$here/tap.sh"
. "$here/agent-lib.sh"

# start_preloaded NAME: a VMM that knows nothing of statistics
start_preloaded()
{
	LD_PRELOAD=$build/preload/libkvmstats-preload.so \
		KVMSTATS_SOCKET=$tap_dir/socket KVMSTATS_NAME=$1 \
		"$build/demo/demo-vmm" --no-stats --seconds 36000 \
		>>"$tap_dir/vmm" 2>&1 &
	vmm=$!
	all+=("$vmm")
}

# By the library, which the VMM calls itself
start_sender()
{
	"$build/demo/demo-vmm" --seconds 36000 --name "$1" \
		--socket "$tap_dir/socket" >>"$tap_dir/vmm" 2>&1 &
	vmm=$!
	all+=("$vmm")
}

shown()
{
	has "^kvm_vcpu_exits_total\{vm=\"$1\",vcpu=\"3\"\} [1-9]"
}

before_the_agent()
{
	start_preloaded early
	start_sender early-sender
	sleep 1
	start_agent && wait_until shown early && wait_until shown early-sender
}

kill_agent()
{
	kill -9 "$agent"
	wait "$agent"
	return 0
} 2>/dev/null

killed_agent()
{
	kill_agent
	sleep 1
	start_agent && wait_until shown early && wait_until shown early-sender &&
		has '^kvmstatd_vms 2$' && has '^kvmstatd_descriptors 10$' &&
		has '^kvmstatd_registrations_total 2$'
}

# As a package's script does it.
stopped_agent()
{
	kill "$agent"
	wait "$agent" && start_agent && wait_until shown early &&
		wait_until shown early-sender
}

# What the library keeps for that, of which the VMM sees nothing.
kept_descriptors()
{
	local fds

	fds=$(find "/proc/${all[0]}/fd" -lname 'anon_inode:kvm*stats*' -printf '%f\n')
	[ "$(wc -w <<<"$fds")" = 5 ] && [ "$(sort -n <<<"$fds" | head -n 1)" -ge 1024 ] &&
		[ "$(cat "/proc/${all[0]}/task"/*/comm | grep -cx kvmstats)" = 1 ]
}

ends()
{
	kill -9 "$@"
	wait "$@"
	return 0
} 2>/dev/null

all_end()
{
	ends "${all[@]}"
	all=()
	wait_until has '^kvmstatd_vms 0$' && wait_until has '^kvmstatd_descriptors 0$' ||
		return 1
	kill "$agent"
	wait "$agent" && [ ! -e "$tap_dir/socket" ]
}

# An agent that may have few descriptors: what has no room waits, is not blamed, and
# gets in when there is room.
few_descriptors()
{
	local i

	: >"$tap_dir/agent.err"
	(ulimit -n 64 && exec "$build/kvmstatd/kvmstatd" --socket "$tap_dir/socket" \
		--listen 127.0.0.1:0 2>"$tap_dir/agent.err") &
	agent=$!
	wait_until find_url || return 1
	for i in {1..10}; do
		start_preloaded "vm$i"
	done
	# all ten have a descriptor, if each got in before another's second
	wait_until has '^kvmstatd_vms ([2-9]|10)$' &&
		wait_until grep -q 'no descriptors are left' "$tap_dir/agent.err" &&
		! has '^kvmstatd_registrations_rejected_total\{.*\} [1-9]' || return 1
	while [ ${#all[@]} -gt 1 ]; do
		ends "${all[0]}"
		all=("${all[@]:1}")
	done
	wait_until shown vm10 &&
		! has '^kvmstatd_registrations_rejected_total\{.*\} [1-9]'
}

# A VM that has more than it may is refused once, however often it would come again.
too_low_a_limit()
{
	local refused='is refused: it has more vCPUs and devices than --max-fds-per-vm allows'

	all_end || return 1
	write_config 'max-fds-per-vm = 3'
	start_agent --config "$tap_dir/config" || return 1
	start_sender big
	wait_until grep -q "$refused" "$tap_dir/agent.err" || return 1
	sleep 4
	cat "$tap_dir/agent.err"
	has '^kvmstatd_registrations_rejected_total\{reason="too_many_descriptors"\} 1$' &&
		has '^kvmstatd_vms 0$' && [ "$(grep -c "$refused" "$tap_dir/agent.err")" = 1 ] &&
		[ "$(grep -c 'is registered' "$tap_dir/agent.err")" = 1 ] || return 1
	write_config 'max-fds-per-vm = 5'
	kill -HUP "$agent"
	wait_until shown big && has '^kvmstatd_descriptors 5$'
}

# The VMM takes the place of kvmstat, and is registered when there is an agent.
run_for_agent()
{
	kill "$agent"
	wait "$agent"
	"$build/kvmstat/kvmstat" run --agent --socket "$tap_dir/socket" --name early \
		-- "$build/demo/demo-vmm" --no-stats --seconds 36000 \
		>"$tap_dir/run" 2>&1 &
	all+=($!)
	has_text "$tap_dir/run" || return 1
	[ "/proc/${all[-1]}/exe" -ef "$build/demo/demo-vmm" ] || return 1
	start_agent && wait_until shown early || return 1
	cat "$tap_dir/run"
	grep -q "no agent can be reached at $tap_dir/socket (No such file" "$tap_dir/run" &&
		[ "$(wc -l <"$tap_dir/run")" = 1 ] || return 1
	status_is 2 "$build/kvmstat/kvmstat" run --agent --json -- true &&
		status_is 2 "$build/kvmstat/kvmstat" run --socket x -- true &&
		status_is 127 "$build/kvmstat/kvmstat" run --agent -- nosuchprogram
}

# tell WORDS...: have the VMM do it
tell()
{
	local answer

	echo "$@" >&"${vmm_io[1]}"
	read -r answer <&"${vmm_io[0]}"
	[ "$answer" = "done" ] || { echo "VMM: $*: $answer" && return 1; }
}

# vcpus_shown N: the only VM has the name it was given, and so many vCPUs
vcpus_shown()
{
	metrics >"$tap_dir/metrics" &&
		[ "$(grep -c '^kvm_vm_info{' "$tap_dir/metrics")" = 1 ] &&
		[ "$(grep -c '^kvm_vcpu_exits_total{vm="again",' "$tap_dir/metrics")" = "$1" ]
}

# The end of a VM is noticed while its VMM lives on; the next one has the same name.
made_again()
{
	local i

	coproc vmm_io {
		LD_PRELOAD=$(realpath "$build/preload/libkvmstats-preload.so") \
			KVMSTATS_SOCKET=$tap_dir/socket KVMSTATS_NAME=again exec "$here/vmm.py"
	}
	# shellcheck disable=SC2154 # the coprocess's number
	all+=("$vmm_io_PID")
	tell vm && tell bare && tell bare && wait_until vcpus_shown 2 || return 1
	# under another number as well, which then is the only one
	tell dup && sleep 3 && vcpus_shown 2 || return 1
	tell close && wait_until has '^kvmstatd_vms 0$' || return 1
	for i in 1 2 3 4 5 6 7 8; do
		tell vm && tell bare && { [ $((i % 2)) = 0 ] || tell bare; } &&
			wait_until vcpus_shown $((1 + i % 2)) || return 1
		tell close || return 1
	done
	# at once, so that the agent has both at a time
	for i in 1 2 3 4 5 6 7 8; do
		tell remake $((1 + i % 2)) || return 1
	done
	wait_until vcpus_shown 1
}

made_again_alone()
{
	ends "${all[@]}"
	all=()
	wait_until has '^kvmstatd_vms 0$' && made_again && return
	cat "$tap_dir/agent.err"
	grep '^kvm_vm_info\|^kvm_vcpu_exits\|^kvmstatd_vms' "$tap_dir/metrics"
	return 1
}

# Until the file has something
has_text()
{
	local end=$((SECONDS + limit_s))

	until [ -s "$1" ]; do
		[ $SECONDS -lt $end ] || return 1
		sleep 0.05
	done
	sleep 0.2
}

# QEMU's own name and UUID, for whoever registers it.
names_of_qemu()
{
	local uuid=2dd4b6b0-6d5c-4c0e-8f7e-0c9c4f4a9b11

	LD_PRELOAD=$build/preload/libkvmstats-preload.so \
		KVMSTATS_SOCKET=$tap_dir/socket qemu-system-x86_64 -accel kvm \
		-nodefaults -display none -S -name guest=web01,debug-threads=on \
		-uuid $uuid -smp 2 >>"$tap_dir/vmm" 2>&1 &
	all+=($!)
	wait_until has "^kvm_vm_info\{vm=\"web01\",name=\"web01\",uuid=\"$uuid\"" &&
		wait_until has '^kvm_vcpu_cpu_seconds_total\{vm="web01",vcpu="1"\}'
}

# A VM that replaces its device $1 times; prints how often systemd had to keep a box.
replace_often()
{
	KVMSTATD=$build/kvmstatd/kvmstatd python3 - "$1" "$tap_dir/often" <<-'END'
		import fcntl, os, socket, struct, subprocess, sys, threading, time
		times, path = int(sys.argv[1]), sys.argv[2]
		kept = 0
		def be_systemd():
		    global kept
		    while True:
		        kept += notify.recv(4096).startswith(b"FDSTORE=1")
		notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
		notify.bind(path + ".notify")
		threading.Thread(target=be_systemd, daemon=True).start()
		agent = subprocess.Popen([os.environ["KVMSTATD"], "--socket", path, "--listen",
		    "unix:" + path + ".http"], env=dict(os.environ, NOTIFY_SOCKET=path + ".notify"))
		while not os.path.exists(path + ".http"):
		    assert agent.poll() is None
		    time.sleep(.05)
		vmm = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
		vmm.connect(path)
		# as docs/format.md has it: a header, an identification, one counter
		device = struct.pack("6I", 0, 48, 1, 24, 72, 136)
		device += (b"kvm-%d/net:n" % os.getpid()).ljust(48, b"\0")
		device += struct.pack("IhHII", 0, 0, 1, 0, 0) + b"packets".ljust(48, b"\0") + bytes(8)
		for i in range(times):
		    fd = os.memfd_create("kvmstats:net", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
		    os.write(fd, device)
		    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_GROW |
		                fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL)
		    socket.send_fds(vmm, [struct.pack("8sHHIIIQHHI", b"KVMSTATS", 1, 40, 1,
		                                      0, 0, 0, 1, 0, 0) + b"n"], [fd])
		    os.close(fd)
		text = b""
		while b"replaced_total %d" % (times - 1) not in text:
		    assert agent.poll() is None
		    http = socket.socket(socket.AF_UNIX)
		    http.connect(path + ".http")
		    http.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
		    text = http.makefile("rb").read()
		agent.terminate()
		agent.wait()
		print(kept)
	END
}

# However often a VM replaces what it has, systemd does not hear of it each time.
systemd_is_spared()
{
	local kept start=$SECONDS

	kept=$(replace_often 1000 2>>"$tap_dir/vmm")
	# 16 at once, then one each 25 ms, and one at the end
	echo "kept $kept times"
	[ -n "$kept" ] && [ "$kept" -le $((17 + (SECONDS - start + 1) * 40)) ]
}

# shellcheck disable=SC2046,SC2064 # numbers
trap 'kill -9 $agent "${all[@]}" 2>/dev/null; rm -rf "$tap_dir"' EXIT

check "VMs that are older than the agent" before_the_agent
check "an agent that was killed" killed_agent
check "an agent that was stopped" stopped_agent
check "what stays in the VMM for that" kept_descriptors
check "they end" all_end
check "an agent with few descriptors" few_descriptors
check "a limit that is too low" too_low_a_limit
check "they end, too" all_end
check "another start" start_agent
check "kvmstat run --agent" run_for_agent
check "the VM's end while its VMM lives" made_again_alone
check "what a VM replaces is no load for systemd" systemd_is_spared
if command -v qemu-system-x86_64 >/dev/null && [ "$(uname -m)" = x86_64 ]; then
	check "QEMU's name and UUID" names_of_qemu
else
	skip "QEMU's name and UUID" "no QEMU for this machine"
fi
tap_done
