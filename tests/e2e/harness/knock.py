"""Clients that ask all the time, and note whether a connection was refused."""

import threading

from .rpc import Closed, Connection, RpcError
from .wait import wait_until


class Knockers:
    """Four threads that connect, ask `whoami` and hang up, over and over; used as a context."""

    def __init__(self, path):
        self.path, self.served, self.refused, self._stop = path, 0, [], threading.Event()
        self._threads = [threading.Thread(target=self._knock) for _ in range(4)]

    def _knock(self):
        while not self._stop.is_set():
            try:
                with Connection(self.path) as connection:
                    connection.call("whoami")
                self.served += 1
            except (Closed, RpcError, ConnectionResetError, BrokenPipeError):
                pass  # was being served as it stopped: clients ask again
            except OSError as error:
                self.refused.append(error)

    def wait_served(self, what):
        """Waits until they were served several times more."""
        before = self.served
        wait_until(lambda: self.served > before + 20, what=what)

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        for thread in self._threads:
            thread.join()
