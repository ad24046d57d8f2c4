#!/bin/sh
# The library exports what keybroker.h declares, each with its version, and nothing else; and is found by both ways of building.
#   exports.sh PREFIX CONSUMER
set -eu
prefix=$1 consumer=$2
library=$prefix/lib/libkeybroker.so
declared=$(sed -n 's/^[a-z].*[ *]\(keybroker_[a-z_]*\)(.*/\1@@KEYBROKER_1/p' "$prefix/include/keybroker.h" | LC_ALL=C sort)
exported=$(nm -D --defined-only --with-symbol-versions "$library" | awk '$2 == "T" { print $3 }' | LC_ALL=C sort)
[ "$declared" = "$exported" ] || { printf 'declared:\n%s\nexported:\n%s\n' "$declared" "$exported" >&2; exit 1; }
readelf -d "$library" | grep -q 'SONAME.*\[libkeybroker.so.1\]'
for program in driver bench example; do
	readelf -d "$consumer/$program" | grep -q 'NEEDED.*\[libkeybroker.so.1\]'
done
