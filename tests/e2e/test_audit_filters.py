"""Reading the audit by what its rows say: held against SQL, in bounded steps, and safe from what is asked."""

import datetime
import json
import os

import pytest

from harness import audit
from harness.broker import DROPIN, FAST, MANY, key_hash, rule_all
from harness.holder import Holder
from harness.rpc import RpcError
from harness.users import STRANGER
from harness.wait import wait_until

# A filter of the protocol -> the same for SQL.
SQL = {"since_at_ms": "wall_ms >= ?", "until_at_ms": "wall_ms < ?"}


def read(broker, **wanted):
    """All pages of a reading -> rows."""
    rows, after, pages = [], 0, 0
    with broker.rpc(admin=True) as connection:
        while after is not None:
            page = connection.call("audit_read", after=after, **wanted)
            assert page.get("next", 1 << 62) > after
            rows, after, pages = rows + page["rows"], page.get("next"), pages + 1
    return rows


def expected(broker, head, **wanted):
    """The sequence numbers that SQL finds up to a row."""
    where = " AND ".join(SQL.get(name, f"{name} = ?") for name in wanted) or "1"
    rows = broker.rows(f"SELECT sequence FROM audit WHERE sequence <= ? AND {where} ORDER BY sequence", head, *wanted.values())
    return [row["sequence"] for row in rows]


@pytest.fixture
def busy(make_broker, litellm):
    """A broker that has seen all sorts of things."""
    config = MANY + rule_all() + 'profile "closed" { mode = dedicated models = { "gpt-5" } duration = "1h" }\n'
    broker = make_broker(config.replace('"*"', '"service", "process"'), env=DROPIN, timing=FAST).start()
    broker.wait_ready()
    for profile in ("service", "process", "service"):
        with Holder(broker) as peer:
            for _ in range(15):
                peer.call("acquire", profile=profile)
    lease = broker.acquire(bind="ttl")["lease"]
    broker.acquire(lease=lease)
    broker.admin("rotate", profile="service")
    broker.acquire(bind="ttl")
    broker.admin("revoke", lease=lease)
    for _ in range(2):
        with pytest.raises(RpcError):
            broker.acquire(profile="closed")
    if os.geteuid() == 0:
        for path in (broker.path("run"), broker.path("run/keybroker"), broker.socket):
            os.chmod(path, 0o777)
        with Holder(broker, STRANGER) as peer, pytest.raises(RpcError):
            peer.call("acquire")
    wait_until(lambda: broker.count("SELECT count(*) FROM audit WHERE event = 'delete'") >= 15, what="the keys' deletion")
    return broker


