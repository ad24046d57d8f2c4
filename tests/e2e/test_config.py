"""The configuration: file, environment, --check and --init, and every value that is refused."""

import os
import pathlib
import re

import pytest

from harness.broker import rule_all

GOOD_URL = "http://127.0.0.1:4000"


@pytest.fixture
def check(make_broker):
    """Runs --check with an environment and a file; nothing is started and no upstream is asked."""
    def run(env=None, config=None, **options):
        base = {"LITELLM_BASE_URL": GOOD_URL, "LITELLM_MASTER_KEY": "sk-master-of-this-test-0123"}
        broker = make_broker(config=config, upstream=None, **options)
        broker.secrets.add("sk-master-of-this-test-0123")
        done = broker.run_daemon("--check", env={k: v for k, v in {**base, **(env or {})}.items() if v is not None})
        done.broker = broker
        return done
    return run


# --- what is shown ---

DEFAULTS = {
    "LITELLM_SERVICE_TEAM_ALIAS": "agents-service", "LITELLM_SERVICE_KEY_ALIAS": "agents-service",
    "LITELLM_SERVICE_MODELS": "all-team-models", "LITELLM_MODELS": "gpt-5", "LITELLM_KEY_DURATION": "30d",
}


def test_check_prints_each_value_with_its_origin(check):
    done = check({"LITELLM_MODELS": "gpt-5, gpt-5-mini", "LITELLM_RPM_LIMIT": "7"}, "log_level = warning\n" + rule_all())
    assert done.code == 0, done
    lines = done.stdout.splitlines()

    def line(*words):
        found = [text for text in lines if all(word in text for word in words)]
        assert found, f"{words} in\n{done.stdout}"
        return found[0]
    line("url", GOOD_URL, "LITELLM_BASE_URL")
    line("log_level", "warning", "keybroker.conf:1")
    line("models", "gpt-5-mini", "LITELLM_MODELS")
    line("rpm_limit", "7", "LITELLM_RPM_LIMIT")
    line("duration", "30d", "default")
    line("alias", "agents-service", "default")
    line("durability", "power_loss", "default")
    line("retry_max", "3", "default")


def test_check_masks_secrets(check):
    done = check({"OPENAI_API_KEY": "sk-of-openai-0123456789abcdef"})
    done.broker.secrets.add("sk-of-openai-0123456789abcdef")
    assert done.code == 0 and "LITELLM_MASTER_KEY" in done.stdout
    assert "sk-master-of-this-test" not in done.stdout + done.stderr and "sk-of-openai" not in done.stdout + done.stderr


def test_check_creates_nothing(check):
    done = check()
    assert done.code == 0
    assert os.listdir(done.broker.path("state")) == [] and os.listdir(done.broker.path("run")) == []


@pytest.mark.parametrize("variable,value,shown", [
    ("LITELLM_BASE_URL", "https://litellm.example.org/v1/", "https://litellm.example.org"),
    ("LITELLM_SERVICE_TEAM_ALIAS", "blue", "blue"), ("LITELLM_SERVICE_KEY_ALIAS", "blue-key", "blue-key"),
    ("LITELLM_SERVICE_MODELS", "a,b", "b"), ("LITELLM_SERVICE_KEY_DURATION", "2w", "2w"), ("LITELLM_MODELS", "m1", "m1"),
    ("LITELLM_KEY_DURATION", "1mo", "1mo"), ("LITELLM_KEY_ALIAS", "x-${pid}", "x-%{pid}"), ("LITELLM_MAX_BUDGET", "12.5", "12.5"),
    ("LITELLM_RPM_LIMIT", "11", "11"), ("LITELLM_TPM_LIMIT", "1200", "1200"), ("LITELLM_TEAM_ID", "ops-team", "ops-team"),
    ("LITELLM_CLEANUP_OLD_KEYS", "false", "no"), ("LITELLM_KEY_VALIDATION_TIMEOUT_MS", "1234", "1234"),
    ("LITELLM_KEY_API_RETRY_MAX", "5", "5"), ("LITELLM_KEY_API_RETRY_BASE_MS", "77", "77"),
    ("OPENAI_BASE_URL", "https://edge.example.org/v1", "https://edge.example.org/v1"),
])
def test_every_variable_is_taken_and_named(check, variable, value, shown):
    done = check({variable: value})
    assert done.code == 0, done
    assert [line for line in done.stdout.splitlines() if variable in line and shown in line], done.stdout


