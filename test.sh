#!/usr/bin/env bash
# Builds and tests everything. It installs the Debian packages it needs as root, and names them otherwise.
#   ./test.sh [PYTEST ARGS]        dev and asan: unit tests, checks, fuzz corpus, contract, end to end; dev: 2 minutes of torture
#   ./test.sh clients [LANG] [PYTEST ARGS]   the client libraries (c, python, node, go) alone, in dev
#   ./test.sh live [PYTEST ARGS]   end to end and contract against LITELLM_BASE_URL with LITELLM_MASTER_KEY
#   ./test.sh tidy                 clang-tidy over everything
#   ./test.sh fuzz SECONDS [NAME]  libFuzzer, each target for SECONDS
#   ./test.sh bench [ARGS]         the figures
#   ./test.sh load [SECONDS [CLIENTS]]   a key that rotates every 2 s under so many clients (60, 500)
#   ./test.sh chaos MINUTES [NAME=VALUE...]   several instances tortured (tests/chaos/run.py); CHAOS_PRESET=asan for that build
#   ./test.sh mutants [NAME...]    does the torture find a broken broker? (tests/chaos/mutants.py)
# A failure in dev does not keep asan from running; the last line is pytest's summary, of a failed run if there is one.
# KEYBROKER_FORBID_SKIPS=1 makes a skipped test a failed one. JOBS is the number of parallel jobs.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

PYTHON=/usr/bin/python3 # Debian's, which has its pytest and msgpack
JOBS=${JOBS:-$(nproc)}
LOGS=build/logs
FAILED=() # what did, of the steps that the others don't need
SUMMARY='' BAD_SUMMARY='' # pytest's last lines
trap 'exit 130' INT # pytest ends on its own at Ctrl-C, and the next step must not begin then
export PYTHONDONTWRITEBYTECODE=1 PYTHONPATH=tests
mkdir -p "$LOGS"

say() { printf '== %s\n' "$*"; }

# Runs a step that the next ones don't need; end() fails for it.
attempt() { # NAME COMMAND...
	local name=$1
	shift
	"$@" || FAILED+=("$name")
}

