#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# shellcheck disable=SC2016 # what other shells than this one expand
# usage: run.sh BUILD-DIR [--kernel]
#
# kvmstat run with VMMs on /dev/kvm. --kernel: only what depends on the kernel.

here=$(dirname "$0")
build=$1
kvmstat=$build/kvmstat/kvmstat
vmm=$build/tests/preload_vmm
limit_s=300		# for what never comes
. "$here/tap.sh"
: "${CC:=cc}"

# as tidy as the terminal of who has no variables set
unset LD_PRELOAD KVMSTATS_SOCKET KVMSTATS_NAME KVMSTATS_UUID

# With its table elsewhere, so that what the VMM says stands alone. An array,
# as a function in the background would be a process of its own.
run=("$kvmstat" run --json --fields '^(exits|remote_tlb_flush)$' --interval 0.1 --output "$tap_dir/json")

run()
{
	"${run[@]}" "$@"
}

# await PID COMMAND...: until that succeeds, PID ends or its time is over
await()
{
	local end=$((SECONDS + limit_s))

	until "${@:2}"; do
		[ $SECONDS -lt $end ] && kill -0 "$1" || return 0
		sleep 0.05
	done
} 2>/dev/null

# events NAME: how many
events()
{
	grep -c "\"event\":\"$1\"" "$tap_dir/json" 2>/dev/null || true
}

# sent: VMs and vCPUs by each VM's last sample, which is told apart by its process and
# descriptor. Not by messages: one can bring several vCPUs, and a sample can, too.
sent()
{
	awk -F '"(pid|descriptors|fd)":' '/"event":"sample"/ {
			last[$2 + 0, $4 + 0] = $3 + 0
		}
		END {
			for (vm in last)
				sum += last[vm]
			print sum + 0
		}' "$tap_dir/json" 2>/dev/null || true
}

# says TEXT STATUS COMMAND...
says()
{
	local text=$1

	shift
	status_is "$@" 2>"$tap_dir/err"
	local verdict=$?
	cat "$tap_dir/err"
	[ $verdict = 0 ] && grep -qF "$text" "$tap_dir/err"
}

# ---- the process

keeps_status()
{
	status_is 7 run -- sh -c 'exit 7' && status_is 0 run -- true &&
		status_is 137 run -- sh -c 'kill -9 $$'
}

# Standard input and output belong to the VMM, byte for byte.
keeps_input_and_output()
{
	head -c 100000 /dev/urandom >"$tap_dir/bytes"
	run -- cat <"$tap_dir/bytes" >"$tap_dir/copied" &&
		cmp "$tap_dir/copied" "$tap_dir/bytes"
}

arguments_are_passed()
{
	[ "$(run --count 3 -- printf '%s,' --json '' -- 'a b')" = \
		"--json,,--,a b," ]
}

forwards_signals()
{
	local pid

	: >"$tap_dir/ready"
	"${run[@]}" -- sh -c 'trap "exit 9" '"$1"'; echo >"$0"
		while :; do sleep 0.05; done' "$tap_dir/ready" &
	pid=$!
	until [ -s "$tap_dir/ready" ]; do sleep 0.05; done
	kill -"$1" $pid
	status_is 9 wait $pid
}

forwards_every_signal()
{
	forwards_signals TERM && forwards_signals HUP &&
		forwards_signals USR1
}

# The terminal tells all of its foreground group; it must not arrive twice.
interrupt_of_terminal_comes_once()
{
	python3 - "$kvmstat" <<'END'
import os, pty, sys, time
script = r'''
n = 0
import signal, sys, time
def on(s, f):
    global n
    n += 1
signal.signal(signal.SIGINT, on)
print("ready", flush=True)
while not n:
    time.sleep(0.01)
time.sleep(0.5)
print("got", n, flush=True)
sys.exit(n)
'''
pid, fd = pty.fork()
if not pid:
    os.execv(sys.argv[1], ["kvmstat", "run", "--", "python3", "-c", script])
seen = b""
while b"ready" not in seen:
    seen += os.read(fd, 1000)
os.write(fd, b"\x03")
try:
    while True:
        seen += os.read(fd, 1000)
except OSError:
    pass
status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
assert status == 1, (status, seen)
END
}

