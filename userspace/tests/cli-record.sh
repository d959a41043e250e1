#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# usage: cli-record.sh BUILD-DIR - what kvmstat record writes, and where; with
# recorded VMs, so that every value is known

here=$(cd "$(dirname "$0")" && pwd)
kvmstat=$1/kvmstat/kvmstat
vcpu=$here/data/x86_64-6.18-vcpu0.bin
: "${CC:=cc}"
. "$here/tap.sh"
# shellcheck disable=SC2046 # several numbers
trap 'kill -9 $(jobs -p) 2>/dev/null; wait 2>/dev/null; rm -rf "$tap_dir"' EXIT
cd "$tap_dir" || exit 1

record()
{
	"$kvmstat" record --image "$vcpu" --interval 0.01 "$@"
}

# Times are those of the run: four columns are left out, and the rates' zeros.
golden_csv()
{
	"$kvmstat" record --count 1 --interval 0.01 \
		--image "$here/data/$1-vm.bin" \
		--image "$here/data/$1-vcpu0.bin" |
		cut -d, -f5- | diff -u "$here/data/$1-record.csv" -
}

csv_has_what_json_has()
{
	record --count 2 >csv && record --count 2 --json >json &&
		python3 - <<'EOF'
import csv, decimal, json
rows = list(csv.DictReader(open("csv")))
samples = [json.loads(line) for line in open("json")]
stats = samples[0]["sources"][0]["stats"]
assert len(samples) == 2 and len(rows) == 2 * len(stats), len(rows)
for row, stat in zip(rows, stats):
    assert None not in row and None not in row.values(), row
    assert row["statistic"] == stat["name"], row
    hist = stat["type"] == "log_hist"
    scale = decimal.Decimal(stat["base"] or 1) ** stat["exponent"]
    wanted = stat["count"] if hist else stat["values"][0] * scale
    wanted = sum(stat["values"]) if hist else wanted
    assert decimal.Decimal(row["value"]) == wanted, (row, stat)
    assert row["time"].endswith("Z") and row["vcpu"] == "0", row
times = [int(row["time_ns"]) for row in rows]
assert times == sorted(times) and times[0] < times[-1]
for sample in samples:
    assert sample["event"] == "sample" and sample["monotonic_ns"] > 0
EOF
}

log_has_columns()
{
	# shellcheck disable=SC2094 # "log" is a format, too
	record --count 45 --format log --fields '^halt_(wakeup|wait_ns)$' >log &&
		[ "$(grep -c '^time  *halt_wait_ns halt_wakeup$' log)" = 3 ] &&
		[ "$(grep -cE '^[0-9-]+T[0-9:.]+Z  *0  *0$' log)" = 45 ]
}

log_is_not_appended_to_others()
{
	record --count 1 --output other.csv &&
		cp other.csv other.before &&
		status_is 1 record --count 1 --format log --output other.csv &&
		cmp other.csv other.before &&
		record --count 2 --format log --output own.log &&
		record --count 2 --format log --output own.log &&
		[ "$(grep -c '^time ' own.log)" = 2 ]
}

# Each file begins with the columns' names.
log_rotates()
{
	local file

	record --count 30 --format log --fields '^halt_w' --output turn.log \
		--rotate 1k --keep 9 || return 1
	for file in turn.log turn.log.1 turn.log.2; do
		[ "$(head -n 1 $file | cut -c 1-5)" = "time " ] || return 1
	done
}

# It is emptied meanwhile, as by copytruncate.
log_is_emptied()
{
	start copied.log --format log --fields '^halt_w' || return 1
	sleep 0.05
	: >copied.log
	until_written copied.log
	kill $recorder
	wait $recorder
	[ "$(head -n 1 copied.log | cut -c 1-5)" = "time " ]
}

zero_records_skipped()
{
	# shellcheck disable=SC2094
	record --count 3 --skip-zero --format log >log && ! [ -s log ]
}

# Recorded twice: one header.
appends()
{
	record --count 2 --output appended.csv &&
		record --count 1 --output appended.csv &&
		[ "$(grep -c '^time,' appended.csv)" = 1 ] &&
		[ "$(grep -c ,halt_wakeup, appended.csv)" = 3 ]
}