def test_lock_variable_is_accepted_and_said_to_have_no_effect(check):
    done = check({"LITELLM_TOKEN_LOCK_STALE_MS": "5000"})
    assert done.code == 0 and (done.stdout + done.stderr).count("LITELLM_TOKEN_LOCK_STALE_MS") == 1


@pytest.mark.parametrize("key", ["sk-1234"])
def test_well_known_master_key_gets_a_warning(check, key):
    done = check({"LITELLM_MASTER_KEY": key})
    assert done.code == 0 and "well-known" in (done.stdout + done.stderr).lower()


def test_flag_beats_environment_beats_file_beats_default(make_broker):
    broker = make_broker(config="cleanup_old_keys = no\nlog_level = error\n" + rule_all())
    shown = broker.run_daemon("--check", "--log-level", "debug", env={"LITELLM_CLEANUP_OLD_KEYS": "true"}).ok()
    log_level, = [line for line in shown.splitlines() if "log_level" in line]
    cleanup, = [line for line in shown.splitlines() if "cleanup_old_keys" in line]
    assert "debug" in log_level and "--log-level" in log_level
    assert "yes" in cleanup and "LITELLM_CLEANUP_OLD_KEYS" in cleanup


def test_init_writes_a_commented_file_that_check_accepts(make_broker, litellm):
    broker = make_broker()
    done = broker.run_daemon("--init", env={"LITELLM_MODELS": "gpt-5-mini"})
    assert done.code == 0, done
    with open(broker.config_path, encoding="utf-8") as file:
        text = file.read()
    assert text.count("#") > 20 and "gpt-5-mini" in text and litellm.master_key not in text
    assert "rule" in text and 'profile "service"' in text
    again = broker.run_daemon("--check")
    assert again.code == 0 and "gpt-5-mini" in again.stdout, again
    broker.start()
    broker.wait_ready()
    assert litellm.chat(broker.acquire()["api_key"])[0] == 200


def test_init_never_overwrites(make_broker):
    broker = make_broker(config="log_level = error\n" + rule_all())
    done = broker.run_daemon("--init")
    assert done.code != 0 and broker.config_path in done.stderr
    with open(broker.config_path, encoding="utf-8") as file:
        assert file.read().startswith("log_level = error\n")


def test_conf_d_is_read_after_the_file_in_order(make_broker):
    broker = make_broker(config="log_level = error\n" + rule_all())
    broker.write_config("log_level = warning\n", "conf.d/10-a.conf")
    broker.write_config('log_level = debug\nprofile "more" { mode = dedicated models = { "gpt-5" } }\n', "conf.d/20-b.conf")
    broker.write_config("this is no configuration", "conf.d/note.txt")
    shown = broker.run_daemon("--check").ok()
    log_level, = [line for line in shown.splitlines() if "log_level" in line]
    assert "debug" in log_level and "20-b.conf:1" in log_level
    assert "more" in shown


def test_error_in_conf_d_names_that_file_and_line(make_broker):
    broker = make_broker(config=rule_all())
    broker.write_config("# one\n# two\nnonsense = 1\n", "conf.d/10-a.conf")
    done = broker.run_daemon("--check")
    assert done.code == 78 and "10-a.conf:3" in done.stderr and "nonsense" in done.stderr


# --- what is refused ---

