#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# usage: nbdkit.sh BUILD-DIR - real clients of a real backend behind the filter:
# what is published is what they have done

here=$(cd "$(dirname "$0")" && pwd)
build=$(cd "$1" && pwd)
filter=$build/nbdkit/nbdkit-kvmstats-filter.so
kvmstat=$build/kvmstat/kvmstat
agent=''
. "$here/tap.sh"
# shellcheck source=userspace/tests/agent-lib.sh
. "$here/agent-lib.sh"
trap 'kill $agent 2>/dev/null; rm -rf "$tap_dir"' EXIT
# Debian's python3 has nbd, another one may not
PATH=/usr/bin:$PATH

truncate -s 64M "$tap_dir/disk.img"

# behind COMMAND ARGUMENTS...: run a client ($uri) of nbdkit with the filter and
# these arguments; samples are then in $tap_dir/samples, five a second
behind()
{
	local command=$1 recorder status=0

	shift
	rm -f "$tap_dir/socket"
	"$kvmstat" record --json --interval 0.2 --until-gone \
		--socket "$tap_dir/socket" >"$tap_dir/samples" 2>"$tap_dir/recorder" &
	recorder=$!
	until [ -S "$tap_dir/socket" ]; do
		kill -0 $recorder || return
		sleep 0.02
	done
	# shellcheck disable=SC2016 # uri is nbdkit's
	timeout 300 nbdkit -U - --filter="$filter" "$@" kvmstats-device=vda \
		kvmstats-vm=guest kvmstats-socket="$tap_dir/socket" \
		--run "$command" || status=$?
	# with a last sample, when the VM has gone
	[ $status = 0 ] || kill $recorder
	wait $recorder
	return $status
}

load()
{
	echo "python3 '$here/nbdkit-load.py' \"\$uri\" $1 >'$tap_dir/client'"
}

# expect PYTHON: with last (statistics by name), client, samples
expect()
{
	python3 -c '
import json, sys
samples = []
for line in open(sys.argv[1]):
    event = json.loads(line)
    if event["event"] != "sample":
        continue
    assert event["vm"]["name"] == "guest", event["vm"]
    source, = event["sources"]
    assert (source["class"], source["device"]) == ("block", "vda"), source
    samples.append({s["name"]: s["values"] if "hist" in s["name"] else
                    s["values"][0] for s in source["stats"]})
last = samples[-1]
client = json.load(open(sys.argv[2])) if sys.argv[3] else None
OPS = "read", "write", "flush", "discard"
def equals_client():
    for op in OPS:
        done = client.get(op, dict(ios=0, bytes=0, failed=0, time=0))
        assert last[op + "_ios"] == done["ios"], (op, last, done)
        assert last[op + "_failed"] == done["failed"], (op, last, done)
        assert last[op + "_invalid"] == last[op + "_in_flight"] == 0, (op, last)
        assert sum(last[op + "_latency_hist"]) == done["ios"], op
        spent = last[op + "_time_ns"] + last[op + "_failed_time_ns"]
        assert 0 <= last[op + "_queue_time_ns"] - spent < 1e6, (op, last)
        assert spent / 1e9 <= done["time"], (op, last, done)
        if op != "flush":
            assert last[op + "_bytes"] == done["bytes"], (op, last, done)
            assert sum(last[op + "_size_hist"]) == done["ios"], op
'"$1" "$tap_dir/samples" "$tap_dir/client" "${2-client}"
}

every_operation()
{
	behind "$(load mixed)" file "$tap_dir/disk.img" && expect '
equals_client()
assert last["write_ios"] == 46 and last["flush_ios"] == 13, last'
}

beyond_the_end()
{
	behind "$(load beyond)" file "$tap_dir/disk.img" && expect '
equals_client()
assert last["read_ios"] == 1, last'
}

injected_errors()
{
	behind "$(load failing)" --filter=error memory 64M error-pread=EIO \
		error-pread-rate=50% error-pwrite=ENOSPC error-pwrite-rate=10% \
		error-trim-rate=100% && expect '
equals_client()
assert 0 < last["read_failed"] < 200 and last["read_ios"], last
assert last["discard_failed"] == 20 and last["discard_bytes"] == 0, last'
}

