"""An import that meets a rotation, another import, or another broker."""

import pytest

from harness.broker import DROPIN, FAST, MANY, key_hash, rule_all
from harness.rpc import RpcError
from harness.upstream import row_of, unread_answers
from harness.wait import wait_until

OLD = "sk-of-the-old-provisioner-0123456789"
TWO = MANY + rule_all() + "".join(
    f'profile "{name}" {{\n mode = shared\n alias = "alias-{name}"\n models = {{ "gpt-5" }}\n}}\n' for name in "ab")


def test_rotation_at_once_after_an_import_names_the_old_key_once(make_broker, litellm):
    """The imported key's own renaming is still under way then."""
    litellm.add_key(OLD, key_alias="old-name")
    broker = make_broker(timing=FAST).start()
    broker.secrets.add(OLD)
    broker.acquire()
    litellm.fail(path="/key/update", delay_ms=200, times=-1)
    broker.admin("import", token=OLD, alias="old-name")
    wait_until(lambda: [call for call in litellm.calls("/key/update") if call["alias"] == "agents-service"], what="its renaming")
    assert broker.admin("rotate", profile="service")["alias"] == "agents-service"
    assert row_of(litellm, OLD)["key_alias"] == "agents-service.g2"
    stored, = broker.rows("SELECT alias FROM key WHERE hash = ?", key_hash(OLD))
    assert stored["alias"] == "agents-service.g2"
    assert sorted(key["key_alias"] for key in litellm.keys()) == ["agents-service", "agents-service.g1", "agents-service.g2"]


def test_one_key_is_imported_into_one_profile_only(make_broker, litellm):
    broker = make_broker(config=TWO, env=DROPIN, timing={**FAST, "grace_ms": 100}).start()
    broker.secrets.add(OLD)
    for name in "ab":
        broker.wait_ready(name)
    litellm.add_key(OLD, key_alias="old-name")
    litellm.fail(path="/key/info", delay_ms=300, times=2)
    with broker.rpc(admin=True) as connection:
        sent = [connection.send("import", profile=name, token=OLD, alias="old-name") for name in "ab"]
        errors = [connection.reply(number)[0] for number in sent]
    assert sorted(error["code"] for error in errors if error) == ["invalid_request"]
    leases = {name: broker.acquire(profile=name, bind="ttl") for name in "ab"}
    assert sorted(reply["api_key"] == OLD for reply in leases.values()) == [False, True]
    owner = "a" if leases["a"]["api_key"] == OLD else "b"
    broker.admin("revoke", profile=owner)
    for reply in leases.values():
        try:
            broker.call("release", lease=reply["lease"])
        except RpcError as ended:
            assert ended.code == "unknown_lease"
    wait_until(lambda: row_of(litellm, OLD) is None, what="its deletion")
    for name in "ab":
        reply = wait_until(lambda: _granted(broker, name), what="a key")
        assert reply["api_key"] != OLD and litellm.chat(reply["api_key"])[0] == 200
        assert broker.admin("rotate", profile=name)["generation"] > reply["generation"]


def _granted(broker, name):
    try:
        return broker.acquire(profile=name, bind="ttl", timeout_ms=1000)
    except RpcError:
        return None


@pytest.mark.parametrize("alias", ["alias-a", "old-name"], ids=["set aside", "unknown"])
def test_two_imports_of_one_key_in_one_turn_adopt_it_once(make_broker, litellm, alias):
    """Both have been told by upstream that it is alive, and neither is on record yet."""
    litellm.add_key(OLD, key_alias=alias)
    broker = make_broker(config=TWO, env=DROPIN, timing={**FAST, "sweep_every_ms": 600000}).start()
    broker.secrets.add(OLD)
    for name in ("service", "a", "b"):
        broker.wait_ready(name)
    litellm.fail(path="/key/info", delay_ms=300, times=2)
    with broker.rpc(admin=True) as connection:
        sent = [connection.send("import", profile=name, token=OLD, alias="old-name") for name in "ab"]
        wait_until(lambda: len([call for call in litellm.calls("/key/info") if key_hash(OLD) in call["targets"]]) == 2,
                   what="both questions")
        with broker.locked(), broker.held_in_a_turn():
            wait_until(lambda: unread_answers(litellm) == 2, what="both answers")
        errors = [connection.reply(number)[0] for number in sent]
    assert [error and error["code"] for error in errors] in ([None, "invalid_request"], ["invalid_request", None])
    assert broker.count("SELECT count(*) FROM key WHERE hash = ?", key_hash(OLD)) == 1 and len(broker.audit(event="import")) == 1
    assert sorted(broker.acquire(profile=name, bind="ttl")["api_key"] == OLD for name in "ab") == [False, True]


def test_key_that_was_set_aside_for_one_profile_is_imported_into_another(make_broker, litellm):
    litellm.add_key(OLD, key_alias="alias-a")
    broker = make_broker(config=TWO, env=DROPIN, timing=FAST).start()
    broker.secrets.add(OLD)
    for name in "ab":
        broker.wait_ready(name)
    assert broker.admin("import", profile="b", token=OLD, alias="old-name")["profile"] == "b"
    assert broker.acquire(profile="b", bind="ttl")["api_key"] == OLD != broker.acquire(profile="a", bind="ttl")["api_key"]
    row, = broker.audit(event="import")
    assert row["profile"] == "b" and row["key_tag"] == broker.tag(OLD)
    wait_until(lambda: row_of(litellm, OLD)["key_alias"] == "alias-b", what="its name")


def test_key_of_another_broker_is_not_imported(broker, litellm):
    litellm.add_key(OLD, key_alias="theirs", user_id="keybroker:another",
                    metadata={"keybroker": {"install": "another", "intent": "theirs"}})
    broker.secrets.add(OLD)
    with pytest.raises(RpcError) as refusal:
        broker.admin("import", token=OLD, alias="theirs")
    assert refusal.value.code == "invalid_request" and "another broker" in refusal.value.text
    assert row_of(litellm, OLD)["key_alias"] == "theirs" and broker.acquire()["api_key"] != OLD
