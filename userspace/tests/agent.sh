#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# usage: agent.sh BUILD-DIR - kvmstatd as users meet it, with real VMs

here=$(dirname "$0")
build=$1
agent=''
vmm=''
vmms=''
. "$here/tap.sh"
. "$here/agent-lib.sh"

accept_open='application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.2'

start_vmm()
{
	"$build/demo/demo-vmm" --seconds 36000 --socket "$tap_dir/socket" \
		"$@" >"$tap_dir/vmm" 2>&1 &
	vmm=$!
}

stop_vmm()
{
	kill -9 "$vmm"
	wait "$vmm"
	vmm=
} 2>/dev/null

stats_fds()
{
	find "/proc/$agent/fd" -lname 'anon_inode:kvm*stats*' | wc -l
}

no_stats_fds()
{
	[ "$(stats_fds)" = 0 ]
}

comes_and_is_scraped()
{
	start_vmm --name 'a "q" <b>' --uuid 12-34
	wait_until has '^kvm_vcpu_exits_total\{vm="a \\"q\\" <b>",vcpu="3"\} [1-9]'
}

# The values are those that the kernel gives to others that ask.
values_are_right()
{
	metrics >"$tap_dir/before"
	"$build/kvmstat/kvmstat" show --json --pid "$vmm" >"$tap_dir/show" ||
		return 1
	metrics >"$tap_dir/after"
	python3 - "$tap_dir" <<'END'
import json, re, sys
def read(path):
    found = {}
    for line in open(path):
        m = re.match(r'kvm_vcpu_(\w+)\{vm=".*",vcpu="(\d+)"\} (\S+)', line)
        if m:
            found[m[1], int(m[2])] = float(m[3])
    return found
before, after = read(sys.argv[1] + "/before"), read(sys.argv[1] + "/after")
checked = 0
for source in json.load(open(sys.argv[1] + "/show"))["sources"]:
    for stat in source["stats"]:
        if source["vcpu"] is None or stat["type"] != "cumulative":
            continue
        name, value = stat["name"] + "_total", stat["values"][0]
        if stat["unit"] == "seconds":
            name, value = stat["name"][:-3] + "_seconds_total", value / 1e9
        key = name, source["vcpu"]
        assert before[key] <= value <= after[key], (key, value)
        checked += value > 0
assert checked >= 15, checked
END
}

# The scheduler's, before and after; demo-vmm names its threads.
cpu_time()
{
	wait_until has '^kvm_vcpu_cpu_seconds_total\{.*vcpu="3"\}' || return 1
	python3 - "$url" "$vmm" <<'END'
import glob, os, re, sys, urllib.request
url, pid = sys.argv[1:]
def of_kernel():
    found = {}
    for path in glob.glob(f"/proc/{pid}/task/*/comm"):
        name = open(path).read().strip()
        if name.startswith("vcpu"):
            run, wait = open(path[:-4] + "schedstat").read().split()[:2]
            found["run", name[4:]] = int(run) / 1e9
            found["wait", name[4:]] = int(wait) / 1e9
    fields = open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()
    for mode, field in ("user", 11), ("system", 12):
        found[mode] = int(fields[field]) / os.sysconf("SC_CLK_TCK")
    return found
before = of_kernel()
text = urllib.request.urlopen(url + "/metrics").read().decode()
after = of_kernel()
assert len(before) == 10, before
said = {}
for name, vcpu, value in re.findall(r'kvm_vcpu_cpu_(wait_)?seconds_total{vm="a .*?,vcpu="(\d)"} (\S+)', text):
    said["wait" if name else "run", vcpu] = float(value)
for mode, value in re.findall(r'kvm_vm_process_cpu_seconds_total{vm="a .*?,mode="(\w+)"} (\S+)', text):
    said[mode] = float(value)
assert said.keys() == before.keys(), (said, before)
# how the kernel divides the sum is a guess, which is made anew for each reader
slack = {mode: 0.1 + 0.1 * (after["user"] + after["system"]) for mode in ("user", "system")}
for key, value in said.items():
    more = slack.get(key, 0)
    assert before[key] - more <= value <= after[key] + more, (key, before[key], value, after[key])
tick = 1 / os.sysconf("SC_CLK_TCK")
assert before["user"] + before["system"] <= said["user"] + said["system"] \
    <= after["user"] + after["system"] + 2 * tick, (before, said, after)
start = float(re.search(r'kvm_vm_start_time_seconds{vm="a .*?} (\S+)', text)[1])
ticks = int(open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()[19])
boot = int(re.search(r"btime (\d+)", open("/proc/stat").read())[1])
assert abs(start - boot - ticks / os.sysconf("SC_CLK_TCK")) < 1.1, start
END
}

