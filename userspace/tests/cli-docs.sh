#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# usage: cli-docs.sh BUILD-DIR - the manual page and the completion say what
# kvmstat does: no option, field or member more, none less

here=$(cd "$(dirname "$0")" && pwd)
build=$(cd "$1" && pwd)
kvmstat=$build/kvmstat/kvmstat
page=$here/../man/kvmstat.1
vcpu=$here/data/x86_64-6.18-vcpu0.bin
PATH=$build/kvmstat:$PATH
. "$here/tap.sh"

commands()
{
	"$kvmstat" help | sed -n '/^commands:/,/^$/s/^  \([a-z-]*\) .*/\1/p'
}

# own_commands: all but help and version, which take no options
own_commands()
{
	commands | grep -vxE 'help|version'
}

options()
{
	"$kvmstat" help "$1" | grep -oE '^  --[a-z0-9-]+' | tr -d ' '
}

section()
{
	sed -n "/^\\.Sh $1\$/,/^\\.Sh /p" "$page"
}

commands_documented()
{
	local command

	for command in $(own_commands); do
		grep -qE "^\\.It Cm $command\\b" "$page" ||
			{ echo "$command"; return 1; }
	done
}

options_documented()
{
	diff <(for command in $(own_commands); do options "$command"; done |
		sort -u) \
	<(grep -oE 'Fl Fl [a-z0-9-]+' "$page" | sed 's/Fl Fl /--/' | sort -u)
}

csv_documented()
{
	diff <("$kvmstat" record --count 1 --interval 0.01 --image "$vcpu" |
		head -n 1 | tr , '\n') \
	<(section CSV | sed -n 's/^\.It \(.*\)/\1/p' | tr -d ' ' | tr , '\n')
}

# A VMM that says nonsense is an event.
event_of_listen()
{
	local socket=$tap_dir/socket

	"$kvmstat" listen --json --until-gone "$socket" 2>/dev/null &
	until [ -S "$socket" ]; do
		sleep 0.02
	done
	python3 -c '
import socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
s.connect(sys.argv[1])
s.send(b"nonsense")' "$socket"
	wait
}

# What list writes of a VM is only to be seen where one can be made.
list_of_a_vm()
{
	local vmm="$build/demo/demo-vmm" pid

	"$vmm" --seconds 60 </dev/null >/dev/null 2>&1 &
	pid=$!
	for _ in $(seq 100); do
		"$kvmstat" list --json >"$tap_dir/list"
		grep -q '"pid"' "$tap_dir/list" && break
		kill -0 $pid 2>/dev/null || break
		sleep 0.05
	done
	kill $pid 2>/dev/null
	wait $pid
	grep '"pid"' "$tap_dir/list"
}

