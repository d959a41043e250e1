#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# usage: cli-top.sh BUILD-DIR - kvmstat top in a real terminal (tmux), with a
# recorded VM, so that every number is known

here=$(cd "$(dirname "$0")" && pwd)
kvmstat=$1/kvmstat/kvmstat
. "$here/tap.sh"
# shellcheck source=userspace/tests/top.sh
. "$here/top.sh"
image="--image $here/data/x86_64-6.18-vm.bin --image $here/data/x86_64-6.18-vcpu0.bin"
trap 'terminal_end; rm -rf "$tap_dir"' EXIT

start_top()
{
	send_line "clear; $kvmstat top $image --include-past"
	wait_for '^Total of events '
}

first_table()
{
	terminal_begin 90 30 && start_top && screen >"$tap_dir/screen" &&
		grep -qE '^kvm statistics - 1 VM, 2 descriptors$' "$tap_dir/screen" &&
		grep -qE '^Event +Total +%Total +CurAvg/s$' "$tap_dir/screen" &&
		grep -qE '^exits +486 +[0-9.]+ +0$' "$tap_dir/screen" &&
		grep -qE '^halt_wait_ns +1\.54s +0$' "$tap_dir/screen" &&
		grep -qE '^h: help, q: quit$' "$tap_dir/screen"
}

key_help()
{
	send h && wait_for '^Keys' && wait_for ' o  *toggle sorting order' &&
		send h && wait_for '^exits '
}

key_filter()
{
	send f && wait_for '^Show statistics .*: *$' &&
		send '(' Enter && wait_for '^Unmatched .*: *$' &&
		send '^halt_w' Enter && wait_for ' - filter \^halt_w$' &&
		wait_for '^halt_wakeup ' && ! shows '^exits ' &&
		send c && wait_for '^exits '
}

filter_is_edited()
{
	send f && send exitsx BSpace Enter && wait_for ' - filter exits$' &&
		send f && send halt Escape && sleep 0.2 &&
		shows ' - filter exits$' && send c && wait_for '^halt_wakeup '
}

key_guest()
{
	send g && wait_for '^ +PID +Guest$' && wait_for '^ +0  kvm-19578$' &&
		send 'other' Enter && wait_for 'no VM with statistics' &&
		send p && send 'kvm-19578' Enter &&
		wait_for ' - guest kvm-19578$' && wait_for '^exits ' &&
		send c && wait_for '1 VM, 2 descriptors$'
}

key_by_guest()
{
	send b && wait_for '^Guest +Total' && wait_for '^kvm-19578 \(0\) +[0-9]+ +100\.0' &&
		send b && wait_for '^Event +Total'
}

key_devices()
{
	send d && wait_for '^Device +r/s +w/s |^Device +r/s .* %util$' &&
		wait_for '^no VM publishes a disk here' && ! shows '^exits ' &&
		send d && wait_for '^exits '
}

# All columns of iostat -x, and on a narrow screen those that matter most.
disks()
{
	local disk=$here/data/block-drive0.bin

	send_line "clear; $kvmstat top --image $disk --devices"
	wait_for '^Device +r/s +r_await +w/s +w_await +aqu-sz +%util$|^Device +r/s +rkB/s +r_await +w/s' &&
		wait_for 'kvm-4711 drive0 ' && send q &&
		[ "$("$kvmstat" top --image "$disk" --devices --once --interval 0.1 |
			sed -n 2p | tr -s ' ')" = "Device r/s rkB/s r_await rareq-sz w/s wkB/s w_await wareq-sz d/s dkB/s d_await dareq-sz f/s f_await aqu-sz %util" ]
}

