"""The old provisioner's key: imported and adopted, or renamed, kept for its users, and deleted later."""

import json

import pytest

from harness.broker import FAST, key_hash
from harness.upstream import row_of, wait_gone
from harness.wait import stays, wait_until

OLD = "sk-of-the-old-provisioner-0123456789"


def old_token(broker, **changes):
    """Writes a service_token.json; None leaves a member out."""
    members = {"token": OLD, "alias": "agents-service", "created_at": "2026-01-02T03:04:05Z", **changes}
    broker.secrets.add(OLD)
    return broker.write("service_token.json", json.dumps({k: v for k, v in members.items() if v is not None}))


@pytest.fixture
def quiet(make_broker, litellm):
    """A broker that has no key yet, over a LiteLLM with the old provisioner's."""
    litellm.add_key(OLD, key_alias="agents-service", models=["gpt-5"])
    litellm.fail(path="/key/generate", status=503, times=-1)
    litellm.fail(path="/team/new", status=503, times=-1)
    broker = make_broker(timing={**FAST, "breaker_ms": 0}).start()  # or an import may meet the pause after a failure
    broker.secrets.add(OLD)
    return broker


def test_imported_key_is_generation_one_and_keeps_its_name(quiet, litellm):
    done = quiet.cli("import", old_token(quiet))
    assert done.code == 0, done
    reply = quiet.acquire()
    assert (reply["api_key"], reply["generation"]) == (OLD, 1)
    row = row_of(litellm, OLD)
    assert row["key_alias"] == "agents-service"
    litellm.clear()
    quiet.restart()
    quiet.wait_ready()
    assert quiet.acquire()["api_key"] == OLD
    made = [call for call in litellm.calls("/key/generate") if call["status"] == 200]
    assert all("blocked" in call["body_fields"] for call in made), "nothing but the burning of the intent before it"
    assert quiet.audit(event="import")


def test_imported_key_rotates_like_any_other(quiet, litellm):
    assert quiet.cli("import", old_token(quiet)).code == 0
    litellm.clear()
    made = quiet.admin("rotate", profile="service")
    assert made["generation"] == 2
    assert row_of(litellm, OLD)["key_alias"] == "agents-service.g1"
    assert row_of(litellm, quiet.acquire()["api_key"])["key_alias"] == "agents-service"


def test_minimal_file_will_do(quiet):
    assert quiet.cli("import", old_token(quiet, created_at=None)).code == 0
    assert quiet.acquire()["api_key"] == OLD


def test_other_members_are_taken_or_ignored(quiet):
    path = old_token(quiet, team_id="t", base_url="http://127.0.0.1:1/v1", created_at=1767323045000, later_field=[1])
    assert quiet.cli("import", path).code == 0
    assert quiet.acquire()["api_key"] == OLD


@pytest.mark.parametrize("text,complaint", [
    ("", "JSON"), ("not json", "JSON"), ("[]", "object"), ('{"alias": "x"}', "token"), ('{"token": "' + OLD + '"}', "alias"),
    ('{"token": 7, "alias": "x"}', "token"), ('{"token": "", "alias": "x"}', "token"),
    ('{"token": "' + OLD + '", "alias": 7}', "alias"), ('{"token": "' + OLD + '", "alias": ""}', "alias"),
    ('{"token": "' + OLD + '", "alias": "x", "created_at": "yesterday"}', "created_at"),
], ids=["empty", "no-json", "array", "no-token", "no-alias", "token-number", "token-empty", "alias-number", "alias-empty",
        "created_at"])
def test_bad_file_is_refused_with_its_reason(quiet, text, complaint):
    path = quiet.write("service_token.json", text)
    done = quiet.cli("import", path)
    assert done.code == 65 or done.code == 64, done
    assert complaint in done.stderr and (path in done.stderr or complaint == "created_at")
    assert not quiet.rows("SELECT id FROM key WHERE source = 'imported'")


def test_missing_file_is_refused(quiet):
    done = quiet.cli("import", quiet.path("files/none.json"))
    assert done.code in (65, 66) and "none.json" in done.stderr


def test_key_that_upstream_does_not_know_is_refused(quiet):
    quiet.secrets.add("sk-never-made-anywhere-0123")
    done = quiet.cli("import", old_token(quiet, token="sk-never-made-anywhere-0123"))
    assert done.code not in (0, 64) and not quiet.rows("SELECT id FROM key WHERE source = 'imported'")


@pytest.mark.parametrize("restart", [False, True], ids=["same-start", "after-a-restart"])
def test_import_after_the_start_is_generation_one_too(broker, litellm, restart):
    """The leader minted first, as it must, but nobody had that key: its number goes on, and it goes."""
    litellm.add_key(OLD, key_alias="something-else")
    broker.wait_ready()
    unused, = broker.rows("SELECT id, hash FROM key WHERE state = 'live'")
    if restart:
        broker.restart()
        broker.wait_ready()
    assert broker.cli("import", old_token(broker, alias="something-else")).code == 0
    reply = broker.acquire()
    assert (reply["api_key"], reply["generation"]) == (OLD, 1)
    wait_until(lambda: unused["hash"] not in [key["token"] for key in litellm.keys()], what="its deletion")
    wait_until(lambda: row_of(litellm, OLD)["key_alias"] == "agents-service", what="its name")
    assert broker.admin("rotate", profile="service")["generation"] == 2
    broker.restart()
    assert broker.acquire()["generation"] == 2


