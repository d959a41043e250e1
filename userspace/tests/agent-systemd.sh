#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# usage: agent-systemd.sh BUILD-DIR - the installed units under a real systemd,
# with real VMs
#
# A VM whose VMM is stopped cannot register again: what is known of it after a
# restart comes out of systemd's store.

here=$(cd "$(dirname "$0")" && pwd)
build=$(cd "$1" && pwd)
. "$here/tap.sh"
. "$here/libvirt.sh"
limit_s=${4-${WAIT_S-150}}
many_vms=${3-${MANY_VMS-2000}}
url=http://127.0.0.1:9976
socket=/run/kvmstatd/register.sock
vmms=()
number=

if [ "${2-}" != inside ]; then
	# systemd hands no variables on
	exec "$here/with-systemd" "$here/agent-systemd.sh" "$build" inside \
		"$many_vms" "$limit_s"
fi

wait_until()
{
	local end=$((SECONDS + limit_s))

	while ! "$@"; do
		if [ $SECONDS -ge $end ]; then
			echo "waited in vain: $*; descriptors held: $number"
			cat "$tap_dir/vmm"
			journalctl --no-pager -n 30 -u 'kvmstatd*'
			return 1
		fi
		sleep 0.05
	done
}

get()
{
	curl -q -sS --max-time 60 "$@"
}

# has REGEX...: each is in one scrape
has()
{
	local regex

	get "$url/metrics" >"$tap_dir/metrics" || return 1
	for regex in "$@"; do
		grep -qE "$regex" "$tap_dir/metrics" || return 1
	done
}

gone()
{
	get "$url/metrics" >"$tap_dir/metrics" &&
		! grep -q "^kvm_vm_info{vm=\"$1\"" "$tap_dir/metrics"
}

# property UNIT NAME
property()
{
	systemctl show -p "$2" --value "$1.service"
}

active()
{
	[ "$(property "$1" ActiveState)" = active ]
}

inactive()
{
	[ "$(property "$1" ActiveState)" = inactive ]
}

stored()
{
	number=$(property kvmstatd NFileDescriptorStore)
	[ "$number" = "$1" ]
}

# Who is the main process, with which rights?
status_of()
{
	cat "/proc/$(property "$1" MainPID)/status"
}

start_vmm()
{
	"$build/demo/demo-vmm" --seconds 36000 "$@" 2>>"$tap_dir/vmm" &
	vmms+=($!)
	vmm=$!
}

# All four vCPUs have run: one VM and four vCPUs to hold.
shown()
{
	has "^kvm_vm_info\{vm=\"$1\"" \
		"^kvm_vcpu_exits_total\{vm=\"$1\",vcpu=\"0\"\} [1-9]" \
		"^kvm_vcpu_exits_total\{vm=\"$1\",vcpu=\"1\"\} [1-9]" \
		"^kvm_vcpu_exits_total\{vm=\"$1\",vcpu=\"2\"\} [1-9]" \
		"^kvm_vcpu_exits_total\{vm=\"$1\",vcpu=\"3\"\} [1-9]"
}

end()
{
	kill -9 "$@"
	wait "$@"
	return 0
} 2>/dev/null

# another_process OF BEFORE: the service has a new main process, and is ready
another_process()
{
	active "$1" && [ "$(property "$1" MainPID)" != "$2" ]
}

# --- installation ---------------------------------------------------------------

installed()
{
	make -C "$here/.." O="$build" PREFIX=/usr install &&
		systemd-sysusers && systemctl daemon-reload &&
		systemctl enable --now kvmstatd.socket kvmstatd-http.socket &&
		systemctl is-active kvmstatd.socket kvmstatd-http.socket &&
		inactive kvmstatd
}

# --- sockets --------------------------------------------------------------------

scrape_starts_it()
{
	[ "$(get "$url/healthz")" = ok ] && wait_until active kvmstatd
}

