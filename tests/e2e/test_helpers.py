"""docs/HELPERS.md: the very command lines that it shows, run as the programs that it is about run them."""

import concurrent.futures
import contextlib
import datetime
import itertools
import json
import os
import re
import shlex
import signal
import subprocess
import time
import tomllib

import pytest

from harness import build
from harness.broker import FAST, KEY, rule_all
from harness.upstream import row_of, wait_gone
from harness.wait import wait_until

DOCS = build.ROOT / "docs"
V1 = "client.authentication.k8s.io/v1"
# In a sanitized build the time adds nothing to what the other one has shown.
OUTLIVES = 1 if build.is_sanitized() else 60


def shown(language):
    """The block of this language in the documentation; there is one of each."""
    block, = re.findall(rf"^```{language}\n(.*?)^```$", (DOCS / "HELPERS.md").read_text(encoding="utf-8"), re.M | re.S)
    return block


def claude_code():
    """As Claude Code runs it -> its words, and how long it keeps the key."""
    settings = json.loads(shown("json"))
    return ["/bin/sh", "-c", settings["apiKeyHelper"]], int(settings["env"]["CLAUDE_CODE_API_KEY_HELPER_TTL_MS"])


def codex():
    """As Codex runs it, likewise."""
    auth = tomllib.loads(shown("toml"))["model_providers"]["litellm"]["auth"]
    return [auth["command"], *auth["args"]], auth["refresh_interval_ms"]


def kubeconfig():
    """As client-go runs it."""
    block = shown("yaml")
    assert f"apiVersion: {V1}\n" in block
    command, args = (re.search(rf"^ *{name}: (.*)$", block, re.M).group(1) for name in ("command", "args"))
    return [command, *args.strip("[]").split(", ")]


HELPERS = {"claude-code": claude_code, "codex": codex}


@pytest.fixture(name="started")
def fixture_started(make_broker):
    """A broker with the documented profile, and others."""
    def start(make=make_broker, names=None, timing=FAST, **rule):
        profile = shown("conf")
        for name, value in (names or {}).items():
            assert name in profile
            profile = profile.replace(name, value)
        broker = make(config=profile + rule_all(**rule), timing=timing, env={"LITELLM_SERVICE_MODELS": "gpt-5"}).start()
        broker.wait_ready(timeout=30)
        return broker
    return start


def popen(broker, words, env=None):
    """Runs it as those programs do: without a terminal, from elsewhere, with hardly any environment."""
    paths = {"PATH": build.public_directory() + ":/usr/bin:/bin", "XDG_RUNTIME_DIR": broker.path("run")}
    return subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd="/",
                            start_new_session=True, env={**paths, **build.sanitizer_environment(), **(env or {})})


def run(broker, words, env=None):
    """To its end -> exit code, stdout, stderr; its keys are known as such."""
    process = popen(broker, words, env)
    stdout, stderr = process.communicate(timeout=30)
    broker.issued.update(KEY.findall(stdout))
    return process.returncode, stdout, stderr


def key_of(broker, words):
    """The one line that it prints, and nothing else."""
    code, stdout, stderr = run(broker, words)
    assert code == 0 and stderr == "" and KEY.fullmatch(stdout.strip()) and stdout.count("\n") == 1, (code, stderr)
    return stdout.strip()


# --- a key of a command that has ended ---

def keys_outlive_their_commands(broker, litellm):
    keys = [key_of(broker, helper()[0]) for helper in HELPERS.values()]
    ended = time.monotonic()
    assert len(set(keys)) == len(HELPERS) and {lease["mode"] for lease in broker.admin("leases")["leases"]} == {"dedicated"}
    wait_until(lambda: time.monotonic() - ended > OUTLIVES, OUTLIVES + 10)
    assert [litellm.chat(key)[0] for key in keys] == [200] * len(keys)


def test_keys_work_60_s_after_the_commands_have_ended(started, litellm):
    keys_outlive_their_commands(started(), litellm)


@pytest.mark.live
def test_keys_work_60_s_after_the_commands_have_ended_live(started, make_live_broker, live):
    broker = started(make_live_broker, {'team_alias = "coding"': f'team_alias = "{live.tag}"'})
    live.keys(broker.user_id)
    keys_outlive_their_commands(broker, live)


# --- time and number ---

