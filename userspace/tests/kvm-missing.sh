#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# usage: kvm-missing.sh BUILD-DIR - what kvmstat cannot see or cannot write is
# said, and is a status: VMs without statistics, other users, limits, refused
# system calls, outputs that nobody reads

here=$(cd "$(dirname "$0")" && pwd)
build=$(cd "$1" && pwd)
kvmstat=$build/kvmstat/kvmstat
vmm=
. "$here/tap.sh"
# other VMs of this machine have another name
guest=mis$$
# shellcheck source=userspace/tests/vms.sh
. "$here/vms.sh"
: "${CC:=cc}"

as_nobody()
{
	"$build/demo/asuser" 65534 65534 "$@"
}

# ---- VMs with and without

# start_mix: one VM that has statistics, and $bare that has none. The name of a
# command has 15 bytes at most.
start_mix()
{
	start_told && tell vm && tell vcpu || return 1
	cp "$tap_dir/$guest" "$tap_dir/b$guest"
	"$tap_dir/b$guest" --no-stats --seconds 36000 >/dev/null 2>&1 &
	bare=$!
	wait_until $bare lists_bare
}

lists_bare()
{
	"$kvmstat" list 2>/dev/null | grep -q " b$guest\$"
}

end_mix()
{
	kill -9 "$bare"
	wait "$bare"
	end_told
} 2>/dev/null

mix_is_told()
{
	local verdict=0

	start_mix || return 1
	status "$kvmstat" top --once --interval 0.1
	said "more without statistics" && said "b$guest .*: process $bare: no statistics" &&
		said 'status 0' || verdict=1
	status "$kvmstat" list
	said " $guest\$" && said " b$guest\$" && said "b$guest: process $bare" ||
		verdict=1
	status "$kvmstat" record --interval 0.1 --count 1 --fields '^exits$'
	said ",$guest,.*,exits," && said "b$guest .*incomplete: .*no statistics" &&
		said 'status 0' || verdict=1
	"$kvmstat" record --interval 0.1 --count 1 --json >"$tap_dir/json" 2>/dev/null
	jq -es --arg name "b$guest" '[.[] | select(.event == "incomplete" and
		.vm.name == $name).reason | test("no statistics")] == [true]' \
		"$tap_dir/json" || verdict=1
	end_mix
	return $verdict
}

# three_bare: all their processes are in $bares
three_bare()
{
	bares=()
	cp "$tap_dir/$guest" "$tap_dir/b$guest"
	for _ in 1 2 3; do
		"$tap_dir/b$guest" --no-stats --seconds 36000 >/dev/null 2>&1 &
		bares+=($!)
	done
	wait_until "${bares[2]}" lists_three_bare
}

lists_three_bare()
{
	[ "$("$kvmstat" list 2>/dev/null | grep -c " b$guest\$")" = 3 ]
}

# Why nothing is seen of a fleet is explained once; each VM has its line. Of programs,
# which look at one event alone, each is told all of it.
reason_is_explained_once()
{
	local verdict=0 command pid

	three_bare || return 1
	# of other VMs of this machine the reason may be the same
	for command in list "top --once --interval 0.1 --guest b$guest" \
		"record --duration 5 --interval 0.1 --guest b$guest" \
		"record --duration 1 --interval 0.1 --format log --guest b$guest"; do
		# shellcheck disable=SC2086 # words
		status "$kvmstat" $command
		for pid in "${bares[@]}"; do
			[ "$(grep -c "process $pid: no statistics" "$tap_dir/said")" = 1 ] ||
				verdict=1
		done
		grep -E "process ($(IFS='|'; echo "${bares[*]}")): " "$tap_dir/said" >"$tap_dir/ours"
		[ "$(grep -c 'keeps none' "$tap_dir/ours")" = 1 ] ||
			{ [ "$command" = list ] && ! grep 'keeps none' "$tap_dir/ours"; } || verdict=1
		[ "$(grep -cE "5 of 5 descriptors are not available, for the reason of process [0-9]+\$" \
			"$tap_dir/ours")" -ge 2 ] || verdict=1
	done
	"$kvmstat" record --duration 1 --interval 0.1 --format json --guest "b$guest" \
		2>/dev/null >"$tap_dir/json"
	jq -es '[.[] | select(.event == "incomplete").reason | test("keeps none")] ==
		[true, true, true]' "$tap_dir/json" || verdict=1
	kill -9 "${bares[@]}"
	wait "${bares[@]}"
	return $verdict
} 2>/dev/null