end() {
	[ ${#FAILED[@]} != 0 ] || return 0
	local names
	printf -v names ', %s' "${FAILED[@]}"
	say "FAILED: ${names:2}"
	echo "${BAD_SUMMARY:-$SUMMARY}"
	exit 1
}

# Runs a command silently; shows its output only if it fails.
quietly() { # LOG COMMAND...
	local log=$LOGS/$1 r=0
	shift
	"$@" >"$log" 2>&1 || r=$?
	[ "$r" = 0 ] || tail -n 60 "$log"
	return "$r"
}

build() { # PRESET
	say "building $1"
	quietly "configure-$1.log" cmake --preset "$1"
	quietly "build-$1.log" cmake --build --preset "$1" -j "$JOBS"
}

sanitizer_options() { # PRESET
	unset ASAN_OPTIONS UBSAN_OPTIONS KEYBROKER_SANITIZER_LOG
	[ "$1" = asan ] || return 0
	export ASAN_OPTIONS=detect_leaks=1:abort_on_error=1:strict_string_checks=1:detect_stack_use_after_return=1
	export UBSAN_OPTIONS=print_stacktrace=1
}

# The daemon's reports go to files, since a test may have closed its standard error.
log_sanitizers() { # PRESET
	[ "$1" = asan ] || return 0
	export KEYBROKER_SANITIZER_LOG=$PWD/build/asan/sanitizer
	ASAN_OPTIONS=$ASAN_OPTIONS:log_path=$KEYBROKER_SANITIZER_LOG
	UBSAN_OPTIONS=$UBSAN_OPTIONS:log_path=$KEYBROKER_SANITIZER_LOG
	export ASAN_OPTIONS UBSAN_OPTIONS
}

# cmocka's skips are invisible to ctest.
no_unit_skips() { # PRESET
	[ "${KEYBROKER_FORBID_SKIPS:-}" = 1 ] || return 0
	if grep -F '[  SKIPPED ]' "build/$1/Testing/Temporary/LastTest.log"; then
		echo "unit tests were skipped, and skips are forbidden here"
		return 1
	fi
}

unit() { # PRESET
	say "unit tests, checks and fuzz corpus ($1)"
	quietly "ctest-$1.log" ctest --preset "$1" -j "$JOBS" && grep 'tests passed' "$LOGS/ctest-$1.log" && no_unit_skips "$1"
}

run_pytest() { # PRESET ARGS...
	local preset=$1 log r=0 color=auto
	log=$LOGS/pytest-$preset.log
	shift
	[ ! -t 1 ] || color=yes
	# a test waits more than it works, so twice as many run as there are processors
	KEYBROKER_BUILD=$PWD/build/$preset "$PYTHON" -m pytest -q -rs -n "${WORKERS:-$((2 * JOBS))}" -p no_skips -p sanitizer_reports \
		-p no:cacheprovider --color=$color "$@" | tee "$log" || r=$?
	SUMMARY=$(tail -n 1 "$log")
	[ "$r" = 0 ] || BAD_SUMMARY=$SUMMARY
	return "$r"
}

end_to_end() { # PRESET ARGS...
	local r=0
	log_sanitizers "$1"
	run_pytest "$@" || r=$?
	sanitizer_options "$1" # what the daemon's logs were told is not for the unit tests
	return "$r"
}

shell_scripts() {
	command -v shellcheck >/dev/null || return 0
	say "shellcheck"
	shellcheck -x ./*.sh scripts/*.sh .ci/run
}

everything() {
	local preset suites="tests/contract tests/e2e" # the contract is the stand-in's: once is enough
	unset LITELLM_BASE_URL LITELLM_MASTER_KEY
	scripts/install-deps.sh test
	shell_scripts
	build release # a test compares it: no fail points, no --timing
	for preset in dev asan; do
		build "$preset"
		sanitizer_options "$preset"
		attempt "unit tests and checks ($preset)" unit "$preset"
		say "$suites ($preset)"
		# shellcheck disable=SC2086
		attempt "$suites ($preset)" end_to_end "$preset" -m "not live" $suites "$@"
		suites=tests/e2e
		[ "$preset" != dev ] || attempt "torture" torture dev 2
	done
	end
}

clients() { # [LANG] [PYTEST ARGS]
	case ${1:-} in c | python | node | go) export KEYBROKER_CLIENTS=$1 && shift ;; esac
	scripts/install-deps.sh test
	build dev
	say "tests/clients (${KEYBROKER_CLIENTS:-all})"
	run_pytest dev -m "not live" tests/clients "$@"
}

torture() { # PRESET MINUTES [NAME=VALUE...]
	local preset=$1
	shift
	say "torture ($preset): $*"
	KEYBROKER_BUILD=$PWD/build/$preset "$PYTHON" tests/chaos/run.py "$@"
}

chaos() { # MINUTES [NAME=VALUE...]
	local preset=${CHAOS_PRESET:-dev}
	scripts/install-deps.sh test
	build "$preset"
	sanitizer_options "$preset"
	torture "$preset" "$@"
}

load() { # SECONDS CLIENTS
	scripts/install-deps.sh test
	build dev
	say "rotation under load: $1 s, $2 clients"
	KEYBROKER_LOAD_SECONDS=$1 KEYBROKER_LOAD_CLIENTS=$2 run_pytest dev -s -m "not live" tests/e2e/test_rotate_load.py -k two_seconds
}

mutants() { # [NAME...]
	scripts/install-deps.sh test
	build dev
	say "mutants"
	"$PYTHON" tests/chaos/mutants.py "$@"
}

# The OpenAI SDK, unmodified, in an environment of its own.
openai_python() {
	local venv=build/venv-openai
	if ! "$venv/bin/python" -c 'import openai' 2>/dev/null; then
		say "installing the OpenAI SDK into $venv"
		quietly venv-openai.log "$PYTHON" -m venv --clear "$venv"
		quietly venv-openai.log "$venv/bin/pip" install -q --disable-pip-version-check openai
	fi
	export KEYBROKER_OPENAI_PYTHON=$PWD/$venv/bin/python
}

live() {
	if [ -z "${LITELLM_BASE_URL:-}" ] || [ -z "${LITELLM_MASTER_KEY:-}" ]; then
		echo "./test.sh live: set LITELLM_BASE_URL and LITELLM_MASTER_KEY to the LiteLLM to test against" >&2
		exit 64
	fi
	scripts/install-deps.sh test
	build dev
	openai_python
	export WORKERS=0 # they share one LiteLLM, and look at what it has
	say "the stand-in's contract, held against $LITELLM_BASE_URL"
	run_pytest dev -k real tests/contract
	say "end to end against $LITELLM_BASE_URL"
	run_pytest dev -m live tests/e2e "$@"
}

tidy() {
	scripts/install-deps.sh test
	say "clang-tidy"
	quietly configure-tidy.log cmake --preset tidy
	if ! cmake --build --preset tidy -j "$JOBS" -- -k 0 >"$LOGS/tidy.log" 2>&1; then
		grep -E '(error|warning): ' "$LOGS/tidy.log" | sort -u
		return 1
	fi
	echo "clang-tidy found nothing"
}

fuzz() { # SECONDS [NAME]
	local source name options
	scripts/install-deps.sh test
	build fuzz
	for source in tests/fuzz/fuzz_*.c; do
		name=${source##*/fuzz_}
		name=${name%.c}
		[ "${2:-$name}" = "$name" ] || continue
		say "fuzzing $name for $1 s"
		mkdir -p "build/fuzz/corpus-$name"
		options=(-max_total_time="$1" -print_final_stats=1 -artifact_prefix="build/fuzz/$name-")
		[ ! -f "tests/fuzz/fuzz_$name.dict" ] || options+=(-dict="tests/fuzz/fuzz_$name.dict")
		quietly "fuzz-$name.log" "build/fuzz/tests/fuzz_$name" "${options[@]}" \
			"build/fuzz/corpus-$name" "tests/fuzz/corpus/$name"
		grep number_of_executed_units "$LOGS/fuzz-$name.log"
	done
}

bench() {
	scripts/install-deps.sh test
	build release
	quietly build-bench.log cmake --build --preset release --target bench_store bench_load bench_raw
	say "the store alone"
	build/release/bench_store
	say "the daemon and the command"
	"$PYTHON" tests/bench/run.py "$@"
}

case ${1:-} in
clients) shift && clients "$@" ;;
live) shift && live "$@" ;;
tidy) tidy ;;
fuzz)
	[ $# -ge 2 ] || { echo "usage: ./test.sh fuzz SECONDS [NAME]" >&2; exit 64; }
	shift && fuzz "$@" ;;
bench) shift && bench "$@" ;;
load) load "${2:-60}" "${3:-500}" ;;
chaos)
	[ $# -ge 2 ] || { echo "usage: ./test.sh chaos MINUTES [NAME=VALUE...]" >&2; exit 64; }
	shift && chaos "$@" ;;
mutants) shift && mutants "$@" ;;
*) everything "$@" ;;
esac
