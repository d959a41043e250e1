# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash disable=SC2154,SC2034
# Sourced by boot: the initramfs, QEMU's command line, the running machine.

parts_needed() { # base, and each tag of a chosen test that names a part
	local tag

	echo base
	[ ! -f "$harness/parts/config-$config.list" ] || echo "config-$config"
	[ -z "${shell-yes}" ] || echo shell
	awk '{ print $3 }' "$dir/tests" | tr , '\n' | sort -u | while read -r tag; do
		[ ! -f "$harness/parts/$tag.list" ] || echo "$tag"
	done
}

kselftest_dir() { # base kernels run the base tree's selftests
	case $config in
	base-*) echo "$build/kselftest/$arch/base" ;;
	*) echo "$build/kselftest/$arch/series" ;;
	esac
}

build_initramfs() {
	local part log=$build/log/harness-$arch.log

	mkdir -p "$build/log" "$build/harness/$arch"
	(
		flock 8
		make -s -C "$harness" ARCH="$arch" O="$build/harness/$arch" all
	) 8>"$build/harness/$arch.lock" >"$log" 2>&1 || {
		tail -n 20 "$log" | sed 's/^/    | /' >&2
		die "programs for the guest: see $log"
	}
	export arch config build harness
	guest=$build/harness/$arch
	kselftest=$(kselftest_dir)
	if [ "${MACHINE-}" = bochs ]; then
		kselftest=$(bochs_kselftest "$kselftest" "$dir/kselftest")
	fi
	userspace=$build/userspace/$arch
	export guest kselftest userspace
	: >"$dir/initramfs"
	for part in $(parts_needed); do
		"$harness/mkinitramfs" "$harness/parts/$part.list" "$dir/part"
		cat "$dir/part" >>"$dir/initramfs"
	done
	echo "file /etc/kvmstats/tests 0644 $dir/tests" >"$dir/own.list"
	"$harness/mkinitramfs" "$dir/own.list" "$dir/part"
	cat "$dir/part" >>"$dir/initramfs"
	rm -rf "$dir/part" "$dir/own.list" "$dir/kselftest"
}

kernel_arguments() {
	# init=: if /init cannot run, panic rather than start a shell
	echo "console=$console panic=-1 oops=panic log_buf_len=4M init=/init" \
		"kvmstats.nonce=$nonce ${kernel_args-}"
	[ -z "${NPT-}" ] || echo "${npt_parameter:?}=$NPT"
	# The first finding ends the boot; nothing is poisoned unless asked for
	[[ $config != *debug ]] || echo "panic_on_warn=1 page_poison=1"
	# ACPI's interrupt routing takes that kernel more than ACPI's time limit
	[[ $arch-$config != x86_64-*debug ]] || echo "pci=noacpi"
	[ "${ROOT-}" != host ] || echo "kvmstats.root=host"
	[ ! -f "$harness/parts/config-$config.list" ] || echo "rdinit=/load-modules"
	[ -z "${APPEND-}" ] || echo "${APPEND//+/ }"
}

