"""The unmodified OpenAI SDKs under load, while the shared key rotates and the broker that leads is killed: no call fails.

KEYBROKER_SDK_SECONDS makes it longer (./test.sh load); the key rotates every 2 s, and every 5 s from half a minute on."""

import json
import os
import subprocess
import time

import pytest

from harness.broker import DROPIN, FAST, rule_all
from harness.instances import Instances
from harness.wait import wait_until
from stage import hidden, languages

SECONDS = int(os.environ.get("KEYBROKER_SDK_SECONDS", 15))
EVERY = 5 if SECONDS >= 30 else 2
WORKERS, KILLS = 8, 3
CONFIG = ('limits {{ mints_per_minute = 100000 requests_per_second = 1000000 }}\n'
          'profile "service" {{ mode = shared models = {{ "gpt-5" }} alias = "{alias}" rotate_every = "{every}s" }}\n')
pytestmark = pytest.mark.parametrize("language", languages.with_sdk())
TIMING = {**FAST, "duration_min_ms": 1000, "grace_ms": 300000}


def config(alias, every):
    """A key that rotates."""
    return CONFIG.format(alias=alias, every=every) + rule_all()


def load(broker, program, seconds, kills, workers=WORKERS):
    """Runs the SDK's program to its end, and kills so many leaders meanwhile. -> what it counted, rotations, terms."""
    instances = Instances(broker)
    try:
        instances.start("a", "b")
        broker.wait_ready(timeout=30)
        broker.litellm.keys(broker.user_id)  # a real one is cleaned of them by that
        generation, term = broker.profile()["generation"], broker.admin("status")["term"]
        with open(broker.path("files/sdk"), "wb") as stderr:
            running = subprocess.Popen([program, str(seconds), str(workers)], env=broker.cli_env({"KEYBROKER_TEST_MODEL": "gpt-5"}),
                                       stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=stderr, cwd="/")
            try:
                _kill(instances, seconds, kills)
                said, _ = running.communicate(timeout=seconds + 60)
            finally:
                running.kill()
        with open(broker.path("files/sdk"), "rb") as stderr:
            output = said.decode() + stderr.read().decode("utf-8", "replace")
        assert running.returncode == 0, output
        assert not hidden.parts({broker.acquire(bind="ttl")["api_key"]}, output)
        counted = json.loads(said.splitlines()[-1])
        counted |= {"rotations": broker.profile()["generation"] - generation, "terms": broker.admin("status")["term"] - term}
        print(counted)
        return counted
    finally:
        instances.close()


def _kill(instances, seconds, kills):
    begin = time.monotonic()
    for number in range(1, kills + 1):
        due = begin + seconds * number / (kills + 1)
        wait_until(lambda due=due: time.monotonic() > due, seconds, "its turn")
        dead = instances.leader()
        dead.kill()
        instances.wait_leader(dead)
        instances.start(f"c{number}")


def unbroken(counted, rotations, kills):
    """No call has failed, though there was something that could break them."""
    assert counted["failed"] == 0 and not counted["errors"], counted
    assert counted["terms"] >= kills and counted["rotations"] >= rotations, counted
    assert counted["keys"] > counted["rotations"] / 2 and counted["calls"] > 10 * counted["keys"], counted


def test_no_call_fails(installed, make_broker):
    broker = make_broker(config=config("sdk", EVERY), timing=TIMING, env=DROPIN)
    unbroken(load(broker, installed / "sdk", SECONDS, KILLS), SECONDS // EVERY - KILLS - 1, KILLS)


@pytest.mark.live
def test_no_call_fails_on_the_real_litellm(installed, make_live_broker, live):
    broker = make_live_broker(config=config(live.tag, 5), timing=TIMING, env=DROPIN)
    unbroken(load(broker, installed / "sdk", 30, 1, workers=4), 3, 1)
