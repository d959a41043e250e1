#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# usage: kvm-debugfs.sh BUILD-DIR - VMs without statistics descriptors: the sums that
# debugfs has of them, or why there are none

here=$(cd "$(dirname "$0")" && pwd)
build=$(cd "$1" && pwd)
kvmstat=$build/kvmstat/kvmstat
vmm=
. "$here/tap.sh"
# other VMs of this machine have another name
guest=dbg$$
# shellcheck source=userspace/tests/vms.sh
. "$here/vms.sh"

# in_debugfs COMMAND...: where debugfs has two numbers of this VM
in_debugfs()
{
	local dir="$tap_dir/debug/kvm/$vmm-5"

	mkdir -p "$dir" && echo 4711 >"$dir/exits" && echo 3 >"$dir/mmu_cache" &&
		chmod 444 "$dir/mmu_cache"
	# shellcheck disable=SC2016 # the inner shell's
	unshare -m sh -c 'mount --bind "$1" /sys/kernel/debug && shift &&
		exec "$@"' sh "$tap_dir/debug" "$@"
}

# Sums over vCPUs, which every way to show them marks.
sums_are_marked()
{
	local verdict=0

	start_told && tell vm && tell bare || return 1
	status in_debugfs "$kvmstat" top --once --include-past --interval 0.1 \
		--guest "$guest"
	said '^exits \(debugfs\) +4711 ' && said '^mmu_cache \(debugfs\) +3' &&
		said 'sums over vCPUs, from debugfs' && said 'status 0' || verdict=1
	status in_debugfs "$kvmstat" top --once --include-past --interval 0.1 \
		--by-guest --guest "$guest"
	said "^$guest \($vmm\) \(debugfs\) +4711 " || verdict=1
	status in_debugfs "$kvmstat" record --pid "$vmm" --count 1 --interval 0.1
	said ",$vmm,sum,,5,exits,cumulative,none,4711,0,0,"  || verdict=1
	status in_debugfs "$kvmstat" record --pid "$vmm" --count 1 --interval 0.1 \
		--format log
	said '^time +exits\(debugfs\) mmu_cache\(debugfs\)$' || verdict=1
	in_debugfs "$kvmstat" record --pid "$vmm" --count 1 --interval 0.1 --json \
		>"$tap_dir/json" 2>/dev/null
	jq -es '[.[] | select(.event == "sample").sources[] | .scope] == ["sum"]' \
		"$tap_dir/json" || verdict=1
	status in_debugfs "$kvmstat" show --pid "$vmm"
	said "^# sum debugfs-$vmm-5 " && said '^exits .* 4711$' || verdict=1
	mkdir "$tap_dir/dumped"
	status in_debugfs "$kvmstat" dump --pid "$vmm" --output "$tap_dir/dumped"
	status "$kvmstat" show --image "$tap_dir/dumped/0-sum.bin"
	said "^# sum debugfs-$vmm-5" && said '^exits .* 4711$' || verdict=1
	end_told
	return $verdict
}

# Why there are not even sums: without root, or where debugfs is not mounted. Under
# lockdown, see unpatched.sh.
no_sums_is_told()
{
	local verdict=0

	start_told && tell vm && tell bare || return 1
	status unshare -m sh -c 'umount /sys/kernel/debug 2>/dev/null
		mount -t tmpfs none /sys/kernel && exec "$@"' sh \
		"$kvmstat" show --pid "$vmm"
	said 'no statistics, .*; debugfs is not mounted$' && said 'status 3' || verdict=1
	mkdir -p "$tap_dir/debug/kvm" && chmod 700 "$tap_dir/debug"
	chown -R 65534 "$tap_dir/debug"
	# as one who has all rights of a debugger and none to read other users' files
	status in_debugfs setpriv --bounding-set -dac_override,-dac_read_search \
		--inh-caps -dac_override,-dac_read_search "$kvmstat" show --pid "$vmm"
	said 'no statistics, .*; debugfs is open to root only$' && said 'status 3' ||
		verdict=1
	rm -r "$tap_dir/debug"
	# without a directory of this VM
	mkdir -p "$tap_dir/debug/kvm"
	# shellcheck disable=SC2016 # the inner shell's
	status unshare -m sh -c 'mount --bind "$1" /sys/kernel/debug && shift && exec "$@"' \
		sh "$tap_dir/debug" "$kvmstat" show --pid "$vmm"
	said 'no statistics, .*; debugfs has no directory of this VM$' && said 'status 3' ||
		verdict=1
	end_told
	return $verdict
}

# in_container PREPARATION: list, where processes have other numbers
# shellcheck disable=SC2016 # the inner shell's
in_container()
{
	status unshare -m --pid --fork --mount-proc sh -c '
		"$1" --no-stats --seconds 36000 >/dev/null 2>&1 &
		until "$2" list >/dev/null 2>&1; do sleep 0.1; done
		'"$1"'
		sleep 1
		"$2" list' sh "$tap_dir/$guest" "$kvmstat"
}

container_is_told()
{
	local verdict=0

	in_container 'umount /sys/kernel/debug 2>/dev/null; mount -t tmpfs none /sys/kernel'
	said 'no statistics, .*; debugfs is not mounted$' || verdict=1
	mkdir -p "$tap_dir/debug/kvm"
	in_container "mount --bind $tap_dir/debug /sys/kernel/debug"
	said 'no statistics, .*; debugfs is not read in a container' || verdict=1
	return $verdict
}

cp "$build/demo/demo-vmm" "$tap_dir/$guest" && chmod 755 "$tap_dir"
if [ "$(id -u)" != 0 ]; then
	skip "debugfs" "not root"
elif start_told && tell vm && tell bare &&
	"$kvmstat" show --pid "$vmm" >/dev/null 2>&1; then
	end_told
	skip "debugfs" "statistics are made for us"
else
	end_told
	if [ -d /sys/kernel/debug ]; then
		check "sums are marked" sums_are_marked
	else
		skip "sums are marked" "no debugfs"
	fi
	check "why there are no sums" no_sums_is_told
	check "why there are no sums, in a container" container_is_told
fi
tap_done