qemu_command() {
	local cpus=${SMP:-${cpus_default:-2}}

	command=("$qemu" "${machine[@]}")
	[ "${defaults-}" = yes ] || command+=(-nodefaults)
	case ${ACCEL:-tcg}${ICOUNT:+-icount} in
	tcg) command+=("${emulated[@]}") ;;
	tcg-single) command+=("${emulated[@]/thread=multi/thread=single}") ;;
	tcg-icount)
		cpus=1
		command+=("${emulated[@]/thread=multi/thread=single}"
			-icount "shift=0,sleep=off") ;;
	kvm) command+=("${native[@]}") ;;
	*) die "ACCEL=$ACCEL${ICOUNT:+ ICOUNT=$ICOUNT}: tcg, tcg-single or kvm, ICOUNT with tcg" ;;
	esac
	command+=(-smp "$cpus" -m "${MEM:-${mem_default:-2G}}" -display none
		-no-reboot -serial stdio -kernel "$image"
		-initrd "$dir/initramfs" -append "$(kernel_arguments | tr '\n' ' ')"
		-chardev "file,id=verdict,path=$dir/verdict.log"
		-chardev "file,id=output,path=$dir/output.log")
	if [ -n "$virtio" ]; then
		command+=(-device "virtio-serial-$virtio"
			-device "virtserialport,chardev=verdict,nr=1,name=kvmstats.verdict"
			-device "virtserialport,chardev=output,nr=2,name=kvmstats.output")
	else
		command+=(-serial chardev:verdict -serial chardev:output)
	fi
	[ "${ROOT-}" != host ] || command+=(
		-fsdev "local,id=root,path=/,security_model=none,readonly=on,multidevs=remap"
		-device "virtio-9p-$virtio,fsdev=root,mount_tag=root"
		-fsdev "local,id=top,path=${top//,/,,},security_model=none,readonly=on,multidevs=remap"
		-device "virtio-9p-$virtio,fsdev=top,mount_tag=top")
	# shellcheck disable=SC2206
	command+=(${QEMU_EXTRA-})
}

stamp() { # host time in front of each console line
	local line

	while IFS= read -r line || [ -n "$line" ]; do
		printf '%(%H:%M:%S)T %s\n' -1 "${line%$'\r'}"
	done
}

progress() { # one line for each finished test
	local word name outcome ms reason total count=0

	total=$(wc -l <"$dir/tests")
	tail -n +1 -s 0.2 -f "$dir/verdict.log" --pid="$1" 2>/dev/null |
	while read -r _ word name outcome ms reason; do
		[ "$word" = test ] || continue
		count=$((count + 1))
		printf '[%s %d/%d] %-7s %s (%d.%d s)%s\n' "${dir##*/}" "$count" \
			"$total" "$outcome" "$name" $((ms / 1000)) \
			$((ms % 1000 / 100)) "${reason:+: $reason}"
	done
}

show_output() {
	tail -n +1 -s 0.2 -f "$dir/output.log" --pid="$1" 2>/dev/null |
		stdbuf -oL cut -f2-
}

# qemu_status: QEMU's own exit status, 124 if the time limit ended it
run_machine() {
	local command pid stamped=$dir/console.log

	: >"$dir/verdict.log"
	: >"$dir/output.log"
	[[ " qemu bochs ${machines-} " == *" ${MACHINE:-qemu} "* ]] ||
		die "MACHINE=$MACHINE: for $arch one of: ${machines-qemu bochs}"
	case ${MACHINE-} in
	bochs)
		bochs_command
		# It writes the console's log by itself; this is its own talk.
		stamped=$dir/bochs.out
		;;
	*) qemu_command ;;
	esac
	printf '%q ' "${command[@]}" >"$dir/command"
	echo "boot ${dir##*/}: $(wc -l <"$dir/tests") tests, limit $limit_s s," \
		"log $dir/console.log"
	timeout -k 5 "$limit_s" "${command[@]}" </dev/null 2>"$dir/qemu.log" \
		> >(stamp >"$stamped") &
	pid=$!
	# The machine ends with the boot, and with it what reads its output.
	trap 'kill "$pid"; exit 143' TERM INT HUP
	progress "$pid" &
	[ -z "${SHOW-}" ] || show_output "$pid" &
	qemu_status=0
	wait "$pid" || qemu_status=$?
	wait
	trap - TERM INT HUP
	if [ "${MACHINE-}" = bochs ] && [ "$qemu_status" = 1 ]; then
		qemu_status=0
	fi
}

split_output() { # output.log: "test<TAB>line"
	local name

	while read -r name _; do
		mkdir -p "$dir/output/$(dirname "$name")"
		awk -F '\t' -v name="$name" \
			'$1 == name { print substr($0, length(name) + 2) }' \
			"$dir/output.log" >"$dir/output/$name"
	done <"$dir/tests"
}