@pytest.mark.parametrize("bind", ["ttl", "process"])
def test_import_gets_the_next_number_if_somebody_had_the_key(broker, litellm, bind):
    litellm.add_key(OLD, key_alias="something-else")
    lease = broker.acquire(bind=bind)
    if bind == "ttl":
        broker.call("release", lease=lease["lease"])
    broker.restart()
    assert broker.cli("import", old_token(broker, alias="something-else")).code == 0
    assert broker.acquire()["generation"] == 2
    if bind == "process":
        assert litellm.chat(lease["api_key"])[0] == 200, "its holder has its grace"


@pytest.mark.parametrize("tail,warned", [("/v1", False), ("/v1/", False), ("", False), ("/", False), ("/v2", True)])
def test_only_another_base_url_is_worth_a_warning(quiet, litellm, tail, warned):
    done = quiet.cli("import", old_token(quiet, base_url=litellm.url + tail))
    assert done.code == 0 and ("another base URL" in done.stderr) == warned
    assert ("another base URL" in quiet.log) == warned


def test_import_over_a_live_key_takes_its_place(broker, litellm):
    """Somebody had the key: the imported one becomes the next generation, and the one before it retires."""
    litellm.add_key(OLD, key_alias="something-else")
    before = broker.acquire()["api_key"]
    assert broker.cli("import", old_token(broker, alias="something-else")).code == 0
    reply = broker.acquire()
    assert (reply["api_key"], reply["generation"]) == (OLD, 2)
    wait_until(lambda: row_of(litellm, OLD)["key_alias"] == "agents-service", what="its name")
    assert row_of(litellm, before)["key_alias"] == "agents-service.g1" and litellm.chat(before)[0] == 200


# --- not imported ---

def test_old_key_under_our_name_is_renamed_and_goes_on_working(make_broker, litellm):
    litellm.add_key(OLD, key_alias="agents-service")
    broker = make_broker(timing=FAST).start()
    broker.wait_ready()
    new = broker.acquire()["api_key"]
    assert new != OLD and row_of(litellm, new)["key_alias"] == "agents-service"
    assert row_of(litellm, OLD)["key_alias"] != "agents-service"
    assert litellm.chat(OLD)[0] == 200
    stays(lambda: row_of(litellm, OLD) is not None, 1.2)  # sweeps leave it alone
    assert row_of(litellm, OLD)["key_alias"] in broker.log and "24" in broker.log, "the new name and the time are said"
    assert [row for row in broker.audit() if row.get("key_tag") == broker.tag(OLD)], "and on record"


def test_old_key_is_deleted_when_its_time_is_over(make_broker, litellm):
    litellm.add_key(OLD, key_alias="agents-service")
    broker = make_broker(timing={**FAST, "legacy_delete_ms": 800}).start()
    broker.wait_ready()
    assert litellm.chat(OLD)[0] == 200
    wait_gone(litellm, OLD)
    deleted = [call for call in litellm.calls("/key/delete") if key_hash(OLD) in call["targets"]]
    assert deleted and deleted[0]["body_fields"] == ["keys"]
    wait_until(lambda: [row for row in broker.audit(event="delete") if row.get("key_tag") == broker.tag(OLD)], what="its row")


def test_old_keys_deletion_outlives_a_restart(make_broker, litellm):
    litellm.add_key(OLD, key_alias="agents-service")
    broker = make_broker(timing={**FAST, "legacy_delete_ms": 1200}).start()
    broker.wait_ready()
    broker.kill()
    broker.start()
    wait_gone(litellm, OLD)


@pytest.mark.parametrize("no", ["false", "0", "no"])
def test_old_key_is_kept_if_cleanup_is_off(make_broker, litellm, no):
    litellm.add_key(OLD, key_alias="agents-service")
    broker = make_broker(env={"LITELLM_CLEANUP_OLD_KEYS": no}, timing={**FAST, "legacy_delete_ms": 300}).start()
    broker.wait_ready()
    stays(lambda: litellm.chat(OLD)[0] == 200, 1.0)


def test_several_old_keys_under_one_name_are_all_renamed(make_broker, litellm):
    others = [OLD + str(n) for n in range(3)]
    for key in others:
        litellm.add_key(key, key_alias="agents-service")
    broker = make_broker(timing=FAST).start()
    broker.wait_ready()
    assert row_of(litellm, broker.acquire()["api_key"])["key_alias"] == "agents-service"
    assert all(litellm.chat(key)[0] == 200 for key in others)
    wait_until(lambda: [k["key_alias"] for k in litellm.keys()].count("agents-service") == 1, what="one bearer of the name")
