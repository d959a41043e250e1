#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# usage: install.sh BUILD-DIR - install into a root of its own, use it there

here=$(cd "$(dirname "$0")" && pwd)
build=$1
. "$here/tap.sh"
root=$tap_dir/root
: "${CC:=cc}"

install_there()
{
	make -C "$here/.." O="$build" DESTDIR="$root" PREFIX=/usr install
}

flags()
{
	PKG_CONFIG_LIBDIR=$root/usr/lib/pkgconfig \
		PKG_CONFIG_SYSROOT_DIR=$root pkg-config "$@" libkvmstats
}

cat >"$tap_dir/three.c" <<'END'
#include <kvmstats.h>
#include <stdio.h>
int main(void) { return puts(kvmstats_type_name(KVMSTATS_PEAK)) == EOF; }
END

shared_program()
{
	# shellcheck disable=SC2046 # several flags
	$CC -Wall -Werror "$tap_dir/three.c" -o "$tap_dir/three" \
		$(flags --cflags --libs) &&
		[ "$(LD_LIBRARY_PATH=$root/usr/lib "$tap_dir/three")" = peak ] &&
		readelf -d "$tap_dir/three" | grep -q 'libkvmstats.so.0'
}

static_program()
{
	# shellcheck disable=SC2046
	$CC -Wall -Werror -static "$tap_dir/three.c" -o "$tap_dir/three" \
		$(flags --static --cflags --libs) &&
		[ "$("$tap_dir/three")" = peak ]
}

# A VMM in C++, of whatever year.
header_in_cpp()
{
	local std

	for std in c++98 c++11 c++17 c++20; do
		echo '#include <kvmstats.h>' | g++ -std=$std -Wall -Wextra \
			-Werror -pedantic -fsyntax-only -I"$root/usr/include" \
			-xc++ - || return
	done
}

cpp_program()
{
	cp "$tap_dir/three.c" "$tap_dir/three.cc"
	# shellcheck disable=SC2046
	g++ -Wall -Wextra -Werror -pedantic "$tap_dir/three.cc" \
		-o "$tap_dir/three" $(flags --cflags --libs) &&
		[ "$(LD_LIBRARY_PATH=$root/usr/lib "$tap_dir/three")" = peak ]
}

header_alone()
{
	echo '#include <kvmstats.h>' | $CC -std=c11 -Wall -Wextra -Werror \
		-pedantic -fsyntax-only -I"$root/usr/include" -xc -
}

# Exactly the functions of the header are exported, all of one version.
symbols()
{
	cmp <(nm -D --defined-only "$root/usr/lib/libkvmstats.so.0" |
		awk '$2 == "T" { sub(/@@KVMSTATS_0$/, "", $3); print $3 }' |
		sort) \
	<(sed '/^ \*\|^\/\*/d' "$root/usr/include/kvmstats.h" |
		grep -o '\bkvmstats_[a-z0-9_]*(' | tr -d '(' | sort -u)
}

# As a cross build is: nothing of liburing in it, and nothing of it asked for.
without_liburing()
{
	local other=$tap_dir/plain dir=$tap_dir/plain-root

	make -C "$here/.." O="$other" URING=0 DESTDIR="$dir" PREFIX=/usr \
		install-library || return
	! nm "$dir/usr/lib/libkvmstats.a" | grep -i io_uring &&
		! grep -i uring "$dir/usr/lib/pkgconfig/libkvmstats.pc" &&
		$CC -static "$tap_dir/three.c" -o "$tap_dir/three" \
			-I"$dir/usr/include" -L"$dir/usr/lib" -lkvmstats &&
		[ "$("$tap_dir/three")" = peak ]
}

installed_command()
{
	"$root/usr/bin/kvmstat" version | grep -x 'kvmstat [0-9.]*' &&
		[ "$("$root/usr/bin/kvmstat" version | cut -d' ' -f2)" = \
			"$(flags --modversion)" ]
}

# As the manual has it, with the installed paths.
plot()
{
	local file=$root/usr/share/kvmstat/plot-record.gp command

	command=$(sed -n '/^\.\\" example: plot$/,/^\.Ed/{/^\./d;s/\\e$/\\/;p}' \
		"$root/usr/share/man/man1/kvmstat.1")
	[[ $command == *" /usr/share/kvmstat/plot-record.gp "* ]] && [ -r "$file" ] || return 1
	[ -n "$(command -v gnuplot)" ] || { echo "no gnuplot"; return 0; }
	command=${command//kvmstat record/kvmstat record --image $here/data/x86_64-6.18-vcpu0.bin}
	command=${command//--duration 180/--interval 0.1 --duration 1}
	(cd "$tap_dir" && here=$here PATH=$root/usr/bin:$PATH \
		eval "${command//\/usr\/share/$root\/usr\/share}") &&
		grep -q '<title>kvm-[0-9]*</title>' "$tap_dir/vms.svg"
}

check "make install into a root of its own" install_there
check "header needs nothing else" header_alone
check "program against the shared library" shared_program
check "program against the static library" static_program
check "program in C++" cpp_program
check "header in every C++" header_in_cpp
check "built without liburing" without_liburing
check "exported symbols are those of the header" symbols
check "installed command" installed_command
check "the manual's plot of a record" plot
tap_done
