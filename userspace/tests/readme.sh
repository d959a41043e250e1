#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# usage: readme.sh BUILD-DIR - the commands of README.md's section "On a host", run as
# they stand there, with real VMs; as root, in namespaces of its own

here=$(cd "$(dirname "$0")" && pwd)
build=$(cd "$1" && pwd)
top=$(dirname "$(dirname "$here")")
if [ "${2-}" != isolated ]; then
	exec unshare --mount --net --pid --fork --kill-child --mount-proc \
		"$0" "$build" isolated
fi
. "$here/tap.sh"
export LIMIT_S=${LIMIT_S:-150}
PATH=$build/kvmstat:$build/kvmstatd:$build/discover:$PATH

# shellcheck disable=SC2016
section()
{
	sed -n '/^## On a host/,/^## Two commands/p' "$top/README.md" |
		sed -n '/^```sh/,/^```/{/^```/!p}'
}

# command START: the line that begins so
command_of()
{
	section | grep -F -m 1 -- "$1" ||
		{ echo "README.md has no command \"$1\""; return 1; }
}

# run START [EDIT...]: with each EDIT of sed
run()
{
	local line=

	line=$(command_of "$1") || return 1
	shift
	for edit; do
		line=$(sed "$edit" <<<"$line")
	done
	echo "$line"
	eval "$line"
}

repeat()
{
	local end=$((SECONDS + LIMIT_S))

	until "$@"; do
		[ $SECONDS -lt $end ] || return 1
		sleep 0.2
	done
}

own_place()
{
	mount -t tmpfs none /run && ip link set lo up && cd "$tap_dir" &&
		mkdir userspace && ln -s "$top/userspace/demo" userspace/demo
}

installed()
{
	run "make -C userspace install" "s|userspace|$here/.. O=$build DESTDIR=$tap_dir/root|" &&
		[ -x "$tap_dir/root/usr/local/bin/kvmstatd" ]
}

# scraped VM
scraped()
{
	run "curl " "s/curl/& -q --noproxy '*'/; s/web01/$1/" >"$tap_dir/scraped" &&
		grep -q "^kvm_vcpu_exits_total{vm=\"$1\"" "$tap_dir/scraped"
}

# Of a VMM that holds its descriptors: any other is found with the series only. That
# of web01 is found, too, and the agent tells why that changes nothing.
discovered()
{
	"$build/demo/demo-vmm" --name found01 --seconds 600 &
	run "kvmstatd-discover" && repeat scraped found01 &&
		repeat grep -q 'is not shown: its VMM, or another helper, has registered it' "$tap_dir/agent"
}

shown()
{
	run "kvmstat top" >"$tap_dir/shown"
	cat "$tap_dir/shown"
	grep -q '^web01 ' "$tap_dir/shown"
}

recorded()
{
	run "kvmstat record" "s/--duration 180/--interval 0.2 --duration 3/" &&
		grep -q ',exits,' vms.csv
}

# A line in each plot; the last one is left out if no vCPU was halted.
plotted()
{
	run "gnuplot " "s|/usr/local|$tap_dir/root&|" && [ "$(grep -c '<title>web01</title>' vms.svg)" -ge 2 ]
}

disk_scraped()
{
	run "curl -s http://127.0.0.1:9976/metrics | grep kvm_block" \
		"s/curl/& -q --noproxy '*'/" >"$tap_dir/disk" &&
		grep -qx 'kvm_block_read_ios_total{vm="web01-disks",device="vda"} 1000' \
			"$tap_dir/disk"
}

# nbdkit goes into the background by itself.
disk_is_counted()
{
	run "nbdkit " "s|/usr/local/lib/nbdkit/filters|$build/nbdkit|" &&
		run "qemu-img bench" && repeat disk_scraped
}

# Of which README tells in its tables
files_exist()
{
	sed -n '/^## On a host/,/^## Two commands/p' "$top/README.md" >"$tap_dir/section"
	[ "$(grep -c kvmstats_sender_ "$tap_dir/section")" -ge 1 ] || return 1
	grep -oE 'kvmstats_sender_\w+' "$tap_dir/section" | while read -r name; do
		grep -q "^int $name(" "$top/userspace/include/kvmstats.h" || exit 1
	done
}

check "a place of its own" own_place
check "install" installed
check "the agent starts, without options" run "kvmstatd &" "s|kvmstatd|& 2>$tap_dir/agent|"
check "a VM is started and registered" run "kvmstat run --agent"
check "it is scraped" repeat scraped web01
check "another is discovered" discovered
check "top shows it" repeat shown
check "it is recorded" recorded
check "the record is plotted" plotted
check "a disk is accounted for" disk_is_counted
check "functions that are named exist" files_exist
tap_done
