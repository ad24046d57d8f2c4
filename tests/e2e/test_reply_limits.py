"""Replies that fit, whatever there is to tell: pages, cuts that say so, and text that is UTF-8."""

import msgpack
import pytest

from harness.broker import FAST, MANY, rule_all
from harness.wait import wait_until

CALM = {**FAST, "sweep_every_ms": 600000}


def values(thing):
    """As the protocol counts them."""
    if isinstance(thing, dict):
        return 1 + sum(values(key) + values(value) for key, value in thing.items())
    return 1 + sum(map(values, thing)) if isinstance(thing, list) else 1


def pages(broker, method, **params):
    """All pages of an admin method, each of which is as small as a reply has to be."""
    found, after = [], {}
    while True:
        page = broker.admin(method, **params, **after)
        assert len(msgpack.packb(page)) < 65536 and values(page) < 4096
        found.append(page)
        if "next" not in page:
            return found
        assert page["next"] != after.get("after")
        after = {"after": page["next"]}


def names(found):
    """Of the profiles on these pages."""
    return [profile["name"] for page in found for profile in page["profiles"]]


def profiles(count, models=1, prefix="openai/some-model-name-", **more):
    """So many dedicated profiles p000, p001, … with so many models, and what else is said, "%d" being the number."""
    listed = ", ".join(f'"{prefix}{i:03}"' for i in range(models))
    lines = "".join(f" {key} = {value}" for key, value in more.items())
    return "".join(f'profile "p{i:03}" {{ mode = dedicated models = {{ {listed} }} alias = "d{i}-%{{pid}}" {lines.replace("%d", str(i))} }}\n'
                   for i in reversed(range(count)))


@pytest.fixture
def many(make_broker):
    """150 shared profiles with a key each, and 150 dedicated ones."""
    shared = "".join(f'profile "s{i:03}" {{ mode = shared models = {{ "gpt-5" }} alias = "s{i}" duration = "1h" team_alias = "t" }}\n' for i in range(150))
    broker = make_broker(MANY + shared + profiles(150) + rule_all(), timing=CALM).start()
    wait_until(lambda: broker.admin("status")["keys"]["live"] == 150, 30, what="all keys")
    return broker


EXPECTED = [f"p{i:03}" for i in range(150)] + [f"s{i:03}" for i in range(150)]


@pytest.mark.parametrize("limit, count", [({}, 6), ({"limit": 7}, 43), ({"limit": 100}, 3)])
def test_status_comes_in_pages(many, limit, count):
    found = pages(many, "status", **limit)
    assert names(found) == EXPECTED and len(found) == count
    assert {"version", "warnings", "keys"} <= set(found[0]) and all(set(page) <= {"profiles", "next"} for page in found[1:])


def test_command_shows_all_pages_of_status_as_one(many):
    lines = [line.split()[0] for line in many.cli("status").ok().splitlines() if line]
    assert [name for name in lines if name in EXPECTED] == EXPECTED
    whole = many.cli("--json", "status").json()
    assert names([whole]) == EXPECTED and whole["warnings"] == many.admin("status")["warnings"] and "next" not in whole


def test_status_goes_on_behind_a_profile_that_went(many):
    first = many.admin("status", limit=10)
    many.write_config(MANY + profiles(150).replace('"p009"', '"p0099"') + rule_all())
    many.admin("reload")
    assert many.admin("status", limit=1, after=first["next"])["profiles"][0]["name"] == "p0099"


def test_status_with_more_warnings_than_fit(make_broker):
    rules = "".join(f'rule "r{i:03}" {{ uid = 12345\n profiles = {{ "nothing-is-called-{i:03}-*" }} }}\n' for i in range(1000))
    broker = make_broker(MANY + profiles(100) + rules + rule_all(), timing=CALM).start()
    found = pages(broker, "status")
    assert len(names(found)) == 100
    assert [text for text in found[0]["warnings"] if "more about the configuration: `keybrokerd --check`" in text]


def test_spend_comes_in_pages_of_one_reading(make_broker, litellm):
    broker = make_broker(MANY + profiles(120, team_id='"team-%d"') + rule_all(), timing=CALM).start()
    for number in range(120):
        litellm.admin("POST", "/team/new", {"team_id": f"team-{number}", "team_alias": "ü" * 100 + str(number)})
    for number in range(120):
        broker.acquire(profile=f"p{number:03}")
    litellm.clear_calls()
    found = pages(broker, "spend", limit=100)
    assert litellm.counts()["/v2/team/list"] == 120 and len(found) >= 3
    assert sorted(team["id"] for page in found for team in page["teams"]) == sorted(f"team-{i}" for i in range(120))
    assert [profile["profile"] for page in found for profile in page["profiles"]] == [f"p{i:03}" for i in range(120)]
    assert [len(page.get("keys", [])) for page in found] == [50] + [0] * (len(found) - 1)
    text = broker.cli("status", "--spend").ok()
    assert all(f"\nprofile   p{i:03} " in text for i in range(120)) and text.count("\nteam ") == 120
    whole = broker.cli("--json", "status", "--spend").json()["spend"]
    assert (len(whole["teams"]), len(whole["profiles"]), len(whole["keys"])) == (120, 120, 50) and "next" not in whole


@pytest.mark.parametrize("count, models, prefix", [(50, 60, "openai/some-model-name-"), (20, 300, "openai/some-model-name-"), (100, 60, "m")])
def test_list_is_as_short_as_its_models_need(make_broker, count, models, prefix):
    broker = make_broker(MANY + profiles(count, models, prefix) + rule_all(), timing=CALM).start()
    found = pages(broker, "list", limit=100)
    assert names(found) == [f"p{i:03}" for i in range(count)] and len(found) > 1
    assert {len(profile["models"]) for page in found for profile in page["profiles"]} == {models}
    assert len(broker.cli("list").ok().splitlines()) == count + 1


def test_profile_of_too_many_models_is_cut_and_says_so(make_broker):
    broker = make_broker(MANY + profiles(2, 5000) + rule_all(), timing=CALM).start()
    for profile in [p for page in pages(broker, "list") for p in page["profiles"]] + [broker.acquire(profile="p000")]:
        assert len(profile["models"]) > 500 and len(profile["models"]) + profile["models_more"] == 5000
    assert " more" in broker.cli("list").ok()


def test_no_character_is_halved(make_broker, litellm):
    alias, team = "x" + "\u00fc" * 127, "x" + "\u20ac" * 100
    litellm.admin("POST", "/team/new", {"team_id": "my-team", "team_alias": team})
    broker = make_broker(MANY + f'profile "service" {{ mode = shared models = {{ "gpt-5" }} alias = "{alias}" team_id = "my-team" }}\n'
                         + rule_all(), timing={**FAST, "grace_ms": 60000}).start()
    broker.wait_ready()
    broker.acquire(bind="ttl", refreshable=False)  # it stays for this one
    said = broker.cli("rotate", "service").ok()
    old = "x" + "\u00fc" * 125 + ".g1"  # the whole has 255 bytes at most
    assert f"retires as {old}," in said
    service = broker.profile()
    assert service["alias"] == alias and service["retiring"][0]["alias"] == old
    assert [key["key_alias"] for key in litellm.keys()].count(old) == 1
    assert service["team"]["alias"] == "x" + "\u20ac" * 84
    assert broker.admin("spend")["teams"][0]["alias"] == service["team"]["alias"]
    assert alias in broker.cli("status", "--spend").ok()
