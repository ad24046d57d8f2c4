"""Each control of the stand-in does what it says."""

import json
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from standin_client import HERE, Standin

GENERATE = "/key/generate"
CHOSEN = "sk-chosen-for-this-test"


def mint(standin, **body):
    """A key."""
    status, answer = standin.admin("POST", GENERATE, {"duration": "30m", **body})
    assert status == 200, answer
    return answer


def aliases(standin):
    """The aliases stored."""
    return [row["key_alias"] for row in standin.keys()]


def raw_request(path=GENERATE, body=b"{}", master="sk-standin-master", extra=""):
    """The bytes of a request."""
    return (f"POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {master}\r\n{extra}"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n").encode() + body


def read_all(standin, request):
    """Sends a request; everything until the connection is closed."""
    with socket.create_connection(("127.0.0.1", standin.port), timeout=10) as connection:
        connection.sendall(request)
        received = b""
        while data := connection.recv(65536):
            received += data
    return received


def test_status(standin):
    """A status for so many requests, without effect, with headers; others are not touched."""
    standin.fail(path=GENERATE, method="POST", status=503, times=2, headers={"Retry-After": 1})
    for _ in range(2):
        status, headers, text = standin.request("POST", GENERATE, {}, standin.master_key)
        assert (status, headers["Retry-After"]) == (503, "1")
        assert json.loads(text)["error"]["type"] == "no_db_connection"
    assert standin.keys() == []
    assert standin.admin("GET", "/key/list")[0] == 200
    assert standin.admin("POST", GENERATE, {})[0] == 200
    assert standin.failures()[0]["hits"] == 2


def test_status_after_effect(standin):
    """`when: after` shows a failure of what was carried out."""
    standin.fail(path=GENERATE, status=500, when="after")
    assert standin.admin("POST", GENERATE, {"key_alias": "made"})[0] == 500
    assert aliases(standin) == ["made"]


def test_body_skip_process_and_clear(standin):
    """A body of one's own, requests let through first, one process only, and the end of it."""
    standin.fail(path="*", status=418, body="teapot", skip=1, times=-1, process=1)
    assert standin.admin("GET", "/key/list")[0] == 200
    assert standin.admin("GET", "/key/list") == (418, "teapot")
    assert standin.admin("GET", "/key/list", second=True)[0] == 200
    assert standin.admin("GET", "/team/list") == (418, "teapot")
    standin.clear()
    assert standin.admin("GET", "/key/list")[0] == 200


def test_delay(standin):
    """A delay, then LiteLLM's answer."""
    standin.fail(path=GENERATE, delay_ms=200)
    start = time.monotonic()
    mint(standin, key_alias="late")
    assert time.monotonic() - start >= 0.2
    assert aliases(standin) == ["late"]


@pytest.mark.parametrize("when, stored", [("before", []), ("after", ["held"])])
def test_hang(standin, when, stored):
    """No answer, and the connection stays open; with and without effect."""
    standin.fail(path=GENERATE, hang=True, when=when)
    with pytest.raises(TimeoutError):
        standin.request("POST", GENERATE, {"key_alias": "held"}, standin.master_key, timeout=0.2)
    assert aliases(standin) == stored
    assert standin.calls(GENERATE)[0]["status"] == 0


def test_hang_released(standin):
    """Clearing the failures closes the connections that hang."""
    standin.fail(path=GENERATE, hang=True)
    with ThreadPoolExecutor(1) as pool:
        pending = pool.submit(read_all, standin, raw_request())
        while not standin.failures()[0]["hits"]:
            time.sleep(0.005)
        standin.clear()
        assert pending.result(10) == b""


@pytest.mark.parametrize("count", [0, 1, 100])
def test_drop(standin, count):
    """So many bytes of the answer to what was carried out, then the end."""
    standin.fail(path=GENERATE, drop_after=count, when="after")
    received = read_all(standin, raw_request(body=b'{"key_alias": "dropped"}'))
    assert len(received) == count
    assert b"HTTP/1.1 200 OK".startswith(received[:15])
    assert aliases(standin) == ["dropped"]


def test_drop_without_effect(standin):
    """Closed before anything happened."""
    standin.fail(path=GENERATE, drop_after=0)
    assert read_all(standin, raw_request()) == b""
    assert standin.keys() == []


def test_duplicate_alias(standin):
    """The 400 of a taken alias, for one that is free."""
    standin.fail(path=GENERATE, duplicate_alias=True)
    status, body = standin.admin("POST", GENERATE, {"key_alias": "free"})
    assert (status, body["error"]["type"], body["error"]["param"]) == (400, "bad_request_error", "key_alias")
    assert "'free' already exists" in body["error"]["message"]
    assert standin.keys() == []


def test_database_down(standin):
    """Nothing is stored, a cached key still works, and readiness is wrong for a while."""
    cached, other = mint(standin), mint(standin)
    assert standin.chat(cached["key"])[0] == 200
    standin.mode(db_down=True)
    assert standin.admin("POST", GENERATE, {"key_alias": "x"})[0] == 500
    assert standin.chat(cached["key"])[0] == 200
    assert standin.chat(other["key"])[0] == (401 if standin.litellm == "1.80.11" else 503)
    kept = 120 if standin.litellm == "1.80.11" else 15
    standin.advance(kept - 5)
    assert standin.request("GET", "/health/readiness")[0] == 200
    standin.advance(6)
    assert standin.request("GET", "/health/readiness")[0] == 503
    assert standin.request("GET", "/health/liveliness")[2] == '"I\'m alive!"'
    standin.mode(db_down=False)
    assert len(standin.keys()) == 2
    assert standin.request("GET", "/health/readiness")[0] == 200


def test_custom_keys_forbidden(standin):
    """A chosen key is 403; one that the server chooses is made."""
    standin.mode(forbid_custom_keys=True)
    status, body = standin.admin("POST", GENERATE, {"key": CHOSEN})
    assert status == 403
    assert "Custom API key values are disabled" in body["error"]["message"]
    assert mint(standin)["key"].startswith("sk-")
    assert len(standin.keys()) == 1


def test_repeated_chosen_key(standin):
    """200 with values that are not stored; the same alias again is 400."""
    first = mint(standin, key=CHOSEN, key_alias="first")
    again = mint(standin, key=CHOSEN, key_alias="second", blocked=True, metadata={"n": 2})
    assert again["token"] == first["token"]
    assert (again["key_alias"], again["blocked"], again["metadata"]) == ("second", True, {"n": 2})
    assert standin.admin("POST", GENERATE, {"key": CHOSEN, "key_alias": "first"})[0] == 400
    stored = standin.admin("GET", "/key/info?key=" + CHOSEN)[1]["info"]
    assert (stored["key_alias"], stored["blocked"], stored["metadata"]) == ("first", None, {})
    assert aliases(standin) == ["first"]


@pytest.mark.parametrize("change", ["delete", "block", "shorten"])
def test_second_process_honours_its_copy(standin, change):
    """A key that is gone in one process works in the other until its copy is 60 s old."""
    key = mint(standin)["key"]
    assert standin.chat(key, second=True)[0] == 200
    path, body = {"delete": ("/key/delete", {"keys": [key]}), "block": ("/key/block", {"key": key}),
                  "shorten": ("/key/update", {"key": key, "duration": "1s"})}[change]
    assert standin.admin("POST", path, body)[0] == 200
    standin.advance(5)
    assert standin.chat(key)[0] in (400, 401)
    standin.advance(50)
    assert standin.chat(key, second=True)[0] == 200
    standin.advance(6)
    assert standin.chat(key, second=True)[0] in (400, 401)


def test_second_process_honours_an_old_expiry(standin):
    """A prolonged key is refused by the process that has the old expiry, until its copy is 60 s old."""
    key = mint(standin)["key"]
    standin.admin("POST", "/key/update", {"key": key, "duration": "30s"})
    assert standin.chat(key, second=True)[0] == 200
    standin.advance(22)
    standin.admin("POST", "/key/update", {"key": key, "duration": "10m"})
    standin.advance(10)
    assert standin.chat(key)[0] == 200
    status, body = standin.chat(key, second=True)
    assert status in (400, 401) and body["error"]["type"] == "expired_key"
    standin.advance(29)
    assert standin.chat(key, second=True)[0] == 200


def test_info_is_right_at_once(standin):
    """/key/info with the master key reads the database in every process."""
    key = mint(standin)["key"]
    standin.chat(key, second=True)
    standin.admin("POST", "/key/delete", {"keys": [key]})
    assert standin.admin("GET", "/key/info?key=" + key, second=True)[0] == 404


def test_cache_seconds(standin):
    """Without a cache every process is right at once."""
    standin.mode(cache_seconds=0)
    key = mint(standin)["key"]
    assert standin.chat(key, second=True)[0] == 200
    standin.admin("POST", "/key/delete", {"keys": [key]})
    assert standin.chat(key, second=True)[0] == 401


def test_alias_race(standin):
    """Concurrent requests with one alias all make a key; one that comes later does not."""
    standin.mode(alias_race=3)
    with ThreadPoolExecutor(3) as pool:
        answers = list(pool.map(lambda _: standin.admin("POST", GENERATE, {"key_alias": "raced"})[0], range(3)))
    assert answers == [200, 200, 200]
    assert aliases(standin) == ["raced"] * 3
    assert standin.admin("POST", GENERATE, {"key_alias": "raced"})[0] == 400
    assert standin.admin("POST", "/key/delete", {"key_aliases": ["raced"]})[0] == 200
    assert standin.keys() == []


def test_team_race(standin):
    """Of concurrent requests with one team_id one succeeds, the others break a constraint."""
    standin.mode(alias_race=True)
    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(lambda _: standin.admin("POST", "/team/new", {"team_id": "raced"}), range(2)))
    assert sorted(status for status, _ in answers) == [200, 500]
    assert any("Unique constraint failed" in str(body) for _, body in answers)
    assert len(standin.teams()) == 1