# A VM that is not named does not use up the reason of one that is.
reason_of_the_named()
{
	local verdict=0

	cp "$tap_dir/$guest" "$tap_dir/b$guest"
	cp "$tap_dir/$guest" "$tap_dir/c$guest"
	"$kvmstat" record --interval 0.1 --duration 600 --guest "c$guest" >/dev/null \
		2>"$tap_dir/said" &
	recorder=$!
	"$tap_dir/b$guest" --no-stats --seconds 36000 >/dev/null 2>&1 &
	bare=$!
	# it is found and looked at again
	wait_until $bare lists_bare && sleep 5
	"$tap_dir/c$guest" --no-stats --seconds 36000 >/dev/null 2>&1 &
	named=$!
	wait_until $recorder said "process $named: no statistics"
	cat "$tap_dir/said"
	said "process $named: no statistics.*keeps none" && ! said "process $bare:" || verdict=1
	kill -9 $bare $named $recorder
	wait $bare $named $recorder
	return $verdict
} 2>/dev/null

# A VM that was found shows as many devices as there are places for, says so once, and
# that is not all.
many_devices()
{
	local verdict=0

	start_told && tell vm && tell vcpu && tell hold && tell publish 256 || return 1
	status "$kvmstat" show --pid "$vmm" --fields packets >/dev/null
	[ "$(grep -c '^# net:' "$tap_dir/said")" = 256 ] && ! said 'devices are' &&
		said 'status 0' || verdict=1
	tell publish 1 || return 1
	status "$kvmstat" show --pid "$vmm" --fields packets >/dev/null
	said 'kvmstat: 1 device is not shown: .*256 are the most' && said 'status 1' || verdict=1
	tell publish 3 || return 1
	for command in "show --fields packets" "record --duration 5 --interval 0.1" \
		"top --once --interval 0.1 --all"; do
		# shellcheck disable=SC2086 # words
		status "$kvmstat" $command --pid "$vmm" >/dev/null
		[ "$(grep -c "process $vmm: 256 of 260 devices are shown" "$tap_dir/said")" = 1 ] &&
			said 'kvmstat: 4 devices are not shown: .*256 are the most' &&
			said 'status 1' && continue
		tail -n 5 "$tap_dir/said"
		verdict=1
	done
	status "$kvmstat" cpu-stats --pid "$vmm"
	said 'status 0' && ! said 'devices are' || verdict=1
	"$kvmstat" list --json 2>/dev/null |
		jq -es --argjson pid "$vmm" '.[0].processes[] | select(.pid == $pid).problem |
			test("256 of 260 devices are shown")' || verdict=1
	end_told
	return $verdict
}

# A VMM that keeps those of its vCPUs only, as QEMU does from 8.1 on.
part_is_told()
{
	local verdict

	start_told && tell vm && tell vcpu || return 1
	status "$kvmstat" record --pid "$vmm" --interval 0.1 --count 1
	said 'process [0-9]+: 1 of 2 descriptors are not available: .*keeps only some' &&
		said 'status 0'
	verdict=$?
	end_told
	return $verdict
}

# What a kernel without statistics descriptors says is not mistaken: it knows
# no such capability, and run would not help.
kernel_without_any()
{
	local verdict

	cat >"$tap_dir/old.c" <<-END
		#define _GNU_SOURCE
		#include <errno.h>
		#include <stdarg.h>
		#include <sys/syscall.h>
		#include <unistd.h>
		int ioctl(int fd, unsigned long request, ...)
		{
			va_list args;
			long argument;

			va_start(args, request);
			argument = va_arg(args, long);
			va_end(args);
			if (request == 0xae03 && argument == 203)
				return 0;
			return syscall(SYS_ioctl, fd, request, argument);
		}
	END
	"$CC" -shared -fPIC -o "$tap_dir/old.so" "$tap_dir/old.c" || return 1
	start_told && tell vm && tell bare || return 1
	LD_PRELOAD=$tap_dir/old.so status "$kvmstat" show --pid "$vmm"
	said 'this kernel has no statistics descriptors' && said 'status 3' &&
		! said 'kvmstat run'
	verdict=$?
	end_told
	return $verdict
}

# ---- rights and limits

other_users()
{
	local verdict=0

	start_told && tell vm && tell vcpu || return 1
	status as_nobody "$tap_dir/kvmstat" list
	said 'process(es)? of other users could not be inspected; to see them, run as root' &&
		said 'status 4' || verdict=1
	status as_nobody "$tap_dir/kvmstat" show --guest "no$guest"
	said "no VM with statistics is named no$guest; " && said 'status 4' ||
		verdict=1
	end_told
	return $verdict
}