text_is_clean()
{
	metrics | promtool check metrics
}

# promtool reads the older format only: give it the names that it wants. Its
# other half, which reads blocks of OpenMetrics, is strict about the rest.
openmetrics_is_clean()
{
	get -H "Accept: $accept_open" "$url/metrics" >"$tap_dir/open" &&
		[ "$(tail -n 1 "$tap_dir/open")" = "# EOF" ] || return 1
	sed -E -e '/^# (EOF|UNIT)/d' -e 's/^(# TYPE \S+) unknown$/\1 untyped/' \
		-e 's/^# TYPE (\S+) info$/# TYPE \1_info gauge/' \
		-e 's/^# TYPE (\S+) counter$/# TYPE \1_total counter/' \
		"$tap_dir/open" | awk '
		/^# HELP/ { help = $0; next }
		/^# TYPE/ { sub(/^# HELP [^ ]+/, "# HELP " $3, help); print help }
		{ print }' | promtool check metrics || return 1
	awk '!/^#/ { $0 = $0 " 1700000000" } { print }' "$tap_dir/open" \
		>"$tap_dir/stamped"
	promtool tsdb create-blocks-from openmetrics "$tap_dir/stamped" \
		"$tap_dir/blocks" >"$tap_dir/promtool" 2>&1 || {
		cat "$tap_dir/promtool"
		return 1
	}
	[ -n "$(find "$tap_dir/blocks" -name index)" ]
}

content_types()
{
	get -D "$tap_dir/head" -o /dev/null "$url/metrics" &&
		grep -qi '^Content-Type: text/plain; version=0.0.4' \
			"$tap_dir/head" || return 1
	get -D "$tap_dir/head" -o /dev/null -H "Accept: $accept_open" \
		"$url/metrics" &&
		grep -qi '^Content-Type: application/openmetrics-text; version=1.0.0' \
			"$tap_dir/head" || return 1
	# two lines of a header are one list
	get -D "$tap_dir/head" -o /dev/null -H 'Accept: image/png' \
		-H 'Accept: application/openmetrics-text' "$url/metrics" &&
		grep -qi '^Content-Type: application/openmetrics-text' \
			"$tap_dir/head" || return 1
	get -I "$url/metrics" | grep -qi '^Content-Type: text/plain; version' &&
		get -I "$url/" | grep -qi '^Content-Type: text/html'
}

# On this machine plain text is cheaper; elsewhere, or if told so, gzip.
not_compressed_here()
{
	get -D "$tap_dir/head" -o "$tap_dir/body" -H 'Accept-Encoding: gzip' \
		"$url/metrics" && ! grep -qi '^Content-Encoding' "$tap_dir/head" &&
		grep -q '^kvmstatd_vms' "$tap_dir/body"
}

compressed()
{
	get -D "$tap_dir/head" -o "$tap_dir/body" -H 'Accept-Encoding: gzip' \
		"$url/metrics" && grep -qi '^Content-Encoding: gzip' \
		"$tap_dir/head" && gzip -dc "$tap_dir/body" >"$tap_dir/text" &&
		promtool check metrics <"$tap_dir/text" &&
		grep -q '^kvmstatd_build_info' "$tap_dir/text" &&
		! get -D - -o /dev/null "$url/metrics" |
			grep -i '^Content-Encoding'
}

