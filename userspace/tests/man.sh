#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# usage: man.sh BUILD-DIR - the man pages: well formed, complete, and their
# examples work: those of the library with the library as it is installed.

here=$(cd "$(dirname "$0")" && pwd)
build=$1
. "$here/tap.sh"
root=$tap_dir/root
man=$here/../man
header=$here/../include/kvmstats.h
: "${CC:=cc}"

install_there()
{
	make -C "$here/.." O="$build" DESTDIR="$root" PREFIX=/usr install
}

# That a page of another package is missing here says nothing of ours.
well_formed()
{
	local findings

	command -v mandoc || return
	findings=$(mandoc -T lint "$@" 2>/dev/null |
		grep -v 'referenced manual not found')
	[ -z "$findings" ] || { echo "$findings"; return 1; }
}

# Pages of ours that a page refers to exist.
references()
{
	local name section

	while read -r name section; do
		[ -f "$man/$name.$section" ] || { echo "$name($section)"; return 1; }
	done < <(sed -n 's/^\.Xr \([a-z]*kvmstat[a-z]*\) \([1-8]\).*/\1 \2/p' \
		"$man"/*.[1-8] | sort -u)
}

installed_pages()
{
	local page

	for page in "$man"/*.[1-8]; do
		cmp "$page" "$root/usr/share/man/man${page##*.}/${page##*/}" ||
			return
	done
}

prototypes()
{
	mandoc -T ascii "$man/kvmstats.3" | sed 's/.\x08//g' |
		sed -n '/^SYNOPSIS/,/^DESCRIPTION/{/^[A-Z]/d;p}'
}

functions()
{
	grep -o '\bkvmstats_[a-z0-9_]*(' | tr -d '(' | sort -u
}

# Every function of the header is in the synopsis, and a compiler that sees
# both finds no contradiction.
synopsis()
{
	cmp <(sed '/^ \*\|^\/\*/d' "$header" | functions) \
		<(prototypes | functions) &&
		prototypes | sed 's/const char \*kvm/const char *kvm/' |
		$CC -std=c11 -Wall -Werror -D_GNU_SOURCE -fsyntax-only \
			-I"$here/../include" -x c -
}

# The bytes on the wire, as the header has them.
protocol()
{
	cmp <(sed -n '/^ \*   offset size/,/^ \*$/{s/^ \*   //;/^ \*$/d;p}' \
		"$header") \
	<(sed -n '/^offset size/,/^\.Ed/{/^\.Ed/d;p}' "$man/kvmstats.7")
}

# example PAGE FILE: its text, as a reader of the page would copy it
example()
{
	sed -n '/^\.\\" example: '"$2"'$/,/^\.Ed/{/^\./d;s/\\e/\\/g;p}' "$man/$1"
}

# build_program NAME: with the library as it is installed
build_program()
{
	# shellcheck disable=SC2046 # several flags
	PKG_CONFIG_LIBDIR=$root/usr/lib/pkgconfig PKG_CONFIG_SYSROOT_DIR=$root \
		$CC -std=gnu11 -Wall -Wextra -Werror "$tap_dir/$1.c" \
		-o "$tap_dir/$1" $(PKG_CONFIG_LIBDIR=$root/usr/lib/pkgconfig \
		PKG_CONFIG_SYSROOT_DIR=$root \
		pkg-config --cflags --libs libkvmstats)
}

# build_example PAGE NAME: the program NAME.c of the page
build_example()
{
	example "$1" "$2.c" >"$tap_dir/$2.c" && [ -s "$tap_dir/$2.c" ] &&
		build_program "$2"
}

export LD_LIBRARY_PATH=$root/usr/lib

# What it prints of the recorded descriptor is what it holds.
run_recorded()
{
	local out=$tap_dir/recorded.txt

	"$tap_dir/recorded" "$here/data/x86_64-6.18-vcpu0.bin" >"$out" || return
	cat "$out"
	grep -qx 'exits 486 none' "$out" &&
		grep -qx 'halt_wait_hist p50>=0.000262144 p99>=0.016777216 seconds' \
			"$out" &&
		[ "$(wc -l <"$out")" -eq 45 ]
}

# reader SOCKET STATISTIC COMMAND...: the reader, and who sends to it
reader_and()
{
	local socket=$1 statistic=$2 reader sender

	shift 2
	timeout 20 "$tap_dir/reader" "$socket" "$statistic" \
		>"$tap_dir/reader.txt" 2>&1 &
	reader=$!
	"$@" &
	sender=$!
	wait "$reader" || { cat "$tap_dir/reader.txt"; return 1; }
	cat "$tap_dir/reader.txt"
	wait "$sender"
}

# A guest that runs: its exits grow.
reader_of_guest()
{
	reader_and "$tap_dir/guest" exits "$build/demo/demo-vmm" --socket \
		"$tap_dir/guest" --name running --vcpus 2 --seconds 3 &&
		grep -qx 'running: 3 descriptors, exits [1-9][0-9]*, [1-9][0-9]* in a second' \
			"$tap_dir/reader.txt"
}

# The input of the VMM ends after half a second, when it adds a vCPU.
feed_vmm()
{
	until [ -S "$tap_dir/idle" ]; do
		sleep 0.02
	done
	sleep 0.5 | "$tap_dir/vmm" "$tap_dir/idle" >"$tap_dir/vmm.txt"
}

vmm_to_reader()
{
	reader_and "$tap_dir/idle" exits feed_vmm &&
		grep -qx 'guest1: 3 descriptors, exits 0, 0 in a second' \
			"$tap_dir/reader.txt" &&
		grep -qx 'hot-added: sent' "$tap_dir/vmm.txt"
}

