"""`ack`: an older generation goes as soon as nobody can be using it, and `rotate` with `now` waits for nobody."""

import pytest

from harness.broker import DROPIN, FAST, key_hash, rule_all
from harness.holder import Holder
from harness.rpc import RpcError
from harness.upstream import row_of, unread_answers, wait_gone
from harness.wait import stays, wait_until

LONG = {**FAST, "grace_ms": 60000}  # what goes before that, goes because of the acks


@pytest.fixture
def patient(make_broker):
    """A broker with a grace that no test waits for."""
    broker = make_broker(timing=LONG).start()
    broker.wait_ready()
    return broker


def test_old_key_goes_when_its_one_holder_has_acked(patient, litellm):
    old = patient.acquire()
    patient.admin("rotate", profile="service")
    patient.acquire(lease=old["lease"])
    stays(lambda: row_of(litellm, old["api_key"]) is not None, 0.5)
    assert patient.call("ack", lease=old["lease"], generation=2) == {"lease": old["lease"], "generation": 2}
    wait_gone(litellm, old["api_key"])
    assert litellm.calls("/key/delete")[-1]["targets"] == [key_hash(old["api_key"])]
    wait_until(lambda: patient.profile()["retiring"] == [], what="no key is retiring")


def test_old_key_stays_until_the_last_holder_has_acked(patient, litellm):
    with Holder(patient) as peer:
        old, theirs = patient.acquire(), peer.call("acquire")
        patient.admin("rotate", profile="service")
        for call, lease in ((patient.call, old["lease"]), (peer.call, theirs["lease"])):
            stays(lambda: litellm.chat(old["api_key"])[0] == 200, 0.3)
            call("acquire", lease=lease)
            call("ack", lease=lease, generation=2)
        wait_gone(litellm, old["api_key"])


def test_holder_that_ends_need_not_ack(patient, litellm):
    with Holder(patient) as peer:
        old = peer.call("acquire")
        patient.admin("rotate", profile="service")
        peer.call("acquire", lease=old["lease"])
        stays(lambda: row_of(litellm, old["api_key"]) is not None, 0.3)
        peer.kill()
        wait_gone(litellm, old["api_key"])


def test_key_that_nobody_has_goes_at_once(patient, litellm):
    with Holder(patient) as peer:
        old = peer.call("acquire")["api_key"]
    wait_until(lambda: patient.admin("status")["leases"] == 0, what="the lease's end")
    patient.admin("rotate", profile="service")
    wait_gone(litellm, old)


def test_each_generation_that_was_read_since_the_last_ack_stays(patient, litellm):
    """Who has read 1, 2 and 3 and acked 1 alone may still be using any of them."""
    lease = patient.acquire()["lease"]
    keys = []
    for _ in range(3):
        keys.append(patient.acquire(lease=lease)["api_key"])
        patient.admin("rotate", profile="service")
    stays(lambda: all(row_of(litellm, key) for key in keys), 0.5)
    patient.call("ack", lease=lease, generation=3)
    for key in keys[:2]:
        wait_gone(litellm, key)
    stays(lambda: row_of(litellm, keys[2]) is not None, 0.3)


def test_generation_that_its_holder_never_had_does_not_wait_for_it(patient, litellm):
    lease = patient.acquire()["lease"]
    first = patient.acquire(lease=lease)["api_key"]
    patient.admin("rotate", profile="service")
    with Holder(patient) as peer:
        second = peer.call("acquire")["api_key"]
    patient.admin("rotate", profile="service")
    wait_gone(litellm, second)
    assert row_of(litellm, first) is not None


def test_ack_ends_no_fixed_lease(patient, litellm):
    with Holder(patient) as peer:
        old = patient.acquire()
        peer.call("acquire", refreshable=False)
        patient.admin("rotate", profile="service")
        patient.acquire(lease=old["lease"])
        patient.call("ack", lease=old["lease"], generation=2)
        stays(lambda: row_of(litellm, old["api_key"]) is not None, 0.5)
        peer.kill()
        wait_gone(litellm, old["api_key"])


def test_imported_key_waits_for_those_that_nobody_knows(make_broker, litellm):
    broker = make_broker(timing=LONG).start()
    broker.wait_ready()
    litellm.add_key("sk-of-the-old-provisioner-0123", key_alias="service-token")
    broker.secrets.add("sk-of-the-old-provisioner-0123")
    broker.admin("import", profile="service", token="sk-of-the-old-provisioner-0123", alias="service-token")
    broker.admin("rotate", profile="service")
    stays(lambda: row_of(litellm, "sk-of-the-old-provisioner-0123") is not None, 0.5)


