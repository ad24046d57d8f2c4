"""kill -9 at every fail point and at random times: after a restart, upstream has no key that the store doesn't know."""

import contextlib
import random
import time

import pytest

from harness import build
from harness.broker import DROPIN, FAST, MANY, key_hash, rule_all
from harness.rpc import Closed, RpcError
from harness.upstream import accounted_for, ours, row_of
from harness.wait import wait_until

# Long enough that a POST which LiteLLM carries on with is over before its burned key goes.
TIMES = {**FAST, "burn_delete_ms": 900, "takeover_ms": 200, "grace_ms": 100, "duration_min_ms": 1000, "extend_floor_ms": 0}
CONFIG = MANY + rule_all() + 'profile "short" { mode = dedicated models = { "gpt-5" } duration = "3s" }\n'
OLD = "sk-of-the-old-provisioner-0123456789"


def points():
    """At collection there may be no binary yet: then one test says so."""
    try:
        return build.fail_points()
    except FileNotFoundError:
        return ["no binary"]


def still_works(broker, litellm):
    """The store and upstream agree, and the main path goes."""
    broker.wait_ready(timeout=15)
    accounted_for(broker, litellm)
    for profile in ("service", "process"):
        assert litellm.chat(broker.acquire(profile=profile)["api_key"])[0] == 200
    retiring = "SELECT count(*) FROM key WHERE state = 'retiring' AND source <> 'legacy'"
    wait_until(lambda: broker.count(retiring) == 0, 10, "no key is retiring")
    stored = {row["hash"] for row in broker.rows("SELECT hash FROM key WHERE state = 'live'")}
    wait_until(lambda: set(ours(litellm, broker.user_id)) == stored, 10, "nothing else upstream")


def quietly(*gone):
    """What a client meets when the broker dies under it."""
    return contextlib.suppress(Closed, RpcError, OSError, TimeoutError, *gone)


def everything_that_mints(broker, litellm):
    """Meets every fail point of a living broker: mint, share, rename, team, import, rotate, prolong, release, delete, prune."""
    deadline = time.monotonic() + 15
    steps = [lambda: broker.acquire(profile="process", timeout_ms=3000),
             lambda: broker.acquire(timeout_ms=3000),
             lambda: broker.admin("rotate", profile="service", timeout_ms=3000),
             lambda: broker.call("release", lease=broker.acquire(profile="process", bind="ttl", timeout_ms=3000)["lease"]),
             lambda: broker.acquire(profile="short", bind="ttl", ttl_ms=4000, timeout_ms=3000),
             lambda: broker.admin("audit_prune", before_ms=int(time.time() * 1000), not_exported=True),
             lambda: abandon(broker, litellm)]
    for step in steps:
        if broker.running:
            with quietly():
                step()
    while broker.running and time.monotonic() < deadline:
        time.sleep(0.02)
    return not broker.running


def abandon(broker, litellm):
    """A caller that leaves while its mint hangs: its key is burned."""
    count = len(litellm.calls("/key/generate"))
    litellm.fail(path="/key/generate", delay_ms=300)
    with broker.rpc() as connection:
        connection.send("acquire", profile="process")
        wait_until(lambda: len(litellm.calls("/key/generate")) > count or not broker.running, what="the POST")


def imported(broker):
    """Tries to import; true when the broker died of it."""
    with quietly():
        broker.admin("import", token=OLD, alias="agents-service")
    return not broker.running


def leave_a_dedicated_intent(broker, litellm):
    """Kills the broker in the middle of a dedicated mint, so that the next one has to burn it."""
    broker.start()
    broker.wait_ready()
    litellm.fail(path="/key/generate", delay_ms=200)
    count = len(litellm.calls("/key/generate"))
    with broker.rpc() as connection:
        connection.send("acquire", profile="process")
        wait_until(lambda: len(litellm.calls("/key/generate")) > count, what="the POST")
        broker.kill()


