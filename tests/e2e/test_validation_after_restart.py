"""After a restart every shared key is checked before it is handed out, however many there are."""

import time

import pytest

from harness.broker import DROPIN, FAST, MANY, key_hash, rule_all
from harness.wait import wait_until

NAMES = [f"p{number}" for number in range(30)]  # the last one's check starts a while after the first one's
CONFIG = MANY + rule_all() + "".join(
    f'profile "{name}" {{\n mode = shared\n alias = "alias-{name}"\n models = {{ "gpt-5" }}\n}}\n' for name in NAMES)


@pytest.fixture
def shared(make_broker):
    """-> (broker, the keys of all profiles)"""
    broker = make_broker(config=CONFIG, env=DROPIN, timing={**FAST, "upstream_recheck_ms": 50}).start()
    broker.wait_ready()  # the drop-in's own
    return broker, acquire_all(broker)


def acquire_all(broker):
    """-> profile -> key; all are asked for at once."""
    with broker.rpc() as connection:
        sent = {name: connection.send("acquire", profile=name, bind="ttl") for name in NAMES}
        return {name: connection.result(number)["api_key"] for name, number in sent.items()}


def test_no_dead_key_is_handed_out_after_a_restart(shared, litellm):
    broker, old = shared
    time.sleep(0.1)  # a key that dies younger than upstream_recheck_ms is another matter
    broker.stop()
    assert litellm.admin("POST", "/key/delete", {"keys": [key_hash(key) for key in old.values()]})[0] == 200
    broker.start()
    new = acquire_all(broker)
    assert {name: litellm.chat(key)[0] for name, key in new.items()} == dict.fromkeys(NAMES, 200)
    assert not set(new.values()) & set(old.values())


def test_each_key_is_asked_about_once_and_reused(shared, litellm):
    broker, old = shared
    broker.stop()
    litellm.clear_calls()
    broker.start()
    assert acquire_all(broker) == old
    asked = wait_until(lambda: len(litellm.calls("/key/info")) >= len(NAMES) and litellm.calls("/key/info"), what="all checks")
    targets = sorted(target for call in asked for target in call["targets"])
    assert set(map(key_hash, old.values())) <= set(targets) and len(targets) == len(set(targets))
    assert litellm.calls("/key/generate") == []


def test_check_is_made_only_once_while_upstream_is_down(shared, litellm):
    """One attempt each: callers are waiting, and what was good before is handed out."""
    broker, old = shared
    broker.stop()
    litellm.clear_calls()
    litellm.fail(path="/key/info", status=500, times=-1)
    broker.start()
    assert acquire_all(broker) == old
    targets = [target for call in litellm.calls("/key/info") for target in call["targets"]]
    assert len(targets) == len(set(targets))
