# SPDX-License-Identifier: GPL-2.0-only
# An apt of our own for Debian 11, whose kernel this is about, or APT_SUITE: its
# lists, state and cache apart from the system's. Sourced after lib.sh, never run.
# shellcheck shell=bash

KEYRING=/usr/share/keyrings/debian-archive-keyring.gpg

# Print the addresses of all package archives that this machine uses, from
# both forms of apt's source lists.
apt_addresses()
{
	local file

	for file in /etc/apt/sources.list /etc/apt/sources.list.d/*.list; do
		[ -f "$file" ] || continue
		sed -n 's/^deb\(-src\)\? \+\(\[[^]]*\] *\)\?\([^ ]*\) .*/\3/p' \
			"$file"
	done
	for file in /etc/apt/sources.list.d/*.sources; do
		[ -f "$file" ] || continue
		sed -n 's/^URIs: *//p' "$file" | tr ' ' '\n'
	done
}

# The first of this machine's archives of a kind: the main one ends in /debian,
# the security one in /debian-security (or its host name says so).
mirror()
{
	apt_addresses | sed 's,/*$,,' | case $1 in
		main) grep -E '/debian$' ;;
		security) grep -E '/debian-security$|^[a-z+]*://security\.[^/]*/debian$' ;;
	esac | head -n 1 || true
}

# isolated_apt_config DIR deb|deb-src...: The system's proxy and transport
# settings stay, its lists are not touched.
isolated_apt_config()
{
	local dir=$1 main security type suite=${APT_SUITE:-bullseye}

	shift
	main=$(mirror main)
	if [ -z "$main" ]; then
		say "apt's sources name no Debian archive (an address ending in /debian)" >&2
		return 1
	fi
	# A mirror of one is mostly a mirror of the other.
	security=$(mirror security)
	security=${security:-$main-security}
	mkdir -p "$dir/etc/preferences.d" "$dir/etc/sources.list.d" \
		"$dir/state/lists/partial" "$dir/cache/archives/partial"
	ln -sfn /etc/apt/apt.conf.d "$dir/etc/apt.conf.d"
	for type in "$@"; do
		cat <<-END
			$type [signed-by=$KEYRING] $main $suite main
			$type [signed-by=$KEYRING] $security $suite-security main
		END
	done >"$dir/etc/sources.list"
}

# isolated_apt DIR get|cache ARGUMENT...
isolated_apt()
{
	local dir=$1 tool=$2

	shift 2
	"apt-$tool" -q -o Dir::Etc="$dir/etc" -o Dir::State="$dir/state" \
		-o Dir::State::status=/dev/null -o Dir::Cache="$dir/cache" \
		-o APT::Sandbox::User="$(id -un)" \
		-o Acquire::Languages=none -o Acquire::Retries=2 "$@"
}
