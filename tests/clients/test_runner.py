"""The runner's own judgement: a scenario that expects what is not so must fail."""

import pytest

from stage import hidden, languages, match
from stage.fakes import ANSWERS
from stage.scene import Scene
from test_scenarios import SCENARIOS


@pytest.mark.parametrize("expected,actual", [
    (1, 1), ("a", "a"), ("= < 1", "< 1"), ("not a", "b"), ("has b", "abc"), ("has b", ["a", "b"]), ("< 5", 4), (">= 5", 5), ("absent", None),
    ([], []), (["has a"], ["cat"]), ({"a": "> 1"}, {"a": 2, "b": 3})])
def test_it_is_so(expected, actual):
    assert match.matches(expected, actual)


@pytest.mark.parametrize("expected,actual", [
    (1, 2), (1, True), (1, "1"), ("a", "b"), ("a", None), ("not a", "a"), ("not a", None), ("has b", "cat"), ("has b", None), ("< 5", 5),
    ("< 5", None), (">= 5", 4), ("absent", ""), ([], ["a"]), (["a"], []), (["a"], "a"), ({"a": 1}, {"a": 2}), ({"a": 1}, {}), ({"a": 1}, None)])
def test_it_is_not_so(expected, actual):
    assert not match.matches(expected, actual)


def test_references_keep_their_type_alone_and_are_text_among_others():
    saved = {"old": {"at": 5, "lease": "x"}}
    assert match.filled({"a": ["$old.at", "not $old.lease", "> $old.at"]}, saved) == {"a": [5, "not x", "> 5"]}
    with pytest.raises(AssertionError):
        match.filled("$older.at", saved)


@pytest.mark.parametrize("form", hidden.FORMS)
def test_part_of_a_key_is_found(form):
    key = "sk-" + "AbcdefghIjklmnop" * 2
    shown = hidden.FORMS[form](key[10:20].encode())
    assert hidden.parts({key}, f"Credential({shown})") == [f"a part of sk-…mnop {form}"]
    assert hidden.parts({key}, "Credential(sk-…mnop)") == [] != hidden.parts({key}, key)


def test_every_client_is_tested():
    folders = sorted(path.name for path in (languages.ROOT / "clients").iterdir() if path.is_dir())
    assert folders == sorted(languages.LANGUAGES)
    assert [language for language in folders if not languages.script(language).exists()] == []


def test_names_of_scenarios_are_different():
    names = [scenario["name"] for scenario in SCENARIOS]
    assert len(names) == len(set(names))


def test_every_bad_answer_is_played():
    played = {step.get("how") for scenario in SCENARIOS for step in scenario["steps"]}
    assert sorted(set(ANSWERS) - played) == []


@pytest.mark.parametrize("steps,said", [
    ([{"do": "nothing_that_is"}], "do_nothing_that_is"),
    ([{"count": "acquire", "is": 1}], "but 0"),
    ([{"count": "acquire", "is": 1, "outcom": "ok"}], "outcom"),
    ([{"do": "key_gone", "key": "no digits"}, {"answer": "it"}], "in order"),
    ([{"ask": "api_key", "expct": {}}], "expct"),
    ([{"ask": "api_key", "do": "stop"}], "exactly one")])
def test_wrong_step_is_found(make_broker, litellm, tmp_path, steps, said):
    assert said in Scene({"name": "wrong", "steps": steps}, tmp_path, make_broker, litellm, {}).play()
