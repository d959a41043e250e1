#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# usage: locked-down.sh BUILD-DIR - kvmstat on a kernel that makes no statistics
# descriptors and is locked down, so that not even debugfs helps: what there is none
# of, and why, is said

here=$(cd "$(dirname "$0")" && pwd)
build=$(cd "$1" && pwd)
kvmstat=$build/kvmstat/kvmstat
vmm=
. "$here/tap.sh"
guest=loc$$
# shellcheck source=userspace/tests/vms.sh
. "$here/vms.sh"

says_why()
{
	"$@" >"$tap_dir/said" 2>&1
	echo "status $?" >>"$tap_dir/said"
	cat "$tap_dir/said"
	grep -q "this kernel has no statistics descriptors; debugfs is closed by kernel lockdown\$" \
		"$tap_dir/said"
}

is_locked_down()
{
	grep -F -e '[integrity]' -e '[confidentiality]' /sys/kernel/security/lockdown &&
		ls /sys/kernel/debug/kvm
}

nothing_is_shown()
{
	says_why "$kvmstat" show --pid "$vmm" && grep -q '^status 3$' "$tap_dir/said" &&
		! grep -q debugfs- "$tap_dir/said"
}

is_listed()
{
	says_why "$kvmstat" list && grep -q " $guest\$" "$tap_dir/said"
}

check "the kernel is locked down" is_locked_down
if start_told && tell vm && tell bare; then
	check "show says why there is nothing" nothing_is_shown
	check "list has the VM, and the reason" is_listed
else
	check "a VM" false
fi
tap_done
