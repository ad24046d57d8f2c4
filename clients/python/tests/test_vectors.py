"""Every vector of the protocol that says how bytes are read, or made."""

from __future__ import annotations

import json
import os
import pathlib
from typing import Any

import pytest

from keybroker import _wire

FOLDER = pathlib.Path(
    os.environ.get("KEYBROKER_VECTORS") or pathlib.Path(__file__).resolve().parents[3] / "proto" / "vectors"
)
VECTORS = [vector for path in sorted(FOLDER.glob("*.json")) for vector in json.loads(path.read_text())["vectors"]]
LIMITS = {"request": _wire.REQUEST, "reply": _wire.REPLY}


def meaning(message: list[Any]) -> dict[str, Any]:
    if message[0] == 0:
        return {"type": "request", "id": message[1], "method": message[2], "params": (message[3] or [None])[0] or {}}
    if message[0] == 1:
        return {"type": "reply", "id": message[1], "error": message[2], "result": message[3]}
    return {"type": "notification", "method": message[1], "params": (message[2] or [None])[0] or {}}


def test_there_are_vectors() -> None:
    assert len(VECTORS) > 80


@pytest.mark.parametrize("vector", VECTORS, ids=[vector["name"] for vector in VECTORS])
def test_walk(vector: dict[str, Any]) -> None:
    data = bytes.fromhex(vector["hex"])
    verdict, length = _wire.walk(data, LIMITS[vector["limits"]])
    assert verdict == vector["walk"]
    assert length == vector.get("length", 0)


@pytest.mark.parametrize("vector", VECTORS, ids=[vector["name"] for vector in VECTORS])
def test_walk_byte_by_byte(vector: dict[str, Any]) -> None:
    """The same verdict, and as soon as the bytes that it takes are there."""
    data, so_far = bytes.fromhex(vector["hex"]), bytearray()
    walker = _wire.walker(so_far, LIMITS[vector["limits"]])
    verdict, length = _wire.INCOMPLETE, 0
    for n in range(len(data) + 1):
        try:
            next(walker)
        except StopIteration as end:
            verdict, length = end.value
            assert length in (0, n)
            break
        so_far += data[n : n + 1]
    assert (verdict, length) == (vector["walk"], vector.get("length", 0))


@pytest.mark.parametrize("vector", [v for v in VECTORS if "message" in v], ids=lambda vector: vector["name"])
def test_meaning(vector: dict[str, Any]) -> None:
    message = _wire.decode(bytes.fromhex(vector["hex"])[: vector["length"]])
    assert meaning(message) == vector["message"]
    if "id" in vector:
        assert message[1] == vector["id"]


@pytest.mark.parametrize(
    "vector",
    [v for v in VECTORS if v.get("canonical") and v["message"]["type"] == "request"],
    ids=lambda vector: vector["name"],
)
def test_packing(vector: dict[str, Any]) -> None:
    message = vector["message"]
    data = _wire.encode_request(message["id"], message["method"], message["params"])
    assert data == bytes.fromhex(vector["hex"])[: vector["length"]]