@pytest.mark.parametrize("helper", HELPERS.values(), ids=HELPERS)
def test_ttl_is_three_times_what_the_program_keeps_the_key(started, helper):
    broker = started()
    words, keeps_ms = helper()
    key_of(broker, words)
    lease, = broker.admin("leases")["leases"]
    assert lease["bind"] == "ttl" and lease["ends_at_ms"] - lease["granted_at_ms"] >= 3 * keeps_ms - 100


def test_codex_hears_why_before_it_kills_the_command():
    auth = tomllib.loads(shown("toml"))["model_providers"]["litellm"]["auth"]
    gives_up_s = float(auth["args"][auth["args"].index("--timeout") + 1])
    assert gives_up_s * 1000 < auth["timeout_ms"]


@pytest.mark.parametrize("helper", HELPERS.values(), ids=HELPERS)
def test_dedicated_keys_of_a_refreshing_program_do_not_pile_up(started, litellm, helper):
    """The times are shorter by a rule: a key for 3 s, a run each second, so three at a time, and one on its way out."""
    broker = started(ttl_cap='"3s"')
    words, _ = helper()
    keys = []
    for _ in range(8):
        begun = time.monotonic()
        code, stdout, stderr = run(broker, words)
        assert code == 0 and "earlier than asked for" in stderr
        keys.append(stdout.strip())
        assert len(broker.admin("leases")["leases"]) <= 4
        wait_until(lambda: sum(row_of(litellm, key) is not None for key in keys) <= 4)
        wait_until(lambda since=begun: time.monotonic() > since + 1)
    assert len(set(keys)) == 8
    for key in keys:
        wait_gone(litellm, key, 10)
    assert broker.admin("leases")["leases"] == []


def test_runs_beside_each_other_get_a_key_each(started, litellm):
    broker = started()
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        keys = list(pool.map(lambda _: key_of(broker, codex()[0]), range(8)))
    assert len(set(keys)) == 8 and all(litellm.chat(key)[0] == 200 for key in keys)


def test_runs_of_a_shared_profile_get_the_same_key(started, litellm):
    broker = started(names={"mode = dedicated": "mode = shared", "-%{user}-%{pid}": "", "	pool = 2": "#"})
    assert len({key_of(broker, claude_code()[0]) for _ in range(5)}) == 1
    assert len(broker.admin("leases")["leases"]) == 5 and sum("coding" in key["key_alias"] for key in litellm.keys()) == 1


def test_program_that_runs_wild_meets_the_limit(started):
    broker = started(max_leases="3")
    codes = [run(broker, codex()[0])[0] for _ in range(5)]
    assert codes == [0, 0, 0, 75, 75]


def test_after_a_revocation_the_next_run_gets_a_key_that_works(started, litellm):
    broker = started()
    old = key_of(broker, claude_code()[0])
    broker.admin("revoke", profile="coding")
    assert litellm.chat(old)[0] == 401, "by which those programs know that they must ask again"
    assert litellm.chat(key_of(broker, claude_code()[0]))[0] == 200


@pytest.mark.parametrize("words", [claude_code()[0], codex()[0], kubeconfig()], ids=["claude-code", "codex", "kubeconfig"])
def test_without_a_broker_the_commands_say_so_and_print_nothing(started, words):
    broker = started()
    broker.stop()
    code, stdout, stderr = run(broker, words)
    assert code == 69 and stdout == "" and "no broker accepts connections" in stderr


# --- kubeconfig ---

def credential(broker, words, env=None):
    """An ExecCredential."""
    code, stdout, stderr = run(broker, words, env)
    assert code == 0 and stderr == "", stderr
    return json.loads(stdout)


def info(version, **spec):
    """What client-go says of itself."""
    spec = {"cluster": {"server": "https://x", "config": {"apiVersion": "other/v7"}}, "interactive": False, **spec}
    return {"KUBERNETES_EXEC_INFO": json.dumps({"kind": "ExecCredential", "apiVersion": version, "spec": spec})}


@pytest.mark.parametrize("env, version", [({}, V1), ({"KUBERNETES_EXEC_INFO": ""}, V1), (info(V1), V1), (info(V1 + "beta1"), V1 + "beta1"),
                                          (info(V1, padding="x" * 100000), V1)], ids=["unset", "empty", "v1", "v1beta1", "long"])
