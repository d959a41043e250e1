#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# usage: migsim.sh MIGSIM [--quota] [--no-max] [--busybox]
#
# Short migrations under each policy, memories compared byte for byte.
# --quota: dirty quota must be there; --no-max: no guest that never leaves by
# itself (Bochs 2.7 hangs then); --busybox: without what needs more than its
# tools, a python3 or a compiler, as in the booted kernel.
here=$(dirname "$0")
migsim=$1
quota=
busybox=
max=1
shift
for option; do
	case $option in
	--quota) quota=1 ;;
	--no-max) max= ;;
	--busybox) busybox=1 ;;
	*) echo "migsim.sh: no option $option" >&2; exit 2 ;;
	esac
done
. "$here/tap.sh"

# The link takes half a second for all memory.
guest="--memory-mib 4 --bandwidth 8M --warmup-ms 100 --baseline-ms 200"
calm="--vcpu write:rate=400,set=512 --vcpu compute:rate=500"
# More than the link carries, on and on; every way to write.
wild="--vcpu write:rate=2000,set=340 --vcpu write:rate=2000,set=340,pattern=random
--vcpu write:rate=2000,set=340,pattern=skewed --vcpu read:rate=500,set=4"

# run STATUS[STATUS] OPTIONS...: output in $tap_dir/run, CSV and JSON beside it
run()
{
	rm -f "$tap_dir/csv" "$tap_dir/json"
	expected=$1
	status=0
	shift
	# shellcheck disable=SC2086
	"$migsim" $guest --csv "$tap_dir/csv" --json "$tap_dir/json" "$@" \
		>"$tap_dir/run" 2>&1 || status=$?
	case $expected in
	*$status*) return ;;
	esac
	echo "exit status $status, expected $expected: $migsim $guest $*"
	cat "$tap_dir/run"
	return 1
}

all_equal() # PAGES
{
	grep "^compared $1 pages: all equal\$" "$tap_dir/run"
}

# 4 MiB, and the control area of two vCPUs
converges()
{
	# shellcheck disable=SC2086
	run 0 --policy "$1" $calm && all_equal 1028 &&
		grep ": converged after" "$tap_dir/run" &&
		awk -F, '$1 == "run" && $2 == "migsim" && $4 == 1 && $5 == 1 { n++ }
			END { exit n != 2 }' "$tap_dir/csv"
}

# Said, and copied all the same; nothing fits into a millisecond.
does_not_converge()
{
	# shellcheck disable=SC2086
	run 3 --max-rounds 3 --downtime-ms 1 $wild && all_equal 1030 &&
		grep "DID NOT CONVERGE after 4 rounds" "$tap_dir/run"
}

time_limit()
{
	# shellcheck disable=SC2086
	run 3 --max-rounds 1000 --max-seconds 1 --downtime-ms 1 $wild &&
		all_equal 1030
}

# Writers are stopped and let go again; the reader never is. Which of them, and how
# often, depends on how fast each is: on a busy machine, one may dirty less than
# its share.
quota_converges()
{
	# shellcheck disable=SC2086
	run 0 --policy dirty-quota --from-start $wild && all_equal 1030 || return 1
	awk -F, '$1 != "run" || $2 == "label" { next }
		$11 == "write" { exits += $16 }
		$11 == "read" && ($16 || $17) { print "stopped: " $0; bad = 1 }
		END {
			print exits + 0 " exits of writers"
			exit bad || !exits || NR != 5
		}' "$tap_dir/csv"
}

# A guest that converges by itself is never stopped.
quota_only_if_needed()
{
	# shellcheck disable=SC2086
	run 0 --policy dirty-quota $calm && all_equal 1028 &&
		awk -F, '$1 != "run" || $2 == "label" { next }
			$16 || $17 { print "stopped: " $0; bad = 1 }
			END { exit bad || NR != 3 }' "$tap_dir/csv"
}

# It stops first, and copies once.
stop_and_copy()
{
	# shellcheck disable=SC2086
	run 0 --policy stop-and-copy $wild && all_equal 1030 &&
		grep ": converged after 1 round," "$tap_dir/run"
}

# Whoever has to wait for a slow one is as slow.
# On a busy machine the one that waits for nobody is slow, too: five attempts.
waits_for_others()
{
	for _ in 1 2 3 4 5; do
		run 03 --max-rounds 1 --vcpu write:rate=1,meet=1000 \
			--vcpu compute:rate=500,meet=10 \
			--vcpu compute:rate=500 || return 1
		awk -F, '$1 == "run" && $2 != "label" { speed[$10] = $12 }
			END { print speed[0], speed[1], speed[2]
				exit !(speed[1] < speed[2] / 2) }' "$tap_dir/csv" &&
			return
	done
	return 1
}

number() # KEY: its values in the JSON, one a line
{
	grep -o "\"$1\":[0-9]*" "$tap_dir/json" | cut -d: -f2
}

