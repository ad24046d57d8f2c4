#!/usr/bin/env bash
# Packs the module as the Go proxy would serve it, and builds the programs of clients/README.md against that, in an empty
# module cache below DEST.
#   tests/install.sh DEST
set -euo pipefail
[ $# = 1 ] || { echo "usage: $0 DEST" >&2; exit 64; }
mkdir -p "$1"
DEST=$(cd "$1" && pwd)
LIBRARY=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
MODULE=github.com/keybroker/keybroker/clients/go
VERSION=v0.1.0 # on the way to a registry it is the tag's: clients/go/v0.1.0

say() { printf 'go: %s\n' "$*" >&2; }
missing() { say "$*"; exit 69; }

GO=$(command -v go) || missing "no go on PATH"
MINOR=$(GOTOOLCHAIN=local go env GOVERSION | sed -n 's/^go1\.\([0-9]*\).*/\1/p')
[ "${MINOR:-0}" -ge 19 ] || missing "go 1.19 or newer is needed, and $(GOTOOLCHAIN=local go version) is what there is"

# For DEST/own, too. A module cache is read-only unless told otherwise, and could not be removed.
cat >"$DEST/environment" <<EOF
export PATH='$(dirname "$GO"):/usr/local/bin:/usr/bin:/bin' GOTOOLCHAIN=local GOWORK=off
export GOPATH='$DEST/go' GOMODCACHE='$DEST/go/mod' GOCACHE='$DEST/go/cache' GOTMPDIR='$DEST/go/tmp' GOENV=off
export GOPROXY='file://$DEST/proxy,$(go env GOPROXY)' GONOSUMDB='$MODULE' GOSUMDB='$(go env GOSUMDB)'
export GOFLAGS='$(go env GOFLAGS) -mod=mod -modcacherw'
EOF
rm -rf "$DEST/src" "$DEST/vectors" "$DEST/proxy" "$DEST/go" # of an earlier run: Go takes a version for what it once was
mkdir -p "$DEST/go/tmp"
# shellcheck disable=SC1091
. "$DEST/environment"

say "packing $MODULE $VERSION with $(go env GOVERSION)"
cp -r "$LIBRARY/tests" "$DEST/src"
cp -r "$LIBRARY/../../proto/vectors" "$DEST/vectors"
(cd "$DEST/src/pack" && go run . "$LIBRARY" "$MODULE" "$VERSION" "$DEST/proxy")

say "building driver and bench"
cd "$DEST/src"
go mod edit -dropreplace "$MODULE"
go get "$MODULE@$VERSION"
go build -o "$DEST/driver" ./driver
go build -o "$DEST/bench" ./bench

say "building example"
GOBIN=$DEST/go/bin go install "$MODULE/examples/chat@$VERSION"
cp "$DEST/go/bin/chat" "$DEST/example"

SDK=$(awk -v minor="$MINOR" '!/^#/ { split($1, go, "."); if (go[2] <= minor) { print $2; exit } }' sdk/pins)
say "building sdk with $SDK"
cd sdk
go get "$MODULE@$VERSION" "$SDK"
go build -o "$DEST/sdk" .

cat >"$DEST/own" <<EOF
#!/bin/sh
# The library's own tests, as they are in the artefact.
set -e
. '$DEST/environment'
export GOPROXY=off KEYBROKER_VECTORS='$DEST/vectors'
cd '$DEST/src'
go vet $MODULE $MODULE/examples/...
go test -count=1 -race $MODULE $MODULE/examples/...
EOF
chmod +x "$DEST/own"
