"""`keybroker exec`: the program gets key and base URL, loses the master key, and is itself afterwards."""

import json
import os
import signal

import pytest

from harness.broker import FAST
from harness.upstream import row_of, wait_gone
from harness.wait import wait_until

SHOW = ["/usr/bin/python3", "-c", "import json, os; print(json.dumps(dict(os.environ)))"]


def environment(broker, *args, env=None, code=0):
    """Runs exec on a program that prints its environment; -> (environment, stderr)."""
    done = broker.cli("exec", *args, "--", *SHOW, env=env)
    assert done.code == code, done
    return json.loads(done.stdout), done.stderr


def test_program_gets_a_working_key_and_base_url(broker, litellm):
    seen, notes = environment(broker)
    assert seen["OPENAI_BASE_URL"] == litellm.url + "/v1"
    assert litellm.chat(seen["OPENAI_API_KEY"])[0] == 200
    assert seen["OPENAI_API_KEY"] == broker.acquire()["api_key"]
    assert seen["OPENAI_API_KEY"] not in notes


def test_default_profile_is_service_and_another_can_be_named(broker, litellm):
    environment(broker)
    assert {row["profile"] for row in broker.audit(event="acquire")} == {"service"}
    seen, _ = environment(broker, "--profile", "process")
    wait_gone(litellm, seen["OPENAI_API_KEY"])
    assert "process" in {row["profile"] for row in broker.audit(event="acquire")}


@pytest.mark.parametrize("name", ["LITELLM_MASTER_KEY", "LITELLM_MASTER_KEY_FILE", "LITELLM_SALT_KEY"])
def test_master_credentials_are_taken_out_and_that_is_said(broker, litellm, name):
    seen, notes = environment(broker, env={name: "value-of-the-operator"})
    assert name not in seen and name in notes and "value-of-the-operator" not in notes


def test_master_key_goes_even_with_keep_env(broker):
    seen, notes = environment(broker, "--keep-env", env={"LITELLM_MASTER_KEY": "value-of-the-operator"})
    assert "LITELLM_MASTER_KEY" not in seen and "LITELLM_MASTER_KEY" in notes


def test_nothing_is_said_when_there_is_nothing_to_say(broker):
    seen, notes = environment(broker, env={"OTHER": "kept"})
    assert seen["OTHER"] == "kept" and notes == ""


def test_inherited_key_is_replaced_with_one_notice(broker):
    seen, notes = environment(broker, env={"OPENAI_API_KEY": "sk-inherited-0123456789abcdef"})
    assert seen["OPENAI_API_KEY"] != "sk-inherited-0123456789abcdef"
    assert notes.count("OPENAI_API_KEY") >= 1 and len(notes.strip().splitlines()) == 1
    assert "sk-inherited" not in notes


def test_keep_env_keeps_the_inherited_key(broker):
    before = len(broker.audit(event="acquire"))
    seen, _ = environment(broker, "--keep-env", env={"OPENAI_API_KEY": "sk-inherited-0123456789abcdef"})
    assert seen["OPENAI_API_KEY"] == "sk-inherited-0123456789abcdef"
    assert len(broker.audit(event="acquire")) - before <= 1


def test_base_url_of_the_command_itself_stays(broker, litellm):
    own = litellm.url.replace("127.0.0.1", "localhost") + "/v1"
    same = litellm.url + "/v1/"
    seen, notes = environment(broker, env={"OPENAI_BASE_URL": same})
    assert seen["OPENAI_BASE_URL"].rstrip("/") == same.rstrip("/") and notes == ""
    seen, notes = environment(broker, env={"OPENAI_BASE_URL": own})
    assert seen["OPENAI_BASE_URL"] == own
    assert "localhost" in notes and "127.0.0.1" in notes


@pytest.mark.parametrize("url", ["https://api.openai.com/v1", "https://API.OpenAI.com", "https://api.openai.com:443/v1/"])
def test_openais_own_url_cannot_work_with_a_litellm_key(broker, url):
    done = broker.cli("exec", "--", *SHOW, env={"OPENAI_BASE_URL": url})
    assert done.code == 78 and done.stdout == "" and "api.openai.com" in done.stderr.lower()


@pytest.mark.parametrize("url,code,words", [
    ("garbage", 78, "is no http or https URL"),
    ("http://litellm.example/v1", 78, "names litellm.example:80"),
    ("http://name:hunter2@litellm.example/v1", 78, "KEYBROKER_INSECURE_HTTP=1"),
    ("https://litellm.example/v1", 0, "names litellm.example:443"),
])
def test_key_goes_to_no_host_in_clear(broker, litellm, url, code, words):
    done = broker.cli("exec", "--", *SHOW, env={"OPENAI_BASE_URL": url})
    assert done.code == code and words in done.stderr and "hunter2" not in done.stderr
    if code:
        assert done.stdout == "" and "127.0.0.1:" in done.stderr
        wait_until(lambda: broker.admin("status")["leases"] == 0, what="the lease's end")
    allowed = broker.cli("exec", "--", *SHOW, env={"OPENAI_BASE_URL": url, "KEYBROKER_INSECURE_HTTP": "1"})
    assert allowed.code == (78 if url == "garbage" else 0)


def test_exit_code_is_the_programs(broker):
    assert broker.cli("exec", "--", "sh", "-c", "exit 37").code == 37
    assert broker.cli("exec", "--", "true").code == 0


