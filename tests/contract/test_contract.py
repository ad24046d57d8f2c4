"""The stand-in answers as LiteLLM was recorded to; so does a real LiteLLM, where one is given.

LITELLM_BASE_URL and LITELLM_MASTER_KEY name the real one; LITELLM_CONTRACT_LLM=1 makes LLM calls on it too.
"""

import json
import os
import socket
import time
from urllib.parse import urlsplit

import pytest
from replay import RealTarget, Replay, StandinTarget, case_names, fresh, load, send

REAL_URL, REAL_KEY = os.environ.get("LITELLM_BASE_URL"), os.environ.get("LITELLM_MASTER_KEY")
TARGETS = ("1.102.4", "1.80.11") + (("real",) if REAL_URL and REAL_KEY else ())
RUNS = [(target, name) for target in TARGETS for name in case_names()
        if target != "real" or load(name).get("only") != "standin"]


@pytest.fixture(scope="session")
def real():
    """The real LiteLLM, if there is one."""
    return RealTarget(REAL_URL, REAL_KEY) if "real" in TARGETS else None


@pytest.fixture
def target(request, standins, real):
    """An empty stand-in of a version, or the real one."""
    if request.param == "real":
        return real
    return StandinTarget(fresh(standins[request.param]))


@pytest.mark.parametrize("target, name", RUNS, indirect=["target"])
def test_recorded(target, name):
    """Each recorded case; nothing may differ."""
    run = Replay(target, llm_calls=not target.real or os.environ.get("LITELLM_CONTRACT_LLM") == "1")
    try:
        found = run.play(load(name))
    finally:
        run.clean_up()
    assert not found, "\n".join(found)


def keep_asking(target, path, seconds=10):
    """Asks until the list is not empty."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        keys = send(target.bases[0], "GET", path, target.master).json()["keys"]
        if keys:
            return keys
        time.sleep(0.05)
    return []


@pytest.mark.parametrize("target", TARGETS, indirect=True)
def test_abandoned_request(target):
    """A client that closes its connection right after sending /key/generate leaves a live key."""
    alias = Replay(target).run + "orphan"
    body = json.dumps({"key_alias": alias, "duration": "30m"})
    head = (f"POST /key/generate HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {target.master}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n")
    parts = urlsplit(target.bases[0])
    with socket.create_connection((parts.hostname, parts.port), timeout=10) as connection:
        connection.sendall((head + body).encode())
    try:
        assert len(keep_asking(target, f"/key/list?key_alias={alias}")) == 1
    finally:
        gone = send(target.bases[0], "POST", "/key/delete", target.master, json.dumps({"key_aliases": [alias]}),
                    {"Content-Type": "application/json"})
    assert gone.status == 200