# The client'"'"'s time is longer than ours, and ours than the delay.
# On a busy machine the second in which a window is shown may pass between two
# samples: what is right is seen once in three times.
delays()
{
	delays_once || delays_once || delays_once
}

delays_once()
{
	behind "$(load one)" --filter=delay memory 64M rdelay=30ms wdelay=10ms &&
		expect '
equals_client()
for op, delay in ("read", 30e6), ("write", 10e6):
    average = last[op + "_time_ns"] / last[op + "_ios"]
    assert delay <= average <= client[op]["time"] * 1e9 / 20, (op, average)
    window = [s for s in samples if s[op + "_done_1s"]]
    assert window, op
    for s in window:
        assert delay <= s[op + "_latency_min_1s_ns"] <= \
            s[op + "_latency_avg_1s_ns"] <= s[op + "_latency_max_1s_ns"], s
        # one at a time: the depth is the part of the second that it took
        assert s[op + "_depth_1s"] <= 1000000, s'
}

# Eight at a time, of 100 ms each, for seconds: the average depth of a whole
# second within is eight at most, and that of all is what the client knows.
depth()
{
	behind "$(load parallel)" --filter=delay memory 64M rdelay=100ms &&
		expect '
equals_client()
elapsed = client["elapsed"] * 1e9
depth = last["read_queue_time_ns"] / elapsed
assert client["read"]["ios"] * 100e6 / elapsed <= depth <= \
    client["read"]["time"] / client["elapsed"], depth
best = max(s["read_depth_1s"] for s in samples) / 1e6
# how busy the client was kept depends on what else the machine does
# a thread that is interrupted in submit or complete adds the time it was (accounting.md)
assert 1.0 < best <= 8 * 1.11, best
assert max(s["read_in_flight"] for s in samples) <= 8
assert 1 <= max(s["read_done_1s"] for s in samples) <= 88'
}

qemu_img_bench()
{
	# shellcheck disable=SC2016
	behind 'qemu-img bench -f raw -t none -c 5000 -d 16 -s 4096 "$uri" >/dev/null &&
		qemu-img bench -f raw -t none -w --flush-interval=100 -c 1000 -d 8 -s 8192 "$uri" >/dev/null' \
		file "$tap_dir/disk.img" && expect '
assert last["read_ios"] == 5000 and last["read_bytes"] == 5000 * 4096, last
assert last["write_ios"] == 1000 and last["write_bytes"] == 1000 * 8192, last
assert last["flush_ios"] >= 10 and last["flush_failed"] == 0, last' ''
}

fio_numbers()
{
	# shellcheck disable=SC2016
	behind 'fio --name=a --ioengine=nbd --uri="$uri" --rw=randrw --bs=4k --iodepth=16 --size=16M --fsync=50 --number_ios=3000 --output-format=json >'"$tap_dir"'/fio' \
		file "$tap_dir/disk.img" && expect '
text = open("'"$tap_dir"'/fio").read()
job, = json.loads(text[text.index("{"):])["jobs"]
for op in "read", "write":
    assert last[op + "_ios"] == job[op]["total_ios"], (op, last, job[op])
    assert last[op + "_bytes"] == job[op]["io_bytes"], (op, last, job[op])
    average = last[op + "_time_ns"] / last[op + "_ios"]
    assert 0 < average <= job[op]["lat_ns"]["mean"], (op, average, job[op])
assert last["flush_ios"] == job["sync"]["total_ios"], last' ''
}