# Each member that is written is named, and the other way round.
json_documented()
{
	{
		"$kvmstat" record --json --count 1 --interval 0.01 \
			--image "$vcpu"
		event_of_listen
		"$kvmstat" show --json --image "$vcpu"
		"$kvmstat" show --json --image "$here/data/block-drive0.bin"
		"$kvmstat" list --json
		list_of_a_vm || echo '{"no VM here":0}'
		"$kvmstat" show --json --image /nonexistent 2>/dev/null
	} | python3 -c '
import json, re, sys
def names(value):
    if isinstance(value, dict):
        for key, inner in value.items():
            yield key
            yield from names(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from names(inner)
written = set()
for line in sys.stdin:
    written |= set(names(json.loads(line)))
text = sys.argv[1]
named = set()
for line in text.splitlines():
    if line.startswith((".Va ", ".It ")):
        named |= set(re.findall(r"[a-z_0-9]{2,}", line[4:]))
if "no VM here" in written:
    written.remove("no VM here")
    named &= written
print("not named:", written - named, "not written:", named - written)
sys.exit(written != named)' "$(section 'JSON LINES')"
}

# Each statistic of a disk is in the table, and what a row names as its test is there.
accounting_documented()
{
	python3 - "$here" <<'END'
import re, subprocess, sys
here = sys.argv[1]
page = open(f"{here}/../../docs/accounting.md").read()
rows = [line.split("|")[1:-1] for line in page.splitlines()
        if line.startswith("| ") and line.count("|") == 6][1:]
assert len(rows) == 17, len(rows)
named = set()
for row in rows:
    named |= set(re.findall(r"`(\w+)`", row[0]))
schema = open(f"{here}/data/block-schema.txt").read()
for name in set(re.findall(r"^([a-z]\w+) ", schema, re.M)):
    general = re.sub("^(write|flush|discard)_", "read_", name)
    general = re.sub("_1[mh](?=_ns$|$)", "_1s", general)
    assert general in named, name
known = schema + "_1m _1h"
assert all(name in known for name in named), named
cases = open(f"{here}/test_block.c").read() + open(f"{here}/test_block_load.c").read()
checks = open(f"{here}/nbdkit.sh").read()
for row in rows:
    tests = re.findall(r"`(\w+)`", row[4])
    quoted = re.findall(r'"([^"]+)"', row[4])
    assert tests or quoted, row
    for test in tests:
        assert f"cmocka_unit_test({test})" in cases, test
    for check in quoted:
        assert f'check "{check}"' in checks, check
for test in re.findall(r"`(\w+)`", page.split("## Windows")[1].split("## What it costs")[0]):
    assert f"cmocka_unit_test({test})" in cases or test in schema or \
        test in ("CLOCK_MONOTONIC", "queue_time"), test
END
}

statuses_documented()
{
	diff <("$kvmstat" help | sed -n '/^exit status/,$s/^  \([0-9]\) .*/\1/p') \
		<(section 'EXIT STATUS' | sed -n 's/^\.It \([0-9]\)$/\1/p')
}

keys_documented()
{
	diff <(sed -n '/^static const char \*const help_lines/,/^};/p' \
		"$here/../kvmstat/cmd_top.c" | grep -oE '"   [a-z] ' | tr -d '" ' |
		sort) \
	<(section TOP | sed -n 's/^\.It Ic \(.*\)/\1/p' | tr -d ' ' |
		tr , '\n' | sort)
}

# complete_line WORDS...: what is offered for the last of them
complete_line()
{
	(
		# shellcheck source=userspace/completion/kvmstat
		. "$here/../completion/kvmstat"
		COMP_WORDS=("$@")
		COMP_CWORD=$(($# - 1))
		_kvmstat
		printf '%s\n' "${COMPREPLY[@]}"
	)
}

completes_commands()
{
	diff <(complete_line kvmstat '' | sort) <(commands | sort) &&
		[ "$(complete_line kvmstat sch)" = schema ] &&
		[ "$(complete_line kvmstat help rec)" = record ]
}

completes_options()
{
	local command

	for command in $(own_commands); do
		diff <(complete_line kvmstat "$command" -- | sort -u) \
			<( (options "$command"; echo --help) | sort -u) || return 1
	done
}

# A value that is offered is one that is taken; one that is not is refused.
completes_values()
{
	local option value

	for option in format fsync; do
		for value in $(complete_line kvmstat record --$option ''); do
			"$kvmstat" record --$option "$value" --count 1 \
				--interval 0.01 --image "$vcpu" || return 1
		done
	done >/dev/null
	for value in $(complete_line kvmstat top --sort ''); do
		"$kvmstat" top --once --sort "$value" --interval 0.01 \
			--image "$vcpu" >/dev/null || return 1
	done
	"$kvmstat" help record | grep -q "FORMAT  *csv.*json.*log" &&
		[ "$(complete_line kvmstat record --format '' | wc -l)" = 3 ] &&
		[ "$(complete_line kvmstat record --fsync '' | wc -l)" = 3 ] &&
		[ "$(complete_line kvmstat show --image "$here/data/x86_64-6.18-vm")" = \
			"$here/data/x86_64-6.18-vm.bin" ]
}

check "each command is documented" commands_documented
check "the options of the manual are those of the program" options_documented
check "each field of CSV is documented, in order" csv_documented
check "the members of JSON are those of the manual" json_documented
check "exit statuses" statuses_documented
check "docs/accounting.md: each statistic, and a test in each row" accounting_documented
check "keys of top" keys_documented
check "completion of commands" completes_commands
check "completion of options" completes_options
check "completion of values" completes_values
tap_done
