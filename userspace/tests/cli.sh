#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# usage: cli.sh BUILD-DIR - kvmstat as a user meets it, without a VM

here=$(dirname "$0")
kvmstat=$1/kvmstat/kvmstat
vcpu=$here/data/x86_64-6.18-vcpu0.bin
. "$here/tap.sh"

list_json()
{
	"$kvmstat" list --json | python3 -m json.tool
}

# There may be VMs on this machine, and there may be none.
list_text()
{
	"$kvmstat" list || [ $? = 3 ]
}

usage_lists_commands()
{
	local usage command

	usage=$("$kvmstat" help) || return 1
	for command in list schema show dump top record listen; do
		grep -q "^  $command " <<<"$usage" || return 1
		"$kvmstat" help $command | grep -q "^usage: kvmstat $command" ||
			return 1
		"$kvmstat" $command --help | cmp - <("$kvmstat" help $command) ||
			return 1
	done
}

golden()
{
	diff -u "$here/data/$1" -
}

# golden_text KERNEL, and so on: what a recorded VM of that kernel looks like
golden_text()
{
	"$kvmstat" show --image "$here/data/$1-vm.bin" \
		--image "$here/data/$1-vcpu0.bin" |
		golden "$1-show.txt"
}

# Devices are shown behind the VM, by name, whatever the order of the images.
golden_devices()
{
	local what=$1

	shift
	"$kvmstat" "$what" --image "$here/data/block-drive0.bin" \
		--image "$here/data/block-disk1.bin" "$@"
}

devices_text()
{
	golden_devices show --fields '^(read|flush|idle)_' | golden block-show.txt &&
		golden_devices schema | golden block-schema.txt
}

devices_json()
{
	golden_devices show --json | python3 -c '
import json, sys
sources = json.load(sys.stdin)["sources"]
assert [s["device"] for s in sources] == ["drive0", "virtio-disk1"], sources
for s in sources:
    assert (s["scope"], s["class"], s["vcpu"]) == ("device", "block", None), s
    assert s["id"] == "kvm-4711/block:" + s["device"], s
    assert len(s["stats"]) == 103, len(s["stats"])'
}

devices_csv()
{
	golden_devices record --count 1 --interval 0.01 | python3 -c '
import csv, sys
rows = list(csv.DictReader(sys.stdin))
assert {r["device"] for r in rows} == {"block:drive0", "block:virtio-disk1"}
assert {(r["scope"], r["vcpu"]) for r in rows} == {("device", "")}'
}

# The columns are the ends of the names.
devices_table()
{
	golden_devices top --once --include-past --split --interval 0.01 |
		grep -q '^  kvm-4711 block:virtio-disk1  *[1-9]' &&
		golden_devices record --format log --count 1 --interval 0.01 |
			grep -q ' read_ios '
}

# A device'"'"'s name is no way out of the directory.
devices_dump()
{
	local image=$tap_dir/evil

	sed 's,block:drive0,block:../../,' "$here/data/block-drive0.bin" >"$image"
	mkdir -p "$tap_dir/a/b" &&
		"$kvmstat" dump --output "$tap_dir/a/b" --image "$image" &&
		cmp "$image" "$tap_dir/a/b/0-block:.._.._.bin"
}

golden_schema()
{
	"$kvmstat" schema --image "$here/data/$1-vm.bin" \
		--image "$here/data/$1-vcpu0.bin" |
		golden "$1-schema.txt"
}

# The times are those of the look, not of the record.
golden_json()
{
	"$kvmstat" show --json --image "$here/data/$1-vm.bin" \
		--image "$here/data/$1-vcpu0.bin" | python3 -c '
import json, sys
shown = json.load(sys.stdin)
for key in "time_ns", "monotonic_ns":
    assert shown.pop(key) > 0, key
print(json.dumps(shown, indent=1))' | golden "$1-show.json"
}

