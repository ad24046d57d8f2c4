"""`keybroker sweep`: the sweep when an administrator wants it; the first marks, the second deletes."""

import os

import pytest

from harness.broker import FAST
from harness.rpc import RpcError
from harness.upstream import row_of
from harness.wait import wait_until

# None but the first comes by itself.
RARE = {**FAST, "sweep_every_ms": 3600000}


@pytest.fixture
def swept(make_broker, litellm):
    """A broker whose own first sweep is over."""
    broker = make_broker(timing=RARE).start()
    broker.wait_ready()
    wait_until(lambda: litellm.calls("/key/list"), 5, "the first sweep")
    broker.admin("sweep")
    return broker


def stray_key(broker, litellm, name="stray"):
    key = f"sk-{name}-of-this-install-0123456789"
    broker.secrets.add(key)
    litellm.add_key(key, key_alias=name, user_id=broker.user_id)
    return key


def test_first_marks_and_second_deletes(swept, litellm):
    ours = swept.acquire()["api_key"]
    assert swept.admin("sweep") == {"listed": 1, "marked": 0, "deleted": 0}
    stray = stray_key(swept, litellm)
    litellm.add_key("sk-of-somebody-else-0123456789", key_alias="foreign", user_id="keybroker:another")
    assert swept.admin("sweep") == {"listed": 2, "marked": 1, "deleted": 0}
    assert row_of(litellm, stray)
    assert swept.admin("sweep") == {"listed": 2, "marked": 0, "deleted": 1}
    assert row_of(litellm, stray) is None and row_of(litellm, ours) and row_of(litellm, "sk-of-somebody-else-0123456789")
    assert swept.admin("sweep") == {"listed": 1, "marked": 0, "deleted": 0}


def test_who_asked_is_on_record_before_it_begins(swept, litellm):
    stray_key(swept, litellm)
    litellm.fail(path="/key/list", delay_ms=700, times=1)
    litellm.clear_calls()
    with swept.rpc(admin=True) as connection:
        sent = connection.send("sweep")
        wait_until(lambda: [row for row in swept.audit(event="sweep", outcome="asked")][1:], 0.6, "its row")
        assert not connection.has_reply(sent)
        connection.result(sent)
    asked = swept.audit(event="sweep", outcome="asked")[-1]
    assert asked["uid"] == os.getuid() and asked["pid"] == os.getpid()
    swept.admin("sweep")
    assert "stray" in swept.audit(event="sweep", outcome="ok")[-1]["detail"]


def test_the_command_says_what_it_found(swept, litellm):
    assert swept.cli("sweep").ok().strip() == "1 key of this broker at LiteLLM, 0 deleted that it does not know, 0 marked"
    stray_key(swept, litellm)
    done = swept.cli("sweep")
    assert "2 keys of this broker at LiteLLM, 0 deleted that it does not know, 1 marked" in done.ok()
    assert "deleted by the next sweep" in done.stderr
    assert swept.cli("--json", "sweep").json() == {"listed": 2, "marked": 0, "deleted": 1}


def test_two_at_once_are_two_sweeps_one_after_the_other(swept, litellm):
    stray = stray_key(swept, litellm)
    litellm.fail(path="/key/list", delay_ms=400, times=1)
    with swept.rpc(admin=True) as connection:
        first, second = connection.send("sweep"), connection.send("sweep")
        assert connection.result(first)["marked"] == 1 and connection.result(second)["deleted"] == 1
    assert row_of(litellm, stray) is None


def test_litellm_that_cannot_be_asked_is_said_and_marks_nothing(swept, litellm):
    stray = stray_key(swept, litellm)
    litellm.fail(path="/key/list", status=500, times=-1)
    done = swept.cli("sweep")
    assert done.code == 75 and "upstream_unavailable" in done.stderr
    litellm.clear()
    assert wait_until(lambda: swept.cli("sweep").code == 0 and row_of(litellm, stray), 5, "the marking")


def test_who_asked_and_went_away_leaves_the_sweep_alone(swept, litellm):
    litellm.fail(path="/key/list", delay_ms=400, times=1)
    with swept.rpc(admin=True) as connection:
        connection.send("sweep")
        wait_until(lambda: len(swept.audit(event="sweep", outcome="asked")) == 2, what="its beginning")
    assert swept.admin("sweep")["listed"] == 1


def test_without_litellm_there_is_nothing_to_sweep(make_broker):
    broker = make_broker(upstream=None, env={"OPENAI_API_KEY": "sk-provider-0123456789abcdef"}).start()
    broker.secrets.add("sk-provider-0123456789abcdef")
    with pytest.raises(RpcError) as refusal:
        broker.admin("sweep")
    assert refusal.value.code == "invalid_request"


def test_it_is_the_administrators(swept):
    with pytest.raises(RpcError) as refusal:
        swept.call("sweep")
    assert refusal.value.code == "denied"


def test_stop_ends_the_waiting(swept, litellm):
    litellm.fail(path="/key/list", hang=True, times=1)
    with swept.rpc(admin=True) as connection:
        sent = connection.send("sweep")
        wait_until(lambda: len(swept.audit(event="sweep", outcome="asked")) == 2, what="its beginning")
        swept.stop()
        with pytest.raises(RpcError) as refusal:
            connection.result(sent)
    assert refusal.value.code == "not_leader"