# Eight reads at a time, of 100 ms and 4 KiB each.
shown_by_top()
{
	local top status=0

	rm -f "$tap_dir/socket"
	"$kvmstat" top --devices --batch --interval 1 --socket "$tap_dir/socket" \
		>"$tap_dir/top" 2>/dev/null &
	top=$!
	until [ -S "$tap_dir/socket" ]; do
		sleep 0.02
	done
	timeout 300 nbdkit -U - --filter="$filter" --filter=delay memory 64M \
		rdelay=100ms kvmstats-device=vda kvmstats-vm=guest \
		kvmstats-socket="$tap_dir/socket" --run "$(load parallel)" || status=1
	kill $top
	wait $top
	[ $status = 0 ] && python3 - "$tap_dir/top" <<'END'
import sys
best = None
for line in open(sys.argv[1]):
    words = line.split()
    if words[:1] == ["Device"]:
        names = words[1:]
    elif words[:2] == ["guest", "vda"]:
        now = dict(zip(names, map(float, words[2:])))
        if not best or now["r/s"] > best["r/s"]:
            best = now
# how busy the client was kept depends on what else the machine does
assert 1 <= best["r/s"] <= 88, best
assert abs(best["rkB/s"] - 4 * best["r/s"]) < 0.1 and best["rareq-sz"] == 4, best
# between two bursts, 100 ms, nothing brings up to date what is seen
assert best["r_await"] >= 100 and 0 < best["aqu-sz"] <= 8 * 1.11, best
# what was waited for is what was in flight, but for the eight at either end
assert abs(best["r/s"] * best["r_await"] - 1000 * best["aqu-sz"]) <= \
    16 * best["r_await"], best
assert 0 < best["%util"] <= 100, best
assert best["w/s"] == best["f/s"] == best["d/s"] == best["w_await"] == 0, best
END
}

# exported COMMAND...: runs while the agent has what the client has done
exported()
{
	rm -f "$tap_dir/socket"
	start_agent || return
	: >"$tap_dir/metrics"
	# shellcheck disable=SC2016 # uri is nbdkit's
	timeout 300 nbdkit -U - --filter="$filter" file "$tap_dir/disk.img" \
		kvmstats-device=vda kvmstats-vm=guest \
		kvmstats-socket="$tap_dir/socket" --run "$(load mixed) &&
			until grep -q 'kvm_block_flush_ios_total{.*} 13' '$tap_dir/metrics'; do
				sleep 0.1
				curl -sS --noproxy '*' '$url/metrics' >'$tap_dir/metrics'
			done" &&
		stop_agent && "$@"
}

# With one page of metrics: values, names of the dashboard, promtool's opinion.
metrics_are_right()
{
	python3 - "$tap_dir" "$here/../kvmstatd/dashboard/kvmstatd.json" <<'END' || return
import json, re, sys
client = json.load(open(sys.argv[1] + "/client"))
metrics = {}
for line in open(sys.argv[1] + "/metrics"):
    m = re.match(r'kvm_block_(\w+)\{vm="guest",device="vda"\} (\S+)$', line)
    if m:
        metrics[m[1]] = float(m[2])
for op in "read", "write", "flush", "discard":
    assert metrics[op + "_ios_total"] == client[op]["ios"], op
    assert 0 < metrics[op + "_time_seconds_total"] <= client[op]["time"], op
    assert op == "flush" or metrics[op + "_bytes_total"] == client[op]["bytes"], op
text = open(sys.argv[1] + "/metrics").read()
used = set(re.findall(r"\bkvm_block_\w+", open(sys.argv[2]).read()))
assert len(used) >= 10, used
absent = {name for name in used if not re.search(f"^{name}{{", text, re.M)}
assert not absent, absent
END
	! command -v promtool >/dev/null ||
		promtool check metrics <"$tap_dir/metrics" >"$tap_dir/promtool" 2>&1 ||
		! grep -v ' use base unit\| metric names should not' "$tap_dir/promtool"
}

# Readers that come later, and go: the numbers do not begin anew.
reader_comes_again()
{
	local nbdkit status=0

	rm -f "$tap_dir/socket"
	nbdkit -f -U "$tap_dir/nbd" -P "$tap_dir/pid" --filter="$filter" memory 64M \
		kvmstats-socket="$tap_dir/socket" &
	nbdkit=$!
	until [ -s "$tap_dir/pid" ]; do
		sleep 0.02
	done
	python3 "$here/nbdkit-load.py" "nbd+unix:///?socket=$tap_dir/nbd" beyond \
		>/dev/null || status=1
	for _ in 1 2; do
		timeout 300 "$kvmstat" show --socket "$tap_dir/socket" --wait 290 \
			--fields '^read_ios$' 2>/dev/null |
			grep -q 'read_ios .* 1$' || status=1
	done
	kill $nbdkit
	wait $nbdkit
	return $status
}

