#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# shellcheck disable=SC2016 # what other shells than this one expand
# usage: run-places.sh BUILD-DIR - kvmstat run with VMMs that have another user,
# root or /tmp by the time that they make their VM, or short lives; and without memory

here=$(dirname "$0")
build=$1
kvmstat=$build/kvmstat/kvmstat
vmm=$build/tests/preload_vmm
. "$here/tap.sh"

# as tidy as the terminal of who has no variables set
unset LD_PRELOAD KVMSTATS_SOCKET KVMSTATS_NAME KVMSTATS_UUID

# With its table elsewhere, so that what the VMM says stands alone. An array,
# as a function in the background would be a process of its own.
run=("$kvmstat" run --json --interval 0.1 --output "$tap_dir/json")

run()
{
	"${run[@]}" "$@"
}

# events NAME: how many
events()
{
	grep -c "\"event\":\"$1\"" "$tap_dir/json" 2>/dev/null || true
}

# says TEXT STATUS COMMAND...
says()
{
	local text=$1

	shift
	status_is "$@" 2>"$tap_dir/err"
	local verdict=$?
	cat "$tap_dir/err"
	[ $verdict = 0 ] && grep -qF "$text" "$tap_dir/err"
}

# Of a VMM that cannot reach our socket by its path any more.
sees_a_vm()
{
	run -- "$@" && [ "$(events sent)" -gt 0 ] &&
		grep -q '"event":"sample".*"scope":"vcpu"' "$tap_dir/json"
}

drops_its_rights()
{
	mknod -m 666 "$tap_dir/kvm" c 10 232 &&
		sees_a_vm unshare -m sh -c 'mount --bind "$1/kvm" /dev/kvm &&
			exec setpriv --reuid 65534 --regid 65534 --clear-groups \
			"$1/copy/lib/preload_vmm" errno' sh "$tap_dir"
}

# elsewhere: a directory that is not below /tmp, of which programs can be started
elsewhere()
{
	local dir

	for dir in /var/tmp /run /dev/shm; do
		dir=$(mktemp -d "$dir/run-places.XXXXXX" 2>/dev/null) || continue
		cp "$tap_dir/copy/lib/"* "$dir" && [ -x "$dir/preload_vmm" ] &&
			echo "$dir" && return
		rm -r "$dir"
	done
	return 1
}

has_another_tmp()
{
	local dir status

	dir=$(elsewhere) || return 1
	"$kvmstat" run --json --interval 0.1 --output "$tap_dir/json" \
		--preload "$dir/libkvmstats-preload.so" -- \
		unshare -m sh -c 'mount -t tmpfs none /tmp && exec "$1" errno' sh \
		"$dir/preload_vmm"
	status=$?
	rm -r "$dir"
	[ $status = 0 ] && [ "$(events sent)" -gt 0 ]
}

changes_its_root()
{
	sees_a_vm "$vmm" chroot
}

# Another C library than ours: the loader ends the program for a symbol that it
# does not have. What _FORTIFY_SOURCE makes of others only glibc has; what the stack
# protector calls, all have.
other_c_library()
{
	! nm -D "$build/preload/libkvmstats-preload.so" | grep -v __stack_chk_fail |
		grep -E '_chk|isoc|scanf|strto' &&
		musl-gcc -D_GNU_SOURCE -idirafter /usr/include \
			-idirafter "/usr/include/$(uname -m)-linux-gnu" \
			"$here/preload_vmm.c" -o "$tap_dir/musl" -pthread &&
		sees_a_vm "$tap_dir/musl" errno
}

# The last moments of a VM, and all of a short one.
short_vm_is_counted()
{
	"$kvmstat" run --interval 60 -- "$build/demo/demo-vmm" --no-stats \
		--seconds 0.6 --vcpus 2 2>"$tap_dir/err" &&
		grep -q '^totals of VM demo-vmm' "$tap_dir/err" &&
		grep -qE '^exits +[1-9]' "$tap_dir/err" || return 1
	run --interval 60 -- "$build/demo/demo-vmm" --no-stats --seconds 0.3 &&
		[ "$(events sample)" = 1 ]
}

# The reader is stopped until the VMM has ended: all that was sent is received then,
# and SIGCONT does not end it.
dead_vm_is_counted()
{
	local pid child

	"${run[@]}" -- sh -c 'kill -STOP $PPID
		"$0" --no-stats --vcpus 4 --seconds 0.2; exit 6' "$build/demo/demo-vmm" &
	pid=$!
	until child=$(pgrep -P $pid) && grep -q '^State:.*Z' "/proc/$child/status"; do
		kill -0 $pid || return 1
		sleep 0.05
	done
	kill -CONT $pid
	status_is 6 wait $pid && [ "$(events gone)" = 1 ] &&
		jq -es '[.[] | select(.event == "sample")] | last.sources | map(.vcpu) ==
			[null, 0, 1, 2, 3]' "$tap_dir/json"
}

