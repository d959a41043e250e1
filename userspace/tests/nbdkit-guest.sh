#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# usage: nbdkit-guest.sh BUILD-DIR [ROOT] - a QEMU guest on a disk behind the filter:
# what its own kernel has counted in /sys/block is what is published. The kernel
# and a static busybox are those below ROOT (default: this machine's).

here=$(cd "$(dirname "$0")" && pwd)
build=$(cd "$1" && pwd)
root=${2:-}
filter=$build/nbdkit/nbdkit-kvmstats-filter.so
kvmstat=$build/kvmstat/kvmstat
. "$here/tap.sh"

# The last that has what is needed, and its modules in order.
modules="virtio/virtio_ring virtio/virtio virtio/virtio_pci_legacy_dev
virtio/virtio_pci_modern_dev virtio/virtio_pci block/virtio_blk"

find_kernel()
{
	local image

	for image in "$root"/boot/vmlinuz-*; do
		drivers=$root/lib/modules/${image##*/vmlinuz-}/kernel/drivers
		[ -r "$image" ] && [ -e "$drivers/block/virtio_blk.ko" ] &&
			kernel=$image
	done
	drivers=$root/lib/modules/${kernel##*/vmlinuz-}/kernel/drivers
	busybox=$root/bin/busybox
	[ -n "$kernel" ] && [ -x "$busybox" ] &&
		! readelf -d "$busybox" | grep -q NEEDED
}

# A load of which every request goes to the disk as it is, and then its own count.
make_initrd()
{
	local dir=$tap_dir/initrd module

	mkdir -p "$dir"/{bin,dev,proc,sys} || return
	cp "$busybox" "$dir/bin/busybox"
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
		sleep 3
		poweroff -f
	END
	chmod +x "$dir/init"
	(cd "$dir" && find . | cpio -o -H newc 2>/dev/null) >"$tap_dir/initrd.cpio"
}

run_guest()
{
	local recorder status=0

	make_initrd || return
	truncate -s 64M "$tap_dir/disk.img"
	"$kvmstat" record --json --interval 0.2 --socket "$tap_dir/socket" \
		>"$tap_dir/samples" 2>/dev/null &
	recorder=$!
	until [ -S "$tap_dir/socket" ]; do
		sleep 0.02
	done
	# a geometry, or QEMU reads the disk to guess one
	timeout 110 nbdkit -U - --filter="$filter" file "$tap_dir/disk.img" \
		kvmstats-vm=guest kvmstats-socket="$tap_dir/socket" --run "
		qemu-system-x86_64 -accel tcg -m 256 -nodefaults \
		-display none -no-reboot -kernel '$kernel' \
		-initrd '$tap_dir/initrd.cpio' -append 'console=ttyS0 quiet panic=-1' \
		-serial 'file:$tap_dir/console' \
		-drive \"if=none,id=d,format=raw,cache=none,discard=unmap,file=\$uri\" \
		-device virtio-blk-pci,drive=d,cyls=128,heads=16,secs=63" || status=$?
	kill $recorder
	wait $recorder
	if [ $status != 0 ] || ! grep -q '^stat: ' "$tap_dir/console"; then
		tail -n 20 "$tap_dir/console"
		return 1
	fi
}

# Reads, writes and discards to the last one and byte, but for what is known: the
# firmware may have read one sector before the kernel was there; the kernel counts
# a flush as a write of nothing, too; QEMU flushes for itself, when it ends.
counts_are_the_guests()
{
	python3 - "$tap_dir/console" "$tap_dir/samples" <<'END'
import json, re, sys
text = open(sys.argv[1], errors="replace").read()
guest = list(map(int, re.search(r"stat: +([\d ]+)", text)[1].split()))
last = None
for line in open(sys.argv[2]):
    event = json.loads(line)
    if event["event"] == "sample":
        last = {s["name"]: s["values"][0] for s in event["sources"][0]["stats"]}
firmware = last["read_ios"] - guest[0]
assert firmware in (0, 1), (last, guest)
guest[0] += firmware
guest[2] += firmware
guest[4] -= guest[15]
for op, at in ("read", 0), ("write", 4), ("discard", 11):
    assert guest[at], (op, guest)
    assert last[op + "_ios"] == guest[at], (op, last, guest)
    assert last[op + "_bytes"] == 512 * guest[at + 2], (op, last, guest)
    assert last[op + "_failed"] == 0, last
    # in ms: what the guest waits is more than what the backend takes
    assert last[op + "_time_ns"] / 1e6 <= guest[at + 3] + guest[at], (op, last, guest)
assert guest[15] >= 5 and guest[15] <= last["flush_ios"] <= guest[15] + 2, (last, guest)
print(guest, {k: v for k, v in last.items() if k.endswith(("_ios", "_bytes"))})
END
}

kernel=
if find_kernel; then
	check "a guest runs a known load" run_guest
	check "its own count is what is published" counts_are_the_guests
else
	skip "a guest on a disk behind the filter" \
		"no kernel with virtio_blk.ko below $root/boot, or no static busybox"
fi
tap_done
