"""A small HTTP/1.1 server: a thread a connection, keep-alive, one write a response.

http.server reads headers through the email package and is several times slower.
"""

import json
import select
import socket
import threading
from urllib.parse import parse_qsl, unquote

REASONS = {200: "OK", 307: "Temporary Redirect", 400: "Bad Request", 401: "Unauthorized", 403: "Forbidden",
           404: "Not Found", 405: "Method Not Allowed", 409: "Conflict", 422: "Unprocessable Entity",
           429: "Too Many Requests", 500: "Internal Server Error", 502: "Bad Gateway", 503: "Service Unavailable",
           504: "Gateway Timeout"}
MAX_HEAD, MAX_BODY = 65536, 64 << 20
PATIENCE = 60


class Request:
    """One request; header names are lower case, query has the last value of each parameter."""

    __slots__ = ("method", "target", "path", "query", "headers", "body", "connection", "data")

    def __init__(self, method, target, headers, body, connection):
        self.method, self.target, self.headers, self.body = method, target, headers, body
        path, _, query = target.partition("?")
        self.path = unquote(path)
        self.query = dict(parse_qsl(query, keep_blank_values=True))
        self.connection = connection
        self.data = None


class Response:
    """One response; a dict or list body is sent as JSON, str as text, a list of chunks as a stream."""

    __slots__ = ("status", "body", "headers", "chunks")

    def __init__(self, status, body=None, headers=None, chunks=None):
        self.status, self.body, self.headers, self.chunks = status, body, headers or {}, chunks

    def encode(self, date, close, pad=0):
        """The bytes to send."""
        head = [f"HTTP/1.1 {self.status} {REASONS.get(self.status, 'Unknown')}", f"date: {date}"]
        if self.chunks is not None:
            head += ["content-type: text/event-stream; charset=utf-8", "transfer-encoding: chunked"]
            payload = b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in self.chunks) + b"0\r\n\r\n"
        else:
            kind, payload = self._payload()
            payload += b" " * pad
            head.append(f"content-length: {len(payload)}")
            if kind and "content-type" not in self.headers:
                head.append(f"content-type: {kind}")
        head += [f"{name}: {value}" for name, value in self.headers.items()]
        if close:
            head.append("connection: close")
        return "\r\n".join(head).encode("latin-1", "replace") + b"\r\n\r\n" + payload

    def _payload(self):
        if self.body is None:
            return None, b""
        if isinstance(self.body, str):
            return "text/plain; charset=utf-8", self.body.encode()
        text = json.dumps(self.body, separators=(",", ":"), ensure_ascii=False)
        return "application/json", text.encode("utf-8", "replace")


class Closed(Exception):
    """The connection is over."""


class Connection:
    """One client's connection: reads requests, hands them to the application, writes the answers."""

    def __init__(self, sock, application, keep_alive):
        self.sock, self.application, self.keep_alive = sock, application, keep_alive
        self.buffer = b""
        self.close = False

    def serve(self):
        """Serves until either side closes, or nothing comes for the keep-alive time."""
        try:
            self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            while not self.close:
                request = self._read_request()
                self.application(request)
        except (Closed, OSError):
            pass
        finally:
            self.sock.close()

    def write(self, data):
        """Sends bytes; a client that has gone ends the connection."""
        self.sock.sendall(data)

    def client_left(self):
        """Whether the client has closed its side."""
        ready, _, _ = select.select([self.sock], [], [], 0)
        return bool(ready) and self.sock.recv(1, socket.MSG_PEEK) == b""

    def _more(self):
        data = self.sock.recv(65536)
        if not data:
            raise Closed
        self.buffer += data

    def _read_request(self):
        self.sock.settimeout(self.keep_alive)
        if not self.buffer:
            self._more()
        self.sock.settimeout(PATIENCE)
        while b"\r\n\r\n" not in self.buffer:
            if len(self.buffer) > MAX_HEAD:
                self._bad()
            self._more()
        head, _, self.buffer = self.buffer.partition(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        parts = lines[0].split(" ")
        if len(parts) != 3 or not parts[2].startswith("HTTP/1."):
            self._bad()
        headers = {}
        for line in lines[1:]:
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        wish = headers.get("connection", "").lower()
        self.close = "close" in wish or (parts[2] == "HTTP/1.0" and "keep-alive" not in wish)
        return Request(parts[0], parts[1], headers, self._read_body(headers), self)

    def _read_body(self, headers):
        if "100-continue" in headers.get("expect", "").lower():
            self.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        if "chunked" in headers.get("transfer-encoding", "").lower():
            return self._read_chunks()
        length = headers.get("content-length", "0")
        if not length.isdigit() or int(length) > MAX_BODY:
            self._bad()
        return self._take(int(length))

    def _read_chunks(self):
        body = b""
        while True:
            while b"\r\n" not in self.buffer:
                self._more()
            line, _, self.buffer = self.buffer.partition(b"\r\n")
            try:
                size = int(line.split(b";")[0], 16)
            except ValueError:
                self._bad()
            chunk = self._take(size + 2)[:size]
            if size == 0:
                return body
            body += chunk

    def _take(self, count):
        while len(self.buffer) < count:
            self._more()
        data, self.buffer = self.buffer[:count], self.buffer[count:]
        return data

    def _bad(self):
        self.write(b"HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain; charset=utf-8\r\nconnection: close\r\n"
                   b"content-length: 30\r\n\r\nInvalid HTTP request received.")
        raise Closed


class Server:
    """A listener on 127.0.0.1."""

    def __init__(self, port, application, keep_alive):
        self.sock = socket.create_server(("127.0.0.1", port), backlog=1024)
        self.port = self.sock.getsockname()[1]
        self._application, self._keep_alive = application, keep_alive

    def start(self):
        """Accepts in a thread of its own."""
        threading.Thread(target=self._accept, daemon=True).start()

    def stop(self):
        """Stops accepting."""
        self.sock.close()

    def _accept(self):
        while True:
            try:
                sock, _ = self.sock.accept()
            except OSError:
                return
            connection = Connection(sock, self._application, self._keep_alive)
            threading.Thread(target=connection.serve, daemon=True).start()