def test_each_ack_is_on_record_once(patient):
    lease = patient.acquire()["lease"]
    patient.admin("rotate", profile="service")
    patient.acquire(lease=lease)
    for _ in range(2):
        patient.call("ack", lease=lease, generation=2)
    row, = patient.audit(event="ack")
    assert (row["outcome"], row["lease"], row["profile"], row["detail"]) == ("ok", lease, "service", "generation 2")
    assert row["key_tag"] == patient.tag(patient.acquire(lease=lease)["api_key"])


@pytest.mark.parametrize("generation,words", [(2, "has generation 1 so far"), (0, "generation must be")])
def test_what_was_not_read_cannot_be_acked(patient, generation, words):
    lease = patient.acquire()["lease"]
    patient.admin("rotate", profile="service")
    with pytest.raises(RpcError) as refusal:
        patient.call("ack", lease=lease, generation=generation)
    assert refusal.value.code == "invalid_request" and words in refusal.value.text


@pytest.mark.parametrize("params", [{"profile": "process"}, {"refreshable": False}])
def test_lease_with_one_key_has_nothing_to_ack(patient, params):
    lease = patient.acquire(**params)["lease"]
    with pytest.raises(RpcError) as refusal:
        patient.call("ack", lease=lease, generation=1)
    assert refusal.value.code == "invalid_request" and "one key to its end" in refusal.value.text


@pytest.mark.parametrize("method,params", [("ack", {"generation": 1}), ("report", {})])
def test_lease_of_another_is_unknown(patient, method, params):
    with Holder(patient) as peer:
        lease = peer.call("acquire")["lease"]
        answers = []
        for name in (lease, "L0123456789abcde"):
            with pytest.raises(RpcError) as refusal:
                patient.call(method, lease=name, **params)
            answers.append((refusal.value.code, refusal.value.text))
        assert answers[0] == answers[1] and answers[0][0] == "unknown_lease"


@pytest.mark.parametrize("again", [False, True], ids=["not again", "again"])
def test_acknowledgement_is_forgotten_by_a_restart(make_broker, litellm, again):
    """What was read, and not acknowledged since, may be in use still."""
    broker = make_broker(timing=LONG if again else {**FAST, "grace_ms": 4000}).start()
    broker.wait_ready()
    old, other = broker.acquire(bind="ttl"), broker.acquire(bind="ttl")
    broker.admin("rotate", profile="service")
    for lease in (old["lease"], other["lease"]):
        broker.acquire(lease=lease)
    broker.call("ack", lease=old["lease"], generation=2)
    broker.restart()
    broker.call("ack", lease=other["lease"], generation=2)
    if again:
        broker.call("ack", lease=old["lease"], generation=2)
    else:
        stays(lambda: row_of(litellm, old["api_key"]) is not None, 1.0)
    wait_gone(litellm, old["api_key"])


# --- rotate with `now` ---

def test_rotate_now_takes_the_old_keys_from_whoever_has_them(patient, litellm):
    with Holder(patient) as peer, patient.rpc() as connection:
        oldest = patient.acquire()["api_key"]
        patient.admin("rotate", profile="service")
        old = peer.call("acquire", refreshable=False)
        fixed = connection.call("acquire", refreshable=False)["lease"]
        connection.call("watch")
        patient.admin("rotate", profile="service", now=True)
        wait_gone(litellm, oldest)
        wait_gone(litellm, old["api_key"])
        wait_until(lambda: connection.call("whoami") and ["revoked", [{"lease": fixed}]] in connection.notifications,
                   what="that the fixed lease was revoked")
        with pytest.raises(RpcError) as refusal:
            peer.call("acquire", lease=old["lease"])
        assert refusal.value.code == "unknown_lease"
    assert litellm.chat(patient.acquire()["api_key"])[0] == 200
    assert patient.audit(event="rotate", outcome="asked")[-1]["detail"] == "at once"