@pytest.mark.parametrize("text,line,word", [
    ("no_such_key = 1\n", 1, "no_such_key"),
    ("# a comment\n# another\n\nno_such_key = 1\n", 4, "no_such_key"),
    ("/* long\ncomment */\nno_such_key = 1\n", 3, "no_such_key"),
    ("upstream {\n  colour = red\n}\n", 2, "colour"),
    ("durability = usually\n", 1, "durability"),
    ("limits {\n  connections = 0\n}\n", 2, "connections"),
    ("limits {\n  connections = -5\n}\n", 2, "connections"),
    ('profile "p" {\n  mode = dedicated\n  models = { "" }\n}\n', 3, "models"),
    ('profile "p" {\n  mode = dedicated\n  models = { }\n}\n', 3, "empty"),
    ('profile "p" {\n  mode = shared models = { "m" }\n  alias = "a-%{pid}"\n}\n', 3, "alias"),
    ('profile "p" {\n  mode = dedicated models = { "m" }\n  alias = "a-%{what}"\n}\n', 3, "what"),
    ('profile "p" {\n  mode = dedicated models = { "m" }\n  alias = "a-${pid}"\n}\n', 3, "${"),
    ('profile "p q" { mode = dedicated models = { "m" } }\n', 1, "p q"),
    ('profile "p" { mode = sometimes models = { "m" } }\n', 1, "mode"),
    ('profile "p" { mode = dedicated models = { "m" }\n key { rpm_limit = many }\n}\n', 2, "rpm_limit"),
    ('profile "p" { mode = dedicated models = { "m" }\n key { max_budget = -1 }\n}\n', 2, "max_budget"),
    ('rule "r" {\n  user = "no-such-user-here"\n  profiles = { "*" }\n}\n', 2, "no-such-user-here"),
    ('rule "r" {\n  group = "no-such-group-here"\n  profiles = { "*" }\n}\n', 2, "no-such-group-here"),
    ('upstream {\n  url = "ftp://example.org"\n}\n', 2, "url"),
    ("log_level = \"info\n", 1, ""),
])
def test_bad_file_is_refused_with_file_and_line(check, text, line, word):
    done = check(config=text)
    assert done.code == 78, done
    assert f"keybroker.conf:{line}" in done.stderr and word in done.stderr


def test_rule_that_names_an_unknown_profile_is_refused(check):
    done = check(config=f'rule "r" {{ uid = {os.getuid()} profiles = {{ "nothing-like-it" }} }}\n')
    assert done.code == 78 and "nothing-like-it" in done.stderr and "keybroker.conf" in done.stderr


BAD_DURATIONS = ["1h30m", "500ms", "30", "0m", "-5m", "1.5h", "1y", "30D", "abc", "m", "1h 30m", "010m", "99999999999999d"]


@pytest.mark.parametrize("text", BAD_DURATIONS)
@pytest.mark.parametrize("variable", ["LITELLM_KEY_DURATION", "LITELLM_SERVICE_KEY_DURATION"])
def test_bad_duration_in_a_variable_names_it(check, variable, text):
    done = check({variable: text})
    assert done.code == 78 and variable in done.stderr


@pytest.mark.parametrize("text", BAD_DURATIONS)
def test_bad_duration_in_the_file_names_the_line(check, text):
    done = check(config=rule_all() + f'profile "p" {{ mode = dedicated models = {{ "m" }} duration = "{text}" }}\n')
    assert done.code == 78 and re.search(r"keybroker\.conf:\d+", done.stderr) and "duration" in done.stderr


@pytest.mark.parametrize("text", ["300s", "5m", "1h", "30d", "2w", "1mo"])
def test_good_durations(check, text):
    assert check({"LITELLM_KEY_DURATION": text}).code == 0


@pytest.mark.parametrize("variable", ["LITELLM_MAX_BUDGET", "LITELLM_RPM_LIMIT", "LITELLM_TPM_LIMIT",
                                      "LITELLM_KEY_VALIDATION_TIMEOUT_MS", "LITELLM_KEY_API_RETRY_MAX",
                                      "LITELLM_KEY_API_RETRY_BASE_MS"])
@pytest.mark.parametrize("text", ["abc", "-1", "1e", "0x10", "nan", "7 7", "99999999999999999999"])
def test_bad_number_in_a_variable_names_it(check, variable, text):
    done = check({variable: text})
    assert done.code == 78 and variable in done.stderr, done


