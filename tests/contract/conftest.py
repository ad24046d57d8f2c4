"""Starts stand-ins, and puts this folder's helpers on the path."""

import importlib.util
import pathlib
import sys

import pytest

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from replay import fresh  # noqa: E402

VERSIONS = ("1.102.4", "1.80.11")


def _load(name, path):
    """A module by its file, so that its name can't meet another's on the path."""
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, path)
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


Standin = _load("standin_client", HERE.parent / "standin" / "client.py").Standin


@pytest.fixture(scope="session")
def standins():
    """A stand-in of each version, with a second process, kept for the session."""
    running = {}
    for version in VERSIONS:
        running[version] = Standin(litellm=version, second=True)
    yield running
    for standin in running.values():
        standin.stop()


@pytest.fixture(params=VERSIONS)
def standin(request, standins):
    """One of them, empty."""
    return fresh(standins[request.param])