leaves_nothing()
{
	mkdir "$tap_dir/private"
	TMPDIR=$tap_dir/private XDG_RUNTIME_DIR='' run -- "$vmm" errno &&
		XDG_RUNTIME_DIR=/nonexistent TMPDIR=$(printf '/%090d' 0) \
			run -- "$vmm" errno && [ "$(events sent)" -gt 0 ] &&
		[ -z "$(ls -A "$tap_dir/private")" ]
}

no_vm_is_said()
{
	says 'true made no VM' 0 run -- true
}

not_found()
{
	status_is 127 run -- /nonexistent/vmm && status_is 127 run -- no-vmm &&
		status_is 126 run -- /etc/passwd
}

static_program()
{
	echo 'int main(void) { return 0; }' >"$tap_dir/static.c"
	$CC -static "$tap_dir/static.c" -o "$tap_dir/static" &&
		says 'is a static program' 125 run -- "$tap_dir/static"
}

setuid_program()
{
	cp "$(type -P true)" "$tap_dir/gains" &&
		chmod 4755 "$tap_dir/gains" &&
		says 'gains rights when it starts' 125 \
			"$build/demo/asuser" 65534 65534 "$tap_dir/copy/bin/kvmstat" \
			run -- "$tap_dir/gains"
}

# Another architecture's: only its head is looked at.
foreign_program()
{
	cp "$(type -P true)" "$tap_dir/foreign" &&
		printf '\xb7' | dd of="$tap_dir/foreign" bs=1 seek=18 \
			conv=notrunc status=none &&
		says 'is for another architecture' 125 run -- "$tap_dir/foreign"
}

missing_library()
{
	mkdir -p "$tap_dir/alone" && cp "$kvmstat" "$tap_dir/alone/" &&
		cp "$tap_dir/copy/lib/libkvmstats-preload.so" "$tap_dir/a b.so" &&
		says 'a blank or a colon in its name cannot be preloaded' 125 "$kvmstat" run --preload "$tap_dir/a b.so" \
			-- true &&
		says 'nonexistent.so: No such file' 125 run \
			--preload /nonexistent.so -- true
}

# Beside the command, as make install puts it.
installed()
{
	mkdir "$tap_dir/root" && make -C "$here/.." O="$(realpath "$build")" \
		DESTDIR="$tap_dir/root" PREFIX=/usr install &&
		says 'made no VM' 0 "$tap_dir/root/usr/bin/kvmstat" run -- true &&
		says 'libkvmstats-preload.so is neither beside' 125 \
			"$tap_dir/alone/kvmstat" run -- true
}

# Of the VMM and of ours: the VMM's stays, ours is no limit for its vCPUs.
limited_descriptors()
{
	(
		ulimit -Sn 400
		[ "$(run -- sh -c 'ulimit -Sn')" = 400 ] &&
			two_large_vms
	)
}

two_large_vms()
{
	run -- sh -c '"$0" many & "$0" many; wait' "$vmm" </dev/null &&
		[ "$(events gone)" = 2 ] && ! grep -q malformed "$tap_dir/json"
}

full_output()
{
	says '/dev/full: No space left on device' 1 "$kvmstat" run --interval 0.1 \
		--output /dev/full -- "$build/demo/demo-vmm" --no-stats \
		--seconds 0.6
}

# The reader goes, or does not read until the end of --duration: the VMM's end is awaited.
fifo_output()
{
	local verdict=0

	rm -f "$tap_dir/fifo"
	mkfifo "$tap_dir/fifo"
	head -n 1 "$tap_dir/fifo" >/dev/null &
	says 'fifo: Broken pipe' 1 "$kvmstat" run --json --interval 0.1 \
		--output "$tap_dir/fifo" -- "$build/demo/demo-vmm" --no-stats \
		--seconds 1 || verdict=1
	# shellcheck disable=SC2217 # it is not to read
	sleep 600 <"$tap_dir/fifo" &
	local sleeper=$!
	says 'fifo: not read by the end of --duration' 1 timeout 60 "$kvmstat" run --json \
		--all --interval 0.01 --duration 4 --output "$tap_dir/fifo" -- \
		"$build/demo/demo-vmm" --no-stats --seconds 5 || verdict=1
	kill $sleeper
	return $verdict
}