# Every bit that was harvested was charged to a vCPU, and every charge is a bit.
counts_are_exact()
{
	for policy in none auto-converge dirty-quota "none --clear-pages 0"; do
		# shellcheck disable=SC2086
		run 03 --policy $policy --max-rounds 12 $wild || return 1
		bits=$(number dirty_pages | awk '{ n += $1 } END { print n }')
		counts=$(number pages_dirtied | awk '{ n += $1 } END { print n }')
		echo "$policy: $bits bits, $counts charged"
		[ "$bits" = "$counts" ] && [ "$bits" -gt 0 ] || return 1
	done
}

# Nothing but a signal gets these out of the guest.
never_yields()
{
	for policy in none auto-converge ${quota:+dirty-quota}; do
		run 03 --policy "$policy" --max-rounds 2 --vcpu compute \
			--vcpu write:rate=max,set=900 && all_equal 1028 ||
			return 1
	done
}

# They dirty pages that are not known of yet while the last of them is stopped.
# Whether sixteen writers leave a slow machine the time to converge is not asked.
dirty_to_the_end()
{
	for policy in none ${quota:+dirty-quota}; do
		run 03 --policy "$policy" --bandwidth 400M \
			--vcpu '16*write:rate=450,set=60' &&
			all_equal 1042 || return 1
	done
}

lost_page()
{
	# shellcheck disable=SC2086
	run 1 --lose-page 1000 $calm &&
		grep "1028 pages: 1 DIFFER, the first is page 1000\$" "$tap_dir/run"
}

no_quota_here()
{
	run 4 --policy dirty-quota && grep -x \
		"migsim: --policy dirty-quota: this kernel has no KVM_CAP_DIRTY_QUOTA" \
		"$tap_dir/run"
}

refused()
{
	run 2 --bandwidth fast && grep -e "--bandwidth fast: must be bytes, also with K or M," \
		"$tap_dir/run" && run 0 --help && grep "^usage: migsim" "$tap_dir/run"
}

json_is_json()
{
	python3 - "$tap_dir/json" <<'END'
import json, sys
lines = [json.loads(line) for line in open(sys.argv[1])]
assert [l["event"] for l in lines[:-1]] == ["round"] * (len(lines) - 1), lines
assert [l["round"] for l in lines[:-1]] == list(range(1, len(lines))), lines
result = lines[-1]
assert result["event"] == "result" and result["rounds"] == len(lines) - 1
assert result["differing_pages"] == 0 and result["compared_pages"] == 1028
assert [v["vcpu"] for v in result["vcpus"]] == [0, 1]
sent = sum(l["sent_pages"] for l in lines[:-1]) + 4
assert result["sent_bytes"] == sent * 4104, (result, sent)
END
}

# Our numbers are those of the composed tree's header.
layout()
{
	mkdir -p "$tap_dir/linux"
	: >"$tap_dir/linux/compiler.h"
	cat >"$tap_dir/layout.c" <<'END'
#include "quota_uapi.h"
#define SAME(a, b) static_assert((a) == (b), #a)
SAME(KVM_CAP_DIRTY_QUOTA, QUOTA_CAP);
SAME(KVM_EXIT_DIRTY_QUOTA_FULL, QUOTA_EXIT_FULL);
SAME(offsetof(struct kvm_run, dirty_quota), QUOTA_RUN_OFFSET);
SAME(offsetof(struct kvm_run, dirty_quota_full), QUOTA_EXIT_OFFSET);
SAME(offsetof(struct kvm_run, dirty_quota_full.dirty_count),
     QUOTA_EXIT_OFFSET + offsetof(struct quota_full, dirty_count));
SAME(offsetof(struct kvm_run, dirty_quota_full.dirty_quota),
     QUOTA_EXIT_OFFSET + offsetof(struct quota_full, dirty_quota));
END
	"${CC:-cc}" -std=c11 -fsyntax-only -D__user= -I"$here/../common" \
		-I"$tap_dir" -I"$tree/arch/x86/include/uapi" \
		-idirafter /usr/include -include "$tree/include/uapi/linux/kvm.h" \
		"$tap_dir/layout.c"
}

check "bad options are named, help is given" refused
check "none" converges none
check "auto-converge" converges auto-converge
[ -n "$busybox" ] || check "JSON lines" json_is_json
check "stop-and-copy" stop_and_copy
check "vCPUs that wait for each other" waits_for_others
check "what does not converge is copied and said" does_not_converge
check "so is what takes too long" time_limit
check "a lost page is noticed" lost_page
check "pages dirtied until the very end are copied" dirty_to_the_end
[ -z "$max" ] || check "guests that never leave are stopped" never_yields
if [ -n "$quota" ]; then
	check "dirty-quota" converges dirty-quota
	check "dirty-quota converges, readers go on" quota_converges
	check "dirty-quota holds no guest that converges by itself" \
		quota_only_if_needed
	check "counts are exact" counts_are_exact
elif ! "$migsim" --policy dirty-quota --max-rounds 1 --quiet >/dev/null 2>&1; then
	check "no dirty quota here: said so" no_quota_here
fi
tree=$here/../../build/linux-5.10
if [ -f "$tree/include/uapi/linux/kvm.h" ]; then
	check "the header's numbers" layout
elif [ -z "$busybox" ]; then
	skip "the header's numbers" "no composed tree"
fi
tap_done