def test_cost(standin):
    """The price of a call, and a budget that it exceeds; a team's too."""
    standin.mode(cost_per_call=0.5)
    standin.admin("POST", "/team/new", {"team_id": "poor", "max_budget": 0.5})
    for limits in ({"max_budget": 0.5}, {"team_id": "poor"}):
        key = mint(standin, **limits)["key"]
        assert standin.chat(key)[0] == 200
        status, body = standin.chat(key)
        assert (status, body["error"]["type"]) == (400 if standin.litellm == "1.80.11" else 429, "budget_exceeded")
        assert standin.admin("GET", "/key/info?key=" + key)[1]["info"]["spend"] == 0.5


def test_oversize(standin):
    """An answer padded to any size, still JSON."""
    standin.mode(oversize=100000)
    status, _, text = standin.request("GET", "/key/list", key=standin.master_key)
    assert status == 200 and len(text) > 100000 and json.loads(text)["keys"] == []


def test_redirect(standin):
    """Every request is sent elsewhere, and nothing is done."""
    standin.mode(redirect="http://127.0.0.1:9")
    status, headers, _ = standin.request("POST", GENERATE + "?a=b", {}, standin.master_key)
    assert (status, headers["location"]) == (307, "http://127.0.0.1:9/key/generate?a=b")
    assert standin.keys() == []