@pytest.mark.parametrize("variable", ["LITELLM_SERVICE_MODELS", "LITELLM_MODELS"])
@pytest.mark.parametrize("text", [",", "gpt-5,,gpt-5-mini", "gpt-5,", " , "])
def test_empty_model_name_is_refused(check, variable, text):
    done = check({variable: text})
    assert done.code == 78 and variable in done.stderr


@pytest.mark.parametrize("unset,named", [("LITELLM_BASE_URL", "LITELLM_BASE_URL"), ("LITELLM_MASTER_KEY", "LITELLM_MASTER_KEY")])
@pytest.mark.parametrize("how", [None, ""])
def test_one_of_url_and_master_key_alone_is_refused(check, unset, named, how):
    done = check({unset: how})
    assert done.code == 78 and named in done.stderr
    assert "sk-master-of-this-test" not in done.stderr


@pytest.mark.parametrize("url", ["ftp://example.org", "litellm:4000", "https://", "unix:///tmp/x", "javascript:alert(1)",
                                 "http://"])
def test_url_of_another_kind_is_refused(check, url):
    done = check({"LITELLM_BASE_URL": url})
    assert done.code == 78 and "LITELLM_BASE_URL" in done.stderr


@pytest.mark.parametrize("url", ["http://litellm:4000", "http://192.0.2.1", "http://example.org/v1",
                                 "http://127.0.0.1.example.org"])
def test_plain_http_beyond_loopback_is_refused_and_the_way_out_named(check, url):
    done = check({"LITELLM_BASE_URL": url})
    assert done.code == 78 and "KEYBROKER_INSECURE_HTTP" in done.stderr
    assert check({"LITELLM_BASE_URL": url, "KEYBROKER_INSECURE_HTTP": "1"}).code == 0


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "http://[::1]:1", "http://localhost:1", "http://127.9.9.9",
                                 "https://example.org"])
def test_loopback_and_https_are_fine(check, url):
    assert check({"LITELLM_BASE_URL": url}).code == 0


def test_insecure_http_in_the_file(check):
    config = 'upstream {\n  url = "http://litellm:4000"\n  insecure_http = yes\n}\n' + rule_all()
    assert check({"LITELLM_BASE_URL": None}, config).code == 0


def test_url_with_a_password_never_reaches_a_message(check):
    done = check({"LITELLM_BASE_URL": "http://user:hunter2hunter2@litellm:4000"})
    assert done.code == 78 and "hunter2" not in done.stderr + done.stdout


# --- the master key's file ---

def with_key_file(make_broker, mode=0o600, text="sk-master-of-this-test-0123\n", name="master.key"):
    """-> (broker, path) whose master key is to come from a file."""
    broker = make_broker(upstream=None, env={"LITELLM_BASE_URL": GOOD_URL})
    broker.secrets.add("sk-master-of-this-test-0123")
    path = broker.write("master.key", text, mode)
    broker.env["LITELLM_MASTER_KEY_FILE"] = os.path.join(os.path.dirname(path), name)
    return broker, broker.env["LITELLM_MASTER_KEY_FILE"]


def test_master_key_file_is_taken(make_broker):
    broker, path = with_key_file(make_broker)
    assert path in broker.run_daemon("--check").ok()


@pytest.mark.parametrize("mode", [0o644, 0o604, 0o640, 0o660])
def test_master_key_file_that_others_can_read_is_refused(make_broker, mode):
    broker, path = with_key_file(make_broker, mode)
    done = broker.run_daemon("--check")
    assert done.code in (77, 78) and path in done.stderr


@pytest.mark.parametrize("options", [{"name": "none"}, {"text": ""}, {"text": "\n"}, {"name": "."}],
                         ids=["missing", "empty", "blank", "directory"])
def test_unusable_master_key_file_is_refused(make_broker, options):
    broker, path = with_key_file(make_broker, **options)
    done = broker.run_daemon("--check")
    assert done.code in (66, 77, 78) and path in done.stderr


