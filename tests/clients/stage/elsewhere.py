"""Another origin: an HTTP server that answers 200 and remembers what it was sent."""

import http.server
import threading


class Elsewhere:
    """Listens on a port of its own."""

    def __init__(self):
        self.heads = heads = []

        class Handler(http.server.BaseHTTPRequestHandler):
            """Remembers, and answers."""

            def answer(self):
                """Any method."""
                heads.append({name.lower(): value for name, value in self.headers.items()})
                self.rfile.read(int(self.headers.get("content-length") or 0))
                self.send_response(200)
                self.send_header("content-length", "2")
                self.end_headers()
                self.wfile.write(b"{}")

            do_GET = do_POST = answer  # noqa: N815

            def log_message(self, *_):
                """Not on stderr."""

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self):
        """Ends it."""
        self._server.shutdown()
        self._server.server_close()
