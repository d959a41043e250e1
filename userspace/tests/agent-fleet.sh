#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# usage: agent-fleet.sh BUILD-DIR - a real Prometheus and two agents, whose VMs have
# the same name: what the dashboard and the rules say while both run, and when one
# was killed. The configuration of Prometheus is the shipped example, TLS and password
# included; only its addresses, files and times are replaced.

here=$(cd "$(dirname "$0")" && pwd)
build=$1
. "$here/tap.sh"
examples=$here/../kvmstatd/dashboard
dashboard=$examples/kvmstatd.json
first=127.0.0.1 second=127.0.0.2
declare -A agents vmms
prometheus=()
export LIMIT_S=${LIMIT_S:-150}

stop_all()
{
	kill -9 "${vmms[@]}" "${agents[@]}" "${prometheus[@]}"
	wait
	rm -rf "$tap_dir"
} 2>/dev/null
trap stop_all EXIT

# ask COMMAND...: of kvmstatd-e2e.py, whose status is the verdict
ask()
{
	echo "$*" | python3 "$here/../../harness/guest/kvmstatd-e2e.py" >"$tap_dir/answer" 2>&1
	cat "$tap_dir/answer"
	[ "$(tail -n 1 "$tap_dir/answer")" = holds ]
}

wait_until()
{
	local end=$((SECONDS + LIMIT_S))

	until "$@"; do
		[ $SECONDS -lt $end ] || return 1
		sleep 0.05
	done
}

# The password is "secret".
web_config()
{
	openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 \
		-subj /CN=kvmstatd -addext "subjectAltName=IP:$first,IP:$second" \
		-keyout "$tap_dir/key.pem" -out "$tap_dir/ca.pem" || return 1
	echo secret >"$tap_dir/password"
	cat >"$tap_dir/web.yml" <<-END
	tls_server_config:
	  cert_file: ca.pem
	  key_file: key.pem
	basic_auth_users:
	  prometheus: $(python3 -W ignore -c 'import crypt
	print(crypt.crypt("secret", crypt.mksalt(crypt.METHOD_BLOWFISH, rounds=16)))')
	END
}

port_of()
{
	sed -n "s|.*serving https://$1:\([0-9]*\)/metrics|\1|p" "$tap_dir/agent-$1"
}

serves()
{
	[ -n "$(port_of "$1")" ]
}

registered()
{
	grep -q '"web" is registered' "$tap_dir/agent-$1"
}

# start_host ADDRESS VCPUS: an agent and a VM
start_host()
{
	"$build/kvmstatd/kvmstatd" --socket "$tap_dir/socket-$1" --listen "$1:0" \
		--web-config "$tap_dir/web.yml" 2>"$tap_dir/agent-$1" &
	agents[$1]=$!
	wait_until serves "$1" || { cat "$tap_dir/agent-$1"; return 1; }
	"$build/demo/demo-vmm" --socket "$tap_dir/socket-$1" --name web --vcpus "$2" \
		--seconds 600 >"$tap_dir/vmm-$1" 2>&1 &
	vmms[$1]=$!
	wait_until registered "$1" || { cat "$tap_dir/vmm-$1"; return 1; }
}

free_port()
{
	python3 -c 'import socket
s = socket.socket()
s.bind(("127.0.0.1", 0))
print(s.getsockname()[1])'
}

start_prometheus()
{
	local port

	port=$(free_port)
	export PROMETHEUS=http://127.0.0.1:$port
	sed -E -e "s|\[\"host1.*\]|[\"$first:$(port_of $first)\", \"$second:$(port_of $second)\"]|" \
		-e "s|/etc/prometheus/kvmstatd-ca.pem|$tap_dir/ca.pem|" \
		-e "s|/etc/prometheus/kvmstatd-password|$tap_dir/password|" \
		-e 's/(_interval|_timeout): .*/\1: 500ms/' \
		"$examples/prometheus.yml" >"$tap_dir/prometheus.yml"
	sed -E 's/^( *for:) .*/\1 1s/' "$examples/kvmstatd-rules.yml" \
		>"$tap_dir/kvmstatd-rules.yml"
	promtool check config "$tap_dir/prometheus.yml" || return 1
	command prometheus --config.file="$tap_dir/prometheus.yml" \
		--storage.tsdb.path="$tap_dir/tsdb" --log.level=warn \
		--web.listen-address="127.0.0.1:$port" >"$tap_dir/prometheus" 2>&1 &
	prometheus=($!)
	ask prometheus_up 2 || { cat "$tap_dir/prometheus"; return 1; }
}

domain_is_vm()
{
	[ "$(promtool query instant "$PROMETHEUS" 'count by (domain) (kvm_vm_info)' |
		sed 's/ @.*//')" = '{domain="web"} => 2' ]
}

# A client that is none, at the first host
refused()
{
	python3 -c '
import socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
s.connect(sys.argv[1])
s.send(b"nonsense")
s.recv(1)' "$tap_dir/socket-$first"
	ask alerts "KvmstatdRegistrationsRefused@$first"
}

kill_second()
{
	kill -9 "${agents[$second]}"
	wait "${agents[$second]}"
	unset "agents[$second]"
	ask fleet "$dashboard" $first $second
} 2>/dev/null

check "certificate and password" web_config
check "the first agent and its VM" start_host $first 4
check "the second, with a VM of the same name" start_host $second 2
check "Prometheus scrapes both, with TLS and password" start_prometheus
check "dashboard: two hosts, the same VM twice" ask fleet "$dashboard" $first,$second
check "recording rules: the same" ask recorded $first $second
check "relabelling: the VM is the domain" domain_is_vm
check "no alert while all is well" ask alerts
check "an alert for the host that refuses a registration" refused
check "dashboard: one agent is killed" kill_second
check "an alert for the host that is down" ask alerts \
	"KvmstatdRegistrationsRefused@$first" "KvmstatdDown@$second"
tap_done