filtered()
{
	"$kvmstat" show --image "$vcpu" --fields '^halt_.*(ns|hist)$' \
		--skip-zero | grep -v '^  ' | cut -d' ' -f1 | diff -u - <(
		printf '%s\n' '#' halt_poll_fail_ns halt_wait_ns \
			halt_poll_fail_hist halt_wait_hist)
}

bad_filter()
{
	status_is 2 "$kvmstat" show --image "$vcpu" --fields '(' &&
		grep -qF -- '--fields (: ' "$tap_dir/out"
}

# The values in the JSON are the words of the data block.
json_has_every_word()
{
	"$kvmstat" show --json --image "$vcpu" | python3 -c '
import json, struct, sys
data = open(sys.argv[1], "rb").read()
name_size, count, _, at, start = struct.unpack_from("5I", data, 4)
stats = json.load(sys.stdin)["sources"][0]["stats"]
assert len(stats) == count, (len(stats), count)
for i, stat in enumerate(stats):
    flags, exp, size, offset, width = struct.unpack_from(
        "IhHII", data, at + i * (16 + name_size))
    values = struct.unpack_from(f"{size}Q", data, start + offset)
    assert stat["values"] == list(values), stat
    assert (stat["exponent"], stat["size"]) == (exp, size), stat
' "$vcpu"
}

truncated_image()
{
	head -c 2000 "$vcpu" >"$tap_dir/short"
	status_is 1 "$kvmstat" show --image "$tap_dir/short" &&
		grep -q 'short: not the image' "$tap_dir/out"
}

# is_json_error STATUS TEXT COMMAND...: on standard output, one object
is_json_error()
{
	local expected=$1 text=$2

	shift 2
	status_is "$expected" "$@" >"$tap_dir/json" 2>/dev/null || return 1
	python3 -c '
import json, sys
error = json.load(sys.stdin)
assert error["status"] == int(sys.argv[1]), error
assert sys.argv[2] in error["error"], error
' "$expected" "$text" <"$tap_dir/json"
}

json_errors()
{
	is_json_error 3 /nonexistent "$kvmstat" show --image /nonexistent \
		--json &&
		is_json_error 3 '"?"' "$kvmstat" show --json \
			--image $'/"\xff"' &&
		is_json_error 2 --frob "$kvmstat" show --frob --json &&
		is_json_error 2 interval "$kvmstat" record --json --interval x &&
		is_json_error 3 2147483647 "$kvmstat" record --json \
			--pid 2147483647 &&
		is_json_error 2 'unexpected argument "extra"' "$kvmstat" list --json extra
}

dump_is_the_image()
{
	mkdir "$tap_dir/dump"
	"$kvmstat" dump --image "$vcpu" --output "$tap_dir/dump" &&
		cmp "$tap_dir/dump/0-vcpu0.bin" "$vcpu" &&
		status_is 1 "$kvmstat" dump --image "$vcpu" \
			--output "$tap_dir/dump"
}

# The reader of the pipe has gone before the first byte.
closed_pipe()
{
	local status

	{ sleep 0.2; "$kvmstat" show --image "$vcpu"; echo $? >"$tap_dir/status"; } |
		true
	status=$(cat "$tap_dir/status")
	[ "$status" = 0 ] || { echo "status $status"; return 1; }
}

full_disk()
{
	status_is 1 "$kvmstat" show --image "$vcpu" >/dev/full
}

# The first write fails, the last does not: the output lacks what the first had.
lost_part()
{
	ASAN_OPTIONS=detect_leaks=0 status_is 1 strace -o /dev/null \
		-e trace=write -e inject=write:error=ENOSPC:when=1 \
		"$kvmstat" show --json --image "$vcpu" >"$tap_dir/part" || return 1
	grep -q "standard output: a part" "$tap_dir/out" && [ -s "$tap_dir/part" ]
}

start_listen()
{
	"$kvmstat" listen "$@" "$tap_dir/socket" >"$tap_dir/listen" \
		2>"$tap_dir/listen.err" &
	listen=$!
	while ! [ -S "$tap_dir/socket" ]; do
		kill -0 $listen || return 1
		sleep 0.05
	done
}

