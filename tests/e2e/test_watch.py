"""`watch`: a connection hears what becomes of its process's leases, each thing once, and never a key."""

import contextlib
import os
import time

import pytest

from harness.broker import DROPIN, FAST, rule_all
from harness.holder import Holder
from harness.rpc import Closed, RpcError
from harness.upstream import unread_answers, wait_gone
from harness.users import STRANGER, need_root
from harness.wait import wait_until

QUICK = {**FAST, "grace_ms": 300}


@contextlib.contextmanager
def watching(broker, **params):
    """A connection that watches."""
    with broker.rpc() as connection:
        connection.call("watch", **params)
        yield connection


def told(connection, count=1):
    """The first notifications: [(method, params)]."""
    connection.wait_notifications(count)
    return [(method, params[0]) for method, params in connection.notifications]


def quiet(connection):
    """What was told until an answer to something else came: (method, params)."""
    connection.call("whoami")
    return [(method, params[0]) for method, params in connection.notifications]


def test_rotation_is_told_with_lease_profile_and_generation(broker):
    lease = broker.acquire()["lease"]
    with watching(broker) as connection:
        broker.admin("rotate", profile="service")
        assert told(connection) == [("rotated", {"lease": lease, "profile": "service", "generation": 2})]
        assert quiet(connection) == told(connection), "told once"


def test_connection_that_watches_goes_on_answering(broker):
    with watching(broker) as connection:
        reply = connection.call("acquire")
        broker.admin("rotate", profile="service")
        told(connection)
        assert connection.call("acquire", lease=reply["lease"])["generation"] == 2


def test_lease_of_the_rotations_own_turn_is_told(make_broker, litellm):
    """It is handed out with the old key in the very commit that makes the new one live."""
    broker = make_broker(timing=FAST).start()
    broker.wait_ready()
    litellm.fail(path="/key/info", delay_ms=500)
    with broker.rpc(admin=True) as admin, broker.rpc() as client, watching(broker) as watcher:
        client.call("whoami")
        asked = admin.send("rotate", profile="service")
        wait_until(lambda: len(litellm.calls("/key/generate")) == 2, what="the mint")
        with broker.frozen():
            wait_until(lambda: unread_answers(litellm) == 1, what="the answer")
            sent = [client.send("acquire") for _ in range(4)]
        admin.result(asked)
        behind = {reply["lease"] for reply in map(client.result, sent) if reply["generation"] == 1}
        assert behind
        assert {what["lease"] for _, what in told(watcher, len(behind))} == behind


def test_who_begins_to_watch_late_hears_what_it_missed(broker):
    lease = broker.acquire()["lease"]
    for _ in range(2):
        broker.admin("rotate", profile="service")
    with watching(broker) as connection:
        assert told(connection) == [("rotated", {"lease": lease, "profile": "service", "generation": 3})]


def test_who_has_the_newest_is_told_nothing(broker):
    lease = broker.acquire()["lease"]
    broker.admin("rotate", profile="service")
    broker.acquire(lease=lease)
    with watching(broker) as connection:
        assert quiet(connection) == []


def test_fixed_lease_is_told_nothing_it_cannot_follow(broker):
    broker.acquire(refreshable=False)
    with watching(broker) as connection:
        broker.admin("rotate", profile="service")
        broker.acquire()
        assert quiet(connection) == []


def test_at_most_one_rotation_per_lease_waits_for_a_slow_reader(make_broker):
    """A reader that takes nothing: what waits for it is the newest generation of each lease, not each rotation."""
    broker = make_broker(timing=QUICK, config="limits { buffered_bytes = 65536 mints_per_minute = 100000 }\n" + rule_all(),
                         env=DROPIN).start()
    broker.wait_ready()
    leases = [broker.acquire(bind="ttl")["lease"] for _ in range(300)]
    with watching(broker) as slow, broker.rpc(admin=True) as admin:
        count = 40
        for _ in range(count):
            admin.call("rotate", profile="service")
        admin.call("status")
        last = count + 1
        wait_until(lambda: newest(slow, leases, last), 20, "each hears the last")
        assert len(slow.notifications) < count * len(leases), "not all that ever was true"


def newest(connection, leases, generation):
    """Has each lease been told of this generation? Reads what there is."""
    connection.has_reply(0)
    last = {params[0]["lease"]: params[0]["generation"] for _, params in connection.notifications}
    return all(last.get(lease) == generation for lease in leases)


def test_revocation_is_told(broker):
    lease, other = broker.acquire()["lease"], broker.acquire(profile="process")["lease"]
    with watching(broker) as connection:
        broker.admin("revoke", lease=lease)
        assert told(connection) == [("revoked", {"lease": lease})]
        broker.admin("revoke", profile="process")
        assert told(connection, 2)[1] == ("revoked", {"lease": other})


def test_process_hears_of_the_ttl_lease_that_it_asked_for_also_after_a_restart(make_broker):
    broker = make_broker(timing={**FAST, "grace_ms": 60000}).start()
    broker.wait_ready()
    lease = broker.acquire(bind="ttl")["lease"]
    broker.restart()
    broker.wait_ready()
    with watching(broker) as connection:
        broker.admin("rotate", profile="service")
        assert told(connection) == [("rotated", {"lease": lease, "profile": "service", "generation": 2})]


def test_process_hears_of_its_own_leases_alone(broker):
    with Holder(broker) as other, watching(broker) as connection:
        theirs = other.call("acquire")["lease"]
        also_theirs = other.call("acquire", bind="ttl")["lease"]
        mine = broker.acquire()["lease"]
        broker.admin("rotate", profile="service")
        assert {params["lease"] for _, params in told(connection)} == {mine}
        broker.admin("revoke", uid=os.getuid())
        heard = told(connection, 2)
        assert {params["lease"] for _, params in heard + quiet(connection)} == {mine}
        assert theirs != also_theirs


