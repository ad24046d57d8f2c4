"""Rotation under load: many processes make calls with the shared key while it is replaced, and none fails.

KEYBROKER_LOAD_SECONDS and KEYBROKER_LOAD_CLIENTS make it longer or larger (./test.sh load)."""

import json
import os
import subprocess

import pytest

from harness import build
from harness.broker import DROPIN, FAST, rule_all
from harness.wait import wait_until

EVERY = 'profile "service" {{ mode = shared models = {{ "gpt-5" }} alias = "{alias}" rotate_every = "{every}" }}\n'


def holders(broker, clients, seconds, **more):
    """Runs the holders to their end; -> what they have counted."""
    options = [f"--{name.replace('_', '-')}={value}" for name, value in {"clients": clients, "seconds": seconds, **more}.items()]
    done = subprocess.run([build.binary("load_holders"), f"--socket={broker.socket}", *options], env=broker.cli_env(), text=True,
                          capture_output=True, timeout=seconds + 120, check=False)
    assert done.returncode == 0, done
    counted = json.loads(done.stdout)
    print(counted, "generation", broker.profile()["generation"])
    assert (counted["clients"], counted["lost"]) == (clients, 0), done
    return counted


def unbroken(broker, counted, generation=4):
    """No call has failed, while there was something that could break them."""
    assert counted["failed"] == 0, f"{counted}\n{broker.log[-3000:]}"
    assert broker.profile()["generation"] >= generation and counted["switches"] > 0 and counted["calls"] > counted["switches"]


def test_no_call_fails_while_the_key_rotates_every_two_seconds(make_broker):
    clients = int(os.environ.get("KEYBROKER_LOAD_CLIENTS", 50 if build.is_sanitized() else 500))
    seconds = int(os.environ.get("KEYBROKER_LOAD_SECONDS", 12))
    broker = make_broker(timing={**FAST, "duration_min_ms": 1000, "grace_ms": 300000}, env=DROPIN,
                         config="limits { mints_per_minute = 100000 }\n" + rule_all() + EVERY.format(alias="load", every="2s")).start()
    broker.wait_ready()
    # a tenth cannot take another key: the first generation is theirs to the end
    unbroken(broker, holders(broker, clients, seconds, fixed=clients // 10, pause_ms=500))
    wait_until(lambda: broker.profile()["leases"] == 0, 20, "the ends of all leases")
    wait_until(lambda: len(broker.profile()["retiring"]) <= 1, 20, "the end of keys that nobody can be using, long before their grace")


def test_who_never_acknowledges_has_the_grace(make_broker):
    broker = make_broker(timing={**FAST, "duration_min_ms": 1000, "grace_ms": 4000}, env=DROPIN,
                         config=rule_all() + EVERY.format(alias="load", every="2s")).start()
    broker.wait_ready()
    unbroken(broker, holders(broker, 20, 10, silent=20, pause_ms=100))


@pytest.mark.live
def test_no_call_fails_on_the_real_litellm(make_live_broker, live):
    broker = make_live_broker(timing={**FAST, "duration_min_ms": 1000, "grace_ms": 300000}, env=DROPIN,
                              config=rule_all() + EVERY.format(alias=live.tag, every="3s")).start()
    live.keys(broker.user_id)
    broker.wait_ready(timeout=30)
    unbroken(broker, holders(broker, 10, int(os.environ.get("KEYBROKER_LOAD_SECONDS", 30)), fixed=1, pause_ms=300), generation=3)
