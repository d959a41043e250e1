#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# usage: scenarios.sh [SCENARIO...]
#
# Guests of several kinds, each under every policy. Lines for programs begin with
# "run," or "sample,". The names in brackets are those of published measurements:
# RAM/threads/GB/s written/MB/s of the link. Here RAM, link and writers are smaller.
# The ratio of what is written to what the link carries is kept; that of memory to
# link is not: the link needs 2 s for all memory, there 13 s or more.
# MIGSIM_OPTIONS: more options, for all runs.
set -u
migsim=${MIGSIM:-migsim}
failed=0

# scenario NAME OPTIONS...: once under each policy
scenario()
{
	name=$1
	shift
	for policy in none stop-and-copy auto-converge dirty-quota; do
		# without throttling each round is like the last one
		rounds=40
		[ $policy != none ] || rounds=6
		echo "== $name, $policy: migsim --policy $policy $*"
		# shellcheck disable=SC2086 # several options
		"$migsim" --label "$name" --policy "$policy" --csv - \
			--samples - --max-rounds $rounds "$@" ${MIGSIM_OPTIONS-}
		status=$?
		# 3: it did not converge, which is a result
		[ $status = 0 ] || [ $status = 3 ] || failed=1
		echo "== $name, $policy: exit status $status"
	done
}

common="--memory-mib 16 --bandwidth 8M --downtime-ms 200 --sample-ms 250"

run()
{
	# shellcheck disable=SC2086
	case $1 in
	needs-nothing) # 39 % of what the link carries
		scenario "$1" $common --vcpu write:rate=800,set=4096 \
			--vcpu '3*compute:rate=2000' ;;
	fifth-of-memory) # 8/2/8/640, if the writers stay in a fifth of the memory
		scenario "$1" $common --vcpu '2*write:rate=13107,set=410' ;;
	equal-writers) # 8/2/8/640: 12.8 times, all over the memory
		scenario "$1" $common --vcpu '2*write:rate=13107,set=2048' ;;
	one-writer) # 3.2 times
		scenario "$1" $common --vcpu write:rate=6554,set=4096 \
			--vcpu '3*compute:rate=2000' ;;
	one-writer-meets) # the same, and all wait for each other
		scenario "$1" $common --vcpu write:rate=6554,set=4096,meet=10 \
			--vcpu '3*compute:rate=2000,meet=10' ;;
	write-heavy) # 32/6/32/640: 51 times
		scenario "$1" $common \
			--vcpu '6*write:rate=17476,set=682,pattern=random' ;;
	balanced) # most writes go to few pages
		scenario "$1" $common \
			--vcpu '2*write:rate=6554,set=1920,pattern=skewed' \
			--vcpu read:rate=2000,set=256 \
			--vcpu compute:rate=2000 ;;
	*) echo "scenarios.sh: no scenario $1" >&2; exit 2 ;;
	esac
}

for one in "${@:-}"; do
	if [ -n "$one" ]; then
		run "$one"
	else
		for each in needs-nothing fifth-of-memory balanced one-writer \
			one-writer-meets equal-writers write-heavy; do
			run $each
		done
	fi
done
exit $failed
