"""clients/scenarios.toml, played with each library against the real daemon."""

import re
import tomllib

import pytest

from stage import languages
from stage.scene import Scene

with open(languages.ROOT / "clients/scenarios.toml", "rb") as file:
    BOOK = tomllib.load(file)


def written_out(book):
    """Each scenario; one with rows in `each` is many, with a row's values in the place of "$NAME"."""
    for scenario in book["scenario"]:
        for row in scenario.get("each", [{}]):
            yield filled_in({key: value for key, value in scenario.items() if key != "each"}, row)


def filled_in(part, row):
    """A copy; what is a name as a whole becomes the value, whatever its type."""
    if isinstance(part, dict):
        return {key: filled_in(value, row) for key, value in part.items()}
    if isinstance(part, list):
        return [filled_in(value, row) for value in part]
    if isinstance(part, str) and part[:1] == "$" and part[1:] in row:
        return row[part[1:]]
    for name, value in row.items() if isinstance(part, str) else ():
        part = part.replace("$" + name, str(value))
    return part


SCENARIOS = list(written_out(BOOK))
PLAYS = [pytest.param(scenario, language, id=re.sub(r"\W+", "_", scenario["name"]) + "-" + language)
         for scenario in SCENARIOS for language in languages.wanted() if language not in scenario.get("without", [])]


@pytest.mark.parametrize("scenario,language", PLAYS)
def test_scenario(scenario, installed, make_broker, litellm):
    problem = Scene(scenario, installed, make_broker, litellm, BOOK["configs"]).play()
    if problem:  # which says the step; lines of this code would say nothing
        pytest.fail(problem, pytrace=False)