# The same VMM through two readers, one after the other.
vmm_reconnects()
{
	local vmm status=0

	sleep 10 | "$tap_dir/vmm" "$tap_dir/twice" >/dev/null 2>&1 &
	vmm=$!
	for _ in 1 2; do
		timeout 20 "$tap_dir/reader" "$tap_dir/twice" exits ||
			status=1
	done
	kill "$vmm" 2>/dev/null
	return $status
}

# A reader that comes first, a publisher, and what it has counted.
publisher_is_read()
{
	local out=$tap_dir/published.txt reader

	[ "$(sed -n '/^int main/,/^}/p' "$tap_dir/publisher.c" | wc -l)" -lt 20 ] ||
		return
	"$build/kvmstat/kvmstat" record --json --socket "$tap_dir/published" \
		--until-gone --interval 0.2 >"$out" 2>/dev/null &
	reader=$!
	until [ -S "$tap_dir/published" ]; do
		sleep 0.02
	done
	{ echo 60 1500; sleep 0.3; echo 100; } |
		"$tap_dir/publisher" "$tap_dir/published" &
	wait "$reader" || return
	python3 -c '
import json, sys
events = [json.loads(line) for line in sys.stdin]
last = [e for e in events if e["event"] == "sample"][-1]["sources"][0]
assert (last["class"], last["device"]) == ("net", "net0"), last
values = {s["name"]: s["values"] for s in last["stats"]}
assert values == {"rx_packets": [3], "rx_bytes": [1660]}, values' <"$out"
}

# A program that is there before its reader: a disk's requests, of which two are read
# and one is beyond the end.
block_is_read()
{
	local out=$tap_dir/block.txt reader program status

	head -c 4096 /dev/zero >"$tap_dir/disk"
	{ printf '0\n7\n8\n'; sleep 4; } |
		"$tap_dir/block" "$tap_dir/blocks" "$tap_dir/disk" &
	program=$!
	sleep 0.3
	"$build/kvmstat/kvmstat" record --json --socket "$tap_dir/blocks" \
		--count 2 --interval 0.2 >"$out" 2>/dev/null &
	reader=$!
	wait "$reader" && wait "$program"
	status=$?
	[ $status -eq 0 ] && python3 -c '
import json, sys
last = [json.loads(line) for line in sys.stdin][-1]["sources"][0]
assert (last["class"], last["device"]) == ("block", "vda"), last
values = {s["name"]: s["values"][0] for s in last["stats"]}
names = "read_ios", "read_bytes", "read_invalid", "read_failed", "read_in_flight"
assert [values[n] for n in names] == [2, 1024, 1, 0, 0], values' <"$out"
}

# What a block takes is within a tenth of what page, header and accounting.md say.
block_memory()
{
	cp "$here/block_memory.c" "$tap_dir/" && build_program block_memory &&
		"$tap_dir/block_memory" >"$tap_dir/memory.txt" || return
	cat "$tap_dir/memory.txt"
	python3 - "$tap_dir/memory.txt" "$man/kvmstats.3" "$header" \
		"$here/../../docs/accounting.md" <<'END'
import re, sys
measured = [int(number) for number in open(sys.argv[1]).read().split()]
for name in sys.argv[2:]:
    text = re.sub(r"\s+(\* )?", " ", open(name).read())
    found = re.search(r"(\d+) KiB[^.]*?, a file in memory of (\d+) KiB[^.]*? (\d+) KiB for each thread", text)
    assert found, name
    for stated, bytes in zip(found.groups(), measured):
        assert abs(int(stated) * 1024 - bytes) < bytes / 10, (name, stated, bytes)
END
}

# Every name of block accounting that the header has is in the page.
block_names()
{
	local name names

	names=$(grep -oE '\bKVMSTATS_(BLOCK_[A-Z]+|UNIT_[A-Z]+|MAX_DEVICE|MAX_CLASS)\b' "$header" |
		grep -v KVMSTATS_BLOCK_OPS | sort -u)
	[ "$(wc -l <<<"$names")" -ge 11 ] || return
	for name in $names; do
		grep -q "Dv $name\b" "$man/kvmstats.3" ||
			{ echo "kvmstats.3 lacks $name"; return 1; }
	done
}

check "make install" install_there
for page in "$man"/*.[1-8]; do
	check "${page##*/} is well formed" well_formed "$page"
done
check "pages of ours that pages refer to exist" references
check "pages are installed" installed_pages
check "kvmstats.3: prototypes are the header's, and all" synopsis
check "kvmstats.7: protocol is the header's" protocol
check "kvmstats.3: recorded.c compiles" build_example kvmstats.3 recorded
check "kvmstats.3: recorded.c prints a recorded vCPU" run_recorded
check "kvmstats.3: publisher.c compiles" build_example kvmstats.3 publisher
check "kvmstats.3: publisher.c is read" publisher_is_read
check "kvmstats.3: names of block accounting" block_names
check "kvmstats.3: memory of block accounting" block_memory
check "kvmstats.3: block.c compiles" build_example kvmstats.3 block
check "kvmstats.3: block.c is read" block_is_read
check "kvmstats.7: reader.c compiles" build_example kvmstats.7 reader
check "kvmstats.7: vmm.c compiles" build_example kvmstats.7 vmm
if "$build/demo/demo-vmm" --seconds 0.1 >/dev/null 2>&1; then
	check "kvmstats.7: reader.c reads a running guest" reader_of_guest
	check "kvmstats.7: vmm.c sends to reader.c" vmm_to_reader
	check "kvmstats.7: vmm.c connects again" vmm_reconnects
else
	skip "kvmstats.7: run reader.c and vmm.c" "no VM with statistics here"
fi
tap_done