foreign_file()
{
	echo "my diary" >diary
	status_is 1 record --count 1 --output diary &&
		[ "$(cat diary)" = "my diary" ]
}

torn_line()
{
	local lines

	record --count 1 --output torn.csv && lines=$(wc -l <torn.csv) &&
		truncate -s -20 torn.csv && record --count 1 --output torn.csv &&
		[ "$(wc -l <torn.csv)" = $((2 * lines - 1)) ] &&
		python3 -c '
import csv
rows = list(csv.reader(open("torn.csv")))
assert [len(row) == 21 for row in rows].count(False) == 1, rows[-1]'
}

# By size: all files are whole, none too large, none too many.
rotates()
{
	local file

	record --count 20 --output turn.csv --rotate 20k --keep 2 || return 1
	[ -s turn.csv ] && [ -s turn.csv.1 ] && [ -s turn.csv.2 ] &&
		[ ! -e turn.csv.3 ] || return 1
	for file in turn.csv turn.csv.1 turn.csv.2; do
		[ "$(stat -c %s $file)" -le 20480 ] &&
			[ "$(head -n 1 $file | cut -c 1-13)" = time,time_ns, ] &&
			[ "$(tail -c 1 $file | od -An -tx1)" = " 0a" ] || return 1
	done
	python3 -c '
import csv
times = [int(row["time_ns"]) for name in (".2", ".1", "")
         for row in csv.DictReader(open("turn.csv" + name))]
assert times == sorted(times)'
}

rotation_keeps_none()
{
	record --count 9 --output none.csv --rotate 20k --keep 0 &&
		[ "$(stat -c %s none.csv)" -le 20480 ] && [ ! -e none.csv.1 ]
}

# until_written FILE: by the recorder, which may have to be asked for it
until_written()
{
	local end=$((SECONDS + 300))

	until [ -s "$1" ]; do
		kill -0 "$recorder" || return 1
		[ $SECONDS -lt $end ] || { kill -9 "$recorder"; return 1; }
		sleep 0.02
	done
}

# start NAME ARGS...: in the background, until something is written
start()
{
	local file=$1

	shift
	"$kvmstat" record --image "$vcpu" --interval 0.01 --output "$file" "$@" \
		2>"$file.err" &
	recorder=$!
	until_written "$file"
}

hangup_reopens()
{
	start moved.csv || return 1
	mv moved.csv moved.old
	kill -HUP $recorder
	until_written moved.csv || return 1
	kill $recorder && status_is 0 wait $recorder &&
		[ "$(tail -c 1 moved.old | od -An -tx1)" = " 0a" ] &&
		[ "$(grep -c ^time, moved.csv)" = 1 ]
}

signal_leaves_whole_lines()
{
	start "ended$1.csv" && kill "-$1" $recorder &&
		status_is 0 wait $recorder &&
		[ "$(tail -c 1 "ended$1.csv" | od -An -tx1)" = " 0a" ]
}

# Two records in one file would be mixed; one after the other is welcome.
two_records()
{
	local verdict=0

	start shared.csv || return 1
	status_is 1 record --count 1 --output shared.csv 2>second.err &&
		grep -qx "kvmstat: shared.csv: another record writes to it: process $recorder" \
			second.err || verdict=1
	ln -sf shared.csv link.csv
	status_is 1 record --count 1 --output link.csv || verdict=1
	mv shared.csv shared.old
	record --count 1 --output shared.csv || verdict=1
	kill -HUP $recorder
	sleep 0.1
	status_is 1 record --count 1 --output shared.csv || verdict=1
	kill $recorder
	status_is 0 wait $recorder && record --count 1 --output shared.csv &&
		[ "$(grep -c ^time, shared.csv)" = 1 ] && return $verdict
}

# One that rotates has the new file, too, and loses no line to another.
two_that_rotate()
{
	start turned.csv --rotate 20k --keep 1000 || return 1
	for _ in $(seq 10); do
		status_is 1 record --count 1 --output turned.csv --fields '^halt_wakeup$' \
			2>second.err || { cat second.err; kill $recorder; return 1; }
	done
	kill $recorder
	status_is 0 wait $recorder
}

