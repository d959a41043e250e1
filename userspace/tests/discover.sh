#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# usage: discover.sh BUILD-DIR - kvmstatd-discover with real VMs on /dev/kvm
#
# The reader is "kvmstat listen"; what it received is asked for in its JSON.
# Runs as root, in a pid namespace of its own: other VMs of this machine are not
# looked for, and whatever is left behind ends with the first process.

if [ "${2-}" != isolated ]; then
	exec unshare --pid --fork --kill-child --mount-proc "$0" "$1" isolated
fi
here=$(dirname "$0")
build=$1
discover=$build/discover/kvmstatd-discover
kvmstat=$build/kvmstat/kvmstat
limit_s=300
reader_uid=65534
helper_uid=65533
pids=()
. "$here/tap.sh"

# A test may take long on a busy machine, what is waited for may not come.
wait_until()
{
	local end=$((SECONDS + limit_s))

	while ! "$@"; do
		if [ $SECONDS -ge $end ]; then
			echo "waited in vain: $*"
			return 1
		fi
		sleep 0.05
	done
}

end()
{
	kill -9 "$@"
	wait "$@"
	return 0
} 2>/dev/null

# start_reader [COMMAND...]: run as COMMAND kvmstat
start_reader()
{
	rm -f "$tap_dir/open/socket"
	: >"$tap_dir/events"
	"$@" "$kvmstat" listen --json --interval 1 --mode 0666 \
		"$tap_dir/open/socket" >"$tap_dir/events" 2>"$tap_dir/reader" &
	reader=$!
	pids+=("$reader")
	wait_until test -S "$tap_dir/open/socket"
}

# start_helper [COMMAND...]
start_helper()
{
	"$@" "$discover" --socket "$tap_dir/open/socket" \
		--interval "${interval-0.2}" \
		2>"$tap_dir/helper" &
	helper=$!
	pids+=("$helper")
}

# Not at the next look, which is far away here.
closed_at_once()
{
	end "$helper"
	start_vmm
	interval=3600 start_helper
	registered || return 1
	stop_vmm
	wait_until nothing_held || evidence
}

# As systemd starts it: a user of its own, one capability.
only_ptrace()
{
	exec setpriv --reuid $helper_uid --regid $helper_uid --clear-groups \
		--inh-caps=-all,+sys_ptrace --ambient-caps=+sys_ptrace "$@"
}

as_user()
{
	exec "$build/demo/asuser" "$1" "$1" "${@:2}"
}

# start_vmm [ARGUMENT...]: they are nothing but a command line
start_vmm()
{
	coproc vmm_io { exec "$here/vmm.py" "$@"; }
	# shellcheck disable=SC2154 # the coprocess's number
	vmm=$vmm_io_PID
	pids+=("$vmm")
	tell vm
	tell vcpu
	tell vcpu
	tell again
	tell hold
}

# tell WORDS...: have the VMM do it
tell()
{
	local answer

	echo "$@" >&"${vmm_io[1]}"
	read -r answer <&"${vmm_io[0]}"
	[ "$answer" = "done" ] || echo "VMM: $*: $answer"
}

stop_vmm()
{
	end "$vmm"
	vmm=
}

# event NAME REGEX: there is one about the VM, with a reason like this
event()
{
	grep "\"event\":\"$1\"" "$tap_dir/events" | grep "\"name\":\"pid-$vmm\"" |
		grep -q "\"reason\":\"$2"
}

evidence()
{
	cat "$tap_dir/helper" "$tap_dir/reader"
	grep -v '"event":"sample"' "$tap_dir/events"
	return 1
}

# log REGEX: the helper has said so
log()
{
	grep -q "$1" "$tap_dir/helper"
}

# Three descriptors, whichever way they are had; counted once each.
registered()
{
	wait_until event sent "3 descriptors accepted, 0 rejected" || evidence
}

found()
{
	start_helper
	start_vmm
	registered
}

stats_fds_of()
{
	find "/proc/$1/fd" -lname 'anon_inode:kvm*' 2>/dev/null | wc -l
}

# An open descriptor would keep the VM's memory. Where the helper made them
# itself, it has one more, of the VM.
gone_with_its_descriptors()
{
	[ "$(stats_fds_of "$helper")" -ge 3 ] || return 1
	stop_vmm_only
	wait_until event gone "process ended" || evidence || return 1
	wait_until nothing_held || evidence
}

