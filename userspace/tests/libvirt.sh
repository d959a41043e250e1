# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash
# For suites that run in with-systemd and have wait_until: a libvirtd that starts
# QEMU as another user. There is no network, and no cgroup is needed.

virsh()
{
	command virsh -q -c qemu:///system "$@"
}

add_libvirt_user()
{
	getent group kvm >/dev/null || groupadd --system kvm || return 1
	id libvirt-qemu >/dev/null 2>&1 ||
		useradd --system --no-create-home libvirt-qemu
}

start_libvirt()
{
	add_libvirt_user && chgrp kvm /dev/kvm && chmod 660 /dev/kvm || return 1
	cat >/etc/libvirt/qemu.conf <<-END
		user = "libvirt-qemu"
		group = "kvm"
		security_driver = "none"
		cgroup_controllers = [ ]
		stdio_handler = "file"
	END
	: >/tmp/libvirtd.conf
	systemd-run -q --unit libvirtd libvirtd --config /tmp/libvirtd.conf
	wait_until virsh list 2>/dev/null
}
