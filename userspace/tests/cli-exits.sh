#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# usage: cli-exits.sh BUILD-DIR - exits by reason as kvmstat shows them; of images
# that are made here, so that every number is known

here=$(cd "$(dirname "$0")" && pwd)
kvmstat=$1/kvmstat/kvmstat
. "$here/tap.sh"
vcpus="--image $tap_dir/vcpu0 --image $tap_dir/vcpu1"

# make_vcpu NUMBER BUCKET=COUNT...: exits of a vCPU on an AMD
make_vcpu()
{
	python3 - "$@" >"$tap_dir/vcpu$1" <<-'END'
		import struct, sys
		number, *counts = sys.argv[1:]
		buckets = [0] * 80
		for item in counts:
		    bucket, count = item.split("=")
		    buckets[int(bucket)] = int(count)
		def desc(flags, size, offset, width, name):
		    return struct.pack("<IhHII48s", flags, 0, size, offset, width, name)
		out = struct.pack("<6I", 0, 48, 3, 24, 72, 264)
		out += struct.pack("48s", f"kvm-77/vcpu-{number}".encode())
		out += desc(0, 1, 0, 0, b"exits")
		out += desc(0, 1, 8, 0, b"irq_exits")
		out += desc(3, 80, 16, 1, b"exit_reasons_svm")
		out += struct.pack("<82Q", sum(buckets), 10, *buckets)
		sys.stdout.buffer.write(out)
	END
}

# HLT, IOIO, NPF, one that has no name, all others
make_vcpu 0 45=7 48=5 71=30 77=1 79=2
make_vcpu 1 45=7

# The most frequent first, equal ones in the manual's order; nothing else.
show_exits()
{
	# shellcheck disable=SC2086 # several words
	"$kvmstat" show --exits $vcpus | sed '/^#/d; s/ *linear_hist *none */ /' |
		diff -u - <(printf '%s\n' \
			'exit_reasons_svm 45 values' '  NPF: 30' '  HLT: 7' \
			'  IOIO: 5' '  other: 2' '  bucket 77: 1' \
			'exit_reasons_svm 7 values' '  HLT: 7')
}

# A name for each value, and the words of the data block.
json()
{
	# shellcheck disable=SC2086 # several words
	"$kvmstat" show --exits --json $vcpus | python3 -c '
import json, sys
sources = json.load(sys.stdin)["sources"]
assert [len(source["stats"]) for source in sources] == [1, 1], sources
for source, expected in zip(sources, (
        dict(HLT=7, IOIO=5, NPF=30, other=2, **{"bucket 77": 1}),
        dict(HLT=7))):
    stat = source["stats"][0]
    assert stat["name"] == "exit_reasons_svm", stat
    assert len(stat["reasons"]) == len(stat["values"]) == 80, stat
    found = {r: v for r, v in zip(stat["reasons"], stat["values"]) if v}
    assert found == expected, found'
}

# Only what counts exits by reason has names.
json_of_others()
{
	"$kvmstat" show --json --image "$tap_dir/vcpu0" | python3 -c '
import json, sys
stats = json.load(sys.stdin)["sources"][0]["stats"]
assert ["reasons" in stat for stat in stats] == [False, False, True], stats'
}

# All vCPUs together, the most frequent first, among other events; what never occurred has no line.
top_is_sorted()
{
	# shellcheck disable=SC2086 # several words
	"$kvmstat" top --once --interval 0.01 --include-past --sort total $vcpus |
		awk '/^(exit|irq)/ {	# reasons have no percentage
			total = $(NF - ($1 == "exit:" ? 1 : 2))
			sub(/  +.*/, "")
			print $0, total
		}' |
		diff -u - <(printf '%s\n' 'exits 52' 'exit: NPF 30' \
			'irq_exits 20' 'exit: HLT 14' 'exit: IOIO 5' 'exit: other 2' \
			'exit: bucket 77 1')
}

# What no kernel of today's has is said so.
nothing_there()
{
	status_is 3 "$kvmstat" show --exits \
		--image "$here/data/x86_64-6.18-vcpu0.bin" &&
		grep -q 'KVM_CAP_EXIT_REASONS' "$tap_dir/out"
}

check "exits by reason, the most frequent first" show_exits
check "JSON has a name for each reason" json
check "JSON of other statistics has none" json_of_others
check "top sums and sorts reasons" top_is_sorted
check "a kernel that does not count them" nothing_there
tap_done
