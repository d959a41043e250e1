#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# usage: units.sh BUILD-DIR - the files for systemd, libvirt and AppArmor

here=$(dirname "$0")
build=$1
. "$here/tap.sh"
root=$tap_dir/root
units=$root/usr/lib/systemd/system
examples=$root/usr/share/kvmstatd
exposure_max=2.0

# systemd looks at the programs by the paths in the units.
install_there()
{
	make -C "$here/.." O="$build" DESTDIR="$root" PREFIX=/usr \
		BINDIR="$root/bin" install &&
		ln -s "$root$root/bin" "$root/bin" && [ -x "$root/bin/kvmstatd" ]
}

verified()
{
	systemd-analyze verify --man=no "$units/kvmstatd.service" \
		"$units/kvmstatd-discover.service" "$units/kvmstatd.socket" \
		"$units/kvmstatd-http.socket" >"$tap_dir/verify" 2>&1
	status=$?
	cat "$tap_dir/verify"
	# a warning is no error to it, but one to us
	[ $status = 0 ] && [ ! -s "$tap_dir/verify" ]
}

# As it is installed, and with all that is a comment: it is read by the program that
# stops at an address that cannot be had.
configuration()
{
	local conf=$root/etc/kvmstats/kvmstatd.conf

	sed -E 's/^helper-uid = .*/helper-uid = 0/' "$conf" >"$tap_dir/conf"
	sed -E 's/^#(exclude)/\1/; s/^#(allow-uid = ).*/\10/' "$tap_dir/conf" >"$tap_dir/all"
	for conf in "$tap_dir/conf" "$tap_dir/all"; do
		status_is 1 "$build/kvmstatd/kvmstatd" --config "$conf" \
			--socket "$tap_dir/socket" --listen 192.0.2.1:1 || return 1
	done
	# what an administrator wrote stays
	echo 'max-vms = 5' >"$root/etc/kvmstats/kvmstatd.conf"
	make -s -C "$here/.." O="$build" DESTDIR="$root" PREFIX=/usr \
		BINDIR="$root/bin" install-agent >/dev/null &&
		[ "$(cat "$root/etc/kvmstats/kvmstatd.conf")" = 'max-vms = 5' ]
}

# exposed UNIT: no more than the limit
exposed()
{
	systemd-analyze security --offline=true --threshold=100 --no-pager \
		"$units/$1" >"$tap_dir/security" || return 1
	grep '✗' "$tap_dir/security"
	tail -n 1 "$tap_dir/security"
	systemd-analyze security --offline=true --no-pager \
		--threshold="$(tr -d . <<<"$exposure_max")" "$units/$1" >/dev/null
}

users()
{
	mkdir -p "$root/etc" &&
		systemd-sysusers --root="$root" \
		"$root/usr/lib/sysusers.d/kvmstatd.conf" &&
		cut -d: -f1,7 "$root/etc/passwd" &&
		grep -q '^kvmstatd:.*:/usr/sbin/nologin$' "$root/etc/passwd" &&
		grep -q '^kvmstatd-discover:' "$root/etc/passwd" &&
		grep -q '^kvm:' "$root/etc/group"
}

# Who is named in a unit is made by the other file.
users_are_the_same()
{
	sed -n 's/^User=//p; s/^helper-uid = //p' "$units"/*.service \
		"$here/../kvmstatd/units/kvmstatd.conf" | sort -u >"$tap_dir/users"
	[ "$(wc -l <"$tap_dir/users")" = 2 ] &&
		sed -n 's/^u \([^ ]*\) .*/\1/p' \
		"$root/usr/lib/sysusers.d/kvmstatd.conf" | sort |
		diff - "$tap_dir/users"
}

# members UNIT PATTERN: the system calls of its lines SystemCallFilter=PATTERN
members()
{
	local name

	sed -nE "s/^SystemCallFilter=$2/\\1/p" "$1" | tr ' ' '\n' |
	while read -r name; do
		case $name in
		@*) expand "$name" ;;
		*) echo "$name" ;;
		esac
	done | sort -u
}

# As systemd puts it together: groups, without groups, and single calls again.
allowed_calls()
{
	comm -23 <(members "$1" '(@.*)') <(members "$1" '~(.*)')
	members "$1" '([^~@].*)'
	# these need no permission
	expand @default
}

