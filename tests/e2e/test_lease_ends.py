"""How soon a dedicated key goes with its last holder, measured at upstream; caps, renewals, and when clients come back."""

import os
import signal
import time
from collections import Counter

import pytest

from harness.broker import MANY, key_hash, rule_all
from harness.holder import Holder
from harness.rpc import RpcError
from harness.upstream import row_of, wait_gone
from harness.users import STRANGER, need_root

MINUTE = 60000


def deleted_at(litellm, key):
    """When upstream was asked to delete it, by upstream's journal."""
    wait_gone(litellm, key)
    return next(call["at"] for call in litellm.calls("/key/delete") if key_hash(key) in call["targets"])


def by_signal(number):
    """The holder's process ends."""
    def end(peer, _reply):
        now = time.time()
        peer.kill(number)
        return now
    return end


def hang_up(peer, _reply):
    """Its connection ends."""
    now = time.time()
    peer.hang_up()
    return now


def release(peer, reply):
    """It says so."""
    now = time.time()
    peer.call("release", lease=reply["lease"])
    return now


def time_over(_peer, reply):
    """It need do nothing."""
    return reply["lease_ends_at_ms"] / 1000


ENDS = {"crash": ("process", by_signal(signal.SIGTRAP)), "kill -9": ("process", by_signal(signal.SIGKILL)),
        "disconnect": ("connection", hang_up), "crash of a connection's holder": ("connection", by_signal(signal.SIGTRAP)),
        "TTL": ("ttl", time_over), "release": ("process", release), "release of a connection lease": ("connection", release)}


@pytest.mark.parametrize("bind, end", ENDS.values(), ids=ENDS.keys())
def test_key_is_deleted_within_a_second_of_its_last_holders_end(broker, litellm, bind, end):
    ttl = {"ttl_ms": 1000} if bind == "ttl" else {}
    with Holder(broker) as peer:
        reply = peer.call("acquire", profile="process", bind=bind, **ttl)
        assert row_of(litellm, reply["api_key"])
        ended = end(peer, reply)
        assert -0.05 < deleted_at(litellm, reply["api_key"]) - ended < 1


# --- caps and renewals ---

def test_who_asks_for_more_than_the_cap_gets_the_cap_and_is_told(make_broker):
    broker = make_broker(config=rule_all(ttl_cap='"2m"')).start()
    for asked, given in ((3 * MINUTE, 2 * MINUTE), (2 * MINUTE, 2 * MINUTE), (MINUTE, MINUTE), (None, 2 * MINUTE)):
        wanted = {"ttl_ms": asked} if asked else {}
        reply = broker.acquire(bind="ttl", **wanted)
        renewed = broker.call("renew", lease=reply["lease"], **wanted)
        for answer in (reply, renewed):
            assert answer["ttl_ms"] == given
            assert abs(answer["lease_ends_at_ms"] - time.time() * 1000 - given) < 5000
    assert "ttl_ms" not in broker.acquire() and "ttl_ms" not in broker.acquire(bind="connection")
    assert "ttl_ms" not in broker.acquire(lease=reply["lease"]), "that asks for nothing"
    capped, by_default, enough = (broker.cli("get", *ttl) for ttl in (["--ttl", "3m"], [], ["--ttl", "2m"]))
    assert capped.code == 0 and "earlier than asked for" in capped.stderr
    assert by_default.code == 0 and "earlier than the default of 15 minutes" in by_default.stderr
    assert enough.code == 0 and enough.stderr == ""


def test_each_renewal_is_on_record(broker):
    reply = broker.acquire(bind="ttl")
    for _ in range(3):
        broker.call("renew", lease=reply["lease"])
    rows = broker.audit(event="renew")
    assert [(row["outcome"], row["lease"], row["uid"], row["pid"], row["profile"]) for row in rows] == \
        [("ok", reply["lease"], os.getuid(), os.getpid(), "service")] * 3
    assert all(row["key_tag"] and row["rule"] for row in rows)
    broker.call("renew", lease=broker.acquire()["lease"])
    assert len(broker.audit(event="renew")) == 3, "a process lease has no end that could be moved"


def answer_to(call, *args, **params):
    """An error's code and words."""
    with pytest.raises(RpcError) as refusal:
        call(*args, **params)
    return refusal.value.code, refusal.value.text, refusal.value.retry_after_ms


def test_lease_of_another_peer_is_answered_as_one_that_never_was(make_broker):
    need_root()
    broker = make_broker(config=rule_all() + f'rule "them" {{ uid = {STRANGER} profiles = {{ "*" }} }}\n').start()
    os.chmod(broker.path("run/keybroker"), 0o755)
    os.chmod(broker.socket, 0o666)
    with Holder(broker) as mine, Holder(broker, uid=STRANGER) as stranger:
        theirs = [mine.call("acquire", bind=bind)["lease"] for bind in ("ttl", "process", "connection")]
        ended = stranger.call("acquire", bind="ttl")["lease"]
        stranger.call("release", lease=ended)
        rows = len(broker.audit())
        for method in ("renew", "release", "acquire"):
            answers = {answer_to(stranger.call, method, lease=lease) for lease in [*theirs, ended, "never-was", "x" * 16]}
            assert len(answers) == 1 and next(iter(answers))[0] == "unknown_lease"
        new = [row["event"] for row in broker.audit()[rows:]]
        assert set(new) == {"audit_read"}, "nor does the record take longer for one of them"
        for lease in theirs:
            assert mine.call("renew", lease=lease)["lease"] == lease


# --- when clients come back ---

def spread(replies, now, end):
    """Checks the refresh times of many leases that end together; -> most of one second."""
    times = [reply["refresh_at_ms"] for reply in replies]
    shares = [(at - now) / (end - now) for at in times]
    assert min(shares) > 2 / 3 * 0.89 and max(shares) < 2 / 3 * 1.11
    assert max(shares) - min(shares) > 2 / 3 * 0.18, "they use the whole range"
    return max(Counter(int(at / 1000) for at in times).values())


def test_a_thousand_clients_do_not_return_in_the_same_second(make_broker):
    broker = make_broker(config=MANY + rule_all(), env={"LITELLM_SERVICE_KEY_DURATION": "15m", "LITELLM_SERVICE_MODELS": "m"}).start()
    broker.wait_ready()
    with broker.rpc() as connection:
        for bind in ("ttl", "process"):
            now = time.time() * 1000
            replies = []
            while len(replies) < 1000:
                sent = [connection.send("acquire", bind=bind) for _ in range(50)]
                replies += [connection.result(number) for number in sent]
            end = min(replies[0]["expires_at_ms"], replies[0].get("lease_ends_at_ms", now + 1e12))
            assert spread(replies, now, end) < 30, "120 s for 1,000 of them: 8 or 9 a second"
            again = [connection.result(connection.send("acquire", lease=reply["lease"])) for reply in replies[:50]]
            assert max(Counter(int(reply["refresh_at_ms"] / 1000) for reply in again).values()) < 10
