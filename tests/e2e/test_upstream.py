"""An upstream that fails, hangs, redirects, says too much, or is somebody else."""

import contextlib
import re
import select
import socket
import ssl
import subprocess
import threading
import time

import pytest

from harness.broker import FAST, MANY, rule_all
from harness.rpc import RpcError
from harness.upstream import accounted_for, ours
from harness.wait import stays, wait_until


def refusal_of(broker, **params):
    """The error of an acquire that must fail."""
    with pytest.raises(RpcError) as refusal:
        broker.acquire(**params)
    return refusal.value


@pytest.fixture
def ready(make_broker, litellm):
    """A broker with short times, whose shared key is there and whose journal is empty."""
    broker = make_broker(config=MANY + rule_all(), timing=FAST).start()
    broker.wait_ready()
    litellm.clear_calls()
    return broker


# --- failures of a mint ---

@pytest.mark.parametrize("failure", [
    {"status": 500}, {"status": 502, "body": "<html>Bad Gateway</html>"}, {"status": 503}, {"status": 504, "body": ""},
    {"drop_after": 0}, {"drop_after": 20}, {"drop_after": 400}, {"status": 500, "body": "Internal Server Error"},
    {"status": 429, "headers": {"Retry-After": "0"}},
], ids=["500", "502", "503", "504", "drop-0", "drop-20", "drop-400", "plain-500", "429"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_failed_mint_is_repeated_with_the_same_key(ready, litellm, failure, when):
    """`after`: it was carried out and only the answer is lost; the repeat must not make a second key."""
    litellm.fail(path="/key/generate", times=2, when=when, **failure)
    reply = ready.acquire(profile="process")
    assert litellm.chat(reply["api_key"])[0] == 200
    assert len({key["token"] for key in litellm.keys()}) == 2
    assert 2 <= len(litellm.calls("/key/generate")) <= 3, "2: the repeat's 400 fits into what was not dropped"
    accounted_for(ready, litellm)


def test_mint_that_hangs_is_repeated(make_broker, litellm):
    broker = make_broker(timing={**FAST, "upstream_timeout_ms": 300}).start()
    broker.wait_ready()
    litellm.fail(path="/key/generate", hang=True)
    began = time.monotonic()
    assert litellm.chat(broker.acquire(profile="process")["api_key"])[0] == 200
    assert 0.25 < time.monotonic() - began < 5


def test_attempts_are_counted_and_spaced(make_broker, litellm):
    broker = make_broker(env={"LITELLM_KEY_API_RETRY_MAX": "4", "LITELLM_KEY_API_RETRY_BASE_MS": "100"},
                         timing={"breaker_ms": 60000, "upstream_recheck_ms": 60000}).start()
    broker.wait_ready()
    litellm.clear_calls()
    litellm.fail(path="/key/generate", status=500, times=-1)
    refusal = refusal_of(broker, profile="process", timeout_ms=5000)
    assert refusal.code == "upstream_unavailable"
    times = [call["at"] for call in litellm.calls("/key/generate")]
    assert len(times) == 4
    gaps = [after - before for before, after in zip(times, times[1:])]
    assert all(gap > 0.03 for gap in gaps) and gaps[2] > gaps[0], "pauses grow"


@pytest.mark.parametrize("value", ["1", "date"])
def test_retry_after_is_honoured(ready, litellm, value):
    if value == "date":
        value = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(time.time() + 2))
    litellm.fail(path="/key/generate", status=429, headers={"Retry-After": value})
    ready.acquire(profile="process", timeout_ms=20000)
    first, second = [call["at"] for call in litellm.calls("/key/generate")]
    assert second - first >= 0.9


def test_retry_after_of_an_hour_is_not_waited_out(make_broker, litellm):
    broker = make_broker(timing={**FAST, "retry_after_max_ms": 300}).start()
    broker.wait_ready()
    litellm.fail(path="/key/generate", status=503, headers={"Retry-After": "3600"})
    assert broker.acquire(profile="process", timeout_ms=5000)["api_key"]


def test_timeout_of_the_caller_is_kept(ready, litellm):
    litellm.fail(path="/key/generate", hang=True, times=-1)
    began = time.monotonic()
    refusal = refusal_of(ready, profile="process", timeout_ms=400)
    assert refusal.code == "upstream_unavailable" and refusal.retry_after_ms > 0
    assert 0.35 < time.monotonic() - began < 2
    litellm.clear()
    accounted_for(ready, litellm)
    wait_until(lambda: len(ours(litellm, ready.user_id)) == 1, 10, "no key is left of it")


def test_hanging_upstream_stops_nobody_who_has_a_key(ready, litellm):
    litellm.fail(path="/", hang=True, times=-1)
    with ready.rpc() as waiting:
        waiting.send("acquire", profile="process")
        wait_until(lambda: litellm.calls("/key/generate"), what="the POST")
        began = time.monotonic()
        for _ in range(20):
            assert ready.acquire()["generation"] == 1
        assert time.monotonic() - began < 2


def test_down_then_up_again_is_noticed_and_shown(make_broker, own_litellm):
    broker = make_broker(upstream=own_litellm, timing=FAST).start()
    broker.wait_ready()
    own_litellm.stop()
    refusal_of(broker, profile="process", timeout_ms=300)
    assert broker.admin("status")["upstream"]["reachable"] is False and broker.admin("status")["upstream"]["error"]
    own_litellm.start()
    wait_until(lambda: _served(broker), 10, "a mint")
    assert broker.admin("status")["upstream"]["reachable"] is True


def _served(broker):
    try:
        return broker.acquire(profile="process", timeout_ms=500)["api_key"]
    except RpcError as refusal:
        assert refusal.code == "upstream_unavailable"
        return None


# --- refusals ---

SECRET = "sk-repeated-by-litellm-0123456789"


@pytest.mark.parametrize("body", [
    {"error": {"message": f"Budget exceeded for team. User Key={SECRET}", "type": "bad_request_error", "param": SECRET,
               "code": "400"}},
    {"detail": f"Budget exceeded for team. Key={SECRET}"},
    {"detail": {"error": f"Budget exceeded for team, api_key: {SECRET}"}},
    {"detail": [{"loc": ["body", "duration"], "msg": f"Budget exceeded for team {SECRET}", "type": "value_error"}]},
    {"error": {"message": "{'error': 'Budget exceeded for team " + SECRET + "'}", "type": "None", "param": None, "code": "400"}},
], ids=["error", "detail-text", "detail-object", "detail-list", "printed-dict"])
@pytest.mark.parametrize("status", [400, 422])
def test_refusal_reaches_the_caller_in_upstreams_words_without_a_credential(ready, litellm, body, status):
    ready.secrets.add(SECRET)
    litellm.fail(path="/key/generate", status=status, body=body, times=-1)
    refusal = refusal_of(ready, profile="process", timeout_ms=3000)
    assert refusal.code == "upstream_refused" and "Budget exceeded for team" in refusal.text
    assert SECRET not in refusal.text and len(litellm.calls("/key/generate")) == 1, "a final no is not repeated"


def test_refused_duration_is_upstreams_word(make_broker, litellm):
    """99999 days is a duration that some versions refuse: what they say is what the caller reads."""
    broker = make_broker(env={"LITELLM_KEY_DURATION": "30000d"}, timing=FAST).start()
    broker.wait_ready()
    litellm.fail(path="/key/generate", status=400, times=-1,
                 body={"error": {"message": "duration is over the upper bound", "type": "bad_request_error", "param": None,
                                 "code": "400"}})
    assert "over the upper bound" in refusal_of(broker, profile="process").text


def test_wrong_master_key_is_said_without_the_key(make_broker, litellm):
    broker = make_broker(env={"LITELLM_MASTER_KEY": "sk-wrong-master-0123456789"}, timing=FAST)
    broker.secrets.add("sk-wrong-master-0123456789")
    broker.start()
    refusal = refusal_of(broker, timeout_ms=1500)
    assert refusal.code in ("upstream_unavailable", "upstream_refused")
    wait_until(lambda: "master key" in (broker.log + refusal.text).lower(), what="a word about the master key")
    assert "sk-wrong-master" not in refusal.text
    assert litellm.keys() == []


def test_wrong_master_key_at_restart_keeps_the_shared_key(make_broker, litellm):
    broker = make_broker(timing=FAST).start()
    broker.wait_ready()
    key = broker.acquire()["api_key"]
    broker.stop()
    broker.secrets.add("sk-wrong-master-0123456789")
    broker.start(env={"LITELLM_MASTER_KEY": "sk-wrong-master-0123456789"})
    wait_until(lambda: litellm.calls("/key/info"), what="its validation")
    assert broker.acquire()["api_key"] == key


# --- chosen keys forbidden ---

def test_forbidden_chosen_keys_fall_back_to_upstreams(make_broker, litellm):
    litellm.mode(forbid_custom_keys=True)
    broker = make_broker(config=MANY + rule_all(), timing=FAST).start()
    broker.wait_ready()
    for profile in ("service", "process"):
        reply = broker.acquire(profile=profile)
        assert litellm.chat(reply["api_key"])[0] == 200
    assert "disable_custom_api_keys" in broker.log or any("chosen" in w for w in broker.admin("status")["warnings"])
    accounted_for(broker, litellm)
    assert len(ours(litellm, broker.user_id)) == 2
    litellm.clear_calls()
    broker.restart()
    broker.wait_ready()
    assert not litellm.calls("/key/generate")


def test_forbidden_chosen_keys_and_a_lost_answer_leave_no_key(make_broker, litellm):
    litellm.mode(forbid_custom_keys=True)
    broker = make_broker(config=MANY + rule_all(), timing=FAST).start()
    broker.wait_ready()
    litellm.fail(path="/key/generate", drop_after=0, times=2)
    reply = broker.acquire(profile="process", timeout_ms=20000)
    assert litellm.chat(reply["api_key"])[0] == 200
    accounted_for(broker, litellm)
    wait_until(lambda: len(ours(litellm, broker.user_id)) == 2, 10, "the keys of lost answers are found and deleted")


# --- transport ---

def test_connection_that_upstream_is_about_to_close_is_not_used(make_broker, litellm):
    """LiteLLM closes idle connections after 5 s; a POST that crosses its FIN would be lost."""
    stale = []
    with relay(litellm.port, lambda idle: stale.append(idle) if idle > 4.5 else None) as port:
        broker = make_broker(env={"LITELLM_BASE_URL": f"http://127.0.0.1:{port}"}).start()
        broker.wait_ready()
        broker.admin("rotate", profile="service")
        time.sleep(4.8)  # the idle time itself is the condition
        assert broker.admin("rotate", profile="service")["generation"] == 3
    assert stale == []


@contextlib.contextmanager
def relay(target, on_request):
    """Passes connections on; tells how long each was idle before a request, and drops it if the answer isn't None."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        def serve():
            while True:
                try:
                    client, _ = server.accept()
                except OSError:
                    return
                threading.Thread(target=carry, args=(client,), daemon=True).start()

        def carry(client):
            with contextlib.suppress(OSError), client, socket.create_connection(("127.0.0.1", target)) as upstream:
                last = time.monotonic()
                while ready := select.select([client, upstream], [], [])[0]:
                    data = ready[0].recv(65536)
                    if not data or (ready[0] is client and on_request(time.monotonic() - last) is not None):
                        return
                    (upstream if ready[0] is client else client).sendall(data)
                    last = time.monotonic()
        threading.Thread(target=serve, daemon=True).start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)


@pytest.mark.standin(keep_alive=1)
def test_connection_closed_early_by_upstream_costs_a_retry_at_most(make_broker, litellm):
    broker = make_broker(config=MANY + rule_all(), timing=FAST).start()
    broker.wait_ready()
    for pause in (1.0, 1.1, 0.95):
        time.sleep(pause)  # around the moment at which upstream closes
        assert litellm.chat(broker.acquire(profile="process")["api_key"])[0] == 200
    accounted_for(broker, litellm)


def test_redirect_is_not_followed(make_broker, litellm):
    with listening() as (port, arrived):
        litellm.mode(redirect=f"http://127.0.0.1:{port}")
        broker = make_broker(timing=FAST).start()
        wait_until(lambda: broker.profile().get("error"), what="the failure")
        refusal_of(broker, timeout_ms=300)
        assert arrived() == 0, "the master key would have gone there"


@contextlib.contextmanager
def listening(answer=b""):
    """A port that counts who comes, and answers always the same."""
    came = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        def serve():
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                came.append(1)
                with connection, contextlib.suppress(OSError):
                    connection.settimeout(5)
                    if answer:
                        connection.recv(65536)
                        connection.sendall(answer)
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield server.getsockname()[1], lambda: len(came)
        finally:
            server.shutdown(socket.SHUT_RDWR)
    thread.join(5)


def test_oversized_answer_is_cut_off(make_broker, litellm):
    litellm.mode(oversize=64 << 20)
    broker = make_broker(timing=FAST).start()
    wait_until(lambda: broker.profile().get("error"), 15, "the failure")
    assert broker.rss() < 200 << 20
    assert broker.call("whoami")
    litellm.mode(oversize=0)
    broker.wait_ready(timeout=20)


@pytest.mark.parametrize("answer", [b"", b"\x00\xff garbage\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nnull",
                                    b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n{\"key\":",
                                    b"HTTP/1.1 204 No Content\r\n\r\n",
                                    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
                                    b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 13\r\n\r\n<html></html>"],
                         ids=["nothing", "garbage", "null", "cut", "204", "empty-object", "html"])
def test_server_that_is_no_litellm_yields_no_key(make_broker, answer):
    with listening(answer) as (port, _):
        broker = make_broker(env={"LITELLM_BASE_URL": f"http://127.0.0.1:{port}"}, timing=FAST).start()
        wait_until(lambda: broker.profile().get("error"), what="the failure")
        assert refusal_of(broker, timeout_ms=300).code in ("upstream_unavailable", "upstream_refused")
        assert broker.profile()["state"] == "waiting"


def test_404_of_a_server_that_is_no_litellm_names_who_was_asked(make_broker):
    answer = b'HTTP/1.1 404 Not Found\r\nContent-Length: 22\r\n\r\n{"detail":"not found"}'
    with listening(answer) as (port, _):
        broker = make_broker(env={"LITELLM_BASE_URL": f"http://127.0.0.1:{port}"}, timing=FAST).start()
        wait_until(lambda: broker.profile().get("error"), what="the failure")
        assert re.search(rf"no key could be made: http://127.0.0.1:{port}/\S+ answered HTTP 404; .*not found", broker.log)
        assert f"http://127.0.0.1:{port}/" in refusal_of(broker, timeout_ms=300).text


def test_duplicate_alias_that_is_not_ours_gets_another_name(ready, litellm):
    """400 'already exists' though nothing of ours carries the name: success only if /key/info shows our intent."""
    litellm.fail(path="/key/generate", duplicate_alias=True)
    reply = ready.acquire(profile="process")
    assert litellm.chat(reply["api_key"])[0] == 200
    assert [call["path"] for call in litellm.calls()].count("/key/generate") == 2
    accounted_for(ready, litellm)


def test_key_that_carries_another_intent_is_not_ours(ready, litellm):
    """400 'already exists', and /key/info knows the key, but as somebody else's: no success."""
    litellm.fail(path="/key/generate", duplicate_alias=True, times=-1)
    info = {"key_alias": "theirs", "expires": None, "blocked": None, "user_id": "keybroker:theirs", "models": [], "team_id": None,
            "metadata": {"keybroker": {"install": "theirs", "intent": "theirs"}}}
    litellm.fail(path="/key/info", status=200, times=-1, body={"key": "0" * 64, "info": info})
    refusal_of(ready, profile="process", timeout_ms=2000)
    assert ready.rows("SELECT id FROM key WHERE mode = 'dedicated' AND state = 'live'") == []


# --- https ---

@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A self-signed certificate for localhost."""
    directory = tmp_path_factory.mktemp("tls")
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost",
               "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", directory / "key.pem",
               "-out", directory / "cert.pem"]
    subprocess.run(command, check=True, capture_output=True)
    return directory


@contextlib.contextmanager
def https_front(certificate, litellm):
    """Speaks TLS before the stand-in."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate / "cert.pem", certificate / "key.pem")

    def pump(source, target):
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)
        for end in (source, target):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def serve(server):
        while True:
            try:
                plain, _ = server.accept()
            except OSError:
                return
            threading.Thread(target=handle, args=(plain,), daemon=True).start()

    def handle(plain):
        with contextlib.suppress(OSError), context.wrap_socket(plain, server_side=True) as client, \
                socket.create_connection(("127.0.0.1", litellm.port)) as upstream:
            back = threading.Thread(target=pump, args=(upstream, client), daemon=True)
            back.start()
            pump(client, upstream)
            back.join(5)
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=serve, args=(server,), daemon=True).start()
        yield f"https://localhost:{server.getsockname()[1]}"
        server.shutdown(socket.SHUT_RDWR)


def test_https_with_a_ca_file(make_broker, litellm, certificate):
    with https_front(certificate, litellm) as url:
        broker = make_broker(env={"LITELLM_BASE_URL": url}, timing=FAST,
                             config=f'upstream {{\n  ca_file = "{certificate}/cert.pem"\n}}\n' + rule_all()).start()
        broker.wait_ready()
        assert broker.acquire()["base_url"] == url + "/v1"


def test_https_without_a_known_certificate_sends_nothing(make_broker, litellm, certificate):
    with https_front(certificate, litellm) as url:
        broker = make_broker(env={"LITELLM_BASE_URL": url}, timing=FAST).start()
        error = wait_until(lambda: broker.profile().get("error"), what="the failure")
        assert re.search(r"certificate|SSL|TLS", error, re.I)
        stays(lambda: not litellm.calls(), 0.3)
