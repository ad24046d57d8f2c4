#!/bin/sh
# Installs the Debian packages that the project needs; the one place that names them.
#   scripts/install-deps.sh [build|test]    build: what the programs need; test (default): the tests' tools too
# Does nothing, and needs no network, when all are there. As root it installs; else it says what is missing.
set -eu

build="gcc libc6-dev cmake ninja-build pkg-config libevent-dev libcurl4-openssl-dev libmsgpack-dev libsqlite3-dev
	libsodium-dev libconfuse-dev libjansson-dev uthash-dev python3"
test="libcmocka-dev python3-pytest python3-pytest-xdist python3-msgpack python3-venv ca-certificates binutils clang-14 clang clang-format-14 clang-tidy
	libclang-rt-14-dev shellcheck faketime systemd"

# The clients' toolchains: one that is on PATH is used, wherever it is from.
for tool in node:nodejs npm:npm go:golang-go; do
	command -v "${tool%:*}" >/dev/null || test="$test ${tool#*:}"
done

case ${1:-test} in
build) wanted=$build ;;
test) wanted="$build $test" ;;
*)
	echo "usage: $0 [build|test]" >&2
	exit 64
	;;
esac

if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
	echo "install-deps: not a Debian system; make sure that these, as Debian 12 calls them, are there:" >&2
	echo "$wanted" | tr -s '\t\n' ' ' >&2
	exit 0
fi

missing=
for package in $wanted; do
	state=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)
	case $state in
	installed*) ;; # once for each architecture
	*) missing="$missing $package" ;;
	esac
done
[ -n "$missing" ] || exit 0

if [ "$(id -u)" -ne 0 ]; then
	echo "install-deps: packages are missing:$missing" >&2
	echo "install-deps: run this as root:  apt-get install -y --no-install-recommends$missing" >&2
	exit 69
fi
echo "install-deps: installing$missing" >&2
export DEBIAN_FRONTEND=noninteractive
# The list of packages may be absent or old on a fresh machine: try without, then fetch it.
# shellcheck disable=SC2086
if ! apt-get install -y -qq --no-install-recommends $missing >/dev/null 2>&1; then
	apt-get update -qq
	apt-get install -y -qq --no-install-recommends $missing >/dev/null
fi
