#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# usage: cli-readers.sh BUILD-DIR - who reads what kvmstat record and top write: FIFOs
# that have no reader yet, readers that go, and those that do not read; with recorded VMs

here=$(cd "$(dirname "$0")" && pwd)
kvmstat=$1/kvmstat/kvmstat
vcpu=$here/data/x86_64-6.18-vcpu0.bin
. "$here/tap.sh"
# shellcheck disable=SC2046 # several numbers
trap 'kill -9 $(jobs -p) 2>/dev/null; wait 2>/dev/null; rm -rf "$tap_dir"' EXIT
cd "$tap_dir" || exit 1

record()
{
	"$kvmstat" record --image "$vcpu" --interval 0.01 "$@"
}

# Nobody reads: the signal must get it out of the write.
stuck_reader()
{
	mkfifo stuck
	# shellcheck disable=SC2217 # it is not to read
	sleep 60 <stuck &
	sleeper=$!
	"$kvmstat" record --image "$vcpu" --interval 0.01 >stuck &
	recorder=$!
	until waits_for_room $recorder; do
		kill -0 "$recorder" || return 1
		sleep 0.1
	done
	kill -INT $recorder
	timeout 10 tail --pid=$recorder -f /dev/null || kill -9 $recorder
	status_is 0 wait $recorder && kill $sleeper
}

# said TEXT: by the last record in the background
said()
{
	grep -qF -- "$1" fifo.err || { cat fifo.err; return 1; }
}

# record_fifo OPTIONS...: in the background
record_fifo()
{
	rm -f fifo fifo.err
	mkfifo fifo
	"$kvmstat" record --image "$vcpu" --interval 0.01 --output fifo "$@" 2>fifo.err &
	recorder=$!
}

until_said()
{
	local end=$((SECONDS + 60))

	until grep -qsF -- "$1" fifo.err; do
		kill -0 "$recorder" && [ $SECONDS -lt $end ] || return 1
		sleep 0.02
	done
}

# A FIFO is waited for, and what is written goes to its reader.
fifo_with_reader()
{
	record_fifo --count 3
	until_said 'fifo: waiting for a reader' || { kill -9 $recorder; return 1; }
	timeout 60 cat fifo >read.csv
	status_is 0 wait $recorder && record --count 3 >own.csv &&
		[ "$(wc -l <read.csv)" = "$(wc -l <own.csv)" ] &&
		[ "$(head -n 1 read.csv)" = "$(head -n 1 own.csv)" ]
}

# The program is not its own reader: what nobody reads is no success.
fifo_reader_goes()
{
	record_fifo
	timeout 60 head -n 2 fifo >/dev/null
	timeout 10 tail --pid=$recorder -f /dev/null || kill -9 $recorder
	status_is 1 wait $recorder && said 'kvmstat: fifo: Broken pipe'
}

# A reader that comes back in time has the lines from there on.
fifo_reader_comes_back()
{
	local lines

	lines=$(record --count 1 | wc -l)
	record_fifo --interval 1 --count 3
	timeout 60 head -n "$lines" fifo >first.csv
	timeout 60 cat fifo >second.csv
	status_is 0 wait $recorder && [ "$(wc -l <first.csv)" = "$lines" ] &&
		! grep -q ^time, second.csv && grep -q ,halt_wakeup, second.csv
}

# It is opened after the signal anyway: its reader is not sent away.
fifo_hangup()
{
	record_fifo --count 3
	until_said 'waiting for a reader' && kill -HUP $recorder
	timeout 60 cat fifo >read.csv
	timeout 10 tail --pid=$recorder -f /dev/null || kill -9 $recorder
	# one that is opened again begins again
	status_is 0 wait $recorder && grep -q ,halt_wakeup, read.csv &&
		[ "$(grep -c ^time, read.csv)" = 1 ]
}

# As every file, it gets a last sample at the end.
fifo_becomes_file()
{
	rm -f read.csv
	record_fifo --interval 600
	timeout 60 cat fifo >read.csv &
	until [ -s read.csv ]; do kill -0 $recorder || return 1; sleep 0.02; done
	rm fifo
	kill -HUP $recorder
	until [ -s fifo ]; do kill -0 $recorder || return 1; sleep 0.02; done
	sleep 0.2
	kill $recorder
	status_is 0 wait $recorder && grep -q ,halt_wakeup, fifo
}

fifo_does_not_rotate()
{
	record_fifo --rotate 1k
	timeout 10 tail --pid=$recorder -f /dev/null || kill -9 $recorder
	status_is 2 wait $recorder && said '--rotate: fifo is not a regular file'
}

