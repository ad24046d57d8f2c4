"""LLM API keys from a Keybroker daemon: short-lived, renewed in the background, never in your configuration.

    client = OpenAI(api_key=keybroker.api_key("service"), base_url=keybroker.base_url("service"))
"""

from ._client import ApiKey, Client, api_key, base_url, credential, default
from ._credential import Credential, Key
from ._errors import (
    AuditUnavailable,
    Denied,
    Error,
    Garbage,
    Internal,
    InvalidRequest,
    LimitExceeded,
    Lost,
    NotLeader,
    Timeout,
    UnknownLease,
    UnknownProfile,
    Unreachable,
    Untrusted,
    UpstreamRefused,
    UpstreamUnavailable,
)
from ._version import VERSION

__version__ = VERSION

__all__ = [
    "ApiKey",
    "AuditUnavailable",
    "Client",
    "Credential",
    "Denied",
    "Error",
    "Garbage",
    "Internal",
    "InvalidRequest",
    "Key",
    "LimitExceeded",
    "Lost",
    "NotLeader",
    "Timeout",
    "UnknownLease",
    "UnknownProfile",
    "Unreachable",
    "Untrusted",
    "UpstreamRefused",
    "UpstreamUnavailable",
    "api_key",
    "base_url",
    "credential",
    "default",
]
