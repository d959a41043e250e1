# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash disable=SC2154,SC2034
# Sourced by boot for MACHINE=bochs: an emulated Intel CPU with VMX, EPT and
# page-modification logging, which QEMU's emulation does not have. One CPU, no
# virtio: kernel and initramfs come from a CD image, the channels are serial
# ports. About five times slower than QEMU.

bochs_share=/usr/share/bochs
isolinux=/usr/lib/ISOLINUX/isolinux.bin
ldlinux=/usr/lib/syslinux/modules/bios/ldlinux.c32

bochs_needs() {
	local file

	for file in "$bochs_share/BIOS-bochs-latest" "$isolinux" "$ldlinux"; do
		[ -e "$file" ] || die "$file: missing; run: make packages"
	done
	[ "$arch" = x86_64 ] || die "MACHINE=bochs: only x86_64"
	[ "${ROOT-}${NPT-}${ICOUNT-}/${ACCEL:-tcg}" = /tcg ] ||
		die "MACHINE=bochs: without ROOT, NPT, ICOUNT, ACCEL"
}

# noxsave: the sizes of the emulated CPU's extended state do not add up, which
# the kernel warns of. clocksource, tsc: CPUID says that the TSC counts 3.5 GHz,
# but it counts instructions, so that an alarm after ten seconds would come
# after an hour; the HPET counts the emulated machine's time.
bochs_arguments() {
	kernel_arguments | tr '\n' ' '
	echo "kvmstats.verdict=/dev/ttyS1 kvmstats.output=/dev/ttyS2" \
		"kvmstats.end=poweroff noxsave clocksource=hpet tsc=unstable"
}

# What is in the initramfs has to be loaded and unpacked by the emulated CPU:
# the programs that the tests name, without symbols. From there to a directory.
bochs_kselftest() { # FROM TO
	local file name

	mkdir -p "$2/kvm"
	cp -a "$1/kselftest" "$1/kselftest-list.txt" "$1/run_kselftest.sh" "$2"
	for file in "$1"/kvm/*; do
		name=${file##*/}
		if [ ! -x "$file" ]; then
			cp -a "$file" "$2/kvm/"
		elif grep -qw -e "$name" "$dir/tests"; then
			strip -o "$2/kvm/$name" "$file"
		fi
	done
	echo "$2"
}

bochs_cd() {
	local cd=$dir/cd

	mkdir -p "$cd/isolinux"
	cp -L "$image" "$cd/isolinux/linux"
	gzip -1 <"$dir/initramfs" >"$cd/isolinux/initrd"
	cp "$isolinux" "$ldlinux" "$cd/isolinux/"
	cat >"$cd/isolinux/isolinux.cfg" <<-END
	DEFAULT linux
	PROMPT 0
	LABEL linux
	KERNEL linux
	APPEND initrd=initrd $(bochs_arguments)
	END
	xorriso -as mkisofs -quiet -o "$dir/cd.iso" -b isolinux/isolinux.bin \
		-c isolinux/boot.cat -no-emul-boot -boot-load-size 4 \
		-boot-info-table "$cd" 2>"$dir/xorriso.log" ||
		die "the CD image: see $dir/xorriso.log"
	rm -rf "$cd"
}

# Logging anything but what ends it can stop Bochs for good.
bochs_settings() {
	cat <<-END
	cpu: model=corei7_skylake_x, count=1, ips=50000000, reset_on_triple_fault=0, ignore_bad_msrs=1
	memory: guest=2048, host=2048
	display_library: rfb, options="timeout=0"
	plugin_ctrl: unmapped=true, biosdev=true, speaker=false, extfpuirq=true, parallel=false, serial=true, gameport=false
	romimage: file=$bochs_share/BIOS-bochs-latest
	vgaromimage: file=$bochs_share/VGABIOS-lgpl-latest
	ata0-master: type=cdrom, path="$dir/cd.iso", status=inserted
	boot: cdrom
	clock: sync=none, time0=utc
	com1: enabled=1, mode=file, dev="$dir/console.log"
	com2: enabled=1, mode=file, dev="$dir/verdict.log"
	com3: enabled=1, mode=file, dev="$dir/output.log"
	pci: enabled=1, chipset=i440fx
	log: "$dir/bochs.log"
	panic: action=fatal
	error: action=ignore
	info: action=ignore
	debug: action=ignore
	END
}

# The package has Bochs' debugger built in, which waits for a command. The exit
# status is 1 after a power-off: only the verdict counts.
bochs_command() {
	bochs_needs
	bochs_cd
	bochs_settings >"$dir/bochsrc"
	echo c >"$dir/bochs.commands"
	command=(bochs -q -f "$dir/bochsrc" -rc "$dir/bochs.commands")
}