sandboxed()
{
	local uid pid

	uid=$(id -u kvmstatd)
	pid=$(property kvmstatd MainPID)
	status_of kvmstatd | grep -E '^(Uid|Cap|Seccomp|NoNewPrivs)'
	status_of kvmstatd | grep -qE "^Uid:.$uid.$uid.$uid.$uid" &&
		! status_of kvmstatd | grep -E '^Cap' | grep -v ':.0*$' &&
		status_of kvmstatd | grep -qE '^Seccomp:.2$' &&
		[ "$(readlink "/proc/$pid/ns/net")" != \
		"$(readlink /proc/self/ns/net)" ]
}

registration_starts_it()
{
	systemctl stop kvmstatd && wait_until inactive kvmstatd || return 1
	start_vmm --name one --socket $socket
	wait_until active kvmstatd && wait_until shown one
}

# 660, group kvm
stranger_cannot_connect()
{
	! "$build/demo/asuser" 65534 65534 python3 -c '
import socket, sys
socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET).connect(sys.argv[1])' \
		$socket 2>"$tap_dir/stranger" &&
		grep -q PermissionError "$tap_dir/stranger"
}

# --- notifications and the store ------------------------------------------------

# A box for the VM.
stores()
{
	wait_until stored 1 && property kvmstatd StatusText &&
		property kvmstatd StatusText | grep -q .
}

# survives NAMES COMMAND...: it is another process then, and knows all
survives()
{
	local names=$1 before name

	shift
	before=$(property kvmstatd MainPID)
	"$@" || return 1
	wait_until another_process kvmstatd "$before" || return 1
	for name in $names; do
		shown "$name" || { cat "$tap_dir/metrics"; return 1; }
	done
}

killed()
{
	kill -STOP "${vmms[@]}"
	survives one systemctl kill --signal=KILL --kill-whom=main kvmstatd
}

# More often than systemd would start another service.
killed_often()
{
	for _ in 1 2 3 4 5 6; do
		killed || return 1
	done
}

restarted()
{
	survives one systemctl restart kvmstatd &&
		[ "$(property kvmstatd Result)" = success ]
}

# It comes again, takes its VM's place, and what was kept for it is dropped.
registers_again()
{
	kill -CONT "${vmms[@]}"
	wait_until reconnected && wait_until stored 1 && shown one || return 1
	kill -STOP "${vmms[@]}"
	survives one systemctl restart kvmstatd
	status=$?
	kill -CONT "${vmms[@]}"
	return $status
}

reconnected()
{
	get "$url/metrics" | grep -q '^kvmstatd_registrations_total [1-9]'
}

# Its name stays with the VM that had it.
twins()
{
	start_vmm --name one --socket $socket
	twin="one#$vmm"
	wait_until shown "$twin" && wait_until stored 2 || return 1
	kill -STOP "$vmm"
	end "${vmms[0]}"
	wait_until gone one && wait_until stored 1 &&
		survives "$twin" systemctl restart kvmstatd && gone one
}

# start_many COUNT VCPUS [HOW]: that many VMs, which say nothing more
start_many()
{
	coproc many_io { exec "$build/tests/agent_vmms" $socket "$@" \
		2>"$tap_dir/many.err"; }
	# shellcheck disable=SC2154 # set by coproc
	many=$many_io_PID
	read -r ready <&"${many_io[0]}" && [ "$ready" = ready ]
}

stop_many()
{
	kill -9 -- "-$many"
	wait "$many"
	return 0
} 2>/dev/null

# Of two files for one vCPU the later one is held, not both.
replaced()
{
	start_many 1 4 twice && wait_until replaced_five &&
		wait_until stored 2 && kill -STOP -- "-$many" || return 1
	survives "$twin" systemctl restart kvmstatd &&
		has '^kvmstatd_descriptors 10$' \
		'^kvmstatd_descriptors_replaced_total 0$' || return 1
	stop_many
	wait_until stored 1
}

replaced_five()
{
	has '^kvmstatd_descriptors_replaced_total 5$'
}