def test_rotate_now_keeps_the_old_key_if_there_is_no_new_one(patient, litellm):
    old = patient.acquire()["api_key"]
    litellm.fail(path="/key/generate", status=400, times=1,
                 body={"error": {"message": "budget is spent", "type": "bad_request_error", "param": None, "code": "400"}})
    with pytest.raises(RpcError):
        patient.admin("rotate", profile="service", now=True)
    assert litellm.chat(old)[0] == 200
    litellm.clear()
    patient.admin("rotate", profile="service")
    stays(lambda: row_of(litellm, old) is not None, 0.5)


def test_rotate_now_by_the_command_line(patient, litellm):
    old = patient.acquire(refreshable=False)["api_key"]
    done = patient.cli("rotate", "--now", "service")
    assert "generation 1" in done.ok() and "deleted now" in done.stdout
    wait_gone(litellm, old)


def test_rotate_now_counts_the_holders_of_all_older_keys(patient):
    for _ in range(2):
        patient.acquire(bind="ttl", refreshable=False)
        patient.admin("rotate", profile="service")
    patient.acquire(bind="ttl")
    text = patient.cli("rotate", "--now", "service").ok()
    assert "generation 3 and those before it are deleted now; 3 leases had them, 2 of them fixed" in text


# --- rotate_every ---

OFTEN = 'profile "{0}" {{ mode = shared models = {{ "gpt-5" }} alias = "{0}" rotate_every = "6s" }}\n'
OFTEN_TIMES = {**FAST, "duration_min_ms": 1000}  # no period may be shorter


def test_restart_does_not_begin_the_period_anew(make_broker):
    broker = make_broker(timing=OFTEN_TIMES, env=DROPIN, config=rule_all() + OFTEN.format("often")).start()
    broker.wait_ready("often")
    with wait_for_generation(broker, 2):
        for _ in range(3):
            stays(lambda: broker.profile("often")["generation"] == 1, 1.0)
            broker.restart()
            broker.wait_ready("often")


class wait_for_generation:
    """What is done within comes before the generation, which comes when the period since the first is over."""

    def __init__(self, broker, generation):
        self.broker, self.generation = broker, generation

    def __enter__(self):
        self.row = self.broker.rows("SELECT changed_at_ms FROM key WHERE profile = 'often' AND state = 'live'")[0]

    def __exit__(self, kind, *_):
        if kind:
            return
        wait_until(lambda: self.broker.profile("often")["generation"] == self.generation, 10, "the generation")
        live, = self.broker.rows("SELECT changed_at_ms FROM key WHERE profile = 'often' AND state = 'live'")
        assert 5700 <= live["changed_at_ms"] - self.row["changed_at_ms"] < 9000


def test_keys_don_t_rotate_together(make_broker):
    """Each has its share of a tenth of the period around its end."""
    profiles = "".join(OFTEN.format(f"p{i}") for i in range(8))
    broker = make_broker(timing=OFTEN_TIMES, env=DROPIN, config=rule_all() + profiles).start()
    for i in range(8):
        broker.wait_ready(f"p{i}")
    rows = wait_until(lambda: len(lives(broker, 2)) == 8 and (lives(broker, 1), lives(broker, 2)), 15, "all have rotated")
    waits = [second - first for first, second in zip(*rows)]
    assert max(waits) - min(waits) > 100 and min(waits) >= 5700


def lives(broker, generation):
    """When this generation of each profile was made."""
    return [row["created_at_ms"] for row in broker.rows(
        "SELECT created_at_ms FROM key WHERE profile LIKE 'p_' AND generation = ? ORDER BY profile", generation)]


# --- one turn ---

def test_key_that_is_handed_out_in_the_turn_of_its_rotation_stays(patient, litellm):
    """Nobody had it until this very turn, in which the next generation becomes live."""
    litellm.fail(path="/key/info", delay_ms=500)
    with patient.rpc(admin=True) as admin, patient.rpc() as client:
        client.call("whoami")
        asked = admin.send("rotate", profile="service")
        wait_until(lambda: len(litellm.calls("/key/generate")) == 2, what="the mint")
        with patient.frozen():
            wait_until(lambda: unread_answers(litellm) == 1, what="the answer")
            sent = [client.send("acquire", bind="ttl") for _ in range(4)]
        assert admin.result(asked)["generation"] == 2
        keys = {client.result(number)["api_key"] for number in sent}
    stays(lambda: {litellm.chat(key)[0] for key in keys} == {200}, 0.5)
    assert patient.acquire()["api_key"] not in keys, "they got the key before it"
