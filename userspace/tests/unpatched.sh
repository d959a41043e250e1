#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# usage: unpatched.sh BUILD-DIR - kvmstat on a kernel that makes no statistics
# descriptors: it shows the sums that debugfs has, or, where the kernel is locked
# down, nothing, and says why

here=$(cd "$(dirname "$0")" && pwd)
build=$(cd "$1" && pwd)
kvmstat=$build/kvmstat/kvmstat
vmm=
. "$here/tap.sh"
guest=unp$$
# shellcheck source=userspace/tests/vms.sh
. "$here/vms.sh"
no_descriptors="this kernel has no statistics descriptors"

# says WHAT STATUS COMMAND...
says()
{
	local what=$1 expected=$2 status

	shift 2
	"$@" >"$tap_dir/said" 2>&1
	status=$?
	cat "$tap_dir/said"
	echo "status $status"
	[ $status = "$expected" ] && grep -qE "$what" "$tap_dir/said"
}

is_locked_down()
{
	grep -qF -e '[integrity]' -e '[confidentiality]' /sys/kernel/security/lockdown
}

# ---- locked down

# Some files can be read all the same.
nothing_is_shown()
{
	says "$no_descriptors; debugfs is closed by kernel lockdown\$" 3 \
		"$kvmstat" show --pid "$vmm" && ! grep debugfs- "$tap_dir/said"
}

is_listed()
{
	says "$no_descriptors; debugfs is closed by kernel lockdown\$" 0 \
		"$kvmstat" list && grep -q " $guest\$" "$tap_dir/said"
}

# ---- not locked down

# The number that is in the file.
sums_are_shown()
{
	local exits

	exits=$(cat "/sys/kernel/debug/kvm/$vmm-"*/exits)
	[ "$exits" -ge 1000 ] &&
		says "^exits .* $exits\$" 0 "$kvmstat" show --pid "$vmm" &&
		grep -q "^# sum debugfs-$vmm-" "$tap_dir/said" &&
		grep -q "sums over vCPUs, from debugfs: $no_descriptors" "$tap_dir/said" &&
		says "^exits \(debugfs\) +$exits " 0 "$kvmstat" top --once \
			--include-past --interval 0.1 --pid "$vmm"
}

# Before anything is started
no_dirty_quota()
{
	says "^kvmstat: --dirty-quota: this kernel has no KVM_CAP_DIRTY_QUOTA\$" 125 \
		"$kvmstat" run --dirty-quota 8M -- false
}

check "no dirty quota here: run says so" no_dirty_quota
if start_told && tell vm && tell bare && tell bare && tell run 500; then
	if is_locked_down; then
		check "under lockdown, show says why there is nothing" nothing_is_shown
		check "list has the VM, and the reason" is_listed
	else
		check "sums of debugfs are shown, and marked" sums_are_shown
	fi
else
	check "a VM" false
fi
tap_done
