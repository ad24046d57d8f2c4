#!/usr/bin/env bash
# Builds Keybroker and shows its main job in a temporary directory, as the calling user; leaves nothing behind.
#   ./demo.sh          with the LiteLLM stand-in of the tests
#   LITELLM_BASE_URL=… LITELLM_MASTER_KEY=… [DEMO_MODEL=…] ./demo.sh      with a real LiteLLM
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
ROOT=$PWD
PYTHON=/usr/bin/python3
[ -x "$PYTHON" ] || PYTHON=python3

URL=${LITELLM_BASE_URL:-}
MASTER=${LITELLM_MASTER_KEY:-}
if [ "${URL:+set}" != "${MASTER:+set}" ]; then
	echo "demo: LITELLM_BASE_URL and LITELLM_MASTER_KEY belong together: set both, or neither for the stand-in" >&2
	exit 64
fi

# --- build ---
scripts/install-deps.sh build
mkdir -p build/logs
LOG=build/logs/demo-build.log
echo "Building (half a minute the first time; log: $LOG)" >&2
if ! { cmake --preset release && cmake --build --preset release; } >"$LOG" 2>&1; then
	tail -n 40 "$LOG" >&2
	exit 1
fi

# --- a home of its own; short, since a socket's path may have 107 bytes only ---
D=$(mktemp -d /tmp/keybroker-demo.XXXXXX)
DAEMON='' STANDIN=''

cleanup() {
	local r=$?
	trap - EXIT INT TERM
	stop "$DAEMON"
	[ ! -f "$D/files/team" ] || take_back || r=1
	stop "$STANDIN"
	[ "$r" = 0 ] || { echo "demo: failed; the broker's log:" >&2; cat "$D/log" >&2 2>/dev/null || true; }
	rm -rf "$D"
	exit "$r"
}

stop() { # PID, which may be empty
	[ -n "$1" ] || return 0
	kill "$1" 2>/dev/null || true
	wait "$1" 2>/dev/null || true
}

trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

mkdir -m 700 "$D/run" "$D/state" "$D/config" "$D/files"
for name in $(compgen -e | grep -E '^(LITELLM_|OPENAI_|KEYBROKER_|XDG_|RUNTIME_DIRECTORY$|STATE_DIRECTORY$)' || true); do
	unset "$name"
done
export XDG_RUNTIME_DIR=$D/run XDG_STATE_HOME=$D/state XDG_CONFIG_HOME=$D/config
export PATH=$ROOT/build/release:$PATH

# Waits for a condition, at most ten seconds.
until_true() { # COMMAND...
	local deadline=$((SECONDS + 10))
	while [ "$SECONDS" -lt "$deadline" ]; do
		"$@" 2>/dev/null && return 0
		sleep 0.05
	done
	echo "demo: waited in vain for: $*" >&2
	return 1
}

say() { printf '%s\n' "${BOLD:-}== $*${BOLD:+$'\033[0m'}"; }
[ ! -t 1 ] || BOLD=$'\033[1m'
run() { # COMMAND...
	printf '$ %s\n' "$*"
	"$@"
}
chat() { # EXEC-OPTIONS...
	printf '$ %s\n' "keybroker exec${1:+ $*} -- python3 chat.py"
	keybroker exec "$@" -- "$PYTHON" -B "$D/files/chat.py"
}

# --- LiteLLM ---
if [ -z "$URL" ]; then
	MASTER=sk-demo-master-key
	"$PYTHON" -B tests/standin/standin.py --quiet --port 0 --port-file "$D/port" --master-key "$MASTER" &
	STANDIN=$!
	until_true test -s "$D/port"
	URL=http://127.0.0.1:$(head -n 1 "$D/port")
	WHAT="the stand-in for LiteLLM"
else
	WHAT="LiteLLM"
fi

