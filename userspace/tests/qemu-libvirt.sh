#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# shellcheck disable=SC2016 # back ticks of the page
# usage: qemu-libvirt.sh BUILD-DIR QEMU - what docs/deploy.md says of libvirt and QEMU's
# object, with a real libvirt: the arguments, and a connection that is passed

here=$(cd "$(dirname "$0")" && pwd)
build=$(cd "$1" && pwd)
qemu=$(readlink -f "$2")
page=$here/../../docs/deploy.md
. "$here/tap.sh"
. "$here/libvirt.sh"
socket=/run/kvmstatd/register.sock

if [ "${3-}" != inside ]; then
	# libvirt wants cgroups, systemd and a /run of its own
	exec "$here/with-systemd" "$here/qemu-libvirt.sh" "$build" "$qemu" inside
fi

wait_until()
{
	local end=$((SECONDS + 60))

	while ! "$@"; do
		[ $SECONDS -lt $end ] || return 1
		sleep 0.1
	done
}

# start_agent OPTION...: what the VMs' user may do is up to the options
start_agent()
{
	systemctl stop kvmstatd-here 2>/dev/null
	install -d -m 755 /run/kvmstatd
	systemd-run -q --unit kvmstatd-here "$build/kvmstatd/kvmstatd" \
		--socket $socket --mode 0666 --listen 127.0.0.1:9976 "$@" &&
		wait_until test -S $socket
}

# start_domain < QEMU:COMMANDLINE: of what our QEMU has, and no more
start_domain()
{
	cat >/tmp/domain.xml <<-END
		<domain type='kvm' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>
		  <name>web01</name><uuid>2dd4b6b0-6d5c-4c0e-8f7e-0c9c4f4a9b11</uuid>
		  <memory unit='MiB'>64</memory><vcpu>2</vcpu>
		  <os><type arch='x86_64' machine='pc'>hvm</type></os>
		  <devices>
		    <emulator>$qemu</emulator>
		    <controller type='usb' model='none'/><memballoon model='none'/>
		  </devices>
		  <qemu:commandline>
		    $(cat)
		  </qemu:commandline>
		</domain>
	END
	virsh create /tmp/domain.xml
}

registered()
{
	curl -q -sS --max-time 20 http://127.0.0.1:9976/metrics >"$tap_dir/metrics" &&
		grep -q '^kvm_vm_info{vm="web01",name="web01",uuid="2dd4b6b0-.*pid="'"$(pid)"'".*registered_by="vmm"' \
			"$tap_dir/metrics" &&
		grep -q '^kvmstatd_descriptors 3$' "$tap_dir/metrics"
}

pid()
{
	cat /run/libvirt/qemu/web01.pid
}

is_connected()
{
	virsh qemu-monitor-command web01 '{"execute": "qom-get", "arguments":
		{"path": "/objects/stats", "property": "connected"}}' |
		grep -q '"return": *true'
}

by_arguments()
{
	start_agent --allow-uid libvirt-qemu || return 1
	sed -n '/^```xml$/,/^```$/{/^```/d;p}' "$page" >"$tap_dir/arguments"
	grep -q kvm-stats-export "$tap_dir/arguments" &&
		start_domain <"$tap_dir/arguments" || return 1
	wait_until registered && is_connected || return 1
	virsh destroy web01
}

# Its user may not register.
by_connection()
{
	start_agent || return 1
	start_domain </dev/null || return 1
	sed -n '/^```python$/,/^```$/{/^```/d;p}' "$page" >"$tap_dir/pass.py"
	VIRSH_DEFAULT_CONNECT_URI=qemu:///system python3 "$tap_dir/pass.py" &&
		wait_until registered && is_connected || return 1
	virsh destroy web01
}

check "libvirt begins" start_libvirt
check "the object in a domain" by_arguments
check "a connection that is passed" by_connection
tap_done