fifo_without_reader()
{
	local signal

	for signal in TERM INT; do
		record_fifo
		until_said 'waiting for a reader' && kill -$signal $recorder
		timeout 10 tail --pid=$recorder -f /dev/null || kill -9 $recorder
		status_is 0 wait $recorder || return 1
	done
	record_fifo --duration 0.3
	timeout 10 tail --pid=$recorder -f /dev/null || kill -9 $recorder
	status_is 1 wait $recorder && said 'fifo: no reader has opened it within --duration'
}

# until_ended: the record, whose --duration is 1 s
until_ended()
{
	timeout 20 tail --pid="$recorder" -f /dev/null || kill -9 "$recorder"
	wait "$recorder"
}

# The end of --duration ends a write that waits, and says what is lost.
blocked_duration()
{
	local verdict=0

	rm -f fifo
	mkfifo fifo
	# shellcheck disable=SC2217 # it is not to read
	sleep 600 <fifo &
	sleeper=$!
	"$kvmstat" record --image "$vcpu" --interval 0.01 --duration 1 --output fifo \
		2>fifo.err &
	recorder=$!
	status_is 1 until_ended && said 'kvmstat: fifo: not read by the end of --duration' || verdict=1
	kill $sleeper
	# shellcheck disable=SC2217
	sleep 600 <fifo &
	sleeper=$!
	"$kvmstat" record --image "$vcpu" --interval 0.01 --duration 1 >fifo 2>fifo.err &
	recorder=$!
	status_is 1 until_ended && said 'standard output: not read by the end of --duration' || verdict=1
	"$kvmstat" top --batch --all --image "$vcpu" --interval 0.01 --duration 1 >fifo \
		2>fifo.err &
	recorder=$!
	status_is 1 until_ended && said 'standard output: not read by the end of --duration' || verdict=1
	kill $sleeper
	return $verdict
}

# The messages go where nobody reads, too: the last one is not waited for.
blocked_messages()
{
	local verdict=0 command

	rm -f fifo
	mkfifo fifo
	python3 -c '
import os, time
fd = os.open("fifo", os.O_RDWR | os.O_NONBLOCK)
try:
    while True:
        os.write(fd, bytes(4096))
except BlockingIOError:
    print(flush=True)
time.sleep(600)' >filled &
	filler=$!
	until [ -s filled ]; do kill -0 $filler || return 1; sleep 0.02; done
	for command in record "record --json" "top --batch --all"; do
		# shellcheck disable=SC2086 # words
		"$kvmstat" $command --image "$vcpu" --interval 0.01 --duration 1 >fifo 2>&1 &
		recorder=$!
		status_is 1 until_ended || verdict=1
	done
	kill $filler
	return $verdict
}

# A terminal that is stopped (^S) or whose window hangs: poll has room for it, and a
# write waits.
stopped_terminal()
{
	python3 - "$kvmstat" "$vcpu" <<'EOF'
import pty, signal, subprocess, sys, time
kvmstat, vcpu = sys.argv[1:]
terminal, ours = pty.openpty()
failed = False
for command in ["record"], ["record", "--json"], ["top", "--batch", "--all"]:
    for options, status in (["--duration", "1"], 1), ([], 0):
        process = subprocess.Popen([kvmstat, *command, "--image", vcpu,
                                    "--interval", "0.01", *options],
                                   stdout=ours, stderr=subprocess.PIPE)
        if not options:
            # by now it has more to write than a terminal takes
            time.sleep(2)
            process.send_signal(signal.SIGTERM)
        try:
            _, error = process.communicate(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            _, error = process.communicate()
        print(command, options, process.returncode, error)
        failed |= process.returncode != status
        failed |= bool(options) != (b"not read by the end" in error)
sys.exit(failed)
EOF
}

closed_pipe()
{
	record 2>pipe.err | head -n 2 >/dev/null
	[ "${PIPESTATUS[0]}" = 0 ] && ! grep -q . pipe.err
}

check "a reader that does not read" stuck_reader
check "a FIFO is waited for" fifo_with_reader
check "a FIFO whose reader goes" fifo_reader_goes
check "a FIFO whose reader comes back" fifo_reader_comes_back
check "SIGHUP while a FIFO is waited for" fifo_hangup
check "SIGHUP, and a FIFO becomes a file" fifo_becomes_file
check "a FIFO without a reader" fifo_without_reader
check "the end of a duration ends a write" blocked_duration
check "the end of a duration, and messages that nobody reads" blocked_messages
check "a terminal that takes nothing" stopped_terminal
check "a FIFO does not rotate, and is not waited for" fifo_does_not_rotate
check "closed pipe is an end" closed_pipe
tap_done
