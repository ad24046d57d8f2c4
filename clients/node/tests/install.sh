#!/bin/sh
# install.sh DEST: builds the package, installs it from the tarball below DEST, and puts the programs there that
# clients/README.md names.
set -eu
[ $# = 1 ] || { echo "usage: install.sh DEST" >&2; exit 64; }
for tool in node npm; do
	command -v "$tool" >/dev/null || { echo "no $tool: install nodejs and npm" >&2; exit 69; }
done
node=$(command -v node)
major=$("$node" -p 'process.versions.node.split(".")[0]')
[ "$major" -ge 18 ] || { echo "node $("$node" --version) is too old: 18 or newer is needed" >&2; exit 69; }

here=$(cd "$(dirname "$0")/.." && pwd)
mkdir -p "$1"
dest=$(cd "$1" && pwd)
cd "$dest"
export npm_config_cache="$dest/cache" npm_config_audit=false npm_config_fund=false npm_config_update_notifier=false

echo "npm pack" >&2
rm -rf package.json package-lock.json node_modules tests vectors examples keybroker-*.tgz
npm pack --silent --pack-destination "$dest" "$here" >&2
tarball=$(ls "$dest"/keybroker-*.tgz)

# what the tests need, at the versions that package.json has; of the SDK the newest that this Node can run
tools=$("$node" -p '
	const { devDependencies } = require(process.argv[1]);
	if (process.argv[2] >= 22) devDependencies.openai = "7.57.0";
	Object.entries(devDependencies).map(([name, version]) => `${name}@${version}`).join(" ")' "$here/package.json" "$major")
echo "npm install: the tarball, $tools" >&2
echo '{ "private": true }' > package.json
# shellcheck disable=SC2086 # one word each
npm install --silent "$tarball" $tools >&2

cp -R "$here/tests" "$here/examples" .
cp -R "$here/../../proto/vectors" .

program() { # NAME ARGUMENT...
	name=$1
	shift
	printf '#!/bin/sh\nexec "%s" %s "$@"\n' "$node" "$*" > "$name"
	chmod 755 "$name"
}
program own --test "'$dest'/tests/"*.test.js
program driver "'$dest/tests/driver.js'"
program sdk "'$dest/tests/sdk.mjs'"
program bench "'$dest/tests/bench.js'"
program example "'$dest/examples/chat.mjs'"
