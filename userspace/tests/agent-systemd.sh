#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# usage: agent-systemd.sh BUILD-DIR - kvmstatd with what systemd gives it:
# sockets by its own systemd-socket-activate, notifications and the store of
# descriptors by a stand-in that speaks the protocol, as no systemd runs here

here=$(dirname "$0")
build=$1
. "$here/tap.sh"

free_port()
{
	python3 -c '
import socket
s = socket.socket()
s.bind(("127.0.0.1", 0))
print(s.getsockname()[1])'
}

get()
{
	curl -q -sS --noproxy '*' --max-time 20 --retry 50 --retry-delay 0 \
		--retry-max-time 20 --retry-connrefused "$@"
}

http_socket()
{
	local port status

	port=$(free_port)
	systemd-socket-activate -l "127.0.0.1:$port" \
		"$build/kvmstatd/kvmstatd" --listen 192.0.2.1:1 \
		--socket "$tap_dir/one" 2>"$tap_dir/err" &
	activate=$!
	status=$(get "http://127.0.0.1:$port/healthz")
	kill $activate
	wait $activate || return 1
	cat "$tap_dir/err"
	[ "$status" = ok ] && [ ! -e "$tap_dir/one" ]
}

# The name of a socket that is not ours stays.
registration_socket()
{
	local port

	port=$(free_port)
	systemd-socket-activate --seqpacket -l "$tap_dir/two" \
		"$build/kvmstatd/kvmstatd" --listen "127.0.0.1:$port" \
		--socket /nonexistent/socket 2>"$tap_dir/err" &
	activate=$!
	while ! [ -S "$tap_dir/two" ]; do
		kill -0 $activate || return 1
		sleep 0.05
	done
	"$build/demo/demo-vmm" --seconds 36000 --name activated \
		--socket "$tap_dir/two" 2>"$tap_dir/vmm" &
	vmm=$!
	for _ in $(seq 200); do
		get "http://127.0.0.1:$port/metrics" >"$tap_dir/metrics"
		! grep -q '^kvm_vm_info{vm="activated"' "$tap_dir/metrics" || break
		sleep 0.05
	done
	kill -9 $vmm
	wait $vmm 2>/dev/null
	kill $activate
	wait $activate || return 1
	cat "$tap_dir/err"
	grep -q '^kvm_vm_info{vm="activated"' "$tap_dir/metrics" &&
		[ -S "$tap_dir/two" ]
}

supervised()
{
	timeout 100 python3 "$here/agent-supervisor.py" "$build" "$tap_dir"
}

check "HTTP socket from systemd" http_socket
check "registration socket from systemd" registration_socket
check "notifications, and descriptors that survive a restart" supervised
tap_done
