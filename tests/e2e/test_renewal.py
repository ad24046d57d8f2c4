"""Short keys for long-running servers: a key is prolonged in time for every LiteLLM process, and never replaced for its age."""

import datetime
import json
import sys
import time

import pytest

from harness.broker import FAST, key_hash
from harness.upstream import row_of
from harness.wait import stays, wait_until

# 4 s of life, prolonged when 2 s are left; another process of LiteLLM's honours what it has seen for one second more.
SHORT = {**FAST, "duration_min_ms": 1000, "extend_floor_ms": 2000}
LIVES = 4  # of 4 s, in a program's life
DURATION = {"service": "LITELLM_SERVICE_KEY_DURATION", "process": "LITELLM_KEY_DURATION"}

SERVER = """
import http.client, json, os, sys, time
calls, failed, until = 0, [], time.time() + float(sys.argv[1])
body = json.dumps({"model": "gpt-5", "messages": [{"role": "user", "content": "ping"}]})
while time.time() < until:
    for port in sys.argv[2:]:
        connection = http.client.HTTPConnection("127.0.0.1", int(port), timeout=10)
        connection.request("POST", "/v1/chat/completions", body, {"Authorization": "Bearer " + os.environ["OPENAI_API_KEY"],
                                                                  "Content-Type": "application/json"})
        status = connection.getresponse().status
        connection.close()
        calls += 1
        if status != 200:
            failed.append([port, status, round(until - time.time(), 1)])
    time.sleep(0.02)
print(json.dumps({"calls": calls, "failed": failed}))
"""


def left(litellm, key):
    """Seconds of life that a key has upstream."""
    text = row_of(litellm, key)["expires"].replace("Z", "+00:00")
    return datetime.datetime.fromisoformat(text).timestamp() - time.time()


def serve(broker, profile, seconds, ports):
    """A program under exec that makes calls all its life -> what came of them."""
    script = broker.write("server.py", SERVER)
    with broker.cli_running("exec", "--profile", profile, "--", sys.executable, script, str(seconds),
                            *[str(port) for port in ports]) as program:
        out, err = program.communicate(timeout=seconds + 20)
    assert program.returncode == 0, err
    return json.loads(out)


@pytest.mark.standin(second=True, cache_seconds=1)
@pytest.mark.parametrize("profile", DURATION)
def test_program_outlives_its_keys_life_many_times(make_broker, litellm, profile):
    broker = make_broker(env={DURATION[profile]: "4s"}, timing=SHORT).start()
    broker.wait_ready()
    ports = [url.rpartition(":")[2].rstrip("/") for url in (litellm.url, litellm.second_url)]
    done = serve(broker, profile, 4 * LIVES, ports)
    assert done["failed"] == [] and done["calls"] > 100, done
    assert len([row for row in broker.audit(event="extend", outcome="ok") if row["profile"] == profile]) >= LIVES
    assert len(broker.audit(event="mint", profile=profile)) == 1 and not broker.audit(event="rotate")
    if profile == "service":
        assert broker.acquire(bind="ttl")["generation"] == 1


def test_service_key_stays_the_same_over_lives_and_restarts(make_broker, litellm):
    broker = make_broker(env={DURATION["service"]: "4s"}, timing=SHORT).start()
    first = broker.acquire(bind="ttl")
    ends = time.time() + 9
    while time.time() < ends:
        broker.restart()
        broker.wait_ready()
        stays(lambda: broker.profile()["generation"] == 1, 1.5)
    again = broker.acquire(bind="ttl")
    assert again["api_key"] == first["api_key"] and again["generation"] == 1 and litellm.chat(again["api_key"])[0] == 200
    assert [key["token"] for key in litellm.keys()] == [key_hash(first["api_key"])]


@pytest.mark.parametrize("profile", DURATION)
def test_quarter_of_an_hour_is_prolonged_when_a_third_is_left(make_broker, litellm, profile):
    """With the times of a release: 15 minutes, prolonged at 5."""
    broker = make_broker(env={DURATION[profile]: "15m"}).start()
    broker.wait_ready()
    key = broker.acquire(profile=profile, bind="ttl", min_valid_ms=0)["api_key"]
    for seconds, prolonged in (("330s", False), ("290s", True)):
        litellm.admin("POST", "/key/update", {"key": key, "duration": seconds})
        litellm.clear_calls()
        broker.admin("sweep")  # which finds the other end
        if prolonged:
            wait_until(lambda: left(litellm, key) > 880, 5, "the prolongation")
        else:
            wait_until(lambda: litellm.calls("/key/info"), 5, "its check")
            stays(lambda: not litellm.calls("/key/update"), 0.3)
    again = broker.acquire(profile=profile, bind="ttl")
    assert profile == "process" or again["api_key"] == key
    assert litellm.chat(key)[0] == 200


def test_update_without_effect_is_found_out_and_repeated(make_broker, litellm):
    """What counts is /key/info: a version may answer 200 and change nothing."""
    broker = make_broker(env={DURATION["service"]: "4s"}, timing=SHORT).start()
    key = broker.acquire()["api_key"]
    first = row_of(litellm, key)["expires"]
    answer = json.dumps({"key": key_hash(key), **row_of(litellm, key)})
    litellm.fail(path="/key/update", status=200, body=answer, when="before", times=2, headers={"content-type": "application/json"})
    wait_until(lambda: row_of(litellm, key)["expires"] != first, 6, "the one that worked")
    assert "accepted it but the key ends when it did before" in broker.log
    assert len(litellm.calls("/key/update")) >= 3 and litellm.chat(key)[0] == 200
    assert broker.acquire()["api_key"] == key


@pytest.mark.live
def test_live_quarter_of_an_hour(make_live_broker, live):
    """A real LiteLLM, the times of a release: what is left falls under the threshold, and is 15 minutes again."""
    broker = make_live_broker(env={DURATION["service"]: "15m"}).start()
    live.keys(broker.user_id)
    broker.wait_ready(timeout=30)
    reply = broker.acquire(bind="ttl")
    assert 840 < left(live, reply["api_key"]) <= 901
    live.admin("POST", "/key/update", {"key": key_hash(reply["api_key"]), "duration": "240s"})
    assert left(live, reply["api_key"]) < 250
    broker.admin("sweep")
    wait_until(lambda: left(live, reply["api_key"]) > 840, 20, "the prolongation")
    again = wait_until(lambda: broker.acquire(bind="ttl", min_valid_ms=600000), 10, "it, with the new end")
    assert again["api_key"] == reply["api_key"] and again["generation"] == 1
    assert abs(again["expires_at_ms"] / 1000 - time.time() - left(live, reply["api_key"])) < 3
    assert live.chat(reply["api_key"])[0] == 200
    assert broker.audit(event="extend", outcome="ok")


@pytest.mark.live
@pytest.mark.parametrize("profile", DURATION)
def test_live_program_outlives_its_keys_life(make_live_broker, live, profile):
    """16 s of life, prolonged when 11 are left: a real LiteLLM may be slow."""
    broker = make_live_broker(env={DURATION[profile]: "16s"}, timing={**SHORT, "extend_floor_ms": 11000}).start()
    live.keys(broker.user_id)
    broker.wait_ready(timeout=30)
    port = live.url.rpartition(":")[2]
    done = serve(broker, profile, 36, [port])
    assert done["failed"] == [] and done["calls"] > 50, done
    assert len([row for row in broker.audit(event="extend", outcome="ok") if row["profile"] == profile]) >= 3
    assert len(broker.audit(event="mint", profile=profile)) == 1
