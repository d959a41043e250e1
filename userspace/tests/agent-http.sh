#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# usage: agent-http.sh BUILD-DIR - kvmstatd's HTTP: slow clients in every phase, TLS,
# passwords

here=$(dirname "$0")
build=$1
agent=''
vmms=''
. "$here/tap.sh"
. "$here/agent-lib.sh"

# The password is "secret"; 4 is the least that bcrypt takes, for speed here.
bcrypt()
{
	python3 -W ignore -c 'import crypt, sys
print(crypt.crypt(sys.argv[1], crypt.mksalt(crypt.METHOD_BLOWFISH, rounds=1 << int(sys.argv[2]))))' \
		"$1" "$2"
}

code()
{
	get -o /dev/null -w '%{http_code}' "$@"
}

# --- pages -----------------------------------------------------------------------

head_requests()
{
	local page

	for page in / /metrics /healthz; do
		get -I "$url$page" >"$tap_dir/head" || return 1
		grep -q ' 200 ' "$tap_dir/head" || return 1
	done
	get -I "$url/metrics" >"$tap_dir/head"
	cat "$tap_dir/head"
	grep -qi '^Vary: Accept, Accept-Encoding' "$tap_dir/head" &&
		! grep -qi '^Content-Length' "$tap_dir/head"
}

probes()
{
	[ "$(get "$url/-/healthy")" = ok ] && [ "$(get "$url/-/ready")" = ok ] &&
		[ "$(code "$url/metrics/")" = 200 ] &&
		[ "$(code "$url/-/quit")" = 404 ]
}

# One connection, and with it one handshake, for many scrapes.
kept_alive()
{
	get -v "$url/metrics" "$url/metrics" "$url/healthz" -o /dev/null -o /dev/null \
		-o /dev/null 2>"$tap_dir/verbose" || return 1
	cat "$tap_dir/verbose"
	[ "$(grep -c 'Re-using existing connection' "$tap_dir/verbose")" = 2 ]
}

# --- slow clients ------------------------------------------------------------------

# More connections than there may be, each of which sends a byte of its head now and
# then; and others that do not even do that.
slow_heads()
{
	python3 - "${url#http://}" <<'END'
import http.client, socket, sys, time
host, port = sys.argv[1].split(":")
def ask(url):
    c = http.client.HTTPConnection(host, int(port), timeout=20)
    c.request("GET", url)
    return c.getresponse().status
def connect():
    return socket.create_connection((host, int(port)))
slow = []
for i in range(150):
    s = connect()
    if i % 2:
        s.send(b"GET /metrics HTTP/1.1\r\nX: ")
    slow.append(s)
    if i % 10 == 0:
        assert ask("/healthz") == 200
for turn in range(10):
    for s in slow:
        try:
            s.send(b"x")
        except OSError:
            pass
    assert ask("/healthz") == 200
    assert ask("/metrics") == 200
END
}

# The same, connected anew as soon as they are cut.
impatient_heads()
{
	python3 - "${url#http://}" <<'END'
import http.client, select, socket, sys, time
host, port = sys.argv[1].split(":")
slow = {}
end = time.monotonic() + 5
answers = 0
while time.monotonic() < end:
    while len(slow) < 100:
        s = socket.create_connection((host, int(port)))
        slow[s.fileno()] = s
    for s in select.select(list(slow.values()), [], [], 0)[0]:
        del slow[s.fileno()]
        s.close()
    c = http.client.HTTPConnection(host, int(port), timeout=20)
    c.request("GET", "/healthz")
    assert c.getresponse().status == 200
    answers += 1
assert answers > 10, answers
END
}

# A head that does not come is not waited for; nor is a body.
deadlines()
{
	python3 - "${url#http://}" <<'END'
import socket, sys, time
host, port = sys.argv[1].split(":")
silent = socket.create_connection((host, int(port)))
half = socket.create_connection((host, int(port)))
half.send(b"GET /metrics HTTP/1.1\r\nX: ")
body = socket.create_connection((host, int(port)))
body.send(b"POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nx")
body.settimeout(20)
assert b" 405 " in body.recv(1000)
while body.recv(1000):
    pass
for s in silent, half:
    s.settimeout(60)
    try:
        assert s.recv(1000) == b""
    except ConnectionResetError:
        pass
END
	has '^kvmstatd_http_connections_cut_total\{phase="head"\} [1-9]'
}

