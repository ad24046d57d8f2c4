"""A proxy in front of the stand-in that changes what it answers: an upstream that does not tell the truth."""

import collections
import http.client
import http.server
import json
import threading
import time


class Proxy:
    """`change(path, answer)` may alter the JSON of a 200 in place; skew: seconds that the Date header is ahead by.

        with Proxy(litellm) as proxy:
            proxy.change = lambda path, answer: answer.update(total_pages=9) if path == "/key/list" else None
            broker = make_broker(upstream=proxy)
    """

    def __init__(self, litellm):
        self.litellm, self.master_key = litellm, litellm.master_key
        self.change, self.skew = lambda path, answer: None, 0
        self.counts = collections.Counter()
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self):
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._server.server_close()


def _handler(proxy):
    class Handler(http.server.BaseHTTPRequestHandler):
        """One connection of the broker's."""
        protocol_version = "HTTP/1.1"

        def log_message(self, *_):  # pylint: disable=arguments-differ
            pass

        def date_time_string(self, timestamp=None):
            return super().date_time_string(time.time() + proxy.skew)

        def _pass_on(self):
            path = self.path.partition("?")[0]
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            proxy.counts[path] += 1
            connection = http.client.HTTPConnection("127.0.0.1", proxy.litellm.port, timeout=30)
            sent = {name: self.headers[name] for name in ("authorization", "content-type") if name in self.headers}
            connection.request(self.command, self.path, body or None, sent)
            answer = connection.getresponse()
            data = answer.read()
            connection.close()
            if answer.status == 200:
                changed = json.loads(data)
                proxy.change(path, changed)
                data = json.dumps(changed).encode()
            self.send_response(answer.status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = _pass_on
    return Handler