health()
{
	[ "$(get "$url/healthz")" = ok ]
}

other_requests()
{
	[ "$(get -o /dev/null -w '%{http_code}' "$url/nothing")" = 404 ] &&
		[ "$(get -o /dev/null -w '%{http_code}' -d x "$url/metrics")" = 405 ] &&
		[ "$(get -o /dev/null -w '%{http_code}' -X DELETE "$url/")" = 405 ]
}

# in_browser ARGS...: what a browser makes of the page
in_browser()
{
	chromium --headless --no-sandbox --disable-gpu --no-proxy-server \
		--user-data-dir="$tap_dir/chromium" "$@" "$url/" \
		2>"$tap_dir/chromium.err" || { cat "$tap_dir/chromium.err"; return 1; }
}

status_page()
{
	in_browser --dump-dom >"$tap_dir/dom" || return 1
	cat "$tap_dir/dom"
	grep -q '<bdi>a "q" &lt;b&gt;</bdi></td><td data-label="UUID" class="u"><bdi>12-34</bdi>' \
		"$tap_dir/dom" &&
		grep -q "<td data-label=\"process\" class=\"n\">$vmm</td>" "$tap_dir/dom" &&
		grep -q '<dt>descriptors</dt><dd>5</dd>' "$tap_dir/dom" &&
		grep -q "Linux $(uname -r)<" "$tap_dir/dom" &&
		grep -q 'ago, .* ms to read all' "$tap_dir/dom" &&
		! grep -qi '<script' "$tap_dir/dom"
}

# It is as wide as the screen, however narrow, and no narrower: nothing is cut off.
# The pictures stay in the log's directory, to be looked at.
status_page_fits()
{
	local width

	for width in 1200 400; do
		in_browser --window-size=$width,1000 --hide-scrollbars \
			--screenshot="$tap_dir/$width.png" >/dev/null || return 1
		[ -s "$tap_dir/$width.png" ] || return 1
		cp "$tap_dir/$width.png" "$build/tests/status-$width.png"
	done
	# how wide the text is, asked by a page around it
	python3 - "$url" "$tap_dir/wide.html" <<'END'
import sys, urllib.request
page = urllib.request.urlopen(sys.argv[1] + "/").read().decode()
open(sys.argv[2], "w").write(page.replace("</body>", """<script>
document.title = document.documentElement.scrollWidth + " of " + innerWidth;
document.body.append("width: " + document.title);</script></body>"""))
END
	for width in 1200 500; do
		chromium --headless --no-sandbox --disable-gpu --hide-scrollbars \
			--user-data-dir="$tap_dir/chromium" --window-size=$width,1000 \
			--dump-dom "file://$tap_dir/wide.html" 2>/dev/null |
			grep -o 'width: [0-9]* of [0-9]*' >"$tap_dir/width" || return 1
		cat "$tap_dir/width"
		read -r _ text _ screen <"$tap_dir/width"
		[ "$text" -le "$screen" ] || return 1
	done
}

# A second is promised; how long it takes is not asserted on a busy machine.
dies()
{
	[ "$(stats_fds)" = 5 ] || return 1
	stop_vmm
	wait_until no_stats_fds && ! has 'vm="a '
}

# A stopped VMM is as good as any: nothing is asked of it.
stopped_vmm()
{
	start_vmm --name stopped
	wait_until has '^kvm_vcpu_exits_total\{vm="stopped",vcpu="0"\} [1-9]' ||
		return 1
	kill -STOP "$vmm"
	has '^kvm_vcpu_exits_total\{vm="stopped",vcpu="3"\} [1-9]' || return 1
	stop_vmm
}