# Of three VMs the last does not get a single descriptor, at one of these limits.
no_room_for_a_vm()
{
	local pids=() verdict

	for _ in 1 2 3; do
		"$tap_dir/$guest" --seconds 36000 >/dev/null 2>&1 &
		pids+=($!)
	done
	vmm=${pids[2]}
	wait_until "$vmm" shows_four_vcpus || return 1
	for limit in $(seq 12 40); do
		(ulimit -n "$limit"
		status "$kvmstat" record --count 1 --interval 0.1 \
			--fields '^exits$' >/dev/null)
		! said 'what was shown may not be complete' || break
	done
	cat "$tap_dir/said"
	said ',exits,' && said 'could not be inspected.*too many open files' &&
		said 'what was shown may not be complete' && said 'status 1'
	verdict=$?
	kill -9 "${pids[@]}"
	wait "${pids[@]}"
	return $verdict
} 2>/dev/null

# leave_numbers COUNT PID: so many descriptors more may this process have
leave_numbers()
{
	local left=$1 pid=$2 limit=0

	while [ "$left" -gt 0 ]; do
		[ -L "/proc/$pid/fd/$limit" ] || left=$((left - 1))
		limit=$((limit + 1))
	done
	prlimit --pid "$pid" --nofile=$limit
}

# Of two VMs that register the second finds two numbers free: too few for it.
no_room_for_a_registration()
{
	local verdict command

	for command in "record --socket" "top --batch --include-past --socket" \
		"listen --all"; do
		# shellcheck disable=SC2086 # words
		"$kvmstat" $command "$tap_dir/socket" --interval 0.1 --until-gone \
			>"$tap_dir/said" 2>&1 &
		reader=$!
		wait_until "$reader" test -S "$tap_dir/socket" || return 1
		run_vmm --socket "$tap_dir/socket"
		wait_until "$reader" grep -q exits "$tap_dir/said" || return 1
		leave_numbers 2 "$reader"
		"$tap_dir/$guest" --socket "$tap_dir/socket" --seconds 1 >/dev/null 2>&1
		stop_vmm
		wait "$reader"
		echo "status $?" >>"$tap_dir/said"
		said 'gone: no room for its descriptors' &&
			said 'a VM registered whose descriptors did not fit' &&
			said 'status 1'
		verdict=$?
		tail -n 5 "$tap_dir/said"
		[ $verdict = 0 ] || return 1
	done
}

# There is memory for less than all that is to be shown.
no_memory()
{
	local verdict=0

	cat >"$tap_dir/memory.c" <<-END
		#define _GNU_SOURCE
		#include <dlfcn.h>
		#include <stdlib.h>
		void *realloc(void *old, size_t size)
		{
			void *(*next)(void *, size_t) =
				(void *(*)(void *, size_t))dlsym(RTLD_NEXT, "realloc");
			return !old && size > 20000 ? NULL : next(old, size);
		}
	END
	"$CC" -shared -fPIC -o "$tap_dir/memory.so" "$tap_dir/memory.c" -ldl || return 1
	LD_PRELOAD=$tap_dir/memory.so status "$kvmstat" top --once --interval 0.01 \
		--include-past --image "$here/data/x86_64-6.18-vcpu0.bin"
	said '^.* 1 VM, 1 descriptor - out of memory: incomplete$' &&
		said '^kvmstat: out of memory: a table is incomplete$' && said 'status 1' ||
		verdict=1
	LD_PRELOAD=$tap_dir/memory.so status "$kvmstat" record --format log --count 1 \
		--interval 0.01 --image "$here/data/x86_64-6.18-vcpu0.bin"
	said '^kvmstat: no memory$' && said 'status 1' && ! said '^[0-9].*Z' ||
		verdict=1
	return $verdict
}

# refused ERRNO NUMBERS COMMAND...
refused()
{
	local error=$1 numbers=$2

	shift 2
	# shellcheck disable=SC2086 # several numbers
	status "$build/tests/refuse" "$error" $numbers -- "$kvmstat" "$@"
}