# Scales and values that no disk has, from zero to the largest: columns stay columns.
odd_disk()
{
	python3 - "$here/data/block-drive0.bin" "$tap_dir/odd-socket" <<'END'
import fcntl, os, socket, struct, sys, time
image = bytearray(open(sys.argv[1], "rb").read())
_, name_size, count, _, descs, data = struct.unpack_from("6I", image)
for i in range(count):
    struct.pack_into("h", image, descs + i * (16 + name_size) + 4, 64)
image[data:] = bytes(len(image) - data)
file = os.memfd_create("kvmstats:block:d", os.MFD_ALLOW_SEALING)
os.write(file, image)
fcntl.fcntl(file, 1033, 0x1 | 0x2 | 0x4)    # F_ADD_SEALS: all but writing
with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as peer:
    for _ in range(500):
        try:
            peer.connect(sys.argv[2])
            break
        except OSError:
            time.sleep(0.02)
    header = struct.pack("8s2H3IQ2HI", b"KVMSTATS", 1, 40, 1, os.getpid(), 0,
                         int(open("/proc/self/stat").read().split(")")[1].split()[19]),
                         3, 0, 0)
    socket.send_fds(peer, [header + b"odd"], [file])
    time.sleep(0.5)
    os.pwrite(file, b"\xff" * (len(image) - data), data)
    time.sleep(30)
END
}

odd_numbers()
{
	local disk status

	odd_disk &
	disk=$!
	"$kvmstat" top --socket "$tap_dir/odd-socket" --devices --batch \
		--interval 0.3 --count 5 >"$tap_dir/odd"
	status=$?
	kill $disk
	wait $disk
	cat "$tap_dir/odd"
	[ $status = 0 ] && grep -q 'e+' "$tap_dir/odd" &&
		! grep -E 'inf|nan' "$tap_dir/odd" &&
		awk '/drive0/ { n++; if (NF != 18 || length > 250) exit 1 }
			END { exit !n }' "$tap_dir/odd"
}

key_split()
{
	send x && wait_for '^  kvm-19578 vcpu0 +486 ' && send x &&
		wait_until_not '^  kvm-19578 vcpu0 '
}

key_latencies()
{
	send l && wait_for '^Histogram +Total +CurAvg/s +Median within +99% within' &&
		wait_for '^halt_wait_hist +479 ' && send l && wait_for '^Event '
}

key_zeros()
{
	! shows '^remote_tlb' && send z && wait_for '^(remote_tlb|nmi_|hyper)' &&
		send z && wait_until_not '^(remote_tlb|nmi_|hyper)'
}

key_reset()
{
	send r && wait_until_not '^exits ' && wait_for '^Total of events +0 '
}

key_delay()
{
	send s && wait_for '^Delay between samples' && send 0.01 Enter &&
		wait_for 'from 0\.1 to 86400' && send 0.2 Enter &&
		wait_for '^h: help'
}

key_quit()
{
	send q && ended_well 0
}

resized()
{
	start_top && resize 44 12 && wait_for_size 12 &&
		wait_for '^exits +486 ' && [ "$(screen | wc -l)" -le 12 ] &&
		resize 200 50 && wait_for_size 50 && wait_for '^exits +486 ' &&
		resize 3 1 && sleep 0.3 && resize 2 2 && sleep 0.3 &&
		resize 90 30 && wait_for_size 30 && wait_for '^exits +486 '
}

# What is sorted by, and what is asked for, is there in 40 columns.
narrow()
{
	resize 40 20 && wait_for '^Event +Total +CurAvg/s$' &&
		wait_for '^exits +486 +0$' && send l &&
		wait_for '^Histogram +Median within +99% within$' &&
		wait_for '^halt_wait_hi +- +-$' && send l &&
		resize 90 30 && wait_for_size 30 && wait_for '^exits +486 '
}

scrolls()
{
	resize 90 10 && wait_for_size 10 && send End &&
		wait_for '^Total of events' && ! shows '^exits ' &&
		send Home && wait_for '^exits ' && send NPage &&
		wait_until_not '^exits ' && send PPage && wait_for '^exits ' &&
		send Down && send Up && wait_for '^exits ' &&
		resize 90 30 && wait_for_size 30
}