# Whoever may read the file can lock it against writers: that is said, and no more.
locked_by_reader()
{
	local verdict

	record --count 1 --output locked.csv
	python3 -c '
import fcntl, sys, time
locked = open("locked.csv")
fcntl.lockf(locked, fcntl.LOCK_SH)
print(flush=True)
time.sleep(600)' >locker.said &
	locker=$!
	until [ -s locker.said ]; do kill -0 $locker || return 1; sleep 0.02; done
	timeout 20 "$kvmstat" record --image "$vcpu" --interval 0.01 --count 1 \
		--output locked.csv 2>second.err &&
		grep -q "locked.csv: process $locker, which reads it, has a lock on it" second.err &&
		[ "$(grep -c ,halt_wakeup, locked.csv)" = 2 ]
	verdict=$?
	kill $locker
	return $verdict
}

full_disk()
{
	status_is 1 record --count 1 --output /dev/full &&
		status_is 1 record --count 1 >/dev/full
}

# The limit is reached in the middle of a record: that one is taken back.
file_size_limit()
{
	(
		ulimit -f 20
		status_is 1 record --count 20 --output limit.csv
	) && [ "$(tail -c 1 limit.csv | od -An -tx1)" = " 0a" ] &&
		[ "$(grep -c ,halt_wakeup, limit.csv)" -ge 1 ]
}

ends_by_duration()
{
	local begin=$SECONDS

	record --duration 0.5 --interval 0.1 --json >duration &&
		[ $((SECONDS - begin)) -lt 30 ] &&
		[ "$(wc -l <duration)" -ge 1 ] && [ "$(wc -l <duration)" -le 5 ]
}

# There is a VM, so there is a sample, however short the time.
ends_at_once()
{
	record --duration 0.01 --interval 600 >short.csv && grep -q ,halt_wakeup, short.csv &&
		"$kvmstat" top --batch --all --image "$vcpu" --duration 0.01 --interval 600 |
		grep -q '^halt_wakeup'
}

# logrotate's copytruncate, or somebody's ": >file"
emptied_file()
{
	start emptied.csv || return 1
	: >emptied.csv
	until_written emptied.csv && kill $recorder &&
		status_is 0 wait $recorder &&
		[ "$(head -n 1 emptied.csv | cut -c 1-13)" = time,time_ns, ] &&
		[ "$(grep -c ^time, emptied.csv)" = 1 ] &&
		record --count 1 --output emptied.csv
}

# on_small_disk COMMAND...: of 64 KiB, in ./small
on_small_disk()
{
	mkdir -p small
	unshare -m sh -c 'mount -t tmpfs -o size=64k none small && "$@"' sh "$@"
}

# Emptied, and then the disk is full: what did not fit is taken back, and no
# byte is there that nobody wrote.
emptied_and_full()
{
	export kvmstat vcpu recorder
	# shellcheck disable=SC2016 # that shell expands them
	on_small_disk bash -c '
		"$kvmstat" record --image "$vcpu" --interval 0.01 \
			--output small/r.csv 2>err &
		recorder=$!
		until [ -s small/r.csv ]; do sleep 0.02; done
		: >small/r.csv
		dd if=/dev/zero of=small/filler bs=1k 2>/dev/null
		timeout 30 tail --pid=$recorder -f /dev/null
		wait $recorder
		echo status $? >>err
		tr -d "\0" <small/r.csv | cmp - small/r.csv'
	local status=$?
	cat err
	[ $status = 0 ] && grep -q 'No space left' err && grep -q 'status 1' err
}

