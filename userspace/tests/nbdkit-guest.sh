#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# usage: nbdkit-guest.sh BUILD-DIR ROOT [ACCELERATOR] - a QEMU guest on a disk behind
# the filter: what its own kernel has counted in /sys/block is what kvmstatd exports.
# The kernel and a static busybox are those that scripts/fetch-guest put into ROOT.

here=$(cd "$(dirname "$0")" && pwd)
build=$(cd "$1" && pwd)
root=$(cd "$2" && pwd) || exit
accelerator=${3:-tcg}
filter=$build/nbdkit/nbdkit-kvmstats-filter.so
. "$here/tap.sh"

# In this order
modules="virtio/virtio_ring virtio/virtio virtio/virtio_pci_legacy_dev
virtio/virtio_pci_modern_dev virtio/virtio_pci block/virtio_blk"
kernel=$(echo "$root"/boot/vmlinuz-*)
drivers=$root/lib/modules/${kernel##*/vmlinuz-}/kernel/drivers

# A load of which every request goes to the disk as it is, and then its own count.
make_initrd()
{
	local dir=$tap_dir/initrd module

	mkdir -p "$dir"/{bin,dev,proc,sys} || return
	cp "$root/bin/busybox" "$dir/bin/busybox" || return
	for module in $modules; do
		cp "$drivers/$module.ko" "$dir/${module##*/}.ko" || return
	done
	cat >"$dir/init" <<-'END'
		#!/bin/busybox sh
		export PATH=/bin
		/bin/busybox --install -s /bin
		mount -t devtmpfs dev /dev
		mount -t proc proc /proc
		mount -t sysfs sys /sys
		for module in virtio_ring virtio virtio_pci_legacy_dev \
			virtio_pci_modern_dev virtio_pci virtio_blk; do
			insmod /$module.ko
		done
		dd if=/dev/zero of=/dev/vda bs=4k count=300 oflag=direct 2>/dev/null
		dd if=/dev/zero of=/dev/vda bs=64k count=40 seek=50 oflag=direct 2>/dev/null
		dd if=/dev/vda of=/dev/null bs=8k count=500 iflag=direct 2>/dev/null
		for i in 1 2 3 4 5; do
			dd if=/dev/zero of=/dev/vda bs=512 count=1 seek=$i conv=fsync 2>/dev/null
		done
		blkdiscard -o 1M -l 2M /dev/vda
		echo "stat: $(cat /sys/block/vda/stat)"
		poweroff -f
	END
	chmod +x "$dir/init"
	(cd "$dir" && find . | cpio -o -H newc 2>/dev/null) >"$tap_dir/initrd.cpio"
}

# nbdkit is there until the agent has been asked
run_guest()
{
	local status=0

	make_initrd || return
	truncate -s 64M "$tap_dir/disk.img"
	"$build/kvmstatd/kvmstatd" --socket "$tap_dir/socket" \
		--listen "unix:$tap_dir/http" 2>"$tap_dir/agent.err" &
	agent=$!
	# a geometry, or QEMU reads the disk to guess one
	timeout 280 nbdkit -U - --filter="$filter" file "$tap_dir/disk.img" \
		kvmstats-vm=guest kvmstats-socket="$tap_dir/socket" --run "
		qemu-system-x86_64 -accel $accelerator -m 256 -nodefaults \
		-display none -no-reboot -kernel '$kernel' \
		-initrd '$tap_dir/initrd.cpio' -append 'console=ttyS0 quiet panic=-1' \
		-serial 'file:$tap_dir/console' \
		-drive \"if=none,id=d,format=raw,cache=none,discard=unmap,file=\$uri\" \
		-device virtio-blk-pci,drive=d,cyls=128,heads=16,secs=63 &&
		sleep 1 && curl -q -sS --noproxy '*' --unix-socket '$tap_dir/http' \
		-o '$tap_dir/metrics' http://localhost/metrics" || status=$?
	kill $agent
	wait $agent
	if [ $status != 0 ] || ! grep -q '^stat: ' "$tap_dir/console"; then
		echo "status $status"
		tail -n 20 "$tap_dir/console" "$tap_dir/agent.err"
		return 1
	fi
}

# Reads, writes and discards to the last one and byte, but for what is known: the
# firmware may have read one sector before the kernel was there; the kernel counts
# a flush as a write of nothing, too; QEMU flushes for itself, when it ends.
counts_are_the_guests()
{
	python3 - "$tap_dir/console" "$tap_dir/metrics" <<'END'
import re, sys
text = open(sys.argv[1], errors="replace").read()
guest = list(map(int, re.search(r"stat: +([\d ]+)", text)[1].split()))
metrics = open(sys.argv[2]).read()
ours = {name: float(value) for name, value in re.findall(
    r'^kvm_block_(\w+)_total\{vm="guest",device="[^"]+"\} (\S+)$', metrics, re.M)}
firmware = ours["read_ios"] - guest[0]
assert firmware in (0, 1), (ours, guest)
guest[0] += firmware
guest[2] += firmware
guest[4] -= guest[15]
for op, at in ("read", 0), ("write", 4), ("discard", 11):
    assert guest[at], (op, guest)
    assert ours[op + "_ios"] == guest[at], (op, ours, guest)
    assert ours[op + "_bytes"] == 512 * guest[at + 2], (op, ours, guest)
    assert ours[op + "_failed"] == 0, ours
    # in ms: what the guest waits is more than what the backend takes
    assert ours[op + "_time_seconds"] * 1e3 <= guest[at + 3] + guest[at], (op, ours, guest)
assert guest[15] >= 5 and guest[15] <= ours["flush_ios"] <= guest[15] + 2, (ours, guest)
print(guest, {k: v for k, v in ours.items() if k.endswith(("_ios", "_bytes"))})
END
}

check "a guest runs a known load" run_guest
check "its own count is what the agent exports" counts_are_the_guests
tap_done