def test_uid_hears_of_all_its_leases(broker):
    with Holder(broker) as other, watching(broker, scope="uid") as connection:
        leases = {other.call("acquire")["lease"], broker.acquire()["lease"]}
        broker.admin("rotate", profile="service")
        assert {params["lease"] for _, params in told(connection, 2)} == leases


def test_another_uid_hears_nothing(make_broker):
    need_root()
    broker = make_broker(config=f'rule "them" {{ uid = {STRANGER} profiles = {{ "*" }} }}\n' + rule_all(), env=DROPIN).start()
    broker.wait_ready()
    os.chmod(os.path.dirname(broker.socket), 0o755)
    os.chmod(broker.socket, 0o666)
    with Holder(broker, uid=STRANGER) as other, watching(broker, scope="uid") as connection:
        lease = other.call("acquire", bind="ttl")["lease"]
        broker.admin("rotate", profile="service")
        broker.admin("revoke", lease=lease)
        assert quiet(connection) == []


def test_end_of_a_ttl_lease_is_told_before_it_comes(make_broker):
    broker = make_broker(timing={**QUICK, "expiring_ms": 2000}).start()
    broker.wait_ready()
    with watching(broker) as connection:
        reply = connection.call("acquire", bind="ttl", ttl_ms=8000)
        assert told(connection) == [("expiring", {"lease": reply["lease"], "ends_at_ms": reply["lease_ends_at_ms"]})]
        assert connection.call("renew", lease=reply["lease"], ttl_ms=8000)["lease_ends_at_ms"] > reply["lease_ends_at_ms"]


def test_end_that_was_near_before_is_told_at_once(make_broker):
    broker = make_broker(timing={**QUICK, "expiring_ms": 60000}).start()
    broker.wait_ready()
    reply = broker.acquire(bind="ttl", ttl_ms=3000)
    wait_until(lambda: reply["lease_ends_at_ms"] / 1000 - time.time() < 1, 5, "its last third")
    with watching(broker) as connection:
        assert told(connection) == [("expiring", {"lease": reply["lease"], "ends_at_ms": reply["lease_ends_at_ms"]})]


def test_end_is_told_in_time_by_the_next_leader(make_broker):
    """The last third of the lease's time, not of what was left of it at the restart."""
    broker = make_broker(timing={**QUICK, "expiring_ms": 60000}).start()
    broker.wait_ready()
    reply = broker.acquire(bind="ttl", ttl_ms=12000)
    wait_until(lambda: reply["lease_ends_at_ms"] / 1000 - time.time() < 3.9, 15, "its last third")
    broker.restart()
    with watching(broker) as connection:
        assert told(connection) == [("expiring", {"lease": reply["lease"], "ends_at_ms": reply["lease_ends_at_ms"]})]
        assert reply["lease_ends_at_ms"] / 1000 - time.time() > 12 / 3 / 3 + 0.2  # before a third of that third was left


def test_stopping_leader_says_so(broker):
    with watching(broker) as connection:
        term = broker.call("hello")["term"]
        broker.stop()
        with pytest.raises(Closed):
            while True:
                connection.wait_notifications(99)
        assert connection.notifications == [["leader_changed", [{"instance": "main", "term": term}]]]


def test_watcher_after_a_restart_hears_of_a_rotation_before_it(make_broker):
    broker = make_broker(timing=FAST).start()
    broker.wait_ready()
    lease = broker.acquire(bind="ttl")["lease"]
    broker.admin("rotate", profile="service")
    broker.restart()
    broker.wait_ready()
    with watching(broker) as connection:
        assert told(connection) == [("rotated", {"lease": lease, "profile": "service", "generation": 2})]


def test_connection_watches_once_and_a_process_a_few_times(broker):
    with contextlib.ExitStack() as stack:
        first = stack.enter_context(watching(broker))
        with pytest.raises(RpcError) as refusal:
            first.call("watch")
        assert refusal.value.code == "invalid_request"
        for _ in range(7):
            last = stack.enter_context(watching(broker))
        with pytest.raises(RpcError) as refusal:
            broker.call("watch")
        assert refusal.value.code == "limit_exceeded"
        last.close()
        wait_until(lambda: can_watch(broker), 5, "room again")


def can_watch(broker):
    """Is there room for another?"""
    try:
        return broker.call("watch") is not None
    except RpcError:
        return False


def test_watchers_are_no_requests_without_a_reply(make_broker, litellm):
    """They stay for hours: they must not take the place of requests that wait for upstream."""
    broker = make_broker(config="limits { connections = 8 }\n" + rule_all(), env=DROPIN).start()
    litellm.fail(path="/key/generate", hang=True, times=-1)
    with contextlib.ExitStack() as stack:
        for _ in range(6):
            stack.enter_context(watching(broker))
        last = stack.enter_context(broker.rpc())
        for _ in range(5):
            last.send("acquire", profile="process")
        assert last.result(last.send("whoami"), 5)["uid"] == os.getuid()
    litellm.clear()


def test_scope_is_one_of_two(broker):
    with pytest.raises(RpcError) as refusal:
        broker.call("watch", scope="everything")
    assert refusal.value.code == "invalid_request" and "process or uid" in refusal.value.text


def test_dead_dedicated_key_is_told_to_its_holder(make_broker, litellm):
    broker = make_broker(timing=QUICK).start()
    with watching(broker) as connection:
        reply = connection.call("acquire", profile="process")
        broker.admin("revoke", key_hash=reply["key_hash"])
        wait_gone(litellm, reply["api_key"])
        assert told(connection) == [("revoked", {"lease": reply["lease"]})]