def test_program_that_does_not_exist_is_127_and_one_that_cannot_run_126(broker):
    missing = broker.cli("exec", "--", "no-such-program-anywhere")
    assert missing.code == 127 and "no-such-program-anywhere" in missing.stderr
    path = broker.write("not-executable", "#!/bin/sh\n", 0o644)
    assert broker.cli("exec", "--", path).code == 126


def test_lease_of_a_program_that_could_not_start_ends(broker):
    broker.cli("exec", "--", "no-such-program-anywhere")
    wait_until(lambda: broker.admin("status")["leases"] == 0, what="the lease's end")


def test_arguments_reach_the_program_as_they_are(broker):
    done = broker.cli("exec", "--", "printf", "<%s>", "--profile", "a b", "", "*", "--")
    assert done.ok() == "<--profile><a b><><*><-->"


def test_stdin_stdout_stderr_and_cwd_are_the_programs(broker):
    done = broker.cli("exec", "--", "sh", "-c", "cat; pwd; echo oops >&2", stdin="to the program", cwd="/usr")
    assert done.ok() == "to the program/usr\n" and done.stderr == "oops\n"


def test_program_has_the_pid_of_the_command_and_gets_its_signals(broker, litellm):
    with broker.cli_running("exec", "--profile", "process", "--", "sh", "-c", "echo $$; exec sleep 60") as program:
        assert int(program.stdout.readline()) == program.pid
        lease, = broker.admin("leases")["leases"]
        assert lease["pid"] == program.pid and lease["bind"] == "process" and lease["refreshable"] is False
        program.send_signal(signal.SIGTERM)
        assert program.wait(5) == -signal.SIGTERM
    wait_until(lambda: len(litellm.keys()) == 1, 1, "the dedicated key's deletion")


def test_signal_that_the_program_handles_is_its_own(broker):
    script = "trap 'echo caught; exit 3' USR1; echo ready; while :; do sleep 0.05; done"
    with broker.cli_running("exec", "--", "sh", "-c", script) as program:
        assert program.stdout.readline() == "ready\n"
        program.send_signal(signal.SIGUSR1)
        assert program.stdout.readline() == "caught\n" and program.wait(5) == 3


def test_nothing_of_the_cli_stays_open_in_the_program(broker):
    done = broker.cli("exec", "--", "ls", "/proc/self/fd")
    assert set(done.ok().split()) <= {"0", "1", "2", "3"}  # 3 is ls's own


def test_lease_lives_as_long_as_the_program(make_broker, litellm):
    broker = make_broker(timing=FAST).start()
    with broker.cli_running("exec", "--profile", "process", "--", "sleep", "60") as program:
        wait_until(lambda: len(litellm.keys()) == 2, what="its key")
        key = next(k for k in litellm.keys() if k["key_alias"] != "agents-service")
        assert key["key_alias"] == f"agents-{program.pid}"
        broker.kill()
        broker.start()
        broker.wait_ready()
        assert key["token"] in {k["token"] for k in litellm.keys()}
        program.kill()
        program.wait(5)
        wait_until(lambda: len(litellm.keys()) == 1, 2, "its deletion")


def test_unknown_profile_starts_nothing(broker):
    done = broker.cli("exec", "--profile", "nothing", "--", "echo", "ran")
    assert done.code != 0 and "ran" not in done.stdout and "nothing" in done.stderr


@pytest.mark.parametrize("args", [("exec",), ("exec", "--"), ("exec", "--no-such-option", "--", "true"), ("exec", "--profile")])
def test_wrong_usage_is_64(broker, args):
    done = broker.cli(*args)
    assert done.code == 64 and done.stdout == "" and done.stderr


def test_upstream_refusal_reaches_the_terminal_without_a_credential(make_broker, litellm):
    broker = make_broker(timing=FAST).start()
    broker.wait_ready()
    secret = "sk-repeated-by-litellm-0123456789"
    litellm.fail(path="/key/generate", status=400, times=-1, body={"error": {
        "message": f"team is over its budget, User Key={secret}", "type": "bad_request_error", "param": secret, "code": "400"}})
    broker.secrets.add(secret)
    done = broker.cli("exec", "--profile", "process", "--", "true")
    assert done.code not in (0, 64) and "over its budget" in done.stderr and secret not in done.stderr


def test_daemons_environment_does_not_reach_the_program(make_broker, litellm):
    broker = make_broker(env={"FROM_THE_DAEMON": "1"}).start()
    seen, _ = environment(broker)
    assert "FROM_THE_DAEMON" not in seen and litellm.master_key not in json.dumps(seen)
    assert os.environ.get("LITELLM_MASTER_KEY") != litellm.master_key


def test_key_of_exec_is_deleted_when_it_was_dedicated(broker, litellm):
    seen, _ = environment(broker, "--profile", "process")
    wait_gone(litellm, seen["OPENAI_API_KEY"], 1)
    assert row_of(litellm, broker.acquire()["api_key"])


def test_without_a_broker_nothing_is_run(make_broker):
    done = make_broker().cli("exec", "--", "echo", "ran")
    assert done.code == 69 and done.stdout == "" and "keybrokerd" in done.stderr


def test_openais_own_url_is_right_for_openais_own_key(make_broker):
    broker = make_broker(upstream=None, env={"OPENAI_API_KEY": "sk-proj-of-the-operator-0123456789"}).start()
    seen, _ = environment(broker, env={"OPENAI_BASE_URL": "https://api.openai.com/v1"})
    assert seen["OPENAI_API_KEY"] == "sk-proj-of-the-operator-0123456789"
    assert seen["OPENAI_BASE_URL"] == "https://api.openai.com/v1"