# 38 ENOSYS, 1 EPERM, 16 EBUSY; 438 pidfd_getfd, 434 pidfd_open, 312 kcmp
refused_calls()
{
	local verdict=0

	start_told && tell vm && tell vcpu && tell hold || return 1
	refused 38 438 list
	# with the first VM that it concerns, which may be another's
	said ': Function not implemented: pidfd_getfd is missing' &&
		said "$guest: process $vmm: no statistics, " || verdict=1
	refused 38 438 top --once --interval 0.1 --guest "$guest"
	said 'pidfd_getfd is missing' && said 'status 1' || verdict=1
	refused 38 438 record --duration 1 --interval 0.1 --guest "$guest"
	said 'pidfd_getfd is missing' && said 'status 1' || verdict=1
	refused 1 438 record --duration 1 --interval 0.1 --guest "$guest"
	said 'needs the rights of a debugger' && said 'status 4' || verdict=1
	refused 38 434 list
	said 'could not be inspected.*: pidfd_open is missing' &&
		said 'status 1' || verdict=1
	refused 38 434 record --duration 1 --interval 0.1
	[ "$(grep -c 'pidfd_open is missing' "$tap_dir/said")" -le 2 ] &&
		said 'status 1' || verdict=1
	# as if sixteen processes had not answered, and were not dead yet
	refused 16 434 list
	said 'could not be inspected.*: too many processes do not answer; no others are asked' &&
		said 'status 1' || verdict=1
	# numbers have to do
	refused 38 312 top --once --interval 0.1 --guest "$guest"
	said 'kvm statistics - 1 VM, 2 descriptors' && said 'status 0' || verdict=1
	# 72 fcntl: a lock that cannot be had is no reason not to write
	if [ "$(uname -m)" = x86_64 ]; then
		refused 38 72 record --count 1 --interval 0.1 \
			--image "$here/data/x86_64-6.18-vcpu0.bin" \
			--output "$tap_dir/unlocked.csv"
		said 'unlocked.csv: cannot be locked .*; another record .* will not be noticed' &&
			said 'status 0' && grep -q ,exits, "$tap_dir/unlocked.csv" || verdict=1
	fi
	end_told
	return $verdict
}

# A process that does not answer is said while a record runs, and once.
said_when_it_comes()
{
	local verdict worker

	start_told && tell vm && tell vcpu && tell hold || return 1
	"$kvmstat" record --interval 1 --pid "$vmm" >"$tap_dir/csv" \
		2>"$tap_dir/said" &
	recorder=$!
	wait_until "$recorder" grep -q ,exits, "$tap_dir/csv" || return 1
	worker=$(pgrep -P "$recorder")
	kill -STOP "$worker"
	wait_until "$recorder" grep -q 'no answer within 5 seconds' "$tap_dir/said"
	verdict=$?
	sleep 5
	kill "$recorder"
	wait "$recorder"
	end_told
	cat "$tap_dir/said"
	[ $verdict = 0 ] && said "process $vmm could not be inspected" &&
		[ "$(grep -c 'no answer' "$tap_dir/said")" = 1 ]
}

# ---- outputs that nobody reads

# show writes in its own way
waits_for_output()
{
	waits_for_room "$1" || grep -q pipe_write "/proc/$1/wchan"
}

# ends_when_blocked NAME: this process, which writes to a pipe, ends by SIGTERM
ends_when_blocked()
{
	local pid=$1 verdict

	wait_until "$pid" waits_for_output "$pid" &&
		kill "$pid" && timeout 20 tail --pid="$pid" -f /dev/null
	verdict=$?
	kill -9 "$pid"
	wait "$pid"
	return $verdict
} 2>/dev/null

# A pipe that is full.
open_fifo()
{
	rm -f "$tap_dir/fifo"
	mkfifo "$tap_dir/fifo"
	# shellcheck disable=SC2217 # it is not to read
	sleep 600 <"$tap_dir/fifo" &
	sleeper=$!
	head -c 65536 /dev/zero >"$tap_dir/fifo"
}

blocked_show()
{
	local verdict

	open_fifo
	"$kvmstat" show --json --socket "$tap_dir/socket" --wait 50 \
		>"$tap_dir/fifo" 2>/dev/null &
	reader=$!
	wait_until "$reader" test -S "$tap_dir/socket" || return 1
	run_vmm --socket "$tap_dir/socket"
	ends_when_blocked "$reader"
	verdict=$?
	kill "$sleeper"
	stop_vmm
	return $verdict
}

# The command of this kvmstat run.
vmm_has_ended()
{
	local child

	child=$(pgrep -P "$runner" -x demo-vmm)
	[ -z "$child" ] || grep -q '^State:.*Z' "/proc/$child/status"
}

# The VMM has ended: nobody is left to whom the signal could be passed on.
blocked_run()
{
	local verdict

	open_fifo
	"$kvmstat" run --json --interval 0.01 --all --output "$tap_dir/fifo" -- \
		"$build/demo/demo-vmm" --no-stats --seconds 15 >/dev/null &
	runner=$!
	wait_until "$runner" waits_for_room "$runner" &&
		wait_until "$runner" vmm_has_ended
	ends_when_blocked "$runner"
	verdict=$?
	kill "$sleeper"
	return $verdict
}

