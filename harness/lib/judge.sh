# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash disable=SC2154
# Sourced by boot: from what the guest said on its channel to a verdict.
# Nothing on the console can make a boot good; some of it makes it bad.

test_lines() { # the guest's report of one test
	awk -v nonce="$nonce" -v name="$1" \
		'$1 == nonce && $2 == "test" && $3 == name' "$dir/verdict.log"
}

judge_test() { # name: one line of results.tsv
	local lines outcome ms reason

	lines=$(test_lines "$1")
	if [ -z "$lines" ]; then
		printf '%s\tfail\t0\tnot reported by the guest\n' "$1"
		return
	fi
	if [ "$(wc -l <<<"$lines")" != 1 ]; then
		printf '%s\tfail\t0\treported twice\n' "$1"
		return
	fi
	read -r _ _ _ outcome ms reason <<<"$lines"
	[ "$outcome" != timeout ] || outcome=fail
	printf '%s\t%s\t%s\t%s\n' "$1" "$outcome" "$ms" "$reason"
}

# What is wrong with the boot as a whole; nothing printed if all is well.
# One reason is enough: the first is the cause of the others.
boot_fault() {
	local bad

	if [ "$qemu_status" = 124 ] || [ "$qemu_status" = 137 ]; then
		echo "no end within $limit_s s"
	elif grep -aq 'Kernel panic' "$dir/console.log"; then
		grep -ao 'Kernel panic.*' "$dir/console.log" | head -n 1
	elif [ "$qemu_status" != 0 ]; then
		echo "QEMU: exit status $qemu_status: $(tail -n 1 "$dir/qemu.log")"
	elif bad=$(grep -a "^$nonce log " "$dir/verdict.log" | head -n 1) &&
	     [ -n "$bad" ]; then
		echo "kernel log: ${bad#"$nonce log "}"
	elif [ "$(tail -n 1 "$dir/verdict.log")" = "$nonce verdict pass" ]; then
		:
	elif [ "$(tail -n 1 "$dir/verdict.log")" = "$nonce verdict fail" ]; then
		cut -f2 "$dir/results.tsv" | grep -qx fail ||
			echo "the guest says fail and gives no reason"
	else
		echo "the guest ended without a verdict"
	fi
}

rerun_command() {
	local var words=

	for var in MACHINE NPT ACCEL ICOUNT ROOT VARIANT APPEND SMP MEM LIST; do
		[ -z "${!var-}" ] || words+="$var=${!var@Q} "
	done
	printf '%sharness/boot %s %s %s\n' "$words" "$arch" "$config" "${1@Q}"
}

# Whoever reads the log of a continuous integration has none of the files. One
# write for all of it: another boot may be printing at the same time.
show_tail() { # WHAT FILE
	local text

	[ -s "$2" ] || { echo "  $1: nothing was printed"; return 0; }
	text=$(tail -n 60 "$2" | tr -d '\r' | sed 's/^/    | /')
	printf '  %s, the last lines:\n%s\n' "$1" "$text"
}

judge() {
	local name fault failed

	while read -r name _; do
		judge_test "$name"
	done <"$dir/tests" >"$dir/results.tsv"
	fault=$(boot_fault)
	if [ -n "$fault" ]; then
		printf 'boot\tfail\t0\t%s\n' "$fault"
	else
		printf 'boot\tpass\t%s\t\n' $(((SECONDS - started_s) * 1000))
	fi >>"$dir/results.tsv"
	failed=$(awk -F '\t' '$2 != "pass" && $2 != "skip" { print $1 }' \
		"$dir/results.tsv")
	if [ -z "$failed" ]; then
		echo "boot ${dir##*/}: pass ($((SECONDS - started_s)) s)"
		return 0
	fi
	echo "boot ${dir##*/}: FAIL${fault:+: $fault}"
	for name in $failed; do
		if [ "$name" = boot ]; then
			show_tail console "$dir/console.log"
			continue
		fi
		echo "  $name: $(awk -F '\t' -v n="$name" '$1 == n { print $4 }' \
			"$dir/results.tsv"); rerun: $(rerun_command "$name")"
		show_tail "$name" "$dir/output/$name"
	done
	echo "  log: $dir/console.log"
	return 1
}