def test_k8s_exec_answers_in_the_version_that_was_asked_for(started, litellm, env, version):
    broker = started()
    answer = credential(broker, kubeconfig(), env)
    until = datetime.datetime.fromisoformat(answer["status"]["expirationTimestamp"])
    lease, = broker.admin("leases")["leases"]
    assert answer == {"kind": "ExecCredential", "apiVersion": version,
                      "status": {"token": answer["status"]["token"], "expirationTimestamp": until.strftime("%Y-%m-%dT%H:%M:%SZ")}}
    assert until.utcoffset() == datetime.timedelta() and 58 < lease["ends_at_ms"] / 1000 - until.timestamp() <= 61
    assert litellm.chat(answer["status"]["token"])[0] == 200


@pytest.mark.parametrize("env, words", [(info(V1 + "alpha1"), V1 + "alpha1"), ({"KUBERNETES_EXEC_INFO": "{"}, "no JSON object"),
                                        ({"KUBERNETES_EXEC_INFO": "{}"}, "apiVersion")], ids=["v1alpha1", "no JSON", "no version"])
def test_k8s_exec_in_another_version_is_an_error_and_takes_no_key(started, env, words):
    broker = started()
    code, stdout, stderr = run(broker, kubeconfig(), env)
    assert code == 78 and stdout == "" and "KUBERNETES_EXEC_INFO" in stderr and words in stderr and f"{V1} and /v1beta1" in stderr
    assert broker.admin("leases")["leases"] == []


def test_k8s_exec_of_a_key_that_never_expires_names_no_time(started, litellm):
    """The shared key of the drop-in never does, and the lease ends with its process."""
    broker = started()
    words = ["keybroker", "get", "--format", "k8s-exec"]
    answer = credential(broker, [*words, "--for-parent"])
    assert set(answer["status"]) == {"token"} and litellm.chat(answer["status"]["token"])[0] == 200
    assert "expirationTimestamp" in credential(broker, words)["status"], "this lease ends"
    dedicated = credential(broker, [*words, "--for-parent", "--profile", "coding"])
    until = datetime.datetime.fromisoformat(dedicated["status"]["expirationTimestamp"]).timestamp()
    assert 3500 < until - time.time() <= 3540, "this key does, in an hour"


# --- a service ---

def test_service_gets_a_key(started, litellm):
    """The unit as a whole is verified in test_units.py."""
    broker = started()
    unit = (DOCS / "examples/web-assistant.service").read_text(encoding="utf-8")
    assert shown("ini") in unit
    words = shlex.split(shown("ini").removeprefix("ExecStart="))
    script = broker.write("server.py", "import os; print(os.getpid(), os.environ['OPENAI_API_KEY'])")
    assert words[0] == "/usr/local/bin/keybroker" and words[-1] == "/opt/web-assistant/server.py"
    process = popen(broker, ["keybroker", *words[1:-1], script])
    pid, key = process.communicate(timeout=30)[0].split()
    broker.issued.add(key)
    assert int(pid) == process.pid and litellm.chat(key)[0] == 200


# --- a program that reads its key again ---

@contextlib.contextmanager
def example_running(broker, **env):
    """The documented command line, with the example where it is; yields how to read lines, and the process."""
    words = shlex.split(shown("sh").replace("$XDG_RUNTIME_DIR", broker.path("run")))
    words = [str(build.ROOT / word) if word.startswith("docs/") else word for word in words]
    process = popen(broker, words, env)
    try:
        yield process, lambda: process.stdout.readline().rstrip("\n") or pytest.fail(process.stderr.read())
    finally:
        process.kill()
        process.communicate()


def test_example_reads_its_key_again_on_hup(started):
    broker = started(timing={**FAST, "grace_ms": 3000})
    with example_running(broker, CALL_EVERY="0.2") as (process, line):
        assert line() == "key read"
        old = line()
        assert old.startswith("200 sk-…")
        broker.admin("rotate", profile="service")
        between = list(itertools.takewhile(lambda said: said != "key read", iter(line, None)))
        new = line()
        assert set(between) <= {old} and new.startswith("200 sk-…") and new != old, "no call failed"
        wait_until(lambda: not broker.profile()["retiring"], what="the old key's end")
        assert {line() for _ in range(30)} == {new}, "the last of these are from after it"
        process.terminate()
        assert process.wait(10) == -signal.SIGTERM and not os.path.exists(broker.path("run/worker.key"))
