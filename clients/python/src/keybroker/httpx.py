"""`httpx.Client(auth=BrokerAuth("service"))`: sets the key, reports a 401, and sends the request once more.

For clients of the package httpx; `keybroker.httpx2` is the same for the package httpx2.
"""

from __future__ import annotations

import httpx

from ._auth import Flow

__all__ = ["BrokerAuth"]


class BrokerAuth(Flow, httpx.Auth):
    """The `auth` of a client, sync or async. The key goes to the origin of its base URL and to no other."""