expand()
{
	local name

	for name in $(systemd-analyze syscall-filter --no-pager "$1" |
		sed -n 's/^    \([@a-z_0-9-]*\)$/\1/p'); do
		case $name in
		@*) expand "$name" ;;
		*) echo "$name" ;;
		esac
	done
}

# calls_allowed UNIT TRACE
calls_allowed()
{
	allowed_calls "$units/$1" | sort -u >"$tap_dir/allowed"
	[ "$(wc -l <"$tap_dir/allowed")" -gt 100 ] || return 1
	sed -nE 's/^[0-9]+ +([a-z_0-9]+)\(.*/\1/p' "$2" | sort -u \
		>"$tap_dir/made"
	[ "$(wc -l <"$tap_dir/made")" -gt 10 ] || return 1
	# the shell's, before it is the program: execve is systemd's own
	comm -13 "$tap_dir/allowed" "$tap_dir/made" | grep -vx execve \
		>"$tap_dir/more"
	cat "$tap_dir/more"
	[ ! -s "$tap_dir/more" ]
}

traced()
{
	strace -f -qq -o "$tap_dir/trace-$1" "$root/bin/$1" "${@:2}" \
		>"$tap_dir/out-$1" 2>&1 &
}

# Both programs at work with a VM, if there is a /dev/kvm: nothing that they
# call may be forbidden by their own units.
work_under_trace()
{
	local end=$((SECONDS + 300))

	traced kvmstatd --socket "$tap_dir/socket" --listen 127.0.0.1:0
	until [ -S "$tap_dir/socket" ] || [ $SECONDS -ge $end ]; do
		sleep 0.1
	done
	[ ! -w /dev/kvm ] || "$build/demo/demo-vmm" --seconds 4 &
	traced kvmstatd-discover --socket "$tap_dir/socket" --interval 0.5
	sleep 3
	# shellcheck disable=SC2046 # several
	kill $(pgrep -f -x "$root/bin/kvmstatd.*--socket $tap_dir/socket.*")
	wait
	cat "$tap_dir"/out-*
	[ -s "$tap_dir/trace-kvmstatd" ] && [ -s "$tap_dir/trace-kvmstatd-discover" ]
}

# The part stands in a profile as libvirt's abstraction includes it.
apparmor()
{
	{
		echo 'abi <abi/3.0>,'
		echo 'include <tunables/global>'
		echo 'profile kvmstats-test {'
		cat "$examples/apparmor-libvirt-qemu"
		echo '}'
	} >"$tap_dir/profile"
	apparmor_parser -Q -K "$tap_dir/profile"
}

# The rules are about the paths that are really used.
apparmor_paths()
{
	grep -q ' /{,var/}run/kvmstatd/register.sock rw,' \
		"$examples/apparmor-libvirt-qemu" &&
		grep -qx 'ListenSequentialPacket=/run/kvmstatd/register.sock' \
		"$units/kvmstatd.socket"
}

domain()
{
	python3 - "$examples/libvirt-domain.xml" <<'END'
import sys, xml.etree.ElementTree as tree
ns = "{http://libvirt.org/schemas/domain/qemu/1.0}"
env = {e.get("name"): e.get("value")
       for e in tree.parse(sys.argv[1]).iter(ns + "env")}
assert env["LD_PRELOAD"].endswith("/libkvmstats-preload.so"), env
assert env["KVMSTATS_SOCKET"] == "/run/kvmstatd/register.sock", env
END
}

check "they are installed" install_there
check "systemd finds nothing wrong" verified
for unit in kvmstatd kvmstatd-discover; do
	check "$unit: exposure is at most $exposure_max" exposed $unit.service
done
check "system users" users
check "the units' users are these" users_are_the_same
if [ "$(id -u)" = 0 ] && [ -x "$build/kvmstatd/kvmstatd" ]; then
	check "both programs at work" work_under_trace
	for unit in kvmstatd kvmstatd-discover; do
		check "$unit: the unit allows all its system calls" \
			calls_allowed $unit.service "$tap_dir/trace-$unit"
	done
fi
check "AppArmor takes the example" apparmor
check "its paths are the units'" apparmor_paths
check "the libvirt domain" domain
check "the configuration" configuration
tap_done
