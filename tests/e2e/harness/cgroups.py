"""Processes in cgroups that are named as systemd names them; systemd need not run."""

import contextlib
import os
import signal
import uuid

import pytest

from harness.wait import wait_until


def _mount():
    """Where cgroup v2 is mounted, or None."""
    with open("/proc/self/mountinfo", encoding="utf-8") as file:
        for line in file:
            before, after = line.split(" - ")
            if after.split()[0] == "cgroup2" and before.split()[3] == "/":
                return before.split()[4]
    return None


class Cgroup:
    """A directory below a slice of this test's own: Cgroup("kb-web.service").add(pid)."""

    def __init__(self, *names):
        self.top = f"{_mount()}/kbtest{uuid.uuid4().hex[:8]}.slice"
        self.path = os.path.join(self.top, *names)
        os.makedirs(self.path)

    def add(self, pid):
        """Moves a process there."""
        with open(os.path.join(self.path, "cgroup.procs"), "w", encoding="ascii") as file:
            file.write(str(pid))

    def _pids(self):
        with open(os.path.join(self.path, "cgroup.procs"), encoding="ascii") as file:
            return [int(line) for line in file]

    def remove(self):
        """Ends what is still there, and removes it."""
        for pid in self._pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not self._pids(), what="an empty cgroup")
        path = self.path
        while len(path) >= len(self.top):
            os.rmdir(path)
            path = os.path.dirname(path)


@contextlib.contextmanager
def units():
    """-> a function that makes a Cgroup; all are removed at the end. A named skip where that is impossible."""
    made = []
    if _mount() is None or not os.access(_mount(), os.W_OK):
        pytest.skip("needs cgroup v2 and leave to make cgroups, to put processes into units")

    def make(*names):
        made.append(Cgroup(*names))
        return made[-1]
    try:
        yield make
    finally:
        for cgroup in made:
            cgroup.remove()