# refused TEXT PARAMETER: before anything is served
refused()
{
	! nbdkit -U - --filter="$filter" null "$2" --run true 2>"$tap_dir/err" &&
		grep -F -- "$1" "$tap_dir/err"
}

# In the background, from another directory; and what cannot be reached is said.
registered_from_elsewhere()
{
	local recorder status=0

	rm -f "$tap_dir/socket" "$tap_dir/pid"
	timeout 300 "$kvmstat" show --socket "$tap_dir/socket" --wait 290 \
		--fields '^read_ios$' >"$tap_dir/shown" 2>&1 &
	recorder=$!
	until [ -S "$tap_dir/socket" ]; do
		sleep 0.02
	done
	(cd "$tap_dir" && nbdkit -U "$tap_dir/nbd2" -P "$tap_dir/pid" \
		--filter="$filter" null kvmstats-socket=socket) || status=1
	wait $recorder || status=1
	kill "$(cat "$tap_dir/pid")"
	cat "$tap_dir/shown"
	nbdkit -v -U - --filter="$filter" null kvmstats-socket="$tap_dir/none" \
		--run 'sleep 0.5' 2>"$tap_dir/err" || status=1
	grep -F "kvmstats-socket=$tap_dir/none: No such file" "$tap_dir/err" || status=1
	nbdkit -U - --filter="$filter" null kvmstats-socket="$tap_dir/err/x" \
		--run 'sleep 0.5' 2>"$tap_dir/err2"
	grep "error: kvmstats-socket=$tap_dir/err/x: Not a directory" "$tap_dir/err2" &&
		return $status
}

# Not supported is no failure: the client has asked whether it can be done fast.
# shellcheck disable=SC2016 # nbdkit's variables, and those of its scripts
fast_zero()
{
	behind 'nbdsh -u "$uri" -c "
try:
    h.zero(65536, 0, nbd.CMD_FLAG_FAST_ZERO)
    raise SystemExit(1)
except nbd.Error:
    pass
h.zero(4096, 0)" && echo "{}" >'"'$tap_dir/client'" eval \
		get_size='echo 1048576' can_write='exit 0' can_zero='exit 0' \
		can_fast_zero='exit 0' pread='head -c $3 /dev/zero' pwrite='cat >/dev/null' \
		zero='case $5 in *fast*) echo ENOTSUP >&2; exit 1 ;; esac' || return
	expect 'assert last["write_failed"] == 0 and last["write_ios"] == 1, last
assert last["write_bytes"] == 4096 and last["write_in_flight"] == 0, last'
}

mistakes()
{
	refused 'kvmstats-device=: Invalid argument; must be 1 to 79' \
		kvmstats-device= &&
		refused 'must be UTF-8' "kvmstats-vm=$(printf 'a\tb')" &&
		refused 'kvmstats-socket=: must be a path of 1 to 107 bytes' \
		kvmstats-socket= &&
		refused ': must be a path of 1 to 107 bytes' \
		"kvmstats-socket=/$(printf '%0120d' 0)" &&
		refused 'the filter kvmstats can be used only once' \
		--filter="$filter" &&
		nbdkit --filter="$filter" null --help | grep -q '^kvmstats-socket='
}

check "every operation of a client is counted" every_operation
check "requests beyond the end do not come through" beyond_the_end
check "injected errors are counted apart" injected_errors
check "average latency is that of the delay filter" delays
check "average depth is that of the client" depth
check "qemu-img bench" qemu_img_bench
check "fio says the same" fio_numbers
check "kvmstat top --devices" shown_by_top
check "kvmstatd exports what the client did" exported metrics_are_right
check "a reader comes later, and again" reader_comes_again
check "registered from another directory" registered_from_elsewhere
check "a fast zero that is not supported" fast_zero
check "mistakes in parameters are named" mistakes
tap_done
