#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
#
# The project's main job, end to end: a VMM hands the statistics descriptors
# of its VM and vCPUs to another process, which runs as an unprivileged user
# and shows a live table. Then every statement of the summary is checked; the
# exit status says whether all of them are true.
#
# Nothing here is judged by the clock: each step waits until what it is about
# has happened, and the limits are for what never does.
#
# For a plain POSIX shell with few tools (busybox); runs as root, because it
# starts programs as two other users.
#
# Lockdown is checked if it was asked for here or on the kernel command line;
# debugfs and securityfs must be mounted then.
#
# --seconds: so many tables, one a second where the machine keeps up.
#
# usage: run-demo.sh [--bin DIR] [--seconds N] [--expect "NAME..."]
#                    [--require-lockdown | --no-lockdown]

bin=$(dirname "$0")
seconds=10
tables=4		# so many are looked at call by call
limit_s=300		# for anything that is waited for
lockdown=no
grep -q 'lockdown=' /proc/cmdline && lockdown=yes
case $(uname -m) in
aarch64) expect="exits mmio_exit_user wfi_exit_stat" ;;
*) expect="exits io_exits halt_exits" ;;
esac
expect="$expect halt_wait_ns halt_wait_hist"
reader_uid=65534
vmm_uid=65533
failed=0

die()
{
	echo "run-demo: $*" >&2
	exit 1
}

while [ $# -gt 0 ]; do
	case $1 in
	--bin) bin=$2; shift ;;
	--seconds) seconds=$2; shift ;;
	--expect) expect=$2; shift ;;
	--require-lockdown) lockdown=yes ;;
	--no-lockdown) lockdown=no ;;
	*) die "what is \"$1\"?" ;;
	esac
	shift
done

# Programs may lie in one directory or as the build leaves them.
find_program()
{
	for dir in "$bin" "$bin/demo" "$bin/kvmstat" "$bin/../kvmstat"; do
		if [ -x "$dir/$1" ] && [ ! -d "$dir/$1" ]; then
			echo "$dir/$1"
			return
		fi
	done
	command -v "$1" || die "no program $1 in $bin, nor in PATH"
}

# check STATEMENT COMMAND...: the verdict, then what the command showed for it
check()
{
	statement=$1
	shift
	if "$@" >"$dir/evidence" 2>&1; then
		echo "  yes   $statement"
	else
		echo "  NO    $statement"
		failed=$((failed + 1))
	fi
	sed 's/^/          /' "$dir/evidence"
}

cleanup()
{
	for pid in $vmm $reader $show; do
		kill -9 "$pid" 2>/dev/null
	done
	rm -rf "$dir"
}

# The VMM needs nothing but /dev/kvm: its group, if the group may open it.
kvm_group()
{
	case $(stat -c %a /dev/kvm) in
	?6? | ?7?) stat -c %g /dev/kvm ;;
	esac
}

start_reader()
{
	set --
	for name in $expect; do
		set -- "$@" --expect "$name"
	done
	"$asuser" $reader_uid $reader_uid "$kvmstat" listen --mode 0666 \
		--until-gone "$@" "$socket" >"$dir/table" 2>"$dir/errors" &
	reader=$!
}

start_vmm()
{
	gid=$(kvm_group)
	set -- "$demo_vmm" --name demo-guest --socket "$socket" --seconds 3600
	if [ -n "$gid" ]; then
		"$asuser" $vmm_uid "$gid" "$@" &
	else
		vmm_uid=0
		"$@" &
	fi
	vmm=$!
}

# wait_for SECONDS COMMAND...
wait_for()
{
	tries=$(($1 * 10))
	shift
	while ! "$@"; do
		tries=$((tries - 1))
		[ $tries -gt 0 ] || return 1
		sleep 0.1
	done
}

received()
{
	grep -q ' sent: ' "$dir/table"
}

shown()
{
	grep -c " pid $vmm uid .* [1-9][0-9]* descriptors\$" "$dir/table"
}

shown_over()
{
	[ "$(shown)" -gt "$1" ]
}

# A row is only printed of what moved since the table before.
rows_shown()
{
	for name in $expect; do
		grep -q "^  $name " "$dir/table" || return 1
	done
}

ended()
{
	# a zombie, or nobody: its parent is this shell
	case $(cut -d')' -f2 "/proc/$1/stat" 2>/dev/null) in
	'' | ' Z'*) return 0 ;;
	esac
	return 1
}

# ---- what is checked

fds_passed()
{
	grep ' sent: ' "$dir/table"
	grep -q " (pid $vmm, uid $vmm_uid) sent: 5 descriptors accepted, 0 rejected\$" \
		"$dir/table"
}

reader_is_unprivileged()
{
	grep -E '^(Uid|CapEff)' "$dir/status"
	grep -q "^Uid:.$reader_uid.$reader_uid.$reader_uid.$reader_uid\$" \
		"$dir/status" && grep -q '^CapEff:.0*$' "$dir/status"
}

