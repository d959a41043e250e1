# SPDX-License-Identifier: GPL-2.0-only
# Common ground of the scripts in this directory. Sourced by bash, never run.
# shellcheck shell=bash disable=SC2034 # variables are for those that source it

set -euo pipefail
umask 022

ME=${0##*/}
TOP=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
CACHE=${KVMSTATS_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/kvmstats}
BUILD=$TOP/build
LOGS=$BUILD/log
SERIES=${SERIES:-linux-5.10} # or another directory of patches/
PATCHES=$TOP/patches/$SERIES
TREE_DEFAULT=$BUILD/$SERIES
BASE_TREE=$BUILD/base/$SERIES
SUFFIX='' FOR='' # of what the kernel's series has without; behind "make tree" in messages
[ "$SERIES" = linux-5.10 ] || SUFFIX=-$SERIES FOR=" SERIES=$SERIES"
STATE=$BUILD/series-state$SUFFIX # of the repository, when it was last composed or refreshed
TREE_STATE=$BUILD/tree-state$SUFFIX # of what TREE_DEFAULT holds
JOBS=${JOBS:-$(nproc)}
RESULTS=${RESULTS:-$BUILD/results.tsv}

# Where a series has its new files, and which directories there are its own: the
# kernel's at the top, QEMU's below qemu/.
case $SERIES in
linux-*) TITLE=Linux NEW_FILES=$TOP ROOTS=(arch include virt Documentation tools) ;;
qemu-*) TITLE=QEMU NEW_FILES=$TOP/qemu ROOTS=(.) ;;
*)
	echo "$ME: SERIES=$SERIES: must be one of: $(cd "$TOP/patches" && echo *)" >&2
	exit 2
	;;
esac

export LC_ALL=C

# Variables given to our make are not meant for the makes that we call.
unset MAKEFLAGS MAKEOVERRIDES MFLAGS MAKELEVEL CFLAGS LDFLAGS

say()
{
	printf '%s\n' "$*"
}

warn()
{
	printf '%s: %s\n' "$ME" "$*" >&2
}

die()
{
	warn "$*"
	exit 1
}

need_arg()
{
	[ -n "${2:-}" ] || die "$1 is missing (see the head of scripts/$ME)"
}

result()
{
	RESULTS=$RESULTS "$TOP/scripts/result" "$@"
}

packages()
{
	"$TOP/scripts/packages" "$@"
}

# git without the user's and the machine's configuration: what it writes must
# be the same for everybody.
plain_git()
{
	GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_NOSYSTEM=1 git \
		-c core.quotePath=false -c core.autocrlf=false \
		-c core.fileMode=true -c core.hooksPath=/dev/null \
		-c diff.noprefix=false -c diff.mnemonicPrefix=false \
		-c gc.auto=0 -c advice.detachedHead=false "$@"
}

# The version that BASE pins.
base_version()
{
	local version

	version=$(awk '$1 == "version" { print $2 }' "$PATCHES/BASE")
	[ -n "$version" ] || die "$PATCHES/BASE names no version"
	say "$version"
}

# --- long steps ------------------------------------------------------------

progress_line()
{
	local name=$1 log=$2 start=$3 past=$4 lines

	lines=$(wc -l <"$log")
	if [ "$past" -gt "$lines" ]; then
		say "   $name: $((SECONDS - start)) s," \
			"$lines of at most $past lines of output"
	else
		say "   $name: $((SECONDS - start)) s, $lines lines of output"
	fi
}

# Print a line each PROGRESS seconds for as long as process $1 lives.
watch_step()
{
	local pid=$1 name=$2 log=$3 start=$4 past=$5 due

	due=$((SECONDS + ${PROGRESS:-15}))
	while kill -0 "$pid" 2>/dev/null; do
		sleep 0.2
		[ "$SECONDS" -ge "$due" ] || continue
		progress_line "$name" "$log" "$start" "$past"
		due=$((SECONDS + ${PROGRESS:-15}))
	done
}

step_failed()
{
	local name=$1 log=$2 status=$3

	warn "$name failed with status $status; the end of ${log#"$TOP"/}:"
	tail -n 20 "$log" | sed 's/^/    | /' >&2
	warn "whole log: $log"
	[ -z "${RERUN:-}" ] || warn "to run it again: $RERUN"
}

# step NAME COMMAND...: run a long command with its output in
# build/log/NAME.log and a sign of life here. RERUN says how to repeat it.
step()
{
	local name=$1 log start past=0 pid status=0 mark

	shift
	log=$LOGS/${name//[\/ ]/-}.log
	mark=$CACHE/progress/${name//[\/ ]/-}
	mkdir -p "$LOGS" "$CACHE/progress"
	[ ! -s "$mark" ] || past=$(cat "$mark")
	start=$SECONDS
	say ">> $name (log: ${log#"$TOP"/})"
	"$@" >"$log" 2>&1 </dev/null &
	pid=$!
	watch_step "$pid" "$name" "$log" "$start" "$past"
	wait "$pid" || status=$?
	if [ "$status" -ne 0 ]; then
		step_failed "$name" "$log" "$status"
		return "$status"
	fi
	[ "$past" -ge "$(wc -l <"$log")" ] || wc -l <"$log" >"$mark"
	say "   $name: done in $((SECONDS - start)) s"
}

# --- the series ------------------------------------------------------------

series_patches()
{
	[ ! -f "$PATCHES/series" ] || grep -v -e '^#' -e '^$' "$PATCHES/series" ||
		true
}

# What stands between a patch's message and its first hunk.
patch_new_files()
{
	awk '/^diff --git / { exit }
		/^---$/ { n = 0; next }
		/^X-New-File: / { file[n++] = substr($0, 13) }
		END { for (i = 0; i < n; i++) print file[i] }' "$1"
}

series_new_files()
{
	local patch

	for patch in $(series_patches); do
		patch_new_files "$PATCHES/$patch"
	done
}

files_of_roots()
{
	local root

	[ -d "$NEW_FILES" ] && cd "$NEW_FILES" || return 0
	for root in "${ROOTS[@]}"; do
		[ ! -d "$root" ] || find "$root" ! -type d | sed 's,^\./,,'
	done
}

# One digest over all that the composed tree is made from.
series_state()
{
	local patch

	(
		cd "$NEW_FILES" 2>/dev/null || true
		cat "$PATCHES/BASE" "$PATCHES/series" 2>/dev/null || true
		for patch in $(series_patches); do
			cat "$PATCHES/$patch"
		done
		series_new_files | while read -r file; do
			printf '%s %s\n' "$file" "$(test -x "$file" && echo x)"
			cat "$file" 2>/dev/null || echo missing
		done
	) | sha256sum | cut -d' ' -f1
}