# The reader wakes so late that a sample is due when it learns of the VM: there is
# nothing in it yet, so that it is not the one that --count asks for.
late_reader_counts()
{
	cat >"$tap_dir/late.c" <<-END
		#define _GNU_SOURCE
		#include <dlfcn.h>
		#include <poll.h>
		#include <signal.h>
		#include <unistd.h>
		int ppoll(struct pollfd *polls, nfds_t count, const struct timespec *timeout,
			  const sigset_t *mask)
		{
			int (*next)(struct pollfd *, nfds_t, const struct timespec *,
				    const sigset_t *);
			int ret;

			*(void **)&next = dlsym(RTLD_NEXT, "ppoll");
			ret = next(polls, count, timeout, mask);
			if (ret > 0)
				usleep(150000);
			return ret;
		}
	END
	"${CC:-cc}" -shared -fPIC -o "$tap_dir/late.so" "$tap_dir/late.c" -ldl || return 1
	LD_PRELOAD=$tap_dir/late.so status_is 6 run --count 1 -- sh -c \
		'"$0" --no-stats --seconds 0.8; exit 6' "$build/demo/demo-vmm" &&
		[ "$(events sample)" = 1 ]
}

# table_is_incomplete: where all six vCPUs are to be in it
table_is_incomplete()
{
	cat "$tap_dir/table"
	grep -A 1 ' 7 descriptors$' "$tap_dir/table" | grep -qx '  out of memory: incomplete'
}

# There is no memory for an array of seven pointers, and so for the rates of a VM with
# six vCPUs. The VMM's own failure stays its status.
table_without_memory()
{
	local said='out of memory: a table is incomplete' status pid

	cat >"$tap_dir/seven.c" <<-END
		#include <stddef.h>
		extern void *__libc_calloc(size_t count, size_t size);
		void *calloc(size_t count, size_t size)
		{
			return count == 7 && size == sizeof(void *) ? NULL :
			       __libc_calloc(count, size);
		}
	END
	"${CC:-cc}" -shared -fPIC -o "$tap_dir/seven.so" "$tap_dir/seven.c" || return 1
	for status in 0 7; do
		LD_PRELOAD=$tap_dir/seven.so says "$said" $((status ? status : 1)) \
			"$kvmstat" run --interval 0.1 --output "$tap_dir/table" -- \
			sh -c '"$0" --no-stats --vcpus 6 --seconds 1; exit "$1"' \
			"$build/demo/demo-vmm" $status && table_is_incomplete || return 1
	done
	LD_PRELOAD=$tap_dir/seven.so says "$said" 1 "$kvmstat" listen --until-gone \
		--interval 0.1 "$tap_dir/socket" >"$tap_dir/table" &
	pid=$!
	until [ -S "$tap_dir/socket" ]; do
		kill -0 $pid || return 1
		sleep 0.05
	done
	"$build/demo/demo-vmm" --socket "$tap_dir/socket" --vcpus 6 --seconds 1 >/dev/null
	wait $pid && table_is_incomplete
}

no_library_is_said()
{
	local other

	other=$(ldd "$vmm" | sed -n 's/.*=> \(.*libc\.so[^ ]*\) .*/\1/p')
	says 'was not loaded' 0 run --preload "$other" -- true
}

mkdir -p "$tap_dir/copy/lib" && chmod 755 "$tap_dir" &&
	cp "$build/preload/libkvmstats-preload.so" "$vmm" "$tap_dir/copy/lib/"
check "a VM of less than an interval" short_vm_is_counted
check "a VM that has ended before its reader wakes" dead_vm_is_counted
check "a reader that wakes late, --count 1" late_reader_counts
check "no memory for all of a table of rates" table_without_memory
check "a library that is not loaded is said" no_library_is_said
if command -v musl-gcc >/dev/null; then
	check "a VMM of another C library" other_c_library
else
	skip "a VMM of another C library" "needs musl-gcc"
fi
if [ "$(id -u)" = 0 ]; then
	check "a VMM that drops its rights" drops_its_rights
	check "a VMM with a /tmp of its own" has_another_tmp
	check "a VMM that changes its root" changes_its_root
else
	skip "VMMs that change their place" "needs root"
fi
tap_done