usage()
{
	status_is 2 "$kvmstat" run true && status_is 2 "$kvmstat" run -- &&
		status_is 2 "$kvmstat" run && status_is 2 "$kvmstat" run --pid 1 -- true
}

# ---- what comes over, and that the VMM does not notice

bears()
{
	status_is 0 run -- "$vmm" "$1" </dev/null
}

# what starts the VMM in its turn
wrapper=()

all_sent() { [ "$(sent)" = "$1" ]; }

# A VMM that waits for its input to end, after what it sent has arrived.
# arrives MODE SENT VMS [INPUT]
arrives()
{
	local pid gone

	rm -f "$tap_dir/input" "$tap_dir/json"
	mkfifo "$tap_dir/input"
	run -- "${wrapper[@]}" "$vmm" "$1" <"$tap_dir/input" >"$tap_dir/said" &
	pid=$!
	exec 8>"$tap_dir/input"
	printf '%s' "${4-}" >&8
	await $pid all_sent "$2"
	exec 8>&-
	status_is 0 wait $pid || return 1
	gone=$(events gone)
	echo "sent $(sent), gone $gone; expected $2, $3"
	[ "$(sent)" = "$2" ] && [ "$gone" = "$3" ] &&
		! grep -q '"rejected":[1-9]' "$tap_dir/json"
}

many_vcpus()
{
	local most

	most=$("$vmm" many </dev/null)
	[ "$most" -gt 253 ] || echo "only $most vCPUs are possible here"
	arrives many $((most + 1)) 1
}

# A missing lock does harm too seldom to wait for it.
no_data_race()
{
	KVMSTATS_SOCKET=$tap_dir/nobody \
		LD_PRELOAD=$(realpath "$build/preload/libkvmstats-preload.so") \
		valgrind --tool=helgrind --error-exitcode=9 -q \
		--suppressions="$here/valgrind.supp" "$vmm" vms </dev/null
}