# Messages go to standard error, which may be a pipe as well.
blocked_messages()
{
	local verdict

	open_fifo
	start_told && tell vm && tell vcpu || return 1
	"$kvmstat" record --guest "$guest" --interval 0.05 >/dev/null \
		2>"$tap_dir/fifo" &
	recorder=$!
	ends_when_blocked "$recorder"
	verdict=$?
	kill "$sleeper"
	end_told
	return $verdict
}

# ---- nothing shown

listen_to_nobody()
{
	status "$kvmstat" listen --duration 0.3 --interval 0.1 "$tap_dir/socket"
	said 'no VM has registered' && said 'status 3'
}

no_such_field()
{
	local verdict=0 command

	start_told && tell vm && tell vcpu && tell hold || return 1
	for command in show schema "record --count 1 --interval 0.1" \
		"top --once --interval 0.1"; do
		# shellcheck disable=SC2086 # words
		status "$kvmstat" $command --pid "$vmm" --fields nosuchstat
		said 'no statistic matches --fields nosuchstat' && said 'status 3' ||
			verdict=1
	done
	end_told
	return $verdict
}

# The VMM's status is its own: that nothing was shown is said.
no_such_field_of_run()
{
	status "$kvmstat" run --fields nosuchstat --interval 0.1 -- \
		"$build/demo/demo-vmm" --no-stats --seconds 0.5
	said 'no statistic matches --fields nosuchstat' && said 'status 0'
}

# show, with nothing named: both of two VMs
shows_all_vms()
{
	local verdict

	"$tap_dir/$guest" --seconds 36000 >/dev/null 2>&1 &
	other=$!
	run_vmm
	wait_until "$vmm" shows_four_vcpus &&
		wait_until "$other" shows_both
	verdict=$?
	stop_vmm
	kill -9 "$other"
	wait "$other"
	return $verdict
} 2>/dev/null

shows_both()
{
	"$kvmstat" show --json 2>/dev/null | jq -e --argjson a "$vmm" \
		--argjson b "$other" '[.sources[] | select(.pid == $a or .pid == $b)
		] | length == 10'
}

# ---- keys

# The lines of two VMs of one process that register have different keys.
keys_of_registered_vms()
{
	"$kvmstat" run --json --interval 0.1 --output "$tap_dir/json" -- \
		"$build/tests/preload_vmm" two < <(sleep 1) || return 1
	jq -es '[.[] | select(.event == "sample")] | length > 1 and all(
		.sources | map(.fd) | all(. != null) and unique == sort)' \
		"$tap_dir/json" &&
		jq -es '[.[] | select(.event == "sample").sources[] |
			select(.vcpu == 0).fd] | unique | length == 2' "$tap_dir/json"
}

# shellcheck disable=SC2046 # several numbers
trap 'kill -9 $(jobs -p) 2>/dev/null; wait 2>/dev/null; rm -rf "$tap_dir"' EXIT
cp "$build/demo/demo-vmm" "$tap_dir/$guest" &&
	cp "$kvmstat" "$tap_dir/kvmstat" && chmod 755 "$tap_dir"
if start_told && tell vm && tell bare &&
	"$kvmstat" show --pid "$vmm" >/dev/null 2>&1; then
	end_told
	# statistics are made for us: nothing is missing
else
	end_told
	check "VMs with and without statistics" mix_is_told
	check "a reason is explained once" reason_is_explained_once
	check "the reason of the VM that is named" reason_of_the_named
	check "a part of a VM's statistics" part_is_told
	check "a kernel without statistics descriptors" kernel_without_any
fi
if [ "$(id -u)" = 0 ]; then
	check "processes of other users" other_users
else
	skip "processes of other users" "not root"
fi
check "more devices than are shown" many_devices
check "no room for a VM" no_room_for_a_vm
check "no room for a VM that registers" no_room_for_a_registration
check "no memory for all of it" no_memory
check "system calls that are refused" refused_calls
check "trouble is said when it comes" said_when_it_comes
check "SIGTERM ends show --socket whose output is blocked" blocked_show
check "SIGTERM ends run whose output is blocked" blocked_run
check "SIGTERM ends record whose messages are blocked" blocked_messages
check "listen to nobody" listen_to_nobody
check "no statistic of that name" no_such_field
check "no statistic of that name, run" no_such_field_of_run
check "show, with nothing named" shows_all_vms
check "keys of VMs that register" keys_of_registered_vms
tap_done