stop_vmm_only()
{
	end "$vmm"
}

nothing_held()
{
	[ "$(stats_fds_of "$helper")" = 0 ] && [ "$(stats_fds_of "$reader")" = 0 ]
}

# The worker has had VM, vCPU and other descriptors; it keeps none.
worker_keeps_nothing()
{
	local worker

	worker=$(pgrep -P "$helper")
	[ -n "$worker" ] && [ "$(stats_fds_of "$worker")" = 0 ]
}

only_one_capability()
{
	grep -E '^(Cap|NoNewPrivs|Uid)' "/proc/$helper/status"
	! grep -E '^Cap(Inh|Amb):' "/proc/$helper/status" | grep -v ':.0*$' &&
		grep -qE '^CapPrm:.0*80000$' "/proc/$helper/status" &&
		grep -qE '^CapEff:.0*80000$' "/proc/$helper/status" &&
		grep -qE '^NoNewPrivs:.1$' "/proc/$helper/status"
}

# From root it takes the bounding set away, too.
no_capability_left_to_gain()
{
	grep CapBnd "/proc/$helper/status"
	grep -qE '^CapBnd:.0*$' "/proc/$helper/status"
}

found_by_another_user()
{
	end "$reader"
	start_reader as_user $helper_uid
	start_helper only_ptrace
	grep -q . "$tap_dir/helper" && evidence
	start_vmm
	# more numbers than one answer or the first table of them holds
	tell many 600
	wait_until event sent "3 descriptors accepted, 0 rejected" || evidence
}

runs_as_that_user()
{
	grep -E '^Uid' "/proc/$helper/status"
	grep -qE "^Uid:.$helper_uid.$helper_uid.$helper_uid" \
		"/proc/$helper/status" && only_one_capability
}

# A vCPU more: the old registration ends, and a new one has all.
hot_added_vcpu()
{
	tell vcpu
	wait_until event sent "4 descriptors accepted, 0 rejected" || evidence ||
		return 1
	log 'its descriptors have changed' || evidence
}

vm_closed_process_lives()
{
	tell close
	wait_until nothing_held || evidence || return 1
	kill -0 "$vmm"
}

# The next reader gets what the last one had.
reader_restarts()
{
	end "$reader"
	wait_until log 'kvmstatd has closed the connection' || evidence || return 1
	start_reader
	registered
}

# Who only reads statistics has no VM: neither the reader nor the helper.
readers_are_not_registered()
{
	local pid

	for pid in $reader $helper; do
		! grep "\"name\":\"pid-$pid\"" "$tap_dir/events" || return 1
	done
}

# It may have been stopped before or while it was asked: 5 s each.
stuck_worker()
{
	local worker

	worker=$(pgrep -P "$helper")
	kill -STOP "$worker"
	start_vmm
	registered || return 1
	[ "$(pgrep -P "$helper")" != "$worker" ]
}

# What a helper says to systemd, a line each.
start_systemd()
{
	rm -f "$tap_dir/notify"
	python3 -c 'import socket, sys
box = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
box.bind(sys.argv[1])
while True:
    print(box.recv(4096).decode(), flush=True)' "$tap_dir/notify" >"$tap_dir/notified" &
	systemd=$!
	pids+=("$systemd")
	wait_until test -S "$tap_dir/notify"
}

# The worker, which waits in vain, is killed after five seconds: all is to be over by
# then. On a busy machine that may need another attempt.
end_is_handled_meanwhile()
{
	local worker

	start_vmm
	registered || return 1
	worker=$(pgrep -P "$helper")
	kill -STOP "$worker"
	sleep 1		# a new process, which is looked at in vain
	: >"$tap_dir/notified"
	end "$vmm"
	wait_until event gone "process ended" || evidence || return 1
	wait_until log "pid-$vmm (pid $vmm): has ended" || evidence || return 1
	wait_until watchdog_fed 3
	[ "$(pgrep -P "$helper")" = "$worker" ]
}

watchdog_fed()
{
	[ "$(grep -c WATCHDOG=1 "$tap_dir/notified")" -ge "$1" ]
}

# Looking at a process that does not answer holds up neither ends nor the watchdog.
meanwhile()
{
	local attempt status=1

	end "$helper"
	start_systemd
	export NOTIFY_SOCKET=$tap_dir/notify
	start_helper
	unset NOTIFY_SOCKET
	for attempt in 1 2 3 4 5; do
		end_is_handled_meanwhile && status=0 && break
		echo "attempt $attempt: the worker was replaced before"
	done
	end "$systemd"
	return $status
}