# The queue of the connection is full before the reader goes on.
late_reader()
{
	wrapper=(sh -c 'kill -STOP $PPID; (sleep 0.3; kill -CONT $PPID) &
		exec "$0" "$@"')
	many_vcpus
	local verdict=$?
	wrapper=()
	return $verdict
}

# A kernel without kcmp cannot say that it is the same VM.
another_number()
{
	"$vmm" kcmp || { arrives dup 4 2; return; }
	arrives dup 3 1
}

environment_of_children()
{
	local library

	library=$(realpath "$build/preload/libkvmstats-preload.so")
	cmp <(run -- "$vmm" environment) <(printf '%s\n' "before $library" \
		'after ') &&
	cmp <(LD_PRELOAD=libc.so.6 run -- "$vmm" environment) \
		<(printf '%s\n' "before $library:libc.so.6" 'after libc.so.6')
}

# Two VMs and five vCPUs, each read for a while, and all by their names.
demo_vmm_unchanged()
{
	status_is 0 run --name 'a "VM"' --uuid 0-1 -- \
		"$build/demo/demo-vmm" --no-stats --vcpus 5 --seconds 1 &&
		python3 - "$tap_dir/json" <<'END'
import json, sys
events = [json.loads(line) for line in open(sys.argv[1])]
vm = events[0]["vm"]
assert (vm["name"], vm["uuid"]) == ('a "VM"', "0-1"), vm
samples = [e for e in events if e["event"] == "sample"]
assert len(samples) >= 3, len(samples)
last = samples[-1]["sources"]
assert [s["vcpu"] for s in last] == [None, 0, 1, 2, 3, 4], last
# the descriptors are from before the first KVM_RUN
grown = [s for source in last[1:] for s in source["stats"]
         if s["name"] == "exits" and s["values"][0]]
assert len(grown) == 5, grown
assert events[-1]["event"] == "gone" and \
    events[-1]["reason"] == "process ended", events[-1]
END
}

table_on_standard_error()
{
	"$kvmstat" run --interval 0.2 -- "$build/demo/demo-vmm" --no-stats \
		--seconds 0.7 2>"$tap_dir/err" >"$tap_dir/stdout" &&
		grep -q 'VM demo-vmm  pid [0-9]* uid [0-9]*  5 descriptors' \
			"$tap_dir/err" && [ ! -s "$tap_dir/stdout" ]
}

# The show ends, the VMM does not.
count_ends_the_show_only()
{
	status_is 6 run --count 1 -- sh -c \
		'"$0" --no-stats --seconds 0.8; exit 6' "$build/demo/demo-vmm" &&
		[ "$(events sample)" = 1 ]
}

# The show's time is over, the VMM's is not: the totals so far, and its status at the end.
duration_ends_the_show_only()
{
	"$kvmstat" help run | grep -q -- '--duration SECONDS  *print for this time; the VMM goes on' &&
		"$kvmstat" help run | grep -q -- '--count N  *print N times; the VMM goes on' ||
		return 1
	status_is 6 "$kvmstat" run --duration 1 --interval 0.3 --output "$tap_dir/show" -- \
		sh -c '"$0" --no-stats --seconds 3; cp "$1" "$1.then"; exit 6' \
		"$build/demo/demo-vmm" "$tap_dir/show" &&
		cmp "$tap_dir/show" "$tap_dir/show.then" &&
		[ "$(grep -c '^totals of VM demo-vmm' "$tap_dir/show")" = 1 ] &&
		sed -n '/^totals/,$p' "$tap_dir/show" | grep -qE '^exits +[1-9]'
}

two_of_a_script()
{
	status_is 5 run -- sh -c '"$0" errno && "$0" errno; exit 5' "$vmm" &&
		[ "$(events gone)" = 2 ]
}

dead_reader()
{
	run -- sh -c 'kill -9 $PPID; sleep 0.2; "$0" errno; echo $?' "$vmm" \
		>"$tap_dir/said" 2>&1
	for _ in $(seq 100); do
		! grep -qx 0 "$tap_dir/said" || return 0
		sleep 0.1
	done
	cat "$tap_dir/said"
	return 1
}

# A stopped reader costs the VMM a bounded time, not its life.
stopped_reader()
{
	local pid

	run -- sh -c 'kill -STOP $PPID; "$0" many </dev/null >"$1.vcpus"
		kill -CONT $PPID; exit 3' "$vmm" "$tap_dir/stopped" &
	pid=$!
	status_is 3 wait $pid && [ "$(cat "$tap_dir/stopped.vcpus")" -gt 1 ]
}

# ---- QEMU, which knows nothing of statistics descriptors

qemu_options=(-M pc -m 64 -nodefaults -display none -no-user-config)

# Early in its start QEMU ends by the signal, later by itself.
end_qemu()
{
	local status=0

	kill "$1"
	wait "$1" || status=$?
	[ $status = 0 ] || [ $status = 143 ]
}

# qemu_until REGEX OPTIONS...: a sample has it
qemu_until()
{
	local pid regex=$1

	shift
	rm -f "$tap_dir/json"
	"${run[@]}" -- qemu-system-x86_64 "${qemu_options[@]}" "$@" &
	pid=$!
	await $pid grep -qE "\"event\":\"sample\".*$regex" "$tap_dir/json"
	end_qemu $pid || return 1
	grep -qE "\"event\":\"sample\".*$regex" "$tap_dir/json"
}

# Both vCPUs have run, and the descriptors are from before that.
qemu_shows_its_vcpus()
{
	qemu_until '"vcpu":0,.*"name":"exits"[^]]*\[[0-9]{3,}.*"vcpu":1,' \
		-accel kvm -smp 2 && python3 - "$tap_dir/json" <<'END'
import json, sys
events = [json.loads(line) for line in open(sys.argv[1])]
assert events[0]["vm"]["name"] == "qemu-system-x86_64", events[0]
last = [e for e in events if e["event"] == "sample"][-1]["sources"]
assert [s["vcpu"] for s in last] == [None, 0, 1], last
assert events[-1]["reason"] == "process ended", events[-1]
END
}

qemu_paused_and_sandboxed()
{
	qemu_until '"name":"web01","uuid":"2dd4a3a8-.*"vcpu":2' -accel kvm \
		-smp 3 -S -name web01,debug-threads=on -uuid \
		2dd4a3a8-0000-0000-0000-000000000001 -sandbox \
		on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny
}

qemu_without_kvm()
{
	echo quit | says 'made no VM' 0 run -- qemu-system-x86_64 \
		"${qemu_options[@]}" -accel tcg -S -monitor stdio
}

# As a reader would copy it.
example_of_run()
{
	local pid command sample='"event":"sample".*"name":"exits"'

	command=$(sed -n '/^\.\\" example: run$/,/^\.Ed/{/^\./d;s/\\e$/\\/;p}' \
		"$here/../man/kvmstat.1" | sed "s|/tmp/|$tap_dir/|")
	PATH=$build/kvmstat:$PATH bash -c "exec $command" &
	pid=$!
	await $pid grep -q "$sample" "$tap_dir/vm.json"
	end_qemu $pid || return 1
	grep -q "$sample" "$tap_dir/vm.json"
}

of_the_process()
{
	check "the VMM's exit status is ours" keeps_status
	check "standard input and output are the VMM's" keeps_input_and_output
	check "arguments are passed as they are" arguments_are_passed
	check "signals are forwarded" forwards_every_signal
	check "the terminal's interrupt comes once" interrupt_of_terminal_comes_once
	check "a program that cannot be run" not_found
	check "wrong usage" usage
	check "no VM: that is said" no_vm_is_said
	check "a static program is refused" static_program
	if [ "$(id -u)" = 0 ]; then
		check "a program that gains rights is refused" setuid_program
	else
		skip "a program that gains rights is refused" "not root"
	fi
	check "another architecture's program is refused" foreign_program
	check "no library to load" missing_library
	check "the library of an installation" installed
	check "few descriptors, many vCPUs" limited_descriptors
	check "full disk under the output" full_output
	check "an output that is not read" fifo_output
	check "nothing is left in the directory for sockets" leaves_nothing
	if [ -n "$(command -v valgrind)" ]; then
		check "no data race in the library" no_data_race
	else
		skip "no data race in the library" "no valgrind"
	fi
	check "the reader is killed, the VMM lives" dead_reader
	check "the reader is stopped, the VMM goes on" stopped_reader
}

chmod 755 "$tap_dir"
mkdir -p "$tap_dir/copy/bin" "$tap_dir/copy/lib"
cp "$kvmstat" "$tap_dir/copy/bin/"
cp "$build/preload/libkvmstats-preload.so" "$tap_dir/copy/lib/"

[ "${2-}" = --kernel ] || of_the_process
for mode in errno fds closeall loop limit; do
	check "the VMM bears it: $mode" bears $mode
done
check "a vCPU for each thread, all at once" arrives threads 33 1
check "hot-added vCPUs" arrives hotadd 4 1 xx
check "more vCPUs than one message carries" many_vcpus
check "a reader that is late" late_reader
check "two VMs of one process" arrives two 5 2
check "a VM for each thread, all at once" arrives vms 24 8
check "a forked child has its own VM" arrives fork 6 2
check "another number of the VM" another_number
check "children of the VMM do not get the library" environment_of_children
check "a script that runs two VMMs" two_of_a_script
check "a VMM of ours that knows of no statistics" demo_vmm_unchanged
check "the table is on standard error" table_on_standard_error
check "the end of the show is not the VMM's" count_ends_the_show_only
check "the same, by time" duration_ends_the_show_only
if [ -n "$(command -v qemu-system-x86_64)" ] && [ "$(uname -m)" = x86_64 ]; then
	check "QEMU with two vCPUs" qemu_shows_its_vcpus
	check "QEMU paused, in its sandbox, by its own name" qemu_paused_and_sandboxed
	check "QEMU without KVM: that is said" qemu_without_kvm
	[ "${2-}" = --kernel ] || check "the manual's example" example_of_run
else
	skip "QEMU" "there is no QEMU for this machine here"
fi
tap_done