suspended()
{
	send C-z && wait_for 'Stopped|suspended' && [ "$(alternate)" = 0 ] &&
		send_line fg && wait_for '^exits +486 ' && [ "$(alternate)" = 1 ]
}

# Whatever it dies of, the terminal is as it was.
dies_of()
{
	start_top || return 1
	if [ "$(alternate)" = 0 ]; then
		echo "no screen"
		return 1
	fi
	kill "-$1" "$(top_pid)" && ended_well "$2"
}

# Its output is stopped, so it cannot draw: it ends all the same.
stopped_output()
{
	start_top && send C-s && sleep 0.5 && kill -TERM "$(top_pid)" &&
		ended_well 0
}

says()
{
	send_line "clear; $1 $kvmstat top $image; echo status \$?" &&
		wait_for "$2" && wait_for '^status 1$'
}

no_terminal()
{
	status_is 1 "$kvmstat" top </dev/null &&
		grep -q 'top needs a terminal' "$tap_dir/out"
}

nothing_on_screen()
{
	# shellcheck disable=SC2016 # the inner shell's
	TERM=xterm KVMSTAT=$kvmstat SOCKET=$tap_dir/nobody status_is 3 \
		script -qec '"$KVMSTAT" top --socket "$SOCKET" --interval 0.1 \
			--duration 0.3' "$tap_dir/typescript" </dev/null &&
		grep -q 'kvmstat: no VM has registered' "$tap_dir/typescript"
}

batch_twice()
{
	# shellcheck disable=SC2086 # several options
	"$kvmstat" top --batch --count 2 --interval 0.05 --include-past \
		$image >"$tap_dir/batch" &&
		[ "$(grep -cE '^exits +486 ' "$tap_dir/batch")" = 2 ] &&
		[ "$(grep -c '^20.*Z  kvm statistics - 1 VM' "$tap_dir/batch")" = 2 ]
}

sorted_by()
{
	# shellcheck disable=SC2086
	"$kvmstat" top --once --interval 0.05 --include-past --sort "$1" \
		--fields "^halt_(w|e|a)" $image | cut -d' ' -f1 |
		grep ^halt_ | tr '\n' ' ' | grep -qx "$2 "
}

if ! terminal_works; then
	echo "1..0"
	exit 1
fi
check "first table" first_table
check "h shows the keys" key_help
check "f filters; a bad expression is said" key_filter
check "f is edited and cancelled" filter_is_edited
check "g and p choose a guest" key_guest
check "b shows guests" key_by_guest
check "x shows sources" key_split
check "d shows disks" key_devices
check "l shows histograms" key_latencies
check "z shows zeros" key_zeros
check "s sets the delay" key_delay
check "r resets" key_reset
check "q quits" key_quit
check "the window changes its size" resized
check "a narrow window" narrow
check "scrolls" scrolls
check "stops and goes on" suspended
check "q quits again" key_quit
check "a line a disk" disks
check "numbers that no disk has" odd_numbers
for death in INT:0 TERM:0 HUP:0 QUIT:0 SEGV:139 ABRT:134 KILL:137; do
	check "terminal is restored after SIG${death%:*}" dies_of "${death%:*}" \
		"${death#*:}"
done
check "the terminal is stopped" stopped_output
check "dumb terminal" says TERM=dumb 'cannot place its cursor'
check "nothing shown on the screen is no success" nothing_on_screen
check "unknown terminal" says TERM=nonesuch 'type of this terminal'
check "no terminal" no_terminal
check "batch needs none" batch_twice
check "sorted by total" sorted_by total \
	"halt_exits halt_wakeup halt_attempted_poll halt_wait_ns halt_wait_hist"
check "sorted by name" sorted_by name \
	"halt_attempted_poll halt_exits halt_wait_hist halt_wait_ns halt_wakeup"
tap_done