# Clients that connect and say nothing, ask and do not read, or read a little.
stalled_clients()
{
	start_vmms 200 4 || return 1
	python3 - "${url#http://}" <<'END'
import http.client, re, socket, sys, time
host, port = sys.argv[1].split(":")
def connect():
    s = socket.create_connection((host, int(port)))
    s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    return s
def begin():
    s = connect()
    s.send(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
    assert s.recv(9) == b"HTTP/1.1 "
    return s
def ask():
    c = http.client.HTTPConnection(host, int(port), timeout=60)
    c.request("GET", "/metrics")
    r = c.getresponse()
    return r.status, r.read()
def answered():
    deadline = time.monotonic() + 60
    while True:
        status, text = ask()
        if status == 200:
            assert text.count(b"kvm_vm_info{") == 200
            return int(re.search(rb"\nkvmstatd_scrapes_cut_total (\d+)\n", text)[1])
        assert status == 503 and time.monotonic() < deadline, status
        time.sleep(0.1)
def during(count, good):
    # On a slow machine the time of the slow ones may be up too early.
    for _ in range(10):
        cut = answered()
        slow = [begin() for _ in range(count)]
        if good(cut):
            return slow
        for s in slow:
            s.close()
    assert False, count
silent = [connect() for _ in range(10)]
half = [connect() for _ in range(10)]
for s in half:
    s.send(b"GET /metrics HTTP/1.1\r\nHost: x\r\nX: ")
# who asks meanwhile has the answer before the slow ones are cut
during(3, lambda cut: [answered() for _ in range(5)][-1] == cut)
# one more than may be under way at once
slow = during(4, lambda cut: ask()[0] == 503)
# their time is up after two seconds: all is well again
assert answered() > 0
status, text = ask()
assert b"\nkvmstatd_scrapes_refused_total 0\n" not in text
END
}

# The VMs stand still, but the time of the process that has them goes on.
of_vms()
{
	grep ^kvm_ "$1" | sed 's/^\(kvm_vm_process_cpu_.* \).*/\1/'
}

two_scrapes_at_once()
{
	local one

	metrics >"$tap_dir/one" &
	one=$!
	metrics >"$tap_dir/two"
	wait $one
	diff <(of_vms "$tap_dir/one") <(of_vms "$tap_dir/two")
}

mass_death()
{
	stop_vmms
	wait_until has '^kvmstatd_vms 0$' && wait_until no_stats_fds
}

filtered()
{
	has '^kvm_vcpu_exits_total' && ! has '^kvm_vcpu_io_exits' &&
		! has '^kvm_vm_pages' && ! has '^kvm_vm_start_time' &&
		has '^kvm_vm_info'
}

reloaded()
{
	write_config 'include = kvm_vm_.*' 'vcpu-histograms = yes'
	kill -HUP "$agent"
	wait_until has '^kvm_vm_pages' && ! has '^kvm_vcpu_exits_total' &&
		! has '^kvm_vcpu_cpu_seconds_total' || return 1
	write_config 'exclude-vm = bench-0'
	kill -HUP "$agent"
	wait_until has '^kvm_vcpu_exits_total\{vm="bench-1"' &&
		! has 'vm="bench-0"' && has '^kvmstatd_vms 2$' || return 1
	write_config 'include = kvm_vm_.*' 'no-cpu-time = yes'
	kill -HUP "$agent"
	wait_until has '^kvm_vm_pages' && ! has 'cpu_seconds_total\{vm'
}

# A mistake is said, and all stays as it was.
bad_reload()
{
	write_config 'include = ('
	kill -HUP "$agent"
	wait_until grep -q 'config:2: include: must be an extended regular expression' \
		"$tap_dir/agent.err" && has '^kvm_vm_pages'
}

# usage_error PATTERN ARGS...
usage_error()
{
	local pattern=$1

	shift
	status_is 2 "$build/kvmstatd/kvmstatd" "$@" &&
		grep -q -- "$pattern" "$tap_dir/out"
}

bad_usage()
{
	usage_error '--mode: must be an octal number up to 0777, not "9"' --mode 9 &&
		usage_error '--max-vms: must be a number from 1 to 1000000, not "0"' --max-vms 0 &&
		usage_error 'allow-uid: .* has no "nosuchuser"' --allow-uid nosuchuser &&
		usage_error 'unexpected argument "left"' left &&
		usage_error '--config nosuchfile: No such file' --config nosuchfile &&
		usage_error '--config /dev/zero: it must be a file' --config /dev/zero &&
		usage_error '--include: must be an extended' --include '(' &&
		usage_error 'unknown option "--conf"' --conf=nosuchfile &&
		usage_error 'unknown option "-x"' -x &&
		usage_error '--gzip needs WHEN' --gzip &&
		usage_error '--help takes no value' --help=yes &&
		usage_error '--log-level: must be error, warning, info or debug' \
			--log-level all || return 1
	printf '\xef\xbb\xbfmax-vms = 5 # a comment\ninclude = "a #b.*"\nlog = x\n' \
		>"$tap_dir/config"
	usage_error 'config:3: unknown option "log"' --config "$tap_dir/config" ||
		return 1
	# help is given whatever else is wrong
	status_is 0 "$build/kvmstatd/kvmstatd" --config nosuchfile --help || return 1
	echo 'socket' >"$tap_dir/config"
	usage_error 'config:1: socket needs "= VALUE"' \
		--config "$tap_dir/config"
}

document()
{
	diff "$here/../../docs/metrics.md" <("$here/agent-doc.sh" "$build")
}

# Somebody who may connect, and is not on the list.
other_user()
{
	"$build/demo/asuser" 65534 65533 python3 - "$tap_dir/socket" <<'END'
import socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
s.connect(sys.argv[1])
s.settimeout(2)
try:
    assert s.recv(1) == b""
except ConnectionResetError:
    pass
END
}

denied_user()
{
	chmod 755 "$tap_dir"
	start_agent --mode 0666 --allow-uid 65532 || return 1
	other_user && has '^kvmstatd_registrations_rejected_total\{reason="credentials"\} 1$' &&
		stop_agent || return 1
	start_agent --mode 0666 --allow-gid 65533 || return 1
	! other_user 2>/dev/null && stop_agent
}

# shellcheck disable=SC2046 # numbers
trap 'kill -9 $agent $vmm $vmms 2>/dev/null; rm -rf "$tap_dir"' EXIT

check "usage" bad_usage
check "docs/metrics.md is what metrics-doc makes" document
check "the agent starts" start_agent
check "a VM comes and is scraped" comes_and_is_scraped
check "the values are the kernel's" values_are_right
check "CPU time is the scheduler's" cpu_time
check "Prometheus text is clean" text_is_clean
check "OpenMetrics is clean" openmetrics_is_clean
check "content types" content_types
check "not compressed on this machine" not_compressed_here
check "health" health
check "requests that are refused" other_requests
check "status page in a browser" status_page
check "it fits on wide and narrow screens" status_page_fits
check "a dead VM's descriptors are closed" dies
check "a stopped VMM" stopped_vmm
check "SIGTERM" stop_agent
check "another start" start_agent --scrape-timeout 2 --gzip always \
	--vcpu-histograms
check "clients that stall" stalled_clients
check "compressed" compressed
check "two scrapes at once" two_scrapes_at_once
check "two hundred VMs die" mass_death
check "SIGTERM again" stop_agent
write_config 'include = kvm_vcpu_(exits|io_exits)_total' \
	'exclude = .*_io_exits_total'
check "start with a configuration" start_agent --config "$tap_dir/config"
check "two VMs" start_vmms 2 2
check "filters" filtered
check "SIGHUP reads the configuration again" reloaded
check "SIGHUP with a mistake" bad_reload
stop_vmms
kill "$agent" && wait "$agent"
as_root "users who may not register" denied_user
tap_done
