#!/bin/sh
# Builds sdist and wheel, installs the wheel in an empty environment below DEST, and puts the programs that clients/README.md names there.
# usage: install.sh DEST
set -eu

here=$(cd "$(dirname "$0")/.." && pwd)
mkdir -p "$1"
dest=$(cd "$1" && pwd)
python=${PYTHON:-/usr/bin/python3}
export PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1 PYTHONDONTWRITEBYTECODE=1
exec >&2

if ! "$python" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 9))'; then
	echo "python: no Python 3.9 or later with venv (Debian: python3-venv)"
	exit 69
fi

echo "python: building sdist and wheel"
rm -rf "$dest/source" "$dest/dist" "$dest/build" "$dest/env"
mkdir -p "$dest/source"
cp -R "$here/." "$dest/source"
cp -R "$here/../../proto/vectors" "$dest/vectors"
"$python" -m venv "$dest/build"
"$dest/build/bin/pip" install -q build
"$dest/build/bin/python" -m build -q --outdir "$dest/dist" "$dest/source" # the wheel is made from the sdist

echo "python: installing the wheel alone"
"$python" -m venv "$dest/env"
"$dest/env/bin/pip" install -q "$dest"/dist/keybroker-*.whl
"$dest/env/bin/python" -c 'import keybroker, keybroker.aio'
needed=$("$dest/env/bin/pip" list --format freeze | cut -d= -f1 | grep -vxE 'pip|setuptools|wheel' | sort | tr '\n' ' ')
[ "$needed" = "keybroker msgpack " ] || { echo "python: the wheel brought $needed"; exit 1; }

echo "python: installing what the tests need"
"$dest/env/bin/pip" install -q -r "$here/tests/requirements.txt"

program() { # NAME COMMAND: an executable file
	printf '#!/bin/sh\nexport PYTHONDONTWRITEBYTECODE=1\n%s\n' "$2" > "$dest/$1"
	chmod +x "$dest/$1"
}
rm -r "$dest/source/src" # what is tested is what was installed
tests=$dest/source/tests
program driver "exec '$dest/env/bin/python' '$tests/driver.py'"
program sdk "exec '$dest/env/bin/python' '$tests/sdk.py' \"\$@\""
program bench "exec '$dest/env/bin/python' '$tests/bench.py' \"\$@\""
program example "exec '$dest/env/bin/python' '$dest/source/examples/chat.py' \"\${KEYBROKER_TEST_MODEL:-gpt-5}\""
program own "cd '$dest/source'
export KEYBROKER_VECTORS='$dest/vectors'
'$dest/env/bin/python' -m mypy --strict --cache-dir '$dest/mypy' -p keybroker &&
exec '$dest/env/bin/python' -m pytest -q -p no:cacheprovider \"\$@\""
echo "python: done"
