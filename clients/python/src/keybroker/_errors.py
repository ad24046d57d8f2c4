"""The errors: one class for each code, with what can be done about it."""

from __future__ import annotations


class Error(Exception):
    """What the broker refused, or why it could not be asked. `str()` says all of it."""

    code = "internal"
    advice = "The broker's log says more."

    def __init__(
        self, message: str, *, socket: str | None = None, retry_after_ms: int | None = None, advice: str | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.socket = socket
        self.retry_after_ms = retry_after_ms
        if advice is not None:
            self.advice = advice

    def __str__(self) -> str:
        where = f" ({self.socket})" if self.socket and self.socket not in self.message else ""
        return f"{self.code}: {self.message}{where}. {self.advice}".rstrip(" ")

    def again(self) -> Error:
        """The same error, to be raised in another place."""
        return type(self)(
            self.message, socket=self.socket, retry_after_ms=self.retry_after_ms, advice=self.advice
        )


class InvalidRequest(Error):
    code = "invalid_request"
    advice = "Correct what was asked for; repeating it is useless."


class Denied(Error):
    code = "denied"
    advice = "`keybroker explain` shows what the broker sees and why no rule fits."


class UnknownProfile(Error):
    code = "unknown_profile"
    advice = "`keybroker list` shows the profiles that you may have."


class UnknownLease(Error):
    code = "unknown_lease"
    advice = "It has ended or never was: ask for a new one."


class LimitExceeded(Error):
    code = "limit_exceeded"
    advice = "Release what is not needed, or try again later."


class UpstreamUnavailable(Error):
    code = "upstream_unavailable"
    advice = "`keybroker status` shows how LiteLLM is."


class UpstreamRefused(Error):
    code = "upstream_refused"
    advice = "If it is about a team, models, budget or duration, change the profile."


class AuditUnavailable(Error):
    code = "audit_unavailable"
    advice = "The broker's log may say more."


class NotLeader(Error):
    code = "not_leader"
    advice = "The broker is stopping or restarting."


class Internal(Error):
    code = "internal"


class Unreachable(Error):
    """No socket accepts. `refused`: one of them is closed to us, so a broker may well be there."""

    code = "unreachable"
    advice = "Start one with `keybrokerd`, or name its socket by `socket=` or KEYBROKER_SOCKET."
    refused = False


class Untrusted(Error):
    code = "untrusted"
    advice = "If that server is right, set KEYBROKER_SERVER_UID to its uid."


class Timeout(Error, TimeoutError):
    code = "timeout"
    advice = "See whether the broker is running and not stopped."


class Lost(Error):
    code = "lost"
    advice = "If it happens again: the broker's log may say why, or this uid has too many connections open."


class Garbage(Error):
    code = "garbage"
    advice = "See what serves that socket."


_OF_THE_BROKER = {
    cls.code: cls
    for cls in (
        InvalidRequest,
        Denied,
        UnknownProfile,
        UnknownLease,
        LimitExceeded,
        UpstreamUnavailable,
        UpstreamRefused,
        AuditUnavailable,
        NotLeader,
    )
}


def from_broker(error: dict[str, object], socket: str | None) -> Error:
    """The error of a reply; a code that is not known is read as `internal`."""
    code, message, after = error.get("code"), error.get("message"), error.get("retry_after_ms")
    cls = _OF_THE_BROKER.get(code, Internal) if isinstance(code, str) else Internal
    return cls(
        message if isinstance(message, str) and message else str(code or "no reason given"),
        socket=socket,
        retry_after_ms=after if isinstance(after, int) and after >= 0 else None,
    )