# One pread64 a descriptor and table; counting may begin or end within one. The VM
# and its four vCPUs have one each, or two in all where the kernel has one for all
# vCPUs.
one_pread_each()
{
	cat "$dir/calls"
	[ "$counted" = 0 ] && awk -F '\t' '
	$2 == "write" { tables += $1 }
	$2 == "pread64" && $3 ~ /^anon_inode:kvm-(vm|vcpu|vcpus)-stats/ {
		reads[$3] = $1
		fds++
		all += $3 ~ /-vcpus-/
	}
	END {
		if (fds != (all ? 2 : 5) || tables < 1)
			exit 1
		for (fd in reads)
			if (reads[fd] < tables - 1 || reads[fd] > tables + 1)
				exit 1
	}' "$dir/calls"
}

# Waiting, the clock (a call where the vDSO cannot tell it), its own memory,
# and the table: all else is too much.
nothing_else()
{
	awk -F '\t' '
	$2 == "pread64" && $3 ~ /^anon_inode:kvm-(vm|vcpu|vcpus)-stats/ { next }
	$2 == "write" && $3 ~ /\/table$/ { next }
	$2 ~ /^(ppoll|clock_gettime|brk|mmap|munmap|restart_syscall)$/ { next }
	{ bad = 1 }
	END { exit bad }' "$dir/calls"
}

debugfs_closed()
{
	echo "/sys/kernel/security/lockdown: $(cat /sys/kernel/security/lockdown)"
	cat /sys/kernel/debug/kvm/exits >"$dir/debugfs" 2>&1
	echo "as root: $(cat "$dir/debugfs")"
	grep -qE '\[(integrity|confidentiality)\]' \
		/sys/kernel/security/lockdown &&
		grep -q 'Operation not permitted' "$dir/debugfs"
}

death_noticed()
{
	grep ' gone: ' "$dir/table"
	grep -q " (pid $vmm, uid $vmm_uid) gone: process ended\$" "$dir/table"
}

statistics_moved()
{
	grep -v 'listening on' "$dir/errors"
	[ "$reader_status" = 0 ]
}

summary()
{
	echo
	echo "What was shown:"
	check "the VMM passed its descriptors by SCM_RIGHTS, all accepted" \
		fds_passed
	check "the reader ran as user $reader_uid, without a capability" \
		reader_is_unprivileged
	check "per table it made one pread64 for each descriptor (calls for $tables tables)" \
		one_pread_each
	check "and nothing else towards the VMM" nothing_else
	[ $lockdown = no ] ||
		check "debugfs was closed by lockdown, even for root" \
			debugfs_closed
	check "the VMM's death was noticed" death_noticed
	check "these moved: $expect" statistics_moved
}

# ---- what is done

# What a process does once only, it has done when it has shown a table.
count_calls()
{
	wait_for $limit_s shown_over 0 || return 1
	"$syscount" "$reader" $limit_s write $tables
}

run()
{
	start_reader
	wait_for $limit_s test -S "$socket" ||
		die "the reader does not listen: $(cat "$dir/errors")"
	start_vmm
	wait_for $limit_s received ||
		die "nothing received from the VMM: $(cat "$dir/errors")"
	tail -f -n +1 "$dir/table" &
	show=$!
	cat "/proc/$reader/status" >"$dir/status"
	count_calls >"$dir/calls" 2>&1
	counted=$?
	wait_for $limit_s shown_over $((seconds - 1))
	wait_for $limit_s rows_shown
	kill -9 "$vmm"
	wait_for $limit_s ended $reader || { kill -9 $reader; failed=1; }
	wait $reader
	reader_status=$?
	wait $vmm 2>/dev/null
	sleep 1
	kill $show
	wait $show 2>/dev/null
}

[ "$seconds" -gt 0 ] || die "--seconds must be over 0"
[ "$(id -u)" = 0 ] || die "must be root, to start programs as other users"
[ -e /dev/kvm ] || die "there is no /dev/kvm"

kvmstat=$(find_program kvmstat) || exit 1
demo_vmm=$(find_program demo-vmm) || exit 1
asuser=$(find_program asuser) || exit 1
syscount=$(find_program syscount) || exit 1
dir=$(mktemp -d) || exit 1
socket=$dir/socket
trap cleanup EXIT
trap 'exit 1' INT TERM
chown $reader_uid "$dir" && chmod 755 "$dir" || exit 1
# the other users may have no way into the directory where these are
cp "$kvmstat" "$demo_vmm" "$dir/" || exit 1
kvmstat=$dir/kvmstat
demo_vmm=$dir/demo-vmm

run
summary
if [ $failed -gt 0 ]; then
	echo "run-demo: failed: $failed"
	exit 1
fi
echo "run-demo: all true"