# --- the broker: the only one who is told the master key ---
NAME=keybroker-demo-${D##*.}
(umask 077 && printf '%s\n' "$MASTER" >"$D/files/master.key")
mkdir -m 700 "$D/config/keybroker"
cat >"$D/config/keybroker/keybroker.conf" <<EOF
# The demo's names are its own, so that a real LiteLLM's keys are not met.
cleanup_old_keys = no
upstream { url = "$URL" master_key_file = "$D/files/master.key" }
profile "service" { alias = "$NAME" team_alias = "$NAME" }
profile "process" { alias = "$NAME-%{pid}" models = { "all-team-models" } team_alias = "$NAME" duration = "1h" }
profile "payroll" { mode = dedicated models = { "gpt-5" } }
rule "me" { uid = $(id -u) profiles = { "service", "process" } }
rule "payroll" { uid = $(($(id -u) + 1)) profiles = { "payroll" } }
EOF

# The demo's housekeeping, after the broker has ended: deletes the keys of the demo's own team, and the team.
take_back() {
	"$PYTHON" -B - "$URL" "$D/files/master.key" "$NAME" <<'EOF'
import json, sys, urllib.parse, urllib.request
url, key_file, name = sys.argv[1:]
master = open(key_file).read().strip()
def call(path, body=None):
    request = urllib.request.Request(url.rstrip("/").removesuffix("/v1") + path, body and json.dumps(body).encode(),
                                     {"Authorization": "Bearer " + master, "Content-Type": "application/json"})
    return json.load(urllib.request.urlopen(request, timeout=20))
def take_back():
    found = call("/v2/team/list?page_size=100&team_alias=" + urllib.parse.quote(name))["teams"]
    for team in (team["team_id"] for team in found if team["team_alias"] == name):
        keys = lambda: call("/key/list?size=100&team_id=" + urllib.parse.quote(team))["keys"]
        for key in keys():
            call("/key/delete", {"keys": [key]})
        left = keys()
        call("/team/delete", {"team_ids": [team]})
        if left:
            return f"demo: LiteLLM still has {len(left)} keys of the demo"
try:
    sys.exit(take_back())
except (OSError, ValueError, LookupError, TypeError) as why:  # refused, away, or no LiteLLM at all
    sys.exit(f"demo: LiteLLM could not be asked to delete what the demo may have made there (team {name}): {why}")
EOF
	rm -f "$D/files/team"
}

touch "$D/files/team" # from here on there may be something upstream
keybrokerd >"$D/log" 2>&1 &
DAEMON=$!
until_true grep -q READY "$D/log"

# A program that knows nothing of Keybroker: it reads the two variables that every OpenAI client reads.
cat >"$D/files/chat.py" <<'EOF'
import hashlib, json, os, urllib.request
key, base = os.environ["OPENAI_API_KEY"], os.environ["OPENAI_BASE_URL"]
def call(path, body=None):
    request = urllib.request.Request(base + path, body and json.dumps(body).encode(),
                                     {"Authorization": "Bearer " + key, "Content-Type": "application/json"})
    return json.load(urllib.request.urlopen(request, timeout=60))
model = os.environ.get("DEMO_MODEL") or call("/models")["data"][0]["id"]
answer = call("/chat/completions", {"model": model, "messages": [{"role": "user", "content": "ping"}]})
text = answer["choices"][0]["message"]["content"]
print(f"  pid {os.getpid()}, key {hashlib.sha256(key.encode()).hexdigest()[:8]}: {model} says {text!r}")
EOF
say "Keybroker before $WHAT at $URL"
say "1. A process gets a key and makes a chat completion with it"
chat
say "2. A second process shares that key; one with the profile 'process' gets its own"
chat
chat --profile process
say "3. The key is rotated: the next process gets the new one"
run keybroker rotate service
chat
say "4. A caller without a rule is refused"
printf '$ keybroker get --profile payroll\n'
r=0
{ keybroker get --profile payroll >/dev/null; } 2>&1 || r=$?
echo "  exit code $r"
[ "$r" = 77 ] || { echo "demo: that should have been refused with 77" >&2; exit 1; }
say "5. The audit of all that"
run keybroker audit read
say "The end: the broker stops, its keys leave LiteLLM"
stop "$DAEMON"
DAEMON=
take_back
echo "LiteLLM has no key of the demo left, $D is removed."