interrupt_ends_listen()
{
	start_listen && kill -"$1" $listen && status_is 0 wait $listen &&
		[ ! -e "$tap_dir/socket" ]
}

second_listener_refused()
{
	start_listen || return 1
	status_is 1 "$kvmstat" listen "$tap_dir/socket" || return 1
	grep -qE 'Address (already )?in use' "$tap_dir/out" && kill $listen &&
		wait $listen
}

unmet_expectation()
{
	start_listen --expect exits && kill $listen && status_is 5 wait $listen
}

# Hostile and harmless senders side by side; every end is said.
hostile_senders()
{
	start_listen --json --interval 0.1 || return 1
	python3 - "$tap_dir/socket" <<'END' || return 1
import array, os, socket, struct, sys
def line():
    s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    s.connect(sys.argv[1])
    return s
def message(fds, name=b"n", version=1):
    return struct.pack("8sHHIIIQHHI", b"KVMSTATS", version, 40, fds,
                       os.getpid(), 0, 0, len(name), 0, 0) + name
def send(s, data, fds):
    s.sendmsg([data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS,
                        array.array("i", fds))])
lines = [line() for _ in range(5)]
lines[0].send(b"junk")
send(lines[1], message(1, b"\x1b[2J"), [0])
send(lines[2], message(1, version=7), [0])
r, w = os.pipe()
send(lines[3], message(2, b"quoted \"\\"), [r, w])
lines[3].close()
lines[4].close()
for s in lines[:3]:
    assert s.recv(1) == b"", "the listener must hang up"
END
	for _ in $(seq 600); do
		[ "$(grep -c '"event":"gone"' "$tap_dir/listen")" -lt 5 ] ||
			break
		sleep 0.05
	done
	kill $listen && status_is 0 wait $listen || return 1
	cat "$tap_dir/listen"
	python3 -c '
import json, sys
events = [json.loads(line) for line in sys.stdin]
gone = [e for e in events if e["event"] == "gone"]
assert len(gone) == 5, len(gone)
bad = [e for e in gone if e["reason"] == "malformed message"]
assert len(bad) == 3, bad
sent = [e for e in events if e["event"] == "sent"]
assert [e["vm"]["name"] for e in sent] == ["quoted \"\\"], sent
assert sent[0]["vm"]["rejected"] == 2, sent
' <"$tap_dir/listen"
}

# Sockets that linger when they are closed, one in each of eight messages, keep the
# threads that close; a thousand more wait. Then nobody's descriptors are taken.
# Whoever closes such a socket last has to wait: not the sender.
full_pool_is_said()
{
	start_listen --json --interval 0.1 || return 1
	kill -STOP $listen
	python3 - "$tap_dir/socket" $listen <<'END' || return 1
import array, os, signal, socket, struct, sys
def send(fds):
    s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    s.connect(sys.argv[1])
    s.sendmsg([struct.pack("8sHHIIIQHHI", b"KVMSTATS", 1, 40, len(fds),
                           os.getpid(), 0, 0, 1, 0, 0) + b"n"],
              [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))])
    return s
listener = socket.create_server(("127.0.0.1", 0))
null = os.open("/dev/null", os.O_RDONLY)
silent, lines = [], []
for _ in range(8):
    sender = socket.create_connection(listener.getsockname())
    silent.append(listener.accept()[0])
    sender.setblocking(False)
    try:
        while True:
            sender.send(bytes(65536))
    except BlockingIOError:
        pass
    sender.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER,
                      struct.pack("ii", 1, 600))
    lines.append(send([sender.fileno()]))
    sender.close()
for _ in range(5):
    lines.append(send([null] * 250))
