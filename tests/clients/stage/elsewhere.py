"""Another origin: an HTTP server that answers 200 and remembers what it was sent. Below REFUSED it is LiteLLM that takes no key."""

import http.server
import threading


REFUSED = "/refused"


class _Server(http.server.ThreadingHTTPServer):
    request_queue_size = 128  # a connection more than these waits a second


class Elsewhere:
    """Listens on a port of its own."""

    def __init__(self):
        self.heads = heads = []

        class Handler(http.server.BaseHTTPRequestHandler):
            """Remembers, and answers."""

            def answer(self):
                """Any method."""
                refused = self.path.startswith(REFUSED)
                if not refused:
                    heads.append({name.lower(): value for name, value in self.headers.items()})
                self.rfile.read(int(self.headers.get("content-length") or 0))
                self.send_response(401 if refused else 200)
                self.send_header("content-length", "2")
                self.end_headers()
                self.wfile.write(b"{}")

            do_GET = do_POST = answer  # noqa: N815

            def log_message(self, *_):
                """Not on stderr."""

        self._server = _Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self):
        """Ends it."""
        self._server.shutdown()
        self._server.server_close()