# Numbers of nine digits, for the VMs and in the names of the boxes: a VM that was
# kept has such a number, and later ones follow; boxes that are renewed have the
# next. $1 is its process.
make_numbers_long()
{
	local dir=/run/systemd/system/kvmstatd.service.d command

	cat >/run/long-numbers.py <<-'END'
		import array, os, socket, sys, time
		to = os.environ["NOTIFY_SOCKET"]
		notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
		pid = int(sys.argv[1])
		for place in range(100, 256):
		    box = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
		    box.bind("")
		    box.connect(box.getsockname())
		    if place == 100:
		        label = f"876543210 {pid} 1 1 0 0 0 1\tlong\tlong\t\0"
		        socket.send_fds(box, [label.encode()], [os.pidfd_open(pid)])
		    name = f"FDSTORE=1\nFDPOLL=0\nFDNAME=vms-{place}-987654321"
		    notify.sendmsg([name.encode()], [(socket.SOL_SOCKET,
		        socket.SCM_RIGHTS, array.array("i", [box.fileno()]))], 0,
		        ("\0" + to[1:]) if to[0] == "@" else to)
		os.execv(sys.argv[2], sys.argv[2:])
	END
	command=$(sed -n 's/^ExecStart=//p' /usr/lib/systemd/system/kvmstatd.service)
	mkdir -p $dir
	printf '[Service]\nExecStart=\nExecStart=/usr/bin/python3 /run/long-numbers.py %s %s\n' \
		"$1" "$command" >$dir/long.conf
	systemctl daemon-reload
	survives "$twin" systemctl restart kvmstatd || return 1
	rm -r $dir
	systemctl daemon-reload
	wait_until stored 157 || return 1
	# it has no descriptors that could be shown, but it is there
	survives "$twin" systemctl restart kvmstatd && wait_until stored 2 &&
		has '^kvmstatd_vms 2$'
}

# What systemd has spent so far, and what of it for how many VMs: CPU-MS VMS
spent_when_half_came=
come()
{
	local vms

	# it reads the statistics of all
	sleep 0.5

	get "$url/metrics" >"$tap_dir/metrics" || return 1
	vms=$(awk '$1 == "kvmstatd_vms" { print $2 }' "$tap_dir/metrics")
	if [ -z "$spent_when_half_came" ] && [ "$vms" -ge $((many_vms / 2)) ]; then
		spent_when_half_came="$(cpu_ms_of_systemd) $vms"
	fi
	[ "$vms" = "$many_vms" ]
}

# linear BEGIN-MS MIDDLE-MS VMS END-MS: at most 1 ms for each, and for the later ones
# not much more than for the first
linear()
{
	awk -v first="$(($2 - $1))" -v n="$3" -v all="$(($4 - $1))" -v total="$many_vms" '
		BEGIN {
			later = total > n ? (all - first) / (total - n) : 0
			printf "# %d VMs: %d ms of systemd'"'"'s CPU time, %.3f ms for each of the first %d, %.3f ms for each later one\n",
				total, all, first / n, n, later
			exit all > total || later > 2 * first / n + 0.2
		}'
}

# Many VMs share the boxes, all are there after a restart, and what has gone is not
# held. In one process the sockets of all would be too many for this machine. A
# scrape has what is looked at here.
comes_and_goes()
{
	local begin_ms verdict=0 long

	printf '# many\ninclude = kvm_vm_info|kvm_vcpu_exits_total\nno-cpu-time = yes\n' \
		>>/etc/kvmstats/kvmstatd.conf
	sleep 36000 &
	long=$!
	make_numbers_long $long || return 1
	begin_ms=$(cpu_ms_of_systemd)
	# besides the twin and the one with the long number
	start_many $((many_vms - 2)) 3 same && wait_until come &&
		wait_until stored 256 || return 1
	# shellcheck disable=SC2086 # two numbers
	linear $begin_ms $spent_when_half_came "$(cpu_ms_of_systemd)" \
		>"$tap_dir/figures" || verdict=1
	cat "$tap_dir/figures"
	kill -STOP -- "-$many"
	begin_ms=$(cpu_ms_of_systemd)
	survives "$twin" systemctl kill --signal=KILL --kill-whom=main kvmstatd &&
		has "^kvmstatd_vms $many_vms\$" \
		"^kvmstatd_descriptors $((4 * many_vms - 3))\$" || return 1
	echo "# a restart with them: $(($(cpu_ms_of_systemd) - begin_ms)) ms, names of $(longest_name) bytes" \
		>>"$tap_dir/figures"
	[ $(($(cpu_ms_of_systemd) - begin_ms)) -le "$many_vms" ] || verdict=1
	begin_ms=$(cpu_ms_of_systemd)
	stop_many
	end $long
	wait_until has '^kvmstatd_vms 1$' && wait_until stored 1 || return 1
	echo "# their end: $(($(cpu_ms_of_systemd) - begin_ms)) ms" >>"$tap_dir/figures"
	[ $(($(cpu_ms_of_systemd) - begin_ms)) -le "$many_vms" ] || verdict=1
	sed -i '/^# many$/,$d' /etc/kvmstats/kvmstatd.conf
	survives "$twin" systemctl restart kvmstatd && has '^kvmstatd_vms 1$' || return 1
	cat "$tap_dir/figures"
	return $verdict
}

