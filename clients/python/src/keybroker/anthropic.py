"""The key for Anthropic's SDK, for a gateway that speaks its API, too.

    client = Anthropic(credentials=credentials("service"), base_url=base_url("service"))

`AsyncAnthropic` takes `async_credentials`.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from anthropic import AccessToken

from . import _client, aio
from ._credential import Credential
from ._errors import Error, InvalidRequest

__all__ = ["AsyncCredentials", "Credentials", "async_credentials", "base_url", "credentials"]


def base_url(profile: str = "service", *, client: _client.Client | None = None) -> str:
    """The gateway's URL as Anthropic's SDK wants it: without the `/v1` that it adds itself."""
    url = (client or _client.default()).base_url(profile).rstrip("/")
    return url[: -len("/v1")] if url.endswith("/v1") else url


class _Provider:
    """A provider is called before each request, since it keeps the key itself; with `force_refresh` after a 401."""

    def __init__(self, profile: str, client: _client.Client | None, url: str | None = None) -> None:
        self._profile, self._client, self._url = profile, client or _client.default(), url
        self._last = ""

    def _token(self, credential: Credential) -> AccessToken:
        if self._url and urlsplit(self._url)[:2] != urlsplit(credential.base_url)[:2]:
            raise InvalidRequest(
                f"the key of profile {self._profile} is for {credential.base_url}, and this client calls {self._url}",
                advice="Give it base_url=keybroker.anthropic.base_url(…).",
            )
        self._last = credential.api_key
        return AccessToken(credential.api_key, expires_at=0)

    def __repr__(self) -> str:
        return f"<keybroker.anthropic.{type(self).__name__} {self._profile!r}>"


class Credentials(_Provider):
    def __call__(self, *, force_refresh: bool = False) -> AccessToken:
        if force_refresh and self._last:
            try:
                return self._token(self._client.report(self._profile, self._last))
            except Error:  # the key as it is, then: its refusal says more to the caller
                pass
        return self._token(self._client.credential(self._profile))

    def for_base_url(self, base_url: str) -> Credentials:
        """The SDK says by this which server it calls."""
        return Credentials(self._profile, self._client, base_url)


class AsyncCredentials(_Provider):
    async def __call__(self, *, force_refresh: bool = False) -> AccessToken:
        client = aio.AsyncClient(client=self._client)
        if force_refresh and self._last:
            try:
                return self._token(await client.report(self._profile, self._last))
            except Error:
                pass
        return self._token(await client.credential(self._profile))

    def for_base_url(self, base_url: str) -> AsyncCredentials:
        """The SDK says by this which server it calls."""
        return AsyncCredentials(self._profile, self._client, base_url)


def credentials(profile: str = "service", *, client: _client.Client | None = None) -> Credentials:
    """What `Anthropic(credentials=…)` takes."""
    return Credentials(profile, client)


def async_credentials(profile: str = "service", *, client: _client.Client | None = None) -> AsyncCredentials:
    """What `AsyncAnthropic(credentials=…)` takes."""
    return AsyncCredentials(profile, client)