def test_clock(standin):
    """Keys expire when the clock is moved, and the Date header moves with it."""
    key = mint(standin, duration="30s")["key"]
    first = standin.request("GET", "/health/liveness")[1]["date"]
    standin.advance(86400)
    assert standin.request("GET", "/health/liveness")[1]["date"][:16] != first[:16]
    assert standin.as_key(key)[1]["error"]["type"] == "expired_key"


def test_frozen_clock(standin):
    """A clock that stands still moves only when it is told to."""
    now = standin.freeze()["now"]
    first, second = mint(standin, duration="0s"), mint(standin, duration="0s")
    assert first["expires"] == second["expires"] == now
    standin.advance(2)
    assert mint(standin, duration="0s")["expires"] != now
    standin.freeze(False)
    assert standin.advance(0)["now"] != standin.advance(0)["now"]


def test_journal_holds_no_credential(standin):
    """Calls with their fields, alias and hashes, and counts; never a key."""
    key = mint(standin, key=CHOSEN, key_alias="named")["key"]
    standin.admin("GET", "/key/info?key=" + key)
    standin.admin("POST", f"/key/{key}/regenerate", {})
    standin.chat(key)
    standin.request("GET", "/health/liveness", headers={"User-Agent": "keybroker/1"})
    calls = standin.calls()
    assert [(call["method"], call["path"], call["status"]) for call in calls] == [
        ("POST", GENERATE, 200), ("GET", "/key/info", 200), ("POST", "/key/{key}/regenerate", 500),
        ("POST", "/v1/chat/completions", 200), ("GET", "/health/liveness", 200)]
    assert calls[0]["body_fields"] == ["duration", "key", "key_alias"] and calls[0]["alias"] == "named"
    token = standin.keys()[0]["token"]
    assert calls[0]["targets"] == calls[1]["targets"] == [token] and calls[3]["caller"] == token
    assert calls[0]["caller"] == "master" and calls[4]["caller"] is None
    assert calls[4]["user_agent"] == "keybroker/1"
    assert standin.counts()["/key/info"] == 1
    assert "sk-" not in json.dumps(calls) and CHOSEN not in json.dumps(standin.keys())
    standin.clear_calls()
    assert standin.calls() == []