@pytest.mark.parametrize("point", points())
def test_killed_at_each_fail_point(make_broker, litellm, point):
    assert point in build.fail_points(), "the daemon isn't built"
    litellm.add_key(OLD, key_alias="agents-service")
    broker = make_broker(config=CONFIG, env=DROPIN, timing=TIMES)
    broker.secrets.add(OLD)
    failing = {"KEYBROKER_FAIL": f"{point}:kill"}
    if point.startswith("burn."):
        leave_a_dedicated_intent(broker, litellm)
    if point.startswith("import."):
        litellm.fail(path="/team/new", status=503, times=-1)
    broker.spawn(env=failing)
    wait_until(lambda: "READY" in broker.log_since_start or not broker.running, what="its start")
    if point.startswith("import."):
        wait_until(lambda: imported(broker), 5, "the import gets through between two failures of the team")
    died = everything_that_mints(broker, litellm)
    assert died and broker.process.returncode == -9, f"{point} was never reached\n{broker.log[-3000:]}"
    litellm.clear()
    broker.start()
    still_works(broker, litellm)
    if not point.startswith("import."):
        assert litellm.chat(OLD)[0] == 200, "the old provisioner's key goes on working"


@pytest.mark.parametrize("point", ["turn.before_commit", "turn.after_commit"])
@pytest.mark.parametrize("nth", [2, 3, 4, 5, 6])
def test_killed_at_later_commits(make_broker, litellm, point, nth):
    if point not in build.fail_points():
        pytest.fail(f"{point} is gone: name the commit's points here")
    broker = make_broker(config=CONFIG, env=DROPIN, timing=TIMES)
    broker.spawn(env={"KEYBROKER_FAIL": f"{point}:kill:{nth}"})
    wait_until(lambda: "READY" in broker.log_since_start or not broker.running, what="its start")
    assert everything_that_mints(broker, litellm), "it was never reached"
    litellm.clear()
    broker.start()
    still_works(broker, litellm)


def test_killed_thirty_times_during_mints(make_broker, litellm):
    """At random moments, with LiteLLM at a random pace; the seed is in the failure's text."""
    seed = random.SystemRandom().randrange(1 << 32)
    chance = random.Random(seed)
    broker = make_broker(config=CONFIG, env=DROPIN, timing=TIMES)
    known = set()
    for round_number in range(30):
        broker.start()
        litellm.clear()
        if chance.random() < 0.5:
            litellm.fail(path="/key/generate", delay_ms=chance.randrange(60), times=-1,
                         when=chance.choice(["before", "after"]))
        connections = [broker.rpc() for _ in range(4)]
        for connection in connections:
            for profile in ("process", "service", "process"):
                connection.send("acquire", profile=profile, bind="ttl", ttl_ms=1000)
        if chance.random() < 0.3:
            with broker.rpc(admin=True) as admin:
                admin.send("rotate", profile="service")
        time.sleep(chance.random() * 0.12)
        broker.kill()
        for connection in connections:
            connection.close()
        known.add(round_number)
    litellm.clear()
    broker.start()
    try:
        still_works(broker, litellm)
    except AssertionError as failure:
        raise AssertionError(f"seed {seed}: {failure}") from failure
    assert len(known) == 30


@pytest.mark.parametrize("point", ["mint.after_intent", "mint.before_post", "mint.after_post", "mint.after_info"])
def test_new_leader_finishes_a_shared_mint_with_the_same_key(make_broker, litellm, point):
    broker = make_broker(timing=TIMES)
    broker.spawn(env={"KEYBROKER_FAIL": f"{point}:kill"})
    assert broker.wait() == -9
    intent, = broker.rows("SELECT hash, state FROM key")
    assert intent["state"] == "intent" and len(litellm.keys()) == (point in ("mint.after_post", "mint.after_info"))
    broker.start()
    broker.wait_ready()
    reply = broker.acquire()
    assert key_hash(reply["api_key"]) == intent["hash"] and reply["generation"] == 1
    assert [key["token"] for key in litellm.keys()] == [intent["hash"]]


