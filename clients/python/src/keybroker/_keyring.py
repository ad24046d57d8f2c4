"""The credentials of one client: one lease for each profile, kept fresh.

Everything here is done under the channel's lock, by whoever calls or by the channel's thread.
"""

from __future__ import annotations

import logging
import time
import uuid
from concurrent.futures import Future
from dataclasses import replace
from typing import Any

from . import _find
from ._channel import Channel
from ._credential import Credential, Key, is_plain
from ._errors import Denied, Error, Garbage, LimitExceeded, UnknownLease, UnknownProfile, Unreachable

log = logging.getLogger("keybroker")

OPENAI = "https://api.openai.com/v1"
_NEVER = float("inf")
_UNHEARD = 60.0  # s between two looks at leases of which the broker tells nothing: too many connections watch already
_REST = 0.5  # s between two readings of one lease that nothing but the clock asked for
_AGAIN, _LONGEST_AGAIN = 0.5, 30.0  # s until the next try after one that failed in the background


class Cell:
    """The place of one profile's credential."""

    def __init__(self, profile: str) -> None:
        self.profile = profile
        self.clear()

    def clear(self) -> None:
        self.current: Credential | None = None
        # Until when (time.time()) this key is to be used without a further thought. What a cached call reads.
        self.fresh: tuple[float, str] = (0.0, "")
        self.waiters: list[Future[Credential]] = []
        self.asking = False  # an acquire is under way
        self.once_more = False  # … and its answer may be too old by then
        self.refresh_at = _NEVER  # time.time()
        self.not_before = 0.0  # time.monotonic() of the next reading in the background
        self.pause = _AGAIN
        self.acks: list[tuple[float, int]] = []  # time.monotonic(), generation
        self.reports: dict[str, list[Future[Credential]]] = {}  # by the key reported
        self.dead = ""  # the key that LiteLLM refuses and the broker has another for, until that is here

    def valid(self) -> bool:
        current = self.current
        return current is not None and current.api_key != self.dead and time.time() < _seconds(current.expires_at_ms)

    def set(self, credential: Credential | None) -> None:
        self.current = credential
        if credential is None:
            self.fresh, self.refresh_at, self.acks = (0.0, ""), _NEVER, []
            return
        self.refresh_at = _seconds(credential.refresh_at_ms)
        self.fresh = min(self.refresh_at, _seconds(credential.expires_at_ms)), credential.api_key

    def settle(self, outcome: Credential | Error) -> None:
        waiters, self.waiters = self.waiters, []
        settle(waiters, outcome)


def _seconds(moment_ms: int | None) -> float:
    return _NEVER if moment_ms is None else moment_ms / 1000


def settle(waiters: list[Future[Credential]], outcome: Credential | Error) -> None:
    for waiter in waiters:
        if not waiter.set_running_or_notify_cancel():
            continue
        if isinstance(outcome, Error):
            waiter.set_exception(outcome)
        else:
            waiter.set_result(outcome)


def _credential(result: dict[str, Any], profile: str, socket: str | None) -> Credential:
    """The credential that `acquire` answered; raises Garbage."""

    def field(name: str, kind: type, default: Any = ...) -> Any:
        value = result.get(name)
        value = default if value is None else value
        wrong = value is not default and (not isinstance(value, kind) or isinstance(value, bool))
        if value is ... or wrong or (isinstance(value, str) and not is_plain(value)):
            raise Garbage(f"{socket}: `{name}` is missing in the answer, or wrong", socket=socket)
        return value

    models = field("models", list, [])
    return Credential(
        profile=profile,
        lease=field("lease", str),
        mode=field("mode", str),
        api_key=field("api_key", Key),
        base_url=field("base_url", str),
        generation=field("generation", int, 0),
        expires_at_ms=field("expires_at_ms", int, None),
        refresh_at_ms=field("refresh_at_ms", int, None),
        models=tuple(model for model in models if isinstance(model, str)),
    )


