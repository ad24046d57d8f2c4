#!/bin/sh
# Installs libkeybroker below DEST as a distribution would, and builds the tests' programs against it as others would: once by
# pkg-config, once by find_package() (clients/README.md, "How they are tested").
#   clients/c/tests/install.sh DEST
set -eu
dest=${1:?usage: $0 DEST}
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../../.." && pwd)

for tool in cc cmake ninja pkg-config; do
	command -v $tool >/dev/null || { echo "clients/c: no $tool: scripts/install-deps.sh test" >&2; exit 69; }
done
say() { echo "clients/c: $*" >&2; }
mkdir -p "$dest"
dest=$(cd "$dest" && pwd)
own="test_find test_handle test_keybroker test_keybroker_get test_credential test_loop test_fork test_call test_message test_message_vectors fuzz_message fuzz_keybroker_lease"
threaded="test_credential test_fork test_loop" # again under ThreadSanitizer

say "building the library and its own tests"
cmake -S "$root" -B "$dest/build" -G Ninja -DCMAKE_BUILD_TYPE=RelWithDebInfo -DCMAKE_INSTALL_LIBDIR=lib -DKEYBROKER_TESTS=ON >&2
# shellcheck disable=SC2086
cmake --build "$dest/build" -j "$(nproc)" --target libkeybroker $own >&2
cmake -S "$root" -B "$dest/tsan" -G Ninja -DCMAKE_BUILD_TYPE=Debug -DKEYBROKER_TESTS=ON -DKEYBROKER_SANITIZE=thread >&2
# shellcheck disable=SC2086
cmake --build "$dest/tsan" -j "$(nproc)" --target $threaded >&2
say "installing"
cmake --install "$dest/build" --prefix "$dest/usr" --component libkeybroker >&2

say "building the programs by pkg-config"
export PKG_CONFIG_PATH="$dest/usr/lib/pkgconfig"
compile() { # PROGRAM PACKAGES SOURCES...
	program=$1 packages=$2
	shift 2
	# shellcheck disable=SC2046,SC2086
	cc -std=gnu17 -O2 -Wall -Wextra -Werror -D_GNU_SOURCE -pthread "$@" -o "$dest/$program" $(pkg-config --cflags --libs keybroker $packages) \
		-Wl,-rpath,"$dest/usr/lib"
}
compile driver "jansson libsodium" "$here/driver.c" "$here/asks.c" "$here/calls.c" "$here/http.c"
compile bench "" "$here/bench.c"
compile example libcurl "$here/../examples/chat.c"

say "building them by find_package()"
cmake -S "$here/consumer" -B "$dest/consumer" -G Ninja -DCMAKE_BUILD_TYPE=Release -DCMAKE_PREFIX_PATH="$dest/usr" >&2
cmake --build "$dest/consumer" >&2

cat >"$dest/own" <<END
#!/bin/sh
# The library's own tests.
set -eu
for test in $own; do
	case \$test in
	fuzz_*) '$dest'/build/tests/\$test '$root'/tests/fuzz/corpus/\${test#fuzz_} ;;
	*) '$dest'/build/tests/\$test ;;
	esac
done
still= # ThreadSanitizer of GCC 12 wants less of address randomisation than newer kernels have
! setarch -R true 2>/dev/null || still='setarch -R'
for test in $threaded; do
	\$still '$dest'/tsan/tests/\$test
done
exec '$here/exports.sh' '$dest/usr' '$dest/consumer'
END
chmod +x "$dest/own"