def test_abandoned_intent_is_burned_before_it_is_deleted(make_broker, litellm):
    """POST K blocked, then block, then rename: only that makes sure that a late POST finds the row occupied."""
    broker = make_broker(config=CONFIG, env=DROPIN, timing=TIMES)
    leave_a_dedicated_intent(broker, litellm)
    intent, = broker.rows("SELECT hash, id FROM key WHERE state = 'intent'")
    litellm.clear_calls()
    broker.start()
    wait_until(lambda: litellm.calls("/key/delete"), what="its deletion")
    calls = [call for call in litellm.calls(method="POST") if intent["hash"] in call["targets"]]
    assert [call["path"] for call in calls][0] == "/key/generate" and "blocked" in calls[0]["body_fields"]
    assert [call["path"] for call in calls][-1] == "/key/delete"
    block = next(call for call in calls if call["path"] == "/key/block")
    assert calls[-1]["at"] - block["at"] >= 0.8, "not before a late POST can have come"
    assert calls[0]["alias"] == "burned-" + intent["id"]
    assert broker.audit(event="burn")
    wait_until(lambda: row_of_hash(litellm, intent["hash"]) is None, what="nothing is left of it")


def row_of_hash(litellm, token):
    """The stored columns of a key whose secret nobody knows."""
    return next((key for key in litellm.keys() if key["token"] == token), None)


def test_sweep_deletes_what_has_no_row(make_broker, litellm):
    broker = make_broker(timing=TIMES).start()
    broker.wait_ready()
    stray = "sk-stray-of-this-install-0123456789"
    litellm.add_key(stray, key_alias="stray", user_id=broker.user_id)
    foreign = "sk-of-somebody-else-0123456789abc"
    litellm.add_key(foreign, key_alias="foreign", user_id="keybroker:another")
    wait_until(lambda: row_of(litellm, stray) is None, 10, "the stray key's deletion")
    assert row_of(litellm, foreign)
    assert broker.acquire()["api_key"] and row_of(litellm, broker.acquire()["api_key"])
    assert [call for call in litellm.calls("/key/delete") if call["targets"] == [key_hash(stray)]]


def test_sweep_waits_for_a_second_look(make_broker, litellm):
    broker = make_broker(timing={**TIMES, "sweep_every_ms": 1500}).start()
    broker.wait_ready()
    stray = "sk-stray-of-this-install-0123456789"
    wait_until(lambda: litellm.calls("/key/list"), what="the first sweep")
    litellm.add_key(stray, key_alias="stray", user_id=broker.user_id)
    count = len(litellm.calls("/key/list"))
    wait_until(lambda: len(litellm.calls("/key/list")) > count, 5, "a sweep that sees it")
    assert row_of(litellm, stray), "seen once, it may be a mint on its way"
    wait_until(lambda: row_of(litellm, stray) is None, 5, "its deletion")


def test_sweep_reads_all_pages(make_broker, litellm):
    broker = make_broker(timing=TIMES).start()
    broker.wait_ready()
    strays = [f"sk-stray-number-{number:05}-of-this-install" for number in range(120)]
    for stray in strays:
        litellm.add_key(stray, key_alias=None, user_id=broker.user_id)
    wait_until(lambda: len(ours(litellm, broker.user_id)) == 1, 15, "all strays' deletion")


def test_sweep_tells_expired_keys_of_ours_apart(make_broker, litellm):
    """LiteLLM never removes expired keys: we do, those without a holder at least."""
    broker = make_broker(config=CONFIG, env=DROPIN, timing=TIMES).start()
    broker.wait_ready()
    reply = broker.acquire(profile="short", bind="ttl", ttl_ms=1000)
    broker.kill()
    wait_until(lambda: litellm.chat(reply["api_key"])[0] == 401, what="its expiry")
    broker.start()
    wait_until(lambda: row_of(litellm, reply["api_key"]) is None, 10, "its deletion")
