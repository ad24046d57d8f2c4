"""Fixtures of the clients' suite: those of the end-to-end suite, and each library as its registry would install it."""

import importlib.util
import pathlib
import sys

import pytest

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))  # for the stage

if "e2e_conftest" not in sys.modules:
    spec = importlib.util.spec_from_file_location("e2e_conftest", HERE.parent / "e2e/conftest.py")
    sys.modules["e2e_conftest"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules["e2e_conftest"])

from e2e_conftest import (_standins, litellm, live, make_broker, make_live_broker, own_litellm,  # noqa: E402,F401
                          pytest_collection_modifyitems, pytest_configure, pytest_runtest_makereport, pytest_sessionfinish)
from stage import languages  # noqa: E402


def pytest_generate_tests(metafunc):
    """A test of `language` is one item for each; a scenario says itself which."""
    if "language" in metafunc.fixturenames and "scenario" not in metafunc.fixturenames:
        metafunc.parametrize("language", languages.wanted())


@pytest.fixture
def installed(language):
    """The folder of a library's programs: driver, own, sdk, bench, example."""
    try:
        return languages.install(language)
    except languages.Missing as missing:
        pytest.skip(f"{language}: {missing}")