class Keyring:
    def __init__(self, socket: str | None, timeout: float, ack_after: float) -> None:
        self.timeout, self.ack_after = timeout, ack_after
        self.cells: dict[str, Cell] = {}
        self.outside: Credential | None = None  # OPENAI_API_KEY in the broker's place, for good
        self._unheard_at = _NEVER  # time.monotonic() of the next look for rotations that nobody tells us of
        self._decided = False  # at the first use: for the broker, unless there is `outside`
        self.channel = Channel(socket, self)

    def after_fork(self) -> None:
        """In the child. What was decided stays so: base URLs were given to others by it."""
        self.channel.after_fork()
        for cell in self.cells.values():
            cell.clear()

    def cell(self, profile: str) -> Cell:
        with self.channel.lock:
            return self.cells.setdefault(profile, Cell(profile))

    def ask(self, profile: str) -> Credential | Future[Credential]:
        """The credential from memory, or what will have it."""
        with self.channel.lock:
            cell = self.cell(profile)
            if self.outside is not None:
                cell.set(self._outside(cell))
            if cell.valid():
                assert cell.current is not None
                self._refresh(cell)
                return cell.current
            self.channel.start()
            waiter: Future[Credential] = Future()
            if not cell.asking:
                self._acquire(cell)
            cell.waiters.append(waiter)
            return waiter

    def report(self, profile: str, key: str, status: int) -> Credential | Future[Credential]:
        """LiteLLM refused this key: the credential to use from now on. Its key is the same if there is no other."""
        with self.channel.lock:
            cell = self.cell(profile)
            if self.outside is not None or cell.current is None or cell.current.api_key != key or cell.dead == key:
                return self.ask(profile)
            waiter: Future[Credential] = Future()
            if key in cell.reports:
                cell.reports[key].append(waiter)
                return waiter
            lease = cell.current.lease
            self.channel.request(
                "report",
                {"lease": lease, "status": status},
                self.timeout,
                lambda result, error: self._reported(cell, key, result, error),
            )
            cell.reports[key] = [waiter]
            return waiter

    def _reported(self, cell: Cell, key: str, result: dict[str, Any] | None, error: Error | None) -> None:
        waiters = cell.reports.pop(key)
        state = result.get("state") if result else None
        if state in ("replaced", "dead") or isinstance(error, UnknownLease):
            cell.dead, cell.fresh = key, (0.0, "")
        elif error is not None:
            return settle(waiters, error)
        elif cell.current is not None:
            return settle(waiters, cell.current)
        cell.waiters += waiters
        self._acquire_newer(cell)

    # --- one lease ---

    def _acquire_newer(self, cell: Cell) -> None:
        if cell.asking:
            cell.once_more = True
        else:
            self._acquire(cell)

    def _refresh(self, cell: Cell) -> None:
        if time.time() >= cell.refresh_at and time.monotonic() >= cell.not_before and not cell.asking:
            self._acquire(cell)
            self.channel.wake()  # nobody waits for it, so the thread must see when it is late

    def _acquire(self, cell: Cell, anew: bool = False) -> None:
        """Reads the lease again, or takes one."""
        params: dict[str, Any] = {}
        if cell.current is not None and cell.valid():
            # the thread sees to it from now on, so calls need not
            cell.fresh = _seconds(cell.current.expires_at_ms), cell.current.api_key
        if cell.current is not None and not anew:
            params["lease"] = cell.current.lease
        else:
            params.update(profile=cell.profile, request_id=uuid.uuid4().hex)
        # the broker's own time-out is to come first, since it says why
        params["timeout_ms"] = max(1, min(int(self.timeout * 900), 600_000))
        again = "lease" in params
        self.channel.request(
            "acquire", params, self.timeout, lambda result, error: self._acquired(cell, again, result, error)
        )
        cell.asking, cell.once_more = True, False

    def _acquired(self, cell: Cell, again: bool, result: dict[str, Any] | None, error: Error | None) -> None:
        cell.asking = False
        self.channel.wake()  # there are other times to wait for
        if result is not None:
            try:
                self._took(cell, _credential(result, cell.profile, self.channel.path))
            except Garbage as garbage:
                error = garbage
        if error is not None:
            self._refused(cell, again, error)
        elif cell.once_more:
            self._acquire(cell)
        elif cell.current is not None:
            cell.dead = ""
            cell.settle(cell.current)

    def _took(self, cell: Cell, credential: Credential) -> None:
        old = cell.current
        now = time.monotonic()
        if old is None or old.lease != credential.lease:
            cell.acks = []
        elif credential.generation > old.generation:
            # so much time has a call that took the old key to get to LiteLLM
            cell.acks.append((now + self.ack_after, credential.generation))
        cell.set(credential)
        cell.not_before, cell.pause = now + _REST, _AGAIN

    def _refused(self, cell: Cell, again: bool, error: Error) -> None:
        if isinstance(error, UnknownLease) and again:
            # the key itself may be good still, so it is served until there is another
            if cell.waiters or cell.current is not None:
                self._acquire(cell, anew=True)
            return
        if self.outside is not None:  # which another profile's failure has led to
            return
        first, self._decided = not self._decided, True
        if first and isinstance(error, Unreachable) and not error.refused and self._go_outside(error):
            return
        if isinstance(error, (Denied, UnknownProfile)):
            cell.set(None)
        elif cell.current is not None:
            log.info("%s is not renewed yet: %s", cell.profile, error)
        after = (error.retry_after_ms or 0) / 1000
        cell.not_before = time.monotonic() + max(after, cell.pause)
        cell.pause = min(cell.pause * 2, _LONGEST_AGAIN)
        cell.refresh_at = min(cell.refresh_at, time.time())
        cell.dead = ""
        cell.settle(error)

    def _outside(self, cell: Cell) -> Credential:
        assert self.outside is not None
        return replace(self.outside, profile=cell.profile)

    def _go_outside(self, error: Error) -> bool:
        """No broker: the environment's key and base URL, if there is one and that is not forbidden."""
        key = (_find.environ("OPENAI_API_KEY") or "").strip()
        if not key or (_find.environ("KEYBROKER_REQUIRED") or "0") != "0":
            return False
        base_url = (_find.environ("OPENAI_BASE_URL") or "").strip() or OPENAI
        for name, text in (("OPENAI_API_KEY", key), ("OPENAI_BASE_URL", base_url)):
            if not is_plain(text):
                error.advice = f"{name} is set, but has characters that it cannot have. {error.advice}"
                return False
        self.outside = Credential(
            profile="",
            lease=None,
            mode="environment",
            api_key=Key(key),
            base_url=base_url,
        )
        log.warning("%s; OPENAI_API_KEY is used in its place, for %s", error.message, self.outside.base_url)
        for cell in self.cells.values():
            cell.set(self._outside(cell))
            cell.settle(self._outside(cell))
        return True

    # --- what the channel tells ---

    def connected(self) -> None:
        self._decided = True
        self._unheard_at = _NEVER
        self.channel.request("watch", {}, self.timeout, self._watched, once=True)
        for cell in self.cells.values():
            if cell.current is not None and not cell.asking:
                self._acquire(cell)

    def _watched(self, result: dict[str, Any] | None, error: Error | None) -> None:
        self._unheard_at = _NEVER
        if isinstance(error, LimitExceeded):
            log.info("rotations are not heard of at once: %s", error)
            self._unheard_at = time.monotonic() + _UNHEARD
            self.channel.wake()

    def notified(self, method: str, params: dict[str, Any]) -> None:
        if method == "leader_changed":
            self.channel.give_up()
            return
        for cell in self.cells.values():
            if cell.current is None or cell.current.lease != params.get("lease"):
                continue
            if method == "revoked":
                cell.set(None)
            elif method == "rotated" and cell.current.generation != params.get("generation"):
                self._acquire_newer(cell)

    def due(self) -> float | None:
        now = time.monotonic()
        if now >= self._unheard_at:
            self.connected()  # asks to be told once more, and looks for itself
        moments = [] if self._unheard_at == _NEVER else [self._unheard_at]
        for cell in self.cells.values():
            if cell.current is None or self.outside is not None:
                continue
            self._refresh(cell)
            if cell.refresh_at != _NEVER and not cell.asking:
                moments.append(max(now + cell.refresh_at - time.time(), cell.not_before))
            while cell.acks and cell.acks[0][0] <= now:
                generation = cell.acks.pop(0)[1]
                params = {"lease": cell.current.lease, "generation": generation}
                self.channel.request("ack", params, self.timeout, lambda result, error: None)
            moments += [cell.acks[0][0]] if cell.acks else []
        return min(moments, default=None)

    def holds(self) -> bool:
        return self.outside is None and any(cell.current is not None for cell in self.cells.values())

    def closing(self) -> None:
        for cell in self.cells.values():
            if cell.current is not None and cell.current.lease is not None:
                self.channel.request("release", {"lease": cell.current.lease}, 1.0, lambda result, error: None)
            cell.set(None)