def test_inserted_key(standin):
    """A key of an earlier owner, with any columns."""
    standin.add_key("sk-of-an-earlier-owner", key_alias="old", metadata={"a": 1}, expires_in=60, team_id="t")
    info = standin.admin("GET", "/key/info?key=sk-of-an-earlier-owner")[1]["info"]
    assert (info["key_alias"], info["metadata"], info["team_id"]) == ("old", {"a": 1}, "t")
    standin.advance(61)
    assert standin.as_key("sk-of-an-earlier-owner")[1]["error"]["type"] == "expired_key"


def test_wrong_control_requests(standin):
    """They are refused, not ignored."""
    for call in (lambda: standin.fail(paht="/"), lambda: standin.mode(nonsense=1), lambda: standin.add_key("k", x=1)):
        with pytest.raises(ValueError):
            call()
    assert standin.request("GET", "/_standin/nonsense")[0] == 404


def test_many_at_once(standin):
    """Concurrent mints are all stored."""
    with ThreadPoolExecutor(16) as pool:
        tokens = set(pool.map(lambda _: mint(standin)["token"], range(200)))
    assert tokens == {row["token"] for row in standin.keys()} and len(tokens) == 200


def test_transport(standin):
    """Keep-alive, requests in a row, chunked bodies, Expect, and a connection closed on request."""
    chunked = (b"POST /key/generate HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer sk-standin-master\r\n"
               b"Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
               b"7\r\n{\"key_a\r\n12\r\nlias\": \"chunked\"}  \r\n0\r\n\r\n")
    requests = chunked + raw_request(extra="Expect: 100-continue\r\n") + raw_request(extra="Connection: close\r\n")
    received = read_all(standin, requests)
    assert received.count(b"HTTP/1.1 200 OK") == 3 and received.count(b"HTTP/1.1 100 Continue") == 1
    assert received.count(b"connection: close") == 1 and received.count(b"date: ") == 3
    assert "chunked" in aliases(standin)


def test_not_http(standin):
    """What is no request is refused as uvicorn does."""
    assert b"Invalid HTTP request received." in read_all(standin, b"nonsense\r\n\r\n")


def test_idle_connections_are_closed():
    """After the keep-alive time, with no answer to wait for."""
    with Standin(keep_alive=0.2) as standin:
        assert read_all(standin, raw_request()).startswith(b"HTTP/1.1 200 OK")


def test_restart_with_a_state_file(tmp_path):
    """The database survives, the port too; the file holds no key."""
    state = tmp_path / "state.json"
    with Standin(state_file=state) as standin:
        url, key = standin.url, mint(standin, key_alias="kept", team_id="t", metadata={"a": 1})["key"]
        standin.admin("POST", "/team/new", {"team_id": "t"})
        before = standin.keys()
        standin.stop()
        assert key not in state.read_text()
        standin.start()
        assert (standin.url, standin.keys()) == (url, before)
        assert standin.chat(key)[0] == 200
        assert standin.admin("POST", GENERATE, {"key_alias": "kept"})[0] == 400


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_command_line(tmp_path, number):
    """One line says where it listens; a signal ends it cleanly."""
    port_file = tmp_path / "ports"
    command = [sys.executable, HERE + "/standin.py", "--port-file", str(port_file), "--second-port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        line = process.stdout.readline()
        ports = port_file.read_text().split()
        process.send_signal(number)
        assert process.wait(10) == 0
    found = re.fullmatch(r"standin: http://127\.0\.0\.1:(\d+) \(as LiteLLM 1\.102\.4, master key sk-standin-master\)\n",
                         line)
    assert found and len(ports) == 2 and found.group(1) == ports[0]


def test_abandoned_requests_do_not_pile_up(standin):
    """A client that leaves while its request hangs frees its thread, and the rest goes on."""
    standin.fail(path=GENERATE, hang=True, times=-1)
    for _ in range(5):
        with pytest.raises(TimeoutError):
            standin.request("POST", GENERATE, {}, standin.master_key, timeout=0.05)
    done = threading.Event()
    threading.Thread(target=lambda: (standin.admin("GET", "/key/list"), done.set()), daemon=True).start()
    assert done.wait(10)