def test_each_filter_and_their_combinations_agree_with_sql(busy):
    rows = busy.rows("SELECT * FROM audit ORDER BY sequence")
    head, middle = rows[-1]["sequence"], rows[len(rows) // 2]["wall_ms"]
    queries = [{}, {"since_at_ms": middle}, {"until_at_ms": middle}, {"since_at_ms": middle, "until_at_ms": middle + 1},
               {"unit": "nobody.service"}, {"uid": 0, "event": "acquire", "outcome": "ok", "profile": "process"}]
    for name in ("uid", "profile", "lease", "event", "outcome"):
        for value in sorted({row[name] for row in rows} - {"", -1})[:6]:
            queries += [{name: value}, {name: value, "since_at_ms": middle}, {name: value, "event": "acquire"}]
    assert len(queries) > 40
    nothing = 0
    for query in queries:
        found = [row["sequence"] for row in read(busy, **query) if row["sequence"] <= head]
        assert found == expected(busy, head, **query), query
        nothing += not found
    assert nothing < len(queries) / 2


def test_who_had_this_leaked_key(busy):
    with Holder(busy) as peer:
        key = peer.call("acquire", profile="process")["api_key"]
        pid = peer.pid
    wait_until(lambda: busy.count("SELECT count(*) FROM audit WHERE event = 'delete' AND key_tag = ?", busy.tag(key)), what="its end")
    rows = read(busy, key_hash=key_hash(key))
    assert [row["event"] for row in rows] == ["mint", "acquire", "release", "delete"]
    assert {row["pid"] for row in rows if row["event"] == "acquire"} == {pid}
    assert [row["event"] for row in read(busy, key_hash=key_hash(key))] == ["mint", "acquire", "release", "delete"], \
        "who looks for a key is not one who had it"
    asked = busy.rows("SELECT * FROM audit WHERE event = 'audit_read' ORDER BY sequence DESC LIMIT 1")[0]
    assert busy.tag(key) in asked["detail"] and asked["key_tag"] == "" and key_hash(key) not in asked["detail"]


def test_reading_says_on_record_what_was_asked(busy):
    busy.admin("audit_read", after=3, uid=7, event="acquire", profile="service", unit="a.service", since_at_ms=5)
    row = busy.rows("SELECT * FROM audit ORDER BY sequence DESC LIMIT 1")[0]
    assert row["event"] == "audit_read" and row["profile"] == ""
    assert row["detail"] == "0 rows after 3, since 1970-01-01T00:00:00.005Z, uid 7, event acquire, profile service, unit a.service"


HOSTILE = [
    {"after": -1}, {"after": "0"}, {"after": 1 << 63}, {"limit": 0}, {"limit": 51}, {"limit": True}, {"since_at_ms": -1},
    {"since_at_ms": "2h"}, {"until_at_ms": -5}, {"uid": -1}, {"uid": 1 << 32}, {"uid": "0"}, {"unit": ""}, {"unit": "u" * 512},
    {"unit": "a\nb"}, {"unit": "a b"}, {"unit": "\u00e4.service"}, {"profile": ""}, {"profile": "p" * 64}, {"profile": "' OR 1=1 --"},
    {"profile": b"service"}, {"profile": ["service"]}, {"lease": "l" * 17}, {"lease": 7}, {"event": "e" * 32}, {"event": "\x1b[2J"},
    {"event": {"a": 1}}, {"outcome": "o" * 32}, {"outcome": "a\0b"}, {"key_hash": "0" * 63}, {"key_hash": "0" * 65},
    {"key_hash": "g" * 64}, {"key_hash": "A" * 64}, {"key_hash": 0},
]


@pytest.mark.parametrize("method", ["audit_read", "audit_follow"])
def test_hostile_values_are_refused_by_name_and_the_connection_lives_on(broker, method):
    count = broker.count("SELECT count(*) FROM audit")
    with broker.rpc(admin=True) as connection:
        for params in HOSTILE:
            with pytest.raises(RpcError) as problem:
                connection.call(method, **params)
            assert problem.value.code == "invalid_request" and next(iter(params)) in problem.value.text, params
        assert broker.count("SELECT count(*) FROM audit") == count, "nothing was read, so there is no row"
        assert connection.call(method, uid=0, event="%", unit=None)


# --- long audits ---

def test_search_through_a_long_audit_lets_others_through(make_broker):
    """One reader looks through everything for what is not there; a whoami does not wait for it."""
    broker = make_broker(timing={"audit_page_ms": 600000}).start()
    broker.wait_ready()
    broker.stop()
    audit.fill(broker, 300000)
    broker.start()
    with broker.rpc(admin=True) as reader, broker.rpc() as other:
        sent, served = reader.send("audit_read", lease="no-such-lease"), 0
        while not reader.has_reply(sent):
            other.call("whoami")
            served += 1
        assert reader.result(sent) == {"rows": []}
    assert served > 5, "the loop was kept from others"


def test_search_that_takes_long_answers_with_an_empty_page_and_goes_on(make_broker):
    broker = make_broker(timing={"audit_page_ms": 0}).start()
    broker.wait_ready()
    broker.stop()
    audit.fill(broker, 20000)
    audit.fill(broker, 1, lease="needle")
    audit.fill(broker, 5000)
    broker.start()
    with broker.rpc(admin=True) as connection:
        after, pages = 0, []
        while after is not None:
            page = connection.call("audit_read", lease="needle", after=after)
            pages.append(len(page["rows"]))
            after = page.get("next")
    assert len(pages) > 5 and sum(pages) == 1 and pages.count(0) == len(pages) - 1
    found = broker.cli("audit", "read", "--lease", "needle", "--json").json()["rows"]
    assert len(found) == 1, "the command goes on by itself"


def test_reading_does_not_step_through_rows_that_are_gone(make_broker):
    """An audit that begins late, as one does that was pruned."""
    broker = make_broker(timing={"audit_page_ms": 0}).start()
    broker.wait_ready()
    broker.stop()
    audit.fill(broker, 10, first=1 << 50)
    broker.start()
    rows = read(broker, since_at_ms=0)
    assert (1 << 50) + 9 in {row["sequence"] for row in rows}
    assert broker.count("SELECT count(*) FROM audit WHERE event = 'audit_read'") < 5


# --- the command ---

def listed(broker, *args):
    """Sequence numbers of `audit read`."""
    return [row["sequence"] for row in broker.cli("audit", "read", "--json", *args).json()["rows"]]


def test_command_passes_each_filter_on(busy):
    head = busy.count("SELECT max(sequence) FROM audit")
    lease = busy.rows("SELECT lease FROM audit WHERE event = 'revoke' AND lease <> ''")[0]["lease"]
    for args, query in [(("--event", "acquire"), {"event": "acquire"}), (("-e", "mint", "-p", "process"), {"event": "mint", "profile": "process"}),
                        (("--uid", str(os.getuid()), "--outcome", "denied"), {"uid": os.getuid(), "outcome": "denied"}),
                        (("--lease", lease), {"lease": lease}), (("--unit", "x.service"), {"unit": "x.service"}),
                        (("--since", "1h", "--event", "rotate"), {"event": "rotate"})]:
        found = [number for number in listed(busy, *args) if number <= head]
        assert found == expected(busy, head, **query), args
    assert len(listed(busy, "--event", "acquire", "--limit", "3")) == 3
    assert listed(busy, "--since", "1d", "--limit", "2") == [1, 2]


def test_command_takes_times_as_people_write_them(busy):
    rows = busy.rows("SELECT sequence, wall_ms FROM audit ORDER BY sequence")
    cut = rows[-1]["wall_ms"] + 1
    moment = datetime.datetime.fromtimestamp(cut / 1000, datetime.timezone.utc)
    east = moment.astimezone(datetime.timezone(datetime.timedelta(hours=5, minutes=30)))
    for text in (moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ"), moment.strftime("%Y-%m-%d %H:%M:%S.%f+00:00"),
                 east.strftime("%Y-%m-%dT%H:%M:%S.%f+05:30")):
        before = listed(busy, "--until", text)
        assert before == [row["sequence"] for row in rows], text
        assert min(listed(busy, "--since", text)) == rows[-1]["sequence"] + 1, text
    done = busy.cli("audit", "read", "--since", "yesterday")
    assert done.code == 64 and "--since" in done.stderr


def test_command_finds_a_leaked_key_by_its_hash(busy):
    key = busy.acquire(bind="ttl")["api_key"]
    text = busy.cli("audit", "read", "--key-hash", key_hash(key).upper()).ok()
    assert "acquire" in text and key_hash(key) not in text
    assert busy.cli("audit", "read", "--key-hash", key_hash("sk-of-another-broker-0123456789")).stderr
    assert busy.cli("audit", "read", "--key-hash", "1234abcd").code == 64
    assert "sha256sum" in busy.cli("help", "audit", "read").ok()


def test_long_list_is_shown_whole(make_broker):
    broker = make_broker().start()
    broker.wait_ready()
    broker.stop()
    audit.fill(broker, 2500, profile="long")
    broker.start()
    lines = broker.cli("audit", "read", "--profile", "long").ok().splitlines()
    assert sum("acquire" in line for line in lines) == 2500 and sum("SEQ" in line for line in lines) == 3
    assert len(json.loads(broker.cli("audit", "read", "--profile", "long", "--json").stdout)["rows"]) == 2500
