"""LiteLLM takes a few calls at once: one uid's many do not hold up another's."""

import os

import pytest

from harness.broker import FAST, MANY, key_hash
from harness.holder import Holder
from harness.users import need_root
from harness.wait import wait_until

GREEDY, OTHER = 54321, 54322  # no such users anywhere
LEASES = 300
A_FEW = 64  # calls at LiteLLM: eight at once, for some round trips
RULES = "".join(f'rule "u{uid}" {{ uid = {uid} profiles = {{ "*" }} }}\n' for uid in (GREEDY, OTHER, 0))
# What is prolonged, checked or swept by itself would be counted too.
CALM = {**FAST, "sweep_every_ms": 600000}


@pytest.fixture
def broker(make_broker):
    """A running broker that both uids may ask."""
    need_root()
    broker = make_broker(config=MANY + RULES, timing=CALM).start()
    broker.wait_ready()
    os.chmod(os.path.dirname(broker.socket), 0o755)
    os.chmod(broker.socket, 0o666)
    return broker


def position(calls, wanted):
    """How many calls came to LiteLLM before the first of these, and with it."""
    return next((number for number, call in enumerate(calls, 1) if wanted(call)), None)


def of_key(path, key):
    """A call about a key."""
    return lambda call: call["path"] == path and key_hash(key) in call["targets"]


def test_uid_whose_leases_all_end_does_not_hold_up_another(broker, litellm):
    with Holder(broker, GREEDY) as greedy, Holder(broker, OTHER) as ending, Holder(broker, OTHER) as other:
        for _ in range(LEASES):
            greedy.call("acquire", profile="process")
        old = ending.call("acquire", profile="process")["api_key"]
        other.call("whoami")
        litellm.fail(path="*", times=-1, delay_ms=100)
        litellm.clear_calls()
        greedy.kill()
        wait_until(lambda: len(litellm.calls("/key/delete")) >= 8, what="the first deletions")
        before = len(litellm.calls())
        ending.kill()
        new = other.call("acquire", profile="process")["api_key"]
        made = position(litellm.calls(), of_key("/key/info", new))
        deleted = wait_until(lambda: position(litellm.calls(), of_key("/key/delete", old)), what="the deletion")
    assert made - before <= A_FEW and deleted - before <= A_FEW, (before, made, deleted)
    wait_until(lambda: len(litellm.calls("/key/delete")) >= LEASES, 30, "all of the other's")


def test_uid_whose_keys_are_made_does_not_hold_up_its_own_deletions_and_another(broker, litellm):
    """A key that is taken away goes before those that are made."""
    with Holder(broker) as ending, Holder(broker, OTHER) as other, broker.rpc() as storm:
        old = ending.call("acquire", profile="process")["api_key"]
        other.call("whoami")
        litellm.fail(path="*", times=-1, delay_ms=100)
        litellm.clear_calls()
        for _ in range(LEASES):
            storm.send("acquire", profile="process", bind="ttl")
        wait_until(lambda: len(litellm.calls("/key/generate")) >= 7, what="the first mints")
        before = len(litellm.calls())
        ending.kill()
        new = other.call("acquire", profile="process")["api_key"]
        made = position(litellm.calls(), of_key("/key/info", new))
        deleted = wait_until(lambda: position(litellm.calls(), of_key("/key/delete", old)), what="the deletion")
        litellm.clear()
    assert made - before <= A_FEW and deleted - before <= A_FEW, (before, made, deleted)