dump_on_full_disk()
{
	export kvmstat vcpu
	# shellcheck disable=SC2016 # that shell expands them
	on_small_disk bash -c '
		dd if=/dev/zero of=small/filler bs=1k 2>/dev/null
		"$kvmstat" dump --image "$vcpu" --output small 2>err
		[ $? = 1 ] && grep -q "No space left" err && ! ls small/*.bin &&
			rm small/filler && "$kvmstat" dump --image "$vcpu" --output small'
}

other_format()
{
	record --count 1 --output kept.csv && cp kept.csv kept &&
		status_is 1 record --count 1 --json --output kept.csv &&
		cmp kept kept.csv
}

closed_output()
{
	status_is 1 record --count 1 >&- && status_is 1 "$kvmstat" list --help >&-
}

# calls POLICY: how often it asks that data be on the disk
calls()
{
	ASAN_OPTIONS=detect_leaks=0 strace -f -e trace=fsync,fdatasync -o "trace.$1" "$kvmstat" record \
		--image "$vcpu" --interval 0.01 --count 4 --fsync "$1" \
		--output "sync.$1" || return 1
	grep -c 'sync(' "trace.$1"
}

fsync_policies()
{
	[ "$(calls never)" = 0 ] && [ "$(calls close)" = 2 ] &&
		[ "$(calls sample)" = 6 ]
}

# Somebody sets the clock back by a day at every look: only time_ns may care.
clock_jumps()
{
	cat >jump.c <<'EOF'
#define _GNU_SOURCE
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
int clock_gettime(clockid_t id, struct timespec *time)
{
	static int looks;
	int ret = syscall(SYS_clock_gettime, id, time);

	if (id == CLOCK_REALTIME)
		time->tv_sec -= 86400 * ++looks;
	return ret;
}
EOF
	$CC -shared -fPIC jump.c -o jump.so &&
		ASAN_OPTIONS=verify_asan_link_order=0 \
		LD_PRELOAD=$tap_dir/jump.so timeout 60 "$kvmstat" record --json \
		--image "$vcpu" --interval 0.05 --count 4 >jump.json &&
		python3 - <<'EOF'
import json
samples = [json.loads(line) for line in open("jump.json")]
wall = [sample["time_ns"] for sample in samples]
steady = [sample["monotonic_ns"] for sample in samples]
assert len(samples) == 4 and wall == sorted(wall, reverse=True), wall
assert steady == sorted(steady), steady
for sample in samples:
    assert 0 < sample["sources"][0]["interval_ns"] < 10 ** 10, sample
EOF
}

for kernel in x86_64-5.10 arm64-5.10 x86_64-6.18; do
	check "CSV as recorded of $kernel" golden_csv $kernel
done
check "CSV and JSON say the same" csv_has_what_json_has
check "log has a column a statistic, and a banner every 20" log_has_columns
check "log is not appended to other formats" log_is_not_appended_to_others
check "log that rotates has names in each file" log_rotates
check "log that is emptied meanwhile" log_is_emptied
check "records of zeros are skipped" zero_records_skipped
check "appends below one header" appends
check "a file of another kind is left alone" foreign_file
check "a torn line gets its end" torn_line
check "rotates by size" rotates
check "rotates and keeps none" rotation_keeps_none
check "rotation needs a file" status_is 2 record --rotate 1k
check "bad size" status_is 2 record --rotate 1x --output x
check "bad format" status_is 2 record --format xml
check "bad policy" status_is 2 record --fsync often
check "count of nothing" status_is 2 record --count 0
check "SIGHUP reopens" hangup_reopens
check "SIGINT leaves whole lines" signal_leaves_whole_lines INT
check "SIGTERM leaves whole lines" signal_leaves_whole_lines TERM
check "two records of one file" two_records
check "two records, and rotation" two_that_rotate
check "a reader's lock" locked_by_reader
check "full disk" full_disk
check "limit of the file's size" file_size_limit
check "a file that is emptied meanwhile" emptied_file
if [ "$(id -u)" = 0 ]; then
	check "a file that is emptied, and a full disk" emptied_and_full
	check "dump on a full disk leaves nothing" dump_on_full_disk
else
	skip "full disks" "needs root, to mount one"
fi
check "JSON is not appended to CSV" other_format
check "an output that is closed" closed_output
check "ends by duration" ends_by_duration
check "ends by a duration that is very short" ends_at_once
check "data is on the disk when it was asked for" fsync_policies
check "the wall clock jumps" clock_jumps
tap_done