os.kill(int(sys.argv[2]), signal.SIGCONT)
late = send([null])
late.settimeout(60)
assert late.recv(1) == b"", "the listener must hang up"
END
	kill $listen && status_is 0 wait $listen || return 1
	grep -o '"reason":"[^"]*"' "$tap_dir/listen" | sort | uniq -c
	grep -q '"reason":"too many descriptors wait to be closed"' "$tap_dir/listen"
}

# says STATUS TEXT COMMAND...
says()
{
	local status=$1 text=$2

	shift 2
	status_is "$status" "$@" && grep -qF -- "$text" "$tap_dir/out"
}

option_mistakes()
{
	says 2 '--interval needs an argument' "$kvmstat" listen sock --interval &&
		says 2 'ambiguous option "--co"' "$kvmstat" listen --co &&
		says 2 '--json takes no argument' "$kvmstat" list --json=yes &&
		says 2 'must be a number of seconds' "$kvmstat" record \
			--interval 0x10 &&
		says 2 '--dirty-quota 63K: must be bytes a second, 64K to 1024G' \
			"$kvmstat" run --dirty-quota 63K -- true &&
		says 2 '64K to 1024G' "$kvmstat" run --dirty-quota 2048G -- true &&
		says 2 '64K to 1024G' "$kvmstat" run --dirty-quota 8MB -- true &&
		says 2 '64K to 1024G' "$kvmstat" run --dirty-quota "" -- true &&
		says 0 'usage: kvmstat' "$kvmstat" -h &&
		status_is 1 "$kvmstat" top --help >/dev/full
}

foreign_image()
{
	says 1 'not the image' "$kvmstat" show --image /etc/passwd
}

# Of a schema that is known: a mistake in the expression, most likely.
no_such_field()
{
	says 3 'no statistic matches --fields nosuch' "$kvmstat" show \
		--image "$vcpu" --fields nosuch &&
		says 3 'no statistic matches' "$kvmstat" schema --json \
			--image "$vcpu" --fields nosuch &&
		says 3 'no statistic matches' "$kvmstat" record --image "$vcpu" \
			--interval 0.01 --count 2 --fields nosuch &&
		says 3 'no statistic matches' "$kvmstat" top --once --by-guest \
			--interval 0.01 --image "$vcpu" --fields nosuch &&
		status_is 0 "$kvmstat" record --image "$vcpu" --skip-zero \
			--interval 0.01 --count 2 --fields '^exits$'
}

# Nobody came: that is no success, but an interrupt is one.
listen_to_nobody()
{
	says 3 'no VM has registered' "$kvmstat" listen --duration 0.2 \
		--interval 0.1 "$tap_dir/nobody"
}

# A terminal that understands no control sequences gets none.
dumb_terminal()
{
	# shellcheck disable=SC2016 # the inner shell's
	TERM=$1 KVMSTAT=$kvmstat SOCKET=$tap_dir/dumb script -qec \
		'"$KVMSTAT" listen --duration 0.3 --interval 0.1 "$SOCKET"' \
		/dev/null >"$tap_dir/typescript" </dev/null
	if [ "$1" = dumb ]; then
		! grep -q $'\033' "$tap_dir/typescript"
	else
		grep -q $'\033\[H' "$tap_dir/typescript"
	fi
}

batch_has_no_trailing_blanks()
{
	"$kvmstat" top --once --interval 0.01 --all --include-past \
		--image "$vcpu" >"$tap_dir/batch" &&
		grep -q '^exits ' "$tap_dir/batch" &&
		! grep ' $' "$tap_dir/batch"
}

# The reader is late, and the pipe full: longer than the interval goes by.
once_is_one_table()
{
	python3 - "$kvmstat" "$vcpu" <<-'END'
		import fcntl, os, subprocess, sys, time
		reader, writer = os.pipe()
		filled = fcntl.fcntl(writer, 1031, 4096)	# F_SETPIPE_SZ
		os.write(writer, b" " * filled)
		top = subprocess.Popen([sys.argv[1], "top", "--once", "--interval", "0.01",
		                        "--include-past", "--image", sys.argv[2]],
		                       stdout=writer)
		os.close(writer)
		time.sleep(0.2)
		text = open(reader).read()
		assert top.wait() == 0
		assert text.count("\nEvent ") == 1, text
	END
}