# All names that the agent was started with, in its environment.
longest_name()
{
	tr '\0' '\n' <"/proc/$(property kvmstatd MainPID)/environ" |
		sed -n 's/^LISTEN_FDNAMES=//p' | tr -d '\n' | wc -c
}

cpu_ms_of_systemd()
{
	local fields

	read -r -a fields </proc/1/stat
	echo $(((fields[13] + fields[14]) * 1000 / $(getconf CLK_TCK)))
}

dies_meanwhile()
{
	start_vmm --name meanwhile --socket $socket
	wait_until shown meanwhile && wait_until stored 2 || return 1
	systemctl kill --signal=STOP --kill-whom=main kvmstatd
	end "$vmm"
	survives "$twin" systemctl kill --signal=KILL --kill-whom=main kvmstatd &&
		gone meanwhile && wait_until stored 1
}

reloads()
{
	local before

	before=$(property kvmstatd MainPID)
	systemctl reload kvmstatd && wait_until active kvmstatd &&
		[ "$(property kvmstatd MainPID)" = "$before" ] && shown "$twin"
}

# It hangs: systemd ends it and starts another.
watched()
{
	mkdir -p /run/systemd/system/kvmstatd.service.d
	printf '[Service]\nWatchdogSec=2\nTimeoutAbortSec=1\n' \
		>/run/systemd/system/kvmstatd.service.d/watchdog.conf
	systemctl daemon-reload
	survives "$twin" systemctl restart kvmstatd &&
		survives "$twin" systemctl kill --signal=STOP --kill-whom=main \
		kvmstatd && [ "$(property kvmstatd NRestarts)" -ge 1 ]
	status=$?
	rm -r /run/systemd/system/kvmstatd.service.d
	systemctl daemon-reload
	return $status
}

# Not so the end of the service itself: then nothing is held for anybody.
stops()
{
	systemctl stop kvmstatd && [ "$(property kvmstatd Result)" = success ] &&
		stored 0 && [ -S $socket ] && [ "$(get "$url/healthz")" = ok ] &&
		wait_until gone "$twin"
}

all_die()
{
	end "${vmms[@]}"
	vmms=()
	wait_until stored 0
}

# --- discovery --------------------------------------------------------------------

# A VMM that knows nothing of the agent, of another user.
discovers()
{
	systemctl start kvmstatd-discover &&
		wait_until active kvmstatd-discover || return 1
	chmod 666 /dev/kvm
	"$build/demo/asuser" 65534 65534 "$build/demo/demo-vmm" \
		--seconds 36000 2>"$tap_dir/vmm" &
	vmm=$!
	wait_until shown "pid-$vmm"
}

only_ptrace()
{
	status_of kvmstatd-discover | grep -E '^(Uid|Cap|Seccomp)'
	status_of kvmstatd-discover | grep -qE '^CapEff:.0*80000$' &&
		status_of kvmstatd-discover | grep -qE '^CapBnd:.0*80000$' &&
		status_of kvmstatd-discover | grep -qE '^Seccomp:.2$' &&
		status_of kvmstatd-discover |
		grep -qE "^Uid:.$(id -u kvmstatd-discover)"
}