# As many as there may be ask and read nothing, again and again: who reads gets it.
stalled_readers()
{
	start_vmms 200 4 || return 1
	python3 - "${url#http://}" <<'END'
import http.client, socket, sys, threading, time
host, port = sys.argv[1].split(":")
stop = threading.Event()
def stall():
    while not stop.is_set():
        s = socket.socket()
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        s.connect((host, int(port)))
        s.send(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
        stop.wait(10)
        s.close()
threads = [threading.Thread(target=stall) for _ in range(6)]
for t in threads:
    t.start()
time.sleep(2)
good = 0
for _ in range(10):
    c = http.client.HTTPConnection(host, int(port), timeout=60)
    c.request("GET", "/metrics")
    r = c.getresponse()
    text = r.read()
    good += r.status == 200 and text.count(b"kvm_vm_info{") == 200
    time.sleep(1.5)
stop.set()
for t in threads:
    t.join()
assert good >= 8, good
END
	local status=$?
	has '^kvmstatd_scrapes_cut_total [1-9]' || status=1
	stop_vmms
	return $status
}

# --- TLS and passwords --------------------------------------------------------------

make_certificates()
{
	local name

	cd "$tap_dir" || return 1
	openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=ca \
		-keyout ca.key -out ca.pem || return 1
	for name in server client; do
		openssl req -newkey rsa:2048 -nodes -subj "/CN=$name" \
			-addext 'subjectAltName=IP:127.0.0.1' \
			-keyout $name.key -out $name.csr &&
			openssl x509 -req -in $name.csr -CA ca.pem -CAkey ca.key \
			-CAcreateserial -days 2 -copy_extensions copyall \
			-out $name.pem || return 1
	done
	openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=other \
		-keyout other.key -out other.pem
}

# start_web LINE...: with this web configuration
start_web()
{
	printf '%s\n' "$@" >"$tap_dir/web.yml"
	start_agent --web-config "$tap_dir/web.yml"
}

tls()
{
	start_web tls_server_config: '  cert_file: server.pem' '  key_file: server.key' || return 1
	[[ $url = https://* ]] && [ "$(get --cacert "$tap_dir/ca.pem" "$url/healthz")" = ok ] &&
		get --cacert "$tap_dir/ca.pem" "$url/metrics" | grep -q ^kvmstatd_build_info &&
		! get --cacert "$tap_dir/other.pem" "$url/healthz" &&
		! get "${url/https/http}/healthz" &&
		! get --tls-max 1.1 --cacert "$tap_dir/ca.pem" "$url/healthz" &&
		get --tls-max 1.2 --cacert "$tap_dir/ca.pem" "$url/healthz" || return 1
	# a new certificate under the same name
	cp "$tap_dir/other.pem" "$tap_dir/server.pem"
	cp "$tap_dir/server.key" "$tap_dir/kept.key"
	cp "$tap_dir/other.key" "$tap_dir/server.key"
	kill -HUP "$agent"
	wait_until get -k --pinnedpubkey "$(pin_of "$tap_dir/other.pem")" "$url/healthz" &&
		cp "$tap_dir/kept.key" "$tap_dir/server.key" || return 1
	# a key that is not the certificate's: all stays as it is
	kill -HUP "$agent"
	wait_until grep -q 'cert_file and key_file: ' "$tap_dir/agent.err" &&
		wait_until grep -q 'the configuration was not changed' "$tap_dir/agent.err" &&
		get -k "$url/healthz" && end_agent
}

pin_of()
{
	echo "sha256//$(openssl x509 -in "$1" -pubkey -noout |
		openssl pkey -pubin -outform der | openssl dgst -sha256 -binary | base64)"
}

client_certificates()
{
	make_certificates && start_web tls_server_config: '  cert_file: server.pem' \
		'  key_file: server.key' '  client_ca_file: ca.pem' \
		'  client_auth_type: RequireAndVerifyClientCert' \
		'  min_version: TLS13' || return 1
	local with=(--cacert "$tap_dir/ca.pem")

	[ "$(get "${with[@]}" --cert "$tap_dir/client.pem" --key "$tap_dir/client.key" \
		"$url/healthz")" = ok ] &&
		! get "${with[@]}" "$url/healthz" &&
		! get "${with[@]}" --cert "$tap_dir/other.pem" --key "$tap_dir/other.key" \
		"$url/healthz" &&
		! get --tls-max 1.2 "${with[@]}" --cert "$tap_dir/client.pem" \
		--key "$tap_dir/client.key" "$url/healthz" && end_agent
}

passwords()
{
	start_web basic_auth_users: "  prom: $(bcrypt secret 4)" \
		"  slow: $(bcrypt other 10)" || return 1
	[ "$(code "$url/metrics")" = 401 ] && [ "$(code -u prom:secret "$url/metrics")" = 200 ] &&
		[ "$(code -u prom:wrong "$url/metrics")" = 401 ] &&
		[ "$(code -u nobody:secret "$url/metrics")" = 401 ] &&
		[ "$(code -u slow:other "$url/metrics")" = 200 ] &&
		[ "$(code -u slow:secret "$url/metrics")" = 401 ] &&
		[ "$(code -u prom:secret "$url/")" = 200 ] && [ "$(code "$url/")" = 401 ] &&
		[ "$(code "$url/healthz")" = 200 ] && [ "$(code "$url/nothing")" = 401 ] &&
		get -D - -o /dev/null "$url/metrics" | grep -qi '^WWW-Authenticate: Basic' &&
		get -u prom:secret "$url/metrics" | grep '^kvmstatd_http_unauthorized_total [1-9]'
}

# Each costs a tenth of a second, and none of it is that of others.
# Fewer than the half of the connections that one address may have, and more than
# there are passwords in hand at once.
many_passwords()
{
	local i pids=()

	for i in {1..28}; do
		code -u "slow:$i" "$url/metrics" >"$tap_dir/code.$i" &
		pids+=($!)
	done
	for i in 1 2 3 4 5; do
		[ "$(code "$url/healthz")" = 200 ] &&
			[ "$(code -u prom:secret "$url/metrics")" = 200 ] || return 1
	done
	wait "${pids[@]}"
	cat "$tap_dir"/code.* | sed 's/\(...\)/\1\n/g' | sort | uniq -c
	! cat "$tap_dir"/code.* | sed 's/\(...\)/\1\n/g' | grep -vxE '401|503|'
}

new_passwords()
{
	printf 'basic_auth_users:\n  prom: %s\n' "$(bcrypt new 4)" >"$tap_dir/web.yml"
	kill -HUP "$agent"
	wait_until new_password &&
		[ "$(code -u prom:secret "$url/metrics")" = 401 ] || return 1
	echo 'basic_auth: {}' >"$tap_dir/web.yml"
	kill -HUP "$agent"
	wait_until grep -q 'does not know this setting: basic_auth' "$tap_dir/agent.err" &&
		[ "$(code -u prom:new "$url/metrics")" = 200 ] && end_agent
}

new_password()
{
	[ "$(code -u prom:new "$url/metrics")" = 200 ]
}

headers()
{
	start_web http_server_config: '  http2: true' '  headers:' \
		'    X-Frame-Options: deny' &&
		get -D - -o /dev/null "$url/metrics" | grep -qi '^X-Frame-Options: deny' &&
		stop_agent
}

# web_error PATTERN LINE...
web_error()
{
	local pattern=$1

	shift
	printf '%s\n' "$@" >"$tap_dir/web.yml"
	status_is 1 "$build/kvmstatd/kvmstatd" --socket "$tap_dir/other" \
		--listen 127.0.0.1:0 --web-config "$tap_dir/web.yml" &&
		grep -q -- "$pattern" "$tap_dir/out"
}

bad_web_config()
{
	web_error 'web.yml:1: kvmstatd does not know this setting: tls' 'tls: {}' &&
		web_error 'web.yml:2: .* setting: cipher_suites' tls_server_config: \
		'  cipher_suites: [a]' &&
		web_error 'nosuch.pem: No such file' tls_server_config: '  cert_file: nosuch.pem' &&
		web_error 'needs both cert_file and key_file' tls_server_config: \
		'  cert_file: ca.pem' &&
		web_error 'cert_file and key_file: ' tls_server_config: '  cert_file: ca.pem' \
		'  key_file: other.key' &&
		web_error 'must be NoClientCert, Verify' tls_server_config: \
		'  client_auth_type: Maybe' &&
		web_error 'must be TLS10, TLS11' tls_server_config: '  min_version: SSL3' &&
		web_error 'must be a bcrypt hash.* for user prom' \
		basic_auth_users: '  prom: secret' &&
		web_error 'must be one of .*X-Frame-Options .*, not Server' http_server_config: '  headers:' \
		'    Server: x' &&
		web_error 'web.yml:[12]: ' 'basic_auth_users: [' &&
		web_error 'must be a mapping' '- a' &&
		web_error 'it is empty' '# nobody' || return 1
	status_is 1 "$build/kvmstatd/kvmstatd" --socket "$tap_dir/other" \
		--listen 127.0.0.1:0 --web-config "$tap_dir/nosuch" &&
		grep -q -- '--web-config .*nosuch: No such file' "$tap_dir/out" &&
		[ ! -e "$tap_dir/other" ]
}

# SIGTERM, whatever the log has
end_agent()
{
	kill "$agent"
	wait "$agent"
}

# shellcheck disable=SC2046 # numbers
trap 'kill -9 $agent $vmms 2>/dev/null; rm -rf "$tap_dir"' EXIT

check "the agent starts" start_agent
check "HEAD" head_requests
check "probes" probes
check "a connection is kept" kept_alive
check "slow heads" slow_heads
check "slow heads that come again" impatient_heads
check "deadlines" deadlines
check "clients that do not read, and come again" stalled_readers
check "SIGTERM" stop_agent
check "certificates" make_certificates
check "TLS" tls
check "certificates of clients" client_certificates
check "passwords" passwords
check "many passwords at once" many_passwords
check "new passwords" new_passwords
check "headers" headers
check "mistakes in the web configuration" bad_web_config
tap_done
