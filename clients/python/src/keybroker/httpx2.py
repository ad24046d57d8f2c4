"""`httpx2.Client(auth=BrokerAuth("service"))`: sets the key, reports a 401, and sends the request once more.

For clients of the package httpx2; `keybroker.httpx` is the same for the package httpx.
"""

from __future__ import annotations

import httpx2

from ._auth import Flow

__all__ = ["BrokerAuth"]


class BrokerAuth(Flow, httpx2.Auth):
    """The `auth` of a client, sync or async. The key goes to the origin of its base URL and to no other."""