# What was found is found again, whoever of the two starts anew.
both_restart()
{
	survives "pid-$vmm" systemctl restart kvmstatd || return 1
	systemctl restart kvmstatd-discover && wait_until shown "pid-$vmm" &&
		wait_until stored 1 || return 1
	end "$vmm"
	wait_until gone "pid-$vmm" && wait_until stored 0
}

# --- libvirt ----------------------------------------------------------------------

# as_qemu NAME: a VM of the user as which libvirt starts QEMU
as_qemu()
{
	setpriv --reuid libvirt-qemu --regid kvm --clear-groups \
		"$build/demo/demo-vmm" --seconds 36000 --name "$1" \
		--socket $socket 2>"$tap_dir/vmm" &
	vmm=$!
}

libvirt_example()
{
	systemctl stop kvmstatd-discover && add_libvirt_user || return 1
	as_qemu refused
	wait_until refuses || return 1
	end "$vmm"
	sed -i 's/^#allow-uid = libvirt-qemu/allow-uid = libvirt-qemu/' \
		/etc/kvmstats/kvmstatd.conf && systemctl reload kvmstatd || return 1
	as_qemu accepted
	wait_until shown accepted || return 1
	end "$vmm"
}

# The example, in a domain that is otherwise as small as it can be.
make_domain()
{
	python3 - /usr/share/kvmstatd/libvirt-domain.xml >/tmp/domain.xml <<-'END'
		import sys
		text = open(sys.argv[1]).read()
		print(text.replace("  <qemu:commandline>", """
		  <name>guest1</name><uuid>2dd4b6b0-6d5c-4c0e-8f7e-0c9c4f4a9b11</uuid>
		  <memory unit='MiB'>64</memory><vcpu>2</vcpu>
		  <os><type arch='x86_64' machine='pc'>hvm</type></os>
		  <qemu:commandline>""", 1))
	END
}

# QEMU as libvirt starts it: another user, stopped at first, with its sandbox.
libvirt_domain()
{
	start_libvirt && make_domain &&
		virsh create /tmp/domain.xml || return 1
	wait_until has '^kvm_vm_info\{vm="guest1",name="guest1",uuid="2dd4b6b0-.*registered_by="vmm"' \
		'^kvm_vcpu_exits_total\{vm="guest1",vcpu="0"\} [1-9]' \
		'^kvm_vcpu_exits_total\{vm="guest1",vcpu="1"\} [1-9]' || return 1
	virsh destroy guest1
	wait_until gone guest1
}

refuses()
{
	has '^kvmstatd_registrations_rejected_total\{reason="credentials"\} [1-9]' &&
		gone refused
}

no_complaints()
{
	systemctl stop kvmstatd kvmstatd-discover
	journalctl --no-pager -p warning -u 'kvmstatd*' >"$tap_dir/journal"
	cat "$tap_dir/journal"
	# what the tests did themselves
	! grep -vE 'Main process exited|Failed with result|Failed to kill control group|Watchdog timeout|Killing process|No entries|State .* timed out|user [0-9]+ is refused: the user may not register' \
		"$tap_dir/journal"
}

check "installed, enabled" installed
check "a scrape starts the service" scrape_starts_it
check "its rights" sandboxed
check "a registration starts it" registration_starts_it
check "a stranger cannot connect" stranger_cannot_connect
check "systemd holds the descriptors" stores
check "killed: nothing is lost" killed
check "killed six times" killed_often
check "restarted: nothing is lost" restarted
check "the VMM comes again" registers_again
check "two VMs of one name" twins
check "a VM ends while the agent does" dies_meanwhile
check "descriptors that come again" replaced
check "VMs come and go" comes_and_goes
cat "$tap_dir/figures" 2>/dev/null
check "reload" reloads
check "watchdog" watched
check "stop lets go of all" stops
check "a VM's end frees what is held" all_die
check "discovery finds a VM" discovers
check "with one capability" only_ptrace
check "both start anew" both_restart
check "the example for libvirt's users" libvirt_example
if [ -n "$(command -v libvirtd)" ] && [ -n "$(command -v qemu-system-x86_64)" ]; then
	check "a domain of libvirt" libvirt_domain
else
	skip "a domain of libvirt" "no libvirt, or no QEMU for x86_64"
fi
check "nothing to complain about" no_complaints
tap_done
