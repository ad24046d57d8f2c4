"""What the two httpx modules share: set the key, report a 401, send the request once more with another key."""

from __future__ import annotations

import logging
from typing import Any, AsyncGenerator, Generator

from . import _client
from ._credential import Credential
from ._errors import Error
from .aio import AsyncClient

log = logging.getLogger("keybroker")


class Flow:
    """Requests and responses are those of httpx or httpx2, which are alike in all that is used here."""

    def __init__(self, profile: str = "service", *, client: _client.Client | AsyncClient | None = None) -> None:
        """Without a client, that of `keybroker.api_key()` is used."""
        if isinstance(client, AsyncClient):
            client = client.client
        self._profile, self._client = profile, client or _client.default()
        self._async_client = AsyncClient(client=self._client)

    def sync_auth_flow(self, request: Any) -> Generator[Any, Any, None]:
        credential = self._client.credential(self._profile)
        if not _put(request, credential):
            yield request
            return
        response = yield request
        if not _is_refused(response, request):
            return
        try:
            newer = self._client.report(self._profile, credential.api_key, response.status_code)
        except Error as error:
            log.info("a refused key could not be reported: %s", error)
            return
        if newer.api_key != credential.api_key and _can_be_sent_again(request) and _put(request, newer):
            yield request

    async def async_auth_flow(self, request: Any) -> AsyncGenerator[Any, Any]:
        credential = await self._async_client.credential(self._profile)
        if not _put(request, credential):
            yield request
            return
        response = yield request
        if not _is_refused(response, request):
            return
        try:
            newer = await self._async_client.report(self._profile, credential.api_key, response.status_code)
        except Error as error:
            log.info("a refused key could not be reported: %s", error)
            return
        if newer.api_key != credential.api_key and _can_be_sent_again(request) and _put(request, newer):
            yield request

    def __repr__(self) -> str:
        return f"<{type(self).__module__}.{type(self).__name__} {self._profile!r}>"


def _same_origin(one: Any, other: Any) -> bool:
    return (one.scheme, one.host, one.port) == (other.scheme, other.host, other.port)  # no port: the scheme's own


def _put(request: Any, credential: Credential) -> bool:
    """Gives the key to requests of its own origin and to no other."""
    ours = _same_origin(request.url, type(request.url)(credential.base_url))
    if ours:
        request.headers["Authorization"] = f"Bearer {credential.api_key}"
    elif request.headers.get("Authorization") == f"Bearer {credential.api_key}":  # set by an SDK for each request it makes
        del request.headers["Authorization"]
    return ours


def _is_refused(response: Any, request: Any) -> bool:
    """Whether our key was: not that of another server, to which we were redirected."""
    return response.status_code == 401 and _same_origin(response.request.url, request.url)


def _can_be_sent_again(request: Any) -> bool:
    try:
        request.content
    except RuntimeError:  # RequestNotRead: a stream
        return False
    return True