# A stranger's word about other processes is not taken.
not_trusted()
{
	end "$reader"
	wait_until log 'kvmstatd has closed the connection' || evidence || return 1
	: >"$tap_dir/events"
	start_reader as_user $reader_uid
	wait_until refused || evidence || return 1
	! event sent .
}

refused()
{
	grep '"event":"gone"' "$tap_dir/events" |
		grep -q '"name":"".*"reason":"Operation not permitted"'
}

# Without the capability it says so, and goes on with what is allowed.
without_capability()
{
	start_helper as_user $helper_uid
	wait_until log 'without CAP_SYS_PTRACE'
}

# QEMU 7.2 holds no statistics descriptors. Where the kernel gives them to
# others than the VMM, it has a name; mainline does not, and that is said.
qemu()
{
	qemu-system-x86_64 -accel kvm -M pc -smp 2 -m 64 -nodefaults \
		-display none -no-user-config -monitor none -serial none \
		-name 'guest=first,,one,debug-threads=on' -uuid \
		11111111-2222-3333-4444-555555555555 >"$tap_dir/qemu" 2>&1 &
	qemu=$!
	pids+=("$qemu")
	wait_until qemu_seen || evidence || return 1
	log "first,one (pid $qemu): has a VM but no statistics.*makes none.*kvmstat run --agent" ||
		grep -q '"name":"first,one","uuid":"11111111-2222-' \
			"$tap_dir/events" || evidence
	end "$qemu"
}

# is_called NAME OPTION...: by the command and by the helper
is_called()
{
	local name=$1

	shift
	start_vmm "$@"
	wait_until grep -qF "\"name\":\"$name\"" "$tap_dir/events" ||
		{ evidence; stop_vmm; return 1; }
	"$kvmstat" list --json | jq -e --arg name "$name" --argjson pid "$vmm" \
		'.processes[] | select(.pid == $pid and .guest == $name)'
	local status=$?
	stop_vmm
	return $status
}

# remade: the same numbers, another VM
remade_in_the_same_process()
{
	start_vmm
	registered || return 1
	settle
	tell run 5
	tell remake 2
	tell run 700
	wait_until shown_exits 700 || evidence || return 1
	# the helper holds nothing of the first any more
	wait_until holds_no_more
	local status=$?
	stop_vmm
	return $status
}

# The helper has all that it holds of a VM: sets held. The reader's event can be before
# its last descriptor.
settle()
{
	local looks=0 now

	held=none
	while [ $looks -lt 20 ]; do
		now=$(stats_fds_of "$helper")
		[ "$now" = "$held" ] || looks=0
		held=$now looks=$((looks + 1))
		sleep 0.1
	done
}

# Than of the first, which was like it, and the descriptor by which a VM that was made
# again is known. They are closed by a thread, in a while.
holds_no_more()
{
	echo "held of the first: $held, now: $(stats_fds_of "$helper")"
	[ "$(stats_fds_of "$helper")" -le $((held + 1)) ]
}

# shown_exits N: of both vCPUs, in the reader's last sample of this VM
shown_exits()
{
	grep '"event":"sample"' "$tap_dir/events" | grep "\"name\":\"pid-$vmm\"" |
		tail -n 1 | jq -e --argjson n "$1" '[.sources[].stats[] |
			select(.name == "exits").values[0]] |
			length == 2 and all(. >= $n and . < 2 * $n)' >/dev/null
}

# A child that inherited all of it is no VM of its own.
forked_vmm_is_one()
{
	local status before

	start_vmm
	registered || return 1
	before=$(grep -c '"event":"sent"' "$tap_dir/events")
	tell fork 60
	# two looks and more
	sleep 1.5
	[ "$(grep -c '"event":"sent"' "$tap_dir/events")" = "$before" ] ||
		evidence
	status=$?
	pkill -P "$vmm"
	stop_vmm
	return $status
}

duplicates_are_one()
{
	start_vmm
	tell dup
	registered || return 1
	! log "^kvmstatd-discover: pid $vmm" && ! log 'told apart' || evidence || return 1
	stop_vmm
}

