from __future__ import annotations

import pathlib
import sys
from typing import Callable, Iterator

import hypothesis
import pytest

import keybroker

sys.path.insert(0, str(pathlib.Path(__file__).parent))

from fake import Broker  # noqa: E402

# no files beside the tests, and no opinion on how busy the machine is
hypothesis.settings.register_profile("here", database=None, deadline=None)
hypothesis.settings.load_profile("here")


@pytest.fixture(autouse=True)
def surroundings(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> None:
    """No test finds a broker of this machine, or a key in its environment."""
    for name in ("KEYBROKER_SOCKET", "KEYBROKER_REQUIRED", "KEYBROKER_SERVER_UID", "OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "nothing"))
    monkeypatch.setattr("keybroker._client._default", None)


@pytest.fixture
def broker(tmp_path: pathlib.Path) -> Iterator[Broker]:
    folder = tmp_path / "keybroker"
    folder.mkdir()
    made = Broker(folder)
    yield made
    made.hang_up()


@pytest.fixture
def open_client(broker: Broker) -> Iterator[Callable[..., keybroker.Client]]:
    made: list[keybroker.Client] = []

    def client(**options: float) -> keybroker.Client:
        made.append(keybroker.Client(broker.path, **{"timeout": 5.0, **options}))
        return made[-1]

    yield client
    broker.hang_up()
    for one in made:
        one.close()


@pytest.fixture
def client(open_client: Callable[..., keybroker.Client]) -> keybroker.Client:
    return open_client()