def test_file_beats_the_variable(make_broker):
    broker, path = with_key_file(make_broker)
    done = broker.run_daemon("--check", env={"LITELLM_MASTER_KEY": "sk-another-master-0123456789"})
    assert done.code == 0 and path in done.stdout


def test_key_of_the_files_litellm_is_not_sent_to_the_variables(make_broker, litellm):
    """LITELLM_BASE_URL goes before the file's url: what is there must not learn the key of the file's."""
    broker = make_broker(env={"LITELLM_MASTER_KEY": ""})
    broker.secrets.add("sk-of-another-litellm-0123456789")
    path = broker.write("other.key", "sk-of-another-litellm-0123456789\n")
    broker.write_config(f'upstream {{\n  url = "http://127.0.0.1:1"\n  master_key_file = "{path}"\n}}\n' + rule_all())
    done = broker.run_daemon()
    assert done.code == 78 and litellm.calls() == []
    assert "LITELLM_BASE_URL" in done.stderr and "keybroker.conf:3" in done.stderr and "LITELLM_MASTER_KEY_FILE" in done.stderr
    broker.start(env={"LITELLM_MASTER_KEY": litellm.master_key})
    broker.wait_ready()
    assert litellm.chat(broker.acquire()["api_key"])[0] == 200


def test_systemd_credential_beats_both(make_broker, litellm):
    broker = make_broker(env={"LITELLM_MASTER_KEY": "sk-wrong-master-0123456789"})
    broker.secrets.add("sk-wrong-master-0123456789")
    os.mkdir(broker.path("files/credentials"), 0o700)
    broker.write("credentials/master_key", litellm.master_key)
    broker.start(env={"CREDENTIALS_DIRECTORY": broker.path("files/credentials")})
    broker.wait_ready()
    assert broker.admin("status")["upstream"]["master_key"]["source"] == "credential"


# --- the command line ---

@pytest.mark.parametrize("args", [("--no-such-option",), ("--config",), ("stray",), ("--config", "/nonexistent/keybroker.conf")])
def test_wrong_usage_of_the_daemon(make_broker, args):
    done = make_broker().run_daemon(*args)
    assert done.code in (64, 66, 78) and done.stderr


def test_help_and_version_of_the_daemon(make_broker):
    broker = make_broker()
    text = broker.run_daemon("--help").ok()
    for option in ("--config", "--check", "--init", "--reset-state"):
        assert option in text
    assert "0." in broker.run_daemon("--version").ok()


def test_check_names_the_line_of_a_user_by_name(check):
    done = check(config='rule "r" {\n  user = "games"\n  profiles = { "*" }\n}\n')
    assert re.search(r"uid = \d+ +# .*keybroker\.conf:2$", done.stdout, re.M), done


# --- the README's configuration ---

def test_the_readme_s_configuration_loads_as_one_file(check, tmp_path):
    readme = (pathlib.Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    blocks = [block for block in re.findall(r"^```\n(.*?)^```$", readme, re.M | re.S) if re.match(r"(upstream|listen)\b", block)]
    assert len(blocks) == 2
    text = "".join(blocks)
    key = tmp_path / "master.key"
    key.write_text("sk-master-of-this-test-0123\n")
    key.chmod(0o600)
    # what another host has
    for name, here in (("/etc/keybroker/master.key", str(key)), ("keybroker-clients", "games")):
        assert f'"{name}"' in text
        text = text.replace(f'"{name}"', f'"{here}"')
    done = check({"LITELLM_BASE_URL": None, "LITELLM_MASTER_KEY": None}, text)
    assert done.code == 0 and done.stderr == "", done
    for words in ("litellm.example.org", "agents-service", "container"):
        assert words in done.stdout


def test_a_rule_and_a_listen_section_of_one_name_are_told_apart(check, tmp_path):
    done = check(config=rule_all("web") + f'listen "web" {{ path = "{tmp_path}/s" profiles = {{ "*" }} }}\n')
    assert done.code == 78 and 'keybroker.conf:5: listen "web": the rule at ' in done.stderr, done
    assert "keybroker.conf:1 has this name already" in done.stderr
