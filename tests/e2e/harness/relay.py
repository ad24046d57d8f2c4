"""A way to an upstream that can be cut: bytes are passed on as they are."""

import contextlib
import socket
import threading
import urllib.parse


class Relay:
    """Passes connections on to `url` until cut() ends them; mend() opens the way again.

        with Relay(live.url) as relay:
            … point the broker at relay.url …
    """

    def __init__(self, url):
        parts = urllib.parse.urlsplit(url)
        self._target, self._open, self._sockets = (parts.hostname, parts.port or 80), True, []
        self._listening = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}"

    def __enter__(self):
        threading.Thread(target=self._serve, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.cut()
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()

    def cut(self):
        """Ends what goes through it, and hangs up on what comes."""
        self._open = False
        while self._sockets:
            with contextlib.suppress(OSError):
                self._sockets.pop().shutdown(socket.SHUT_RDWR)

    def mend(self):
        """Passes on again."""
        self._open = True

    def _serve(self):
        with contextlib.suppress(OSError):
            while True:
                here = self._listening.accept()[0]
                if not self._open:
                    here.close()
                    continue
                there = socket.create_connection(self._target)
                self._sockets += [here, there]
                for pair in ((here, there), (there, here)):
                    threading.Thread(target=_pass_on, args=pair, daemon=True).start()


def _pass_on(source, sink):
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_WR)