# In the log as in the list: whole numbers.
booleans()
{
	[ "$("$kvmstat" record --image "$vcpu" --interval 0.01 --count 1 \
		--format log --fields '^guest_mode$|^blocking$' | tail -n 1 |
		tr -s ' ' | cut -d' ' -f2-)" = "$("$kvmstat" show --image "$vcpu" \
		--fields '^guest_mode$|^blocking$' | grep -v '^#' | sort |
		awk '{ print $NF }' | paste -sd' ')" ]
}

# Behind the two dashes bash-completion takes over, from the word that follows.
completes_run()
{
	# shellcheck disable=SC2016 # the inner shell's
	[ "$(bash -c '
		_command_offset() { echo "from $1"; }
		. "$1"
		COMP_WORDS=(kvmstat run --all -- ls -)
		COMP_CWORD=5
		_kvmstat
		COMP_WORDS=(kvmstat show --format c)
		COMP_CWORD=3
		_kvmstat
		echo "${COMPREPLY[*]}"' sh "$here/../completion/kvmstat")" = "from 4
csv" ]
}

foreign_descriptor()
{
	status_is 1 "$kvmstat" show --fd 0 </dev/null &&
		grep -q 'descriptor 0 is not a KVM' "$tap_dir/out"
}

check "usage lists the commands" usage_lists_commands
check "no command is a mistake" status_is 2 "$kvmstat"
check "unknown command" status_is 2 "$kvmstat" frobnicate
check "unknown option" status_is 2 "$kvmstat" show --frobnicate
check "left-over argument" status_is 2 "$kvmstat" list extra
check "mistakes in options are named" option_mistakes
check "a file that is no image" foreign_image
check "no statistic of that name" no_such_field
check "listen to nobody" listen_to_nobody
check "a dumb terminal" dumb_terminal dumb
check "a terminal that is not" dumb_terminal xterm
check "no trailing blanks in batches" batch_has_no_trailing_blanks
check "top --once is one table" once_is_one_table
check "booleans are no fractions" booleans
check "completion behind run --" completes_run
check "bad pid" status_is 2 "$kvmstat" show --pid 0x10
check "bad interval" status_is 2 "$kvmstat" listen --interval 0 socket
check "no such process" status_is 3 "$kvmstat" show --pid 2147483647
check "process without VM" status_is 3 "$kvmstat" show --pid $$
check "descriptor that is not open" status_is 3 "$kvmstat" show --fd 999
check "descriptor that is something else" foreign_descriptor
check "no such image" status_is 3 "$kvmstat" show --image /nonexistent
check "truncated image" truncated_image
check "errors as JSON" json_errors
for kernel in x86_64-5.10 arm64-5.10 x86_64-6.18; do
	check "text as recorded of $kernel" golden_text $kernel
	check "schema as recorded of $kernel" golden_schema $kernel
	check "JSON as recorded of $kernel" golden_json $kernel
done
check "devices: text and schema" devices_text
check "devices: JSON" devices_json
check "devices: CSV" devices_csv
check "devices: tables" devices_table
check "devices: dump" devices_dump
check "only the statistics asked for" filtered
check "bad regular expression" bad_filter
check "JSON has every word of the data" json_has_every_word
check "dump writes the image, never over a file" dump_is_the_image
check "closed pipe is no failure" closed_pipe
check "full disk is one" full_disk
check "a part that could not be written is one" lost_part
check "list as text" list_text
check "list as JSON" list_json
check "SIGTERM ends listen, socket removed" interrupt_ends_listen TERM
check "SIGINT ends listen, socket removed" interrupt_ends_listen INT
check "second listener refused" second_listener_refused
check "unmet expectation has its status" unmet_expectation
check "hostile senders" hostile_senders
check "too many descriptors to close are said" full_pool_is_said
tap_done
