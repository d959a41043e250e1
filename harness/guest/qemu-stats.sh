#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# qemu-stats.sh [SECONDS]: run the distribution's own QEMU on KVM with two
# vCPUs for a while, and print what its monitor says about statistics, a line
# of JSON each: the schemas, the VM's values, the vCPUs' values. If there is a
# kvmstat, a fourth line is what that says about the same process.
run_s=${1:-5}
work=$(mktemp -d) || exit 1
PATH=$PATH:/mnt/bin:${GUEST_BIN:-.}

qemu-system-x86_64 -accel kvm -M pc -smp 2 -m 64 -nodefaults -display none \
	-no-user-config -qmp "unix:$work/qmp,server=on,wait=off" \
	-monitor none -serial none >"$work/log" 2>&1 &
qemu=$!
ask() {
	qmp "$work/qmp" '{"execute":"query-stats-schemas"}' \
		'{"execute":"query-stats","arguments":{"target":"vm"}}' \
		'{"execute":"query-stats","arguments":{"target":"vcpu"}}'
}
i=0
while [ ! -S "$work/qmp" ] && [ $i -lt 600 ]; do
	sleep 0.1
	i=$((i + 1))
done
sleep "$run_s"
ask || { sed 's/^/# qemu: /' "$work/log"; kill $qemu; exit 1; }
if [ -x /mnt/bin/kvmstat ]; then
	kvmstat show --json --pid $qemu
fi
kill $qemu
wait $qemu
sed 's/^/# qemu: /' "$work/log"
rm -rf "$work"