# Two VMs of one process are one for the helper, which is said, once.
several_vms()
{
	start_vmm
	tell vm
	tell vcpu 0
	wait_until log "pid-$vmm (pid $vmm): has 2 VMs, whose statistics cannot be told apart" ||
		evidence || return 1
	sleep 1
	[ "$(grep -c 'told apart' "$tap_dir/helper")" = 1 ] || evidence
	local status=$?
	stop_vmm
	return $status
}

# refused ERRNO CALL TEXT: a system call that a container's filter refuses
call_refused()
{
	end "$helper"
	start_helper "$build/tests/refuse" "$1" "$2" --
	start_vmm
	wait_until log "$3" || evidence
	local status=$?
	stop_vmm
	[ "$(grep -c "$3" "$tap_dir/helper")" = 1 ] || status=1
	end "$helper"
	start_helper
	return $status
}

refused_calls_are_said()
{
	local getfd=438 open=434

	call_refused 38 $getfd 'cannot be copied: Function not implemented' &&
		call_refused 1 $getfd 'cannot be copied: Operation not permitted' &&
		call_refused 38 $open 'cannot be inspected: Function not implemented'
}

# Without kcmp numbers have to do.
without_kcmp()
{
	end "$helper"
	start_helper "$build/tests/refuse" 38 312 --
	start_vmm
	registered
	local status=$?
	stop_vmm
	end "$helper"
	start_helper
	return $status
}

has_kcmp()
{
	python3 -c 'import ctypes, os
exit(ctypes.CDLL(None).syscall(312, os.getpid(), os.getpid(), 0, 0, 0))'
}

# The table of what QEMU makes of its options, and other VMMs of theirs.
called_as_their_vmms_say()
{
	is_called real -name process=qemu:foo,guest=real &&
		is_called second -name first -name second &&
		is_called real2 -append -name -name real2 &&
		is_called 'new?line' -name $'new\nline' &&
		is_called fc-7f3a --id fc-7f3a &&
		is_called x --name=x
}

qemu_seen()
{
	log "pid $qemu"
}

bad_usage()
{
	status_is 2 "$discover" --interval 0 &&
		status_is 2 "$discover" --interval 1x &&
		status_is 2 "$discover" --interval 0x10 &&
		status_is 2 "$discover" --nonsense &&
		status_is 2 "$discover" more &&
		"$discover" --help | grep -q '^usage: kvmstatd-discover' &&
		"$discover" --version | grep -q '^kvmstatd-discover [0-9]'
}

ends_on_sigterm()
{
	local worker

	worker=$(pgrep -P "$helper")
	kill "$helper" && wait "$helper" && wait_until ended "$worker"
}

ended()
{
	[ ! -d "/proc/$1" ]
}

cleanup()
{
	end "${pids[@]}"
	rm -rf "$tap_dir"
}

trap cleanup EXIT
chmod 755 "$tap_dir"
mkdir "$tap_dir/open" && chmod 1777 "$tap_dir/open"
check "usage" bad_usage
start_reader
check "a VM that tells nobody is found" found
check "one capability" only_one_capability
check "none to be gained" no_capability_left_to_gain
check "the worker keeps nothing" worker_keeps_nothing
check "readers are not taken for VMs" readers_are_not_registered
check "a reader that restarts gets all again" reader_restarts
check "the VM's death: all is closed" gone_with_its_descriptors
check "ends, and the watchdog, while the worker is stuck" meanwhile
check "a worker that is stuck is replaced" stuck_worker
check "a vCPU that is added" hot_added_vcpu
check "a VM that ends before its process" vm_closed_process_lives
stop_vmm
if has_kcmp; then
	check "a VM that is made again" remade_in_the_same_process
	check "a child of the VMM is no VM" forked_vmm_is_one
	check "without kcmp" without_kcmp
fi
check "duplicates are one VM" duplicates_are_one
! has_kcmp || check "several VMs of one process: that is said" several_vms
check "system calls that are refused" refused_calls_are_said
check "names are those that the VMMs use" called_as_their_vmms_say
if command -v qemu-system-x86_64 >/dev/null; then
	check "Debian's QEMU" qemu
fi
check "closed at once, whatever the interval" closed_at_once
check "SIGTERM ends both processes" ends_on_sigterm
check "from a user of its own, with one capability" found_by_another_user
check "and it has no more than that" runs_as_that_user
check "a reader that does not trust it" not_trusted
end "$helper"
check "without any capability" without_capability
tap_done
