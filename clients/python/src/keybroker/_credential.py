"""A key and what is known about it."""

from __future__ import annotations

from dataclasses import dataclass


class Key(str):
    """A key: text for whoever uses it, and masked in what Python shows of it (`repr`, tracebacks with variables)."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"'{mask(self)}'"


def is_plain(text: str) -> bool:
    """Whether it may stand in a header or a URL: whoever sends what may not is told so, with all of it."""
    return text != "" and all("!" <= character <= "~" for character in text)


def mask(key: str) -> str:
    """`sk-…AbCd`: enough to tell two keys apart."""
    return f"{key[:3]}…{key[-4:]}" if len(key) >= 20 else "…"


@dataclass(frozen=True)
class Credential:
    """What the broker hands out for a profile.

    `lease` is None, and `mode` is `environment`, if it is `OPENAI_API_KEY`. Times are Unix milliseconds.
    """

    profile: str
    lease: str | None
    mode: str
    api_key: Key
    base_url: str
    generation: int = 0
    expires_at_ms: int | None = None
    refresh_at_ms: int | None = None
    models: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.profile}: {mask(self.api_key)} for {self.base_url}"
