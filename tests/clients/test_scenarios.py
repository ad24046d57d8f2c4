"""clients/scenarios.toml, played with each library against the real daemon."""

import tomllib

import pytest

from stage import languages
from stage.scene import Scene

with open(languages.ROOT / "clients/scenarios.toml", "rb") as file:
    BOOK = tomllib.load(file)


PLAYS = [pytest.param(scenario, language, id=f"{scenario['name'].replace(' ', '_')}-{language}")
         for scenario in BOOK["scenario"] for language in languages.wanted() if language not in scenario.get("without", [])]


@pytest.mark.parametrize("scenario,language", PLAYS)
def test_scenario(scenario, installed, make_broker, litellm):
    problem = Scene(scenario, installed, make_broker, litellm, BOOK["configs"]).play()
    if problem:  # which says the step; lines of this code would say nothing
        pytest.fail(problem, pytrace=False)
